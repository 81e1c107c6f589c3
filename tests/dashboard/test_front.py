"""Are the dashboard's pages whole, harmless whatever the data is, and readable? Looked at as files; in a browser: test_browser_*."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from node import SLOWNESS

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "src" / "holdfast" / "dashboard"
PAGES = DASHBOARD / "pages"
OURS = sorted((PAGES / "js").rglob("*.js"))
PACKAGE = json.loads((DASHBOARD / "front" / "package.json").read_text())
BUNDLED = {name for wanted in PACKAGE["bundle"].values() for name in wanted.values()}
IMPORT = re.compile(r"""(?:\bfrom|^import|\bimport\()\s*["'`](\.[^"'`]+)["'`]""", re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:const|let|function|class) (\w+)", re.MULTILINE)
NAMED = re.compile(r"^import \{([^}]+)\} from \"(\.[^\"]+)\"", re.MULTILINE)


def is_there(path: Path) -> bool:
    """A file of the repository, or one that the build fetches."""
    try:
        name = path.relative_to(PAGES / "vendor").as_posix()
    except ValueError:
        return path.is_file()
    return name in BUNDLED


@pytest.mark.parametrize("module", OURS, ids=lambda path: path.relative_to(PAGES).as_posix())
def test_a_module_imports_only_what_is_there(module: Path) -> None:
    """There is no build step that would find it; the page would stay empty."""
    text = module.read_text()

    for found in IMPORT.findall(text):
        if "${" not in found:
            assert is_there((module.parent / found).resolve()), found
    for names, found in NAMED.findall(text):
        target = (module.parent / found).resolve()
        if target.is_relative_to(PAGES / "vendor"):
            continue
        exported = set(EXPORT.findall(target.read_text())) | set(listed_exports(target.read_text()))
        wanted = {name.split(" as ")[0].strip() for name in names.split(",") if name.strip()}
        assert wanted <= exported, f"{found} has no {wanted - exported}"


def listed_exports(text: str) -> list[str]:
    return [name.strip() for block in re.findall(r"^export \{([^}]+)\};", text, re.MULTILINE) for name in block.split(",")]  # fmt: skip


@pytest.mark.parametrize("module", OURS, ids=lambda path: path.relative_to(PAGES).as_posix())
def test_data_never_becomes_markup_or_code(module: Path) -> None:
    """A worker's log line is written by whoever talks to the worker."""
    forbidden = r"\.(inner|outer)HTML|insertAdjacentHTML|document\.write|dangerouslySet|\beval\(|new Function|setTimeout\(\s*[\"'`]"

    code = re.sub(r"^\s*//.*$", "", module.read_text(), flags=re.MULTILINE)
    assert not re.search(forbidden, code)


def test_the_page_has_nothing_inline_and_names_no_other_server() -> None:
    """The content security policy forbids the one; somebody without a way to the internet needs the other."""
    page = (PAGES / "index.html").read_text()

    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|<style", page)
    for path in re.findall(r'(?:src|href)="/([^"]+)"', page):
        assert is_there(PAGES / path), path
    for file in [PAGES / "index.html", PAGES / "app.css", PAGES / "screens.css", *OURS]:
        assert not re.search(r"https?://|//cdn|@import", file.read_text()), file.name


def test_the_lock_file_names_no_registry_and_has_a_checksum_for_everything() -> None:
    """Whoever builds this has a registry of their own, and it does not decide what runs in our users' browsers."""
    lock = json.loads((DASHBOARD / "front" / "package-lock.json").read_text())["packages"]

    for name, version in PACKAGE["dependencies"].items():
        assert lock[f"node_modules/{name}"]["version"] == version
    for name, entry in lock.items():
        if name:
            assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry, name
    assert set(PACKAGE["bundle"]) == set(PACKAGE["dependencies"])
    assert all(any("LICENSE" in name for name in wanted) for wanted in PACKAGE["bundle"].values())


def test_words_that_cannot_be_exchanged_in_a_package_stop_the_build() -> None:
    """A new version of preact that imports itself another way would make a page that never begins."""
    npm_files = runpy.run_path(str(ROOT / "script" / "npm_files.py"))
    made = BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo("package/hooks.js")
        entry.size = 18
        tar.addfile(entry, BytesIO(b'import from"other"'))
    package = npm_files["Package"]("hooks", "1", "sha512-", {"hooks.js": "hooks.js"})

    files = npm_files["files_of"](made.getvalue(), package, {"hooks.js": {'"other"': '"./x.js"'}})
    assert files == {"hooks.js": b'import from"./x.js"'}
    with pytest.raises(npm_files["Missing"], match="could be exchanged"):
        npm_files["files_of"](made.getvalue(), package, {"hooks.js": {'"preact"': '"./x.js"'}})


# -- colours ---------------------------------------------------------------------------------------


def themes() -> dict[str, dict[str, str]]:
    css = (PAGES / "app.css").read_text()
    light, dark = re.findall(
        r"^:root(?:\[data-theme=\"dark\"\])? \{(.*?)^\}", css, re.MULTILINE | re.DOTALL
    )[:2]
    read = [dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in (light, dark)]
    return {"light": read[0], "dark": {**read[0], **read[1]}}


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]  # fmt: skip
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_can_be_read_by_weak_eyes(theme: str) -> None:
    """WCAG AA: 4.5 to 1 for text, 3 to 1 for the edges of what can be pressed."""
    colour = themes()[theme]
    grounds = ["ground", "panel", "raised", "accent-ground"]
    pairs = [(text, ground) for text in ("text", "dim", "accent") for ground in grounds]
    pairs += [(state, ground) for state in ("good", "care", "bad") for ground in ("ground", "panel", "raised", f"{state}-ground")]  # fmt: skip
    pairs += [("text", "care-ground"), ("text", "bad-ground"), ("dim", "care-ground"), ("dim", "bad-ground"), ("on-accent", "accent")]  # fmt: skip

    weak = {pair: round(contrast(colour[pair[0]], colour[pair[1]]), 2) for pair in pairs}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}
    assert contrast(colour["edge"], colour["panel"]) >= 3


