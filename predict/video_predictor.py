"""A trained run with the networks of its features, to be used on videos; features are checked by fingerprint."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.backbones.backbone import describe
from abaw.backbones.vision.timm_names import names_behind
from abaw.backbones.vision.views import parse_view
from abaw.core.devices import pick_device
from abaw.core.errors import AbawError, CheckpointError, DataError, UsageError
from abaw.core.names import composed
from abaw.core.progress import Reporter, Summary
from abaw.core.records import FLOAT32, GIVEN, MIXED, PREPARED, differences, without_alignment
from abaw.core.tasks import get_task
from abaw.datasets.layouts import open_dataset
from abaw.datasets.video_files import FACES
from abaw.evaluate.inference import predict
from abaw.evaluate.postprocessing.tuning import load_tuning
from abaw.exchange.importer import is_imported
from abaw.extract.faces.layout import Record
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.extract.feature import Feature
from abaw.extract.precision import BFLOAT16
from abaw.extract.remaking import Remaker
from abaw.extract.request import ExtractOptions, Request, create_features
from abaw.extract.stage import Stage
from abaw.predict.output_rows import OutputRow, output_values
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoLabels
from abaw.train.data.table import load_table
from abaw.train.model import best_model
from abaw.train.runs import Run

SPLIT = "test"


@dataclass(frozen=True)
class PredictOptions:
    """What to predict, and how.

    Attributes:
        videos: video files, and folders of such.
        out: folder that gets one for each video.
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` of features whose backbone or weights are not the default ones.
        faces: keep so many people of each video, the largest and longest seen; 0 keeps all.
        overlay: make the video with the predictions in it.
        raw: leave out the post-processing that the run has.
        untrained: random weights, as the run's features have.
        device: "auto" takes a GPU if there is one.
    """

    videos: tuple[Path, ...] = ()
    out: Path = Path("predictions")
    backbones: tuple[str, ...] = ()
    faces: int = 0
    overlay: bool = True
    raw: bool = False
    untrained: bool = False
    device: str = "auto"


@dataclass
class PredictedPerson:
    """Predictions of one video: the people, their outputs by frame, and what to say about the file."""

    data: Path
    video: str
    people: tuple[str, ...] = ()
    n_frames: int = 0
    notes: list[str] = field(default_factory=list)
    outputs: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class Predictor:
    """A run with its networks loaded, to be used on one video after another.

    `note` is a sentence on how its training differs from what it is used on; empty if it does not.

    Args:
        run: of a task about faces.
        options: of these `backbones`, `faces`, `raw`, `untrained` and `device` count here.

    Raises:
        UsageError: the run is about whole clips, its features were imported, or a backbone is not known.
        CheckpointError: weights are missing or others than the run's, or the run is damaged.
    """

    def __init__(self, run: Run, options: PredictOptions) -> None:
        self.run, self.task, self.options = run, get_task(run.config.task), options
        if self.task.level == "video":
            raise UsageError(
                f"Run {run.name} is of task {self.task.name}, about whole clips and not faces. Name a run of another task."
            )
        self.tuning = None if options.raw else load_tuning(run)
        self._place = pick_device(options.device)
        self._model = best_model(run, self._place)
        self._features = load_features(run, options.backbones, options.device, options.untrained)
        self.note = describe_training_crops(run, self._features)

    def predict(self, file: Path, data: Path, reporter: Reporter) -> PredictedPerson:
        """Predict a video; `data` is an empty folder for what is needed on the way, which `rows` needs, too.

        Raises:
            AbawError: the video cannot be predicted; the sentence says why.
        """
        faces = prepare_videos(PrepareOptions((file,), data, self.options.faces, device=self.options.device), reporter)
        _check_done(faces, file)
        video = composed(file.stem)
        record = Record.read(data / FACES / f"{video}.json")
        assert record is not None, "prepare_videos ends with it"
        found = PredictedPerson(data, video, record.people, record.n_frames, list(record.notes))
        if found.people:
            self._extract(found, reporter)
            self._predict(found)
        return found

    def rows(self, found: PredictedPerson) -> Iterator[OutputRow]:
        """The rows of a video in the order of time: one for each frame and each person who is seen in it."""
        with (found.data / FACES / f"{found.video}.csv").open(newline="", encoding="utf-8") as table:
            for line in csv.DictReader(table):
                frame, person = int(line["frame"]), line["person"]
                outputs = output_values(self.task, found.outputs[person][frame - 1])
                left, top, right, bottom = (float(line[side]) for side in ("left", "top", "right", "bottom"))
                yield OutputRow(frame, float(line["time_s"]), person, outputs, (left, top, right, bottom))

    def _extract(self, found: PredictedPerson, reporter: Reporter) -> None:
        place = found.data / "store.zarr"
        store = FeatureStore.create(place)
        for feature in self._features:
            store.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view, PREPARED))
        options = ExtractOptions(found.data, place, (), device=self.options.device)
        stage, summary = Stage(options, open_dataset(found.data), store, tuple(self._features)), Summary()
        plan = stage.plan(summary, reporter)
        reporter.start("extract", plan.n_frames, "frames")
        stage.run(plan.groups, summary, reporter.advance)
        reporter.finish()
        _check_done(summary, Path(found.video))
        found.notes += [*summary.warnings, *summary.broken_frames]
        if summary.without_sound:
            if all(feature.spec.modality == "audio" for feature in self._features):
                raise DataError(f"it has no sound, and run {self.run.name} takes nothing but sound")
            found.notes.append("it has no sound: predicted without the features of sound")

    def _predict(self, found: PredictedPerson) -> None:
        config, store = self.run.config, FeatureStore.open(found.data / "store.zarr")
        known = [store.videos(feature) for feature in config.features]
        row = np.array(self.task.invalid_row, dtype=np.float32)
        labels = {}
        for person in found.people:
            n_rows = max([int(videos[person]["n_frames"]) for videos in known if person in videos])
            labels[person] = VideoLabels(SPLIT, np.tile(row, (n_rows, 1)))
        table = load_table(store, self.task, labels, config.features, config.missing)
        predictions = predict(self._model, table, config.length, self._place)
        if self.tuning is not None:
            predictions = self.tuning.postprocess.apply_to(self.task, predictions)
        found.outputs = {person: one.outputs for person, one in predictions.items()}


def _check_done(summary: Summary, file: Path) -> None:
    """Raise a DataError with what went wrong in a stage that had one video."""
    if summary.failed:
        raise DataError(next(iter(summary.failed.values())))
    if summary.stopped and summary.stopped.reason == "interrupted":
        raise KeyboardInterrupt
    if summary.stopped:
        raise AbawError(f"{file.name} was stopped: {summary.stopped.sentence}")


def load_features(run: Run, backbones: Sequence[str], device: str = "auto", untrained: bool = False) -> list[Feature]:
    """The backbones of a run's features, with the weights that they were made with.

    Args:
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` of those whose backbone or weights are not the default ones.
        device: "auto" takes a GPU if there is one.
        untrained: random weights.

    Raises:
        UsageError: a feature was imported, or has a name that no backbone has; a backbone is not of the run.
        CheckpointError: weights are missing, or they or settings are others than the run's.
    """
    given = {Request.parse(text).feature: text for text in backbones}
    bases = {name: name.partition("@")[0] for name in run.config.features}
    unknown = [name for name in given if name not in bases.values()]
    if unknown:
        raise UsageError(
            f"Run {run.name} takes no feature {unknown[0]!r}; it takes {', '.join(dict.fromkeys(bases.values()))}. Name "
            "the feature before the backbone: --backbone NAME=BACKBONE[:WEIGHTS]."
        )
    for name in run.config.features:
        _check_not_imported(run, name)
    texts = {base: given.get(base) or _default_text(run, base) for base in dict.fromkeys(bases.values())}
    options = ExtractOptions(Path(), Path(), tuple(texts.values()), (), 1, device, "fp32", untrained=untrained)
    plain = {feature.name: feature for feature in create_features(options)}
    remaker = Remaker(BFLOAT16 if pick_device(device).type == "cuda" else FLOAT32, untrained)
    features = []
    for name, base in bases.items():
        view = name.partition("@")[2]
        feature = replace(plain[base], name=name, view=parse_view(view)[0] if view else "")
        made = remaker.remake(feature, Request.parse(texts[base]).weights, run.features[name])
        if made is None:
            raise _other_error(run, feature)
        features.append(made)
    return features


def _check_not_imported(run: Run, name: str) -> None:
    if is_imported(name, run.features[name]):
        raise UsageError(
            f"Run {run.name} was trained on feature {name!r} that was imported, and nobody can tell which network makes "
            "it of a video. Extract the features with `abaw extract` and train on these."
        )


def _default_text(run: Run, base: str) -> str:
    """The backbone that a feature is named after."""
    for name in names_behind(base):
        with suppress(UsageError):
            Request.parse(name)
            return f"{base}={name}"
    raise UsageError(
        f"Run {run.name} takes feature {base!r}, which is not named after a backbone. Say which one makes it: "
        f"--backbone {base}=BACKBONE[:WEIGHTS]."
    )


def _other_error(run: Run, feature: Feature) -> CheckpointError:
    wanted, record = run.features[feature.name]["fingerprint"], run.features[feature.name].get("record")
    found = feature.backbone.fingerprint(feature.spec, feature.view)
    here = without_alignment(feature.backbone.record(feature.spec, feature.view) | {"precision": None})
    other = "; ".join(differences(record, here)) if record else ""
    base = feature.name.partition("@")[0]
    what, backbone = "the weights that it was extracted with", feature.spec.name
    if other and not other.startswith("weights "):
        what, backbone = "the backbone that it was extracted with", "BACKBONE"
    return CheckpointError(
        f"Run {run.name} was trained on feature {feature.name!r} with fingerprint {wanted[:12]}; {feature.spec.name} "
        f"here has {found[:12]}: {other or 'other weights or settings'}. Give {what}: --backbone {base}={backbone}:WEIGHTS."
    )


def describe_training_crops(run: Run, features: Sequence[Feature]) -> str:
    """A sentence where a run was trained on crops that `abaw prepare` did not make; else empty."""
    others = [
        feature.name
        for feature in features
        if feature.spec.modality == "vision" and feature.alignment in (GIVEN, MIXED)
    ]
    if not others:
        return ""
    return (
        f"Run {run.name} was trained on crops that `abaw prepare` did not make ({', '.join(others)}). Those of videos are "
        "aligned otherwise, so that its predictions may be worse than its scores."
    )
