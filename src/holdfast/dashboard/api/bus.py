"""The bus: who is on it, what is subscribed to and offered, who calls whom, and how often.

Who is there is asked of each router by its own meta API, over its internal socket; how much goes over it, by its worker's control socket: counters that
only grow, of which two looks make rates (between two visits of this page). What is not known is left out, not guessed. At most :data:`MOST` of each kind
are described.
"""

import asyncio

from holdfast.bus.connect import connect
from holdfast.bus.errors import BusError
from holdfast.dashboard import flows, planned
from holdfast.linux import talk
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.bus.connect import Connection
    from holdfast.dashboard.asking import Ask
    from holdfast.dashboard.site import Site

MOST = 200
_OPEN_S, _CALL_S, _TELL_S = 2.0, 3.0, 1.0
#: Questions that are open at a time.
_AT_ONCE = 20


async def bus(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return all routers with their realms."""
    del ask
    entries = await site.run(lambda: [one for one in planned.entries(site.where, '"kind":"router"') if one.get("router")])  # fmt: skip
    found = await asyncio.gather(*(_router(site, entry) for entry in entries))
    return {"routers": list(found)}


async def _router(site: "Site", entry: "dict[str, Any]") -> "dict[str, Any]":
    name = str(entry["name"])
    path = f"{site.where.run_dir}/{layout.BUS}/{name}.sock"
    known = site.view.state.get("workers") or {}
    workers = {one["pid"]: worker for worker, one in known.items() if one["pid"]}
    control = f"{site.where.run_dir}/{layout.CONTROL}/{name}.sock"
    told = await site.run(talk.ask, control, {"do": "traffic"}, _TELL_S)
    known_flows = site.flows.look(name, (told or {}).get("traffic"))
    realms = []
    for realm in entry["router"].get("realms") or ():
        flow = known_flows.get(realm["name"], flows.NOTHING_KNOWN)
        shown: dict[str, Any] = {
            "name": realm["name"],
            "meta_api": bool(realm.get("meta_api", True)),
        }
        try:
            async with asyncio.timeout(_OPEN_S + _CALL_S):
                async with connect(
                    f"unix:{path}", realm["name"], role="trusted", open_s=_OPEN_S, ping_s=0
                ) as link:
                    shown |= await _realm(link, flow, workers)
        except (BusError, OSError, TimeoutError) as error:
            shown["trouble"] = (
                f"it cannot be asked: {str(error).partition(chr(10))[0] or type(error).__name__}"
            )
        if flow.pairs is not None:
            shown["calls"] = flows.calls(flow, workers)[:MOST]
        realms.append(shown)
    return {
        "worker": name, "realms": realms, "transports": _transports(entry), "rates": flows.summed(known_flows.values()),
    }  # fmt: skip


def _transports(entry: "dict[str, Any]") -> "list[str]":
    found = []
    for one in entry.get("listen") or ():
        host = f"[{one['host']}]" if ":" in one["host"] else one["host"]
        found.append(f"{host}:{one['port']}" if one["kind"] == "tcp" else f"unix:{one['path']}")
    return found


async def _realm(
    link: "Connection", flow: "flows.Flow", workers: "dict[int, str]"
) -> "dict[str, Any]":
    sessions = [one for one in await _call(link, "wamp.session.list") or () if one != link.id]
    subscriptions = _ids(await _call(link, "wamp.subscription.list"))
    registrations = _ids(await _call(link, "wamp.registration.list"))
    told = [one for one in await _each(link, "wamp.session.get", sessions) if one is not None]
    return {
        "session_count": len(sessions), "subscription_count": len(subscriptions), "registration_count": len(registrations),
        "sessions": [{**_session(one, workers), **flow.session(one.get("session"))} for one in told],
        "subscriptions": [
            {"uri": one.get("uri"), "match": one.get("match"), "subscribers": len(who), "sessions": who, "created": one.get("created"),
             "rate": flow.subscription(one.get("uri"), one.get("match"))}
            for one, who in await _with_whom(link, "wamp.subscription", "subscribers", subscriptions)
        ],
        "registrations": [
            {"uri": one.get("uri"), "match": one.get("match"), "invoke": one.get("invoke"), "callees": len(who), "sessions": who,
             "rate": flow.registration(one.get("uri"), one.get("match"))}
            for one, who in await _with_whom(link, "wamp.registration", "callees", registrations)
        ],
    }  # fmt: skip


def _session(told: "dict[str, Any]", workers: "dict[int, str]") -> "dict[str, Any]":
    transport = told.get("transport")
    known = transport if isinstance(transport, dict) else {}
    peer = str(known.get("peer") or "")
    found = flows.PEER.match(peer)
    return {
        "session": told.get("session"), "authid": told.get("authid"), "authrole": told.get("authrole"), "authmethod": told.get("authmethod"),
        "transport": known.get("type"), "peer": peer or None, "worker": workers.get(int(found[1])) if found else None,
    }  # fmt: skip


async def _with_whom(
    link: "Connection", api: str, who: str, ids: "list[int]"
) -> "list[tuple[dict[str, Any], list[int]]]":
    """Return what is known of each, and the sessions of it; those that are gone meanwhile are left out."""
    told = await _each(link, f"{api}.get", ids)
    sessions = await _each(link, f"{api}.list_{who}", ids)
    pairs = zip(told, sessions, strict=True)
    return [(one, whose) for one, whose in pairs if one is not None and whose is not None]


def _ids(told: "Any") -> "list[int]":
    lists = told.values() if isinstance(told, dict) else [told or []]
    return [one for found in lists for one in found]


async def _each(link: "Connection", procedure: str, ids: "list[Any]") -> "list[Any]":
    """Ask for each of them; None for one that is gone meanwhile."""
    found: list[Any] = []
    for at in range(0, min(len(ids), MOST), _AT_ONCE):
        some = ids[at : at + _AT_ONCE]
        found += await asyncio.gather(*(_call(link, procedure, one) for one in some))
    return found


async def _call(link: "Connection", procedure: str, *args: "Any") -> "Any":
    try:
        return await link.call(procedure, *args, timeout_s=_CALL_S)
    except BusError:
        return None  # gone meanwhile, or the realm has no meta API
