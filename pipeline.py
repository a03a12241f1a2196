"""Every stage as a function that does its work when it is called: the command line calls them, and notebooks can.

    prepare(PrepareOptions(...))           videos -> face crops and sound
    extract(ExtractOptions(...))           crops, sound and labels -> store
    train_seeds([config], store, runs)     store -> runs
    tune(run, store, fit_on, runs)         run and store -> post-processing
    find_predictor(runs, name)             a run or an ensemble, opened
    evaluate(predictor, store, split)      predictor and store -> scores and predictions
    submit(predictor, store, sample)       predictor and store -> submission file
    predict_videos(run, options)           run, videos and images -> tables, timelines and overlays
    predict_stream(run, source)            run and a camera -> rows as its frames come

Stages report progress to a `Reporter` and print nothing. Importing this module loads nothing heavy: each stage imports
what it needs, after names and files have been checked. The types that stages take, such as `ExtractOptions`, can be
imported from here, too.
"""

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from abaw.core.errors import AbawError, UsageError
from abaw.core.files import Place
from abaw.core.progress import Reporter, Silent, Summary

if TYPE_CHECKING:
    from abaw.backbones.published import FamilyWeights
    from abaw.backbones.registry import Family
    from abaw.backbones.spec import BackboneSpec
    from abaw.core.tasks import Task
    from abaw.datasets.demo.kinds import DemoKind
    from abaw.datasets.doctor import VideoReport
    from abaw.datasets.stills.still_set import StillSet
    from abaw.datasets.synth import Made
    from abaw.datasets.synth.paths import SynthOptions
    from abaw.evaluate.compare import Comparison
    from abaw.evaluate.ensemble import Ensemble
    from abaw.evaluate.evaluation import Evaluation
    from abaw.evaluate.postprocessing.postprocess import FitMethod
    from abaw.evaluate.postprocessing.tuning import FitChoice, Tuning
    from abaw.evaluate.published_scores import PublishedScore
    from abaw.evaluate.run_summaries import RunSummary
    from abaw.evaluate.submission.check import Check
    from abaw.evaluate.submission.formats import Sample  # noqa: F401  of TYPES
    from abaw.evaluate.submission.row_files import NameSample  # noqa: F401
    from abaw.evaluate.submission.sample_files import AnySample
    from abaw.evaluate.submission.write import Submission
    from abaw.evaluate.trained import BestRun, Predictor
    from abaw.exchange.importer import ImportOptions
    from abaw.extract.cluster.cluster import ClusterOptions
    from abaw.extract.faces.prepare import PrepareOptions
    from abaw.extract.forecast import Forecast
    from abaw.extract.request import ExtractOptions
    from abaw.predict.input_files import PredictOptions
    from abaw.predict.output_rows import OutputRow
    from abaw.predict.run_export import Exported
    from abaw.predict.stream import FaceStream, Frames
    from abaw.predict.videos import PredictSummary
    from abaw.store import FeatureStore
    from abaw.store.audit import FeatureInfo, LabelInfo, Problem
    from abaw.store.packing import PackSummary
    from abaw.train.config import TrainConfig
    from abaw.train.data.table import Table
    from abaw.train.finetune.finetune_config import FinetuneConfig
    from abaw.train.finetune.memory_plan import MemoryPlan
    from abaw.train.head_options import HeadConfig
    from abaw.train.loop import TrainingResult
    from abaw.train.loss_options import LossConfig
    from abaw.train.recipes import Recipe
    from abaw.train.runs import Run
    from abaw.workflow.recipe_plan import RecipeOptions, RecipePlan, Step
    from abaw.workflow.recipe_run import ScoreRow
else:
    TYPES = {
        "ClusterOptions": "abaw.extract.cluster.cluster",
        "ExtractOptions": "abaw.extract.request",
        "FeatureStore": "abaw.store",
        "ImportOptions": "abaw.exchange.importer",
        "PredictOptions": "abaw.predict.input_files",
        "PrepareOptions": "abaw.extract.faces.prepare",
        "RecipeOptions": "abaw.workflow.recipe_plan",
        "Step": "abaw.workflow.recipe_plan",
        "NameSample": "abaw.evaluate.submission.row_files",
        "Sample": "abaw.evaluate.submission.formats",
        "SynthOptions": "abaw.datasets.synth.paths",
    }

    def __getattr__(name: str) -> Any:
        """Loads a type that stages take when it is first used."""
        if name not in TYPES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(TYPES[name]), name)


# data


def doctor(
    data: Path,
    fps: float | None = None,
    reporter: Reporter | None = None,
    tasks: Sequence[str] = (),
    people: str = "",
) -> "list[VideoReport]":
    """Check data against labels: every crop is decoded, every label read. See `VideoReport`.

    Args:
        tasks: task files whose labels are read, too.
        people: who is in the videos, see `abaw.datasets.named_people.with_people`.
    """
    from abaw.core.tasks import get_task
    from abaw.datasets.doctor import examine_folder

    for task in tasks:
        get_task(task)
    return examine_folder(data, fps, reporter, people)


def doctor_totals(reports: "Sequence[VideoReport]") -> dict[str, Any]:
    """Sums over the reports of `doctor`, as `abaw doctor --json` prints them."""
    from abaw.datasets.doctor import totals

    return totals(reports)


