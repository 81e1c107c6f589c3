"""`holdfast profile WORKER`: where does it spend its time, right now? A flame graph without touching the program."""

import os
import sys

from holdfast.cli import live, output, terminal
from holdfast.cli.commands import say
from holdfast.cli.words import parse_span
from holdfast.diagnosis import owners, profile
from holdfast.diagnosis.lastwords import split_frame
from holdfast.evidence.collectors import healthy
from holdfast.evidence.collectors import profile as sampling
from holdfast.model.errors import NodeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_LONGEST_S = 3600.0
#: A sampler that has seen much, on a busy machine, writes for seconds.
_WRITING_S = 30.0
_ENDINGS = (".svg", ".json", ".txt", ".collapsed")


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    live.add_worker(parser)
    parser.add_argument("--for", dest="span", metavar="SPAN", default="5s", help="how long (default: 5s)")  # fmt: skip
    parser.add_argument("--native", action="store_true", help="with C code; pauses the program for each sample")  # fmt: skip
    parser.add_argument("--idle", action="store_true", help="with the threads that wait, and where")  # fmt: skip
    parser.add_argument("--open", action="store_true", help="show the flame graph in the browser")
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help=".svg flame graph, .json for speedscope, .txt collapsed stacks (default: WORKER.svg)",
    )  # fmt: skip
    parser.add_argument(
        "--diff", action="store_true", help="what has more of the time than in the profile of a good day"
    )  # fmt: skip
    parser.epilog = (
        "The program is not paused (but for --native) and not changed; py-spy reads its memory, 50 times a second.\n"
        "Programs in other languages are sampled with perf, where it is installed."
    )


def run(args: "Namespace") -> int:
    """Sample, write the file, and print the functions that take the time."""
    seconds = parse_span(args.span)
    if not 0.1 <= seconds <= _LONGEST_S:
        msg = f"--for {args.span}: between 0.1s and 1h"
        raise UsageError(msg)
    target = live.find(args)
    path = args.output or f"{target.name.replace('/', '-')}.svg"
    ending = os.path.splitext(path)[1]
    if ending not in _ENDINGS:
        msg = f"{path}: the ending says what is written: {', '.join(_ENDINGS)}"
        raise UsageError(msg)
    program = target.python()
    pids = live.family(target)
    running = sampling.start(
        target.pid, seconds, target.run_dir, interpreter=program, is_python=bool(program), native=args.native,
        idle=args.idle, below=len(pids) > 1,
    )  # fmt: skip
    if isinstance(running, str):
        raise _cannot(target.name, running)
    progress = terminal.Progress(sys.stderr, is_quiet=args.json)
    progress.show(f"{target.name} (pid {target.pid}): taking samples for {args.span} …")
    try:
        found, why = running.finish(_WRITING_S)
    except BaseException:
        running.abandon()  # Ctrl-C: no sampler is left behind
        raise
    finally:
        progress.end()
    if found is None:
        raise _cannot(target.name, why)
    if not found.rows:
        # No picture of nothing: an older one of the same name may be worth more.
        _show_nothing(args, target, found, can_be_idle=bool(program))
        return 0
    title = f"{target.name}, {found.seconds:.1f} s, {found.samples()} samples"
    made = sampling.outputs(found, title)[ending]()
    if ending == ".json":
        from json import dumps

        made = dumps(made)
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(made)
    if args.diff:
        _show_grown(args, target, found, path)
    else:
        _show(args, target, found, path)
    if args.open:
        import webbrowser

        if ending != ".svg" or not webbrowser.open(f"file://{os.path.abspath(path)}"):
            say(f"not opened: there is no browser here, or {path} is no picture")
    return 0


def _show_nothing(
    args: "Namespace", target: live.Target, found: profile.Profile, *, can_be_idle: bool
) -> None:  # fmt: skip
    if args.json:
        output.document({
            "worker": target.name, "pid": target.pid, "seconds": round(found.seconds, 2), "samples": 0, "file": None,
            **({"grown": []} if args.diff else {"functions": [], "hot": None}),
        })  # fmt: skip
        return
    print(f"{target.name} (pid {target.pid}) did nothing for {found.seconds:.1f} s: it waits all the time")  # fmt: skip
    print(f"  where it waits:           holdfast stacks {target.name}")
    if can_be_idle and not args.idle:
        print(f"  how often it waits where: holdfast profile {target.name} --idle")


def _show_grown(args: "Namespace", target: live.Target, found: profile.Profile, path: str) -> None:
    before = healthy.read(target.state_dir, target.name)
    if before is None:
        msg = (
            f'there is no profile of a good day of worker "{target.name}"\n'
            "  it is taken once a day, of a Python program that has been ready for a minute, where py-spy is installed"
        )
        raise NodeError(msg)
    rows = profile.grown(found, before)
    if args.json:
        output.document({
            "worker": target.name, "pid": target.pid, "seconds": round(found.seconds, 2), "samples": found.samples(),
            "file": os.path.abspath(path), "grown": rows,
        })  # fmt: skip
        return
    paint = terminal.paint_for(args)
    width, _ = terminal.size_of()
    print(paint(" then   now  function", "dim") if rows else "nothing has more of the time than on a good day")  # fmt: skip
    directory = str(target.entry.get("directory") or "")
    for row in rows:
        file, _, function = split_frame(str(row["function"]))
        name = f"{function}  {owners.short_path(file, directory)}" if function else file
        print(terminal.clip(f"{row['then']:5.0%} {row['now']:5.0%}  {name}", width))
    print(f"{found.samples()} samples in {found.seconds:.1f} s, compared with {before.samples()} -> {path}")  # fmt: skip


def _cannot(worker: str, why: str) -> NodeError:
    return NodeError(
        f'no profile of worker "{worker}": {why}\n'
        "  what this machine allows:  holdfast doctor\n"
        f"  where it stands:           holdfast stacks {worker}"
    )


def _show(args: "Namespace", target: live.Target, found: profile.Profile, path: str) -> None:
    rows = profile.table(found, owners.is_machinery)
    hot = profile.hottest(found, owners.is_machinery)
    if args.json:
        output.document({
            "worker": target.name, "pid": target.pid, "seconds": round(found.seconds, 2), "samples": found.samples(),
            "file": os.path.abspath(path), "functions": rows,
            "hot": {"where": hot.path[-1], "share": round(hot.share, 3), "thread": hot.thread} if hot else None,
        })  # fmt: skip
        return
    paint = terminal.paint_for(args)
    width, _ = terminal.size_of()
    if not rows:
        print(f"{target.name}: nothing ran in {found.seconds:.1f} s: it waits all the time  (holdfast stacks {target.name})")  # fmt: skip
    else:
        print(paint("  own  total  function", "dim"))
    directory = str(target.entry.get("directory") or "")
    for row in rows:
        file, _, function = split_frame(str(row["function"]))
        name = f"{function}  {owners.short_path(file, directory)}" if function else file
        print(terminal.clip(f"{row['own']:5.0%}  {row['total']:5.0%}  {name}", width))
    if hot is not None:
        print(f"\n{hot.share:.0%} of the time: {paint(hot.path[-1], 'bold')}")
    print(f"{found.samples()} samples in {found.seconds:.1f} s -> {path}")
