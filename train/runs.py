"""Run folders: one per training, named after its task, features and head."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from types import FunctionType
from typing import Any

from abaw import __version__
from abaw.core.claim_files import BusyError, claimed
from abaw.core.errors import CheckpointError, StoreError, UsageError
from abaw.core.files import save_json
from abaw.core.json_files import read_json
from abaw.core.plugins import OWN, list_sources, load_named
from abaw.core.records import differences
from abaw.core.row_table import RowTable
from abaw.core.tasks import Task
from abaw.store import FeatureStore
from abaw.store.old_records import was_made_as
from abaw.train.config import TrainConfig, make_config
from abaw.train.run_files import (
    BEST,
    CONFIG,
    SCORE_AT,
    check_checkpoint,
    checkpoint_files,
    find_folder,
    list_names,
    no_run,
    read_epochs,
    split_checkpoint,
)
from abaw.train.run_folders import check_free, is_taken, make_run_folder

# a group of entry points: what reads files that others wrote into runs
READERS, SAVED = "abaw.readers", "saved_predictions"
CHANGEABLE = ("epochs", "patience", "save_every")  # options of a run that has been started
PIXEL_CHANGEABLE = (
    *CHANGEABLE,
    "checkpoint",
    "chunk",
)  # of one on pixels, too: they change its memory, not its numbers


@dataclass(frozen=True)
class Run:
    """A run folder and the contents of its `config.json`.

        >>> from abaw import pipeline
        >>> run = pipeline.find_run(runs, "va-f-linear-1")  # in a folder `runs`; without a name, the newest one
        >>> run
        Run('va-f-linear-1': va from f, head linear, validation score 0... in epoch ... of 3)
        >>> table = run.predictions("val").to_pandas()
        >>> table.columns.tolist()
        ['video', 'frame', 'time_s', 'has_crop', 'valence', 'arousal', 'label_valence', 'label_arousal']

    Attributes:
        folder: holds checkpoints, metrics, predictions and scores. A checkpoint other than the best, `mtl-1@best-va`, has
            a folder of this name for its predictions, scores and post-processing, next to that of the run.
        config: how the head is trained, resolved; see `TrainConfig.resolved`.
        features: `fingerprint`, `shape` and, where known, `record` of each feature it was trained on, by name.
        created: UTC time, ISO 8601.
    """

    folder: Path
    config: TrainConfig
    features: dict[str, dict[str, Any]]
    created: str

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def home(self) -> Path:
        """The folder that training wrote: config, metrics and checkpoints."""
        return split_checkpoint(self.folder)[0]

    @property
    def checkpoint(self) -> Path:
        """The weights that predict: the best, or those that the name has after an `@`."""
        home, name = split_checkpoint(self.folder)
        return checkpoint_files(home).get(name, home / f"{name}.safetensors") if name else home / BEST

    @property
    def task(self) -> Task:
        """The task that it predicts."""
        return self.config.own_task

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one frame of each feature that evaluation takes."""
        return {name: tuple(self.features[name]["shape"]) for name in self.config.features}

    @property
    def is_trained(self) -> bool:
        """True if no epoch is left to train, or if a probe is solved."""
        if self.config.head.is_probe:
            return (self.home / BEST).is_file()
        try:
            epochs = read_epochs(self.home)
            scores = [max([epoch["score"], *_scores_within(epoch)]) for epoch in epochs]
        except (OSError, ValueError, KeyError):
            return False
        best = max(range(len(scores)), key=scores.__getitem__, default=0)  # the first of equal ones, as in training
        return bool(scores) and self.config.is_over(len(scores), best + 1)

    def __repr__(self) -> str:
        """Its name, task, features and head, and the best validation score with its epoch."""
        config = self.config
        text = f"{self.name!r}: {self.task.name} from {'+'.join(config.features)}, head {config.head.name}"
        epochs = read_epochs(self.home)
        scored = [epoch for epoch in epochs if "score" in epoch]
        if not scored:
            return f"Run({text}, {'trained' if self.checkpoint.is_file() else 'not trained yet'})"
        best = max(scored, key=lambda epoch: epoch["score"])
        return f"Run({text}, validation score {best['score']:.3f} in epoch {best['epoch']:g} of {len(epochs)})"

    def predictions(self, split: str = "val", raw: bool = False) -> RowTable:
        """What the run predicts for a split, as `abaw eval` saved it: a row for each frame, with its labels.

        See `abaw.evaluate.prediction_table.prediction_table` for the columns.

        Args:
            raw: without the post-processing that `abaw tune` fitted.

        Raises:
            UsageError: the run has not been evaluated on the split since its training; the message names the command.
            CheckpointError: the file is damaged.
        """
        table: RowTable = load_named(READERS, FunctionType)[SAVED].value(self, split, raw).table()
        return table

    def digest(self) -> str:
        """The sha256 of its checkpoint, by which predictions name the run; empty if it is missing."""
        try:
            with self.checkpoint.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""

    def check_store(self, store: FeatureStore, training: bool = False) -> None:
        """Raise a StoreError if the store's features differ from those the run was trained on.

        Args:
            training: also check the views that only training uses.
        """
        for name in self.features if training else self.config.features:
            trained, attrs = self.features[name], store.feature_attrs(name)
            fingerprint, expected = str(attrs["fingerprint"]), trained["fingerprint"]
            if fingerprint == expected or was_made_as(attrs, expected):
                continue
            trained_record, record = trained.get("record"), store.feature_record(name)
            reason = "other weights or settings"
            if trained_record is not None and record is not None:
                reason = "; ".join(differences(trained_record, record))
            if reason:
                raise StoreError(
                    f"Run {self.name} was trained on feature {name!r} with fingerprint {expected[:12]}; the one in "
                    f"{store.path} has {fingerprint[:12]}: {reason}. Use the store it was trained on, or train again."
                )


