"""Tables of what the stages return."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from abaw.commands.console import say, show_some, show_table, warn
from abaw.core.csv_cells import as_cell
from abaw.core.errors import some_of

if TYPE_CHECKING:
    from abaw.core.files import Place
    from abaw.core.progress import Summary
    from abaw.core.tasks import Task
    from abaw.datasets.doctor import VideoReport
    from abaw.evaluate.compare import Comparison
    from abaw.evaluate.evaluation import Evaluation
    from abaw.evaluate.postprocessing.tuning import Tuning
    from abaw.extract.forecast import Forecast
    from abaw.predict.videos import PredictSummary
    from abaw.store.audit import FeatureInfo, LabelInfo

MOST_RESULTS = 20  # shown of what was predicted
N_SHARED = 6  # so many videos with the same warning share one line


def show_summary(summary: "Summary", store: "Place") -> None:
    """What a stage did with videos, and what went wrong."""
    say(
        f"done {len(summary.done)}, skipped {len(summary.skipped)}, failed {len(summary.failed)} "
        f"({summary.n_frames} frames into {store})"
    )
    show_some(f"{len(summary.failed)} failed videos:", [f"{video}: {why}" for video, why in summary.failed.items()])
    backbones = [f"{feature}: {why}" for feature, why in summary.failed_backbones.items()]
    show_some(f"{len(backbones)} failed backbones:", backbones)
    show_some(f"{len(summary.broken_frames)} frames left out:", summary.broken_frames)
    show_some(f"{len(summary.label_errors)} label files left out:", summary.label_errors)
    show_some(f"{len(summary.without_sound)} videos without sound:", summary.without_sound)
    show_some(f"{len(summary.without_text)} videos without text:", summary.without_text)
    show_some(f"{len(summary.warnings)} warnings:", summary.warnings)
    if summary.stopped and not summary.is_interrupted:
        warn(f"Stopped early: {summary.stopped.sentence}.")


def show_people(people: Mapping[str, Sequence[str]]) -> None:
    """How many people are in how many videos.

    Args:
        people: names by video.
    """
    n_people, without = sum(map(len, people.values())), [video for video, names in people.items() if not names]
    nobody = f"; no face in {some_of(without, 3)}" if without else ""
    say(f"{_people(n_people)} in {len(people):,} {'video' if len(people) == 1 else 'videos'}{nobody}.")


def _people(n: int) -> str:
    return f"{n:,} {'person' if n == 1 else 'people'}"


def show_predictions(summary: "PredictSummary", out: Path) -> None:
    """What was seen in each file and where its predictions are, and without a run how far to trust them."""
    show_summary(summary, out)
    shown = list(summary.results.values())
    for result in shown[:MOST_RESULTS]:
        is_video = result.n_frames > 1
        people = _people(len(result.people))
        frames = f", a face in {result.n_with_face} of {result.n_frames} frames" if is_video and result.people else ""
        seen = f"{people}{frames}" if result.people else "no face"
        say(f"{result.folder}: {seen} ({', '.join((*result.pictures, 'predictions.csv'))})")
    if len(shown) > MOST_RESULTS:
        say(f"... and {len(shown) - MOST_RESULTS} more in {out}")
    if summary.table:
        say(f"{summary.table}: all images in one table")
    if summary.trust:
        say(summary.trust)


def show_forecast(forecast: "Forecast", store: "Place") -> None:
    """What an extraction would do: what each feature lacks, and what that takes."""
    rows = [
        (
            one.feature,
            one.n_complete,
            one.n_videos,
            f"{one.n_frames:,}",
            _size(one.n_bytes),
            one.weights or "needs none",
        )
        for one in forecast.features
    ]
    show_table(f"Missing in {store}", ["feature", ">complete", ">videos", ">frames", ">size", "weights"], rows)
    estimated = (
        f"; for sound and text, those of {forecast.n_estimated:,} videos are estimated from their crops"
        if forecast.n_estimated
        else ""
    )
    room = f", of {_size(forecast.free_bytes)} free" if forecast.free_bytes is not None else ""
    say(
        f"To extract: {forecast.n_videos:,} videos, {forecast.n_frames:,} frames{estimated}; about "
        f"{_size(forecast.n_bytes)} on disk{room}."
    )
    labels = ", ".join(f"{task} {n:,}" for task, n in forecast.labels.items())
    say(f"Label files: {labels}." if labels else "No labels.")
    unreadable = [f"{video}: {why}" for video, why in forecast.unreadable.items()]
    show_some(f"{len(unreadable)} videos that cannot be read:", unreadable)
    for one in forecast.features:
        if one.n_videos and not one.has_weights:
            warn(f"{one.feature} needs weights that are not on this machine: {one.weights}.")
    if forecast.free_bytes is not None and forecast.n_bytes > forecast.free_bytes:
        warn(f"The disk of {store} has too little room. Choose another with --store.")


def _size(n_bytes: float) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes / 1e6:.1f} MB"


def show_doctor(data: Path, reports: "Sequence[VideoReport]", total: Mapping[str, Any], every: bool) -> None:
    """Totals, what is not read, and the videos that need attention.

    Args:
        total: see `abaw.datasets.doctor.totals`.
        every: show all videos.
    """
    if stills := [report for report in reports if report.kind == "stills"]:
        say(f"{data}: {stills[0].video}")
        for sentence in stills[0].warnings:
            say(f"  {sentence}")
        return
    say(
        f"{data}: {total['videos']} videos, {total['frames']:,} frames, {total['crops']:,} crops, {total['missing']:,} missing, "
        f"{len(total['left_right_pairs'])} left/right pairs"
        + (f", {_people(total['people'])}." if total["people"] else ".")
    )
    for task, counts in total["labels"].items():
        say(
            f"{task}: {counts['videos']} label files; {_describe_labelled(counts['labelled_rows'])}; "
            f"{counts['extra_rows']} rows more and {counts['missing_rows']} fewer "
            f"than frames ({_describe_difference(task, reports)}); {counts['labels_without_crop']} rows without a crop, "
            f"{counts['crops_without_label']} crops without a row."
        )
    if not total["labels"] and not total["errors"]:
        say("No labels: `abaw extract` works, `abaw train` does not.")
    unread = [report for report in reports if report.kind == "unread"]
    for report in unread:
        say(f"Not read: {report.warnings[0]}.")
        for path in report.paths if every and len(report.paths) > 1 else ():
            say(f"  {path}")
    for report in reports:
        if report.kind == "people":
            say(report.warnings[0])
    others = [report for report in reports if report.kind not in ("unread", "people")]
    shared = _shared_notes(others)
    for note, names in shared.items():
        say(f"{len(names)} videos ({some_of(names, 3)}): {note}.")
    shown = [report for report in others if every or report.errors or set(report.warnings) - shared.keys()]
    if shown:
        columns, cells = doctor_rows(shown)
        show_table("All of them" if every else "To look at", columns, cells)
    if len(shown) < len(others):
        count = f"{len(others) - len(shown)} {'more' if shown else 'videos'}"
        say(f"{count} are as they should be; `abaw doctor --all` shows each.")
    show_some(f"{total['errors']} errors:", [error for report in reports for error in report.errors], most=20)


def _shared_notes(reports: "Sequence[VideoReport]") -> dict[str, list[str]]:
    """Warnings that many videos share, each with their names."""
    names: dict[str, list[str]] = {}
    for report in reports:
        for note in report.warnings:
            names.setdefault(note, []).append(report.video)
    return {note: videos for note, videos in names.items() if len(videos) >= N_SHARED}


def doctor_rows(reports: "Sequence[VideoReport]") -> tuple[list[str], list[tuple[object, ...]]]:
    """Columns and cells of a table with a row for each report."""
    tasks = sorted({task for report in reports for task in report.extra_rows})
    names = "/".join(tasks)
    labelled = [f">extra rows {names}", f">no crop {names}"] if tasks else []
    columns = ["video", "split", ">fps", ">frames", ">crops", ">missing", ">runs", *labelled, "notes"]
    rows = [
        (
            *(report.video, report.split or "-", f"{report.fps:.2f}", report.n_frames, report.n_crops),
            *(report.n_missing, report.n_runs),
            *(_by_task(counts, tasks) for counts in (report.extra_rows, report.n_labels_without_crop) if tasks),
            f"{len(report.errors)} errors" if report.errors else "; ".join(report.warnings) or "ok",
        )
        for report in reports
    ]
    return columns, rows


def _split_by_path(reports: "Sequence[VideoReport]") -> "Iterator[VideoReport]":
    """The reports, with one for each path that was not read."""
    for report in reports:
        yield from (replace(report, video=path) for path in report.paths) if report.paths else (report,)


def write_doctor_csv(reports: "Sequence[VideoReport]", stream: TextIO) -> None:
    """Write a row for each report as CSV: a column for each count and task, then warnings and errors."""
    tasks = sorted({task for report in reports for task in report.extra_rows})
    counts_by_task = ("n_labelled_rows", "extra_rows", "n_labels_without_crop", "n_crops_without_label")
    columns = ("kind", "video", "split", "fps", "n_frames", "n_crops", "n_missing", "n_runs")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*columns, *(f"{task}_{name}" for task in tasks for name in counts_by_task), "warnings", "errors"])
    for report in _split_by_path(reports):
        counts = [getattr(report, name).get(task, "") for task in tasks for name in counts_by_task]
        sentences = ["; ".join(report.warnings), "; ".join(report.errors)]
        writer.writerow(map(as_cell, [*(getattr(report, name) for name in columns), *counts, *sentences]))


def _describe_labelled(by_split: Mapping[str, int]) -> str:
    """`7,100 labelled rows (3,600 val, 3,500 train)`."""
    each = ", ".join(f"{count:,} {split or 'in no split'}" for split, count in by_split.items())
    return f"{sum(by_split.values()):,} labelled rows ({each})"


def _describe_difference(task: str, reports: "Sequence[VideoReport]") -> str:
    """Whether the difference between label rows and frames is normal: one row in a video is."""
    known = [report for report in reports if not report.is_guessed]  # in the others the last frames may have no crop
    worst = max(known, key=lambda report: abs(report.extra_rows.get(task, 0)), default=None)
    most = abs(worst.extra_rows.get(task, 0)) if worst is not None else 0
    return "normal" if worst is None or most <= 1 else f"one in a video is normal; {worst.video} has {most}"


def _by_task(counts: dict[str, int], tasks: Sequence[str]) -> str:
    return "/".join(str(counts.get(task, "-")) for task in tasks)


# by level of the task: the labelled rows that the second score is over, and what can lack features as a whole
EVALUATED = {
    "frame": ("those with a crop", "videos"),
    "image": ("those with a feature", "folders of images"),
    "video": ("those with a feature", "videos"),
}


def show_evaluation(name: str, split: str, evaluation: "Evaluation") -> None:
    """Each output and the score, over all labels and, if there are fewer, over those with a crop.

    Args:
        name: of what is scored.
    """
    seen, holders = EVALUATED[evaluation.task.level]
    if evaluation.coverage:
        seen = "those with a prediction"
    scores = {"all labelled rows (official)": evaluation.official}
    if evaluation.task.level == "frame" or evaluation.crop_only.n_frames < evaluation.official.n_frames:
        scores[seen] = evaluation.crop_only
    post = evaluation.postprocessed
    if post:
        scores[f"all, post-processed ({post.origin}{': optimistic' if post.note else ''})"] = post.official

    rows: list[tuple[object, ...]] = []
    for output, measure in _measures(evaluation.task):
        values = [score.parts.get(output, score.by_task.get(output, score.score)) for score in scores.values()]
        official, *others = (f"{value:.3f}" for value in values)
        low, high = evaluation.intervals[output]
        interval = f"{low:.3f} to {high:.3f}" if low == low else "-"
        rows.append((output, measure, official, interval, *others, evaluation.official.support.get(output, "")))
    for further in evaluation.official.also:
        official, *others = (f"{score.also[further]:.3f}" for score in scores.values())
        rows.append((further, "further score", official, "", *others, ""))
    n_official, *n_others = (score.n_frames for score in scores.values())
    rows.append(("labelled rows", "", n_official, "", *n_others, ""))
    if evaluation.n_people:
        rows.append(("people", "", evaluation.n_people, "", *[""] * len(n_others), ""))
    official, *others = (f">{heading}" for heading in scores)
    columns = ["", "measure", official, ">official, 95 %", *others, ">labels"]
    show_table(f"{name} on {split}", columns, rows)
    for sentence in evaluation.coverage.sentences() if evaluation.coverage else ():
        say(sentence)
    if evaluation.without_feature:
        warn(
            f"{len(evaluation.without_feature)} labelled {holders} have no feature and got the mean output of the others: "
            f"{', '.join(evaluation.without_feature[:3])}."
        )
    if post and post.note:
        warn(f"{post.note[0].upper()}{post.note[1:]}.")


def show_comparison(comparison: "Comparison") -> None:
    """Each measure of two runs with its 95 % interval, and their difference with its p-value."""
    first, second = comparison.results
    rows = []
    for name, measure in _measures(first.task):
        compared = comparison.measures[name]
        cells = (_with_interval(value, ends) for value, ends in zip(compared.values, compared.intervals, strict=True))
        gain = compared.difference
        p = f"{gain.p_value:.4f}" if gain.p_value == gain.p_value else "-"
        rows.append((name, measure, *cells, _with_interval(gain.estimate, (gain.low, gain.high), "+"), p))
    columns = ["", "measure", f">{first.name}, 95 %", f">{second.name}, 95 %", ">difference, 95 %", ">p"]
    show_table(f"{first.name} and {second.name} on {comparison.split}", columns, rows)


def _measures(task: "Task") -> list[tuple[str, str]]:
    """The outputs of a task, its parts and the score, each with the name of its measure."""
    rows = []
    for part, _, _ in task.each():
        rows += [(name, part.measure.short) for name in part.outputs]
        rows += [(part.name, part.measure.name)] if task.parts else []
    return [*rows, ("score", task.measure.name)]


def _with_interval(value: float, ends: tuple[float, float], sign: str = "") -> str:
    """`0.512 [0.498, 0.530]`; the value alone where there is no interval."""
    low, high = ends
    return f"{value:{sign}.3f}" + (f" [{low:{sign}.3f}, {high:{sign}.3f}]" if low == low else "")


def show_tuning(run: str, task: "Task", tuning: "Tuning") -> None:
    """What was fitted for each output, and the scores on the rows that it was fitted on."""
    steps = tuning.postprocess
    rows = [
        (
            name,
            f"{smoothing.kind} {smoothing.width}"
            if (smoothing := steps.smoothing.get(name)) and smoothing.width > 1
            else "-",
            f"{steps.thresholds[name]:.3f}" if name in steps.thresholds else "-",
            f"{steps.offsets[name]:+.3f}" if steps.offsets.get(name) else "-",
        )
        for name in task.outputs
    ]
    show_table(f"{run}: {tuning.origin}", ["", "smoothing", ">threshold", ">offset of the logit"], rows)
    names = ", ".join(source.name for source in tuning.runs)
    on = "Score on val" if tuning.fit_on == "nothing" else "Score on what it was fitted on"
    if tuning.fit_on == "crossed":
        on = f"Score on val, each of {len(tuning.crossed)} groups of videos by a fit on the others"
    say(
        f"{on} ({len(tuning.videos)} videos, {tuning.n_frames:,} rows; predictions of {names}): "
        f"{tuning.score_before:.3f}, post-processed {tuning.score_after:.3f}."
    )
    if tuning.fit_on == "val":
        warn("Post-processing fitted on val: scores on val are optimistic.")
    if tuning.fit_on == "train":
        warn(
            "The head was trained on these videos and may do worse on others: --fit-on folds or crossed is more like those."
        )


def show_store(path: str, features: "Sequence[FeatureInfo]", labels: "Sequence[LabelInfo]") -> None:
    """Features with their videos, frames and sizes, and the labels."""
    rows = [
        (
            *(info.feature, info.weights, "x".join(map(str, info.shape)), info.n_videos, info.n_frames),
            f"{info.n_missing} ({info.n_missing / max(1, info.n_frames):.1%})",
            *(f"{info.n_bytes / 1e6:.1f} MB", info.fingerprint[:8], info.n_incomplete),
        )
        for info in features
    ]
    columns = ["feature", "weights", ">shape", ">videos", ">frames", ">missing", ">size", "fingerprint", ">incomplete"]
    show_table(f"Features in {path}", columns, rows)
    people = [">people"] if any(info.n_people for info in labels) else []
    cells = [
        (info.task, info.split, info.n_videos, *[info.n_people or "-" for _ in people], info.n_rows) for info in labels
    ]
    show_table("Labels", ["task", "split", ">videos", *people, ">rows"], cells)
