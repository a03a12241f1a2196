"""Confidence intervals of scores, and of the difference between two runs, by a bootstrap over videos.

Frames of a video resemble each other, so videos are drawn with replacement and their frames pooled, as the official
measures pool them. Videos of one person resemble each other, too, and are drawn together where the labels name people,
see `abaw.core.people.drawn_with`. Images without named people are drawn individually: a folder of images may be a
whole class, and a draw without one of the classes would be a different problem.

A measure is a function of a few sums over frames, so the frames are read once. A draw is a row of counts (how often it has
each video), and all draws are one product, (draws, videos) x (videos, sums).

The intervals are the percentiles of the draws (Efron and Tibshirani, 1993, ch. 13) at levels that correct
two reasons why plain ones are too narrow: Student's t in place of the normal distribution (Hesterberg, 2015, "expanded
percentile"), and the jackknife's standard error where it is larger than the bootstrap's. On simulated clusters of
frames, where 95 of 100 intervals should contain the truth, plain percentiles did in 91 of 100 cases at 30 videos and
in 92 to 94 at 60 to 100, BCa in 89 to 95, bootstrap-t in 91 to 96, these in 93 to 95 (F1 of a class that few videos
show: 88 at 30 videos, 94 from 60 on).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abaw.core.doubles import same_doubles
from abaw.core.errors import UsageError, some_of
from abaw.core.people import drawn_with
from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.formulas import ratio
from abaw.evaluate.scores.metrics import addends, centres_of, measure_names, measures_of, row_sums

N_DRAWS = 10_000
CONFIDENCE = 0.95
BYTES_AT_ONCE = 2**26  # memory for counts of draws at a time
SHOWN_VIDEOS = 3
MIN_UNITS = 4  # with fewer, the ends of a 95 % interval lie beyond the outermost of `N_DRAWS` draws
FEW_UNITS = 20  # with fewer, intervals are too narrow

Predictions = Mapping[str, VideoPrediction]


@dataclass(frozen=True)
class Difference:
    """Difference between the scores of two runs.

    Attributes:
        estimate: second score minus first.
        low, high: 95 % interval. NaN with fewer than `MIN_UNITS` people or videos, and for a measure that depends on so few of
            them that its interval would end beyond the outermost draw.
        p_value: two-sided: twice the share of draws (with one more on each side) in which the difference has the other
            sign or is 0, corrected as the interval is. NaN where there is no interval; else it is below .05 exactly
            where the interval excludes 0.
    """

    estimate: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class _Units:
    """The units that are drawn; equal rows are stored once.

    Attributes:
        sums: (units, width) float64.
        times: (units,) int64, number of units with these sums.
    """

    sums: NDArray[np.float64]
    times: NDArray[np.int64]

    @property
    def n(self) -> int:
        return int(self.times.sum())

    @property
    def total(self) -> NDArray[np.float64]:
        """(1, width)."""
        return (self.times @ self.sums)[None]


def measures(task: Task, predictions: Predictions) -> dict[str, float]:
    """Score, sub-scores and parts, as `abaw.evaluate.scores.metrics.score` gives them, under `measure_names`."""
    totals = _unit_sums(task, predictions, {}).sum(axis=0, keepdims=True)
    return dict(zip(measure_names(task), measures_of(task, totals)[0].tolist(), strict=True))


def n_units(task: Task, predictions: Predictions) -> int:
    """Number of labelled people, videos or images to draw from; see `noun_of_units`."""
    return len(_unit_sums(task, predictions, _people(predictions)))


def noun_of_units(predictions: Predictions, task: Task) -> str:
    """The plural noun for what is drawn: people if labels name them for every video, else videos or images."""
    if predictions and all(video.person for video in predictions.values()):
        return "people"
    return "images" if task.level == "image" else "videos"


def interval(
    task: Task, predictions: Predictions, n_draws: int = N_DRAWS, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of score, sub-scores and parts, under `measure_names`.

    People, videos or images without any valid label are left out. With fewer than `MIN_UNITS` labelled ones intervals
    are (NaN, NaN).

    Args:
        predictions: by video.
        n_draws: number of draws.
        seed: seed of the draws.
    """
    units = _units(task, _unit_sums(task, predictions, _people(predictions)))
    if units.n < MIN_UNITS:
        return dict.fromkeys(measure_names(task), (math.nan, math.nan))
    draws = np.concatenate([measures_of(task, totals) for totals in _draw(units, n_draws, seed)])
    stretch = _stretch(draws, measures_of(task, units.total - units.sums), units)
    return {name: _interval(draws[:, i], stretch[i], units.n) for i, name in enumerate(measure_names(task))}


