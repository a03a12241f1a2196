"""How long work tells of itself: the stages call a Reporter, the command line draws it."""

from typing import Protocol


class Reporter(Protocol):
    """Receives progress."""

    def start(self, label: str, total: int, unit: str) -> None:
        """A piece of work begins: `total` units of it."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` units are done; `note` is a short line about them."""

    def finish(self) -> None:
        """The piece of work is over, whether all units were done or not."""

    def warn(self, sentence: str) -> None:
        """Something that the user should know before the work goes on."""


class Silent:
    """A Reporter that drops everything."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Nothing."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def warn(self, sentence: str) -> None:
        """Nothing."""