def check_prepare(options: "PrepareOptions") -> None:
    """Check that the videos to prepare and the weights of the identity exist, without loading torch.

    Raises:
        UsageError: a video does not, or is no video file.
        CheckpointError: weights of the identity do not.
    """
    from abaw.extract.faces.face_identity import check_identity
    from abaw.extract.faces.prepare import list_videos

    list_videos(options.videos)
    check_identity(options.identity)


def prepare(options: "PrepareOptions", reporter: Reporter | None = None) -> Summary:
    """Write crops, sound and tables of the faces of videos into a dataset; see `prepare_videos`."""
    from abaw.extract.faces.prepare import prepare_videos

    return prepare_videos(options, reporter or Silent())


def synth(
    faces: Path,
    backgrounds: Path | None,
    out: Path,
    n_clips: int,
    kind: str = "mp4",
    options: "SynthOptions | None" = None,
    reporter: Reporter | None = None,
    only: str = "",
) -> "Made":
    """Make synthetic group-emotion clips; see `write_clips`."""
    from abaw.datasets.synth import write_clips

    return write_clips(faces, backgrounds, out, n_clips, kind, options, reporter=reporter, only=only)


def demo(
    out: Path,
    size: str = "small",
    seed: int = 0,
    device: str = "auto",
    reporter: Reporter | None = None,
    kind: str = "aff-wild2",
    on_result: "Callable[[Run, Evaluation], None] | None" = None,
) -> "list[tuple[Run, Evaluation]]":
    """Make a demo dataset, extract its features, train and evaluate its tasks; what an earlier call finished is kept.

    Args:
        kind: layout of the dataset, a name of `DEMO_KINDS`; sets of stills are only made.
        on_result: called with the run and the validation scores of each task.
    """
    from abaw.core.claim_files import claimed
    from abaw.datasets.demo.kinds import get_demo_kind, make_demo

    demo_kind, reporter = get_demo_kind(kind), reporter or Silent()
    out.mkdir(parents=True, exist_ok=True)
    with claimed(out / "demo", also=[out / "data"]):
        make_demo(out / "data", demo_kind, size, seed, reporter)
        if not demo_kind.heads:
            return []
        return _train_demo(out, demo_kind, device, reporter, on_result)


def _train_demo(
    out: Path,
    demo_kind: "DemoKind",
    device: str,
    reporter: Reporter,
    on_result: "Callable[[Run, Evaluation], None] | None",
) -> "list[tuple[Run, Evaluation]]":
    from abaw.core.tasks import TASKS
    from abaw.evaluate.trained import open_predictor
    from abaw.extract.request import ExtractOptions
    from abaw.train.config import make_config

    summary = extract(ExtractOptions(out / "data", out / "store.zarr", ("hog",), device=device), reporter)
    if not summary.ok:
        reason = summary.stopped.sentence if summary.stopped else summary.failed
        raise AbawError(f"The demo's extraction did not finish: {reason}. Run it again.")
    store, results = open_store(out / "store.zarr"), []
    longest = max(int(attrs["n_frames"]) for attrs in store.videos("hog").values())
    for task, head in demo_kind.heads.items():
        options: dict[str, Any] = {"task": task, "features": ("hog",), "head": {"name": head}, "fold": demo_kind.fold}
        if TASKS[task].level == "frame":  # a window of frames cannot be longer than every video
            options["window"] = min(TASKS[task].window, longest)
        config = make_config(options)
        [(run, _)] = train_seeds([config], store, out / "runs", device=device, reporter=reporter, resume=True)
        results.append((run, evaluate(open_predictor(run.folder, device), store, "val", out / "data")))
        if on_result is not None:
            on_result(*results[-1])
    return results


# weights


def list_weights() -> "list[FamilyWeights]":
    """Every family of backbones that has weights, with what is published for it and what is on this machine."""
    from abaw.backbones.published import weights_at_hand

    return weights_at_hand()


def weights_as_json(weights: "Sequence[FamilyWeights]") -> dict[str, Any]:
    """What `list_weights` found, as `abaw weights list --json` prints it."""
    from abaw.backbones.published import as_json

    return as_json(weights)


def describe_weights_folder() -> str:
    """A sentence on where weights are put and looked for."""
    from abaw.backbones.published import describe_folder

    return describe_folder()


def find_weights(name: str) -> "FamilyWeights":
    """The weights of a family, by its name or that of a backbone, `timm/<model>` among them."""
    from abaw.backbones import published

    return published.find_weights(name)


def get_weights(
    weights: "FamilyWeights",
    reporter: Reporter | None = None,
    on_start: "Callable[[FamilyWeights], None]" = lambda weights: None,
) -> list[Path]:
    """Download what is published for a family and not on this machine yet; returns all its files.

    Args:
        on_start: called before the download, once it is clear that there may be one.

    Raises:
        CheckpointError: they are only to be had by hand, or the download failed.
    """
    from abaw.backbones import downloads, published

    published.check_known(weights)
    on_start(weights)
    return downloads.get_weights(weights, reporter)


def check_weights(file: Path) -> list[tuple[str, str, str]]:
    """Backbones that a weights file fits, best first: name, fingerprint of the feature, notes; see `find_fitting`."""
    from abaw.backbones.fitting_weights import find_fitting

    return find_fitting(file)


# store


