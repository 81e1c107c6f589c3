"""One look of each kind, at real servers on loopback: what is well, and in which words it is not."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import holdfast
from holdfast.cli.probes import dns
from holdfast.cli.probes.cookies import Jar
from node import SLOWNESS
from probe.other_side import NameServer, Silent, Site, answered, seen
from router.peers import tls_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.cli.probes.looks import Result


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


def look(tmp: Path, kind: str, lines: str) -> Result:
    return asyncio.run(seen(tmp, kind, lines))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('url = "{url}/ok"\ncontains = "grüezi"', "200, 20 bytes"),
        ('url = "{url}/old"', "200"),
        ('url = "{url}/old"\nredirects = 0\nstatus = 302\nlocation = "{url}/ok"', "302"),
        (
            'url = "{url}/json"\njson = {{ status = "ok", "workers.0.ready" = true, "workers.0.n" = 3 }}',
            "200",
        ),
        ('url = "{url}/ok"\nmatches = "All .* well"\nlacks = "Traceback"', "200"),
        ('url = "{url}/ok?a=b%20c"', "200"),
    ],
)
def test_a_page_that_is_as_it_should_be(site: Site, tmp_path: Path, lines: str, says: str) -> None:
    found = look(tmp_path, "http", lines.format(url=site.url))

    assert found.is_good, found.says
    assert found.says.startswith(says)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('url = "{url}/desk"', "it answers 401, not 2xx"),
        ('url = "{url}/old"\nredirects = 0', "it answers 302 (to {url}/ok), not 2xx"),
        ('url = "{url}/round"', "it answers 302 (to {url}/round), not 2xx"),
        ('url = "{url}/old"\nlocation = "https://"', "it leads to {url}/ok, not to https://"),
        ('url = "{url}/ok"\ncontains = "broken"', 'the body lacks "broken": "All is well, grüezi"'),
        ('url = "{url}/ok"\nlacks = "well"', 'the body has "well" in it'),
        ('url = "{url}/ok"\nmatches = "^x"', 'nothing in the body matches "^x"'),
        ('url = "{url}/ok"\njson = {{ a = 1 }}', 'the body is no JSON: "All is well'),
        (
            'url = "{url}/json"\njson = {{ "workers.1.ready" = true }}',
            "the answer has nothing at workers.1.ready",
        ),
        (
            'url = "{url}/json"\njson = {{ "workers.0.ready" = 1 }}',
            'workers.0.ready is "true", not 1',
        ),
        ('url = "{url}/slow"\nslow = "100ms"', "0.1 s are allowed"),
        (
            'url = "{url}/slow"\ntimeout = "100ms"',
            "not done within 0.1 s: ",
        ),
        ('url = "http://127.0.0.1:1/"', "127.0.0.1:1: nobody listens there"),
        ('url = "http://no.such.name.invalid/"', "no.such.name.invalid"),
    ],
)
def test_a_page_that_is_not(site: Site, tmp_path: Path, lines: str, says: str) -> None:
    """The sentence is all that a person has at 3 am."""
    found = look(tmp_path, "http", lines.format(url=site.url))

    assert not found.is_good
    assert says.format(url=site.url) in found.says


def test_what_stands_behind_a_question_mark_is_not_told(site: Site, tmp_path: Path) -> None:
    """Redirects carry tokens there, and messages go far."""
    found = look(tmp_path, "http", f'url = "{site.url}/ok?token=s3cret"\nlocation = "https://"')

    assert found.says == f"it leads to {site.url}/ok?…, not to https://"


@pytest.mark.parametrize(
    ("said", "timeout", "says"),
    [
        (b"SSH-2.0-x\r\n\r\n", "1900ms", "what it answers is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "300ms", "not done within"),
        (b"", "300ms", "not done within"),
    ],
)
def test_what_is_no_page_at_all(tmp_path: Path, said: bytes, timeout: str, says: str) -> None:
    with Silent(said) as other:
        lines = f'url = "http://127.0.0.1:{other.port}/"\ntimeout = "{timeout}"'
        found = look(tmp_path, "http", lines)

    assert not found.is_good
    assert says in found.says


SIGN_IN = """
[[probe.step]]
url = "{url}/sign-in"
take = {{ csrf = {{ match = 'value="([^"]+)"' }}, visit = {{ cookie = "visit" }} }}
[[probe.step]]
name = "enter"
url = "{url}/sign-in"
method = "POST"
headers = {{ Content-Type = "application/x-www-form-urlencoded" }}
body = "user=probe&csrf={{csrf}}&other={{braces}}"
contains = "{wanted}"
[[probe.step]]
url = "{url}/desk?visit={{visit}}"
"""


def test_steps_take_values_and_cookies_along(site: Site, tmp_path: Path) -> None:
    """The page answers 200 and nobody can sign in: a single request would never find that out."""
    site.asked.clear()

    found = look(tmp_path, "steps", SIGN_IN.format(url=site.url, wanted="welcome"))

    assert found.is_good, found.says
    assert [(method, path) for method, path, _, _ in site.asked] == [
        ("GET", "/sign-in"), ("POST", "/sign-in"), ("GET", "/desk"), ("GET", "/desk?visit=7"),
    ]  # fmt: skip
    assert site.asked[1][3] == b"user=probe&csrf=abc123&other={braces}", (
        "braces that nobody took stay"
    )


def test_the_step_that_fails_is_named(site: Site, tmp_path: Path) -> None:
    found = look(tmp_path, "steps", SIGN_IN.format(url=site.url, wanted="hello"))

    assert found.says == 'enter: the body lacks "hello": "welcome, probe"'


def test_cookies_go_only_where_they_belong() -> None:
    """A probe that hands the session of one site to another is a leak that we built."""
    jar = Jar()
    jar.take("https://a.example/x/y", "own=1")
    jar.take("https://a.example/", "wide=2; Domain=example; Path=/; Secure")
    jar.take("https://a.example/", "foreign=3; Domain=b.test")
    jar.take("https://a.example/", "gone=4; Path=/")
    jar.take("https://a.example/", "gone=; Path=/; Max-Age=0")

    assert jar.header("https://a.example/x/z") == "own=1; wide=2"
    assert jar.header("https://b.example/") == "wide=2"
    assert jar.header("http://b.example/") == ""
    assert jar.header("https://a.example.evil.test/x") == ""
    assert jar.header("https://a.example/xylophone") == "wide=2"


def test_what_signs_in_does_not_go_to_another_origin(tmp_path: Path) -> None:
    with Site() as here, Site() as there:
        here.answer = lambda *_: (302, {"Location": f"{there.url}/ok"}, b"")  # type: ignore[method-assign]
        found = look(
            tmp_path,
            "http",
            f'url = "{here.url}/"\nheaders = {{ Authorization = "Bearer x", X-Team = "web" }}',
        )

    assert found.is_good, found.says
    (_, _, heads, _) = there.asked[0]
    assert ("authorization" in heads, heads["x-team"]) == (False, "web")


# -- ports and certificates ------------------------------------------------------------------------


def test_a_port_and_what_it_says(tmp_path: Path) -> None:
    with Silent(b"220 mail.example ESMTP\r\n") as mail, Silent() as silent:
        assert look(tmp_path, "tcp", f'address = "127.0.0.1:{mail.port}"').says == "connected"
        assert (
            look(tmp_path, "tcp", f'address = "127.0.0.1:{mail.port}"\nexpect = "^220 "').says
            == "220"
        )
        wrong = look(
            tmp_path,
            "tcp",
            f'address = "127.0.0.1:{mail.port}"\nexpect = "^500"\ntimeout = "200ms"',
        )
        quiet = look(
            tmp_path,
            "tcp",
            f'address = "127.0.0.1:{silent.port}"\nexpect = "^220"\ntimeout = "200ms"',
        )

    assert "not done within 0.2 s: " in wrong.says
    assert not quiet.is_good


def test_a_certificate_is_trusted_for_its_name_and_lasts(tmp_path: Path) -> None:
    """Story of every team: the certificate that was to renew itself did not."""
    made = tls_files(tmp_path, days=90)
    with Site(made) as site:
        lines = f'address = "localhost:{site.port}"\nca_file = "{made[0]}"\n'
        well = look(tmp_path, "tls", lines)
        soon = look(tmp_path, "tls", lines + "days = 100")
        foreign = look(tmp_path, "tls", f'address = "localhost:{site.port}"')
        named = look(tmp_path, "tls", lines + 'server_name = "shop.example"')
        page = look(tmp_path, "http", f'url = "{site.url}/ok"\nca_file = "{made[0]}"')
        loose = look(tmp_path, "http", f'url = "{site.url}/ok"\nverify = false')
        strict = look(tmp_path, "http", f'url = "{site.url}/ok"')

    assert (well.is_good, well.says.partition(",")[0]) == (True, "90 days left")
    assert "its certificate ends in 90.0 days" in soon.says
    assert "comes from nobody who is trusted here" in foreign.says
    assert named.says.endswith("its certificate is not for shop.example")
    assert (page.is_good, loose.is_good, strict.is_good) == (True, True, False)


def test_an_expired_certificate_is_called_that(tmp_path: Path) -> None:
    made = tls_files(tmp_path, days=-1)
    with Site(made) as site, Silent(b"220 hello\r\n") as plain:
        over = look(tmp_path, "tls", f'address = "localhost:{site.port}"\nca_file = "{made[0]}"')
        none = look(tmp_path, "tls", f'address = "127.0.0.1:{plain.port}"')

    assert over.says.endswith("its certificate has expired")
    assert ": no TLS: " in none.says


# -- names -----------------------------------------------------------------------------------------

RECORDS = {
    ("shop.example", "A"): [socket.inet_aton("192.0.2.7"), socket.inet_aton("192.0.2.8")],
    ("shop.example", "AAAA"): [socket.inet_pton(socket.AF_INET6, "2001:db8::7")],
    ("shop.example", "MX"): [b"\x00\x0a\x04mail\xc0\x0c"],
    ("shop.example", "TXT"): [b"\x0bv=spf1 -all"],
    ("www.shop.example", "CNAME"): [b"\xc0\x10"],
}


@pytest.mark.parametrize(
    ("lines", "is_good", "says"),
    [
        (
            'record = "shop.example"\nequals = ["192.0.2.8", "192.0.2.7"]',
            True,
            "192.0.2.7, 192.0.2.8",
        ),
        ('record = "shop.example"\nhas = ["192.0.2.8"]', True, "192.0.2.7"),
        ('record = "shop.example"\nequals = ["192.0.2.8"]', False, "192.0.2.7 is too much"),
        ('record = "shop.example"\nhas = ["192.0.2.9"]', False, "without 192.0.2.9"),
        ('record = "shop.example"\ntype = "AAAA"\nequals = ["2001:db8::7"]', True, "2001:db8::7"),
        (
            'record = "shop.example"\ntype = "MX"\nequals = ["10 mail.shop.example."]',
            True,
            "10 mail.shop.example",
        ),
        ('record = "shop.example"\ntype = "TXT"\nequals = ["v=spf1 -all"]', True, "v=spf1 -all"),
        (
            'record = "www.shop.example"\ntype = "CNAME"\nequals = ["shop.example"]',
            True,
            "shop.example",
        ),
        ('record = "no.example"', False, "no.example: there is no such name"),
    ],
)
def test_a_name_server_is_asked_by_name(
    tmp_path: Path, lines: str, is_good: bool, says: str
) -> None:
    with NameServer(RECORDS) as server:
        found = look(tmp_path, "dns", f'{lines}\nserver = "127.0.0.1:{server.port}"')

    assert (found.is_good, says in found.says) == (is_good, True), found.says


def test_a_long_answer_comes_by_tcp_and_a_forged_one_is_not_heard(tmp_path: Path) -> None:
    with NameServer(RECORDS, cut=True) as server:
        assert look(
            tmp_path, "dns", f'record = "shop.example"\nserver = "127.0.0.1:{server.port}"'
        ).is_good
    with NameServer(RECORDS) as server:
        server.wrong_first = True
        assert look(
            tmp_path, "dns", f'record = "shop.example"\nserver = "127.0.0.1:{server.port}"'
        ).is_good


def test_no_answer_of_a_name_server_does_any_harm() -> None:
    """It is a stranger: cut anywhere, with any byte turned, an answer is refused or read, and that is all."""
    asked = dns.question(7, "shop.example", "MX")
    whole = answered(asked, RECORDS, cut=False)
    assert dns.reply(asked, whole).records == (("MX", "10 mail.shop.example"),)
    damaged = [whole[:n] for n in range(len(whole))]
    damaged += [
        whole[:n] + bytes([whole[n] ^ bit]) + whole[n + 1 :]
        for n in range(len(whole))
        for bit in (1, 0x40, 0xFF)
    ]
    for data in damaged:
        try:
            dns.reply(asked, data)
        except dns.BadAnswer:
            continue
    circle = whole[: len(asked)] + b"\xc0" + bytes([len(asked)]) + whole[len(asked) + 2 :]
    with pytest.raises(dns.BadAnswer, match="circle"):
        dns.reply(asked, circle)


def test_a_name_is_looked_up_as_this_machine_does(tmp_path: Path) -> None:
    assert look(tmp_path, "dns", 'record = "localhost"\nhas = ["127.0.0.1"]').is_good
    assert "no.such.name.invalid" in look(tmp_path, "dns", 'record = "no.such.name.invalid"').says


def test_a_resolver_that_hangs_holds_up_only_who_asks_for_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """getaddrinfo cannot be given up; a thread of the pool for each would have all other names wait."""
    hangs = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *rest: object) -> object:
        if host == "hangs.example":
            hangs.wait(60)
        return real(host, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def run() -> tuple[list[Result], int]:
        stuck = [
            seen(tmp_path, "http", 'url = "http://hangs.example/"\ntimeout = "200ms"')
            for _ in range(50)
        ]
        other = seen(tmp_path, "dns", 'record = "localhost"')
        found = await asyncio.gather(*stuck, other)
        return list(found), sum(
            thread.name == "holdfast.lookup.hangs.example" for thread in threading.enumerate()
        )

    try:
        found, threads = asyncio.run(run())
    finally:
        hangs.set()

    assert found[-1].is_good
    assert all("not done within 0.2 s: looking up hangs.example" in one.says for one in found[:-1])
    assert threads == 1


# -- the bus ---------------------------------------------------------------------------------------


@pytest.fixture
def router() -> Iterator[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(holdfast.__file__).parent.parent)}
    argv = [sys.executable, "-m", "holdfast.router.alone", "--listen", "ws://127.0.0.1:0/"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(":")[-1].strip("/\n"))
        yield f"ws://127.0.0.1:{port}/"
        process.kill()


def test_a_call_over_the_bus(router: str, tmp_path: Path) -> None:
    """Router, sign-in and procedure at once: what a component behind the site needs."""
    base = f'url = "{router}"\nrealm = "realm1"\n'
    timeout = f'timeout = "{10 * SLOWNESS}s"\n'

    well = look(
        tmp_path,
        "wamp",
        base + 'procedure = "wamp.session.count"\nresult = 1\nevery = "1h"\n' + timeout,
    )
    other = look(
        tmp_path,
        "wamp",
        base + 'procedure = "wamp.session.count"\nresult = 5\nevery = "1h"\n' + timeout,
    )
    nobody = look(tmp_path, "wamp", base + 'procedure = "shop.ping"\nevery = "1h"\n' + timeout)
    realm = look(
        tmp_path,
        "wamp",
        f'url = "{router}"\nrealm = "elsewhere"\nprocedure = "x"\nevery = "1h"\n' + timeout,
    )
    gone = look(tmp_path, "wamp", 'url = "ws://127.0.0.1:1/"\nrealm = "realm1"\nprocedure = "x"\n')

    assert well.is_good, well.says
    assert other.says == "wamp.session.count returns 1, not 5"
    assert nobody.says.startswith("shop.ping: ")
    assert "elsewhere" in realm.says or "no_such_realm" in realm.says
    assert gone.says.startswith("ws://127.0.0.1:1/: ")


def test_a_router_that_says_nothing_has_its_deadline(tmp_path: Path) -> None:
    with Silent() as other:
        began_s = time.monotonic()
        found = look(
            tmp_path,
            "wamp",
            f'url = "ws://127.0.0.1:{other.port}/"\nrealm = "r"\nprocedure = "x"\ntimeout = "200ms"',
        )

    assert "not done within 0.2 s: " in found.says
    assert time.monotonic() - began_s < 5 * SLOWNESS
