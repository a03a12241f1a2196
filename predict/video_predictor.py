"""A trained run with the networks of its features, for use on videos. Features are checked by their fingerprints."""

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
from abaw.core.names import composed, without_view
from abaw.core.progress import Reporter, Summary
from abaw.core.records import FLOAT32, GIVEN, MIXED, differences, without_alignment
from abaw.datasets.layouts import open_dataset
from abaw.datasets.video_files import FACES
from abaw.evaluate.submission.coverage import frames_in_store
from abaw.evaluate.trained import Selection, TrainedRun
from abaw.exchange.importer import is_imported
from abaw.extract.faces.layout import Record
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.extract.feature import Feature
from abaw.extract.precision import BFLOAT16
from abaw.extract.remake import Remaker
from abaw.extract.request import ExtractOptions, Request, create_features
from abaw.extract.stage import Stage
from abaw.predict.output_rows import OutputRow, output_values
from abaw.store import FeatureStore
from abaw.train.runs import Run


@dataclass(frozen=True)
class PredictOptions:
    """What to predict, and how.

    Attributes:
        videos: video files, and folders of video files.
        out: folder that gets a folder for each video.
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` of features whose backbone or weights are not the default ones.
        faces: how many people of each video to keep, the largest and longest seen; 0 keeps all.
        overlay: make a video with the predictions drawn into it.
        raw: leave out the run's post-processing.
        untrained: random weights, like those of the run's features.
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
class PredictedVideo:
    """Predictions of one video.

    Attributes:
        folder: of a temporary dataset of this video alone.
        video: its name.
        people: names of the people seen in it, from left to right.
        n_frames: of the video.
        notes: sentences on what is unusual about the file.
        outputs: (frames, outputs) by person.
    """

    folder: Path
    video: str
    people: tuple[str, ...] = ()
    n_frames: int = 0
    notes: list[str] = field(default_factory=list)
    outputs: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class VideoPredictor:
    """A run with its networks loaded, to be used on one video after another.

    `note` is a sentence on how the crops of videos differ from those of the training; empty if they do not.

    Args:
        run: of a task about faces.
        options: of these, `backbones`, `faces`, `raw`, `untrained` and `device` are used here.

    Raises:
        UsageError: the run is about whole clips, its features were imported, or a backbone is unknown.
        CheckpointError: weights are missing or differ from the run's, or the run is damaged.
    """

    def __init__(self, run: Run, options: PredictOptions) -> None:
        self.run, self.task, self.options = run, run.task, options
        if self.task.level == "video":
            raise UsageError(
                f"Run {run.name} is of task {self.task.name}, about whole clips and not faces. Name a run of another task."
            )
        self.trained = TrainedRun.open(run, options.device, options.raw)
        self.trained.load()
        self._features = load_features(run, options.backbones, options.device, options.untrained)
        self.note = describe_training_crops(run, self._features)

    def predict(self, file: Path, folder: Path, reporter: Reporter) -> PredictedVideo:
        """Predict a video.

        Args:
            folder: an empty one, for a dataset and a store of this video; `rows` needs it, too.

        Raises:
            AbawError: the video cannot be predicted; the sentence says why.
        """
        options = PrepareOptions((file,), folder, self.options.faces, device=self.options.device)
        _check_done(prepare_videos(options, reporter), file)
        video = composed(file.stem)
        record = Record.read(folder / FACES / f"{video}.json")
        assert record is not None, "prepare_videos ends with it"
        predicted = PredictedVideo(folder, video, record.people, record.n_frames, list(record.notes))
        if predicted.people:
            store = self._extract(predicted, reporter)
            known = [store.videos(feature) for feature in self.trained.features]
            predictions = self.trained.predict(store, Selection(rows=frames_in_store(known, predicted.people)))
            predicted.outputs = {person: prediction.outputs for person, prediction in predictions.items()}
        return predicted

    def rows(self, predicted: PredictedVideo) -> Iterator[OutputRow]:
        """The rows of a video in temporal order: one for each frame and each person seen in it."""
        with (predicted.folder / FACES / f"{predicted.video}.csv").open(newline="", encoding="utf-8") as table:
            for line in csv.DictReader(table):
                frame, person = int(line["frame"]), line["person"]
                outputs = output_values(self.task, predicted.outputs[person][frame - 1])
                left, top, right, bottom = (float(line[side]) for side in ("left", "top", "right", "bottom"))
                yield OutputRow(frame, float(line["time_s"]), person, outputs, (left, top, right, bottom))

    def _extract(self, predicted: PredictedVideo, reporter: Reporter) -> FeatureStore:
        """Put the run's features of a video into a store of its own."""
        path = predicted.folder / "store.zarr"
        store = FeatureStore.create(path)
        for feature in self._features:
            # as the features of the training, though its crops may be aligned otherwise: `note` is about that
            store.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view, feature.alignment))
        options = ExtractOptions(predicted.folder, path, (), device=self.options.device)
        dataset = open_dataset(predicted.folder)
        stage, summary = Stage(options, dataset, store, tuple(self._features)), Summary()
        plan = stage.plan(summary, reporter)
        reporter.start("extract", plan.n_frames, "frames")
        stage.run(plan.groups, summary, reporter.advance)
        reporter.finish()
        _check_done(summary, Path(predicted.video))
        predicted.notes += [*summary.warnings, *summary.broken_frames]
        if summary.without_sound:
            if all(feature.spec.modality == "audio" for feature in self._features):
                raise DataError(f"it has no sound, and run {self.run.name} uses sound only")
            predicted.notes.append("it has no sound: predicted without the features of sound")
        return FeatureStore.open(path)


