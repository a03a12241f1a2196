"""The parts of a report that are tables and charts of whole runs."""

import math
from collections.abc import Iterator, Mapping, Sequence

from numpy.typing import NDArray

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction, stack_labels
from abaw.evaluate.published_scores import FELL, SPLITS, published_for
from abaw.evaluate.report.cells import Cell, DataTable, interval_cell, letter, mark_best, number_cells, row_name, titled
from abaw.evaluate.report.charts import Axis, Chart, PointSeries, chart, sizes_of
from abaw.evaluate.report.content import Reported, VideoErrors
from abaw.evaluate.scores.bootstrap import difference, n_units, noun_of_units
from abaw.evaluate.scores.calibration import Curve, calibration, missing_share, scores_by_missing
from abaw.evaluate.scores.metrics import confusion

DARKEST = 70  # per cent of colour in a cell of the confusion matrix: text in it can still be read
ERRORS = {
    "regression": "mean absolute error",
    "classes": "share of wrong rows",
    "binary": "share of wrong decisions",
}


def scores(task: Task, runs: Sequence[Reported]) -> DataTable:
    """The score of each run and its components."""
    rows = [[row_name("score"), *mark_best([interval_cell(r.official.score, r.intervals["score"]) for r in runs])]]
    for part in task.parts:
        cells = [interval_cell(r.official.by_task[part.name], r.intervals[part.name]) for r in runs]
        rows.append([row_name(f"{part.name}: {part.measure.name}"), *mark_best(cells)])
    rows += [
        [row_name(name), *mark_best(number_cells(r.official.also.get(name, math.nan) for r in runs))]
        for name in runs[0].official.also
    ]
    rows.append([row_name(_crop_words(task)), *mark_best(number_cells(r.crop_only.score for r in runs))])
    if any(r.origin for r in runs):
        rows.append([row_name("score before post-processing"), *mark_best(number_cells(r.raw_score for r in runs))])
    if len(runs) > 1:
        rows.append([row_name(f"difference from {letter(0, len(runs))}"), Cell("–", key=math.nan)])
        rows[-1] += _differences(task, runs)
    rows.append([row_name("labelled rows"), *number_cells((r.official.n_frames for r in runs), 0)])
    if task.level == "frame":
        rows.append([row_name("videos"), *number_cells((len(r.predictions) for r in runs), 0)])
    drawn = noun_of_units(runs[0].predictions, task)
    if drawn == "people":
        rows.append([row_name(drawn), *number_cells((n_units(task, r.predictions) for r in runs), 0)])
    head = ["measure", *(">" + (titled("", i, len(runs)) or "this run") for i in range(len(runs)))]
    caption = f"{task.measure.name}, over all labelled rows; 95 % interval over {drawn}"
    return DataTable(caption, head, rows)


def _crop_words(task: Task) -> str:
    return f"labelled rows with a {'crop' if task.level == 'frame' else 'feature'} only"


def _differences(task: Task, runs: Sequence[Reported]) -> Iterator[Cell]:
    for run in runs[1:]:
        try:
            gain = difference(task, runs[0].predictions, run.predictions)["score"]
        except UsageError:  # other videos or labels: the other tables say how many
            yield Cell("other videos", key=math.nan)
            continue
        around = "" if math.isnan(gain.low) else f" [{gain.low:+.3f}, {gain.high:+.3f}], p = {gain.p_value:.2g}"
        yield Cell(f"{gain.estimate:+.3f}", around, key=gain.estimate)


def published(task: Task) -> DataTable | None:
    """Scores that others published; None if unknown."""
    rows = [
        [
            row_name(entry.system),
            Cell(entry.venue),
            Cell(SPLITS[entry.split]),
            Cell(entry.numbers, look="number"),
            Cell(entry.protocol, f" {entry.source}"),
        ]
        for entry in published_for(task.name)
    ]
    caption = f"Published scores of this task, on the official data. {FELL}"
    return DataTable(caption, ["system", "edition", "split", ">score", "protocol and source"], rows) if rows else None


