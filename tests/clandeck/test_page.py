"""What do people see? Real browsers on the real site, while parts of it are killed."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from clandeck.live_site import ROOT, SLOWNESS, Site, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    Visit = Callable[..., "Visitor"]

PATIENCE_MS = 15_000 * SLOWNESS
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed (extra dev)"
    )
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if chromium is None:
        pytest.skip("there is no chromium on the PATH (apt install chromium)")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


class Visitor:
    """A person with a browser of their own."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.context = context
        self.site = site
        self.asked: list[str] = []
        self.faults: list[str] = []
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: self.asked.append(request.url))
        self.page: Page = context.new_page()
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console",
            lambda line: self.faults.append(line.text) if "Content Security" in line.text else None,
        )
        self.page.goto(site.url)

    def sign_in(self, name: str, password: str = "secret") -> None:
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.wait_board(name)

    def be_guest(self) -> str:
        self.page.get_by_role("button", name="as a guest").click()
        self.wait_board()
        return self.name

    def wait_board(self, name: str = "") -> None:
        self.page.wait_for_selector("body[data-view=board][data-state=joined][data-loaded]")
        assert not name or self.name == name

    @property
    def name(self) -> str:
        return str(self.page.evaluate("document.body.dataset.name"))

    def card(self, text: str) -> Any:
        return self.page.locator(".card:not(.ghost)", has_text=text)

    def sees(self, text: str, column: str) -> None:
        """Wait until a card is in a column, and saved."""
        card = self.page.locator(
            f"[data-column={column}] .card:not(.ghost):not(.waiting)", has_text=text
        )
        card.wait_for()

    def add(self, text: str, column: str = "todo") -> None:
        self.page.locator(f"[data-column={column}] .add").click()
        self.page.get_by_label("Text of the card").fill(text)
        self.page.keyboard.press("Enter")

    def take(self, text: str, to: str) -> None:
        """Take a card over to a column, without letting go."""
        over = self.page.locator(f"[data-column={to}]").bounding_box()
        assert over is not None
        self.card(text).hover(position={"x": 40, "y": 15})  # waits until it slides no more
        mouse = self.page.mouse
        mouse.down()
        mouse.move(over["x"] + 60, over["y"] + 120, steps=6)
        mouse.move(over["x"] + 90, over["y"] + 150, steps=6)

    def sees_pointer(self, name: str, column: str) -> None:
        """Wait until somebody's mouse is shown over a column."""
        self.until(
            """([name, column]) => {
              const pointer = document.querySelector(`.pointer[data-name="${name}"]`)?.getBoundingClientRect();
              const box = document.querySelector(`[data-column=${column}]`).getBoundingClientRect();
              return pointer && pointer.left >= box.left && pointer.left < box.right && pointer.top >= box.top && pointer.top < box.bottom;
            }""",
            f"the mouse of {name} over {column}",
            [name, column],
        )

    def until(self, script: str, what: str, given: Any = None) -> None:
        """Wait until a script says yes. (Playwright's own way evaluates texts in the page, which our policy forbids.)"""
        wait_for(lambda: self.page.evaluate(script, given), what)

    def sees_online(self, *names: str) -> None:
        for name in names:
            self.page.wait_for_selector(f"#online [data-name='{name}']")


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visit]:
    """Open the page in one more browser; in the end none of them may have gone anywhere else, or have failed."""
    visitors: list[Visitor] = []

    def open_another(**how: Any) -> Visitor:
        visitors.append(
            Visitor(
                browser.new_context(**{"viewport": {"width": 1100, "height": 700}, **how}), site
            )
        )
        return visitors[-1]

    yield open_another
    here = (f"http://127.0.0.1:{site.port}/", f"ws://127.0.0.1:{site.port}/")
    for one in visitors:
        one.context.close()
        assert one.faults == []
        assert [url for url in one.asked if not url.startswith(here)] == []
        assert any(url.startswith("ws:") for url in one.asked)


def test_two_browsers_see_each_others_mouse_and_cards(visit: Visit) -> None:
    """The point of the site: one board, everybody at once."""
    ada, bob = visit(), visit(color_scheme="dark")
    ada.sign_in("Ada")
    bob.sign_in("Bob")
    ada.sees_online("Ada", "Bob")
    bob.sees_online("Ada", "Bob")

    ada.add("buy milk")
    bob.sees("buy milk", "todo")
    ada.take("buy milk", to="done")
    bob.sees_pointer("Ada", "done")
    bob.page.wait_for_selector(".card.held >> text=buy milk")
    bob.sees("buy milk", "todo")
    ada.page.mouse.up()
    bob.sees("buy milk", "done")
    bob.page.wait_for_selector(".card.held", state="detached")

    bob.take("buy milk", to="doing")
    ada.sees_pointer("Bob", "doing")
    bob.page.mouse.up()
    ada.sees("buy milk", "doing")


