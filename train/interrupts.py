"""Ctrl-C and SIGTERM, which wait until the work is at a point from which it can continue."""

import signal
import threading
from types import FrameType


class Interrupts:
    """Inside the block, a signal to stop raises a KeyboardInterrupt: at once, or while `waiting` is True, on `check`.

    A second signal is never delayed. Signals that the program handles itself, or ignores, stay as they are.

    Attributes:
        waiting: signals wait for `check`.
        pending: a signal waits.
    """

    def __init__(self) -> None:
        self.waiting = self.pending = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for number in (signal.SIGINT, signal.SIGTERM):
                if (before := signal.getsignal(number)) in (signal.default_int_handler, signal.SIG_DFL):
                    signal.signal(number, self._handle)
                    self._before[number] = before
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise the KeyboardInterrupt that waits, if any."""
        if self.pending:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pending or not self.waiting:
            raise KeyboardInterrupt
        self.pending = True
