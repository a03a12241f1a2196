"""The stages as plain functions: what the command line calls, and notebooks can.

    extract(ExtractOptions(...))    crops and labels -> store
    train(config, store, runs)      store -> run
    evaluate(run, store, split)     run and store -> scores, predictions

They tell of their progress through a `Reporter` and print nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from abaw.datasets.affwild2 import Dataset, Video, open_dataset
from abaw.datasets.doctor import VideoReport, conflicts, examine
from abaw.datasets.labels import LabelFile
from abaw.errors import AbawError, UsageError
from abaw.evaluate.evaluation import Evaluation, evaluate_head
from abaw.extract.backbone import BackboneSpec, create_backbone, describe, get_spec
from abaw.extract.reader import Source
from abaw.extract.runner import Runner
from abaw.extract.sink import Feature, Summary
from abaw.reporting import Reporter, Silent
from abaw.store import FeatureStore
from abaw.tasks import get_task
from abaw.train.checkpoint import BEST, load_head
from abaw.train.config import TrainConfig
from abaw.train.heads import create_head
from abaw.train.loop import Epoch, Result, fit
from abaw.train.runs import Run, create_run
from abaw.train.windows import Table, load_table, statistics

BATCH_SIZES = {"cuda": 256, "cpu": 32}
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True)
class ExtractOptions:
    """What to extract, from where to where.

    Attributes:
        data: folder in the official layout.
        store: the store to fill.
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` each.
        views: of the frames, beside the plain one: "hflip".
        device: "auto" takes a GPU if there is one.
        precision: "auto" is bf16 on a GPU and fp32 elsewhere.
        batch_size: frames in a batch; 0 takes 256 on a GPU and 32 elsewhere.
        fps: frame rate of videos without a video file.
        untrained: random weights.
    """

    data: Path
    store: Path
    backbones: tuple[str, ...]
    views: tuple[str, ...] = ()
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    batch_size: int = 0
    fps: float | None = None
    untrained: bool = False


@dataclass(frozen=True)
class Request:
    """A backbone that was asked for: the feature's name, the backbone's, and a weights file."""

    feature: str
    spec: BackboneSpec
    weights: Path | None

    @classmethod
    def parse(cls, text: str) -> "Request":
        """Read `[NAME=]BACKBONE[:WEIGHTS]`; the feature is named after the backbone, with - for /."""
        name, equals, rest = text.partition("=")
        backbone, colon, weights = (rest if equals else name).partition(":")
        if (equals and not name) or (colon and not weights):
            raise UsageError(f"--backbone wants [NAME=]BACKBONE[:WEIGHTS], found {text!r}.")
        feature = name if equals else backbone.replace("/", "-")
        return cls(feature, get_spec(backbone), Path(weights).expanduser() if weights else None)


def pick_device(name: str) -> torch.device:
    """The torch device of a name; "auto" is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"Device {name!r} cannot be used ({reason}). Choose cpu, cuda or cuda:N.") from error
    return device


def create_features(options: ExtractOptions) -> list[Feature]:
    """Load the networks that the options ask for, one per family and weights file."""
    device = pick_device(options.device)
    on_gpu = device.type == "cuda"
    precision = (
        PRECISIONS["bf16" if on_gpu else "fp32"] if options.precision == "auto" else PRECISIONS[options.precision]
    )
    requests = [Request.parse(text) for text in options.backbones]
    names = [request.feature for request in requests]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled:
        raise UsageError(f"Two backbones would write feature {doubled!r}. Name one of them: NEWNAME=BACKBONE.")
    groups: dict[tuple[str, Path | None], list[Request]] = {}
    for request in requests:
        groups.setdefault((request.spec.family, request.weights), []).append(request)
    features = []
    for (_, weights), group in groups.items():
        wanted = list(dict.fromkeys(request.spec.name for request in group))
        backbone = create_backbone(wanted, weights, str(device), precision=precision, untrained=options.untrained)
        made = {spec.name: spec for spec in backbone.specs}
        for request in group:
            spec = made[request.spec.name]
            features += [Feature(_named(request.feature, view), backbone, spec, view) for view in ("", *options.views)]
    return features


def _named(feature: str, view: str) -> str:
    return f"{feature}@{view}" if view else feature


def extract(options: ExtractOptions, reporter: Reporter | None = None) -> Summary:
    """Run backbones over all crops of a dataset and put their features, and the labels of every task, into the store.

    What is complete is skipped; what was cut off is made again. Errors of one video or frame end up in the summary.

    Raises:
        AbawError: nothing could be begun: no data, unknown backbones, no weights, another fingerprint.
    """
    reporter = reporter or Silent()
    dataset = open_dataset(options.data, options.fps)
    features = create_features(options)
    store = FeatureStore.create(options.store)
    for feature in features:
        store.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view))
    summary = Summary()
    write_labels(dataset, store, summary)
    groups, n_frames = _plan(dataset, store, features, summary)
    reporter.start("extract", n_frames, "frames")
    batch_size = options.batch_size or BATCH_SIZES.get(features[0].backbone.device.type, BATCH_SIZES["cpu"])
    for pending, videos in groups.items():
        wanted = [feature for feature in features if feature.name in pending]
        part = Runner(store, wanted, batch_size, reporter.advance).run(_sources(dataset, videos, summary))
        summary.add(part)
        if part.stopped:
            break
    return summary


def write_labels(dataset: Dataset, store: FeatureStore, summary: Summary) -> None:
    """Put every label file that can be read into the store; the others go into the summary."""
    by_video: dict[str, list[LabelFile]] = {}
    for file in dataset.labels:
        by_video.setdefault(file.video, []).append(file)
    for video, files in by_video.items():
        summary.label_errors += conflicts(files)
        for file in files:
            try:
                rows = file.read()
                store.write_labels(file.task, video, file.split, rows)
            except AbawError as error:
                summary.label_errors.append(str(error))


def _plan(
    dataset: Dataset, store: FeatureStore, features: Sequence[Feature], summary: Summary
) -> tuple[dict[tuple[str, ...], list[Video]], int]:
    """Videos by the features that they still lack, and the number of frames to read."""
    complete = {feature.name: store.videos(feature.name) for feature in features}
    groups: dict[tuple[str, ...], list[Video]] = {}
    n_frames = 0
    for video in dataset.videos:
        crops = video.crops()
        pending = tuple(
            name for name, videos in complete.items() if videos.get(video.name, {}).get("source") != crops.digest
        )
        if pending:
            groups.setdefault(pending, []).append(video)
            n_frames += len(crops.numbers)
        else:
            summary.skipped.append(video.name)
    return groups, n_frames


def _sources(dataset: Dataset, videos: Sequence[Video], summary: Summary) -> Iterator[Source]:
    for video in videos:
        crops = video.crops()
        clock = dataset.clock(video, crops)
        if clock.warning:
            summary.warnings.append(f"{video.name}: {clock.warning}")
        yield Source(video, crops, clock)


def doctor(data: Path, fps: float | None = None, reporter: Reporter | None = None) -> list[VideoReport]:
    """Check data against labels: every crop is decoded, every label read. See `VideoReport`."""
    reporter = reporter or Silent()
    dataset = open_dataset(data, fps)
    reporter.start("doctor", len(dataset.videos), "videos")
    return examine(dataset, reporter.advance)


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


def start_run(config: TrainConfig, store: FeatureStore, runs: Path, name: str | None = None) -> Run:
    """Make the folder of a new run on the store's features."""
    get_task(config.task)
    made = {}
    for feature in config.features:
        attrs = store.feature_attrs(feature)
        made[feature] = {"fingerprint": attrs["fingerprint"], "shape": attrs["spec"]["shape"]}
    return create_run(runs, config, made, name)


def _build_head(run: Run, table: Table | None) -> nn.Module:
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

    return fit(config, task, head, table, validate, run.folder, place, on_epoch)


def evaluate(run: Run, store: FeatureStore, split: str = "val", device: str = "auto") -> Evaluation:
    """Score a run's best checkpoint on a split and save scores and predictions in the run."""
    run.check_store(store)
    task = get_task(run.config.task)
    place = pick_device(device)
    head = _build_head(run, None)
    load_head(head, run.folder / BEST)
    table = load_table(store, task, split, run.config.features, run.config.missing)
    found = evaluate_head(head.to(place), table, task, run.config.window, place)
    found.save(run.folder, split, task)
    return found