def extract(
    options: "ExtractOptions", reporter: Reporter | None = None, cluster: "ClusterOptions | None" = None
) -> Summary:
    """Run backbones over all crops and sounds of a dataset into the store; see `abaw.extract.extraction.extract`."""
    from abaw.extract import extraction

    return extraction.extract(options, reporter, cluster)


def check_extract(options: "ExtractOptions") -> None:
    """Check the names and the folder of an extraction, without loading torch or reading the data.

    Raises:
        AbawError: unknown names, no data, no compiler to compile networks with, or no torchcodec to decode with.
    """
    from abaw.extract.request import check_compiler, wants_text

    if not options.data.is_dir():
        from abaw.datasets.layouts import open_dataset

        open_dataset(options.data)  # its error says what is expected there
    wants_text(options)
    if options.follows:
        options.faces_from().check()
    if options.compile:
        check_compiler()
    if options.decoder == "gpu":
        from abaw.media.decoders import check_gpu_decoder

        check_gpu_decoder()


def requested_features(options: "ExtractOptions") -> list[str]:
    """Names of the features that an extraction is asked for, views included."""
    from abaw.extract import request

    return list(request.requested_features(options))


def forecast_extraction(options: "ExtractOptions", reporter: Reporter | None = None) -> "Forecast":
    """What an extraction would do: videos, frames and size of each missing feature; nothing is decoded or written."""
    from abaw.extract import forecast

    return forecast.forecast_extraction(options, reporter)


def open_store(place: Place, features: Sequence[str] = ()) -> "FeatureStore":
    """Open a feature store for reading, once it is clear that it has some features."""
    from abaw.store.feature_names import check_features

    check_features(place, features)
    from abaw.store import FeatureStore

    return FeatureStore.open(place)


def describe_store(store: "FeatureStore") -> "tuple[list[FeatureInfo], list[LabelInfo]]":
    """What is in a store: of each feature, and of the labels of each task and split."""
    from abaw.store import audit

    return audit.describe_store(store), audit.describe_label_rows(store)


def verify_store(store: "FeatureStore", reporter: Reporter | None = None) -> "list[Problem]":
    """Read everything in a store and return what is wrong."""
    from abaw.store import audit

    return audit.verify_store(store, reporter or Silent())


def repair_store(place: Place, reporter: Reporter | None = None) -> "tuple[list[Problem], list[Problem]]":
    """Drop damaged and incomplete videos and labels; returns the problems that were dropped, and those that are left."""
    from abaw.store import FeatureStore, audit

    FeatureStore.open(place)  # else a slip in the path would make an empty store
    return audit.repair_store(FeatureStore.create(place), reporter or Silent())


def pack_store(place: Place, reporter: Reporter | None = None) -> "PackSummary":
    """Pack the videos of a store, and their labels, into a few large files; see `abaw.store.packing.pack_store`."""
    from abaw.store import FeatureStore, packing

    FeatureStore.open(place)  # else a slip in the path would make an empty store
    return packing.pack_store(FeatureStore.create(place), reporter or Silent())


def import_features(options: "ImportOptions", reporter: Reporter | None = None) -> Summary:
    """Put features that were made elsewhere into a store; see `abaw.exchange.importer.import_features`."""
    from abaw.exchange import importer

    return importer.import_features(options, reporter)


def export_feature(
    store: "FeatureStore",
    feature: str,
    out: Path,
    form: Literal["h5", "npy", "parquet", "lance", "webdataset"] = "h5",
    reporter: Reporter | None = None,
) -> tuple[int, int]:
    """Write the complete videos of a feature for other programs; returns the numbers of videos and frames."""
    from abaw.exchange import exporter

    return exporter.export_feature(store, feature, out, form, reporter)


# training


def load_recipe(name: str) -> "Recipe":
    """A recipe by its name, or by the path of its `.toml` file."""
    from abaw.train import recipes

    return recipes.load_recipe(name)


def find_setting(word: str, head: str = "", loss: str = "", *, pixels: bool = False) -> str:
    """The key that `--set` takes for a word such as `dropout`, or for a similar one; empty if there is none."""
    from abaw.train import config

    return config.find_setting(word, head, loss, pixels=pixels)


def format_config(config: "TrainConfig") -> str:
    """All options of a training as a recipe, which `load_recipe` reads."""
    from abaw.train import recipes

    return recipes.format_config(config)


def add_task(path: str) -> "Task":
    """Read a task file; the task is known by its name in this process from then on. See `abaw.core.task_files`.

    Args:
        path: of the file, `mine.toml`; of the folder of a run or an ensemble that recorded the task, such as `runs/mine-1`;
            also the name of a known task.
    """
    from abaw.core.tasks import TASKS, get_task
    from abaw.train.run_files import split_checkpoint

    if path.endswith(".toml") or os.sep not in path or not split_checkpoint(Path(path))[0].is_dir():
        return get_task(path)
    from abaw.evaluate.ensemble import find_ensemble

    task = (find_ensemble(Path(), path) or find_run(Path(), path)).task
    task = task.selected_from or task
    return TASKS.add(task, path) if TASKS.is_recorded(task.name) else task


def check_choices(task: str = "", head: str = "", loss: str = "") -> None:
    """Raise a UsageError if no task, head or loss has such a name; loads no torch."""
    from abaw.core.tasks import get_task

    if task:
        get_task(task)
    if head or loss:
        from abaw.train.config import check_choices

        check_choices(head, loss)


