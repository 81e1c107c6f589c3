"""What has ended and is not settled yet, what was settled lately, and how the two agree with a store that was away.

Ends are collected and go to the store with the next claim. Killed between the two, the recorder has them. A store that came back may
know less than it did (a Redis that lost its last second), or more than we heard of (its answer was lost): :meth:`Unsettled.reconcile`
goes through both lists.
"""

from collections import deque

from holdfast.model.jobs import ACK, BACK, DEAD, DROP, Settle, StoreRefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.jobs.store import Store
    from holdfast.model.jobs import Lease

    Rich = tuple[Lease, Settle]

#: So many settlements are kept, as long as they are not larger than this all together.
KEPT, KEPT_BYTES = 4096, 8 << 20


class Unsettled:
    """The ends of this process's leases. Anybody may append to :attr:`done` and :attr:`rich`; the rest is for who holds the fetch lock."""

    __slots__ = ("_kept", "_kept_bytes", "_kept_jobs", "done", "held", "rich")

    def __init__(self) -> None:
        self.done: deque[Lease] = deque()  #: the fast way: they ran to their end, and that is all
        self.rich: deque[Rich] = deque()
        self.held: dict[int, Lease] = {}  #: all that was claimed and is not settled
        self._kept: deque[tuple[list[Lease], list[Rich], int]] = deque()
        self._kept_jobs = self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self.done) + len(self.rich)

    def take(self) -> "tuple[list[Lease], list[Rich]]":
        """Take all that has ended until now."""
        done, rich = self.done.popleft, self.rich.popleft
        return [done() for _ in range(len(self.done))], [rich() for _ in range(len(self.rich))]

    def put_back(self, done: "list[Lease]", rich: "list[Rich]") -> None:
        """Take back what could not be settled, or perhaps was."""
        self.done.extendleft(reversed(done))
        self.rich.extendleft(reversed(rich))

    def settled(self, done: "list[Lease]", rich: "list[Rich]") -> None:
        """Remember what was settled, for a while."""
        forget = self.held.pop
        for lease in done:
            forget(lease.token, None)
        for lease, _ in rich:
            forget(lease.token, None)
        size = sum([len(lease.raw) for lease in done]) + sum([len(one.raw) for one, _ in rich])
        if size > KEPT_BYTES:
            return
        self._kept.append((done, rich, size))
        self._kept_jobs += len(done) + len(rich)
        self._kept_bytes += size
        while self._kept_jobs > KEPT or self._kept_bytes > KEPT_BYTES:
            old_done, old_rich, old_size = self._kept.popleft()
            self._kept_jobs -= len(old_done) + len(old_rich)
            self._kept_bytes -= old_size

    def settle_singly(self, store: "Store", owner: str) -> "list[Lease]":
        """Settle one by one what the store has refused as a whole, and less of what it refuses again.

        A result that the store does not take is not kept, a job that it does not take as it has become stays as it was, among the dead.

        Returns:
            Those of which less was kept.

        Raises:
            StoreRefusedError: It takes nothing at all.
            StoreDownError: It is away.
            FencedError: We were declared dead.
        """
        less = []
        while self.rich:
            lease, settle = self.rich[0]
            try:
                store.claim(owner, [], 0, 0, [], [settle])
            except StoreRefusedError:
                end = settle.end if settle.end in (ACK, BACK, DROP) else DEAD
                store.claim(owner, [], 0, 0, [], [Settle(lease.token, end, at_s=settle.at_s)])
                less.append(lease)
            self.rich.popleft()
            self.held.pop(lease.token, None)
        return less

    def reconcile(self, store: "Store", owner: str) -> "set[int]":
        """Agree with a store that was away about who holds what.

        Args:
            store: It answers again.
            owner: Who asks.

        Returns:
            Tokens of what we hold here and nobody can give us back: others may have it, or it is gone.

        Raises:
            StoreDownError: It is away again; to be called anew.
        """
        there = {lease.token: lease for lease in store.held(owner)}
        late_done = {lease.token: lease for done, _, _ in self._kept for lease in done}
        late_rich = {one[0].token: one for _, rich, _ in self._kept for one in rich}
        # What it has forgotten that it ever gave it to us lies in its queue again, and somebody would run it a second time;
        # also what had ended and was settled.
        known = {
            **self.held,
            **late_done,
            **{token: lease for token, (lease, _) in late_rich.items()},
        }
        missing = [lease for token, lease in sorted(known.items()) if token not in there]
        lost = set(store.readopt(owner, missing)) if missing else set()
        there.update((lease.token, lease) for lease in missing if lease.token not in lost)
        for token in sorted(there.keys() - self.held.keys(), reverse=True):
            if token in late_done:
                self.done.append(late_done[token])
            elif token in late_rich:
                self.rich.append(late_rich[token])
            else:
                # The answer that brought this lease never arrived here.
                self.rich.append((there[token], Settle(token, BACK)))
            self.held[token] = there[token]
        gone = lost & self.held.keys()
        for token in gone:
            del self.held[token]
        if gone:
            done, rich = self.take()
            self.done.extend([lease for lease in done if lease.token not in gone])
            self.rich.extend([one for one in rich if one[0].token not in gone])
        return gone
