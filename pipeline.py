"""The stages as plain functions: what the command line calls, and notebooks can.

    extract(ExtractOptions(...))        crops and labels -> store
    train_seeds(configs, store, runs)   store -> runs
    evaluate(run, store, split)         run and store -> scores, predictions

They tell of their progress through a `Reporter` and print nothing.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from abaw.datasets.affwild2 import open_dataset
from abaw.datasets.demo.kinds import get_demo_kind
from abaw.datasets.doctor import VideoReport, examine
from abaw.datasets.images import read_image
from abaw.devices import pick_device
from abaw.errors import DISK_FULL, AbawError, CheckpointError, DataError, StoreError
from abaw.evaluate.evaluation import Evaluation, evaluate_head
from abaw.evaluate.plots import FaceOf, save_picture
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
from abaw.train import distributed
from abaw.train.checkpoint import BEST, load_weights, save_tensors
from abaw.train.config import TrainConfig, make_config
from abaw.train.heads.probes import LogisticConfig, RidgeConfig
from abaw.train.loop import Epoch, Result, fit
from abaw.train.model import Model
from abaw.train.prepare import load_split, load_tables, notes_on, start_run
from abaw.train.probes import fit_probe
from abaw.train.runs import Run, all_runs, open_run
from abaw.train.statistics import feature_statistics
from abaw.train.table import Table


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


def _build_model(run: Run) -> Model:
    torch.manual_seed(run.config.seed)
    return Model(run.config, get_task(run.config.task), run.shapes)


def train(
    run: Run, store: FeatureStore, tables: tuple[Table, Table], device: str = "auto", reporter: Reporter | None = None
) -> Result:
    """Train a run's head from where its folder stands; see `abaw.train.loop.fit`.

    Under torchrun every process calls this; all of them go through the same epochs, and the first one writes.
    """
    reporter = reporter or Silent()
    config, task = run.config, get_task(run.config.task)
    table, validation = tables
    for note in notes_on(table):
        reporter.warn(note)
    model = _build_model(run)
    real = [video for video, made in zip(table.videos, table.synthetic, strict=True) if not made]
    model.set_statistics(*feature_statistics(store, model.standardised(), real))
    if isinstance(config.head, RidgeConfig | LogisticConfig):
        return _fit_probe(run, model, table, validation, reporter)
    place = distributed.own_device(pick_device(device))
    model.to(place)
    reporter.start(f"train {run.name}", config.epochs, "epochs")

    def validate(trained: nn.Module) -> float:
        return evaluate_head(trained, validation, task, config.length, place).official.score

    def on_epoch(epoch: Epoch) -> None:
        reporter.advance(1, f"loss {epoch.loss:.3f}, {task.name} {epoch.score:.3f}")

    result = fit(config, task, model, table, validate, run.folder, place, on_epoch)
    reporter.finish()
    return result


def _fit_probe(run: Run, model: Model, table: Table, validation: Table, reporter: Reporter) -> Result:
    config, task = run.config, get_task(run.config.task)
    assert isinstance(config.head, RidgeConfig | LogisticConfig)
    reporter.start(f"fit {run.name}", 1, "probe")
    fit_probe(config.head, task, model, table, config.seed)
    found = evaluate_head(model, validation, task, config.length, torch.device("cpu")).official.score
    save_tensors(run.folder / BEST, model.state_dict(), {"epoch": "1", "score": repr(found)})
    reporter.advance(1, f"{task.name} {found:.3f}")
    reporter.finish()
    return Result(found, 1, 1)


def train_seeds(
    configs: Sequence[TrainConfig],
    store: FeatureStore,
    runs: Path,
    name: str | None = None,
    stem: str = "",
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Iterator[tuple[Run, Result]]:
    """Train one new run for each config; the tables are loaded once for configs that differ in their seed only.

    Args:
        name, stem: of the runs, see `create_run`; with several configs `-seed<seed>` follows on the name.
    """
    reporter = reporter or Silent()
    tables = load_tables(configs[0], store)
    for config in configs:
        named = f"{name}-seed{config.seed}" if name and len(configs) > 1 else name
        folder = str(start_run(config, store, runs, named, stem).folder) if distributed.rank() == 0 else ""
        run = open_run(Path(distributed.same_text(folder)))
        yield run, train(run, store, tables, device, reporter)


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
    model = _build_model(run)
    load_weights(model, run.folder / BEST)
    found = evaluate_head(model.to(place), load_split(config, store, split), task, config.length, place)
    found.save(run.folder, split, task)
    title = f"{run.name} on {split}: {found.official.score:.3f} ({task.measure})"
    save_picture(run.folder, split, task, found.predictions, title, _faces(data))
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
    found = [run for run in all_runs(runs) if run.config == config]
    run = found[-1] if found else start_run(config, store, runs)
    train(run, store, load_tables(config, store), device, reporter)
    return run


def demo(
    out: Path,
    size: str = "small",
    seed: int = 0,
    device: str = "auto",
    reporter: Reporter | None = None,
    kind: str = "aff-wild2",
) -> Iterator[tuple[Run, Evaluation]]:
    """Make a demo dataset and take it through all stages; what an earlier call finished is kept.

    Args:
        kind: the layout of the dataset, a name of `DEMO_KINDS`.

    Yields:
        The run and the validation scores of each task.
    """
    reporter = reporter or Silent()
    made = get_demo_kind(kind)
    data, partial = out / "data", out / "data.partial"
    if not data.exists():
        shutil.rmtree(partial, ignore_errors=True)
        reporter.start("draw faces", made.n_frames(size, seed), "frames")
        made.write(partial, size, seed, reporter.advance)
        reporter.finish()
        partial.rename(data)
    summary = extract(ExtractOptions(data, out / "store.zarr", ("hog",), device=device), reporter)
    if not summary.ok:
        raise AbawError(f"The demo's extraction did not finish: {summary.stopped or summary.failed}. Run it again.")
    store = FeatureStore.open(out / "store.zarr")
    for task, head in made.heads.items():
        config = make_config({"task": task, "features": ("hog",), "head": {"name": head}})
        run = resume_or_start(config, store, out / "runs", device, reporter)
        yield run, evaluate(run, store, "val", device, data)
