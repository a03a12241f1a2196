"""Ensembles: several runs that answer together, by the weighted mean of what they answer.

Runs that validate on the same videos are averaged; runs of different folds are pooled, each video being answered by
the runs that have it among their own, which on the split `val` are those that did not train on it.
"""

import fnmatch
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abaw import __version__
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.files import save_json
from abaw.core.tasks import Task, get_task
from abaw.evaluate.averaging import combine, runs_per_video
from abaw.evaluate.evaluation import Evaluation, evaluate_predictions
from abaw.evaluate.postprocessing.tuning import load_tuning
from abaw.evaluate.results import Results, read_current, run_results
from abaw.train.run_files import CONFIG
from abaw.train.runs import Run, check_run_name, find_run, open_run

ENSEMBLE = "ensemble.json"
PATTERN = frozenset("*?[")

# the folder of a run that lies beside the ensemble's
MemberName = Annotated[str, Field(pattern=r"^[^./\\\x00][^/\\\x00]*$")]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Members(BaseModel):
    """What `ensemble.json` holds.

    Attributes:
        abaw: version that made it.
        created: UTC time, ISO 8601.
        task: its name.
        members: names of the runs, which lie beside the ensemble.
        weights: of the runs, adding up to 1.
        raw: the post-processing of the runs was left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    abaw: str
    created: str
    task: str
    members: tuple[MemberName, ...] = Field(min_length=2)
    weights: tuple[Weight, ...]
    raw: bool


@dataclass(frozen=True)
class Ensemble:
    """A folder with an `ensemble.json`, and beside it the same files that a run's evaluation leaves.

    To answer new videos: predict with each of `runs()`, post-process unless `raw`, then `combine` with the weights.
    """

    folder: Path
    task: Task
    weights: tuple[float, ...]
    members: tuple[str, ...]
    raw: bool

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    def runs(self) -> list[Run]:
        """The members, in the order of the weights.

        Raises:
            UsageError: one is not there any more.
            CheckpointError: one is of another task.
        """
        found = [open_run(self.folder.parent / member) for member in self.members]
        for run in found:
            if run.config.task != self.task.name:
                raise CheckpointError(
                    f"{self.folder / ENSEMBLE} is of task {self.task.name}, its run {run.name} of {run.config.task}. "
                    "Make it again with `abaw ensemble`."
                )
        return found


def select_runs(runs: Path, names: Sequence[str]) -> list[Run]:
    """The runs of a folder that names, or patterns such as `va-*-seed?`, stand for; each once.

    Raises:
        UsageError: a name or pattern fits none, a run lies elsewhere, or all of them are fewer than two.
    """
    known = sorted(path.parent.name for path in runs.glob(f"*/{CONFIG}"))
    found: dict[Path, Run] = {}
    for name in names:
        matched = [name]
        if PATTERN & set(name) and name not in known:
            matched = fnmatch.filter(known, name)
            if not matched:
                raise UsageError(f"No run in {runs} is like {name!r}; there are: {', '.join(known) or 'none'}.")
        for one in matched:
            if (runs / one / ENSEMBLE).is_file():
                raise UsageError(
                    f"{one} is an ensemble itself. Name its members, which are in {runs / one / ENSEMBLE}."
                )
            run = find_run(runs, one)
            if run.folder.resolve().parent != runs.resolve():
                raise UsageError(
                    f"Run {run.folder} is not in {runs}, where the ensemble goes. Name its folder by --runs."
                )
            found[run.folder.resolve()] = run
    if len(found) < 2:
        raise UsageError(f"An ensemble needs at least 2 runs, found {len(found)}. Name more of them, or a pattern.")
    return list(found.values())


def create_ensemble(
    runs: Path,
    members: Sequence[Run],
    weights: Sequence[float] | None = None,
    split: str = "val",
    name: str | None = None,
    raw: bool = False,
) -> tuple[Ensemble, Evaluation, list[Results]]:
    """Combine what runs predicted for a split; keep and score it in a folder as that of a run.

    Args:
        runs: folder of the runs and of the ensemble.
        weights: of the runs; equal by default.
        name: of the ensemble's folder, by default `<task>-ensemble-<number>`. It may be there already if it is of the
            same runs and weights: then it gets another split.
        raw: leave out the post-processing of the runs.

    Returns:
        The ensemble, its scores, and the predictions of each run.

    Raises:
        UsageError: the runs are of several tasks or have not been evaluated; weights or name do not fit.
    """
    shares = _shares(members, weights)
    made_from = digest_of(members, shares, raw)
    if len(tasks := {run.config.task for run in members}) > 1:
        raise UsageError(f"The runs are of tasks {', '.join(sorted(tasks))}. An ensemble is of one task.")
    results = [run_results(run, split, raw) for run in members]
    task = results[0].task
    found = combine_results(results, shares)
    content = Members(
        abaw=__version__,
        created=datetime.now(UTC).isoformat(),
        task=task.name,
        members=tuple(run.name for run in members),
        weights=tuple(shares),
        raw=raw,
    )
    ensemble = _make_folder(runs, name, content)
    found.save(ensemble.folder, split, task, made_from)
    return ensemble, found, results


def combine_results(results: Sequence[Results], weights: Sequence[float]) -> Evaluation:
    """Scores of the weighted mean of what runs of one task predict; see `combine`."""
    task = results[0].task
    return evaluate_predictions(task, combine(task, [one.predictions for one in results], weights))


def digest_of(runs: Sequence[Run], weights: Sequence[float], raw: bool) -> str:
    """The sha256 of all that an ensemble's predictions follow from: weights, checkpoints, and post-processing unless `raw`."""
    found = []
    for run, weight in zip(runs, weights, strict=True):
        tuning = None if raw else load_tuning(run)
        found.append([weight, run.digest(), tuning.postprocess.model_dump_json() if tuning else ""])
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def describe(ensemble: Ensemble, results: Sequence[Results]) -> list[str]:
    """Sentences on how many runs answer how many videos, and on the weights of the runs."""
    shares = runs_per_video([one.predictions for one in results])
    counts = (f"{n} video{'s' * (n > 1)} over {n_runs} run{'s' * (n_runs > 1)}" for n_runs, n in shares.items())
    is_pooled = list(shares) != [len(results)]
    why = " The runs have different videos: each is answered by those that have it." if is_pooled else ""
    members = (f"{member} ({weight:.3g})" for member, weight in zip(ensemble.members, ensemble.weights, strict=True))
    return [f"Averaged: {', '.join(counts)}.{why}", f"Members and weights: {', '.join(members)}."]


