"""The process that everything hangs on: it starts the house, and starts it again.

It is the parent (and the subreaper) of keeper, watchdog and logger. It knows no plan and no worker. What it does:

* a house process that dies is started again at once (later and later when it dies again and again);
* orphans fall to it; their exit status goes into the ``exits`` journal before they are reaped, so that the
  next keeper finds it;
* it keeps open what must outlive the others: the pipes of all workers, and descriptors handed to it;
* it tells whoever started it (sd_notify) and the kernel's watchdog device that the house is well.

It may be killed, too: the others see that and start a new one, which finds the living by their locks.
"""

import _socket
import select
import time

from holdfast.linux import files, launch, locks, pidfd, procfs, talk
from holdfast.linux import signals as signal
from holdfast.linux import system as os
from holdfast.linux.house import TAKEN, House, raise_open_files
from holdfast.wire import journal, layout, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

_CHILDREN = ("keeper", "watchdog", "logger")
_EXITS_MAX_BYTES = 256 * 1024
_DRAIN_S = 2.0
_LAST_EVIDENCE_S = 2.0
#: A house process that is shot again and again right after its start is back at once so many times in a row.
_QUICK_SHOTS = 20
#: How long a keeper that does not answer may hold up the end of the node (a fifth of it when asked twice).
_KEEPER_PATIENCE_S = 15.0
#: A beat of the keeper and the watchdog may be this old before we stop telling others that all is well.
_FRESH_S = 5.0


class _Child:
    """A house process as the anchor sees it."""

    __slots__ = ("descriptor", "due_s", "is_ours", "pid", "quick_deaths", "started_s")

    def __init__(self) -> None:
        self.pid = 0
        self.descriptor = -1
        self.is_ours = False
        self.started_s = 0.0
        self.quick_deaths = 0
        self.due_s = 0.0  # 0: not waiting to be started


