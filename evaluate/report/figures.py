"""Figures of a report for print, each as PNG and as PDF, as wide as a column or a page."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abaw.core.claim_files import claimed
from abaw.core.files import writing
from abaw.core.output_stream import OutputStream
from abaw.core.tasks import Task
from abaw.evaluate.predictions import stack_labels
from abaw.evaluate.report.answer_pictures import draw_answers
from abaw.evaluate.report.content import Reported, videos_by_error
from abaw.evaluate.report.face_crops import Faces
from abaw.evaluate.report.palette import LABEL_COLOUR, run_colour
from abaw.evaluate.report.plots import draw_confusion, draw_traces
from abaw.evaluate.scores.calibration import calibration, part_of

PAGE_IN, COLUMN_IN = 7.0, 3.4  # widths of a page of text, and of one of two columns, in inches
N_VIDEOS = 3
DASHES = ("-", "--", ":", "-.")
# PDF with fonts that can be searched and edited, as publishers ask for
PRINT: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
}

Draw = Callable[[], Figure]


def save_figures(
    folder: Path, task: Task, runs: Sequence[Reported], split: str, faces: Faces | None = None
) -> list[Path]:
    """Draw scores by output, learning curves, calibration, confusion, and traces of the worst and best videos.

    Args:
        folder: created if it is missing.
        faces: pictures of the data folder, drawn above the traces.

    Returns:
        The files, two of each figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with claimed(folder / f"figures-{split}", also=[folder]):
        for name, draw in _figures(task, runs, split, faces):
            with matplotlib.rc_context(PRINT):
                figure = draw()
                for kind in ("png", "pdf"):
                    path = folder / f"{name}-{split}.{kind}"
                    with writing(path) as unfinished, OutputStream(unfinished) as stream:
                        figure.savefig(stream, format=kind)
                    paths.append(path)
    return paths


def _figures(task: Task, runs: Sequence[Reported], split: str, faces: Faces | None) -> Iterator[tuple[str, Draw]]:
    """Name of each figure, and how to draw it."""
    yield "outputs", partial(draw_outputs, task, runs)
    yield "calibration", partial(draw_calibration, task, runs)
    if any(run.epochs for run in runs):
        yield "learning", partial(draw_learning, runs)
    for part, outputs, columns in task.each():
        for run in runs if part.kind == "classes" else ():
            videos = {name: part_of(video, outputs, columns) for name, video in run.predictions.items()}
            draw = partial(draw_confusion, part, videos, f"{run.name} on {split}")
            yield f"confusion-{part.name}-{run.name}", draw
    if task.level != "frame" and task.kind != "classes":
        for run in runs:
            yield f"answers-{run.name}", partial(draw_answers, task, run.predictions, f"{run.name} on {split}")
    if task.level == "frame":
        yield from _traces(task, runs[0], faces)


def _traces(task: Task, run: Reported, faces: Faces | None) -> Iterator[tuple[str, Draw]]:
    ordered = [errors.video for errors in videos_by_error(task, [run]) if errors.total >= 0]
    face_of = faces.read if faces is not None else None
    for name, chosen in (("worst", ordered[:N_VIDEOS]), ("best", ordered[: -N_VIDEOS - 1 : -1])):
        shown = {video: run.predictions[video] for video in chosen}
        if shown:
            title = f"{run.name}: the {name} videos"
            yield f"traces-{name}", partial(draw_traces, task, shown, title, face_of, PAGE_IN)


def draw_outputs(task: Task, runs: Sequence[Reported]) -> Figure:
    """Bars of the measure of every output with 95 % intervals, a panel for each plain task."""
    parts = [part for part, _, _ in task.each()]
    figure = Figure(figsize=(PAGE_IN, 0.4 + 2.0 * len(parts)), layout="constrained")
    for axis, part in zip(figure.subplots(len(parts), 1, squeeze=False)[:, 0], parts, strict=True):
        width = 0.8 / len(runs)
        for i, run in enumerate(runs):
            centres = np.arange(len(part.outputs)) + (i - (len(runs) - 1) / 2) * width
            values = np.array([run.official.parts[name] for name in part.outputs])
            ends = np.array([run.intervals[name] for name in part.outputs])
            # rounding or a skewed interval may put an end on the wrong side of the value
            lengths = np.nan_to_num(np.maximum([values - ends[:, 0], ends[:, 1] - values], 0))
            look = {
                "color": run_colour(i),
                "label": run.name,
                "hatch": "" if i % 2 == 0 else "///",
                "edgecolor": "white",
            }
            axis.bar(centres, values, width, yerr=lengths, error_kw={"lw": 0.8, "ecolor": LABEL_COLOUR}, **look)
        axis.set_xticks(range(len(part.outputs)), part.outputs)
        axis.set_ylabel(part.measure.short)
        axis.grid(axis="y", lw=0.4)
        axis.set_axisbelow(True)
    _legend(figure, runs)
    return figure


def draw_learning(runs: Sequence[Reported]) -> Figure:
    """Loss, score and learning rate over epochs, side by side, of the runs that have epochs."""
    figure = Figure(figsize=(PAGE_IN, 2.2), layout="constrained")
    titles = {"loss": "training loss", "score": "validation score", "lr": "learning rate"}
    for axis, (name, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for i, run in enumerate(runs):
            if not run.epochs:
                continue
            x, y = ([epoch.get(key, np.nan) for epoch in run.epochs] for key in ("epoch", name))
            axis.plot(x, y, **_look(i), label=run.name)
        axis.set(xlabel="epoch", ylabel=title)
        axis.grid(lw=0.4)
    _legend(figure, runs)
    return figure


def draw_calibration(task: Task, runs: Sequence[Reported]) -> Figure:
    """Predicted against actual values, a panel for each plain task, or for each of its real numbers."""
    panels = []
    for part, part_outputs, columns in task.each():
        curves = []
        for run in runs:
            outputs, labels, _ = stack_labels(run.raw.values())
            curves.append(calibration(part, outputs[:, part_outputs], labels[:, columns]))
        panels += [(part, of_runs) for of_runs in zip(*curves, strict=True)]
    figure = Figure(figsize=(max(COLUMN_IN, min(PAGE_IN, 2.6 * len(panels))), 2.8), layout="constrained")
    for axis, (part, of_runs) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for i, curve in enumerate(of_runs):
            axis.plot(curve.predicted, curve.actual, **_look(i), marker="os"[i % 2], ms=3, label=runs[i].name)
        _square(axis, part, of_runs[0].name)
    _legend(figure, runs)
    return figure


def _square(axis: Axes, part: Task, name: str) -> None:
    low, high = (part.low, part.high) if part.kind == "regression" else (0, 1)
    axis.plot([low, high], [low, high], color="#888888", lw=0.8, ls=":")
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=f"{part.name}: {name}")
    axis.set(xlabel="predicted", ylabel="label" if part.kind == "regression" else "found")


def _look(run: int) -> dict[str, Any]:
    return {"color": run_colour(run), "ls": DASHES[run % len(DASHES)], "lw": 1.2}


def _legend(figure: Figure, runs: Sequence[Reported]) -> None:
    """Names of the runs below all panels, if there are several."""
    if len(runs) > 1:
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