def difference(
    task: Task, a: Predictions, b: Predictions, n_draws: int = N_DRAWS, seed: int = 0
) -> dict[str, Difference]:
    """Scores of `b` minus scores of `a`, under `measure_names`. Each draw has the same people or videos for both.

    Raises:
        UsageError: the two have different videos or labels.
    """
    check_same_labels(task, a, b)
    people = _people(a, b)
    sums = [_unit_sums(task, one, people) for one in (a, {video: b[video] for video in a})]
    units = _units(task, np.concatenate(sums, axis=1))

    def gain(totals: NDArray[np.float64]) -> NDArray[np.float64]:
        first, second = np.split(totals, 2, axis=1)
        return measures_of(task, second) - measures_of(task, first)

    estimates = gain(units.total)[0].tolist()
    if units.n < MIN_UNITS:
        return {name: _without_interval(value) for name, value in zip(measure_names(task), estimates, strict=True)}
    draws = np.concatenate([gain(totals) for totals in _draw(units, n_draws, seed)])
    stretch = _stretch(draws, gain(units.total - units.sums), units)
    return {
        name: _difference(estimates[i], draws[:, i], stretch[i], units.n) for i, name in enumerate(measure_names(task))
    }


def check_same_labels(
    task: Task, a: Predictions, b: Predictions, names: tuple[str, str] = ("the first", "the second")
) -> None:
    """Raise a UsageError that says what differs if two predictions, called `names`, have different videos or labels.

    Unlabelled rows at the end of a video may be in only one of them, since features differ in length.
    """
    for first, second, name in ((a, b, names[0]), (b, a, names[1])):
        if only := sorted(first.keys() - second.keys()):
            raise UsageError(
                f"Only {name} has predictions for {some_of(only, SHOWN_VIDEOS)}: different stores or folds. Evaluate "
                "both on the same videos."
            )
    for video, prediction in a.items():
        if not same_labels(task, prediction, b[video]):
            raise UsageError(
                f"{names[0]} and {names[1]} have different labels for {video}: they come from different stores. Run `abaw "
                "eval` for both on one store."
            )


def same_labels(task: Task, a: VideoPrediction, b: VideoPrediction) -> bool:
    """True if two predictions have equal labels; rows that only one of them has must be unlabelled."""
    n = min(len(a.labels), len(b.labels))
    beyond = task.valid(a.labels[n:]).any() or task.valid(b.labels[n:]).any()
    return not beyond and bool(np.array_equal(a.labels[:n], b.labels[:n])) and same_doubles(a.doubles, b.doubles)


# draws


def _people(*predictions: Predictions) -> dict[str, str]:
    """Who is in each video; predictions of older versions do not say so, and others of the same videos may."""
    return {name: video.person for some in predictions for name, video in some.items() if video.person}


