"""Jobs without a node: who starts the worker processes, again when they die, and settles what they leave?

One process that is the steward (:mod:`holdfast.engine.tending`) and the smallest keeper there can be. Its children are the same
container processes that a node has. They die with it (PDEATHSIG), so that a foreman that is started again never meets children
of the one before, only their flight recorders. What a keeper does beyond that (logs, limits, evidence, adoption) is a node's.
"""

import ctypes
import os
import random
import select
import signal
import time

from holdfast.core.restart import History, after_death
from holdfast.engine.dying import Death
from holdfast.linux import pidfd
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from holdfast.engine.schedule import Say
    from holdfast.engine.storm import Storm
    from holdfast.engine.tending import Steward
    from holdfast.model.plan import RestartPolicy, WorkerPlan

    #: Makes the steward that this foreman is, too.
    MakeSteward = Callable[["Foreman", Storm], Steward]

#: Of a container: what it was told to do makes no sense; it will make none the next time.
MISCONFIGURED = 78
_PR_SET_PDEATHSIG = 1
#: So many deaths within the window are answered at once: a job that kills its worker is caught by its second death, and its
#: neighbours should not wait for that.
_AT_ONCE, _WINDOW_S = 5, 10.0
_RESTART: "RestartPolicy" = {
    "policy": "always", "limit": 0, "window_s": 60.0, "after_limit": "slow", "delay_s": 0.2, "delay_max_s": 5.0,
    "jitter": 0.2, "healthy_s": 2.0,
}  # fmt: skip
#: When everybody has ended, what is left is settled within this time, or by the next foreman.
_LAST_WORDS_S = 3.0
#: Belongs to another start than the one that we make of it.
_NOT_INHERITED = (
    "HOLDFAST_GO", "HOLDFAST_COMPONENTS", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
)  # fmt: skip


class Child:
    """One worker and its process."""

    __slots__ = ("deaths", "descriptor", "due_s", "history", "is_asked", "is_lane", "n", "name", "pid", "plan", "started_s")  # fmt: skip

    def __init__(self, plan: "WorkerPlan") -> None:
        self.plan = plan
        self.name = plan["name"]
        jobs = plan.get("jobs")
        self.is_lane = jobs is not None and jobs["role"] == "quarantine"
        self.n = 0
        self.pid = 0
        self.descriptor = -1
        self.started_s = 0.0
        self.due_s = 0.0  #: monotonic: when it is to be started; infinity: not
        self.is_asked = False  #: its end is our doing
        self.history = History()
        self.deaths: list[float] = []


class Deaths:
    """How children ended: what the steward asks for (its `Causes`)."""

    __slots__ = ("_ended", "_living")

    def __init__(self) -> None:
        self._living: set[int] = set()
        self._ended: dict[int, Death] = {}

    def began(self, pid: int) -> None:
        """A child was started."""
        self._living.add(pid)
        self._ended.pop(pid, None)

    def ended(self, pid: int, death: Death) -> None:
        """A child has died."""
        self._living.discard(pid)
        self._ended[pid] = death
        while len(self._ended) > 1000:
            del self._ended[next(iter(self._ended))]

    def read(self) -> None:
        """There is nothing to read: we are told."""

    def of(self, worker: str, pid: int) -> "Death | None":
        """Return how a process ended; of one that an earlier foreman started nobody knows."""
        return self._ended.get(pid) or (None if pid in self._living else self.likely(worker))

    def likely(self, worker: str) -> Death:  # noqa: ARG002
        """Return the best guess."""
        return Death()