class Anchor:
    """The state of the anchor; see the module."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.house = House(run_dir, "anchor")
        self.children = {role: _Child() for role in _CHILDREN}
        self.pipes: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.end_status = -1  # the node is to end with this status
        self.terms = 0  # how often we were asked to end
        self.asked_s = 0.0  # when that was for the first time
        self.told = (0, False)  # which keeper was told to end the node, and whether by force
        self.state_lock = self._lock_state()
        self.device = self._open_device()
        self.socket = talk.listen_datagram(run_dir, "anchor")
        self.wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.epoll = select.epoll()
        self.epoll.register(self.socket.fileno(), select.EPOLLIN)
        self.epoll.register(self.wake_read, select.EPOLLIN)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note_signal)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)

    def _lock_state(self) -> int:
        try:
            lock = locks.take(
                f"{os.readlink(f'{self.run_dir}/{layout.STATE_LINK}')}/{layout.NODE_LOCK}"
            )
        except OSError as error:
            # The run directory's lock is what counts; this one only guards against a second node
            # that finds our state directory under another path.
            self.house.say(f"cannot lock the state directory: {error}")
            return -1
        return -1 if lock is None else lock

    def _open_device(self) -> int:
        path = os.environ.get("HOLDFAST_WATCHDOG_DEVICE", "")
        if not path:
            return -1
        try:
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            self.house.say(f"cannot open {path}: {error.strerror}; the node runs without it")
            return -1

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until the keeper says that the node has ended; return its exit status."""
        self._look_at_pipes()
        for role in _CHILDREN:
            _, pid = self.house.beat_age_s(role)
            if pid and not locks.holder(f"{self.run_dir}/{layout.lock(role)}"):
                self.house.say(f"the {role} (process {pid}) died while there was no anchor")
            self._find_or_start(role)
        self._notify(f"MAINPID={os.getpid()}\nSTATUS=starting")
        next_tick_s = 0.0
        while self.end_status < 0:
            now_s = time.monotonic()
            if now_s >= next_tick_s:
                self._tick()
                next_tick_s = now_s + 1.0
            due = [c.due_s for c in self.children.values() if c.due_s]
            timeout_s = max(0.0, min([next_tick_s, *due]) - time.monotonic())
            for descriptor, _ in self.epoll.poll(timeout_s):
                if descriptor == self.wake_read:
                    os.read(self.wake_read, 512)
                elif descriptor == self.socket.fileno():
                    self._take_messages()
                else:
                    self._foreign_died(descriptor)
            self._reap()
            if self.terms:
                self._ask_keeper_down()
            now_s = time.monotonic()
            for role, child in self.children.items():
                if child.due_s and child.due_s <= now_s:
                    self._find_or_start(role)
        self._end()
        return self.end_status

    def _tick(self) -> None:
        self.house.beat()
        ages = [self.house.beat_age_s(role)[0] for role in ("keeper", "watchdog")]
        if max(ages) < _FRESH_S:
            # Only a house that works may keep the outer watchdogs quiet.
            self._notify("WATCHDOG=1")
            if self.device >= 0:
                os.write(self.device, b"\0")

    def _note_signal(self, number: int, _frame: object) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self.terms += 1
            self.asked_s = self.asked_s or time.monotonic()

    # -- children ----------------------------------------------------------------------------------

    def _find_or_start(self, role: str) -> None:
        child = self.children[role]
        child.due_s = 0.0
        lock = f"{self.run_dir}/{layout.lock(role)}"
        pid = locks.holder(lock)
        if pid:
            descriptor = pidfd.open_pid(pid)
            if descriptor >= 0 and locks.holder(lock) == pid:
                child.pid, child.descriptor, child.is_ours = pid, descriptor, False
                child.started_s = time.monotonic()
                self.epoll.register(descriptor, select.EPOLLIN)
                return
            pidfd.close(descriptor)
        self._start(role, child)

    def _start(self, role: str, child: _Child) -> None:
        env = dict(os.environ)
        # Listening sockets go to the keeper, everything else that is kept to the watchdog.
        wanted = {
            name: descriptor
            for name, descriptor in self.held.items()
            if (role == "keeper" and name.startswith("listen."))
            or (role == "watchdog" and not name.startswith("listen."))
        }
        if wanted:
            env["HOLDFAST_FDS"] = ",".join(f"{name}={fd}" for name, fd in wanted.items())
        error_pipe = f"{self.run_dir}/{layout.fifo(layout.HOUSE_LOG, 'err')}"
        actions: list[tuple[object, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, error_pipe, os.O_RDWR, 0),
        ]
        for descriptor in wanted.values():
            os.set_inheritable(descriptor, True)
        argv = launch.command(role, self.run_dir)
        try:
            pid = os.posix_spawn(
                argv[0],
                argv,
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE,),
            )
        except OSError as error:
            if launch.is_removed(self.run_dir):
                self._vanish()
            self.house.say(f"cannot start the {role}: {error.strerror}")
            self._retry_later(child)
            return
        finally:
            for descriptor in wanted.values():
                os.set_inheritable(descriptor, False)
        child.pid, child.is_ours, child.started_s = pid, True, time.monotonic()

    def _vanish(self) -> "NoReturn":
        """End at once with all that is left of a node whose run directory was removed."""
        for child in self.children.values():
            if child.pid:
                pidfd.kill_quietly(child.pid)
        for pid, _ in procfs.marked("HOLDFAST_NODE", os.path.basename(self.run_dir)):
            pidfd.kill_quietly(pid)
        os.exit_now(1)

    def _retry_later(self, child: _Child, longest_s: float = 1.0) -> None:
        child.pid = 0
        child.quick_deaths += 1
        child.due_s = time.monotonic() + min(
            longest_s, 0.01 * 2.0 ** min(child.quick_deaths - 1, 7)
        )

    def _child_died(self, role: str, status: "int | None") -> None:
        child = self.children[role]
        if child.descriptor >= 0:
            self.epoll.unregister(child.descriptor)
            os.close(child.descriptor)
            child.descriptor = -1
        lived_s = time.monotonic() - child.started_s
        if status != TAKEN << 8:
            self.house.say(
                f"the {role} (process {child.pid}) died {_words(status)} after {lived_s:.1f} s"
            )
        child.pid = 0
        was_shot = status is None or status == signal.SIGKILL
        if lived_s >= 1.0:
            child.quick_deaths = 0
            self._find_or_start(role)
        elif was_shot and child.quick_deaths < _QUICK_SHOTS:
            child.quick_deaths += 1
            self._find_or_start(role)
        else:
            # Shot from outside, it is back soon, however often; dying by itself, it may not spin.
            self._retry_later(child, 0.05 if was_shot else 1.0)

    def _foreign_died(self, descriptor: int) -> None:
        for role, child in self.children.items():
            if child.descriptor == descriptor:
                self._child_died(role, None)

    def _reap(self) -> None:
        """Take every dead child: one of the house is started again, an orphan's status is put on record."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if found is None:
                break
            pid = found.si_pid
            role = next((r for r, c in self.children.items() if c.is_ours and c.pid == pid), "")
            if role:
                _, status = os.waitpid(pid, 0)
                self._child_died(role, status)
                continue
            reading = procfs.reading(pid)
            record = {
                "pid": pid,
                "ticks": reading.start_ticks if reading else 0,
                "status": pidfd.wait_status(found),
                "unix_s": time.time(),
                "mono_s": time.monotonic(),
            }
            # On record before it is reaped: killed in between, we do it again, and the same twice is harmless.
            self._record_exit(record)
            os.waitpid(pid, 0)

    def _record_exit(self, record: "dict[str, Any]") -> None:
        path = f"{self.run_dir}/{layout.EXITS}"
        try:
            files.append(path, journal.encode(record))
            if os.stat(path).st_size > _EXITS_MAX_BYTES:
                records, _ = journal.decode(files.read(path))
                files.write_atomic(path, journal.encode_all(records[-500:]))
        except OSError as error:
            self.house.say(f"cannot record an exit status: {error}")

    # -- what others ask for -----------------------------------------------------------------------

    def _take_messages(self) -> None:
        while (received := talk.receive(self.socket)) is not None:
            what, descriptors = received
            action = what.get("do")
            if action == "hold" and len(descriptors) == 1:
                old = self.held.pop(what["name"], -1)
                pidfd.close(old)
                self.held[what["name"]] = descriptors.pop()
            elif action == "drop":
                pidfd.close(self.held.pop(what.get("name", ""), -1))
            elif action == "fifos":
                self._look_at_pipes()
            elif action == "ready":
                self._notify("READY=1\nSTATUS=ready")
            elif action == "end":
                self.end_status = int(what.get("status", 0))
            for descriptor in descriptors:
                os.close(descriptor)

    def _look_at_pipes(self) -> None:
        """Hold every worker's pipe, so that what is in it survives worker, keeper and logger together."""
        directory = f"{self.run_dir}/{layout.FIFOS}"
        try:
            names = set(os.listdir(directory))
        except OSError:
            return
        for name in self.pipes.keys() - names:
            os.close(self.pipes.pop(name))
        for name in names - self.pipes.keys():
            if name.endswith((".out", ".err")):
                self.pipes[name] = os.open(
                    f"{directory}/{name}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
                )

    def _ask_keeper_down(self) -> None:
        """Pass on that the node is to end, again whenever there is a new keeper."""
        telling = (self.children["keeper"].pid, self.terms > 1)
        if self.told == telling:
            return
        patience_s = _KEEPER_PATIENCE_S / 5 if telling[1] else _KEEPER_PATIENCE_S
        if time.monotonic() - self.asked_s > patience_s and not self.told[0]:
            self._end_without_keeper()
            return
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(1.0)
            sock.connect(f"{self.run_dir}/{layout.socket('keeper')}")
            sock.send(message.encode({"do": "down", "force": telling[1], "by": "signal"}))
            if sock.recv(4096):
                self.told = telling
        except OSError:
            pass  # it is being started; the next turn of the loop tries again
        finally:
            sock.close()

    def _end_without_keeper(self) -> None:
        """No keeper lives long enough to be asked: a node that cannot work has to be able to end all the same."""
        self.house.say("no keeper answers; killing the workers")
        for pid, _ in procfs.marked("HOLDFAST_RUN", self.run_dir):
            pidfd.kill_quietly(pid)
        self.end_status = 1

    def _notify(self, text: str) -> None:
        path = os.environ.get("NOTIFY_SOCKET", "")
        if not path:
            return
        sock = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )
        try:
            sock.sendto(text.encode(), "\0" + path[1:] if path[0] == "@" else path)
        except OSError:
            pass  # whoever watches us is gone or slow; nothing here depends on it
        finally:
            sock.close()

    # -- the end -----------------------------------------------------------------------------------

    def _end(self) -> None:
        """The workers are gone; let the logger empty the pipes, then end the house and remove the run directory."""
        self._notify("STOPPING=1")
        for role in ("keeper", "watchdog"):
            self._kill(role)
        until = time.monotonic() + _DRAIN_S
        while time.monotonic() < until and _have_output(self.pipes.values()):
            self._reap()  # a logger that dies now is started again: it still has work to do
            time.sleep(0.005)
        self._kill("logger")
        # What is left are evidence processes (the watchdog's children until a moment ago).
        while time.monotonic() < until + _LAST_EVIDENCE_S and procfs.children_of(os.getpid()):
            self._reap()
            time.sleep(0.005)
        for pid in procfs.children_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        launch.remove_tree(self.run_dir)

    def _kill(self, role: str) -> None:
        child = self.children[role]
        if child.pid:
            try:
                os.kill(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was dead already
            child.pid = 0
            child.due_s = 0.0


def _have_output(pipes: "Iterable[int]") -> bool:
    """Whether there is anything in one of these pipes that is not in a file yet."""
    poll = select.poll()
    for descriptor in pipes:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _words(status: "int | None") -> str:
    if status is None:
        return "(it was not our child: status unknown)"
    if os.WIFSIGNALED(status):
        return f"by signal {os.WTERMSIG(status)}"
    return f"with status {os.WEXITSTATUS(status)}"


def main(argv: "list[str]") -> int:
    """Be the anchor of the node in ``argv[1]``."""
    run_dir = argv[1]
    if "--subreaper" not in argv:
        launch.become_subreaper()
        again = launch.command("anchor", run_dir, "--subreaper")
        os.execv(again[0], again)
    os.chdir("/")
    # Whatever descriptors a shell or a test runner left open would reach every worker.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # Our own words go where the house's output goes, like those of the others; fd 1 stays the node's output.
    pipe = os.open(f"{run_dir}/{layout.fifo(layout.HOUSE_LOG, 'err')}", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(pipe, 2)
    os.close(pipe)
    raise_open_files()
    _protect_from_oom()
    return Anchor(run_dir).run()


def _protect_from_oom() -> None:
    """The kernel shoots us last; the keeper undoes this for the workers."""
    try:
        files.append("/proc/self/oom_score_adj", b"-900")
    except OSError:
        pass  # only root may; without it we are as likely a victim as anybody of our size