def make_train_configs(
    store: "FeatureStore | None",
    task: str | None = None,
    features: Sequence[str] = (),
    values: dict[str, Any] | None = None,
    settings: Sequence[str] = (),
    recipe: "Recipe | None" = None,
    n_seeds: int = 1,
) -> "list[TrainConfig]":
    """A config on features of a store for each of some seeds; see `abaw.train.new_run.make_train_config`.

    Args:
        store: None checks the options alone; features or a recipe are needed then.
    """
    from abaw.train import new_run

    config = new_run.make_train_config(store, task, features, values or {}, settings, recipe)
    return new_run.with_seeds(config, n_seeds)


def train(
    run: "Run",
    store: "FeatureStore | None",
    tables: "tuple[Table, Table] | None" = None,
    device: str = "auto",
    reporter: Reporter | None = None,
    on_result: "Callable[[Run, TrainingResult], None] | None" = None,
) -> "TrainingResult":
    """Train a run from its last checkpoint, or from the start; see `train_run`."""
    from abaw.evaluate.inference import SCORING
    from abaw.train.train_runs import train_run

    return train_run(run, store, SCORING, tables, device, reporter, on_result)


def train_seeds(
    configs: "Sequence[TrainConfig]",
    store: "FeatureStore",
    runs: Path,
    name: str | None = None,
    stem: str = "",
    device: str = "auto",
    reporter: Reporter | None = None,
    resume: bool = False,
    on_result: "Callable[[Run, TrainingResult], None] | None" = None,
    init: str | None = None,
) -> "list[tuple[Run, TrainingResult]]":
    """Train one run for each config; they differ in their seed only. See `abaw.train.train_runs.train_seeds`.

    Args:
        init: run or file whose weights new runs begin with, see `abaw.train.warm_start.read_initial_weights`.
    """
    from abaw.evaluate.inference import SCORING
    from abaw.train import new_run, train_runs

    weights = None if init is None else new_run.initial_weights(configs[0], store, runs, init)
    return train_runs.train_seeds(
        configs, store, runs, SCORING, name=name, stem=stem,
        device=device, reporter=reporter, resume=resume, on_result=on_result, init=weights,
    )  # fmt: skip


def make_finetune_configs(
    task: str | None = None,
    backbones: Sequence[str] = (),
    values: dict[str, Any] | None = None,
    settings: Sequence[str] = (),
    recipe: "Recipe | None" = None,
    n_seeds: int = 1,
) -> "list[FinetuneConfig]":
    """A config on backbones (`BACKBONE[:FILE]`) for each of some seeds; see `abaw.train.finetune.new_finetune`."""
    from abaw.train.finetune import new_finetune

    return new_finetune.make_finetune_configs(task, backbones, values or {}, settings, recipe, n_seeds)


def plan_finetune(config: "FinetuneConfig", device: str = "auto", memory_gb: float = 0.0) -> "MemoryPlan":
    """The memory that a fine-tuning takes, and options that need less; see `abaw.train.finetune.memory_plan`.

    Args:
        memory_gb: of a GPU that is not here, or of the CPU; 0 takes what the device has free.
    """
    from abaw.core.devices import pick_device
    from abaw.train.finetune.memory_plan import plan_memory

    is_elsewhere = memory_gb and device != "cpu"
    return plan_memory(config, None if is_elsewhere else pick_device(device), memory_gb)


def finetune_seeds(
    configs: "Sequence[FinetuneConfig]",
    data: Path,
    runs: Path,
    weights: Sequence[str] = (),
    untrained: bool = False,
    name: str | None = None,
    stem: str = "",
    device: str = "auto",
    reporter: Reporter | None = None,
    resume: bool = False,
    on_result: "Callable[[Run, TrainingResult], None] | None" = None,
    images: Sequence[str] = (),
) -> "list[tuple[Run, TrainingResult]]":
    """Fine-tune one run for each config on the crops of a data folder; they differ in their seed only.

    Args:
        weights: `BACKBONE:FILE` of those that do not begin with their default weights.
        untrained: begin with random weights.
        images: `NAME=FOLDER` of sets of still images, which take the place of the crops.
    """
    from abaw.evaluate.inference import SCORING
    from abaw.train.finetune import finetune_runs, new_finetune, still_table

    folders, stills = still_table.parse_sets(images), None
    if folders:
        stills = still_table.StillFolders(folders, _alignment(device))
    source = finetune_runs.FinetuneSource(data, new_finetune.first_weights(weights, untrained), stills)
    return finetune_runs.finetune_seeds(
        configs, source, runs, SCORING, name=name, stem=stem,
        device=device, reporter=reporter, resume=resume, on_result=on_result,
    )  # fmt: skip


def finetune(
    run: "Run",
    data: Path,
    device: str = "auto",
    reporter: Reporter | None = None,
    on_result: "Callable[[Run, TrainingResult], None] | None" = None,
) -> "TrainingResult":
    """Continue a fine-tuning from its last checkpoint."""
    from abaw.evaluate.inference import SCORING
    from abaw.train.finetune.finetune_runs import finetune_run

    return finetune_run(run, data, SCORING, device, reporter, on_result, _alignment(device))


