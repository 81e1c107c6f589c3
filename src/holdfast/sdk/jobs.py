"""What is a job, in the words of its author, and how is it put into the queue?

    from holdfast.sdk import job

    @job(queue="mail", timeout="30s")
    def send(to: str, subject: str): ...

    send.enqueue("ann@example.org", subject="Hello")

The decorated function is still the function: calling it runs it here and now. A job's name ("module.function") is what stands in
its JSON and how a worker finds it again (`job_registry.py`), so it has to stay the same as long as jobs of it lie somewhere.
Left out: running it (`engine/`), and what can be asked about one (`job_ref.py`).
"""

import functools
import sys
from inspect import iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from holdfast.jobs import queue
from holdfast.sdk import job_middleware
from holdfast.sdk.job_args import Arguments
from holdfast.sdk.job_options import JobSettingError, Settings
from holdfast.sdk.job_registry import REGISTRY
from holdfast.sdk.job_sending import Sending, when_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import datetime

    from holdfast.sdk.job_middleware import Around, Before, Entered
    from holdfast.sdk.job_options import Limit, Span
    from holdfast.sdk.job_ref import Ref

P = ParamSpec("P")
R = TypeVar("R")


class JobNameError(ValueError):
    """Two different functions have one name, or a function cannot have one."""