def _unit_sums(task: Task, predictions: Predictions, people: Mapping[str, str]) -> NDArray[np.float64]:
    """(units, width) sums over the labelled rows of each person or video, or the addends of each image."""
    videos = [prediction.by_label() for prediction in predictions.values()]
    centres = centres_of(task, ((video.outputs, video.labels) for video in videos))
    together: dict[str, list[NDArray[np.float64]]] = {}
    units = [addends(task, np.zeros((0, len(task.outputs))), np.zeros((0, len(task.columns))), centres)]
    for name, video in zip(predictions, videos, strict=True):
        labelled = task.valid(video.labels).any(axis=1)
        outputs, labels = video.outputs[labelled], video.labels[labelled]
        person = people.get(name, "")
        if task.level == "image" and not person:
            units.append(addends(task, outputs, labels, centres))
        elif len(labels):
            together.setdefault(drawn_with(name, person, task.level), []).append(_sums(task, outputs, labels, centres))
    return np.concatenate([*units, *(np.sum(sums, axis=0)[None] for sums in together.values())])


def _sums(
    task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32], centres: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(width,) sums over the rows of a video."""
    if task.level == "frame":
        return row_sums(task, outputs, labels, centres)
    return addends(task, outputs, labels, centres).sum(axis=0)


def _units(task: Task, sums: NDArray[np.float64]) -> _Units:
    """Images and whole videos have few distinct sums, and only the number drawn of each matters."""
    if task.level == "frame":
        return _Units(sums, np.ones(len(sums), dtype=np.int64))
    return _Units(*np.unique(sums, axis=0, return_counts=True))


def _draw(units: _Units, n_draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """(draws, width) sums over `units.n` units drawn with replacement, in blocks; `n_draws` in all."""
    rng = np.random.default_rng(seed)
    n_at_once = max(1, BYTES_AT_ONCE // (8 * len(units.times)))
    for start in range(0, n_draws, n_at_once):
        size = min(n_at_once, n_draws - start)
        yield rng.multinomial(units.n, units.times / units.n, size=size).astype(np.float64) @ units.sums


def _stretch(draws: NDArray[np.float64], left_out: NDArray[np.float64], units: _Units) -> NDArray[np.float64]:
    """(measures,) standard error of the jackknife over that of the bootstrap, at least 1.

    Args:
        draws: (draws, measures).
        left_out: (units, measures), each without one unit.
    """
    deviations = left_out - units.times @ left_out / units.n
    jackknife = np.sqrt((units.n - 1) / units.n * (units.times @ deviations**2))
    return np.maximum(1, ratio(jackknife, draws.std(axis=0)))


def _end(stretch: float, n: int) -> float:
    """Half the width of an interval, in standard deviations of normally distributed draws."""
    from scipy.special import stdtrit  # scipy.stats has the same functions but takes half a second longer to import

    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * stretch)


def _interval(draws: NDArray[np.float64], stretch: float, n: int) -> tuple[float, float]:
    """Percentiles of (draws,): farther out for a larger `stretch` and for fewer units."""
    from scipy.special import ndtr

    end = _end(stretch, n)
    low, high = np.quantile(draws, ndtr([-end, end]))
    return float(low), float(high)


def _difference(estimate: float, draws: NDArray[np.float64], stretch: float, n: int) -> Difference:
    """The interval ends at draws, not between two as in `_interval`, so that it always agrees with the p-value."""
    from scipy.special import ndtr

    n_beyond = int(ndtr(-_end(stretch, n)) * (1 + len(draws)))  # draws at an end or farther out
    if n_beyond == 0:  # p could not be below .05 for any draws
        return _without_interval(estimate)
    ordered = np.sort(draws)
    low, high = float(ordered[n_beyond - 1]), float(ordered[-n_beyond])
    return Difference(estimate, low, high, _p_value(draws, stretch, n))


def _without_interval(estimate: float) -> Difference:
    return Difference(estimate, math.nan, math.nan, math.nan)


def _p_value(draws: NDArray[np.float64], stretch: float, n: int) -> float:
    """See `Difference.p_value`: the level at which the interval would end at 0."""
    from scipy.special import ndtri, stdtr

    n_other_side = min((draws <= 0).sum(), (draws >= 0).sum())
    share = min(1.0, (1 + n_other_side) / (1 + len(draws)))
    return float(min(1.0, 2 * stdtr(n - 1, ndtri(share) / stretch)))
