"""Preparation of a fine-tuning: its options, and the weights that it begins with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abaw.backbones.backbone_names import parse_backbone
from abaw.backbones.registry import get_spec
from abaw.core.errors import UsageError
from abaw.core.tasks import recorded_task
from abaw.train.config import make_config
from abaw.train.finetune.encoder_build import FirstWeights
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.recipes import Recipe

HEAD = "linear"


def make_finetune_configs(
    task: str | None,
    backbones: Sequence[str],
    values: Mapping[str, Any],
    settings: Sequence[str],
    recipe: Recipe | None = None,
    n_seeds: int = 1,
) -> list[FinetuneConfig]:
    """A config for each of some seeds: the recipe's options, then `values`, then `key=value` settings.

    Args:
        backbones: `[NAME=]BACKBONE[:FILE]` each; the recipe's by default.

    Raises:
        UsageError: options that do not fit, or an unknown backbone.
    """
    base: dict[str, Any] = dict(recipe.values) if recipe else {"pixels": True}
    if recipe:
        recipe.check_kind(pixels=True)
    if recipe and task not in (None, base["task"]):
        raise UsageError(f"Recipe {recipe.name} is for task {base['task']}, not {task}. Leave out --task.")
    base["task"] = task or base.get("task")
    if base["task"] is None:
        raise UsageError("Choose a task with --task (`abaw list tasks` shows them), or use a --recipe.")
    if task is not None:
        base.pop("task_record", None)  # the recipe's
    recorded_task(base["task"], base.get("task_record"))
    if backbones:
        chosen = {feature: backbone for feature, backbone, _ in map(parse_backbone, backbones)}
        base["features"], base["backbones"] = tuple(chosen), tuple(chosen.values())
    if not base.get("features"):
        raise UsageError("Choose an encoder with --backbone (`abaw list backbones` shows them), or use a --recipe.")
    for name in base.get("backbones") or base["features"]:
        get_spec(name)
    base.setdefault("head", {"name": HEAD})
    config = make_config({**base, **values}, settings)
    configs = [make_config(config.model_dump() | {"seed": config.seed + number}) for number in range(n_seeds)]
    return [one for one in configs if isinstance(one, FinetuneConfig)]


def first_weights(texts: Sequence[str], untrained: bool = False) -> FirstWeights:
    """The weights that `[NAME=]BACKBONE[:FILE]` name; a feature may have several, one for each copy."""
    files: dict[str, list[Path]] = {}
    for text in texts:
        name, _, file = parse_backbone(text)
        if file is not None:
            files.setdefault(name, []).append(Path(file).expanduser())
    return FirstWeights(files, untrained)
