"""Ensembles: several runs that answer together, by the weighted mean of what they answer.

Runs that validate on the same videos are averaged; runs of different folds are pooled, each video being answered by
the runs that have it among their own, which on the split `val` are those that did not train on it.
"""

import fnmatch
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.special import log_expit, log_softmax, logsumexp

from abaw import __version__
from abaw.errors import CheckpointError, UsageError
from abaw.evaluate.bootstrap import same_labels
from abaw.evaluate.evaluation import Evaluation, evaluate_predictions
from abaw.evaluate.plots import save_picture
from abaw.evaluate.predict import VideoPrediction
from abaw.evaluate.results import Results, read_predictions, run_results
from abaw.tasks import Task, get_task
from abaw.train.checkpoint import CONFIG, save_json
from abaw.train.runs import Run, find_run, open_run

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

    @property
    def command(self) -> str:
        """The `abaw` command that makes it, up to the name."""
        weights = f" --weights {','.join(map(repr, self.weights))}" if len(set(self.weights)) > 1 else ""
        return f"ensemble {' '.join(self.members)}{weights}{' --raw' * self.raw} --run"

    def runs(self) -> list[Run]:
        """The members, in the order of the weights."""
        return [open_run(self.folder.parent / member) for member in self.members]


def combine(
    task: Task, predictions_by_run: Sequence[Mapping[str, VideoPrediction]], weights: Sequence[float] | None = None
) -> dict[str, VideoPrediction]:
    """The weighted mean of what runs answer, of each video over the runs that have it.

    Of valence and arousal it is the mean of the outputs; of classes that of the probabilities, given as their
    logarithms; of action units that of the probabilities, given as logits. `decide` takes the answers from these.
    A row is present where it is for all of the runs.

    Args:
        predictions_by_run: by video, for each run.
        weights: of the runs, above 0; equal by default. Only their ratios count.

    Raises:
        UsageError: runs have different labels of a video.
    """
    given = np.ones(len(predictions_by_run)) if weights is None else np.array(weights, dtype=np.float64)
    combined = {}
    for video in dict.fromkeys(video for predictions in predictions_by_run for video in predictions):
        chosen = [i for i, predictions in enumerate(predictions_by_run) if video in predictions]
        found = [predictions_by_run[i][video] for i in chosen]
        longest = max(found, key=lambda one: len(one.outputs))
        if not all(same_labels(task, one.labels, longest.labels) for one in found):
            raise UsageError(
                f"The runs have different labels of {video}: they come from different stores. Run `abaw eval` for all "
                "of them on one store."
            )
        own = given[chosen] / given[chosen].sum()
        alike = [_lengthen(one, len(longest.outputs)) for one in found]
        combined[video] = VideoPrediction(
            _mean(task, np.stack([one.outputs for one in alike]), own),
            longest.labels,
            np.logical_and.reduce([one.present for one in alike]),
            max(one.fps for one in found),
        )
    return combined


def _lengthen(found: VideoPrediction, n_rows: int) -> VideoPrediction:
    """More rows at the end, answered as the last one: as rows without a feature are."""
    missing = n_rows - len(found.outputs)
    if not missing:
        return found
    outputs = np.pad(found.outputs, ((0, missing), (0, 0)), mode="edge")
    return replace(found, outputs=outputs, present=np.pad(found.present, (0, missing)))


def _mean(task: Task, outputs: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """(rows, outputs) of (runs, rows, outputs) and (runs,) weights that add up to 1."""
    scale = weights[:, None, None]
    means = []
    for part, given, _ in task.each():
        values = outputs[..., given].astype(np.float64)
        if part.kind == "regression":
            mean = (scale * values).sum(axis=0)
        elif part.kind == "classes":
            mean = logsumexp(log_softmax(values, axis=2), axis=0, b=scale)
        else:  # by logarithms of both probabilities, so that sure answers stay finite
            yes, no = (logsumexp(log_expit(sign * values), axis=0, b=scale) for sign in (1, -1))
            mean = yes - no
        means.append(mean)
    return np.concatenate(means, axis=1).astype(np.float32)


def runs_per_video(predictions_by_run: Sequence[Mapping[str, VideoPrediction]]) -> dict[int, int]:
    """How many videos are answered by how many runs, most runs first."""
    n_runs = Counter(video for predictions in predictions_by_run for video in predictions)
    return dict(sorted(Counter(n_runs.values()).items(), reverse=True))


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
    if len(tasks := {run.config.task for run in members}) > 1:
        raise UsageError(f"The runs are of tasks {', '.join(sorted(tasks))}. An ensemble is of one task.")
    results = [run_results(run, split, raw) for run in members]
    task = results[0].task
    found = evaluate_predictions(task, combine(task, [one.predictions for one in results], shares))
    content = Members(
        abaw=__version__,
        created=datetime.now(UTC).isoformat(),
        task=task.name,
        members=tuple(run.name for run in members),
        weights=tuple(shares),
        raw=raw,
    )
    ensemble = _make_folder(runs, name, content)
    found.save(ensemble.folder, split, task)
    title = f"{ensemble.name} on {split}: {found.official.score:.3f} ({task.measure})"
    save_picture(ensemble.folder, split, task, found.predictions, title)
    return ensemble, found, results


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
    if name != Path(name).name or name.startswith("."):
        raise UsageError(f"{name!r} cannot be the name of a run: no slash, no dot at its beginning.")
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


def find_results(runs: Path, name: str, split: str, raw: bool = False) -> Results:
    """Saved predictions of the run or ensemble called `name` (under `runs`, or a path); see `run_results`."""
    ensemble = find_ensemble(runs, name)
    if ensemble is not None:
        found = read_predictions(ensemble.folder, split, ensemble.task, ensemble.command)
        return Results(ensemble.name, ensemble.folder, ensemble.task, found)
    return run_results(find_run(runs, name), split, raw)
