"""A ViT that is small enough to be fine-tuned in a minute on a processor, and what it learns before a study begins."""

import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from abaw.backbones.registry import Built, Family, list_families, register
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.evaluate.trained import TrainedRun
from abaw.extract.request import ExtractOptions
from abaw.pipeline import extract, finetune_seeds, make_finetune_configs
from abaw.store import FeatureStore
from abaw.train.runs import Run
from studies.faces import SIDE, draw_stills, write_faces
from studies.study import Options

WIDTH, DEPTH, HEADS, PATCH = 64, 3, 4, 16
BACKBONE = "tiny-vit"
OUTPUT = "mean"
BUDGET: Options = {
    "epochs": 15,
    "patience": 15,
    "batch_size": 32,
    "lr": 2e-3,
    "layer_decay": 1.0,
    "drop_path": 0.0,
    "augment": "none",
}
BEFORE: Options = {"task": "va"}  # what it learns before a study
PEOPLE = {"train": 80, "val": 12}  # of whom


def _build(specs: Sequence[BackboneSpec], file: Path | None) -> Any:
    from abaw.backbones.vision.mae import MaeEncoder, Size
    from abaw.backbones.weights import load_network

    if file is None:
        return MaeEncoder(Size(PATCH, WIDTH, DEPTH, HEADS, SIDE))
    built: Built = load_network(_build, specs, file)
    return built


def know_tiny_vit() -> None:
    """Make the network known to this process, with the name `BACKBONE`; its feature is the mean of the patches."""
    if all(family.name != BACKBONE for family in list_families()):
        architecture = f"ViT of {DEPTH} blocks of width {WIDTH}"
        spec = BackboneSpec(BACKBONE, BACKBONE, OUTPUT, "vision", (WIDTH,), architecture, "file", ImageInput(SIDE))
        register(Family(BACKBONE, (spec,), _build))


def fine_tune(data: Path, runs: Path, values: Mapping[str, Any], seed: int, weights: Path | None = None) -> Run:
    """Fine-tune the network on the faces of a folder as `abaw finetune` does.

    Args:
        values: options that differ from `BUDGET`.
        weights: that it begins with; random ones by default.
    """
    know_tiny_vit()
    options = {**BUDGET, **values, "seed": seed}
    configs = make_finetune_configs(options["task"], [BACKBONE], options)
    files = [] if weights is None else [f"{BACKBONE}:{weights}"]
    [(run, _)] = finetune_seeds(configs, data, runs, files, untrained=weights is None, device="cpu")
    return run


def score(run: Run, data: Path) -> float:
    """The official score of a fine-tuned run on the faces of a folder, all of which are of its split `val`."""
    return TrainedRun.open(run, "cpu").reading(data).evaluate(None, "val").official.score


def extracted(data: Path, place: Path, weights: Path, views: tuple[str, ...] = ()) -> FeatureStore:
    """A store with what the network with some weights gives for the faces of a folder, as `abaw extract` makes it."""
    know_tiny_vit()
    extract(ExtractOptions(data, place, (f"{BACKBONE}:{weights}",), views=views, device="cpu"))
    return FeatureStore.open(place)


def pretrained(seed: int, folder: Path) -> Path:
    """Weights of the network after learning valence and arousal from other people than those of a study, in a folder."""
    path = folder / "pretrained.safetensors"
    path.write_bytes(_pretrain(seed))
    return path


@lru_cache
def _pretrain(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 20])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, n_people in PEOPLE.items():
            write_faces(folder / "data", split, draw_stills(rng, n_people, split))
        run = fine_tune(folder / "data", folder / "runs", BEFORE, seed)
        return (run.folder / "encoder.safetensors").read_bytes()
