"""Which class serves which kind of path? Imported only where a configuration asks for it: most ports have one or two."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.router.web.request import Service
    from holdfast.router.web.site import Site


def make(kind: str, options: dict[str, Any], site: "Site") -> "Service":
    """The service of a kind.

    Raises:
        SiteError: It cannot be made; the text says why.
    """
    if kind in ("static", "upload"):
        if kind == "static":
            from holdfast.router.web.static import Static

            return Static(options, site)
        from holdfast.router.web.upload import Upload

        return Upload(options, site)
    if kind in ("publisher", "caller", "webhook"):
        from holdfast.router.web import bridges

        return bridges.make(kind, options, site)
    if kind == "wsgi":
        from holdfast.router.web.wsgi import Wsgi, load

        return Wsgi(load(options), options, site)
    if kind == "cgi":
        from holdfast.router.web.cgi import Cgi

        return Cgi(options, site)
    if kind == "resource":
        from holdfast.router.web.resource import make_resource

        return make_resource(options, site)
    from holdfast.router.web import pages

    if kind == "redirect":
        return pages.Redirect(options)
    if kind == "json":
        return pages.Value(options)
    if kind == "nodeinfo":
        return pages.NodeInfo(site)
    if kind == "health":
        return pages.Health(site)
    return pages.Nothing()
