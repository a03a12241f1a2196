"""Predictions of fine-tuned runs: from the pixels of a data folder, or from a store that has features of their encoders."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.core.errors import StoreError, UsageError
from abaw.core.progress import Reporter
from abaw.core.tasks import TASKS
from abaw.evaluate.predictions import VideoPrediction
from abaw.store import FeatureStore
from abaw.train.data.table import load_table, select_labels, unlabelled
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.run_files import BEST
from abaw.train.runs import Run

if TYPE_CHECKING:
    import torch

    from abaw.evaluate.trained import Selection
    from abaw.train.finetune.pixel_model import PixelModel
    from abaw.train.finetune.pixel_table import PixelTable

SPEC, WEIGHTS = "spec", "weights"  # of a feature in the config.json of a run


def stored_features(run: Run, store: FeatureStore) -> list[dict[str, str]]:
    """The features of a store that the encoders of a run give, by the names that the run has for them, for each copy.

    Those of trained encoders were extracted with `encoder.safetensors` of the run; frozen ones with the same weights as
    in the training. Empty if the store lacks one, and for a checkpoint other than the best, which has no such file.
    """
    config = run.config
    assert isinstance(config, FinetuneConfig), "run.config.pixels"
    if run.checkpoint != run.home / BEST:
        return []
    copies = [_stored_features(run, config, store, copy) for copy in range(config.copies)]
    return copies if all(copies) else []


def _stored_features(run: Run, config: FinetuneConfig, store: FeatureStore, copy: int) -> dict[str, str]:
    """See `stored_features`; those of one copy."""
    from abaw.backbones.weights import file_sha256
    from abaw.train.finetune.encoder_file import EMMA_OUTPUTS, is_whole_emma

    whole = config.encoder_file(run.home, config.features[0]) if is_whole_emma(run) else None
    stored: dict[str, str] = {}
    for name in config.features:
        described, file = run.features[name], whole or config.encoder_file(run.home, name, copy)
        output = described["record"]["output"]
        is_frozen = name in config.freeze
        made = {(described[WEIGHTS], output)} if is_frozen and config.dan_batchnorm == "eval" else set()
        if file.is_file() and (whole or not is_frozen):
            sha256 = file_sha256(file)
            made |= {(sha256, output), (sha256, EMMA_OUTPUTS.get((described[SPEC]["family"], output), output))}
        match = next((feature for feature in store.features() if _made_with(store, feature) in made), None)
        if match is None:
            return {}
        stored[name] = match
    return stored


def _made_with(store: FeatureStore, feature: str) -> tuple[str | None, str]:
    """The sha256 of the weights of a feature and the output of its network; the output is empty for views."""
    attrs, record = store.feature_attrs(feature), store.feature_record(feature)
    if record is None or record.get("view"):
        return None, ""
    return attrs.get("weights_sha256"), str(record.get("output", ""))


def predict_stored(
    run: Run,
    model: "PixelModel",
    device: "torch.device",
    store: FeatureStore,
    names: Sequence[Mapping[str, str]],
    selection: "Selection",
    reporter: Reporter,
) -> dict[str, VideoPrediction]:
    """Predict from stored features.

    Args:
        names: see `stored_features`.
        selection: of rows.
    """
    from abaw.evaluate.inference import predict
    from abaw.train.finetune.pixel_model import HeadOnFeatures

    config, split = run.config, selection.split
    if selection.rows is None:
        labels = select_labels(store, run.task, split, config.fold)
    else:
        labels = unlabelled(run.task, selection.rows)
    features = tuple(dict.fromkeys(name for copy in names for name in copy.values()))
    table = load_table(store, run.task, labels, features, config.missing, reporter, f"load {split or 'videos'}")
    return predict(HeadOnFeatures(model, names), table, config.length, device, reporter, config.eval_step)


def predict_pixels(
    run: Run, model: "PixelModel", device: "torch.device", data: Path | None, split: str, reporter: Reporter
) -> dict[str, VideoPrediction]:
    """Predict a split from the images of a data folder, by default that of the training, or from sets of still images.

    Raises:
        UsageError: no such folder, or no images in the split.
    """
    from abaw.evaluate.inference import predict

    table = _table_of(run, data, split, reporter)
    return predict(model, table, run.config.length, device, reporter, run.config.eval_step)


def _table_of(run: Run, data: Path | None, split: str, reporter: Reporter) -> "PixelTable":
    """The images of a split, and their labels; raises like `predict_pixels`."""
    from abaw.train.finetune.finetune_runs import data_of, sets_of
    from abaw.train.finetune.pixel_table import load_pixel_tables
    from abaw.train.finetune.still_table import StillFolders, load_still_tables

    config, folders = run.config, sets_of(run)
    assert isinstance(config, FinetuneConfig), "run.config.pixels"
    for name, images in folders.items():
        if not images.is_dir():
            raise UsageError(
                f"Run {run.name} predicts from images of {name}, and there is no {images}. Put them there."
            )
    if folders:
        (table,) = load_still_tables(config, StillFolders(folders), (split,), reporter)
    else:
        folder = data_of(run, data if data is not None and data.is_dir() else None)
        if not folder.is_dir():
            raise UsageError(
                f"Run {run.name} predicts from images, and there is no folder {folder}. Name it with --data."
            )
        (table,) = load_pixel_tables(run.task, config.fold, folder, (split,), reporter)
    table.rows_per_batch = config.shown_images
    return table


def weights_of(run: Run) -> dict[str, list[Path]]:
    """The files of the encoders that a run fine-tuned, by feature, one for each copy; they may be missing."""
    from abaw.train.finetune.encoder_file import is_whole_emma

    config = run.config
    assert isinstance(config, FinetuneConfig), "run.config.pixels"
    whole = config.encoder_file(run.home, config.features[0]) if is_whole_emma(run) else None
    return {
        name: [whole or config.encoder_file(run.home, name, copy) for copy in range(config.copies)]
        for name in config.features
        if whole or name not in config.freeze
    }


def no_pixels(run: Run) -> StoreError:
    """The error of a fine-tuned run that is asked for videos which only a store has."""
    config = run.config
    assert isinstance(config, FinetuneConfig), "run.config.pixels"
    backbones = " ".join(
        f"--backbone {run.name}-{name}{f'-{copy}' if config.copies > 1 else ''}={config.backbone_of()[name]}:{file}"
        for name, files in weights_of(run).items()
        for copy, file in enumerate(files, 1)
    )
    task = run.task.whole or run.task.name
    typed = TASKS.typed(task, "TASK.toml")
    own = f"--task {shlex.quote(typed)} " if typed != task else ""
    return StoreError(
        f"Run {run.name} needs features of its encoder for these videos. Extract them with `abaw extract {own}{backbones}`."
    )
