# ruff: noqa: INP001
"""What is in holdfast.sdk? Makes docs/reference/sdk.md from its docstrings: ``python docs/reference/sdk.py``."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from holdfast import sdk

PAGE = Path(__file__).with_suffix(".md")
_HEAD = """\
# SDK reference

This page is made from the docstrings (`python docs/reference/sdk.py`); a test keeps it up to date.
How to use it: [write a component](../how-to/write-a-component.md).

    from holdfast.sdk import Component, heartbeat, …

Everything here also works outside Holdfast, where it goes nowhere, so that components can be tested by themselves.
`bind`, and what is not listed here, belongs to the container.
"""
_JOBS_HEAD = """\
# Jobs

How to use them: [write jobs](../how-to/write-jobs.md).

    from holdfast.sdk import job, Limit, …
"""
_INTERNAL = {
    "bind", "made", "ours", "pack_result", "refresh", "stamps", "starts_s", "template",
}  # fmt: skip
#: Where what belongs to jobs is written.
_OF_JOBS = re.compile(r"holdfast\.(jobs|model\.jobs|sdk\.job)")


def signature(thing: object) -> str:
    """A signature as one reads it: no self, no quotes, no TypeVars."""
    text = str(inspect.signature(thing)).replace("''", '""').replace("'", "")  # type: ignore[arg-type]
    return (
        re.sub(r"\(self(, /)?(, )?", "(", text)
        .replace("Callable[[F], F]", "decorator")
        .replace(": F) -> F", ")")
        .replace("~R", "R")
        .replace("holdfast.sdk.job_batch.", "")
        .replace("holdfast.sdk.job_context.", "")
    )


def prose(thing: object) -> str:
    """A docstring as Markdown: roles become code, sections become bold."""
    text = inspect.getdoc(thing) or ""
    text = re.sub(r":\w+:`~?(?:holdfast\.sdk\.)?([^`]+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"^(Args|Returns|Raises):\n", r"**\1**\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"^    (\*?\w+): ", r"- `\1`: ", text, flags=re.MULTILINE)
    return re.sub(r"^    (?=\S)", "", text, flags=re.MULTILINE)


def is_of_jobs(name: str) -> bool:
    """Whether a name is about jobs."""
    return _OF_JOBS.match(getattr(sdk, name).__module__) is not None


def shown(name: str, thing: object) -> str:
    """The first line of an entry."""
    if isinstance(thing, type) and issubclass(thing, Exception):
        return f"exception {name}"
    if isinstance(thing, type):
        # A job is made by its decorator, a batch by its function.
        made_otherwise = name in ("Job", "JobContext", "PlannedJob", "Progress")
        return f"class {name}{'' if made_otherwise else signature(thing).removesuffix(' -> None')}"
    kind = "async " if inspect.iscoroutinefunction(thing) else ""
    return f"{kind}{name}{signature(thing)}"


def members(thing: type) -> dict[str, object]:
    """The parts of a class, with those of the class that it is made of, in the order in which they are written."""
    found: dict[str, object] = {}
    for part in reversed(thing.__mro__):
        if part.__module__.startswith("holdfast."):
            found.update(vars(part))
    return found


def entry(name: str) -> list[str]:
    """All about one name."""
    thing = getattr(sdk, name)
    parts = [f"## {name}\n\n    {shown(name, thing)}\n\n{prose(thing)}\n"]
    if not isinstance(thing, type) or issubclass(thing, Exception):
        return parts
    for own, member in members(thing).items():
        if own.startswith("_") or own in _INTERNAL:
            continue
        if isinstance(member, property):
            parts.append(f"### {name}.{own}\n\n    {own}\n\n{prose(member)}\n")
        elif inspect.isfunction(member):
            kind = "async " if inspect.iscoroutinefunction(member) else ""
            parts.append(
                f"### {name}.{own}\n\n    {kind}{own}{signature(member)}\n\n{prose(member)}\n"
            )
    return parts


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    names = sorted(sdk.__all__, key=lambda n: (is_of_jobs(n), n not in ("Component", "job"), n))
    for name in names:
        if name == "job":
            parts.append(_JOBS_HEAD)
        parts += entry(name)
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"wrote {PAGE}\n")