def _alignment(device: str) -> "Callable[[StillSet, Reporter], None]":
    """What aligns the faces of a set of still images, with the default detector."""

    def align(found: "StillSet", reporter: Reporter) -> None:
        from abaw.extract.faces.detector import create_detector
        from abaw.extract.faces.still_alignment import align_stills

        align_stills(found, lambda: create_detector(device=device), reporter)

    return align


def check_forbidden(
    forbidden: Sequence[str],
    weights: Sequence[str] = (),
    data: Path | None = None,
    images: Sequence[str] = (),
    store: "FeatureStore | None" = None,
    features: Sequence[str] = (),
    predictor: "Predictor | None" = None,
) -> None:
    """Refuse encoders that were trained on a data set; see `abaw.train.data.forbidden_sets`.

    Args:
        forbidden: names of data sets, such as `aff-wild2`.
        weights: `[NAME=]BACKBONE:FILE`, whose files say what they were trained on.
        data, images: what encoders are to be trained on: a data folder, or sets of still images, `NAME=FOLDER`.
        store, features: features to train a head on.
        predictor: a run or an ensemble; one on features is judged by those of the store.

    Raises:
        UsageError: an encoder has seen one of the data sets.
    """
    if not forbidden:
        return
    from abaw.backbones.backbone_names import parse_backbone
    from abaw.train.data import forbidden_sets

    forbidden_sets.check_name(forbidden)
    files = [file for _, _, file in map(parse_backbone, weights) if file is not None]
    forbidden_sets.check_files([Path(file).expanduser() for file in files], forbidden)
    if data is not None:
        forbidden_sets.check_folder(data, [text.partition("=")[0] for text in images], forbidden)
    if store is not None and predictor is None:
        forbidden_sets.check_features(store, features, forbidden)
    if predictor is not None:
        from abaw.evaluate.forbidden_runs import check_predictor

        check_predictor(predictor, store, forbidden)


def change_run(run: "Run", settings: "Sequence[str]", epoch: int | None = None) -> "Run":
    """Prepare a started run to be trained further: new options, see `abaw.train.runs.change_run`.

    Args:
        epoch: go back to the checkpoint of this epoch, see `abaw.train.rewinding.rewind`.
    """
    from abaw.train import rewinding, runs

    with runs.claimed_run(run):
        changed = runs.change_run(run, settings, epoch) if settings else run
        if epoch is not None:
            rewinding.rewind(run.folder, epoch)
    return changed


# recipes


def plan_recipe(options: "RecipeOptions") -> "RecipePlan":
    """The steps of a recipe, and which are done; computes and writes nothing."""
    from abaw.workflow import recipe_plan

    return recipe_plan.plan_recipe(options)


def run_recipe(
    options: "RecipeOptions", reporter: Reporter | None = None, on_step: "Callable[[Step], None]" = lambda step: None
) -> "tuple[RecipePlan, list[ScoreRow]]":
    """Do the steps of a recipe that are missing: extract, train, tune, evaluate, report; see `abaw.workflow.recipe_run`.

    Args:
        on_step: called with each step before it begins.
    """
    from abaw.workflow import recipe_run

    return recipe_run.run_recipe(options, reporter, on_step)


# evaluation


def find_run(runs: Path, name: str | None = None, task: str | None = None) -> "Run":
    """The run called `name` (under `runs`, or a path), or else the newest one (of a task)."""
    from abaw.train.run_files import CONFIG, check_any_run, find_folder

    check_any_run(runs, task) if name is None else find_folder(runs, name, CONFIG)
    from abaw.train import runs as known_runs

    return known_runs.find_run(runs, name, task)


def find_predictor(
    runs: Path, name: str | None = None, device: str = "auto", raw: bool = False, task: str | None = None
) -> "Predictor":
    """Open the run or ensemble called `name` (under `runs`, or a path), or else the newest run (of a task).

    Args:
        raw: without the post-processing that `tune` fitted.
    """
    from abaw.train.run_files import CONFIG, ENSEMBLE, check_any_run, find_folder

    check_any_run(runs, task) if name is None else find_folder(runs, name, CONFIG, ENSEMBLE)
    from abaw.evaluate import trained

    return trained.find_predictor(runs, name, device, raw, task)


def find_best(
    runs: Path, task: str, features: Sequence[str] | None = None, device: str = "auto", raw: bool = False
) -> "BestRun":
    """Open the run or ensemble of a task that validates best; see `abaw.evaluate.trained.find_best`.

    Without a run of `ce`, the best of `expr` is taken, which predicts it.

    Args:
        features: of the store; runs that need others are passed over.
        raw: without the post-processing that `tune` fitted.
    """
    from abaw.train.run_files import CONFIG, ENSEMBLE, list_names, no_run

    if not list_names(runs, CONFIG, ENSEMBLE):
        raise no_run(runs, task)
    from abaw.evaluate import compound, trained

    if task == compound.COMPOUND_TASK and not any(run.task == task for run in list_runs(runs)[0]):
        task = "expr"
    return trained.find_best(runs, task, features, device, raw)


def tune(
    run: "Run",
    store: "FeatureStore | None",
    fit_on: "FitChoice",
    runs: Path,
    device: str = "auto",
    reporter: Reporter | None = None,
    method: "FitMethod | None" = None,
) -> "Tuning":
    """Fit the post-processing of a run's best checkpoint and keep it in the run; see `abaw.evaluate.trained.tune`.

    Args:
        store: None only for a fine-tuned run, which predicts from images.
        method: from `tuning_method`; by default the recipe of the run gives it, or all is fitted.
    """
    from abaw.evaluate import trained

    return trained.tune(run, store, fit_on, runs, device, reporter, method)


