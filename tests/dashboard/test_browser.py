"""What does a person see? A real browser on the dashboard of a real node, while parts of it are broken."""

from __future__ import annotations

import os
import re
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="needs holdfast[dashboard]")
pytest.importorskip("argon2", reason="needs holdfast[dashboard]")

from dashboard.hostile import HOSTILE, ask
from dashboard.live_node import PASSWORD, Clinic
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    Visit = Callable[..., "Person"]

pytestmark = pytest.mark.faults

PATIENCE_MS = 20_000 * SLOWNESS
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
SCREENS = ("/", "/incidents", "/workers", "/workers/web", "/bus", "/jobs", "/machine")
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    made = Clinic(tmp_path_factory.mktemp("clinic"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra dev)")  # fmt: skip
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((path for name in names if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("there is no chromium on the PATH (apt install chromium)")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


#: As route.js does it, and then two frames: what was there before is gone.
WALK = """path => new Promise((done) => {
  if (path !== location.pathname + location.search) history.pushState(null, "", path);
  dispatchEvent(new PopStateEvent("popstate", { state: null }));
  requestAnimationFrame(() => requestAnimationFrame(() => done()));
})"""


class Person:
    """Somebody with a browser of their own."""

    def __init__(self, browser: Browser, clinic: Clinic, **how: Any) -> None:
        self.clinic = clinic
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **how})
        self.context.set_default_timeout(PATIENCE_MS)
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console", lambda line: self._hear(line.text) if line.type == "error" else None
        )

    def _hear(self, text: str) -> None:
        # That the dashboard is away for a moment is what some tests are about.
        if "Failed to load resource" not in text and "ERR_" not in text:
            self.faults.append(text)

    def enter(self, role: str = "operator") -> Person:
        """Sign in by a one-time link, which leaves nothing in the address: that lands in histories and screenshots."""
        self.page.goto(self.clinic.link(role))
        self.page.get_by_role("navigation", name="Screens").wait_for()
        assert "token" not in self.page.url
        return self

    def go(self, path: str) -> None:
        """Go to another screen as by a link of the page: without loading it anew."""
        self.page.evaluate(WALK, path)
        self.page.locator("main h1").first.wait_for()
        wait_for(
            lambda: "Reading" not in self.page.locator("main").inner_text(), f"{path} to be read"
        )

    def has_asked(self, part: str, since: int) -> bool:
        """Whether the page has asked for this since then. (What it asks for is heard of only while we talk to it.)"""
        self.page.evaluate("0")
        return any(part in url for url in self.asked[since:])

    def text(self) -> str:
        return self.page.locator("main").inner_text()

    def has_focus(self) -> str:
        """Return the words of what the next key would press."""
        return str(self.page.evaluate("document.activeElement.textContent"))

    def sees(self, pattern: str) -> None:
        """Wait until the page says something."""
        wait_for(
            lambda: re.search(pattern, self.text(), re.IGNORECASE),
            f"{pattern!r} in {self.page.url}",
        )

    def is_innocent(self) -> None:
        """Nothing was asked of anybody else, and nothing of the page broke; told once."""
        foreign = [url for url in self.asked if not url.startswith((self.clinic.url, "data:", "blob:"))]  # fmt: skip
        faults = list(self.faults)
        self.asked.clear()
        self.faults.clear()
        assert not foreign
        assert not faults


@pytest.fixture
def visit(browser: Browser, clinic: Clinic) -> Iterator[Visit]:
    """Open one more browser; in the end none of them may have gone anywhere else, or have broken."""
    people: list[Person] = []

    def another(**how: Any) -> Person:
        people.append(Person(browser, clinic, **how))
        return people[-1]

    yield another
    for person in people:
        person.context.close()
        person.is_innocent()


@pytest.fixture(scope="module")
def signed_in(browser: Browser, clinic: Clinic) -> Iterator[Person]:
    """Somebody whose page stays open all day, as it does on a second screen."""
    person = Person(browser, clinic).enter()
    yield person
    person.context.close()


@pytest.fixture
def desk(signed_in: Person) -> Iterator[Person]:
    """The operator's open page: at Now, with nothing left over from before."""
    page = signed_in.page
    while page.locator("dialog[open]").count():
        page.keyboard.press("Escape")
    signed_in.go("/")
    yield signed_in
    signed_in.is_innocent()


# -- who comes in ----------------------------------------------------------------------------------


