"""Extraction end to end: against the bare model, and against the usual way to read and write frames.

python -m benchmarks.extraction
"""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from abaw.backbones.spec import IMAGENET_MEAN, IMAGENET_STD
from abaw.datasets.frames import FrameSource
from abaw.extract.feature import Feature
from abaw.extract.request import BATCH_SIZES
from abaw.media.images import read_image
from benchmarks.crops import draw_crops, make_video
from benchmarks.measure import Report, Requirement, Timing, in_turns, median_ratio
from benchmarks.nothing import Nothing, extract, make_feature
from benchmarks.nothing_family import register_nothing

BATCH_SIZE = BATCH_SIZES["cpu"]
MODELS = {"vit-tiny-mean": 10, "vit-mean": 3}  # batches of a run
N_VIDEOS, N_FRAMES = 4, 2000  # for the network that does nothing
N_USUAL_FRAMES = 500
METHOD = [
    f"Batches of {BATCH_SIZE}; PyTorch's default number of threads for `abaw` and for the bare model, one for the "
    "usual way; files in the page cache.",
    "`abaw extract` is its Runner on real 112x112 JPEG files into a new store; "
    f"{' and '.join(f'{model} on {n * BATCH_SIZE} frames' for model, n in MODELS.items())} run untrained in float32, their "
    "bare forward on as many ready tensors.",
    f"The network that does nothing gives 768 of its input values: {N_VIDEOS} videos of {N_FRAMES} frames.",
    "The usual way is a plain loop in one thread: Pillow open, Resize(224), ToTensor, Normalize, no network, "
    "one .npy per frame. Rates per core are frames by second of processor time.",
]


def usual_way(crops: Sequence[Path], out: Path) -> None:
    """Read, prepare and write frames as published code does, in one thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second one would cost such small images more than it gives
    prepare = transforms.Compose(
        [transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    )
    network = Nothing()
    out.mkdir()
    for crop in crops:
        inputs = prepare(Image.open(crop).convert("RGB")).unsqueeze(0)
        np.save(out / f"{crop.stem}.npy", network(inputs)["corner"][0].numpy())
    torch.set_num_threads(n_threads)


class Places:
    """A new path at every call, and a broom."""

    def __init__(self, root: Path) -> None:
        self._root, self._numbers = root, itertools.count()

    def new(self) -> Path:
        """A path where nothing is."""
        return self._root / f"out-{next(self._numbers)}"

    def sweep(self) -> None:
        """Delete all that was written."""
        for path in self._root.glob("out-*"):
            shutil.rmtree(path)


def extraction_of(feature: Feature, sources: Sequence[FrameSource], places: Places) -> Callable[[], None]:
    """An action for `in_turns`."""
    return lambda: extract(feature, sources, places.new(), BATCH_SIZE)


def against_model(root: Path, crops: list[Path], name: str, n_batches: int, report: Report) -> None:
    """The Runner with a transformer, against the forward pass alone."""
    places = Places(root)
    feature = make_feature(name, untrained=True)
    n_frames = n_batches * BATCH_SIZE
    sources = [make_video(root / name, f"video-{part}", crops, n_frames // 2) for part in range(2)]
    ready = feature.backbone.preprocess(_images(crops[:BATCH_SIZE]))

    def forward() -> None:
        for _ in range(n_batches):
            feature.backbone(ready)

    timings = in_turns({"bare": forward, "extract": extraction_of(feature, sources, places)}, rounds=5)
    places.sweep()
    ratio = median_ratio(timings["bare"].wall_s, timings["extract"].wall_s)
    report.requirements.append(Requirement(f"extract {name} against its bare forward", ratio, 0.97))
    by_cpu = median_ratio(timings["bare"].cpu_s, timings["extract"].cpu_s)
    report.ratios[f"extract {name} against its bare forward, processor time"] = by_cpu
    for action, timing in timings.items():
        report.medians[f"{name}, {action}, frames/s"] = n_frames / timing.median_s


def _images(crops: Sequence[Path]) -> torch.Tensor:
    return torch.from_numpy(np.stack([read_image(crop) for crop in crops]))


def against_usual_way(root: Path, crops: list[Path], report: Report) -> None:
    """The Runner with networks that do nothing, against the usual way."""
    places = Places(root)
    sources = [make_video(root / "nothing", f"video-{number}", crops, N_FRAMES) for number in range(N_VIDEOS)]
    files = sorted(sources[0].crops.folder.iterdir())[:N_USUAL_FRAMES]
    actions: dict[str, Callable[[], None]] = {"usual": lambda: usual_way(files, places.new())}
    for size_px in (112, 224):
        actions[f"extract-{size_px}"] = extraction_of(make_feature(register_nothing(size_px)), sources, places)
    timings = in_turns(actions, rounds=5)
    places.sweep()
    usual = _per_frame(timings["usual"], N_USUAL_FRAMES)
    for size_px, bound, text in ((112, 10, "112-pixel input"), (224, 4, "resize to 224 on the CPU")):
        mine = _per_frame(timings[f"extract-{size_px}"], N_VIDEOS * N_FRAMES)
        ratio = median_ratio(usual.wall_s, mine.wall_s)
        report.requirements.append(Requirement(f"extract, {text}, against the usual way", ratio, bound))
        report.ratios[f"extract, {text}, against the usual way, per core"] = median_ratio(usual.cpu_s, mine.cpu_s)
        _add_rates(report, f"extract, {text}", mine)
    _add_rates(report, "usual way", usual)


def _per_frame(timing: Timing, n_frames: int) -> Timing:
    return Timing([s / n_frames for s in timing.wall_s], [s / n_frames for s in timing.cpu_s])


def _add_rates(report: Report, name: str, per_frame: Timing) -> None:
    report.medians[f"{name}, frames/s"] = 1 / per_frame.median_s
    report.medians[f"{name}, frames/s per core"] = 1 / per_frame.median_cpu_s


def main() -> None:
    """Measure and print."""
    report = Report("extraction", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        crops = draw_crops(root)
        against_usual_way(root, crops, report)
        for name, n_batches in MODELS.items():
            against_model(root, crops, name, n_batches, report)
    report.publish()


if __name__ == "__main__":
    main()
