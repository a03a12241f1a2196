"""The demo datasets by the layout they are in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from abaw.core.errors import UsageError
from abaw.core.files import clear
from abaw.core.progress import Reporter
from abaw.core.tasks import LSD_CLASSES
from abaw.datasets.demo import n_frames_of, write_demo
from abaw.datasets.demo.demo_lsd import SIZES as LSD_SIZES
from abaw.datasets.demo.demo_lsd import write_lsd_demo
from abaw.datasets.demo.demo_vgaf import n_frames_of as n_clip_frames_of
from abaw.datasets.demo.demo_vgaf import write_vgaf_demo

Progress = Callable[[int], None]


@dataclass(frozen=True)
class DemoKind:
    """One of the demo datasets.

    Attributes:
        write: makes it in a folder, of a size and seed, and tells how many frames were drawn since it last told.
        n_frames: how many frames it draws in all.
        heads: the head to begin with, by the tasks that it has labels for.
    """

    write: Callable[[Path, str, int, Progress], None]
    n_frames: Callable[[str, int], int]
    heads: dict[str, str]


def _write_faces(root: Path, size: str, seed: int, on_frames: Progress) -> None:
    write_demo(root, size, seed, on_frames=on_frames)


def _write_images(root: Path, size: str, seed: int, on_frames: Progress) -> None:
    write_lsd_demo(root, size, seed)
    on_frames(_n_images(size, seed))


def _write_clips(root: Path, size: str, seed: int, on_frames: Progress) -> None:
    write_vgaf_demo(root, size, seed, on_frames=on_frames)


def _n_images(size: str, seed: int) -> int:
    return len(LSD_CLASSES) * sum(LSD_SIZES.get(size, ()))


DEMO_KINDS: dict[str, DemoKind] = {
    "aff-wild2": DemoKind(_write_faces, n_frames_of, dict.fromkeys(("va", "expr", "au"), "transformer")),
    "lsd": DemoKind(_write_images, _n_images, {"lsd": "mlp"}),
    "vgaf": DemoKind(_write_clips, n_clip_frames_of, {"vgaf": "transformer"}),
}


def make_demo(data: Path, kind: DemoKind, size: str, seed: int, reporter: Reporter) -> None:
    """Make a demo dataset, whole or not at all; one that is already there is kept."""
    if data.exists():
        return
    partial = clear(data.with_name(f"{data.name}.partial"))
    reporter.start("draw faces", kind.n_frames(size, seed), "frames")
    kind.write(partial, size, seed, reporter.advance)
    reporter.finish()
    partial.rename(data)


def get_demo_kind(name: str) -> DemoKind:
    """The demo called `name`; a UsageError lists the known ones."""
    if name not in DEMO_KINDS:
        raise UsageError(f"Unknown demo {name!r}. Choose one of: {', '.join(DEMO_KINDS)}.")
    return DEMO_KINDS[name]
