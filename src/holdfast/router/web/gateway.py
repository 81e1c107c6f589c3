"""What do WSGI applications and CGI scripts learn of a request, and what of their answer is not for the client?

The variables that RFC 3875 and PEP 3333 have in common. A header named `Proxy` is dropped (it would become HTTP_PROXY,
which libraries obey), and so is one with an underscore (it would pass for one with a dash).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.router.web.request import Request

#: Headers about the connection, which is ours (RFC 9110 7.6.1).
HOP_BY_HOP = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
))  # fmt: skip


def variables(request: "Request", length: int) -> dict[str, str]:
    """The meta-variables. Texts are the octets that came, read as Latin-1 (PEP 3333)."""
    head = request.head
    host = request.host
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name, port = host, "443" if request.scheme == "https" else "80"
    found = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "holdfast",
        "SERVER_PROTOCOL": f"HTTP/{head.version}",
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": _octets(request.mount),
        "PATH_INFO": _octets(request.rest),
        "QUERY_STRING": head.query,
        "REMOTE_ADDR": request.peer[0],
        "REMOTE_PORT": str(request.peer[1]),
        "CONTENT_LENGTH": str(length) if length or head.method in ("POST", "PUT", "PATCH") else "",
        "CONTENT_TYPE": (head.get(b"content-type") or b"").decode("latin-1"),
    }
    for key, value in head.headers:
        if (
            key in (b"content-type", b"content-length", b"proxy", b"transfer-encoding")
            or b"_" in key
        ):
            continue
        variable = "HTTP_" + key.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        if variable in found:
            text = found[variable] + ("; " if key == b"cookie" else ", ") + text
        found[variable] = text
    return found


def _octets(text: str) -> str:
    return text.encode("utf-8").decode("latin-1")
