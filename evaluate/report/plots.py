"""Pictures of predictions: traces over time with the labels, or counts of classes."""

import textwrap
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from abaw.core.files import writing
from abaw.core.output_stream import OutputStream
from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction, stack_labels
from abaw.evaluate.report.answer_pictures import draw_answers
from abaw.evaluate.report.face_crops import FaceOf
from abaw.evaluate.report.palette import (
    ACTIVE_COLOUR,
    LABEL_COLOUR,
    MISSING_COLOUR,
    PREDICTED_COLOUR,
    class_colours,
)
from abaw.evaluate.scores.calibration import part_of
from abaw.evaluate.scores.metrics import confusion, decide

N_VIDEOS = 3
N_FACES = 12
FACE_SIZE = 112  # pixels
UNLABELLED: dict[str, Any] = {"facecolor": "white", "edgecolor": "#a8a8a8", "hatch": "////", "lw": 0}
NARROW_IN = 9  # narrower pictures have a denser legend


def save_picture(
    folder: Path,
    split: str,
    task: Task,
    predictions: Mapping[str, VideoPrediction],
    title: str,
    face_of: FaceOf | None = None,
) -> Path:
    """Draw the picture that suits a task: `traces-<split>.png` over time, or for images and whole videos
    `confusion-<split>.png` of classes, `answers-<split>.png` of others.

    Args:
        face_of: gives the (height, width, 3) uint8 crop of a video's row, or None; used in traces.

    Returns:
        The picture.
    """
    if task.level == "frame":
        path = folder / f"traces-{split}.png"
        save_traces(path, task, predictions, title, face_of)
    elif task.kind != "classes":
        path = folder / f"answers-{split}.png"
        _save(draw_answers(task, predictions, title), path)
    else:
        path = folder / f"confusion-{split}.png"
        save_confusion(path, task, predictions, title)
    return path


def save_confusion(path: Path, task: Task, predictions: Mapping[str, VideoPrediction], title: str) -> None:
    """Draw the confusion matrix of a task of classes, over all labels of a split, as PNG."""
    _save(draw_confusion(task, predictions, title), path)


def draw_confusion(task: Task, predictions: Mapping[str, VideoPrediction], title: str) -> Figure:
    """The picture of `save_confusion`."""
    outputs, labels, _ = stack_labels(predictions.values())
    counts = confusion(task, outputs, labels)
    n_classes, totals = len(counts), counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = 1.6 + 0.85 * n_classes
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for actual, predicted in np.ndindex(counts.shape):
        share, count = shares[actual, predicted], counts[actual, predicted]
        text = f"{share:.0%}\n{count:,}" if totals[actual] else ""
        weight = "bold" if actual == predicted else "normal"
        colour = "white" if share > 0.5 else LABEL_COLOUR
        axis.text(predicted, actual, text, ha="center", va="center", fontsize=10, color=colour, weight=weight)
    axis.set_xticks(range(n_classes), task.outputs)
    rows = [f"{name}\n{int(total):,} labels" for name, total in zip(task.outputs, totals[:, 0], strict=True)]
    axis.set_yticks(range(n_classes), rows)
    axis.set(xlabel="predicted", ylabel="label")
    axis.set_xticks(np.arange(1, n_classes) - 0.5, minor=True)
    axis.set_yticks(np.arange(1, n_classes) - 0.5, minor=True)
    axis.grid(which="minor", color="white", lw=2)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    figure.suptitle(textwrap.fill(title, int(13 * side)), fontsize=11)
    return figure


def save_traces(
    path: Path, task: Task, predictions: Mapping[str, VideoPrediction], title: str, face_of: FaceOf | None = None
) -> None:
    """Draw the longest videos of a split as PNG: labels and predictions over time, missing crops and labels marked.

    For a frame that is labelled twice the first label is drawn.

    Args:
        face_of: gives the (height, width, 3) uint8 crop of a video's row, or None; faces are drawn above the traces.
    """
    chosen = sorted(predictions, key=lambda video: -len(predictions[video].outputs))[:N_VIDEOS]
    _save(draw_traces(task, {video: predictions[video] for video in chosen}, title, face_of), path)


