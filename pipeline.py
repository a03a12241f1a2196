"""The stages as plain functions: what the command line calls, and notebooks can.

    extract(ExtractOptions(...))    crops and labels -> store
    train(config, store, runs)      store -> run
    evaluate(run, store, split)     run and store -> scores, predictions

They tell of their progress through a `Reporter` and print nothing.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from abaw.datasets.affwild2 import open_dataset
from abaw.datasets.demo import n_frames_of, write_demo
from abaw.datasets.doctor import VideoReport, examine
from abaw.datasets.images import read_image
from abaw.devices import pick_device
from abaw.errors import DISK_FULL, AbawError, CheckpointError, DataError, StoreError, UsageError
from abaw.evaluate.evaluation import Evaluation, evaluate_head
from abaw.evaluate.plots import FaceOf, save_traces
from abaw.extract.audio_runner import AudioRunner
from abaw.extract.backbone import create_backbone, describe
from abaw.extract.plan import frame_sources, plan_extraction, sound_sources, write_labels
from abaw.extract.request import BATCH_SIZES, ExtractOptions, create_features
from abaw.extract.runner import Runner
from abaw.extract.sink import Summary
from abaw.extract.weights import identify
from abaw.reporting import Reporter, Silent
from abaw.store import FeatureStore
from abaw.tasks import get_task
from abaw.train.checkpoint import BEST, load_head
from abaw.train.config import TrainConfig, make_config
from abaw.train.heads import Head, create_head
from abaw.train.loop import Epoch, Result, fit
from abaw.train.losses import get_loss
from abaw.train.runs import Run, all_runs, create_run
from abaw.train.windows import Table, load_table, statistics


def extract(options: ExtractOptions, reporter: Reporter | None = None) -> Summary:
    """Run backbones over all crops and sounds of a dataset; put their features, and all labels, into the store.

    What is complete is skipped; what was cut off is made again. Errors of one video or frame end up in the summary.

    Raises:
        AbawError: nothing could be begun: no data, unknown backbones, no weights, another fingerprint.
    """
    reporter = reporter or Silent()
    dataset = open_dataset(options.data, options.fps)
    features = create_features(options)
    with room_for(options.store):
        store = FeatureStore.create(options.store)
        for feature in features:
            store.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view))
    summary = Summary(warnings=list(dict.fromkeys(note for feature in features for note in feature.backbone.notes)))
    with room_for(options.store):
        write_labels(dataset, store, summary)
    groups, n_frames = plan_extraction(dataset, store, features, summary)
    reporter.start("extract", n_frames, "frames")
    batch_size = options.batch_size or BATCH_SIZES.get(features[0].backbone.device.type, BATCH_SIZES["cpu"])
    for pending, videos in groups.items():
        wanted = [feature for feature in features if feature.name in pending]
        vision, audio = ([f for f in wanted if f.spec.modality == kind] for kind in ("vision", "audio"))
        if vision:
            summary.add(
                Runner(store, vision, batch_size, reporter.advance).run(frame_sources(dataset, videos, summary))
            )
        if audio and not summary.stopped:
            summary.add(AudioRunner(store, audio, reporter.advance).run(sound_sources(dataset, videos, summary)))
        if summary.stopped:
            break
    reporter.finish()
    return summary


@contextmanager
def room_for(store: Path) -> Iterator[None]:
    """Turns the system's word for a full disk into a StoreError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise StoreError(
            f"No space to write into {store} ({error.strerror}). Make room and run the same command again."
        ) from error


def check_weights(file: Path) -> list[tuple[str, str, str]]:
    """Backbones that a weights file fits, best first: name, fingerprint of its feature, notes on how it was made to fit.

    Raises:
        CheckpointError: the file cannot be read, or fits none.
    """
    names = identify(file)
    if not names:
        raise CheckpointError(
            f"{file} fits no backbone of `abaw list backbones`. For a model of timm, extract with "
            f"`--backbone timm/<model>:{file}`."
        )
    found = []
    for name in names:
        backbone = create_backbone(name, file)
        found.append((name, backbone.fingerprint(backbone.spec), "; ".join(backbone.notes) or "-"))
    return found


def doctor(data: Path, fps: float | None = None, reporter: Reporter | None = None) -> list[VideoReport]:
    """Check data against labels: every crop is decoded, every label read. See `VideoReport`."""
    reporter = reporter or Silent()
    dataset = open_dataset(data, fps)
    reporter.start("doctor", len(dataset.videos), "videos")
    reports = examine(dataset, reporter.advance)
    reporter.finish()
    return reports


def pick_features(store: FeatureStore, features: Sequence[str]) -> tuple[str, ...]:
    """The features asked for, or the only one of the store.

    Raises:
        UsageError: one is not there, or none was named and the store has none or several.
    """
    for feature in features:
        store.feature_attrs(feature)
    if features:
        return tuple(features)
    known = store.features()
    if len(known) != 1:
        have = (
            f"has {len(known)} features: {', '.join(known)}. Choose with --feature"
            if known
            else "has no features yet. Run `abaw extract`"
        )
        raise UsageError(f"{store.path} {have}.")
    return tuple(known)


