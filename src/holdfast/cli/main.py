"""What happens between typing ``holdfast …`` and the exit status?

Finds the command, imports only its module, runs it, and turns every error into words and a status:
0 done, 1 failed, 2 usage or configuration, 3 not running, 4 already running, 5 damaged state; 70 a mistake of
ours, 130 interrupted, 141 nobody reads the output any more. Leaves out what the commands do.
"""

import os
import sys

from holdfast.model.errors import HoldfastError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

OK, FAILED, INTERNAL, INTERRUPTED, PIPE_CLOSED = 0, 1, 70, 130, 141


def entry() -> int:
    """Run the command line of this process."""
    return main(sys.argv[1:])


def main(argv: "list[str]") -> int:
    """Run one command line and return its exit status."""
    _make_streams_safe()
    try:
        status = _run(argv)
        sys.stdout.flush()
    except HoldfastError as error:
        return _refused(str(error), error.exit_status, argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`holdfast logs | head`): nothing is left to say, nor at exit when Python flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return PIPE_CLOSED
    except OSError as error:
        if error.filename is None or _is_debugging():
            return _unexpected(error)
        return _refused(f"{os.fsdecode(error.filename)}: {error.strerror}", FAILED, argv)
    except Exception as error:  # noqa: BLE001 -- the outermost loop: no traceback without being asked for
        return _unexpected(error)
    return status


def _run(argv: "list[str]") -> int:
    from holdfast.cli import commands

    at = commands.find_command(argv)
    if at < 0:
        if "--version" in argv:
            argv, at = ["version", *(word for word in argv if word != "--version")], 0
        elif not argv or "-h" in argv or "--help" in argv:
            print(commands.overview())
            return OK if argv else UsageError.exit_status
        else:
            msg = f"no command among: {' '.join(argv)}\n  holdfast --help"
            raise UsageError(msg)
    name = argv[at]
    if name == "help":
        return _run([*argv[at + 1 : at + 2], "--help"])
    if name not in commands.COMMANDS:
        from holdfast.cli.words import nearest

        meant = nearest(name, [known for known in commands.COMMANDS if not known.startswith("_")])
        hint = f'Did you mean "holdfast {meant}"?' if meant else "holdfast --help lists them"
        msg = f'there is no command "{name}"\n  {hint}'
        raise UsageError(msg)
    args = _parse(name, [*argv[:at], *argv[at + 1 :]])
    return OK if args is None else commands.load(name).run(args)


def _parse(name: str, rest: "list[str]") -> "Namespace | None":
    from holdfast.cli import commands

    try:
        return commands.parser_for(name).parse_args(rest)
    except SystemExit:  # --help has printed itself; errors raise UsageError
        return None


def _refused(text: str, status: int, argv: "list[str]") -> int:
    """Tell a person on stderr, and a program on stdout where it asked for JSON."""
    _to_stderr(text)
    if "--json" in argv:
        from holdfast.cli import output

        try:
            output.document({"error": {"message": text, "exit_status": status}})
            sys.stdout.flush()
        except BrokenPipeError:
            return PIPE_CLOSED
    return status


def _unexpected(error: Exception) -> int:
    if _is_debugging():
        import traceback

        _to_stderr("".join(traceback.format_exception(error)).rstrip())
    else:
        first = str(error).split("\n", 1)[0]
        _to_stderr(
            f"holdfast made a mistake: {type(error).__name__}: {first}\n"
            "  run it again with HOLDFAST_DEBUG=1 for the traceback, and please report it"
        )
    return INTERNAL


def _is_debugging() -> bool:
    return os.environ.get("HOLDFAST_DEBUG", "") not in ("", "0")


def _to_stderr(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (BrokenPipeError, ValueError):
        pass  # nobody listens; the exit status still tells


def _make_streams_safe() -> None:
    """Let no stream be the reason for a failure: closed ones swallow, narrow encodings replace."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
