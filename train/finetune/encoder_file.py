"""The encoders of a fine-tuned run as weights files in the layout of their public checkpoints."""

import json
from pathlib import Path
from typing import Any

from abaw.train.checkpoint import load_weights, save_tensors
from abaw.train.finetune.encoder_build import WEIGHTS, build_again
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.layers import merged_state
from abaw.train.run_files import BEST
from abaw.train.runs import Run


def save_encoders(run: Run, videos: tuple[str, ...], data: Path) -> list[Path]:
    """Write the encoders of a run's best model into its folder: `encoder.safetensors`, or several with their names.

    Frozen ones are left out. Their metadata say what they began from, and what they were trained on.

    Args:
        videos: of the training.
        data: the folder of its images.

    Returns:
        The files.
    """
    config = run.config
    assert isinstance(config, FinetuneConfig), "run.config.pixels"
    model = build_again(run)
    load_weights(model, run.folder / BEST)
    files = []
    for number, (network, specs) in enumerate(model.networks()):
        feature = next((name for name in specs if name not in config.freeze), None)
        if feature is None:
            continue
        image = run.features[feature]["record"]["image"]
        if config.interpolation:
            image = {**image, "interpolation": config.interpolation}
        metadata: dict[str, Any] = {
            "backbone": config.backbone_of()[feature],
            "run": run.name,
            "task": config.task,
            "split": f"fold {config.fold}" if config.fold else "train",
            "data": str(data.absolute()),
            "videos": list(videos),
            "from": run.features[feature][WEIGHTS] or "random weights",
            "image": image,
        }
        path = config.encoder_file(run.folder, feature, number if config.copies > 1 else 0)
        save_tensors(path, merged_state(network), {key: json.dumps(value) for key, value in metadata.items()})
        files.append(path)
    return files
