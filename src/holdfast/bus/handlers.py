"""How is a function of the application run for an invocation or an event?

Looks once, at registration, at what kind of function it is and what it asks for by keyword-only parameters:

- ``details``: gets the :class:`Invocation` or :class:`Event` itself (who calls, options, deadline).
- ``progress``: a function that sends a progressive result (``None`` where the caller does not want any).
- ``chunks``: an async iterator over the later payloads of a progressive call.

Coroutine functions and async generators (each value is a progressive result) run on the loop as tasks; plain functions
run in a thread, or on the loop where they are declared ``inline`` (short, never blocking).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

INLINE, COROUTINE, GENERATOR, THREAD = range(4)


class Handler:
    """A function and how to run it."""

    __slots__ = (
        "function", "has_extras", "is_brief", "kind", "wants_chunks", "wants_details", "wants_progress",
    )  # fmt: skip

    def __init__(self, function: Any, *, inline: bool) -> None:
        if not callable(function):
            says = (
                f"{function!r} cannot be called: a handler has to be a function. "
                "The order of the arguments is register(handler, uri), subscribe(handler, uri)."
            )
            raise TypeError(says)
        self.function: Callable[..., Any] = function
        self.kind = _kind(function, inline=inline)
        keyword_only = _keyword_only(function)
        self.wants_details = "details" in keyword_only
        self.wants_progress = "progress" in keyword_only
        self.wants_chunks = "chunks" in keyword_only
        self.has_extras = self.wants_details or self.wants_progress or self.wants_chunks
        #: A coroutine function that has not been seen to wait while others stood behind it (:mod:`callee`).
        self.is_brief = self.kind == COROUTINE and not self.has_extras

    def misfit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Why the function cannot take these arguments; "" if it can (or does not tell)."""
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):
            return ""
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            return str(error)
        return ""


def _kind(function: Callable[..., Any], *, inline: bool) -> int:
    call = getattr(function, "__call__", None)  # noqa: B004 -- an object's own __call__ may be a coroutine function
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        return COROUTINE
    if inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(call):
        return GENERATOR
    if inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(call):
        says = f"{function!r} is a generator: only async generators (async def with yield) can send progressive results"
        raise TypeError(says)
    return INLINE if inline else THREAD


def _keyword_only(function: Callable[..., Any]) -> set[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()  # a function written in C that does not tell
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