def test_a_reload_keeps_the_sign_in_and_another_browser_has_none(visit: Visit) -> None:
    """The cookie is the sign-in; a browser without it is a stranger, whatever the name."""
    carol = visit()
    carol.sign_in("Carol")
    carol.page.reload()
    carol.wait_board("Carol")

    stranger = visit()
    stranger.page.wait_for_selector("#sign-in:visible")
    stranger.page.get_by_label("Name").fill("carol")
    stranger.page.get_by_label("Password").fill("guessed")
    stranger.page.get_by_role("button", name="Sign in").click()
    assert "this name is taken" in stranger.page.locator("[role=alert]:not(:empty)").inner_text()


def test_signing_out_holds_after_a_reload_and_in_every_tab(visit: Visit) -> None:
    dora = visit()
    dora.sign_in("Dora")
    tab = dora.context.new_page()
    tab.goto(dora.site.url)
    tab.wait_for_selector("body[data-view=board]")
    dora.page.get_by_role("button", name="Sign out").click()
    dora.page.wait_for_selector("#sign-in:visible")
    tab.wait_for_selector("#sign-in:visible")
    dora.page.reload()
    dora.page.wait_for_selector("#sign-in:visible")


def test_a_card_that_is_moved_while_the_board_is_dead_arrives(visit: Visit, site: Site) -> None:
    """kill -9 of the component that everything here is about: nobody loses a card, and nobody has to do anything."""
    eve, finn = visit(), visit()
    eve.be_guest()
    finn.be_guest()
    eve.add("survivor")
    finn.sees("survivor", "todo")
    eve.take("survivor", to="done")
    killed = site.kill("board")
    eve.page.mouse.up()
    eve.card("survivor").wait_for()
    finn.sees("survivor", "done")
    eve.sees("survivor", "done")

    assert site.workers()["board"]["pid"] != killed
    assert eve.page.evaluate("document.body.dataset.state") == "joined"
    eve.page.reload()
    eve.wait_board()
    eve.sees("survivor", "done")


def test_a_crash_of_the_router_signs_nobody_out(visit: Visit, site: Site) -> None:
    """Everybody is connected to it; all come back by themselves, under the same name, and go on where they were."""
    gina, hugo = visit(), visit()
    gina.sign_in("Gina")
    guest = hugo.be_guest()
    gina.add("before the crash")
    hugo.sees("before the crash", "todo")
    for one in (gina, hugo):
        one.page.evaluate(
            """() => { window.seen = []; new MutationObserver(() => seen.push(document.body.dataset.state + " " + document.body.dataset.view))
                 .observe(document.body, { attributes: true }); }"""
        )
    gina.take("before the crash", to="doing")
    site.kill("router")
    gina.page.mouse.up()
    hugo.sees("before the crash", "doing")

    for one, name in ((gina, "Gina"), (hugo, guest)):
        one.wait_board(name)
        states = one.page.evaluate("seen")
        assert "reconnecting board" in states
        assert not [state for state in states if "sign" in state]
        one.sees_online("Gina", guest)
    hugo.page.mouse.move(500, 400)
    gina.sees_pointer(guest, "doing")
    assert site.workers()["router"]["restarts"] >= 1


def test_a_change_survives_the_router_and_a_reload_until_somebody_takes_it(
    visit: Visit, site: Site
) -> None:
    """A train in a tunnel, and an impatient passenger: on its way when the router dies, kept over a reload, and made in the end."""
    ivy = visit()
    guest = ivy.be_guest()
    ivy.add("from the tunnel")
    ivy.sees("from the tunnel", "todo")
    pid = int(site.workers()["board"]["pid"])
    os.kill(pid, signal.SIGSTOP)  # there, and silent: the call stays in flight
    try:
        ivy.card("from the tunnel").focus()
        ivy.page.keyboard.press("ArrowRight")
        ivy.page.wait_for_selector("[data-column=doing] .card.waiting >> text=from the tunnel")
        site.kill("router")
        ivy.page.wait_for_selector(
            "body[data-state=reconnecting][data-waiting='1']", state="attached"
        )
        ivy.page.wait_for_selector("body[data-state=joined][data-waiting='1']")
        ivy.page.reload()
        ivy.page.wait_for_selector("body[data-state=joined][data-waiting='1']")
    finally:
        os.kill(pid, signal.SIGKILL)
    ivy.sees("from the tunnel", "doing")
    ivy.wait_board(guest)


def test_search_and_activity_come_back_and_the_board_goes_on(visit: Visit, site: Site) -> None:
    """Each part may be away for itself."""
    jo = visit()
    jo.be_guest()
    jo.add("a needle")
    jo.add("some hay")
    jo.sees("some hay", "todo")
    site.kill("search")
    site.kill("audit")
    site.kill("presence")
    jo.page.get_by_label("Search the cards").fill("need")
    jo.page.wait_for_selector(".card.dim >> text=some hay")
    assert "dim" not in str(jo.card("a needle").get_attribute("class"))
    jo.page.get_by_label("Search the cards").fill("")
    jo.page.wait_for_selector(".card.dim", state="detached")
    jo.page.get_by_role("button", name="Activity").click()
    jo.page.locator("#activity li", has_text="some hay").wait_for()
    jo.sees_online(jo.name)