# -- rules -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the pure parts of the pages say, by Node.js where there is one (in a browser they run anyhow)."""
    node = shutil.which("node")
    if node is None or not (PAGES / "vendor" / "preact.js").exists():
        pytest.skip("there is no node on the PATH, or script/frontend has not run")
    done = subprocess.run(
        [node, "--input-type=module", "--no-warnings", "-e", RULES], cwd=PAGES, capture_output=True, text=True,
        timeout=60 * SLOWNESS, check=False,
    )  # fmt: skip
    if done.returncode and "Cannot use import statement" in done.stderr:
        pytest.skip("this node takes a .js file for no module (before 22.7)")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


RULES = """
import * as format from "./js/format.js";
import * as rows from "./js/rows.js";
import { merged } from "./js/store.js";
import { newOf } from "./js/log.js";
import { route } from "./js/route.js";
globalThis.location = { pathname: "/", search: "" };
const worker = (state, more = {}) => ({ state, ready: state === "running", flags: [], kind: "guest", ...more });
const workers = {
  web: worker("running", { cpu_share: 0.1, group: "site" }), slow: worker("running", { flags: [{ flag: "slow" }], cpu_share: 0.5 }),
  dead: worker("failed"), late: worker("starting"), "app+api": worker("running"), app: worker("running"),
};
const make = rows.rowMaker();
const first = make(workers);
const after = merged(workers, { web: { cpu_share: 0.9 }, late: null, fresh: worker("running") });
const again = make({ ...workers, web: { ...workers.web, cpu_share: 0.9 } });
const all = [...first.rows.values()];
const names = (some) => some.map((row) => row.name);
const line = (at_unix_s, text) => ({ at_unix_s, stream: "out", text });
console.log(JSON.stringify({
  spans: [0.31, 42, 192, 14700, 1047600, null].map(format.span),
  sizes: [312000, 9.86e6, 1.29e9, null].map(format.bytes),
  shares: [0.042, 0.85, null].map(format.share),
  urgency: names(rows.sorted(all, { id: "urgency" })),
  cpu: names(rows.sorted(all, { id: "cpu", isDown: true })).slice(0, 2),
  filter: [names(rows.matching(all, "slow")), names(rows.matching(all, "running !slow site"))],
  tree: rows.inTree(all).map((row) => row.says ?? row.name),
  kept: [again.rows.get("app") === first.rows.get("app"), again.rows.get("web") === first.rows.get("web"), again.version === first.version],
  merged: [after.web.cpu_share, after.web.group, "late" in after, "fresh" in after, after.app === workers.app],
  log: newOf([line(1, "a"), line(2, "b"), line(2, "b")], [line(1, "a"), line(2, "b"), line(2, "b"), line(2, "b"), line(3, "c")]).map((one) => one.text),
  routes: ["/", "/workers/a%2Fb", "/incidents/x", "/api/state", "/flame/"].map((path) => [route(path).screen, Object.values(route(path).params)]),
}));
"""


def test_figures_read_as_in_the_terminal(told: dict[str, Any]) -> None:
    assert told["spans"] == ["0.3s", "42s", "3m12s", "4h05m", "12d03h", "–"]
    assert told["sizes"] == ["305K", "9.4M", "1.2G", "–"]
    assert told["shares"] == ["4.2%", "85%", "–"]


def test_who_needs_a_look_comes_first(told: dict[str, Any]) -> None:
    assert told["urgency"] == ["dead", "slow", "late", "web", "app+api", "app"]
    assert told["cpu"] == ["slow", "web"]
    assert told["filter"] == [["slow"], ["web"]]
    assert told["tree"] == [
        "site/  1 of 1 ready", "web", "slow", "dead", "late", "app/ (processes)  2 of 2 ready", "app+api", "app",
    ]  # fmt: skip


def test_a_row_that_did_not_change_is_not_drawn_again(told: dict[str, Any]) -> None:
    """A thousand rows once a second: what stays the same has to cost nothing."""
    assert told["kept"] == [True, False, True]
    assert told["merged"] == [0.9, "site", False, True, True]


def test_a_log_that_is_followed_again_has_no_line_twice(told: dict[str, Any]) -> None:
    assert told["log"] == ["b", "c"]


def test_an_address_means_one_screen(told: dict[str, Any]) -> None:
    assert told["routes"] == [["now", []], ["worker", ["a/b"]], ["incident", ["x"]], ["nowhere", []], ["nowhere", []]]  # fmt: skip
