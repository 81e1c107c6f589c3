"""What happens around every job, or around all of one kind?

Two places: before a job is stored (a function that gets its JSON as a dict and may change it, or raise to refuse it), and around
its run (a generator function that yields once, as for `contextlib.contextmanager`; it serves plain and coroutine functions alike).
Global ones are outside, a job's own inside; a job that has none pays nothing.
"""

from contextlib import ExitStack, contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from holdfast.sdk.job_context import JobContext

    Around = Callable[["JobContext"], Iterator[None]]
    Entered = Callable[["JobContext"], AbstractContextManager[None]]
    Before = Callable[[dict[str, Any]], None]

#: Around every run, outermost first; :attr:`holdfast.sdk.jobs.Job.middleware` holds these too.
AROUND: "list[Entered]" = []
#: Before every enqueue, in this order.
BEFORE: "list[Before]" = []
_wanted: "list[Callable[[], None]]" = []


def around_job(function: "Around") -> "Around":
    """Run a generator function around every job of this process.

        @around_job
        def traced(context):
            with tracer.span(context.name):
                yield

    What the job raises is raised at the `yield`, after which the generator may clean up (``try … finally``) but should let it
    pass: one that swallows it makes the job a success. On the loop it runs between coroutines, so it should not wait.
    """
    AROUND.append(entered(function))
    for refresh in _wanted:
        refresh()
    return function


def before_enqueue(function: "Before") -> "Before":
    """Run a function on every job that this process enqueues; it gets the job's JSON as a dict, and may change it or raise.

    @before_enqueue
    def traced(job):
        job["trace_id"] = trace.current()
    """
    BEFORE.append(function)
    return function


def forget(function: "Callable[..., Any]") -> None:
    """Take a middleware away again."""
    AROUND[:] = [kept for kept in AROUND if getattr(kept, "__wrapped__", None) is not function]
    BEFORE[:] = [kept for kept in BEFORE if kept is not function]
    for refresh in _wanted:
        refresh()


def entered(function: "Around") -> "Entered":
    """Return a generator function as something to use with ``with``.

    Raises:
        TypeError: It is none.
    """
    from inspect import isgeneratorfunction

    if isgeneratorfunction(function):
        return contextmanager(function)
    if isgeneratorfunction(getattr(function, "__wrapped__", None)):
        return function  # type: ignore[return-value]  # somebody put @contextmanager on it
    name = getattr(function, "__qualname__", function)
    says = f"{name}: a middleware around jobs is a generator function: it yields once, where the job runs"
    raise TypeError(says)


def when_changed(refresh: "Callable[[], None]") -> None:
    """Call this whenever the global middleware changes."""
    _wanted.append(refresh)


def around(middleware: "Sequence[Entered]", context: "JobContext") -> "ExitStack[bool]":
    """Enter all of it, and return what leaves it again (and may swallow an error); the job runs inside of ``with``."""
    stack = ExitStack()
    try:
        for enter in middleware:
            stack.enter_context(enter(context))
    except BaseException as error:
        # Those that were entered already see what went wrong in the next one.
        if not stack.__exit__(type(error), error, error.__traceback__):
            raise
        says = "a middleware swallowed the error of another one that could not begin"
        raise RuntimeError(says) from error
    return stack  # type: ignore[return-value]  # the checker has to reckon with `with` ending in peace
