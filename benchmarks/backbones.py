"""Backbones: bf16 against float32, several in one call against each alone, masked against full passes.

python -m benchmarks.backbones
"""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from abaw.backbones.backbone import create_backbone, describe
from abaw.datasets.frames import FrameSource
from abaw.extract.feature import Feature
from abaw.extract.runner import Runner
from abaw.media.images import read_image
from abaw.store import FeatureStore
from benchmarks.crops import draw_crops, make_video
from benchmarks.measure import Report, Requirement, in_turns, median_ratio

BF16_NAMES = ("vit-mean", "vit-tiny-mean", "mae-mean", "dan-head", "iresnet50", "iresnet100", "resnet50", "swin-t")
TOGETHER = ("vit-tiny-mean", "timm/resnet18", "hog")
N_IMAGES, N_FRAMES, ROUNDS = 16, 96, 3
METHOD = [
    f"{N_IMAGES} drawn faces a batch, decoded before; networks with random weights, whose speed is that of trained ones.",
    "bf16: mean over the frames of the cosine between the features of a network in bfloat16 and in float32.",
    f"Together: {', '.join(TOGETHER)} from {N_FRAMES} JPEG files to the store in one call, against one call for each.",
    "Masked: mae-mean with 75 % of the patches hidden against all of them, from prepared input.",
]


def cosine_of_bf16(name: str, images: torch.Tensor) -> float:
    """Mean cosine between bfloat16 and float32 features of the same random weights."""
    features = []
    for precision in ("float32", "bfloat16"):
        backbone = create_backbone(name, untrained=True, precision=precision)
        found = backbone(backbone.preprocess(images))
        assert isinstance(found, torch.Tensor)
        features.append(found.float().flatten(1))
    return float(torch.nn.functional.cosine_similarity(*features).mean())


def extraction(features: list[Feature], source: FrameSource, root: Path) -> Callable[[], object]:
    """An action for `in_turns`: one call of the runner, into a new store."""
    numbers = itertools.count()
    label = "+".join(feature.name for feature in features).replace("/", "-")

    def extract() -> None:
        store = FeatureStore.create(root / f"{label}-{next(numbers)}.zarr")
        for feature in features:
            store.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view))
        assert Runner(store, features, N_IMAGES).run([source]).ok

    return extract


def against_each_alone(source: FrameSource, root: Path, report: Report) -> None:
    """One call with several backbones against one call for each."""
    backbones = [create_backbone(name, untrained=name != "hog") for name in TOGETHER]
    features = [Feature(made.spec.family.replace("/", "-"), made, made.spec) for made in backbones]
    actions = {feature.name: extraction([feature], source, root) for feature in features}
    timings = in_turns({**actions, "together": extraction(features, source, root)}, ROUNDS)
    sums = [sum(times) for times in zip(*(timings[name].wall_s for name in actions), strict=True)]
    cost = median_ratio(timings["together"].wall_s, sums)
    report.requirements.append(
        Requirement("three backbones in one call, of the sum of each", cost, 1.05, at_least=False)
    )
    for name, timing in timings.items():
        report.medians[f"extract {name}, frames/s"] = source.clock().n_frames / timing.median_s


def masked_against_full(images: torch.Tensor, report: Report) -> None:
    """An MAE that sees a quarter of the patches against one that sees all."""
    mae = create_backbone("mae-mean", untrained=True)
    inputs, keys = mae.preprocess(images), [("video", frame) for frame in range(1, N_IMAGES + 1)]
    timings = in_turns({"full": lambda: mae(inputs), "masked": lambda: mae(inputs, "mask0.75.0", keys)}, ROUNDS)
    speedup = median_ratio(timings["full"].wall_s, timings["masked"].wall_s)
    report.requirements.append(Requirement("masked pass (75 %) of mae-mean, times faster", speedup, 2.5))
    for name, timing in timings.items():
        report.medians[f"mae-mean {name}, images/s"] = N_IMAGES / timing.median_s


def main() -> None:
    """Measure and print."""
    report = Report("backbones", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        crops = draw_crops(root)
        images = torch.from_numpy(np.stack([read_image(crop) for crop in crops[:N_IMAGES]]))
        for name in BF16_NAMES:
            text = f"{name}: cosine of bf16 features to float32"
            report.requirements.append(Requirement(text, cosine_of_bf16(name, images), 0.999, ""))
        against_each_alone(make_video(root / "together", "video", crops, N_FRAMES), root, report)
        masked_against_full(images, report)
    report.publish()


if __name__ == "__main__":
    main()
