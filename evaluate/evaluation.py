"""Evaluations: predictions of a split, scored over all labelled rows and over those with a crop.

What is counted has the same name in `abaw doctor`, `abaw eval` and the report:

    frame           a picture of a video, numbered as the video decodes, with or without a crop
    missing         a frame without a crop
    row             of labels or predictions: row i belongs to frame i + 1. A label file may have a row more or fewer than
                    the video has frames, and a frame that is labelled twice has two rows. In tasks of images or whole
                    videos a row is an image or a video, and it "has a crop" if it has any feature.
    labelled row    a row with at least one annotated value: scores are over these
    label           an annotated value of one output; a labelled row of action units has up to twelve
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abaw.core.files import or_null, save_json
from abaw.core.row_table import RowTable
from abaw.core.tasks import Task
from abaw.evaluate.postprocessing.postprocess import Postprocess
from abaw.evaluate.prediction_table import prediction_table
from abaw.evaluate.predictions import VideoPrediction, save_predictions, stack_labels
from abaw.evaluate.results import Results
from abaw.evaluate.scores.bootstrap import interval, n_units, noun_of_units
from abaw.evaluate.scores.further_scores import score_with_further
from abaw.evaluate.scores.metrics import Score
from abaw.evaluate.table_coverage import TableCoverage
from abaw.train.run_files import predictions_file, scores_file

if TYPE_CHECKING:
    from abaw.evaluate.report.face_crops import Faces


@dataclass(frozen=True)
class Postprocessed:
    """Scores of the same predictions after post-processing.

    Attributes:
        official, crop_only: like those of `Evaluation`.
        origin: where the post-processing comes from, such as `fitted on folds` or `box:51`.
        note: a sentence if these scores are optimistic, else empty.
        postprocess: the post-processing itself; where it was cross-fitted, that for other videos than these.
        predictions: by video, post-processed: those that are scored.
    """

    official: Score
    crop_only: Score
    origin: str
    note: str
    postprocess: Postprocess
    predictions: Mapping[str, VideoPrediction]

    def as_json(self) -> dict[str, Any]:
        """All attributes but the predictions."""
        return {
            "origin": self.origin,
            "note": self.note,
            "official": _score_as_json(self.official),
            "crop_only": _score_as_json(self.crop_only),
            "postprocess": self.postprocess.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class Evaluation:
    """Scores and the predictions behind them.

    Attributes:
        task: task of the predictions.
        official: over all labelled rows, as the challenges score.
        crop_only: over the labelled rows whose frame has a crop.
        predictions: by video, before post-processing.
        without_feature: labelled videos that have no feature at all.
        postprocessed: scores after post-processing, if any.
        members: for an ensemble, the averaged predictions of each run; empty for a single run.
        weights: weights of the members.
        by_output: weights of the members for outputs that have others.
        coverage: for tables of another program, which frames they answer; `crop_only` is over those.
    """

    task: Task
    official: Score
    crop_only: Score
    predictions: dict[str, VideoPrediction]
    without_feature: tuple[str, ...]
    postprocessed: Postprocessed | None = None
    members: tuple[Results, ...] = ()
    weights: tuple[float, ...] = ()
    by_output: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    coverage: TableCoverage | None = None

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of the official score and its parts, low and high; see `abaw.evaluate.scores.bootstrap.interval`."""
        return interval(self.task, self.predictions)

    @property
    def n_people(self) -> int:
        """Labelled people that intervals draw; 0 where the labels do not name them for every video."""
        has_people = noun_of_units(self.predictions, self.task) == "people"
        return n_units(self.task, self.predictions) if has_people else 0

    def with_postprocess(
        self, postprocess: Postprocess, predictions: Mapping[str, VideoPrediction], origin: str, note: str = ""
    ) -> "Evaluation":
        """A copy with the scores of post-processed predictions; see `Postprocessed`."""
        scores = score_both(self.task, predictions)
        return replace(self, postprocessed=Postprocessed(*scores, origin, note, postprocess, predictions))

    def table(self) -> RowTable:
        """The predictions as rows, post-processed if there are scores after post-processing; see `prediction_table`."""
        return prediction_table(self.task, (self.postprocessed or self).predictions)

    def as_json(self, split: str, run: str) -> dict[str, Any]:
        """Task, split, run and all attributes but the predictions.

        Under `official` and `crop_only` are the fields of `Score`. Under `intervals` each measure has the two ends of
        its interval, null if unknown. `people` is their number where labels name them. `postprocessed` may be null; only ensembles have
        `members` (names) and `weights`, and `weights_by_output` where some outputs have others. Only tables of other
        programs have a `coverage`.
        """
        content: dict[str, Any] = {
            "task": self.task.name,
            "split": split,
            "run": run,
            "official": _score_as_json(self.official),
            "crop_only": _score_as_json(self.crop_only),
            "intervals": {name: [or_null(end) for end in ends] for name, ends in self.intervals.items()},
            "without_feature": list(self.without_feature),
            "postprocessed": self.postprocessed.as_json() if self.postprocessed else None,
        }
        if self.n_people:
            content["people"] = self.n_people
        if self.members:
            content["members"] = [member.name for member in self.members]
            content["weights"] = list(self.weights)
        if self.by_output:
            content["weights_by_output"] = {name: list(weights) for name, weights in self.by_output.items()}
        if self.coverage:
            content["coverage"] = self.coverage.as_json()
        return content

    def save(self, folder: Path, split: str, made_from: str, faces: "Faces | None" = None, store: str = "") -> None:
        """Write `predictions-<split>.h5`, `scores-<split>.json` and a picture into the folder of a run or ensemble.

        Args:
            made_from, store: see `save_predictions`.
            faces: shown in the picture.
        """
        from abaw.evaluate.report.plots import save_picture  # matplotlib: scores alone do not need it

        is_postprocessed = any(member.tuning for member in self.members)
        path = predictions_file(folder, split)
        save_predictions(path, self.predictions, self.task, made_from, is_postprocessed, store)
        title = f"{folder.name} on {split}: {self.official.score:.3f} ({self.task.measure.name})"
        save_picture(folder, split, self.task, self.predictions, title, faces.read if faces else None)
        # last: who finds scores need not evaluate again
        save_json(scores_file(folder, split), self.as_json(split, folder.name))


def _score_as_json(score: Score) -> dict[str, Any]:
    """The fields of a score; `also` only for a task with further scores, null where one is unknown."""
    content = asdict(score)
    also = {name: or_null(value) for name, value in content.pop("also").items()}
    return content | ({"also": also} if also else {})


def evaluate_predictions(task: Task, predictions: dict[str, VideoPrediction]) -> Evaluation:
    """Score predictions over all labels and over those with a crop."""
    without_feature = tuple(video for video, prediction in predictions.items() if prediction.fps == 0)
    return Evaluation(task, *score_both(task, predictions), predictions, without_feature)


def score_both(task: Task, predictions: Mapping[str, VideoPrediction]) -> tuple[Score, Score]:
    """Scores over all labels, and over the labels whose row has a crop."""
    outputs, labels, present = stack_labels(predictions.values())
    return score_with_further(task, outputs, labels), score_with_further(task, outputs[present], labels[present])