class Job(Sending[P, R]):
    """A function that workers run: what :func:`job` makes of it."""

    __name__: str

    def __init__(self, function: "Callable[P, Any]", name: str, settings: Settings, own: "tuple[Entered, ...]",
                 before: "tuple[Before, ...]") -> None:  # fmt: skip
        super().__init__(name, Arguments(name, function), settings)
        functools.update_wrapper(self, function)
        self.function = function
        self.is_async = isinstance(self, AsyncJob)
        self.cron = ""
        self.tz = ""
        self.before = before
        self._own = own
        #: What its run is wrapped into, outermost first; empty for nearly all jobs.
        self.middleware: tuple[Entered, ...] = (*job_middleware.AROUND, *own)
        self.queue = settings.queue
        self.retries = settings.retries
        self.timeout_s = settings.timeout_s  #: 0: the worker's
        self.backtrace = settings.backtrace
        if function.__module__ == "__main__" and name.startswith("__main__."):
            self.warning = (
                f"job {name} is a function of the program that was started: a worker that imports it knows it by another name and "
                f'will not find it; move it into a module that both import, or name it: @job(name="…")'
            )

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function, here and now; a coroutine function returns its coroutine, as ever."""
        result: R = self.function(*args, **kwargs)
        return result

    def __repr__(self) -> str:
        return f"<job {self.name}>"

    # -- what a worker uses ------------------------------------------------------------------------------

    def bind(self, job: "dict[str, Any]") -> "tuple[Sequence[Any], dict[str, Any]]":
        """Return the arguments for the function, of a job that came.

        Raises:
            JobArgumentsError: They do not fit: the job was enqueued by another version of the program, or by a stranger.
        """
        ours = job.get("hf")
        named = ours.get("kw") if type(ours) is dict else None
        return self.arguments.bind(job["args"], named if type(named) is dict else {})

    def pack_result(self, value: object) -> bytes:
        """Return the result of a run as JSON.

        Raises:
            JobArgumentsError: It is nothing that JSON can carry.
        """
        return self.arguments.pack_result(value)

    def template(self) -> "dict[str, Any]":
        """Return the JSON of a periodic job as it is but for its id and times."""
        ours = self.ours(b"[]", {}, (), {}, 0.0)
        return {
            "class": self.name,
            "args": [],
            **self.extra,
            **({"hf": ours} if ours else {}),
        }

    def refresh(self) -> None:
        """Take over the global middleware as it is now."""
        self.middleware = (*job_middleware.AROUND, *self._own)


class AsyncJob(Job[P, R]):
    """A coroutine function that workers run."""

    if TYPE_CHECKING:

        def __call__(  # type: ignore[override]
            self, /, *args: P.args, **kwargs: P.kwargs
        ) -> "Coroutine[Any, Any, R]":
            """Return the coroutine."""


@overload
def job(function: "Callable[P, Coroutine[Any, Any, R]]", /) -> AsyncJob[P, R]: ...
@overload
def job(function: "Callable[P, R]", /) -> Job[P, R]: ...
@overload
def job(
    *,
    queue: str = ...,
    name: str | None = ...,
    retries: int = ...,
    timeout: "Span | None" = ...,
    unique: "bool | str | Callable[..., object]" = ...,
    unique_for: "Span | None" = ...,
    result_for: "Span | None" = ...,
    backoff: "tuple[Span, float, Span] | None" = ...,
    limit: "Limit | None" = ...,
    expires_in: "Span | None" = ...,
    cron: str | None = ...,
    tz: str | None = ...,
    tags: "Sequence[str]" = ...,
    backtrace: bool | int = ...,
    max_payload: int | str = ...,
    dead: bool = ...,
    around: "Sequence[Around]" = ...,
    before: "Sequence[Before]" = ...,
) -> "_Decorator": ...


def job(
    function: "Any" = None,
    /,
    *,
    queue: str = "default",
    name: str | None = None,
    retries: int = 25,
    timeout: "Span | None" = None,
    unique: "bool | str | Callable[..., object]" = False,
    unique_for: "Span | None" = None,
    result_for: "Span | None" = None,
    backoff: "tuple[Span, float, Span] | None" = None,
    limit: "Limit | None" = None,
    expires_in: "Span | None" = None,
    cron: str | None = None,
    tz: str | None = None,
    tags: "Sequence[str]" = (),
    backtrace: bool | int = True,
    max_payload: int | str = "1M",
    dead: bool = True,
    around: "Sequence[Around]" = (),
    before: "Sequence[Before]" = (),
) -> "Any":
    """Make a function, plain or coroutine, a job: ``@job``, or ``@job(queue="mail", timeout="30s")``.

    Spans of time are seconds, "500ms", "30s", "10m", "2h", "7d" or a timedelta.

    Args:
        function: Without parentheses: the function.
        queue: Where its jobs wait.
        name: Its name in the queue. Default: "module.function"; name it where the function may move.
        retries: How often it is tried again; 25 take three weeks, with 0 the first failure is final.
        timeout: It may run so long. Default: as the worker's configuration says.
        unique: While one with the same arguments waits or runs, another is not stored. "until_start": while it waits. A
            function makes the key of the arguments: ``lambda user, text: user``.
        unique_for: The same, but at most so long.
        result_for: What it returns is kept so long (:meth:`Ref.result`).
        backoff: First delay, factor and longest delay of the retries: ("1s", 2, "10m"). Default: Sidekiq's, from 15 s on.
        limit: So many at once, or in a while: see :class:`Limit`.
        expires_in: If it was not started by then, it is dropped.
        cron: Run it by the clock, without arguments, once over the whole fleet: "30 4 * * mon", "@daily".
        tz: Time zone of `cron`, as "Europe/Berlin". Default: UTC.
        tags: For whoever looks.
        backtrace: Keep that of the last failure; a number: so many lines.
        max_payload: Size of its JSON at most.
        dead: False: when it is given up, it is not kept.
        around: Middleware around its runs: generator functions, see :func:`around_job`.
        before: Middleware before it is enqueued, see :func:`before_enqueue`.

    Raises:
        JobSettingError: A setting is wrong.
        JobNameError: Another function has this name already.
    """
    options = {
        "queue": queue, "retries": retries, "timeout": timeout, "unique": unique, "unique_for": unique_for,
        "result_for": result_for, "backoff": backoff, "limit": limit, "expires_in": expires_in, "tags": tags,
        "backtrace": backtrace, "max_payload": max_payload, "dead": dead,
    }  # fmt: skip

    def declare(function: "Callable[..., Any]") -> "Job[Any, Any]":
        return _declared(function, name, cron, tz, around, before, options)

    if function is None:
        return declare
    if not callable(function):
        says = f"@job({function!r}): settings are named: @job(queue={function!r})"
        raise JobSettingError(says)
    return declare(function)


def push(
    name: str,
    /,
    *args: "Any",
    queue: str = "default",
    retries: int = 25,
    at: "datetime | float | None" = None,
    in_: "Span | None" = None,
    tags: "Sequence[str]" = (),
) -> "Ref[Any]":
    """Enqueue a job by its name alone, when its function is not here: another program's, or a class of Ruby's.

        push("HardWorker", 42, queue="low", in_="10m")

    Args:
        name: Name of the job (of Ruby: of the class).
        args: Plain JSON values; nobody checks whether they fit.
        queue: Where to.
        retries: How often it is tried again.
        at: As for :meth:`Job.schedule`.
        in_: As for :meth:`Job.schedule`.
        tags: For whoever looks.

    Raises:
        JobArgumentsError: An argument is nothing that JSON has.
        JobNameError: This is no name.
        JobSettingError: The name of the queue, or a time, is wrong.
    """
    if not name or not name.isprintable():
        says = f'push({name!r}): a job has a name, as "HardWorker" or "shop.tasks.send"'
        raise JobNameError(says)
    settings = Settings().changed(
        name, {"queue": queue, "retries": retries, "tags": tags, "backtrace": False}
    )
    when = when_of(name, at, in_) if at is not None or in_ is not None else (0.0, 0.0)
    sending: Sending[Any, Any] = Sending(name, Arguments(name, _anything), settings, when)
    return sending.enqueue(*args)


def use_jobs(url: str, prefix: str = "") -> None:
    """Keep this program's jobs in this store, whatever HOLDFAST_JOBS says: ``use_jobs("sqlite:///var/lib/shop/jobs.db")``.

    Raises:
        StoreRefusedError: The URL is wrong.
    """
    queue.use(queue.opened(url, prefix))


def _declared(function: "Callable[..., Any]", name: "str | None", cron: "str | None", tz: "str | None",
              around: "Sequence[Around]", before: "Sequence[Before]", options: "dict[str, Any]") -> "Job[Any, Any]":  # fmt: skip
    """Make the job, and enter it into the registry."""
    if isinstance(function, Job):
        says = f"{function.name} is a job already: one @job is enough"
        raise JobSettingError(says)
    known_as = name or _name_of(function)
    if isgeneratorfunction(function):
        says = f"job {known_as}: a generator function cannot be a job: nobody would take what it yields"
        raise JobSettingError(says)
    settings = Settings().changed(known_as, options)
    own = tuple(job_middleware.entered(one) for one in around)
    kind = AsyncJob if iscoroutinefunction(function) else Job
    made: Job[Any, Any] = kind(function, known_as, settings, own, tuple(before))
    if cron is not None:
        _make_periodic(made, cron, tz)
    elif tz is not None:
        says = f"job {known_as}: tz={tz!r} is the time zone of cron=…, and there is none"
        raise JobSettingError(says)
    there = REGISTRY.get(known_as)
    if there is not None and _home(there.function) != _home(function):
        raise JobNameError(
            f"two jobs are named {known_as}: {_home(there.function)[0]} and {_home(function)[0]}\n"
            f'  give one another name: @job(name="…")'
        )
    REGISTRY[known_as] = made
    return made


def _make_periodic(made: "Job[Any, Any]", cron: str, tz: "str | None") -> None:
    from holdfast.sdk.job_cron import check_cron

    if not made.arguments.is_callable_without:
        says = f"job {made.name}: cron={cron!r}: it is run without arguments, but its function needs some"
        raise JobSettingError(says)
    if made.settings.expires_s:
        says = f"job {made.name}: expires_in does not go with cron: what is late is run, unless a later one has been"
        raise JobSettingError(says)
    made.cron, made.tz = check_cron(made.name, cron, tz)


def _name_of(function: "Callable[..., Any]") -> str:
    """Return the name by which a worker will know a function."""
    module = getattr(function, "__module__", None)
    if module == "__main__":
        # `python -m shop.tasks`: that is how a worker imports it.
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = spec.name if spec is not None else module
    qualname = getattr(function, "__qualname__", None)
    if not module or not qualname or qualname.endswith("<lambda>"):
        says = f'{function!r} has no name of its own: @job(name="…")'
        raise JobNameError(says)
    return f"{module}.{qualname}"


def _home(function: "Callable[..., Any]") -> "tuple[str, str]":
    """Say where a function is written; the same for the same one imported again."""
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function), ""
    return f"{function.__qualname__} in {code.co_filename}", function.__qualname__


def _anything(*_: object) -> None:
    """Stand for a function that is not here."""


def _refresh() -> None:
    for one in REGISTRY.values():
        one.refresh()


job_middleware.when_changed(_refresh)

if TYPE_CHECKING:
    from typing import Protocol

    class _Decorator(Protocol):
        @overload
        def __call__(
            self, function: "Callable[P, Coroutine[Any, Any, R]]", /
        ) -> AsyncJob[P, R]: ...
        @overload
        def __call__(self, function: "Callable[P, R]", /) -> Job[P, R]: ...