def tuning_method(
    task: "Task",
    threshold: str | None = None,
    smooth: str | None = None,
    bias: str | None = None,
    per_person: bool = False,
    prefer: str | None = None,
) -> "FitMethod":
    """How `tune` fits, and what is given instead; see `abaw.evaluate.postprocessing.postprocess_options.parse_method`."""
    from abaw.evaluate.postprocessing.postprocess_options import parse_method

    return parse_method(task, threshold, smooth, bias, per_person, prefer)


def check_smoothing(task: "Task", text: str) -> None:
    """Raise a UsageError if a text is not the smoothing of this task's outputs, before anything is loaded."""
    from abaw.evaluate.postprocessing.postprocess_options import parse_smoothings

    parse_smoothings(task, text)


def open_store_for(predictor: "Predictor | Run", place: Place) -> "FeatureStore | None":
    """Open the store that a run or ensemble predicts from; None if there is none and fine-tuned runs need none.

    Raises:
        StoreError: it is needed and missing, or damaged.
    """
    from abaw.store import FeatureStore
    from abaw.train.runs import Run

    needs = not predictor.config.is_of_pixels if isinstance(predictor, Run) else predictor.needs_store
    return open_store(place) if needs else FeatureStore.open_if_there(place)


def evaluate(
    predictor: "Predictor",
    store: "FeatureStore | None",
    split: str = "val",
    data: Path | None = None,
    smoothing: str | None = None,
    reporter: Reporter | None = None,
) -> "Evaluation":
    """Score a run or ensemble on a split; keep scores, predictions and a picture in its folder.

    Args:
        data: the data folder, whose faces go into the picture; it may be missing.
        smoothing: such as `box:51`, or `valence=box:101,arousal=box:41`, in place of the fitted post-processing.
    """
    from abaw.evaluate import trained

    reporter = reporter or Silent()
    if store is not None and not predictor.fold and (sentence := trained.shared_people(store, predictor.task, split)):
        reporter.warn(sentence)
    return trained.evaluate(predictor.reporting(reporter), store, split, data, smoothing, reporter)


def score_predictions(
    store: "FeatureStore",
    path: Path,
    split: str = "val",
    task: str | None = None,
    feature: str | None = None,
    data: Path | None = None,
    threshold: float | None = None,
) -> "Evaluation":
    """Score a submission file, or a folder with a file for each video, or tables of OpenFace, py-feat or LibreFace.

    Args:
        task: its name; by default what the header of the file says.
        feature: tells which frames have a crop; by default the first visual feature. Not for tables.
        threshold: from which probability or intensity an action unit of tables is on.
    """
    from abaw.core.tasks import get_task
    from abaw.evaluate import table_scores
    from abaw.evaluate.submission import check, score

    if table_scores.are_tables(path, get_task(task) if task else None):
        if feature:
            raise UsageError("--feature is about submission files: tables say which frames have a face. Leave it out.")
        return table_scores.score_tables(store, get_task(task) if task else None, split, path, threshold)
    if threshold is not None:
        raise UsageError(
            f"--threshold is for tables of OpenFace, py-feat or LibreFace, and {path} is none. Leave it out."
        )
    known = get_task(task) if task else check.identify(path)
    return score.score_predictions(store, known, split, path, feature or "", data)


def keep_predictions(
    evaluation: "Evaluation", runs: Path, name: str, split: str, source: Path, store: "FeatureStore"
) -> Path:
    """Keep predictions that were scored in a folder next to runs, for `compare`; see `abaw.evaluate.kept_scores.keep`."""
    from abaw.evaluate import kept_scores

    return kept_scores.keep(evaluation, runs, name, split, source, str(store.path))


def _check_runs(runs: Path, names: Sequence[str], ensembles: bool = True) -> None:
    """Raise a UsageError for a run that does not exist, before anything is loaded.

    Args:
        ensembles: the message lists ensembles, too.
    """
    from abaw.train.run_files import CONFIG, ENSEMBLE, find_folder

    for name in names:
        if not any((folder / ENSEMBLE).is_file() for folder in (runs / name, Path(name))):
            find_folder(runs, name, CONFIG, *([ENSEMBLE] if ensembles else []))


def compare(runs: Path, names: tuple[str, str], split: str = "val", raw: bool = False) -> "Comparison":
    """Compare what two runs, ensembles or other programs (`keep_predictions`) predicted; see `compare_runs`."""
    from abaw.evaluate.kept_folders import find_kept_folder

    _check_runs(runs, [name for name in names if find_kept_folder(runs, name) is None])
    from abaw.evaluate.compare import compare_runs

    return compare_runs(runs, names, split, raw)


