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
_INTERNAL = {"bind"}


def signature(thing: object) -> str:
    """A signature as one reads it: no self, no quotes, no TypeVars."""
    text = str(inspect.signature(thing)).replace("''", '""').replace("'", "")  # type: ignore[arg-type]
    return (
        re.sub(r"\(self(, )?", "(", text)
        .replace("Callable[[F], F]", "decorator")
        .replace(": F) -> F", ")")
    )


def prose(thing: object) -> str:
    """A docstring as Markdown: roles become code, sections become bold."""
    text = inspect.getdoc(thing) or ""
    text = re.sub(r":\w+:`~?(?:holdfast\.sdk\.)?([^`]+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"^(Args|Returns|Raises):\n", r"**\1**\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"^    (\*?\w+): ", r"- `\1`: ", text, flags=re.MULTILINE)
    return re.sub(r"^    (?=\S)", "", text, flags=re.MULTILINE)


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name in sorted(sdk.__all__, key=lambda n: (n != "Component", n)):
        thing = getattr(sdk, name)
        shown = (
            signature(thing).removesuffix(" -> None")
            if isinstance(thing, type)
            else signature(thing)
        )
        kind = (
            "class "
            if isinstance(thing, type)
            else "async "
            if inspect.iscoroutinefunction(thing)
            else ""
        )
        parts.append(f"## {name}\n\n    {kind}{name}{shown}\n\n{prose(thing)}\n")
        if not isinstance(thing, type):
            continue
        for own, member in vars(thing).items():
            if own.startswith("_") or own in _INTERNAL:
                continue
            if isinstance(member, property):
                parts.append(f"### {name}.{own}\n\n    {own}\n\n{prose(member)}\n")
            elif inspect.isfunction(member):
                parts.append(
                    f"### {name}.{own}\n\n    {own}{signature(member)}\n\n{prose(member)}\n"
                )
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"wrote {PAGE}\n")
