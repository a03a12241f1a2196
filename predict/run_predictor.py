"""A trained run with the networks of its features, as a predictor of faces. Features are checked by their fingerprints."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from abaw.backbones.vision.timm_names import names_behind
from abaw.backbones.vision.views import parse_view
from abaw.core.devices import pick_device
from abaw.core.errors import CheckpointError, DataError, UsageError
from abaw.core.names import without_view
from abaw.core.progress import Reporter, Summary
from abaw.core.records import FLOAT32, GIVEN, MIXED, differences, without_alignment
from abaw.core.tasks import Task
from abaw.datasets.layouts import open_dataset
from abaw.evaluate.pixel_predictions import weights_of
from abaw.evaluate.submission.coverage import frames_in_store
from abaw.evaluate.trained import Selection, TrainedRun
from abaw.exchange.importer import is_imported
from abaw.extract.feature import Feature
from abaw.extract.precision import BFLOAT16
from abaw.extract.remake import Remaker
from abaw.extract.request import ExtractOptions, Request, create_features
from abaw.extract.stage import Stage
from abaw.predict.face_predictor import PredictedFile, check_done
from abaw.predict.input_files import PredictOptions, is_image
from abaw.store import FeatureStore
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.runs import Run


class RunPredictor:
    """A run with its networks loaded; see `FacePredictor`.

    `note` is a sentence on how the crops of videos differ from those of the training; empty if they do not. `networks` are
    the features that it computes.

    Args:
        run: of a task about faces.
        options: of these, `backbones`, `raw`, `untrained` and `device` are used here.

    Raises:
        UsageError: the run is about whole clips, its features were imported, or a backbone is unknown.
        CheckpointError: weights are missing or differ from the run's, or the run is damaged.
    """

    def __init__(self, run: Run, options: PredictOptions) -> None:
        self.run, self.options = run, options
        if self.task.level == "video":
            raise UsageError(
                f"Run {run.name} is of task {self.task.name}, about whole clips and not faces. Name a run of another task."
            )
        self.trained = TrainedRun.open(run, options.device, options.raw)
        tuning = self.trained.tuning
        if tuning and tuning.postprocess.prefer:
            raise UsageError(
                f"The post-processing of run {run.name} prefers feature {tuning.postprocess.prefer.feature!r} of a store, "
                "which videos do not have. Leave it out with --raw."
            )
        self.trained.load()
        self.networks = load_features(run, options.backbones, options.device, options.untrained)
        self.note = describe_training_crops(run, self.networks)
        n = run.config.length
        self.image_note = (
            f"Run {run.name} looks at {n} frames at once, and an image is one: expect less than on videos."
            if n > 1
            else ""
        )

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.name

    @property
    def task(self) -> Task:
        """The task of the run."""
        return self.run.task

    def sources(self) -> dict[str, Any]:
        """See `FacePredictor`."""
        run, tuning = self.run, self.trained.tuning
        return {
            "run": run.name,
            "run_created": run.created,
            "task": self.task.name,
            "features": {name: run.features[name]["fingerprint"] for name in run.config.features},
            "weights_sha256": self.trained.checkpoint,
            "postprocess": {"origin": tuning.origin, **tuning.postprocess.model_dump(mode="json")} if tuning else None,
        }

    def predict(self, predicted: PredictedFile, reporter: Reporter) -> None:
        """See `FacePredictor`."""
        store = self._extract(predicted, reporter)
        known = [store.videos(feature) for feature in self.trained.features]
        predictions = self.trained.predict(store, Selection(rows=frames_in_store(known, predicted.people)))
        predicted.outputs = {person: prediction.outputs for person, prediction in predictions.items()}

    def _extract(self, predicted: PredictedFile, reporter: Reporter) -> FeatureStore:
        """Put the run's features of a video into a store of its own."""
        path = predicted.folder / "store.zarr"
        store = FeatureStore.create(path)
        for feature in self.networks:
            # as the features of the training, though its crops may be aligned otherwise: `note` is about that
            store.add_feature(feature.name, **feature.describe())
        options = ExtractOptions(predicted.folder, path, (), device=self.options.device)
        dataset = open_dataset(predicted.folder)
        stage, summary = Stage(options, dataset, store, tuple(self.networks)), Summary()
        plan = stage.plan(summary, reporter)
        reporter.start("extract", plan.n_frames, "frames")
        stage.run(plan.groups, summary, reporter.advance)
        reporter.finish()
        check_done(summary, predicted.file)
        # the warnings of an image say that it has no frame rate
        predicted.notes += [*([] if is_image(predicted.file) else summary.warnings), *summary.broken_frames]
        if summary.without_sound:
            if all(feature.spec.modality == "audio" for feature in self.networks):
                raise DataError(f"it has no sound, and run {self.run.name} uses sound only")
            predicted.notes.append("it has no sound: predicted without the features of sound")
        if summary.without_text:
            if all(feature.spec.modality == "text" for feature in self.networks):
                raise DataError(f"it has no transcript, and run {self.run.name} uses text only")
            predicted.notes.append("it has no transcript: predicted without the features of text")
        return FeatureStore.open(path)


def load_features(
    run: Run,
    backbones: Sequence[str],
    device: str = "auto",
    untrained: bool = False,
    names: Sequence[str] = (),
) -> list[Feature]:
    """The backbones of a run's features, with the weights that made these features.

    Args:
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` of those whose backbone or weights are not the default ones.
        device: "auto" takes a GPU if there is one.
        untrained: random weights.
        names: of the features to load; by default all.

    Raises:
        UsageError: a feature was imported, or no backbone has its name; a backbone belongs to no feature of the run.
        CheckpointError: weights are missing, or weights or settings differ from the run's.
    """
    requested = {Request.parse(text).feature: text for text in backbones}
    bases = {name: without_view(name) for name in names or run.config.features}
    unknown = [name for name in requested if name not in bases.values()]
    if unknown:
        raise UsageError(
            f"Run {run.name} takes no feature {unknown[0]!r}; it takes {', '.join(dict.fromkeys(bases.values()))}. Name "
            "the feature before the backbone: --backbone NAME=BACKBONE[:WEIGHTS]."
        )
    if isinstance(run.config, FinetuneConfig):
        return _fine_tuned(run, run.config, requested, device)
    for name in bases:
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


def _fine_tuned(run: Run, config: FinetuneConfig, requested: Mapping[str, str], device: str) -> list[Feature]:
    """The encoders that a run fine-tuned, and its frozen ones with their default weights, or those that were requested."""
    files = weights_of(run)
    if missing := [file for copies in files.values() for file in copies if not file.is_file()]:
        raise CheckpointError(
            f"Run {run.name} has no {missing[0].name}. End its training: abaw finetune --resume --run {shlex.quote(run.name)}."
        )
    texts = []
    for name, backbone in config.backbone_of().items():
        if name in requested or name not in files:
            texts.append(requested.get(name) or f"{name}={backbone}")
        else:
            texts += [f"{name}{f'-{copy}' if copy else ''}={backbone}:{file}" for copy, file in enumerate(files[name])]
    return create_features(ExtractOptions(Path(), Path(), tuple(texts), (), 1, device, "fp32"))


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
    here = without_alignment(feature.backbone.record(feature.spec, feature.view) | {"precision": None, "decoder": None})
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