def test_everything_can_be_done_by_keyboard(visit: Visit) -> None:
    kim = visit()
    kim.be_guest()
    kim.add("typed", "doing")
    kim.sees("typed", "doing")
    kim.card("typed").focus()
    keys = kim.page.keyboard
    keys.press("ArrowRight")
    kim.sees("typed", "done")
    assert "Done" in kim.page.locator("#spoken").inner_text()
    keys.press("ArrowUp")
    kim.until("document.activeElement.matches('.card')", "the card to have the focus")
    keys.press("Enter")
    keys.type(" and edited")
    keys.press("Escape")
    keys.press("Enter")
    keys.press("End")
    keys.type(" again")
    keys.press("Enter")
    kim.sees("typed again", "done")
    keys.press("Delete")
    kim.card("typed again").wait_for(state="detached")
    kim.page.get_by_role("button", name="Undo").click()
    kim.sees("typed again", "done")


def test_a_phone_shows_it_all(visit: Visit) -> None:
    """A small screen, and a finger instead of a mouse."""
    lou = visit(viewport={"width": 375, "height": 667}, has_touch=True, is_mobile=True)
    wide = lou.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 375
    lou.page.get_by_role("button", name="as a guest").tap()
    lou.wait_board()
    lou.page.locator("[data-column=todo] .add").tap()
    lou.page.get_by_label("Text of the card").fill("by thumb")
    lou.page.keyboard.press("Enter")
    lou.sees("by thumb", "todo")
    assert lou.page.evaluate("document.documentElement.scrollWidth") <= 375
    for selector in ("#search", "#sign-out", "#activity-button", "[data-column=todo] .add"):
        box = lou.page.locator(selector).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375
        assert box["height"] >= 24
    # A finger moves a card by its grip (elsewhere it scrolls), and the column comes along.
    lou.card("by thumb").scroll_into_view_if_needed()
    grip = lou.card("by thumb").locator(".grip").bounding_box()
    column = lou.page.locator("[data-column=todo]").bounding_box()
    assert grip is not None
    assert column is not None
    touch = lou.context.new_cdp_session(lou.page)
    x, y, top = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2, column["y"] + 20
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})  # fmt: skip
    for step in range(1, 9):
        finger = {"x": x - 20, "y": y + (top - y) * step / 8}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [finger]})
    first = "document.querySelector('[data-column=todo] .card .text').textContent"
    lou.until(f"{first} === 'by thumb'", "the card to be the first")
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    lou.sees("by thumb", "todo")
    lou.page.reload()
    lou.wait_board()
    lou.until(f"{first} === 'by thumb'", "the card to be the first after a reload")


def test_without_the_client_the_page_says_what_is_missing(browser: Browser, site: Site) -> None:
    """No registry, no browser side; the page must not just stay empty."""
    context = browser.new_context()
    try:
        context.route("**/vendor/*", lambda route: route.fulfill(status=404))
        page = context.new_page()
        page.goto(site.url)
        page.wait_for_selector("#missing:visible", timeout=PATIENCE_MS)
        assert "get_client.py" in page.inner_text("#missing")
    finally:
        context.close()


def test_a_mention_on_a_card_becomes_a_mail(visit: Visit, site: Site) -> None:
    """Also when the component that writes the mails is dead at that moment: it catches up."""
    max_ = visit()
    max_.be_guest()
    site.kill("mailout")
    max_.add("ask @Nora about it")
    max_.sees("ask @Nora about it", "todo")
    found = wait_for(lambda: list((site.data / "outbox").glob("*-Nora.eml")), "the mail")
    assert len(found) == 1
    assert "To: Nora@clandeck.example" in found[0].read_text()


def test_picture(visit: Visit, request: pytest.FixtureRequest) -> None:
    """docs/images/clandeck.png shows what the page looks like."""
    if not request.config.getoption("clandeck_picture", default=False):
        pytest.skip("only with --clandeck-picture")
    names = ("Ada", "Grace", "Linus", "Barbara")
    people = [
        visit(viewport={"width": 1100, "height": 620}, color_scheme=("light", "dark")[n % 2])
        for n in range(len(names))
    ]
    for one, name in zip(people, names, strict=True):
        one.sign_in(name)
    ada, grace, linus, barbara = people
    for element in ada.page.locator(".card").all():
        element.focus()
        if "welcome" not in str(element.get_attribute("data-card")):
            ada.page.keyboard.press("Delete")
    grace.add("Write the release notes, @Ada", "doing")
    linus.add("Why was the box slow on Monday?")
    barbara.add("Rotate the keys", "done")
    ada.sees("Rotate the keys", "done")
    linus.page.mouse.move(300, 420)
    barbara.page.mouse.move(950, 330)
    grace.take("Why was the box slow", to="doing")
    ada.sees_pointer("Grace", "doing")
    ada.sees_pointer("Barbara", "done")
    ada.page.wait_for_selector("#toasts div", state="detached")
    linus.page.mouse.move(310, 430)
    barbara.page.mouse.move(960, 340)
    ada.sees_pointer("Linus", "todo")
    target = ROOT / "docs" / "images" / "clandeck.png"
    ada.page.screenshot(path=target)
    grace.page.mouse.up()
    assert target.stat().st_size < 200_000