def parse_weights(text: str) -> list[float]:
    """Numbers between commas.

    Raises:
        UsageError: they are something else.
    """
    try:
        return [float(weight) for weight in text.split(",")]
    except ValueError:
        raise UsageError(f"--weights wants numbers between commas, such as 1,2,1; found {text!r}.") from None


def _shares(members: Sequence[Run], weights: Sequence[float] | None) -> list[float]:
    if weights is None:
        return [1 / len(members)] * len(members)
    if len(weights) != len(members):
        names = ", ".join(run.name for run in members)
        raise UsageError(f"{len(weights)} weights do not fit {len(members)} runs: {names}. Give one weight for each.")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise UsageError(f"Weights must be above 0, found {', '.join(map(str, weights))}. Leave out a run instead.")
    return [weight / math.fsum(weights) for weight in weights]


def _make_folder(runs: Path, name: str | None, content: Members) -> Ensemble:
    if name is None:
        number = 1
        while (runs / f"{content.task}-ensemble-{number}").exists():
            number += 1
        name = f"{content.task}-ensemble-{number}"
    check_run_name(name)
    folder = runs / name
    if folder.exists():
        ensemble = open_ensemble(folder) if (folder / ENSEMBLE).is_file() else None
        wanted = (content.members, content.weights, content.raw)
        if ensemble is None or (ensemble.members, ensemble.weights, ensemble.raw) != wanted:
            raise UsageError(f"{folder} exists and is not this ensemble. Choose another --run.")
        return ensemble
    folder.mkdir()
    save_json(folder / ENSEMBLE, content.model_dump(mode="json"))
    return open_ensemble(folder)


def open_ensemble(folder: Path) -> Ensemble:
    """Read an ensemble's folder.

    Raises:
        CheckpointError: its `ensemble.json` is damaged.
    """
    path = folder / ENSEMBLE
    try:
        found = Members.model_validate(json.loads(path.read_text()))
        task = get_task(found.task)
    except (OSError, ValueError, UsageError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is damaged ({reason}). Make it again with `abaw ensemble`.") from error
    if len(found.weights) != len(found.members):
        raise CheckpointError(
            f"{path} is damaged ({len(found.weights)} weights of {len(found.members)} runs). Make it again with "
            "`abaw ensemble`."
        )
    return Ensemble(folder, task, found.weights, found.members, found.raw)


def find_ensemble(runs: Path, name: str) -> Ensemble | None:
    """The ensemble called `name` (under `runs`, or a path), if it is one."""
    folder = next((folder for folder in (runs / name, Path(name)) if (folder / ENSEMBLE).is_file()), None)
    return open_ensemble(folder) if folder is not None else None


def find_answering(runs: Path, name: str | None, task: str | None = None) -> Run | Ensemble:
    """The run or ensemble called `name`, or else the newest run (of a task); see `find_run`."""
    ensemble = find_ensemble(runs, name) if name is not None else None
    return ensemble or find_run(runs, name, task, also=ENSEMBLE)


def find_results(runs: Path, name: str, split: str, raw: bool = False) -> Results:
    """Saved predictions of the run or ensemble called `name` (under `runs`, or a path); see `run_results`."""
    ensemble = find_ensemble(runs, name)
    if ensemble is not None:
        made_from = digest_of(ensemble.runs(), ensemble.weights, ensemble.raw)
        found = read_current(ensemble.folder, split, ensemble.task, made_from)
        return Results(ensemble.name, ensemble.folder, ensemble.task, found)
    return run_results(find_run(runs, name, also=ENSEMBLE), split, raw)