def _check_done(summary: Summary, file: Path) -> None:
    """Raise a DataError if a stage failed on its only video; other errors if it was stopped."""
    if summary.failed:
        raise DataError(next(iter(summary.failed.values())))
    if summary.stopped and summary.stopped.reason == "interrupted":
        raise KeyboardInterrupt
    if summary.stopped:
        raise AbawError(f"{file.name} was stopped: {summary.stopped.sentence}")


def load_features(run: Run, backbones: Sequence[str], device: str = "auto", untrained: bool = False) -> list[Feature]:
    """The backbones of a run's features, with the weights that made these features.

    Args:
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` of those whose backbone or weights are not the default ones.
        device: "auto" takes a GPU if there is one.
        untrained: random weights.

    Raises:
        UsageError: a feature was imported, or no backbone has its name; a backbone belongs to no feature of the run.
        CheckpointError: weights are missing, or weights or settings differ from the run's.
    """
    requested = {Request.parse(text).feature: text for text in backbones}
    bases = {name: without_view(name) for name in run.config.features}
    unknown = [name for name in requested if name not in bases.values()]
    if unknown:
        raise UsageError(
            f"Run {run.name} takes no feature {unknown[0]!r}; it takes {', '.join(dict.fromkeys(bases.values()))}. Name "
            "the feature before the backbone: --backbone NAME=BACKBONE[:WEIGHTS]."
        )
    for name in run.config.features:
        _check_not_imported(run, name)
    texts = {base: requested.get(base) or _default_text(run, base) for base in dict.fromkeys(bases.values())}
    options = ExtractOptions(Path(), Path(), tuple(texts.values()), (), 1, device, "fp32", untrained=untrained)
    plain = {feature.name: feature for feature in create_features(options)}
    remaker = Remaker(BFLOAT16 if pick_device(device).type == "cuda" else FLOAT32, untrained)
    features = []
    for name, base in bases.items():
        view = name.partition("@")[2]
        feature = replace(plain[base], name=name, view=parse_view(view)[0] if view else "")
        remade = remaker.remake(feature, Request.parse(texts[base]).weights, run.features[name])
        if remade is None:
            raise _other_error(run, feature)
        features.append(remade)
    return features


def _check_not_imported(run: Run, name: str) -> None:
    if is_imported(name, run.features[name]):
        raise UsageError(
            f"Run {run.name} was trained on feature {name!r} that was imported; the network that "
            "makes it is unknown. Extract the features with `abaw extract` and train on these."
        )


def _default_text(run: Run, base: str) -> str:
    """The backbone that a feature is named after."""
    for name in names_behind(base):
        with suppress(UsageError):
            Request.parse(name)
            return f"{base}={name}"
    raise UsageError(
        f"Run {run.name} takes feature {base!r}, which is not named after a backbone. Name the backbone that makes it: "
        f"--backbone {base}=BACKBONE[:WEIGHTS]."
    )


def _other_error(run: Run, feature: Feature) -> CheckpointError:
    expected, record = run.features[feature.name]["fingerprint"], run.features[feature.name].get("record")
    fingerprint = feature.backbone.fingerprint(feature.spec, feature.view)
    here = without_alignment(feature.backbone.record(feature.spec, feature.view) | {"precision": None})
    other = "; ".join(differences(record, here)) if record else ""
    base = without_view(feature.name)
    what, backbone = "the weights that it was extracted with", feature.spec.name
    if other and not other.startswith("weights "):
        what, backbone = "the backbone that it was extracted with", "BACKBONE"
    return CheckpointError(
        f"Run {run.name} was trained on feature {feature.name!r} with fingerprint {expected[:12]}; {feature.spec.name} "
        f"here has {fingerprint[:12]}: {other or 'other weights or settings'}. Give {what}: --backbone {base}={backbone}:WEIGHTS."
    )


def describe_training_crops(run: Run, features: Sequence[Feature]) -> str:
    """A sentence if a run was trained on crops that `abaw prepare` did not make, else empty."""
    others = [
        feature.name
        for feature in features
        if feature.spec.modality == "vision" and feature.alignment in (GIVEN, MIXED)
    ]
    if not others:
        return ""
    return (
        f"Run {run.name} was trained on crops that `abaw prepare` did not make ({', '.join(others)}). Crops of videos "
        "are aligned differently, so its predictions may be worse than its scores."
    )
