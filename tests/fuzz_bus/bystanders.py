"""A healthy pair of sessions that calls without a pause while strangers misbehave, and what it noticed of that."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from router.peers import CALL, DEADLINE_S, INVOCATION, RESULT, YIELD, RawSocketPeer, WebSocketPeer

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop.stage import RouterProcess


class Bystanders:
    """A caller over WebSocket JSON and a callee over RawSocket MessagePack, each in a thread."""

    def __init__(self, router: RouterProcess, listener: str) -> None:
        self._callee = RawSocketPeer(router.connect(listener), "msgpack")
        self._callee.join()
        self._callee.register("com.healthy.echo")
        self._caller = WebSocketPeer(router.connect(listener), "json")
        self._caller.join()
        self.took_s: list[float] = []
        self.faults: list[str] = []
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(of,), daemon=True)
            for of in (self._serve, self._call)
        ]
        self._callee.sock.settimeout(None)
        self._caller.sock.settimeout(DEADLINE_S)
        for thread in self._threads:
            thread.start()

    def _guarded(self, of: Callable[[], None]) -> None:
        try:
            of()
        except Exception as error:  # noqa: BLE001 -- any fault that it sees is a finding
            if not self._is_over.is_set():
                self.faults.append(f"{type(error).__name__}: {error}")

    def _serve(self) -> None:
        while True:
            message = self._callee.receive()
            assert message[0] == INVOCATION, message
            self._callee.send(YIELD, message[1], {}, message[4])

    def _call(self) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            began_s = time.perf_counter()
            self._caller.send(CALL, number, {}, "com.healthy.echo", [number, "grüße"])
            answer = self._caller.receive()
            self.took_s.append(time.perf_counter() - began_s)
            assert answer[:2] == [RESULT, number], answer
            assert answer[3] == [number, "grüße"], answer
            # Pauses leave the processor to the offenders; the wait itself is not measured.
            self._is_over.wait(0.002)

    def since(self, count: int) -> list[float]:
        """Seconds that each call took after the first `count`."""
        return self.took_s[count:]

    def end(self) -> None:
        self._is_over.set()
        self._threads[1].join(DEADLINE_S)
        self._callee.sock.shutdown(2)
        self._threads[0].join(DEADLINE_S)
        self._callee.close()
        self._caller.close()
