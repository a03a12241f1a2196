"""File names inside a run folder, and finding such folders. Imports little, so that a mistyped name fails at once."""

import shlex
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from abaw.core.errors import UsageError, did_you_mean, some_of
from abaw.core.json_files import parse_json

BEST, LAST, CONFIG = "best.safetensors", "last.safetensors", "config.json"
AT = "@"  # before a checkpoint in the name of a run, such as `mtl-1@best-va`
METRICS = "metrics.jsonl"  # a line for each epoch
SCORE_AT = "score at "  # begins the names of the scores of validations within an epoch
CHECKPOINTS, WEIGHTS = "checkpoints", "weights.safetensors"  # folder of kept checkpoints, and the model in each
EPOCH = "epoch-"  # begins the names of these folders
INITIAL = "initial.safetensors"  # weights from elsewhere that training begins with
UNFINISHED = "unfinished-epoch.safetensors"
ENSEMBLE = "ensemble.json"  # in the folder of an ensemble
PARTIAL = ".partial"  # ends the names of folders and files that are incomplete
MAX_EPOCHS = 100_000  # that are read
MOST_NAMES = 20  # of runs in a message
REMEDY = "Train one with `abaw train`, or choose another folder with --runs."


def predictions_file(folder: Path, split: str) -> Path:
    """What a run or ensemble predicted for a split; see `abaw.evaluate.predictions`."""
    return folder / f"predictions-{split}.h5"


def scores_file(folder: Path, split: str) -> Path:
    """The scores of a run or ensemble on a split; see `abaw.evaluate.evaluation.Evaluation.as_json`."""
    return folder / f"scores-{split}.json"


def read_epochs(folder: Path) -> list[dict[str, float]]:
    """Loss, validation score and others of each epoch of a run, up to the first incomplete line; empty without epochs."""
    path = folder / METRICS
    epochs: list[dict[str, float]] = []
    if not path.is_file():
        return epochs
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in islice(stream, MAX_EPOCHS):
            try:
                epochs.append({name: float(value) for name, value in parse_json(line).items()})
            except (ValueError, TypeError, AttributeError):
                break
    return epochs


def kept_folder(folder: Path, epochs: float) -> Path:
    """The folder of the checkpoint that a run keeps after so many epochs: `epoch-3`, or `epoch-3.25` within the fourth."""
    return folder / CHECKPOINTS / f"{EPOCH}{epochs:g}"


def kept_folders(folder: Path) -> dict[float, Path]:
    """The folders of the checkpoints that a run keeps, by the epochs trained, in their order."""
    kept = {float(path.name.removeprefix(EPOCH)): path for path in (folder / CHECKPOINTS).glob(f"{EPOCH}*")}
    return dict(sorted(kept.items()))


def checkpoint_files(folder: Path) -> dict[str, Path]:
    """The models of a run by name: `best`, those of parts or outputs (`best-va`, `best-valence`), and of `kept_folders`."""
    best = {path.stem: path for path in sorted(folder.glob("best*.safetensors"), key=lambda path: path.stem)}
    kept = {path.name: path / WEIGHTS for path in kept_folders(folder).values()}
    return best | {name: path for name, path in kept.items() if path.is_file()}


def split_checkpoint(folder: Path) -> tuple[Path, str]:
    """The folder of a run, and the checkpoint that its name has after an `@`; empty for the best."""
    base, at, checkpoint = folder.name.rpartition(AT)
    if at and base and not (folder / CONFIG).is_file():
        return folder.with_name(base), checkpoint
    return folder, ""


def find_folder(runs: Path, name: str, *files: str) -> Path:
    """The folder called `name`, under `runs` or as a path, that contains one of the files.

    Raises:
        UsageError: no such folder; the message lists those in `runs`, or the checkpoints of a run.
    """
    for folder in (runs / name, Path(name)):
        if any((folder / file).is_file() for file in files):
            return folder
    base, at, checkpoint = name.rpartition(AT)
    for folder in (runs / base, Path(base)) if at and base else ():
        if (folder / CONFIG).is_file() and CONFIG in files:
            check_checkpoint(folder, checkpoint)
            return folder.with_name(f"{folder.name}{AT}{checkpoint}")
    if ENSEMBLE not in files and (runs / name / ENSEMBLE).is_file():
        raise UsageError(f"{name} is an ensemble. Name one of its runs; {runs / name / ENSEMBLE} lists them.")
    known = list_names(runs, *files)
    if near := did_you_mean(name, known):
        raise UsageError(
            f"No run {name!r} in {runs}. {near}`abaw list runs --runs {shlex.quote(str(runs))}` shows them all."
        )
    raise UsageError(f"No run {name!r} in {runs}; {_describe_available(known)}")


def check_checkpoint(folder: Path, checkpoint: str) -> None:
    """Raise a UsageError if a run has no checkpoint of this name, such as `best-va`; the message lists those it has."""
    known = list(checkpoint_files(folder))
    if checkpoint not in known:
        raise UsageError(
            f"Run {folder.name} has no checkpoint {checkpoint!r}; it has {', '.join(known) or 'none yet'}. "
            f"Write {folder.name}{AT}{known[0] if known else 'best'}, or {folder.name} for the best."
        )


def list_names(runs: Path, *files: str) -> list[str]:
    """Names of the folders in `runs` that contain one of the files, sorted."""
    names = {path.parent.name for file in files for path in runs.glob(f"*/{file}")}
    return sorted(name for name in names if not name.endswith(PARTIAL))


def _describe_available(names: Sequence[str]) -> str:
    """The end of a message about a missing run: the names to choose from, or what to do if there are no runs."""
    if names:
        return f"available: {some_of(names, MOST_NAMES)}."
    return f"the folder has no runs. {REMEDY}"


def check_any_run(runs: Path, task: str | None = None) -> None:
    """Raise a UsageError if a folder has no runs."""
    if not list_names(runs, CONFIG):
        raise no_run(runs, task)


def no_run(runs: Path, task: str | None = None) -> UsageError:
    """The error for a folder without runs, or without runs of a task."""
    of_task = f" of task {task}" if task else ""
    return UsageError(f"No run{of_task} in {runs}. {REMEDY}")