def draw_traces(
    task: Task,
    predictions: Mapping[str, VideoPrediction],
    title: str,
    face_of: FaceOf | None = None,
    width: float = 11.0,
) -> Figure:
    """Draw videos below each other, as in `save_traces`.

    Args:
        width: of the picture in inches.
    """
    panels = [(part, kind, outputs, columns) for part, outputs, columns in task.each() for kind in _panels(part)]
    n_faces = int(face_of is not None)
    heights = ([_FACES_HEIGHT] * n_faces + [_HEIGHTS[part.kind] for part, *_ in panels]) * len(predictions)
    figure = Figure(figsize=(width, 0.9 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for (name, video), rows in zip(predictions.items(), axes.reshape(len(predictions), -1), strict=True):
        if face_of is not None:
            _draw_faces(rows[0], name, len(video.outputs), face_of)
        for axis, (part, kind, outputs, columns) in zip(rows[n_faces:], panels, strict=True):
            _PAINTERS[part.kind](axis, kind, part, part_of(video, outputs, columns))
        for axis in rows[:-1]:
            axis.tick_params(labelbottom=False)
        rows[0].set_title(name, loc="left", fontsize=10)
        rows[-1].set_xlabel("time in s" if video.fps else "frame")
    figure.suptitle(title, fontsize=12)
    _draw_legend(figure, task)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with writing(path) as partial, OutputStream(partial) as stream, matplotlib.rc_context({"savefig.dpi": 110}):
        figure.savefig(stream, format="png")


def _panels(task: Task) -> tuple[str, ...]:
    return task.outputs if task.kind == "regression" else ("label", "predicted")


def _seconds(video: VideoPrediction) -> NDArray[np.float64]:
    return np.arange(len(video.outputs)) / (video.fps or 1.0)


def _end(video: VideoPrediction) -> float:
    """Time at which a video ends."""
    return len(video.outputs) / (video.fps or 1.0)


def _draw_faces(axis: Axes, video: str, n_rows: int, face_of: FaceOf) -> None:
    """Faces side by side, each with a mark below it at its own time; grey where that frame has no crop."""
    shown = (np.arange(N_FACES) + 0.5) * n_rows / N_FACES  # the middles of equal spans of time
    blank = np.full((FACE_SIZE, FACE_SIZE, 3), 221, dtype=np.uint8)  # as missing spans are shaded
    faces = [face_of(video, int(row)) for row in shown]
    strip = np.concatenate([blank if face is None else _resized(face) for face in faces], axis=1)
    axis.imshow(strip, aspect="auto", extent=(0, n_rows, 0, 1))
    axis.plot(shown, np.full(N_FACES, -0.06), ls="", marker="v", ms=3.5, color=LABEL_COLOUR, clip_on=False)
    axis.set(xlim=(0, n_rows), ylim=(0, 1))
    axis.set_axis_off()


def _resized(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A crop of any size, as large as the others in a strip."""
    if face.shape == (FACE_SIZE, FACE_SIZE, 3):
        return face
    return np.asarray(Image.fromarray(face).resize((FACE_SIZE, FACE_SIZE), Image.Resampling.BICUBIC))


def _gaps(present: NDArray[np.bool_], video: VideoPrediction) -> NDArray[np.float64]:
    """(gaps, 2) begin and end in time of the spans of rows that are not present."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], present, [True]]).astype(int)))
    return edges.reshape(-1, 2) / (video.fps or 1.0)


def _shade_missing(axis: Axes, video: VideoPrediction) -> None:
    _shade(axis, _gaps(video.present, video), color=MISSING_COLOUR, lw=0)


def _hatch(axis: Axes, spans: NDArray[np.float64]) -> None:
    """Mark spans as not annotated, behind what is drawn over them."""
    _shade(axis, spans, zorder=-1, **UNLABELLED)


def _shade(axis: Axes, spans: NDArray[np.float64], **look: Any) -> None:
    """Fill spans (begin and end in time) from bottom to top: together, since hundreds one by one take seconds."""
    if not len(spans):
        return
    corners = [[(begin, 0), (begin, 1), (end, 1), (end, 0)] for begin, end in spans]
    axis.add_collection(PolyCollection(corners, transform=axis.get_xaxis_transform(), **look), autolim=False)


def _paint_values(axis: Axes, kind: str, task: Task, video: VideoPrediction) -> None:
    column = task.outputs.index(kind)
    seconds, valid = _seconds(video), task.valid(video.labels)[:, column]
    _shade_missing(axis, video)
    _hatch(axis, _gaps(valid, video))
    axis.plot(seconds, np.where(valid, video.labels[:, column], np.nan), color=LABEL_COLOUR, lw=1.6)
    axis.plot(seconds, decide(task, video.outputs)[:, column], color=PREDICTED_COLOUR, lw=1.2)
    axis.set(ylim=(task.low - 0.05, task.high + 0.05), xlim=(0, _end(video)), ylabel=kind)


def _paint_classes(axis: Axes, kind: str, task: Task, video: VideoPrediction) -> None:
    classes = (video.labels if kind == "label" else decide(task, video.outputs))[:, 0].astype(float)
    shown = np.where(classes == task.invalid, np.nan, classes)
    colours = ListedColormap(class_colours(len(task.outputs)))
    extent = (0, _end(video), 0, 1)
    axis.imshow(shown[None], aspect="auto", extent=extent, cmap=colours, vmin=-0.5, vmax=len(task.outputs) - 0.5)
    _mark_gaps(axis, kind, video)
    axis.set(yticks=[], xlim=extent[:2])
    axis.set_ylabel(kind, rotation="horizontal", ha="right", va="center")


def _mark_gaps(axis: Axes, kind: str, video: VideoPrediction) -> None:
    """Mark what has no annotation, which is transparent in a picture of labels, or no crop in one of predictions."""
    if kind == "label":
        _hatch(axis, np.array([[0, _end(video)]]))
    else:
        _shade_missing(axis, video)


def _paint_units(axis: Axes, kind: str, task: Task, video: VideoPrediction) -> None:
    from scipy.special import expit  # takes a quarter of a second to import

    values = video.labels if kind == "label" else expit(video.outputs)
    shown = np.where(values == task.invalid, np.nan, values)
    extent = (0, _end(video), len(task.outputs), 0)
    axis.imshow(shown.T, aspect="auto", extent=extent, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    _mark_gaps(axis, kind, video)
    axis.set_yticks(np.arange(len(task.outputs)) + 0.5, task.outputs, fontsize=6)
    axis.set_ylabel(kind)


_PAINTERS = {"regression": _paint_values, "classes": _paint_classes, "binary": _paint_units}
_HEIGHTS = {"classes": 0.45, "binary": 1.5, "regression": 1.2}  # of a panel in inches
_FACES_HEIGHT = 0.95


def _draw_legend(figure: Figure, task: Task) -> None:
    """A line of entries for each plain task, below the panels; the first has the shades of missing crops and labels."""
    from matplotlib.patches import Patch

    lines = [_entries(part) for part, _, _ in task.each()]
    lines[0] += [Patch(color=MISSING_COLOUR, label="no crop"), Patch(label="not annotated", **UNLABELLED)]
    # matplotlib fills columns from top to bottom
    columns = zip_longest(*lines, fillvalue=Patch(alpha=0, label=" "))
    n_columns = max(map(len, lines))
    entries = [entry for column in columns for entry in column]
    narrow = {"fontsize": 7, "columnspacing": 0.9, "handlelength": 1.2, "handletextpad": 0.4}
    look = narrow if figure.get_figwidth() < NARROW_IN else {"fontsize": 8}
    figure.legend(handles=entries, loc="outside lower center", ncols=n_columns, frameon=False, **look)


def _entries(task: Task) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if task.kind == "regression":
        label = Line2D([], [], color=LABEL_COLOUR, label="label")
        return [label, Line2D([], [], color=PREDICTED_COLOUR, label="predicted")]
    if task.kind == "classes":
        named = zip(class_colours(len(task.outputs)), task.outputs, strict=True)
        return [Patch(color=colour, label=name) for colour, name in named]
    return [Patch(color=ACTIVE_COLOUR, label="active, or probability 1")]
