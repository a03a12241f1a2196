"""The parts of a report that are tables and charts of whole runs."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction, stack_labels
from abaw.evaluate.report.charts import Axis, Series, chart, row_of, sizes_of
from abaw.evaluate.report.content import Reported, VideoErrors
from abaw.evaluate.report.markup import Markup, cell, join, number, row_name, table, tag
from abaw.evaluate.report.published_scores import published_for
from abaw.evaluate.scores.bootstrap import difference
from abaw.evaluate.scores.calibration import calibration, missing_share, scores_by_missing
from abaw.evaluate.scores.metrics import confusion

DARKEST = 70  # per cent of colour in a cell of the confusion matrix: text in it can still be read
ERRORS = {
    "regression": "mean absolute error",
    "classes": "share of wrong frames",
    "binary": "share of wrong decisions",
}


def letter(run: int, n_runs: int) -> str:
    """What a run is called in narrow places; nothing where it is the only one."""
    return f"{chr(ord('A') + run % 26)}{run // 26 or ''}" if n_runs > 1 else ""


def titled(text: str, run: int, n_runs: int) -> str:
    """A column's title with the run's letter."""
    return f"{text} {letter(run, n_runs)}".strip()


def section(name: str, title: str, *content: str) -> Markup:
    """A part of the page that the links at its top lead to."""
    return tag("section", {"id": name}, tag("h2", {}, title), *content)


def _with_interval(value: float, interval: tuple[float, float]) -> Markup:
    low, high = interval
    around = "" if math.isnan(low) else tag("small", {}, f" [{low:.3f}, {high:.3f}]")
    return cell(join([number(value), around]), value)


def _plain(values: Sequence[float], digits: int = 3) -> list[Markup]:
    return [cell(number(value, digits) if digits else f"{value:,.0f}", value) for value in values]


def scores(task: Task, runs: Sequence[Reported]) -> Markup:
    """The measure of each run, what it is made of, and what others published."""
    rows = [[row_name("score"), *(_with_interval(r.official.score, r.intervals["score"]) for r in runs)]]
    for part in task.parts:
        own = [_with_interval(r.official.by_task[part.name], r.intervals[part.name]) for r in runs]
        rows.append([row_name(f"{part.name}: {part.measure.name}"), *own])
    rows.append([row_name(_crop_words(task)), *_plain([r.crop_only.score for r in runs])])
    if any(r.origin for r in runs):
        rows.append([row_name("score before post-processing"), *_plain([r.raw_score for r in runs])])
    if len(runs) > 1:
        rows.append(
            [row_name(f"difference from {letter(0, len(runs))}"), cell("–", math.nan), *_differences(task, runs)]
        )
    rows.append([row_name(f"labelled {task.level}s"), *_plain([r.official.n_frames for r in runs], 0)])
    if task.level == "frame":
        rows.append([row_name("videos"), *_plain([len(r.predictions) for r in runs], 0)])
    drawn = "images" if task.level == "image" else "videos"
    head = ["", *(">" + (titled("", i, len(runs)) or "this run") for i in range(len(runs)))]
    own_table = table(f"{task.measure.name}, over all labelled {task.level}s; 95 % interval over {drawn}", head, rows)
    notes = [
        tag("p", {"class": "note"}, f"{titled('', i, len(runs))} post-processed: {run.origin}")
        for i, run in enumerate(runs)
        if run.origin
    ]
    return section("scores", "Scores", tag("div", {"class": "beside"}, own_table, _published(task)), *notes)


def _crop_words(task: Task) -> str:
    return {"frame": "frames with a crop only", "image": "images with features only"}.get(
        task.level, "videos with features only"
    )


def _differences(task: Task, runs: Sequence[Reported]) -> Iterator[Markup]:
    for run in runs[1:]:
        try:
            found = difference(task, runs[0].predictions, run.predictions)["score"]
        except UsageError:  # other videos or labels: the tables beside say how many
            yield cell("other videos", math.nan)
            continue
        around = "" if math.isnan(found.low) else f" [{found.low:+.3f}, {found.high:+.3f}], p = {found.p_value:.2g}"
        yield cell(join([f"{found.estimate:+.3f}", tag("small", {}, around)]), found.estimate)


def _published(task: Task) -> Markup:
    known = published_for(task.name)
    if not known:
        return Markup("")
    split = {"V": "validation", "T": "test"}
    rows = [[row_name(one.source), cell(split[one.split]), tag("td", {"class": "number"}, one.score)] for one in known]
    return table("Published scores of this task, on the official data", ["source", "split", ">score"], rows)


def outputs(task: Task, runs: Sequence[Reported]) -> Markup:
    """A table for each plain task: what each output reaches, and with which threshold."""
    tables = [_outputs(task, part, runs) for part, _, _ in task.each()]
    return section("outputs", "By output", tag("div", {"class": "beside"}, *tables))


def _outputs(task: Task, part: Task, runs: Sequence[Reported]) -> Markup:
    measure = part.measure.short
    is_binary = part.kind == "binary"
    head = ["", ">labels", *([">share"] if part.kind != "regression" else [])]
    for i in range(len(runs)):
        head += [f">{titled(measure, i, len(runs))}", *([f">{titled('threshold', i, len(runs))}"] if is_binary else [])]
    rows = []
    shares = _shares(task, part, runs[0])
    for name in part.outputs:
        cells = [row_name(name), *_plain([runs[0].official.support[name]], 0)]
        cells += [cell(f"{shares[name]:.1%}", shares[name])] if name in shares else []
        for run in runs:
            cells.append(_with_interval(run.official.parts[name], run.intervals[name]))
            cells += [cell(f"{run.thresholds.get(name, 0.5):.2f}", 0.0)] if is_binary else []
        rows.append(cells)
    what = {"regression": "", "classes": ", labels of each class", "binary": ", frames on which a unit is active"}
    return table(f"{part.name}: {measure} with 95 % interval{what[part.kind]}", head, rows)


def _shares(task: Task, part: Task, run: Reported) -> Mapping[str, float]:
    """Share of each class or active unit in the valid labels."""
    if part.kind == "regression":
        return {}
    wanted = next(columns for one, _, columns in task.each() if one is part)
    labels = np.concatenate([found.by_label().labels[:, wanted] for found in run.predictions.values()])
    counts = np.broadcast_to(part.valid(labels).sum(axis=0), len(part.outputs))
    return {
        name: run.official.support[name] / max(1, int(count)) for name, count in zip(part.outputs, counts, strict=True)
    }


def confusions(task: Task, runs: Sequence[Reported]) -> Markup:
    """How often each class was taken for which, by run; nothing for a task without classes."""
    matrices = [
        _confusion(part, *_columns(run.predictions, given, wanted), letter(i, len(runs)))
        for part, given, wanted in task.each()
        if part.kind == "classes"
        for i, run in enumerate(runs)
    ]
    return section("confusion", "Confusion", tag("div", {"class": "beside"}, *matrices)) if matrices else Markup("")


def _columns(predictions: Mapping[str, VideoPrediction], given: slice, wanted: slice) -> tuple[NDArray, NDArray]:
    """Outputs and labels of a plain task in all videos, a row for each label."""
    outputs, labels, _ = stack_labels(predictions.values())
    return outputs[:, given], labels[:, wanted]


def _confusion(task: Task, outputs_: NDArray, labels: NDArray, run: str) -> Markup:
    counts = confusion(task, outputs_, labels)
    rows = []
    for name, row in zip(task.outputs, counts.tolist(), strict=True):
        total = sum(row)
        cells = [row_name(name), *_plain([total], 0)]
        for column, count in enumerate(row):
            share = count / total if total else 0.0
            look = {
                "style": f"--share:{share * DARKEST:.0f}%",
                "class": "number" + " right" * (task.outputs[column] == name),
            }
            cells.append(tag("td", look, f"{share:.0%}", tag("small", {}, f" {count:,}")) if total else tag("td", look))
        rows.append(cells)
    caption = f"{f'{task.name} {run}'.strip()}: labels by row, predictions by column; share of the row and count"
    return table(caption, ["label", ">labels", *(f">{name}" for name in task.outputs)], rows, {"class": "confusion"})


def learning(runs: Sequence[Reported]) -> Markup:
    """Loss, score and learning rate over epochs."""
    fitted = [run.name for run in runs if not run.epochs]
    note = (
        tag("p", {"class": "note"}, f"Without a curve, as not trained in epochs: {', '.join(fitted)}.")
        if fitted
        else ""
    )
    if len(fitted) == len(runs):
        return section("learning", "Learning curves", note)
    kinds = (("loss", "training loss"), ("score", "validation score"), ("lr", "learning rate"))
    charts = [chart(title, Axis("epoch"), Axis(name), list(_curves(runs, name))) for name, title in kinds]
    return section("learning", "Learning curves", row_of(charts), note)


def _curves(runs: Sequence[Reported], name: str) -> Iterator[Series]:
    for i, run in enumerate(runs):
        x, y = ([epoch.get(key, math.nan) for epoch in run.epochs] for key in ("epoch", name))
        tips = [f"epoch {at:g}: {name} {value:.4g}" for at, value in zip(x, y, strict=True)]
        yield Series(i, x, y, tips, [2.5] * len(x))


def calibrations(task: Task, runs: Sequence[Reported]) -> Markup:
    """Predicted against found for each plain task."""
    charts = []
    for part, given, wanted in task.each():
        found = [calibration(part, *_columns(run.raw, given, wanted)) for run in runs]
        for curves in zip(*found, strict=True):
            errors = ", ".join(titled(f"{one.error:.3f}", i, len(runs)) for i, one in enumerate(curves))
            charts.append(_calibration(part, f"{part.name}, {curves[0].name}: mean distance {errors}", curves))
    note = tag(
        "p",
        {"class": "note"},
        "Outputs as the head gives them, in ten bins; a point's area grows with the values in it. On the dashed line predictions would be what is found.",
    )
    return section("calibration", "Calibration", row_of(charts), note)


def _calibration(task: Task, title: str, curves: Sequence) -> Markup:
    words = {
        "regression": ("mean prediction", "mean label"),
        "classes": ("probability of the top class", "share that is right"),
        "binary": ("probability", "share that is active"),
    }
    low = -1 if task.kind == "regression" else 0
    x, y = (Axis(word, low, 1) for word in words[task.kind])
    series = [
        Series(
            i,
            one.predicted.tolist(),
            one.found.tolist(),
            [
                f"predicted {p:.3f}, found {f:.3f}, {n:,} values"
                for p, f, n in zip(one.predicted, one.found, one.counts, strict=True)
            ],
            sizes_of(one.counts.tolist()),
        )
        for i, one in enumerate(curves)
    ]
    return chart(title, x, y, series, diagonal=True)


def by_missing(task: Task, runs: Sequence[Reported], videos: Sequence[VideoErrors]) -> Markup:
    """Errors of videos, and scores, by the share of frames that have no crop."""
    shares = [100 * missing_share(video.first) for video in videos]
    charts = []
    for place, (part, _, _) in enumerate(task.each()):
        series = []
        for i in range(len(runs)):
            errors = [video.by_part[place][i] for video in videos]
            tips = [
                f"{v.video}: {share:.1f} % missing, error {e:.3f}"
                for v, share, e in zip(videos, shares, errors, strict=True)
            ]
            series.append(Series(i, shares, errors, tips, [3.5] * len(videos), is_line=False))
        x, y = Axis("frames without a crop in %", None if max(shares) else 0), Axis(ERRORS[part.kind], 0)
        charts.append(chart(f"{part.name}: each video", x, y, series))
    rows = []
    for ranges in zip(*(scores_by_missing(task, run.predictions) for run in runs), strict=True):
        counts = _plain([ranges[0].n_videos, ranges[0].n_frames], 0)
        rows.append([row_name(ranges[0].name), *counts, *_plain([one.score for one in ranges])])
    head = [
        "frames without a crop",
        ">videos",
        ">labelled frames",
        *(f">{titled('score', i, len(runs))}" for i in range(len(runs))),
    ]
    pooled = table("Score over the videos of each range", head, rows)
    return section("missing", "Missing frames", tag("div", {"class": "beside"}, row_of(charts), pooled))


def settings(runs: Sequence[Reported]) -> Markup:
    """How each run was trained; what differs between runs is marked."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    rows = []
    for name in names:
        values = [run.settings.get(name, "–") for run in runs]
        look = {"class": "differs" if len(set(values)) > 1 else None}
        rows.append([row_name(name), *(tag("td", look, value) for value in values)])
    if not rows:
        return Markup("")
    head = ["option", *(titled("", i, len(runs)) or "value" for i in range(len(runs)))]
    listed = tag("details", {}, tag("summary", {}, f"{len(rows)} options"), table("Options of training", head, rows))
    return section("settings", "Settings", listed)
