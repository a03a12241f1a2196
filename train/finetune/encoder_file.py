"""The encoders of a fine-tuned run as weights files in the layout of their public checkpoints."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from abaw.backbones.lineage import NOT_SAID
from abaw.train.checkpoint import load_weights, save_tensors
from abaw.train.finetune.encoder_build import SEEN, SPEC, WEIGHTS, build_again
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.layers import merged_state
from abaw.train.finetune.pixel_model import PixelModel
from abaw.train.head_options import EmmaHeadConfig
from abaw.train.run_files import BEST
from abaw.train.runs import Run

EMMA = "emma"  # the backbone of the whole network
EMMA_PARTS = {"mae": (768,), "dan": (8,)}  # family and shape of what its heads take
# its outputs, by the outputs of its parts
EMMA_OUTPUTS: Mapping[tuple[str, str], str] = {("mae", "cls"): "vit", ("dan", "logits"): "dan"}


def is_whole_emma(run: Run) -> bool:
    """True if encoders and head of a run make up EMMA: its file has DAN and the heads, too."""
    config = run.config
    if not isinstance(config, FinetuneConfig) or not isinstance(config.head, EmmaHeadConfig):
        return False
    specs = [run.features[name][SPEC] for name in (config.head.vit, config.head.dan)]
    published = EmmaHeadConfig(vit=config.head.vit, dan=config.head.dan)
    parts = {str(spec["family"]): tuple(spec["shape"]) for spec in specs}
    is_plain = not any(spec["options"] for spec in specs)
    return config.head == published and parts == EMMA_PARTS and is_plain and config.freeze == (config.head.dan,)


def emma_state(model: PixelModel) -> dict[str, Tensor]:
    """The tensors of EMMA under the keys of its authors' checkpoint, from the encoders and the head of a run."""
    state: dict[str, Tensor] = {}
    for network, specs in model.networks():
        prefix = "vit" if next(iter(specs.values())).family == "mae" else "cnn"
        state |= {f"{prefix}.{key}": value for key, value in merged_state(network).items()}
    head = {key.removeprefix("heads.0."): value for key, value in model.heads[0].state_dict().items()}
    return state | {f"vit.{key}" if key.startswith("head.") else key: value for key, value in head.items()}


def save_encoders(run: Run, videos: tuple[str, ...], data: str) -> list[Path]:
    """Write the encoders of a run's best model into its folder: `encoder.safetensors`, or several with their names.

    Frozen ones are left out, except that of EMMA, whose file is that of the whole system. Their metadata say what they
    began from, and what they were trained on.

    Args:
        videos: of the training.
        data: the folder, or folders, of its images.

    Returns:
        The files.
    """
    config = run.config
    assert isinstance(config, FinetuneConfig), "run.config.pixels"
    model = build_again(run)
    load_weights(model, run.folder / BEST)
    files = []
    for number, feature, state in _trained(run, model, config):
        image = run.features[feature]["record"]["image"]
        if config.interpolation:
            image = {**image, "interpolation": config.interpolation}
        is_emma = is_whole_emma(run)
        began = config.features if is_emma else (feature,)
        metadata: dict[str, Any] = {
            "backbone": EMMA if is_emma else config.backbone_of()[feature],
            "run": run.name,
            "task": config.task,
            "split": f"fold {config.fold}" if config.fold else "train",
            "data": data,
            "videos": list(videos),
            "from": ", ".join(run.features[name][WEIGHTS] or "random weights" for name in began),
            "image": image,
            "sets": sorted({name for feature in began for name in run.features[feature].get(SEEN, [NOT_SAID])}),
        }
        path = config.encoder_file(run.folder, feature, number if config.copies > 1 else 0)
        save_tensors(path, state, {key: json.dumps(value) for key, value in metadata.items()})
        files.append(path)
    return files


def _trained(run: Run, model: PixelModel, config: FinetuneConfig) -> Iterator[tuple[int, str, Mapping[str, Tensor]]]:
    """Number, feature and tensors of each encoder that was trained."""
    for number, (network, specs) in enumerate(model.networks()):
        feature = next((name for name in specs if name not in config.freeze), None)
        if feature is not None:
            yield number, feature, emma_state(model) if is_whole_emma(run) else merged_state(network)
