"""Memory that grows where Python allocates nothing: which package's C code keeps it?"""

from __future__ import annotations

from typing import Any

from holdfast.diagnosis import growing
from holdfast.diagnosis.findings import Facts
from holdfast.diagnosis.profile import Profile

MB = 1 << 20
RUN = "/srv/shop/run.py"
PACKAGES = "/srv/venv/lib/python3.11/site-packages"


def leak(
    *extensions: str,
    kept: int = 0,
    grown: int = 6 * MB,
    by: str = "tracemalloc",
    reserved: int = 6 * MB,
) -> list[dict[str, Any]]:
    facts = Facts({"kind": "memory_leak", "live": True}, {"directory": "/srv/shop"})
    facts.mappings = [{"name": "anonymous", "bytes": 200 * MB, "grown": grown}]
    facts.mappings_s = 1.0
    facts.growing = (1.0, grown, reserved)
    frames = [f"{RUN}:30 in <module>", f"{RUN}:10 in weigh"]
    facts.census = {
        "by": by,
        "window_s": 0.5,
        "allocated": [{"bytes": kept, "frames": frames[::-1]}] if kept else [],
    }
    facts.extensions = [{"package": name, "version": "1.0"} for name in extensions]
    facts.profile = Profile(
        [
            ("", (frames[0],), 14),
            ("", tuple(frames), 12),
            ("", (*frames, f"{PACKAGES}/mesh/grid.py:7 in refine"), 3),
        ],
        1.0,
    )
    facts.owners = {f"{PACKAGES}/mesh/grid.py": ("mesh", "1.0")}
    facts.source = {frames[0]: "time.sleep(0.01)"}
    return [one for one in growing.memory(facts) if one["says"].startswith("Memory grew")]


def test_the_only_package_with_c_code_is_named_with_the_line_that_was_busy() -> None:
    """protobuf 4.22.1 (upb issue 1243): tracemalloc sees nothing, and the process grows by 6 MB a second."""
    (one,) = leak("protobuf")

    assert (one["package"], one["version"], one["function"]) == ("protobuf", "1.0", "weigh")
    assert one["confidence"] == "likely"
    assert "weigh (run.py:10)" in one["says"]
    assert "sleep" not in one["says"]


def test_of_several_the_one_that_was_at_work_comes_first_and_it_is_less_sure() -> None:
    (one,) = leak("aardvark", "mesh", "numpy")

    assert (one["package"], one["confidence"]) == ("mesh", "possible")
    assert leak("a", "b", "c", "d", "e", "f") == []  # everything is no suspect


def test_nobody_is_accused_where_python_keeps_it_or_it_hardly_grows() -> None:
    assert leak("protobuf", kept=2 * MB) == []
    assert leak("protobuf", grown=100_000) == []
    assert leak("protobuf", by="memray") == []
    assert leak() == []


def test_a_buffer_that_is_filled_is_nobodys_c_code() -> None:
    """websockets' broadcast(): what a client does not read waits in a buffer of asyncio that has long been there."""
    (one,) = leak("websockets", reserved=100_000)

    assert "C code keeps it" not in one["says"]
    assert "fills a buffer" in one["says"]
    assert (one["function"], one["confidence"]) == ("weigh", "possible")


def test_what_explains_next_to_nothing_of_the_growth_is_not_told_as_its_reason() -> None:
    (one,) = leak("protobuf", kept=300)

    assert "C code keeps it" in one["says"]