def outputs(task: Task, runs: Sequence[Reported]) -> list[DataTable]:
    """A table for each plain task: the measure of each output, and its threshold."""
    return [_outputs(task, part, runs) for part, _, _ in task.each()]


def _outputs(task: Task, part: Task, runs: Sequence[Reported]) -> DataTable:
    is_binary = part.kind == "binary"
    head = ["output", ">labels", *([">share"] if part.kind != "regression" else [])]
    for i in range(len(runs)):
        head.append(f">{titled(part.measure.short, i, len(runs))}")
        head += [f">{titled('threshold', i, len(runs))}"] if is_binary else []
    rows = []
    shares = _shares(task, part, runs[0])
    for name in part.outputs:
        cells = [row_name(name), *number_cells([runs[0].official.support[name]], 0)]
        cells += [Cell(f"{shares[name]:.1%}", key=shares[name])] if name in shares else []
        measured = mark_best([interval_cell(run.official.parts[name], run.intervals[name]) for run in runs])
        for run, cell in zip(runs, measured, strict=True):
            cells.append(cell)
            cells += number_cells([run.thresholds.get(name, 0.5)], 2) if is_binary else []
        rows.append(cells)
    what = {"regression": "", "classes": ", labels of each class", "binary": ", rows on which a unit is active"}
    return DataTable(f"{part.name}: {part.measure.short} with 95 % interval{what[part.kind]}", head, rows)


def _shares(task: Task, part: Task, run: Reported) -> Mapping[str, float]:
    """Share of each class or active unit in the valid labels."""
    if part.kind == "regression":
        return {}
    columns = next(columns for other, _, columns in task.each() if other is part)
    labels = stack_labels(run.predictions.values())[1][:, columns]
    counts = [int(n) for n in part.valid(labels).sum(axis=0)]  # a single column for all classes
    counts = counts * len(part.outputs) if part.kind == "classes" else counts
    return {name: run.official.support[name] / max(1, n) for name, n in zip(part.outputs, counts, strict=True)}


def confusions(task: Task, runs: Sequence[Reported]) -> list[DataTable]:
    """Confusion matrices by plain task and run; empty for a task without classes."""
    return [
        _confusion(part, *_columns(run.predictions, part_outputs, columns), letter(i, len(runs)))
        for part, part_outputs, columns in task.each()
        if part.kind == "classes"
        for i, run in enumerate(runs)
    ]


def _columns(
    predictions: Mapping[str, VideoPrediction], part_outputs: slice, columns: slice
) -> tuple[NDArray, NDArray]:
    """Outputs and labels of a plain task in all videos, a row for each label."""
    all_outputs, labels, _ = stack_labels(predictions.values())
    return all_outputs[:, part_outputs], labels[:, columns]


def _confusion(part: Task, predicted: NDArray, labels: NDArray, run: str) -> DataTable:
    rows = []
    for actual, counts in enumerate(confusion(part, predicted, labels).tolist()):
        total = sum(counts)
        cells = [row_name(part.outputs[actual]), *number_cells([total], 0)]
        for column, count in enumerate(counts):
            share, look = count / max(1, total), "number right" if column == actual else "number"
            texts = (f"{share:.0%}", f" {count:,}") if total else ("", "")
            cells.append(Cell(*texts, look=look, share=share * DARKEST))
        rows.append(cells)
    caption = f"{f'{part.name} {run}'.strip()}: labels by row, predictions by column; share of the row and count"
    return DataTable(caption, ["label", ">labels", *(f">{name}" for name in part.outputs)], rows, "confusion")


def learning(runs: Sequence[Reported]) -> list[Chart]:
    """Loss, score and learning rate over epochs; empty if no run was trained in epochs."""
    if not any(run.epochs for run in runs):
        return []
    kinds = (("loss", "training loss"), ("score", "validation score"), ("lr", "learning rate"))
    return [chart(title, Axis("epoch"), Axis(name), list(_curves(runs, name))) for name, title in kinds]