def make_train_config(
    store: FeatureStore, task: str, features: Sequence[str], values: Mapping[str, Any], settings: Sequence[str]
) -> TrainConfig:
    """A config for a task on features of a store; `settings` are `key=value` texts."""
    kind = get_task(task).kind
    config = make_config({"task": task, "features": pick_features(store, features), **values}, settings)
    get_loss(config.loss or get_task(task).loss, kind)
    return config


def start_run(config: TrainConfig, store: FeatureStore, runs: Path, name: str | None = None) -> Run:
    """Make the folder of a new run on the store's features."""
    made = {}
    for feature in config.features:
        attrs = store.feature_attrs(feature)
        made[feature] = {"fingerprint": attrs["fingerprint"], "shape": attrs["spec"]["shape"]}
    return create_run(runs, config, made, name)


def _build_head(run: Run, table: Table | None) -> Head:
    """The run's head; with a training table its first weights are drawn and its statistics counted."""
    torch.manual_seed(run.config.seed)
    head = create_head(run.config.head, run.shapes, len(get_task(run.config.task).outputs))
    if table is not None:
        head.inputs.set_statistics(*statistics(table))
    return head


def load_tables(config: TrainConfig, store: FeatureStore) -> tuple[Table, Table]:
    """Training and validation videos of a config."""
    task = get_task(config.task)
    table = load_table(store, task, "train", config.features, config.missing)
    return table, load_table(store, task, "val", config.features, config.missing)


def train(run: Run, tables: tuple[Table, Table], device: str = "auto", reporter: Reporter | None = None) -> Result:
    """Train a run's head from where its folder stands; see `abaw.train.loop.fit`."""
    reporter = reporter or Silent()
    config, task = run.config, get_task(run.config.task)
    place = pick_device(device)
    table, validation = tables
    head = _build_head(run, table).to(place)
    reporter.start(f"train {run.name}", config.epochs, "epochs")

    def validate(trained: nn.Module) -> float:
        return evaluate_head(trained, validation, task, config.window, place).official.score

    def on_epoch(epoch: Epoch) -> None:
        reporter.advance(1, f"loss {epoch.loss:.3f}, {task.name} {epoch.score:.3f}")

    result = fit(config, task, head, table, validate, run.folder, place, on_epoch)
    reporter.finish()
    return result


def evaluate(
    run: Run, store: FeatureStore, split: str = "val", device: str = "auto", data: Path | None = None
) -> Evaluation:
    """Score a run's best checkpoint on a split; save scores, predictions and a picture in the run.

    Args:
        data: the data folder, if it is at hand: its faces go into the picture.
    """
    run.check_store(store)
    config, task = run.config, get_task(run.config.task)
    place = pick_device(device)
    head = _build_head(run, None)
    load_head(head, run.folder / BEST)
    table = load_table(store, task, split, config.features, config.missing)
    found = evaluate_head(head.to(place), table, task, config.window, place)
    found.save(run.folder, split, task)
    title = f"{run.name} on {split}: {found.official.score:.3f} ({task.measure})"
    save_traces(run.folder / f"traces-{split}.png", task, found.predictions, title, _faces(data))
    return found


def _faces(data: Path | None) -> FaceOf | None:
    """Looks up face crops in a data folder, if there is one."""
    if data is None or not data.is_dir():
        return None
    try:
        videos = {video.name: video for video in open_dataset(data).videos}
    except DataError:  # the folder is somebody else's: scores do not need it
        return None

    def face_of(video: str, row: int) -> NDArray[np.uint8] | None:
        crops = videos[video].crops() if video in videos else None
        if crops is None or row + 1 not in crops.numbers:
            return None
        try:
            return read_image(crops.folder / crops.names[int(np.searchsorted(crops.numbers, row + 1))])
        except DataError:
            return None

    return face_of


def resume_or_start(
    config: TrainConfig, store: FeatureStore, runs: Path, device: str = "auto", reporter: Reporter | None = None
) -> Run:
    """Finish the newest run of exactly this config, or train a new one."""
    tables = load_tables(config, store)
    found = [run for run in all_runs(runs) if run.config == config]
    run = found[-1] if found else start_run(config, store, runs)
    train(run, tables, device, reporter)
    return run


def demo(
    out: Path, size: str = "small", seed: int = 0, device: str = "auto", reporter: Reporter | None = None
) -> Iterator[tuple[Run, Evaluation]]:
    """Make the demo dataset and take it through all stages; what an earlier call finished is kept.

    Yields:
        The run and the validation scores of each task.
    """
    reporter = reporter or Silent()
    data, partial = out / "data", out / "data.partial"
    if not data.exists():
        shutil.rmtree(partial, ignore_errors=True)
        reporter.start("draw faces", n_frames_of(size, seed), "frames")
        write_demo(partial, size, seed, on_frames=reporter.advance)
        reporter.finish()
        partial.rename(data)
    summary = extract(ExtractOptions(data, out / "store.zarr", ("hog",), device=device), reporter)
    if not summary.ok:
        raise AbawError(f"The demo's extraction did not finish: {summary.stopped or summary.failed}. Run it again.")
    store = FeatureStore.open(out / "store.zarr")
    for task in ("va", "expr", "au"):
        run = resume_or_start(make_config({"task": task, "features": ("hog",)}), store, out / "runs", device, reporter)
        yield run, evaluate(run, store, "val", device, data)
