"""Summaries of trained runs and ensembles, read from small files alone: no torch, no store, no check of the options."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from abaw.core.errors import UsageError
from abaw.core.json_files import parse_json, read_json
from abaw.train.run_files import AT, BEST, CONFIG, ENSEMBLE, METRICS, REMEDY, list_names, scores_file

HEADER_BYTES = 8  # of a safetensors file: the length of its header
LONGEST_HEADER = 100_000_000  # as in safetensors
METADATA = "__metadata__"
SAME = 1e-3  # scores of one checkpoint on two devices differ by less
OPTIMISTIC = "val"  # what a post-processing was fitted on if scores on validation are optimistic


@dataclass(frozen=True)
class RunSummary:
    """What is known of a run or an ensemble without loading it.

    Attributes:
        name: of its folder.
        task: its name.
        features: names of the features that it takes.
        head: name; `ensemble` for an ensemble.
        score: on its validation videos, of the best epoch and before post-processing; for an ensemble that of its
            combined predictions. None if it was not validated yet.
        epoch: the best one; None for an ensemble.
        epochs: how many it has at most; None for an ensemble and for heads that are solved rather than trained.
        fold: empty if it validates on the official split, else `K/N`; for an ensemble of folds `folds of N`.
        seed: of the training; None for an ensemble.
        tuned: what its post-processing was fitted on; empty if it has none.
        tuned_score: of `abaw eval` with that post-processing; None if unknown.
        created: UTC time, ISO 8601.
        members: of an ensemble.
    """

    name: str
    task: str
    features: tuple[str, ...]
    head: str
    score: float | None
    epoch: int | None
    epochs: int | None
    fold: str
    seed: int | None
    tuned: str
    tuned_score: float | None
    created: str
    members: tuple[str, ...] = ()

    @property
    def validated_on(self) -> str:
        """The validation videos in words: `val`, `fold 1/3` or `folds of 3`."""
        if not self.fold:
            return "val"
        return self.fold if self.members else f"fold {self.fold}"

    @property
    def score_in_words(self) -> str:
        """`0.512 on val`, `0.512 on fold 1/3`, or that there is no score."""
        if self.score is None:
            return "not validated"
        mark = ", optimistic: post-processing fitted on val" if self.is_optimistic else ""
        return f"{self.score:.3f} on {self.validated_on}{mark}"

    @property
    def is_optimistic(self) -> bool:
        """True if its score includes a post-processing that was fitted on validation."""
        return bool(self.members) and self.tuned == OPTIMISTIC

    def as_json(self) -> dict[str, Any]:
        """All attributes, and what it is validated on."""
        return {**asdict(self), "validated_on": self.validated_on}


def summarise_runs(runs: Path) -> tuple[list[RunSummary], dict[str, str]]:
    """Summaries of the runs and ensembles in a folder, by task and the best first; and why others cannot be read, by name.

    Raises:
        UsageError: the folder has neither runs nor ensembles.
    """
    summaries: dict[str, RunSummary] = {}
    broken: dict[str, str] = {}
    for read, file in ((_summarise_run, CONFIG), (_summarise_ensemble, ENSEMBLE)):
        for name in list_names(runs, file):
            try:
                summaries[name] = read(runs / name / file, summaries)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                broken[name] = f"its {file}, or a file next to it, is damaged ({_reason(error)})"
    if not summaries and not broken:
        raise UsageError(f"No runs in {runs}. {REMEDY}")
    return sorted(summaries.values(), key=_rank), broken


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "not JSON"
    return f"no {error}" if isinstance(error, KeyError) else str(error)[:100]


def rank_for_submission(summaries: Sequence[RunSummary], task: str) -> list[RunSummary]:
    """The runs and ensembles of a task, the one to submit first.

    Those with a score on the official validation videos come first, by this score; then ensembles of folds, then runs of
    single folds, whose scores are of other videos; then those without a score.
    """

    def rank(run: RunSummary) -> tuple[int, float]:
        group = 3 if run.score is None else 0 if not run.fold else 1 if run.members else 2
        return group, -(run.score or 0.0)

    return sorted((run for run in summaries if run.task == task), key=rank)


def _rank(run: RunSummary) -> tuple[str, bool, float, str]:
    return run.task, run.score is None, -(run.score or 0.0), run.name


def _summarise_run(path: Path, summaries: Mapping[str, RunSummary]) -> RunSummary:
    content = read_json(path)
    config, folder = content["config"], path.parent
    epoch, score = _best_of(folder / BEST)
    tuned, tuned_score = _tuning_of(folder, score)
    return RunSummary(
        name=folder.name,
        task=":".join(filter(None, [str(config["task"]), "+".join(map(str, config.get("outputs", [])))])),
        features=tuple(map(str, config["features"])),
        head=str(config["head"]["name"]),
        score=score,
        epoch=epoch,
        epochs=int(config["epochs"]) if "epochs" in config and (folder / METRICS).is_file() else None,
        fold=str(config.get("fold", "")),
        seed=int(config.get("seed", 0)),
        tuned=tuned,
        tuned_score=tuned_score,
        created=_time(content["created"]),
    )


def _member(runs: Path, name: str, summaries: Mapping[str, RunSummary]) -> RunSummary:
    """The summary of a run, or of a further checkpoint of it, such as `mtl-1@best-va`."""
    if name in summaries:
        return summaries[name]
    run = summaries.get(name.rpartition(AT)[0])
    if run is None:
        raise ValueError(f"its run {name} is missing or cannot be read")
    return replace(run, name=name, tuned=_tuning_of(runs / name, None)[0])


def _summarise_ensemble(path: Path, summaries: Mapping[str, RunSummary]) -> RunSummary:
    content, folder = read_json(path), path.parent
    names = tuple(map(str, content["members"]))
    members = [_member(folder.parent, name, summaries) for name in names]
    tuned = {member.tuned for member in members if member.tuned and not content["raw"]}
    n_folds = sorted({member.fold.partition("/")[2] for member in members if member.fold})
    scores = _json_object(scores_file(folder, "val"))
    return RunSummary(
        name=folder.name,
        task=str(content["task"]),
        features=tuple(dict.fromkeys(feature for member in members for feature in member.features)),
        head="ensemble",
        score=float(scores["official"]["score"]) if scores else None,
        epoch=None,
        epochs=None,
        fold=f"folds of {' and '.join(n_folds)}" if n_folds else "",
        seed=None,
        tuned=OPTIMISTIC if OPTIMISTIC in tuned else ", ".join(sorted(tuned)),
        tuned_score=None,
        created=_time(content["created"]),
        members=names,
    )


def _best_of(path: Path) -> tuple[int | None, float | None]:
    """Epoch and validation score of a best checkpoint, from its header alone; None if it does not exist yet.

    Raises:
        ValueError: it is not a safetensors file, or has no score.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(HEADER_BYTES), "little")
            if length > LONGEST_HEADER:
                raise ValueError(f"{path.name} is not a safetensors file")
            metadata = parse_json(file.read(length).decode())[METADATA]
    except FileNotFoundError:
        return None, None
    metadata = parse_json(metadata["abaw"]) if "abaw" in metadata else metadata
    return int(metadata["epoch"]), float(metadata["score"])


def _tuning_of(folder: Path, score: float | None) -> tuple[str, float | None]:
    """What the post-processing of a run was fitted on, and the score that `abaw eval` gave with just this one."""
    tuning = _json_object(folder / "postprocess.json")
    if not tuning:
        return "", None
    scores = _json_object(scores_file(folder, "val"))
    after = scores.get("postprocessed") or {}
    if score is None or after.get("postprocess") != tuning["postprocess"]:
        return str(tuning["fit_on"]), None
    is_current = abs(float(scores["official"]["score"]) - score) < SAME
    return str(tuning["fit_on"]), float(after["official"]["score"]) if is_current else None


def _json_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file."""
    try:
        content = read_json(path)
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content


def _time(text: object) -> str:
    """A time as it is written in a run, checked."""
    return datetime.fromisoformat(str(text)).isoformat()
