"""How long work tells of itself: the stages call a Reporter, the command line draws it."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from abaw.core.errors import disk_trouble, first_line

AGAIN = "run the same command again"


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


@dataclass(frozen=True)
class Stop:
    """Why a run ended early.

    Attributes:
        reason: for code to decide by.
        sentence: for people; without a full stop.
    """

    reason: Literal["interrupted", "disk", "out of memory", "device failed", "cluster failed"]
    sentence: str

    @classmethod
    def interrupted(cls) -> "Stop":
        """By Ctrl-C."""
        return cls("interrupted", f"interrupted; {AGAIN} to go on")

    @classmethod
    def of_device(cls, error: Exception) -> "Stop":
        """The device failed in a way that only a new process gets over."""
        return cls("device failed", f"the device failed ({first_line(error)}); {AGAIN} to go on")

    @classmethod
    def of_disk(cls, error: OSError, what: str) -> "Stop | None":
        """Nothing more can be written to a disk, see `disk_trouble`; None if the error is about one file alone."""
        trouble = disk_trouble(error, what)
        return cls("disk", trouble) if trouble else None


@dataclass
class Summary:
    """What a run did.

    Attributes:
        done, skipped: videos written now, videos that were complete before.
        failed: video -> sentence; nothing of it was written by this run.
        failed_backbones: feature -> sentence; its backbone was left out.
        broken_frames: a sentence for each image that could not be read; its frame is absent.
        n_frames: frames that went through the networks.
        label_errors: sentences about label files that are not in the store.
        warnings: sentences about videos that were assumed something of.
        without_sound: videos that were written by an audio backbone with no row present.
        stopped: why the run ended early; None if it did not.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    failed_backbones: dict[str, str] = field(default_factory=dict)
    broken_frames: list[str] = field(default_factory=list)
    n_frames: int = 0
    label_errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    without_sound: list[str] = field(default_factory=list)
    stopped: Stop | None = None

    @property
    def ok(self) -> bool:
        """True if nothing failed, broke or was cut short."""
        return not (self.failed or self.failed_backbones or self.broken_frames or self.label_errors or self.stopped)

    @property
    def device_failed(self) -> bool:
        """True if the device would fail in whatever else this process asked of it."""
        return self.stopped is not None and self.stopped.reason == "device failed"

    def add(self, other: "Summary") -> None:
        """Take over what another part of the same run did."""
        self.failed |= other.failed
        self.done = [name for name in dict.fromkeys(self.done + other.done) if name not in self.failed]
        self.broken_frames += other.broken_frames
        self.n_frames += other.n_frames
        self.warnings = list(dict.fromkeys(self.warnings + other.warnings))
        self.without_sound += other.without_sound
        self.stopped = self.stopped or other.stopped
