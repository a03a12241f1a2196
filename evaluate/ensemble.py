"""Ensembles: weighted means of the predictions of several runs.

Runs that validate on the same videos are averaged. Runs of different folds are pooled: each video is predicted by the
runs with this video in their split; for `val` these are the runs that did not train on it.
"""

import fnmatch
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abaw import __version__
from abaw.core.claim_files import BusyError, claimed, has_claim
from abaw.core.errors import CheckpointError, UsageError, some_of
from abaw.core.files import save_json
from abaw.core.json_files import read_json
from abaw.core.names import is_pattern
from abaw.core.tasks import Task, record_for, recorded_task
from abaw.evaluate.combining import combine_outputs, joint_task
from abaw.evaluate.evaluation import Evaluation, evaluate_predictions
from abaw.evaluate.output_weights import ByOutput, describe_outputs
from abaw.evaluate.postprocessing.tuning import Tuning, load_tuning
from abaw.evaluate.predictions import read_store
from abaw.evaluate.result_claims import claimed_results
from abaw.evaluate.results import Results, read_current, run_results
from abaw.train.run_files import CONFIG, ENSEMBLE, MOST_NAMES, list_names, no_run, predictions_file
from abaw.train.run_folders import make_run_folder
from abaw.train.runs import Run, check_run_name, find_run, open_run