def _scores_within(epoch: Mapping[str, float]) -> list[float]:
    """Scores of the validations before the end of an epoch."""
    return [score for name, score in epoch.items() if name.startswith(SCORE_AT)]


def check_run_name(name: str) -> None:
    """Raise a UsageError if a name is not a valid name for a run folder."""
    if not name or name != Path(name).name or name.startswith("."):
        raise UsageError(
            f"{name!r} is not a valid run name: it needs a character, no slash and no leading dot. Choose another --run."
        )


def create_run(
    runs: Path,
    config: TrainConfig,
    features: dict[str, dict[str, Any]],
    name: str | None = None,
    stem: str = "",
    fill: Callable[[Path], Mapping[str, Any]] = lambda folder: {},
) -> Run:
    """Make a run folder.

    Args:
        name: name of the folder; by default `<stem>-<number>`.
        stem: by default `<task>-<features>-<head>`.
        fill: writes further files into the folder, before it counts as a run; what it returns goes into its `config.json`.

    Raises:
        UsageError: the name is taken or not a valid folder name.
    """
    if name is not None:
        check_run_name(name)
    runs.mkdir(parents=True, exist_ok=True)
    stem = stem or f"{config.task}-{'+'.join(config.features)}-{config.head.name}"
    for number in count(1):
        folder = runs / (name or f"{stem}-{number}")
        if name is None and is_taken(folder):
            continue
        run = Run(folder, config.resolved(), features, datetime.now(UTC).isoformat())
        try:
            with claimed(folder):
                if make_run_folder(folder, partial(_write_config, run, fill)):
                    return run
        except BusyError:
            if name:
                raise
        if name:
            check_free(folder)
    raise AssertionError("numbers do not end")


def _write_config(run: Run, fill: Callable[[Path], Mapping[str, Any]], folder: Path) -> None:
    content = {
        "abaw": __version__,
        "created": run.created,
        "config": run.config.model_dump(mode="json"),
        "features": run.features,
        **_sources(run.config),
        **fill(folder),
    }
    save_json(folder / CONFIG, content)


def _sources(config: TrainConfig) -> dict[str, dict[str, str]]:
    """Distribution and version of the head, loss and task, as `plugins`, as far as they are not of abaw itself."""
    names = {"heads": config.head.name, "losses": config.loss.name, "tasks": config.task}
    sources = {kind: list_sources(f"abaw.{kind}").get(name, "") for kind, name in names.items()}
    foreign = {kind: source for kind, source in sources.items() if source and source.split()[0] != OWN}
    return {"plugins": foreign} if foreign else {}