class Foreman:
    """The loop; see the module.

    Args:
        run_dir: With the plan in it.
        workers: The entries of that plan.
        env: Added to the environment of each child.
        grace_s: How long children may take to end what they run.
        storm: What was killed lately.
        make_steward: Makes the steward, given this foreman.
        say: One line for a person.
        sign: A file that is touched each second: it tells when this foreman was killed.
        has_suspects: There will be some in a moment: the lane starts at once, beside the others.
    """

    def __init__(
        self,
        run_dir: str,
        workers: "list[WorkerPlan]",
        env: "dict[str, str]",
        grace_s: float,
        storm: "Storm",
        make_steward: "MakeSteward",
        say: "Say",
        sign: str,
        *,
        has_suspects: bool = False,
    ) -> None:
        self._run_dir = run_dir
        self._env = {
            key: value for key, value in os.environ.items() if key not in _NOT_INHERITED
        } | env
        self._grace_s = grace_s
        self._say = say
        self._sign = sign
        self._touch_s = 0.0
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self.deaths = Deaths()
        self._children = {plan["name"]: Child(plan) for plan in workers}
        for child in self._children.values():
            child.due_s = 0.0 if has_suspects or not child.is_lane else float("inf")
        self._by_descriptor: dict[int, Child] = {}
        self._signals: list[int] = []
        self._is_stopping = False
        self._is_quiet = False
        self._kill_s = float("inf")
        self._status = 0
        # Before the steward has anything to say, and before it has a thread: children are quickest to start now.
        self._start_due(time.monotonic(), None)
        self._steward = make_steward(self, storm)
        for descriptor in self._by_descriptor:
            self._steward.epoll.register(descriptor, select.EPOLLIN)
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGHUP,
            signal.SIGTSTP,
            signal.SIGTTIN,
        ):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, _: object) -> None:
        self._signals.append(number)
        self._steward.wake()

    def start_lane(self, name: str) -> None:
        """Have a lane run, if it does not (the steward asks)."""
        child = self._children.get(name)
        if child is not None and not child.pid and not (self._is_stopping or self._is_quiet):
            child.due_s = 0.0

    def run(self) -> int:
        """Work until told to stop; return the exit status."""
        steward = self._steward
        while True:
            now_s = time.monotonic()
            if now_s >= self._touch_s:
                self._touch_s = now_s + 1.0
                os.utime(self._sign)
            self._obey(now_s)
            self._start_due(now_s, steward)
            if self._is_stopping and not self._by_descriptor:
                break
            for descriptor in steward.turn(self._wait_s(now_s)):
                self._reap(self._by_descriptor.pop(descriptor))
        steward.finish(_LAST_WORDS_S)
        return self._status

    def _wait_s(self, now_s: float) -> float:
        due_s = min(
            (child.due_s for child in self._children.values() if not child.pid), default=now_s + 1
        )
        return max(0.0, min(1.0, due_s - now_s, self._kill_s - now_s))

    # -- stopping ----------------------------------------------------------------------------------------

    def _obey(self, now_s: float) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGTSTP:
                self._be_quiet()
            elif number == signal.SIGTTIN:
                self._send_born(number)
            elif not self._is_stopping:
                self._stop(
                    now_s,
                    f"stopping ({signal.Signals(number).name}); running jobs get {self._grace_s:g} s",
                )
            else:
                self._kill_s = now_s
        if now_s >= self._kill_s:
            self._kill_s = float("inf")
            self._say("killing what has not ended; its jobs go back to the queue")
            self._send(signal.SIGKILL)

    def _stop(self, now_s: float, says: str) -> None:
        self._is_stopping = True
        # The container's own patience is to end first.
        self._kill_s = now_s + self._grace_s + 1.0
        self._say(says)
        for child in self._children.values():
            child.due_s = float("inf")
            child.is_asked = True
        self._send(signal.SIGTERM)

    def _be_quiet(self) -> None:
        """Let everybody finish and take nothing new; nobody is started any more."""
        self._is_quiet = True
        self._say("quiet: no new jobs are started; stop with SIGTERM")
        for child in self._children.values():
            child.due_s = float("inf")
        for child in self._send_born(signal.SIGTSTP):
            child.is_asked = True
            pidfd.send(child.descriptor, signal.SIGTERM)

    def _send_born(self, number: int) -> "list[Child]":
        """Send a signal whose default action is to stop a process to those that are surely prepared for it; return the others."""
        born = {ward.pid for ward in self._steward.wards.values() if ward.is_alive}
        for child in self._by_descriptor.values():
            if child.pid in born:
                pidfd.send(child.descriptor, number)
        return [child for child in self._by_descriptor.values() if child.pid not in born]

    def _send(self, number: int) -> None:
        for descriptor in self._by_descriptor:
            pidfd.send(descriptor, number)

    # -- children ----------------------------------------------------------------------------------------

    def _start_due(self, now_s: float, steward: "Steward | None") -> None:
        for child in self._children.values():
            if not child.pid and child.due_s <= now_s:
                child.due_s = float("inf")
                self._start(child)
                if steward is not None:
                    steward.epoll.register(child.descriptor, select.EPOLLIN)

    def _start(self, child: Child) -> None:
        child.n += 1
        env = {
            **self._env,
            "HOLDFAST_RUN": self._run_dir,
            "HOLDFAST_WORKER": child.name,
            "HOLDFAST_START": str(child.n),
            "HOLDFAST_ROLE": "main",
            "HOLDFAST_PULSE": f"{self._run_dir}/{layout.pulse(child.name)}",
            "PYTHONFAULTHANDLER": "1",
        }
        argv, me = child.plan["argv"], os.getpid()
        pid = os.fork()
        if not pid:
            self._become(argv, env, me)
        child.pid, child.started_s, child.is_asked = pid, time.monotonic(), False
        child.descriptor = os.pidfd_open(
            pid
        )  # our own child: it cannot be gone before we wait for it
        self.deaths.began(pid)
        self._by_descriptor[child.descriptor] = child

    def _become(self, argv: "list[str]", env: "dict[str, str]", parent: int) -> "NoReturn":
        """In the child: die with the parent from now on, and become a container."""
        try:
            # Bound to the thread that forked, which is the one that lives as long as the foreman.
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(0)  # it was quicker
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTSTP, signal.SIGTTIN):
                signal.signal(number, signal.SIG_DFL)
            for number in (signal.SIGHUP, signal.SIGINT):
                # A terminal sends them to us all; what is to be done about it, the foreman says.
                signal.signal(number, signal.SIG_IGN)
            os.execve(argv[0], argv, env)
        except BaseException as error:  # noqa: BLE001 -- a forked child must never return into the foreman
            os.write(2, f"holdfast: cannot execute {argv[0]}: {error}\n".encode())
        os._exit(127)

    def _reap(self, child: Child) -> None:
        found = os.waitid(os.P_PIDFD, child.descriptor, os.WEXITED)
        assert found is not None  # noqa: S101 -- without WNOHANG it waits
        status = pidfd.wait_status(found)
        cause = "stop" if child.is_asked else "died"
        self.deaths.ended(child.pid, Death(cause, status, time.time()))
        self._steward.epoll.unregister(child.descriptor)
        pidfd.close(child.descriptor)
        now_s = time.monotonic()
        lived_s = now_s - child.started_s
        child.pid, child.descriptor = 0, -1
        if self._is_stopping or self._is_quiet:
            return
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == MISCONFIGURED:
            self._status = 2
            self._stop(now_s, f"{child.name} cannot be run as it is configured; stopping")
        elif child.is_lane:
            child.due_s = float("inf")  # the steward asks, if there is anything left to run alone
        else:
            child.due_s = now_s + self._pause_s(child, now_s, lived_s, status)

    def _pause_s(self, child: Child, now_s: float, lived_s: float, status: int) -> float:
        decision = after_death(
            _RESTART, child.history, now_s=now_s, lived_s=lived_s, clean=status == 0, chance=random.random(),  # noqa: S311
        )  # fmt: skip
        child.history = decision.history
        child.deaths = [at for at in child.deaths if at > now_s - _WINDOW_S] + [now_s]
        if len(child.deaths) <= _AT_ONCE or decision.delay_s == 0:
            return 0.0
        self._say(
            f"dies again and again; next start in {decision.delay_s:.1f} s", worker=child.name
        )
        return decision.delay_s
