"""`holdfast jobs top`: the queue as it works: figures, rates, processes, and what runs just now. Ctrl-C ends the looking.

Redrawn in place on a terminal, one picture elsewhere. A store that is away is said and waited for: the moment in which it comes back is
what somebody who watches wants to see.
"""

import sys
import time

from holdfast.cli import jobs_look, jobs_store, jobs_table, output, terminal
from holdfast.cli.words import parse_span, span
from holdfast.model.errors import UsageError
from holdfast.model.jobs import StoreDownError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from holdfast.jobs.store import Store
    from holdfast.model.jobs import Counts

_SHORTEST_S = 0.1
#: Rates are taken over about so long: over one second they jump about.
_RATE_S = 5.0


def run(args: "Namespace") -> int:
    """Show the queue until somebody has seen enough."""
    every_s = parse_span(args.every)
    if every_s < _SHORTEST_S:
        raise UsageError(f"--every {args.every} is too often: at least {_SHORTEST_S:g}s")
    is_live = not (args.once or args.json) and sys.stdout.isatty()
    with jobs_store.opened(args) as store:
        top = Top(store, terminal.paint_for(args))
        if args.json:
            output.document(top.document())
        elif not is_live:
            columns, height = terminal.size_of()
            sys.stdout.write("\n".join(top.picture(columns, height)) + "\n")
        else:
            _watch(top, every_s)
    return 0


def _watch(top: "Top", every_s: float) -> None:
    block = terminal.Block(sys.stdout)
    sys.stdout.write("\x1b[?25l")  # no cursor jumping about
    try:
        while True:
            columns, height = terminal.size_of()
            try:
                lines = top.picture(columns, height - 1)
            except StoreDownError as error:
                lines = [
                    top.paint(f"the store is away: {error}", "red"),
                    "waiting for it; Ctrl-C ends",
                ]
            block.draw(lines)
            time.sleep(every_s)
    except KeyboardInterrupt:
        pass  # the usual way out
    finally:
        sys.stdout.write("\x1b[?25h\n")
        sys.stdout.flush()


class Top:
    """The queue, looked at again and again."""

    def __init__(self, store: "Store", paint: terminal.Paint) -> None:
        self._store = store
        self.paint = paint
        self._seen: list[tuple[float, int, int]] = []  # when, processed, failed

    def document(self) -> "dict[str, Any]":
        """Return one look for a program."""
        now_s = time.time()
        counts = self._store.counts()
        return {
            "store": self._store.url,
            **jobs_table.counts_row(counts),
            "workers": jobs_look.owners(self._store, now_s),
        }

    def picture(self, width: int, height: int) -> "list[str]":
        """Return one look for a person, made to fit: what runs longest is shown first."""
        now_s = time.time()
        counts = self._store.counts()
        owners = jobs_look.owners(self._store, now_s)
        paint = self.paint
        rates = self._rates(counts)
        lines = [terminal.clip(f"{paint(self._store.url, 'bold')}  {rates}", width)]
        lines += ["", *jobs_table.stats(counts, width, paint)]
        lines += ["", *jobs_table.owners_table(owners, width, paint, now_s)]
        running = sorted(
            (
                (float(one["running_since_unix_s"] or now_s), one, owner)
                for owner in owners
                for one in owner["running"]
            ),
            key=lambda found: found[0],
        )
        room = max(3, height - len(lines) - 3)
        if running:
            lines += ["", paint("RUNNING", "bold")]
        for since_s, one, owner in running[:room]:
            line = f"{span(now_s - since_s):>6}  {one['jid']}  {one['class']}  {owner['worker'] or owner['owner']}"
            lines.append(terminal.clip(line, width))
        if len(running) > room:
            lines.append(paint(f"… and {len(running) - room} more", "dim"))
        return lines

    def _rates(self, counts: "Counts") -> str:
        now_s = time.monotonic()
        self._seen.append((now_s, counts.processed, counts.failed))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= _RATE_S:
            del self._seen[0]
        then_s, processed, failed = self._seen[0]
        passed_s = now_s - then_s
        if passed_s < _SHORTEST_S / 2:
            return ""
        done, wrong = (counts.processed - processed) / passed_s, (counts.failed - failed) / passed_s
        said = f"{done:,.0f} jobs/s" if done >= 10 or not done else f"{done:.1f} jobs/s"
        return said + (self.paint(f", {wrong:,.1f} failures/s", "red") if wrong else "")
