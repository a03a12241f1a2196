"""Building the encoders of a fine-tuning: with their first weights for a new run, and empty for those of a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from abaw.backbones.backbone import build_network
from abaw.backbones.lineage import sets_of_training
from abaw.backbones.registry import get_spec
from abaw.backbones.spec import UNTRAINED, BackboneSpec, ImageInput
from abaw.core.devices import own_random_state
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.records import fingerprint_of
from abaw.train.checkpoint import load_weights
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.pixel_model import Outputs, PixelModel
from abaw.train.runs import Run

SPEC, WEIGHTS = "spec", "weights"  # of a feature in the config.json of a run
SEEN = "seen"  # data sets of the weights that it began from, and of its training


@dataclass(frozen=True)
class FirstWeights:
    """What the encoders of a new run begin with.

    Attributes:
        files: by feature, backbone or family, such as `mae`; of several for copies, one each. Others take their default
            weights.
        untrained: random weights instead.
    """

    files: Mapping[str, Sequence[Path]]
    untrained: bool = False


def _groups(specs: Mapping[str, BackboneSpec]) -> list[Outputs]:
    """Outputs of each network, by feature."""
    groups: dict[Any, dict[str, BackboneSpec]] = {}
    for name, spec in specs.items():
        if spec.image is None:
            raise UsageError(f"Backbone {name} is for sound, and pixels are fine-tuned. Choose one of images.")
        if spec.weights == "none":
            raise UsageError(f"Backbone {name} has no weights to fine-tune. Choose another with --backbone.")
        groups.setdefault((spec.family, spec.image, spec.options), {})[name] = spec
    return [Outputs(group) for group in groups.values()]


def build_first(config: FinetuneConfig, first: FirstWeights) -> tuple[PixelModel, dict[str, dict[str, Any]]]:
    """The model of a new run, and its features as its `config.json` describes them.

    Raises:
        UsageError: unknown backbones, or files for others than those of the run.
        CheckpointError: weights are missing or do not fit.
    """
    specs = {name: get_spec(backbone) for name, backbone in config.backbone_of().items()}
    by_feature = _files_by_feature(first, specs)
    networks, outputs = [], []
    features: dict[str, dict[str, Any]] = {}
    for group in _groups(specs):
        files = next((by_feature[name] for name in group.specs if name in by_feature), [])
        if len(files) not in (0, 1, config.copies):
            raise UsageError(
                f"--init was given {len(files)} times for {config.copies} copies. Give one, or one for each."
            )
        for copy in range(config.copies):
            file = files[copy % len(files)] if files else None
            built = build_network(list(group.specs.values()), file, untrained=first.untrained)
            networks.append(built.network)
            if copy == 0:
                own = dict(zip(group.specs, built.specs, strict=True))
                outputs.append(Outputs(own))
                began = {WEIGHTS: built.weights_sha256, SEEN: sets_of_training(built.lineage)}
                features |= {name: {**_described(spec, built.weights_sha256), **began} for name, spec in own.items()}
    shapes = {name: tuple(feature["shape"]) for name, feature in features.items()}
    with own_random_state(config.seed):
        model = PixelModel(config, config.own_task, shapes, networks, outputs)
    return model, features


def _files_by_feature(first: FirstWeights, specs: Mapping[str, BackboneSpec]) -> dict[str, list[Path]]:
    """The files of each feature that has some; raises like `build_first`."""
    files: dict[str, list[Path]] = {}
    for name, named in first.files.items():
        fitting = [name] if name in specs else [feature for feature, spec in specs.items() if name in _names(spec)]
        if not fitting:
            known = ", ".join(specs)
            raise UsageError(f"--init has weights of {name}, and the backbones are {known}. Name one of these.")
        for feature in fitting:
            files.setdefault(feature, []).extend(named)
    return files


def _names(spec: BackboneSpec) -> tuple[str, str]:
    return spec.name, spec.family


def _described(spec: BackboneSpec, sha256: str | None) -> dict[str, Any]:
    record = spec.record(sha256)
    return {
        "fingerprint": fingerprint_of(record),
        "shape": list(spec.shape),
        "record": record,
        SPEC: asdict(spec),
    }


def build_again(run: Run) -> PixelModel:
    """The model of a run, with random weights.

    Raises:
        CheckpointError: its config is damaged.
    """
    config = run.config
    assert isinstance(config, FinetuneConfig), "run.config.pixels"
    try:
        specs = {name: _read_spec(run.features[name][SPEC]) for name in config.features}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The config of run {run.name} does not say what its encoders are. Train again."
        ) from error
    outputs = _groups(specs)
    networks: list[nn.Module] = []
    for group in outputs:
        untrained = [replace(spec, weights=UNTRAINED) for spec in group.specs.values()]
        networks += [build_network(untrained, untrained=True).network for _ in range(config.copies)]
    with own_random_state(config.seed):
        return PixelModel(config, run.task, run.shapes, networks, outputs)


def _read_spec(values: Mapping[str, Any]) -> BackboneSpec:
    """The spec that `dataclasses.asdict` and JSON made of it."""
    image = values["image"]
    size = image["size"]
    plain = {
        **values,
        "image": ImageInput(**{**image, "size": tuple(size) if isinstance(size, list) else size,
                               "mean": tuple(image["mean"]), "std": tuple(image["std"])}),
        "shape": tuple(values["shape"]),
        "classes": tuple(values["classes"]),
        "options": tuple((name, value) for name, value in values["options"]),
    }  # fmt: skip
    return BackboneSpec(**plain)


def best_pixel_model(run: Run, device: torch.device) -> PixelModel:
    """The model of a run's checkpoint on a device; raises like `abaw.train.model.best_model`."""
    model = build_again(run)
    load_weights(model, run.checkpoint)
    return model.to(device)