# folder name of a run, a sibling of the ensemble's folder
MemberName = Annotated[str, Field(pattern=r"^[^./\\\x00][^/\\\x00]*$")]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Members(BaseModel):
    """The content of `ensemble.json`.

    Attributes:
        abaw: version that created it.
        created: UTC time, ISO 8601.
        task: its name.
        members: names of the runs, whose folders are siblings of the ensemble's.
        weights: weights of the runs, sum 1.
        raw: predictions are averaged without the runs' post-processing.
        by_output: of outputs that are averaged with other weights, these weights, sum 1; 0 leaves out a run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    abaw: str
    created: str
    task: str
    members: tuple[MemberName, ...] = Field(min_length=2)
    weights: tuple[Weight, ...]
    raw: bool
    by_output: dict[str, tuple[Share, ...]] = Field(default_factory=dict)
    task_record: dict[str, Any] | None = None  # of a task that does not come with abaw

    def check(self, task: Task) -> None:
        """Raise a ValueError unless there is a weight for each run, and one of them counts for each output."""
        for name, column in (("runs", self.weights), *self.by_output.items()):
            if len(column) != len(self.members) or not any(column):
                raise ValueError(f"{len(column)} weights for {len(self.members)} {name}")
        if unknown := self.by_output.keys() - set(task.outputs):
            raise ValueError(f"weights of {min(unknown)!r}, which task {task.name} does not have")


@dataclass(frozen=True)
class Ensemble:
    """A folder with an `ensemble.json` and the same evaluation files as a run.

    `abaw.evaluate.trained.OpenEnsemble` predicts with it.
    """

    folder: Path
    task: Task
    weights: tuple[float, ...]
    members: tuple[str, ...]
    raw: bool
    by_output: ByOutput = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    def runs(self) -> list[Run]:
        """The members, in the order of the weights.

        Raises:
            UsageError: one is missing.
            CheckpointError: one is of another task.
        """
        runs = [open_run(self.folder.parent / member) for member in self.members]
        for run in runs:
            if (run.task.whole or run.task.name) != (self.task.whole or self.task.name):
                raise CheckpointError(
                    f"{self.folder / ENSEMBLE} is of task {self.task.name}, its run {run.name} of {run.task.name}. "
                    "Create it again with `abaw ensemble`."
                )
        return runs


def select_runs(runs: Path, names: Sequence[str]) -> list[Run]:
    """The runs with these names or matching these patterns, such as `va-*-seed?`, without duplicates.

    Raises:
        UsageError: nothing matches a name or pattern, a run lies elsewhere, or there are fewer than two runs.
    """
    known = list_names(runs, CONFIG)
    selected: dict[Path, Run] = {}
    for name in names:
        matches = [name]
        if is_pattern(name) and name not in known:
            matches = fnmatch.filter(known, name)
            if not known:
                raise no_run(runs)
            if not matches:
                raise UsageError(f"No run in {runs} matches {name!r}; available: {some_of(known, MOST_NAMES)}.")
        for match in matches:
            if (runs / match / ENSEMBLE).is_file():
                raise UsageError(
                    f"{match} is an ensemble. Use its members instead; {runs / match / ENSEMBLE} lists them."
                )
            run = find_run(runs, match)
            if run.folder.resolve().parent != runs.resolve():
                raise UsageError(
                    f"Run {run.folder} is not in {runs}, the folder of the ensemble. Choose its folder with --runs."
                )
            selected[run.folder.resolve()] = run
    if len(selected) < 2:
        raise UsageError(f"An ensemble needs at least 2 runs, found {len(selected)}. Add more runs, or use a pattern.")
    return list(selected.values())


def create_ensemble(
    runs: Path,
    members: Sequence[Run],
    weights: Sequence[float] | None = None,
    split: str = "val",
    name: str | None = None,
    raw: bool = False,
    by_output: ByOutput | None = None,
) -> tuple[Ensemble, Evaluation]:
    """Combine the predictions of runs for a split, save the result in a folder and score it like a run.

    Args:
        runs: folder of the runs and of the ensemble.
        weights: weights of the runs; equal by default.
        name: folder name, by default `<task>-ensemble-<number>`. An existing ensemble with the same runs and weights
            gets another split.
        raw: combine predictions without post-processing.
        by_output: from `weigh_outputs`.

    Raises:
        UsageError: the runs are of several tasks or have not been evaluated; weights or name do not fit.
    """
    shares = _shares(members, weights)
    by_output = by_output or {}
    digest = digest_of(_sources(members, raw), shares, by_output)
    if len(tasks := {run.task.whole or run.task.name for run in members}) > 1:
        raise UsageError(f"The runs have tasks {', '.join(sorted(tasks))}. An ensemble needs runs of one task.")
    evaluation = combine_results([run_results(run, split, raw) for run in members], shares, by_output)
    content = Members(
        abaw=__version__,
        created=datetime.now(UTC).isoformat(),
        task=evaluation.task.name,
        members=tuple(run.name for run in members),
        weights=tuple(shares),
        raw=raw,
        by_output=dict(by_output),
        task_record=record_for(evaluation.task),
    )
    with ExitStack() as claims:
        ensemble = _create_folder(runs, name, content, claims)
        with claimed_results(ensemble.folder, split):
            evaluation.save(ensemble.folder, split, digest, store=_common_store(members, split))
    return ensemble, evaluation


def _common_store(members: Sequence[Run], split: str) -> str:
    """The store that all members were predicted from; empty if there are several, or if it is unknown."""
    stores = {read_store(predictions_file(run.folder, split)) for run in members}
    return stores.pop() if len(stores) == 1 else ""


def combine_results(
    results: Sequence[Results], weights: Sequence[float], by_output: ByOutput | None = None
) -> Evaluation:
    """Scores of the weighted mean of predictions of runs of one task, or of some of its outputs; see `combine_outputs`."""
    task = joint_task([result.task for result in results])
    parts = [(result.task, result.predictions) for result in results]
    evaluation = evaluate_predictions(task, combine_outputs(task, parts, weights, by_output))
    return replace(evaluation, members=tuple(results), weights=tuple(weights), by_output=by_output or {})


def _sources(runs: Sequence[Run], raw: bool) -> list[tuple[str, Tuning | None]]:
    """What the predictions of runs depend on, as `digest_of` takes it."""
    return [(run.digest(), None if raw else load_tuning(run)) for run in runs]


def digest_of(
    sources: Iterable[tuple[str, Tuning | None]], weights: Sequence[float], by_output: ByOutput | None = None
) -> str:
    """The sha256 of everything an ensemble's predictions depend on: weights, checkpoints, post-processing.

    Args:
        sources: for each run the digest of its checkpoint, and its post-processing; None for no post-processing.
        weights: weights of the runs.
        by_output: weights of the runs for outputs.
    """
    content: list[Any] = [
        [weight, checkpoint, *_fits_of(tuning)] for (checkpoint, tuning), weight in zip(sources, weights, strict=True)
    ]
    content += [[name, *column] for name, column in (by_output or {}).items()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _fits_of(tuning: Tuning | None) -> list[str]:
    """The fits of a post-processing as JSON: one, and those for groups of videos if it was cross-fitted."""
    if tuning is None:
        return [""]
    return [tuning.postprocess.model_dump_json(), *(fit.model_dump_json() for fit in tuning.crossed)]


def describe_members(evaluation: Evaluation) -> list[str]:
    """Sentences on how many videos are averaged over how many runs, and on the weights; nothing for a single run."""
    members = evaluation.members
    if not members:
        return []
    n_runs_of = Counter(video for member in members for video in member.predictions)
    n_videos_by_runs = sorted(Counter(n_runs_of.values()).items(), reverse=True)
    counts = (f"{n} video{'s' * (n > 1)} over {n_runs} run{'s' * (n_runs > 1)}" for n_runs, n in n_videos_by_runs)
    is_pooled = [n_runs for n_runs, _ in n_videos_by_runs] != [len(members)]
    reason = " The runs have different videos: each is predicted by the runs that have it." if is_pooled else ""
    weights = (f"{run.name} ({weight:.3g})" for run, weight in zip(members, evaluation.weights, strict=True))
    sentences = [f"Averaged: {', '.join(counts)}.{reason}", f"Members and weights: {', '.join(weights)}."]
    others = describe_outputs(evaluation.task, [member.name for member in members], evaluation.by_output)
    return [*sentences, *([f"Other weights of outputs: {others}."] if others else [])]


def parse_weights(text: str) -> list[float]:
    """Numbers separated by commas.

    Raises:
        UsageError: the text is something else.
    """
    try:
        return [float(weight) for weight in text.split(",")]
    except ValueError:
        raise UsageError(f"--weights needs numbers separated by commas, such as 1,2,1; found {text!r}.") from None


def check_weights(members: Sequence[Run], weights: Sequence[float]) -> None:
    """Raise a UsageError unless there is a weight above 0 for each run."""
    if len(weights) != len(members):
        names = ", ".join(run.name for run in members)
        raise UsageError(f"{len(weights)} weights do not fit {len(members)} runs: {names}. Pass one weight for each.")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise UsageError(f"Weights must be above 0, found {', '.join(map(str, weights))}. Leave out a run instead.")


def _shares(members: Sequence[Run], weights: Sequence[float] | None) -> list[float]:
    if weights is None:
        return [1 / len(members)] * len(members)
    check_weights(members, weights)
    return [weight / math.fsum(weights) for weight in weights]


def _create_folder(runs: Path, name: str | None, content: Members, claims: ExitStack) -> Ensemble:
    if name is None:
        return _create_numbered(runs, content, claims)
    check_run_name(name)
    folder = runs / name
    claims.enter_context(claimed(folder))
    if not _make_folder(folder, content) and not _is_made_of(folder, content):
        raise UsageError(f"{folder} already exists and is not this ensemble. Choose another --run.")
    return open_ensemble(folder)


def _create_numbered(runs: Path, content: Members, claims: ExitStack) -> Ensemble:
    """The ensemble `<task>-ensemble-<number>` of the first number that is free, or whose process was killed."""
    for number in count(1):
        folder = runs / f"{content.task}-ensemble-{number}"
        if any(folder.glob("scores-*.json")) and not has_claim(folder):
            continue
        with (
            ExitStack() as claim,
            suppress(CheckpointError, BusyError),
        ):  # a damaged one, or another's, keeps its number
            claim.enter_context(claimed(folder))
            if _make_folder(folder, content) or _is_made_of(folder, content):
                claims.push(claim.pop_all())
                break
    return open_ensemble(folder)


def _make_folder(folder: Path, content: Members) -> bool:
    written = content.model_dump(
        mode="json", exclude={name for name in ("by_output", "task_record") if not getattr(content, name)}
    )
    return make_run_folder(folder, lambda partial: save_json(partial / ENSEMBLE, written))


def _is_made_of(folder: Path, content: Members) -> bool:
    """True for a folder of an ensemble of the same runs with the same weights."""
    if not (folder / ENSEMBLE).is_file():
        return False
    ensemble = open_ensemble(folder)
    expected = (content.members, content.weights, content.raw, content.by_output)
    return (ensemble.members, ensemble.weights, ensemble.raw, ensemble.by_output) == expected


def open_ensemble(folder: Path) -> Ensemble:
    """Read an ensemble's folder.

    Raises:
        CheckpointError: its `ensemble.json` is damaged.
    """
    path = folder / ENSEMBLE
    try:
        content = Members.model_validate(read_json(path))
        task = recorded_task(content.task, content.task_record)
        content.check(task)
    except (OSError, ValueError, UsageError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is damaged ({reason}). Create it again with `abaw ensemble`.") from error
    return Ensemble(folder, task, content.weights, content.members, content.raw, content.by_output)


def find_ensemble(runs: Path, name: str) -> Ensemble | None:
    """The ensemble called `name` (under `runs`, or a path); None if no ensemble has that name."""
    folder = next((folder for folder in (runs / name, Path(name)) if (folder / ENSEMBLE).is_file()), None)
    return open_ensemble(folder) if folder is not None else None


def find_results(runs: Path, name: str, split: str, raw: bool = False) -> Results:
    """Saved predictions of the run or ensemble called `name` (under `runs`, or a path); see `run_results`."""
    ensemble = find_ensemble(runs, name)
    if ensemble is not None:
        digest = digest_of(_sources(ensemble.runs(), ensemble.raw), ensemble.weights, ensemble.by_output)
        predictions = read_current(ensemble.folder, split, ensemble.task, digest)
        return Results(ensemble.name, ensemble.folder, ensemble.task, predictions)
    return run_results(find_run(runs, name, also=ENSEMBLE), split, raw)