def test_a_stranger_sees_how_to_sign_in_and_nothing_else_until_the_password_fits(
    visit: Visit, clinic: Clinic
) -> None:
    person = visit()
    person.page.goto(f"{clinic.url}/workers/web")
    person.page.get_by_label("Password").wait_for()
    assert "sleeper" not in person.page.content()
    assert "clinic" not in person.page.content()
    for password in ("wrong", PASSWORD):
        person.page.get_by_label("Name").fill("ann")
        person.page.get_by_label("Password").fill(password)
        person.page.keyboard.press("Enter")
        if password == "wrong":
            person.page.get_by_text("that did not fit").wait_for()
    person.page.get_by_role("navigation", name="Screens").wait_for()


def test_fifty_hostile_requests_get_nothing_and_change_nothing(clinic: Clinic) -> None:
    """The same list as at the door alone: here everything stands behind it that a node has."""
    before = {name: clinic.worker(name)["pid"] for name in ("web", "sleeper", "fragile")}
    for one in HOSTILE:
        status, _, body = ask(clinic.url.removeprefix("http://"), one.data)
        # Some of them try to sign in: after five tries they have to wait.
        assert status in (*one.right, 429), f"{one.name}: {status}"
        assert not any(name in body for name in (b"sleeper", b"fragile", b"demo.add")), one.name
    assert {name: clinic.worker(name)["pid"] for name in before} == before


def test_a_reader_has_no_buttons_that_order_anything(visit: Visit) -> None:
    person = visit().enter("reader")
    person.go("/workers/sleeper")
    assert person.page.get_by_role("button", name="Restart").count() == 0
    assert person.page.get_by_role("group", name="Orders").count() == 0
    refused = person.page.evaluate(
        """async () => (await fetch("/api/orders", {method: "POST", headers: {"content-type": "application/json", "x-holdfast": "1"},
             body: JSON.stringify({do: "restart", worker: "sleeper"})})).status"""
    )
    assert refused == 403


# -- the screens -----------------------------------------------------------------------------------


def test_when_all_is_well_one_sentence_says_so(desk: Person) -> None:
    desk.sees("all is well")


def test_each_screen_has_what_it_is_for(desk: Person, clinic: Clinic) -> None:
    clinic.holdfast("jobs", "push", "fails", "x.html")
    for path, expected in {
        "/workers": r"sleeper[\s\S]*running",
        "/workers/web": r"container",
        "/workers/fragile": r"fragile",
        "/bus": r"demo\.add",
        "/machine": r"free of",
        "/jobs?state=retry": r"fails",
    }.items():
        desk.go(path)
        desk.sees(expected)
    desk.page.get_by_role("link", name="fails").click()
    desk.sees("no such page: x.html")


