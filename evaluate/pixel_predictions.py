"""Predictions of fine-tuned runs: from the pixels of a data folder, or from a store that has features of their encoders."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.core.errors import StoreError, UsageError
from abaw.core.progress import Reporter
from abaw.evaluate.predictions import VideoPrediction
from abaw.store import FeatureStore
from abaw.train.data.table import load_table, select_labels, unlabelled
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.runs import Run

if TYPE_CHECKING:
    import torch

    from abaw.evaluate.trained import Selection
    from abaw.train.finetune.pixel_model import PixelModel

WEIGHTS = "weights"  # of a feature in the config.json of a run


def stored_features(run: Run, store: FeatureStore) -> dict[str, str]:
    """The features of a store that the encoders of a run give, by the names that the run has for them.

    Those of trained encoders were extracted with `encoder.safetensors` of the run; frozen ones with the same weights as
    in the training. Empty if the store lacks one.
    """
    from abaw.backbones.weights import file_sha256

    config = run.config
    assert isinstance(config, FinetuneConfig), "run.config.pixels"
    trained = [name for name in config.features if name not in config.freeze]
    if config.copies > 1:
        return {}
    stored: dict[str, str] = {}
    for name in config.features:
        described = run.features[name]
        sha256 = described[WEIGHTS]
        if name in trained:
            file = config.encoder_file(run.home, name)
            if not file.is_file():
                return {}
            sha256 = file_sha256(file)
        match = next((feature for feature in store.features() if _is_of(store, feature, sha256, described)), None)
        if match is None:
            return {}
        stored[name] = match
    return stored


def _is_of(store: FeatureStore, feature: str, sha256: str | None, described: Mapping) -> bool:
    attrs, record = store.feature_attrs(feature), store.feature_record(feature)
    if attrs.get("weights_sha256") != sha256 or record is None or record.get("view"):
        return False
    return bool(record.get("output") == described["record"]["output"])


def predict_stored(
    run: Run,
    model: "PixelModel",
    device: "torch.device",
    store: FeatureStore,
    names: Mapping[str, str],
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
    features = tuple(names.values())
    table = load_table(store, run.task, labels, features, config.missing, reporter, f"load {split or 'videos'}")
    return predict(HeadOnFeatures(model, names), table, config.length, device, reporter, config.eval_step)


def predict_pixels(
    run: Run, model: "PixelModel", device: "torch.device", data: Path | None, split: str, reporter: Reporter
) -> dict[str, VideoPrediction]:
    """Predict a split from the images of a data folder, by default that of the training.

    Raises:
        UsageError: no such folder, or no images in the split.
    """
    from abaw.evaluate.inference import predict
    from abaw.train.finetune.finetune_runs import data_of
    from abaw.train.finetune.pixel_table import load_pixel_tables

    folder = data_of(run, data if data is not None and data.is_dir() else None)
    if not folder.is_dir():
        raise UsageError(f"Run {run.name} predicts from images, and there is no folder {folder}. Name it with --data.")
    (table,) = load_pixel_tables(run.task, run.config.fold, folder, (split,), reporter)
    return predict(model, table, run.config.length, device, reporter, run.config.eval_step)


def no_pixels(run: Run) -> StoreError:
    """The error of a fine-tuned run that is asked for videos which only a store has."""
    config = run.config
    assert isinstance(config, FinetuneConfig), "run.config.pixels"
    commands = " and ".join(
        f"`abaw extract --backbone {run.name}-{name}={backbone}:{config.encoder_file(run.home, name)}`"
        for name, backbone in config.backbone_of().items()
        if name not in config.freeze
    )
    return StoreError(f"Run {run.name} needs features of its encoder for these videos. Extract them with {commands}.")
