"""The demo datasets, by layout."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from abaw.core.errors import UsageError
from abaw.core.files import writing
from abaw.core.progress import Reporter
from abaw.datasets.demo import n_frames_of, write_demo
from abaw.datasets.demo.demo_ce import write_ce_demo
from abaw.datasets.demo.demo_clips import (
    write_ah_demo,
    write_emi_demo,
    write_engagement_demo,
    write_mer_demo,
    write_vd_demo,
)
from abaw.datasets.demo.demo_lsd import n_images_of, write_lsd_demo
from abaw.datasets.demo.demo_stills import n_images_of as n_stills_of
from abaw.datasets.demo.demo_stills import write_stills_demo
from abaw.datasets.demo.demo_vgaf import n_frames_of as n_clip_frames_of
from abaw.datasets.demo.demo_vgaf import write_vgaf_demo


class WriteDemo(Protocol):
    """Writes a demo dataset into a folder; `on_frames` receives the number of frames drawn since the last call."""

    def __call__(self, root: Path, size: str, seed: int, *, on_frames: Callable[[int], None]) -> None:
        """Write it."""


@dataclass(frozen=True)
class DemoKind:
    """One of the demo datasets.

    Attributes:
        write: writes it.
        n_frames: number of frames that it draws, by size and seed.
        heads: a head to start with for each task that it has labels for; none for sets of stills, which stay as they are.
        fold: to train and validate on, where there is no official split.
    """

    write: WriteDemo
    n_frames: Callable[[str, int], int]
    heads: dict[str, str]
    fold: str = ""


DEMO_KINDS: dict[str, DemoKind] = {
    "aff-wild2": DemoKind(write_demo, n_frames_of, dict.fromkeys(("va", "expr", "au"), "transformer")),
    "lsd": DemoKind(write_lsd_demo, n_images_of, {"lsd": "mlp"}),
    "stills": DemoKind(write_stills_demo, n_stills_of, {}),
    "vgaf": DemoKind(write_vgaf_demo, n_clip_frames_of, {"vgaf": "transformer"}),
    "ah": DemoKind(write_ah_demo, n_clip_frames_of, {"ah": "transformer"}),
    "vd": DemoKind(write_vd_demo, n_clip_frames_of, {"vd": "transformer"}),
    "emi": DemoKind(write_emi_demo, n_clip_frames_of, {"emi": "transformer"}),
    "ce": DemoKind(write_ce_demo, n_frames_of, {"expr": "transformer"}),
    "mer": DemoKind(write_mer_demo, n_clip_frames_of, {"mer": "transformer"}, fold="1/3"),
    "engagement": DemoKind(write_engagement_demo, n_clip_frames_of, {"engagement": "transformer"}),
}


def make_demo(data: Path, kind: DemoKind, size: str, seed: int, reporter: Reporter) -> None:
    """Make a demo dataset, whole or not at all; one that is already there is kept."""
    if data.exists():
        return
    with writing(data) as partial:
        reporter.start("draw faces", kind.n_frames(size, seed), "frames")
        kind.write(partial, size, seed, on_frames=reporter.advance)
        reporter.finish()


def get_demo_kind(name: str) -> DemoKind:
    """The demo called `name`; a UsageError lists the known ones."""
    if name not in DEMO_KINDS:
        raise UsageError(f"Unknown demo {name!r}. Choose one of: {', '.join(DEMO_KINDS)}.")
    return DEMO_KINDS[name]