def create_ensemble(
    runs: Path,
    names: Sequence[str],
    weights: str | None = None,
    split: str = "val",
    name: str | None = None,
    raw: bool = False,
    output_weights: Sequence[str] = (),
) -> "tuple[Ensemble, Evaluation]":
    """Average or pool what runs predicted, keep it in a folder as that of a run, and score it.

    Args:
        names: of the runs, or patterns such as `va-*`; `PART=RUN` takes an output, or a part of the task, alone.
        weights: of the runs, numbers between commas; equal by default.
        output_weights: `RUN:OUTPUT=WEIGHT` of single outputs.
    """
    from abaw.core.names import is_pattern
    from abaw.evaluate.combining import joint_task
    from abaw.evaluate.output_weights import split_names, weigh_outputs

    pairs = split_names(runs, names)
    _check_runs(runs, [run for _, run in pairs if not is_pattern(run)], ensembles=False)
    from abaw.evaluate import ensemble

    members = ensemble.select_runs(runs, [run for _, run in pairs])
    shares = ensemble.parse_weights(weights) if weights else [1.0] * len(members)
    ensemble.check_weights(members, shares)
    task, member_names = joint_task([run.task for run in members]), [run.name for run in members]
    by_output = weigh_outputs(task, member_names, shares, pairs, output_weights)
    return ensemble.create_ensemble(runs, members, shares, split, name, raw, by_output)


def describe_members(evaluation: "Evaluation") -> list[str]:
    """Sentences on the runs behind the scores of an ensemble; nothing for a single run."""
    from abaw.evaluate import ensemble

    return ensemble.describe_members(evaluation)


def report(
    runs: Path, names: Sequence[str], split: str, out: Path, data: Path | None = None, plots: Path | None = None
) -> list[Path]:
    """Explain runs (by default the newest) in one HTML file; returns the figures, written where `plots` is given.

    Args:
        data: the data folder, whose faces are shown; it may be missing.
        plots: folder for the figures as PNG and PDF.
    """
    names = names or [find_run(runs).name]
    _check_runs(runs, names)
    from abaw.evaluate.report import content, face_crops, figures, html

    task, found = content.load_runs(runs, names, split)
    faces = face_crops.open_faces(data)
    about = content.describe_origin(runs, names, split, out, data, faces is not None)
    html.write_report(out, task, found, split, faces, about)
    return figures.save_figures(plots, task, found, split, faces) if plots is not None else []


# submission


def read_sample(path: Path, task: "str | Task | None" = None) -> "AnySample":
    """Read an official sample file, or a list of videos or clips.

    Args:
        task: what to predict; by default what the header says.
    """
    from abaw.core.tasks import get_task
    from abaw.evaluate.submission import sample_files

    return sample_files.read_sample(path, get_task(task) if isinstance(task, str) else task)


def check_submit(predictor: "Predictor", sample: "AnySample", out: Path | None = None) -> None:
    """Check that a predictor is of the task of a sample, and that the output does not exist, without loading torch.

    Raises:
        UsageError: one of both.
    """
    from abaw.evaluate.submission.write import check_fits, default_out

    check_fits(predictor.task, sample, out or default_out(sample))


def being_trained(predictor: "Predictor") -> list[str]:
    """A sentence for each run of a predictor that a process is training; see `abaw.evaluate.trained.being_trained`."""
    from abaw.evaluate import trained

    return trained.being_trained(predictor)


def submit(
    predictor: "Predictor",
    store: "FeatureStore | None",
    sample: "AnySample",
    out: Path | None = None,
    data: Path | None = None,
    allow_missing: bool = False,
    reporter: Reporter | None = None,
) -> "Submission":
    """Predict every row of an official sample; see `write_submission`."""
    from abaw.evaluate.submission.write import write_submission

    if store is None:
        predictor.features_in(None)  # says what to extract
    assert store is not None, "raised"
    return write_submission(predictor.reporting(reporter or Silent()), store, sample, out, data, allow_missing)


def check_submission(path: Path, sample: "AnySample", task: str | None = None) -> "Check":
    """Check a submission file, or a folder with a file for each video, against the official sample."""
    from abaw.core.tasks import get_task
    from abaw.evaluate.submission import check

    return check.check_submission(path, sample, get_task(task) if task else None)


# new videos and images


def find_inputs(runs: Path, arguments: Sequence[str]) -> "tuple[Run | None, list[Path]]":
    """The run, or None, and the files that `[RUN] FILE...` names: videos, images, and folders of them.

    Raises:
        UsageError: no such run or file; see `abaw.predict.input_files`.
    """
    from abaw.predict.input_files import list_inputs, split_arguments

    name, paths = split_arguments(runs, arguments)
    files = list_inputs(paths)
    return (None if name is None else find_run(runs, name)), files


def check_predict(run: "Run | None", options: "PredictOptions") -> None:
    """Check what can be checked before networks are loaded: the files, the options, the folder that is written to."""
    from abaw.extract.faces.face_identity import check_identity
    from abaw.predict import input_files

    input_files.list_inputs(options.files)
    input_files.check_options(run is None, options)
    check_identity(options.identity)
    input_files.make_folder(options.out)


