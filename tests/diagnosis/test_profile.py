"""Collapsed stacks, and what is made of them."""

import json
import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as some

from holdfast.diagnosis import flame, owners, profile

PYSPY = (
    "thread (23192): MainThread;<module> (/srv/b.py:7);main (/srv/b.py:6);match (/usr/lib/python3.11/re/__init__.py:166) 43\n"
    "thread (23234): spinner;Thread.run (/usr/lib/python3.11/threading.py:982);loop (/srv/b.py:3) 8\n"
    "no count at the end\n"
)


def test_py_spys_text_is_read_and_written_in_our_form() -> None:
    found = profile.parse(PYSPY, 1.0)

    assert found.samples() == 51
    assert found.rows[0] == (
        "MainThread",
        ("/srv/b.py:7 in <module>", "/srv/b.py:6 in main", "/usr/lib/python3.11/re/__init__.py:166 in match"),
        43,
    )  # fmt: skip
    assert profile.parse(found.collapsed()).rows == found.rows


def test_the_standard_library_is_gone_through_and_never_blamed() -> None:
    hot = profile.hottest(profile.parse(PYSPY), owners.is_machinery)

    assert hot is not None
    assert hot.path[-1] == "/srv/b.py:6 in main"
    assert hot.inner == ["/usr/lib/python3.11/re/__init__.py:166 in match"]
    assert round(hot.share, 2) == 0.84


def test_a_loop_over_many_callees_is_blamed_itself() -> None:
    rows = [("t", ("/srv/a.py:1 in main", "/srv/a.py:5 in each", f"/srv/a.py:9 in f{n}"), 5) for n in range(6)]  # fmt: skip

    hot = profile.hottest(profile.Profile(rows), owners.is_machinery)

    assert hot is not None
    assert hot.path[-1] == "/srv/a.py:5 in each"


def test_waiting_is_not_work() -> None:
    """A sampler that does not stop the program takes some waits for running."""
    wait = ("/usr/lib/python3.11/asyncio/base_events.py:1 in run_forever", "/usr/lib/python3.11/selectors.py:468 in EpollSelector.select")  # fmt: skip
    rows = [("t", ("/srv/a.py:1 in main", *wait), 60), ("t", ("/srv/a.py:1 in main", "/srv/a.py:7 in encode"), 20)]  # fmt: skip

    hot = profile.hottest(profile.Profile(rows), owners.is_machinery)

    assert hot is not None
    assert (hot.path[-1], hot.share) == ("/srv/a.py:7 in encode", 1.0)
    assert profile.hottest(profile.Profile(rows[:1]), owners.is_machinery) is None


def test_own_and_total_shares() -> None:
    rows = profile.table(profile.parse(PYSPY), owners.is_machinery)

    by_name = {row["function"]: row for row in rows}
    assert round(by_name["/srv/b.py in main"]["total"], 2) == 0.84
    assert by_name["/srv/b.py in main"]["own"] == 0


def test_speedscopes_file_holds_every_sample() -> None:
    made = profile.speedscope(profile.parse(PYSPY), "web")

    json.dumps(made)
    assert [one["endValue"] for one in made["profiles"]] == [43, 8]
    frames = made["shared"]["frames"]
    assert [frames[n]["name"] for n in made["profiles"][1]["samples"][0]] == ["Thread.run", "loop"]


def test_the_flame_graph_is_xml_and_names_are_escaped() -> None:
    rows = [("t", ("/srv/a.py:1 in <module>", '/srv/"&.py:2 in <lambda>'), 3)]

    root = ElementTree.fromstring(flame.svg(profile.Profile(rows), "a < b"))

    text = "".join(root.itertext())
    assert "a < b" in text
    assert '/srv/"&.py:2 in <lambda> (3 samples, 100.0%)' in text


def test_recursion_without_end_is_drawn_all_the_same() -> None:
    deep = tuple("/srv/a.py:1 in f" for _ in range(5000))

    assert len(flame.svg(profile.Profile([("t", deep, 1)]), "x")) < 300_000


def test_perf_script_becomes_stacks_outermost_first() -> None:
    text = (
        "python 12 \n\t 7f1 sre_match+0x10 (/usr/lib/libpython3.11.so)\n\t 7f2 py::main:/srv/a.py+0x1 (/tmp/perf-12.map)\n\n"
        "python 12 \n\t 7f1 sre_match+0x20 (/usr/lib/libpython3.11.so)\n\t 7f2 py::main:/srv/a.py+0x9 (/tmp/perf-12.map)\n"
    )

    assert profile.from_perf(text).rows == [
        ("python", ("/srv/a.py:0 in main", "/usr/lib/libpython3.11.so:0 in sre_match"), 2)
    ]


@given(some.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    found = profile.parse(text)

    profile.hottest(found, owners.is_machinery)
    ElementTree.fromstring(flame.svg(found, text))


def test_what_a_line_calls() -> None:
    imports = owners.imports_of(
        "import ujson, os.path\nimport numpy as np\nfrom a.b import (c, d as e)\n"
    )

    assert imports == {"ujson": "ujson", "os": "os", "np": "numpy", "c": "a.b.c", "e": "a.b.d"}
    assert owners.calls_of("x = ujson.dumps(np.array(e(1)), local(2))", imports) == ["ujson.dumps", "numpy.array", "a.b.d"]  # fmt: skip


def test_whose_a_file_is() -> None:
    assert owners.is_machinery("/usr/lib/python3.11/asyncio/events.py")
    assert owners.is_machinery("<frozen importlib._bootstrap>")
    assert owners.is_machinery("/usr/lib/x86_64-linux-gnu/libc.so.6")
    assert not owners.is_machinery("/srv/venv/lib/python3.11/site-packages/ujson.cpython-311-x86_64-linux-gnu.so")  # fmt: skip
    assert not owners.is_machinery("/srv/app/run.py")
    assert owners.owner_of("/v/lib/python3.11/site-packages/yarl/_url.py", {}) == ("yarl", "")