@contextmanager
def claimed_run(run: Run) -> Iterator[None]:
    """Claim a started run, in the first of the processes that torchrun started."""
    with claimed(run.home) if os.environ.get("RANK", "0") == "0" else nullcontext():
        yield


def change_run(run: Run, settings: Iterable[str], epoch: int | None = None) -> Run:
    """Change options of a started run that only say how far it goes, with `key=value` settings, and what it keeps.

    The rate follows the schedule of the new number of epochs from the next step, as if the run had been started with it.

    Args:
        epoch: after which it continues; by default the last one.

    Raises:
        UsageError: another option, an invalid value, or fewer epochs than are trained.
    """
    settings, changeable = list(settings), PIXEL_CHANGEABLE if run.config.is_of_pixels else CHANGEABLE
    if wrong := [setting for setting in settings if setting.partition("=")[0].strip() not in changeable]:
        raise UsageError(
            f"--resume continues the run with its own options, except {', '.join(changeable)}; found {wrong[0]}. "
            "Leave it out, or train a new run with --init."
        )
    config = make_config(run.config.model_dump(), settings)
    n_epochs = len(read_epochs(run.folder)) if epoch is None else epoch
    if config.epochs < n_epochs:
        raise UsageError(f"Run {run.name} has {n_epochs} epochs, more than epochs={config.epochs}. Ask for more.")
    path = run.folder / CONFIG
    save_json(path, {**read_json(path), "config": config.model_dump(mode="json")})
    return open_run(run.folder)


def open_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        UsageError: the folder is not a run.
        CheckpointError: its config is damaged.
    """
    home, checkpoint = split_checkpoint(folder)
    path = home / CONFIG
    if not path.is_file():
        raise UsageError(f"No run at {folder}: it has no {CONFIG}. Name a run folder, or train one with `abaw train`.")
    if home != folder:
        check_checkpoint(home, checkpoint)
    content: Any = None
    try:
        content = read_json(path)
        config = make_config(content["config"]).resolved()
        features = {str(name): dict(feature) for name, feature in dict(content["features"]).items()}
        for name in config.all_features():
            features[name]["shape"] = [int(size) for size in features[name]["shape"]]
            features[name]["fingerprint"] = str(features[name]["fingerprint"])
            if not isinstance(features[name].get("record", {}), dict):
                raise ValueError(f"the record of {name!r} is not an object")
        return Run(folder, config, features, str(content["created"]))
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise CheckpointError(
            f"{path} is not the config of a run of this version ({error}). {_remedy(content)}"
        ) from error


def _remedy(content: object) -> str:
    """What to do about a config that cannot be read: plug-ins that it was made with may be missing."""
    made_with = content.get("plugins") if isinstance(content, dict) else None
    if isinstance(made_with, dict) and made_with:
        return f"It was made with {', '.join(sorted({str(source) for source in made_with.values()}))}: install that."
    return "Train again."


def all_runs(runs: Path) -> list[Run]:
    """The runs in a folder, the newest last; those with a damaged config are skipped.

    Raises:
        CheckpointError: all of them are damaged.
    """
    readable, errors = [], []
    for name in list_names(runs, CONFIG):
        try:
            readable.append(open_run(runs / name))
        except CheckpointError as error:
            errors.append(error)
    if errors and not readable:
        raise errors[0]
    return sorted(readable, key=lambda run: run.created)


def find_run(runs: Path, name: str | None, task: str | None = None, also: str = "") -> Run:
    """The run called `name` (under `runs`, or a path), or else the newest one (of a task).

    Args:
        also: a file that marks other folders the caller accepts, such as ensembles; the message lists these too.

    Raises:
        UsageError: it does not exist (the message lists the runs that do), or it is for another task.
    """
    if name is not None:
        run = open_run(find_folder(runs, name, CONFIG, *filter(None, [also])))
        if task not in (None, run.config.task):
            raise UsageError(f"Run {run.name} is of task {run.config.task}, not {task}. Leave out --task.")
        return run
    candidates = [run for run in all_runs(runs) if task in (None, run.config.task)]
    if not candidates:
        raise no_run(runs, task)
    return candidates[-1]