def predict_video(
    run: "Run | None",
    file: Path,
    backbones: Sequence[str] = (),
    faces: int = 0,
    raw: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> "list[OutputRow]":
    """What a run, or without one `fer`, predicts for a video or image: a row for each frame and person seen in it."""
    from abaw.predict import videos

    return videos.predict_video(run, file, backbones, faces, raw, device, reporter)


def predict_videos(run: "Run | None", options: "PredictOptions", reporter: Reporter | None = None) -> "PredictSummary":
    """Predict videos and images into a folder for each: tables, a timeline and an overlay; see `abaw.predict.videos`.

    Args:
        run: None takes `fer`, seven expressions by a network that comes with the package.
    """
    check_predict(run, options)
    if reporter is not None:
        reporter.start("load the networks", 1, "network")  # takes seconds; the next step ends it
    from abaw.predict import videos

    return videos.predict_videos(run, options, reporter)


def find_stream(runs: Path, arguments: Sequence[str]) -> "tuple[Run | None, str]":
    """The run, or None, and the source that `[RUN] SOURCE` names: a video file, a URL, or a camera such as /dev/video0.

    Raises:
        UsageError: there is no such run, or not one source.
    """
    from abaw.predict.input_files import split_stream

    name, source = split_stream(arguments)
    return (None if name is None else find_run(runs, name)), source


def predict_stream(
    run: "Run | None",
    source: "str | Path | Frames",
    fps: float = 0.0,
    options: "PredictOptions | None" = None,
) -> "FaceStream":
    """What a run, or without one `fer`, predicts for faces while they are filmed: iterate the result for its rows.

    Rows come `delay` frames after their frame. See `abaw.predict.stream.FaceStream`.

    Args:
        source: a video file, the URL of a camera or stream, a camera such as /dev/video0, or, for each frame, its time in
            seconds and its (height, width, 3) uint8 RGB picture.
        fps: frames per second; needed for frames, else by default that of the file or camera.
    """
    from abaw.predict.input_files import check_options

    if options is not None:
        check_options(run is None, options)
    from abaw.predict import stream

    return stream.FaceStream(run, source, fps, options)


def export_run(
    run: "Run",
    out: Path | None = None,
    backbones: Sequence[str] = (),
    untrained: bool = False,
    reporter: Reporter | None = None,
) -> "Exported":
    """Write the networks of a run as ONNX files, for programs without torch; see `abaw.predict.run_export`.

    Args:
        out: folder to make; by default `onnx/<run>`.
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` of features whose backbone or weights are not the default ones.
        untrained: random weights, for runs on features that have them.
    """
    if reporter is not None:
        reporter.start("load the networks", 1, "network")
    from abaw.predict import run_export

    return run_export.export_run(run, out or Path("onnx") / run.name, backbones, untrained, reporter)


# what there is to choose from


def list_runs(runs: Path) -> "tuple[list[RunSummary], dict[str, str]]":
    """Runs and ensembles in a folder, the best of each task first; and why others cannot be read, by name."""
    from abaw.evaluate.run_summaries import summarise_runs

    return summarise_runs(runs)


def run_names(runs: Path) -> list[str]:
    """Names of the runs and ensembles in a folder."""
    from abaw.train.run_files import CONFIG, ENSEMBLE, list_names

    return list_names(runs, CONFIG, ENSEMBLE)


def feature_names(place: Place) -> list[str]:
    """Names of the features in a store in a local folder; empty for one at a URL."""
    from abaw.core.files import is_url
    from abaw.store.feature_names import list_features

    return [] if is_url(place) else list_features(Path(place))


def list_backbones() -> "list[Family]":
    """Every family of backbones, with the specs of its backbones and the distribution that it comes from."""
    from abaw.backbones.registry import list_families

    return list_families()


def outline_backbone(spec: "BackboneSpec") -> dict[str, Any]:
    """Shape, parameters, weights and licence of a backbone; see `abaw.backbones.description`."""
    from abaw.backbones import description

    return description.outline_backbone(spec)


def describe_backbone(name: str) -> dict[str, Any]:
    """All about a backbone, also about one of timm; see `abaw.backbones.description`."""
    from abaw.backbones import description

    return description.describe_backbone(name)


def list_heads() -> "dict[str, type[HeadConfig]]":
    """Every head by name: the class of its options."""
    from abaw.train.head_options import HEADS

    return dict(HEADS.items())


def list_losses() -> "dict[str, type[LossConfig]]":
    """Every loss by name: the class of its options."""
    from abaw.train.loss_options import LOSSES

    return dict(LOSSES.items())


def list_recipes() -> "list[Recipe]":
    """The recipes that come with abaw."""
    from abaw.train import recipes

    return [recipes.load_recipe(name) for name in recipes.recipe_names()]


def recipe_names() -> list[str]:
    """Names of the recipes that come with abaw."""
    from abaw.train import recipes

    return recipes.recipe_names()


def list_tasks() -> "list[Task]":
    """Every task with its outputs and measure."""
    from abaw.core.tasks import TASKS

    return list(TASKS.values())


def list_detectors() -> dict[str, str]:
    """Every face detector by name: distribution and version that it comes from."""
    from abaw.extract.faces.detector import list_detectors

    return list_detectors()


def list_layouts() -> dict[str, str]:
    """Every layout of data folders by name: distribution and version that it comes from."""
    from abaw.datasets.layouts import list_layouts

    return list_layouts()


def list_sources(kind: str) -> dict[str, str]:
    """Distribution and version of every head, loss or task by name.

    Args:
        kind: "heads", "losses" or "tasks".
    """
    from abaw.core import plugins

    return plugins.list_sources(f"abaw.{kind}")


def list_published(task: str | None = None) -> "list[PublishedScore]":
    """Scores that others published, of a task or of all.

    Raises:
        UsageError: no score of this task is known.
    """
    from abaw.evaluate import published_scores

    return published_scores.list_published(task)


def describe_published() -> str:
    """A sentence on how far scores on validation can be trusted."""
    from abaw.evaluate.published_scores import FELL

    return FELL