def _curves(runs: Sequence[Reported], name: str) -> Iterator[PointSeries]:
    for i, run in enumerate(runs):
        x, y = ([epoch.get(key, math.nan) for epoch in run.epochs] for key in ("epoch", name))
        tips = [f"epoch {at:g}: {name} {value:.4g}" for at, value in zip(x, y, strict=True)]
        best = max((score for score in y if not math.isnan(score)), default=math.nan) if name == "score" else math.nan
        yield PointSeries(i, x, y, tips, [5.0 if value == best else 2.5 for value in y])


def calibrations(task: Task, runs: Sequence[Reported]) -> list[Chart]:
    """Predicted against actual values for each plain task."""
    charts = []
    for part, part_outputs, columns in task.each():
        by_run = [calibration(part, *_columns(run.raw, part_outputs, columns)) for run in runs]
        for curves in zip(*by_run, strict=True):
            errors = ", ".join(titled(f"{curve.error:.3f}", i, len(runs)) for i, curve in enumerate(curves))
            charts.append(_calibration(part, f"{part.name}, {curves[0].name}: mean distance {errors}", curves))
    return charts


def _calibration(part: Task, title: str, curves: Sequence[Curve]) -> Chart:
    words = {
        "regression": ("mean prediction", "mean label"),
        "classes": ("probability of the top class", "share that is right"),
        "binary": ("probability", "share that is active"),
    }
    low, high = (part.low, part.high) if part.kind == "regression" else (0, 1)
    x, y = (Axis(word, low, high) for word in words[part.kind])
    series = []
    for i, curve in enumerate(curves):
        points = zip(curve.predicted, curve.actual, curve.counts, strict=True)
        tips = [f"predicted {p:.3f}, found {f:.3f}, {n:,} values" for p, f, n in points]
        sizes = sizes_of(curve.counts.tolist())
        series.append(PointSeries(i, curve.predicted.tolist(), curve.actual.tolist(), tips, sizes))
    return chart(title, x, y, series, diagonal=True)


def errors_by_missing(task: Task, runs: Sequence[Reported], videos: Sequence[VideoErrors]) -> list[Chart]:
    """Errors of videos by the share of frames that have no crop."""
    shares = [100 * missing_share(video.first) for video in videos]
    charts = []
    for number, (part, _, _) in enumerate(task.each()):
        series = []
        for i in range(len(runs)):
            errors = [video.by_part[number][i] for video in videos]
            points = zip(videos, shares, errors, strict=True)
            tips = [f"{video.video}: {share:.1f} % missing, error {error:.3f}" for video, share, error in points]
            series.append(PointSeries(i, shares, errors, tips, [3.5] * len(videos), is_line=False))
        x, y = Axis("frames without a crop in %", None if max(shares) else 0), Axis(ERRORS[part.kind], 0)
        charts.append(chart(f"{part.name}: each video", x, y, series))
    return charts


def missing_ranges(task: Task, runs: Sequence[Reported]) -> DataTable:
    """Scores over the videos of each range of missing frames."""
    rows = []
    for ranges in zip(*(scores_by_missing(task, run.predictions) for run in runs), strict=True):
        counts = number_cells([ranges[0].n_videos, ranges[0].n_frames], 0)
        rows.append([row_name(ranges[0].name), *counts, *mark_best(number_cells(by_run.score for by_run in ranges))])
    by_run = [f">{titled('score', i, len(runs))}" for i in range(len(runs))]
    head = ["frames without a crop", ">videos", ">labelled rows", *by_run]
    return DataTable("Score over the videos of each range", head, rows)


def settings(runs: Sequence[Reported]) -> DataTable:
    """How each run was trained; differences between runs are marked."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    rows = []
    for name in names:
        values = [run.settings.get(name, "–") for run in runs]
        look = "differs" if len(set(values)) > 1 else ""
        rows.append([row_name(name), *(Cell(value, look=look) for value in values)])
    head = ["option", *(titled("", i, len(runs)) or "value" for i in range(len(runs)))]
    return DataTable("Options of training", head, rows)