def test_every_screen_can_be_used_by_everybody(desk: Person) -> None:
    """WCAG 2.2 AA, as far as axe-core can tell: names, roles, focus, contrast. The dark theme differs in contrast only."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs extra dev")
    whole = {"type": "tag", "values": AXE_TAGS}
    contrast = {"type": "rule", "values": ["color-contrast"]}
    judge = axe.Axe()
    for path in SCREENS:
        desk.go(path)
        for theme, only in (("light", whole), ("dark", contrast)):
            desk.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            desk.page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)  # fmt: skip
            found = judge.run(desk.page, options={"runOnly": only, "resultTypes": ["violations"]})
            assert found.violations_count == 0, f"{path}, {theme}: {found.generate_report()}"
            judge = axe.Axe("0")  # it is in the page now
    desk.page.emulate_media(color_scheme="light")


def test_on_a_phone_nothing_has_to_be_pushed_sideways(visit: Visit) -> None:
    phone = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).enter()
    for path in SCREENS:
        phone.go(path)
        wide, room = phone.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= room, path


# -- what happens ----------------------------------------------------------------------------------


def test_a_crash_is_told_while_it_happens_and_its_page_answers_five_questions(
    desk: Person, clinic: Clinic
) -> None:
    """From the fault to the verdict, without a reload."""
    before = len(clinic.incidents("fragile"))
    desk.go("/incidents")
    clinic.crash()
    link = desk.page.get_by_role("link", name=re.compile("fragile.*SIGSEGV")).first
    wait_for(lambda: len(clinic.incidents("fragile")) > before, "the incident")
    link.click()
    desk.page.get_by_role("heading", name=re.compile("SIGSEGV")).wait_for()
    answers = desk.page.locator(".answers")
    for question in ("What broke", "Since when", "Why", "What was done", "Did it help"):
        assert question in answers.inner_text()
    assert "fragile.py" in desk.text() or "string_at" in desk.text()
    wait_for(lambda: "cured" in answers.inner_text(), "the verdict to come by itself", 40)
    assert "Now: running for" in answers.inner_text()

    desk.page.get_by_role("tab", name="Stacks").click()
    desk.sees(r"fragile\.py")
    with desk.page.expect_download() as bundle:
        desk.page.get_by_role("link", name="Download the bundle").click()
    assert bundle.value.suggested_filename.endswith((".tar.gz", ".tgz"))


def test_with_the_keyboard_alone_a_worker_is_found_and_restarted(
    desk: Person, clinic: Clinic
) -> None:
    before = clinic.worker("sleeper")["pid"]
    desk.sees("workers")
    keys = desk.page.keyboard
    for key in ("g", "w"):
        keys.press(key)
    desk.page.get_by_role("heading", name="Workers").wait_for()
    keys.press("/")
    keys.type("sleep")
    keys.press("Escape")
    keys.press("j")
    keys.press("Enter")
    desk.page.get_by_role("heading", name="sleeper").wait_for()
    keys.press("r")
    desk.page.get_by_role("dialog").wait_for()
    keys.press("Escape")
    assert desk.page.get_by_role("dialog").count() == 0
    desk.page.get_by_role("button", name="Restart").focus()
    keys.press("Enter")
    desk.page.get_by_role("dialog").wait_for()
    keys.press("Enter")
    wait_for(lambda: clinic.worker("sleeper")["pid"] not in (None, before), "another life")
    desk.sees(str(clinic.worker("sleeper")["pid"]))
    # Where the dialog came from, through all states of the button and of its worker.
    desk.page.get_by_role("button", name="Restart", exact=True).wait_for()
    assert desk.has_focus() == "Restart"
    assert "restart" in clinic.holdfast("dashboard", "audit")


def test_stacks_and_a_profile_are_taken_by_button(desk: Person, clinic: Clinic) -> None:
    """The button says what is under way: two people must not profile the same worker at once."""
    orders = desk.page.get_by_role("group", name="Orders")
    desk.go("/workers/web")
    orders.get_by_role("button", name="Profile 5 s").click()
    under_way = orders.get_by_role("button", name="Profiling …")
    under_way.wait_for()
    assert under_way.is_disabled()

    orders.get_by_role("button", name="Stacks").click()
    dialog = desk.page.get_by_role("dialog")
    dialog.wait_for()
    assert "web" in dialog.inner_text()
    assert "Thread" in dialog.inner_text() or "thread" in dialog.inner_text()
    dialog.get_by_role("button", name="Close").click()

    dialog.get_by_text("own").first.wait_for()  # what the profile says, by function
    assert "/flame/#profileURL=" in (dialog.get_by_role("link").get_attribute("href") or "")
    orders.get_by_role("button", name="Profile 5 s").wait_for()
    done = [one for one in clinic.audit() if one.startswith(("profile web: done", "stacks web: done"))]  # fmt: skip
    assert len(done) == 2


def test_a_component_is_isolated_and_joined_by_button(desk: Person, clinic: Clinic) -> None:
    """Three components in one process, and one of them crashes: from then on alone."""
    desk.go("/workers/trio?tab=plan")
    desk.page.get_by_role("button", name="Isolate middle").click()
    question = desk.page.get_by_role("dialog")
    question.get_by_role("heading", name="Run trio / middle in a process of its own?").wait_for()
    question.get_by_role("button", name="Isolate").click()
    wait_for(lambda: clinic.workers().get("trio+middle", {}).get("ready"), "the component alone")
    wait_for(lambda: clinic.workers()["trio"]["ready"], "the others")
    wait_for(lambda: any(one.startswith("isolate trio/middle: done") for one in clinic.audit()), "the record")  # fmt: skip
    others = clinic.worker("trio")["pid"]

    (clinic.tmp / "crash-middle").touch()
    wait_for(lambda: clinic.incidents("trio+middle"), "the incident of the one")
    assert clinic.worker("trio")["pid"] == others
    assert not clinic.incidents("trio")

    desk.go("/workers/trio%2Bmiddle")
    desk.page.get_by_role("button", name="Join again").click()
    desk.page.get_by_role("dialog").get_by_role("button", name="Join again").click()
    desk.sees("it was a part of trio")
    wait_for(lambda: clinic.worker("trio")["ready"], "all three of them")
    assert "trio+middle" not in clinic.workers()


def test_the_dashboard_restarts_itself_by_button_and_the_record_is_whole(desk: Person, clinic: Clinic) -> None:  # fmt: skip
    """Who carries the order out is killed by it; the next life says how it ended, to the record and to the page."""
    desk.go("/workers/dashboard")
    before = clinic.worker("dashboard")["pid"]
    desk.page.get_by_role("button", name="Restart").first.click()
    desk.page.get_by_role("dialog").get_by_role("button", name="Restart").click()
    wait_for(lambda: clinic.worker("dashboard")["pid"] not in (None, before), "the next life")
    wait_for(lambda: any(one.startswith("restart dashboard: done") for one in clinic.audit()), "the end of the entry")  # fmt: skip
    desk.page.locator(".toast.good", has_text="dashboard").wait_for()


def test_an_alert_is_acknowledged_and_snoozed_by_button(desk: Person, clinic: Clinic) -> None:
    """The same words on Now and on the incident; the one who sends alerts does it, and the record has who wanted it."""
    (clinic.tmp / "moody").touch()
    wait_for(lambda: clinic.alert_of("moody").get("incidents"), "the alert", 30)
    desk.sees("moody[\\s\\S]*critical alert, firing")
    row = desk.page.locator(".thing", has_text="moody").first
    row.get_by_role("button", name="Acknowledge", exact=True).click()
    row.get_by_role("button", name="Acknowledged").wait_for()
    assert row.get_by_role("button", name="Acknowledged").is_disabled()
    alert = clinic.alert_of("moody")
    assert alert["state"] == "acknowledged"

    desk.go(f"/incidents/{alert['incidents'][-1]}")
    desk.page.get_by_role("button", name="Acknowledged").wait_for()
    desk.page.get_by_role("button", name="Snooze 1 h").click()
    desk.page.get_by_role("button", name="Snoozed").wait_for()
    assert clinic.alert_of("moody")["state"] == "snoozed"
    assert {f"ack {alert['id']}: acknowledged", f"snooze {alert['id']}: snoozed"} <= set(clinic.audit())  # fmt: skip
    (clinic.tmp / "moody").unlink()
    clinic.holdfast("start", "moody")


def test_a_question_mark_shows_the_keys(desk: Person) -> None:
    desk.page.keyboard.press("?")
    desk.page.get_by_role("dialog").get_by_text("go to Workers").wait_for()


def test_a_row_changes_by_itself_when_its_worker_does(desk: Person, clinic: Clinic) -> None:
    desk.go("/workers?sort=restarts")
    pid = clinic.worker("sleeper")["pid"]
    desk.sees(f"{pid}")
    desk.page.get_by_role("link", name="sleeper").focus()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: clinic.worker("sleeper")["pid"] not in (None, pid), "the next life")
    desk.sees(str(clinic.worker("sleeper")["pid"]))
    assert desk.has_focus() == "sleeper"


def test_a_row_that_is_sorted_anew_keeps_the_focus(desk: Person) -> None:
    """Whoever has no mouse would begin at the top of the page again, once a second."""
    desk.go("/workers?sort=worker")
    link = desk.page.get_by_role("link", name="sleeper")
    link.focus()
    place = link.evaluate("link => link.closest('tr').rowIndex")
    desk.page.keyboard.press("s")  # the other way round
    desk.page.wait_for_function("place => [...document.querySelectorAll('tr a')].find((a) => a.textContent === 'sleeper').closest('tr').rowIndex !== place", arg=place)  # fmt: skip
    assert desk.has_focus() == "sleeper"


def test_a_dashboard_that_is_killed_comes_back_under_the_open_page(
    desk: Person, clinic: Clinic
) -> None:
    """Nobody is signed out, and no worker notices."""
    desk.go("/workers")
    others = {name: clinic.worker(name)["pid"] for name in ("web", "sleeper", "router")}
    old = clinic.worker("dashboard")["pid"]
    mark = desk.page.evaluate("performance.timeOrigin")
    asked = len(desk.asked)
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: desk.has_asked("/api/live", asked), "the page to connect again")
    wait_for(lambda: clinic.worker("dashboard")["pid"] not in (None, old), "the next dashboard")
    wait_for(lambda: "Not connected" not in desk.page.inner_text("body"), "the page to be live")
    assert desk.page.evaluate("performance.timeOrigin") == mark  # the same page, not loaded anew
    assert {name: clinic.worker(name)["pid"] for name in others} == others
    desk.sees("sleeper")


def test_a_flame_graph_opens_in_the_page(visit: Visit, clinic: Clinic) -> None:
    """speedscope, from our own wheel; a file that was never fetched would leave an empty page."""
    person = visit(bypass_csp=False).enter()
    person.page.goto(f"{clinic.url}/flame/")
    person.page.get_by_text("Drag and drop").first.wait_for()
