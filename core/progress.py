"""Progress reporting. Stages call a `Reporter`, which the command line renders; a `Summary` lists what a run did."""

import threading
import time
from dataclasses import dataclass, field
from typing import Literal, Protocol

from abaw.core.claim_files import LostClaimError
from abaw.core.errors import disk_trouble, first_line

AGAIN = "run the same command again"


class Reporter(Protocol):
    """Receives progress."""

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        """A step begins: `total` units of work, of which `done` were done before, perhaps by another process."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` units are done; `note` is a short line about them."""

    def finish(self) -> None:
        """The step is over, whether or not all units were done."""

    def log(self, line: str) -> None:
        """The result of a part of the step: a line that stays."""

    def warn(self, sentence: str) -> None:
        """Something that the user should know before the work continues."""


class Silent:
    """A `Reporter` that reports nothing."""

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def log(self, line: str) -> None:
        """Do nothing."""

    def warn(self, sentence: str) -> None:
        """Do nothing."""


class OnFrames(Protocol):
    """Called with the number of frames that are done, and a short line about them; `Reporter.advance` is one."""

    def __call__(self, n: int, note: str = "", /) -> None:
        """Count them."""


class Ticker:
    """Shows once a second what goes on within one unit of a step, and for how long, while a `with` block lasts."""

    def __init__(self, reporter: Reporter, every_s: float = 1.0) -> None:
        self._reporter, self._every_s = reporter, every_s
        self._what, self._began = "", time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Ticker":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def doing(self, what: str) -> None:
        """Something else begins."""
        self._what, self._began = what, time.monotonic()
        self._show()

    def _tick(self) -> None:
        while not self._over.wait(self._every_s):
            self._show()

    def _show(self) -> None:
        self._reporter.advance(0, f"{self._what}, {time.monotonic() - self._began:.0f} s")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during the training of a run, after its state was written.

    Attributes:
        run: name of the run that continues from there.
    """

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run


@dataclass(frozen=True)
class Stop:
    """Why a run ended early.

    Attributes:
        reason: for code to branch on.
        sentence: for people; without the final full stop.
    """

    reason: Literal["interrupted", "disk", "out of memory", "device failed", "cluster failed", "claim lost"]
    sentence: str

    @classmethod
    def interrupted(cls) -> "Stop":
        """The user pressed Ctrl-C."""
        return cls("interrupted", f"interrupted; {AGAIN} to continue")

    @classmethod
    def of_device(cls, error: Exception) -> "Stop":
        """The device failed; only a new process can use it again."""
        return cls("device failed", f"the device failed ({first_line(error)}); {AGAIN} to continue")

    @classmethod
    def of_claim(cls, error: LostClaimError) -> "Stop":
        """Another process took over what this one was writing."""
        return cls("claim lost", str(error).rstrip("."))

    @classmethod
    def of_disk(cls, error: OSError, target: str) -> "Stop | None":
        """A disk takes no more data, see `disk_trouble`; None if the error concerns only one file."""
        trouble = disk_trouble(error, target)
        return cls("disk", trouble) if trouble else None


@dataclass
class Summary:
    """What a run did.

    Attributes:
        done, skipped: videos written by this run; videos that were already complete.
        failed: video -> reason; this run wrote nothing for it.
        failed_backbones: feature -> reason why its backbone was left out.
        broken_frames: a sentence for each image that could not be read; its frame is missing.
        n_frames: frames that went through the networks.
        label_errors: sentences about label files that are not in the store.
        warnings: assumptions made about individual videos, and other remarks that are not errors.
        without_sound: videos that an audio backbone wrote without any row.
        without_text: videos that a text backbone wrote without any row.
        people: by video, names of the people whose faces were found in it; of `prepare` alone.
        stopped: why the run ended early; None if it did not.
        waited_s: seconds that it waited for each of its parts, such as "decode" and "network".
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
    without_text: list[str] = field(default_factory=list)
    people: dict[str, tuple[str, ...]] = field(default_factory=dict)
    stopped: Stop | None = None
    waited_s: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def is_interrupted(self) -> bool:
        """True if Ctrl-C or SIGTERM ended the run."""
        return self.stopped is not None and self.stopped.reason == "interrupted"

    @property
    def ok(self) -> bool:
        """True if nothing failed, broke or was cut short."""
        return not (self.failed or self.failed_backbones or self.broken_frames or self.label_errors or self.stopped)

    @property
    def device_failed(self) -> bool:
        """True if nothing else can run on the device in this process."""
        return self.stopped is not None and self.stopped.reason == "device failed"

    def raise_if_interrupted(self) -> None:
        """Raise a KeyboardInterrupt if Ctrl-C ended the run."""
        if self.is_interrupted:
            raise KeyboardInterrupt

    def add(self, other: "Summary") -> None:
        """Merge the summary of another part of the same run."""
        self.failed |= other.failed
        self.done = [name for name in dict.fromkeys(self.done + other.done) if name not in self.failed]
        self.broken_frames += other.broken_frames
        self.n_frames += other.n_frames
        self.warnings = list(dict.fromkeys(self.warnings + other.warnings))
        self.without_sound += other.without_sound
        self.without_text += other.without_text
        self.stopped = self.stopped or other.stopped
        for part, seconds in other.waited_s.items():
            self.waited_s[part] = self.waited_s.get(part, 0.0) + seconds
