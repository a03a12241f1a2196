"""Pictures of predictions: what was predicted and what was annotated, over time in seconds."""

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from abaw.evaluate.metrics import decide
from abaw.evaluate.predict import VideoPrediction
from abaw.tasks import Task

N_VIDEOS = 3
N_FACES = 12
LABEL_COLOUR, PREDICTED_COLOUR, MISSING_COLOUR = "#222222", "#0072b2", "#dddddd"
# Okabe and Ito (2008), told apart by colour-blind readers too
CLASS_COLOURS = ("#555555", "#d55e00", "#009e73", "#56b4e9", "#f0e442", "#0072b2", "#cc79a7", "#e69f00")

FaceOf = Callable[[str, int], NDArray[np.uint8] | None]


def save_traces(
    path: Path, task: Task, predictions: Mapping[str, VideoPrediction], title: str, face_of: FaceOf | None = None
) -> None:
    """Draw the longest videos of a split as PNG: labels and predictions over time, missing spans shaded.

    Args:
        face_of: gives the (height, width, 3) uint8 crop of a video's row, or None; faces are drawn above the traces.
    """
    chosen = sorted(predictions, key=lambda video: -len(predictions[video].outputs))[:N_VIDEOS]
    kinds = ["faces"] * (face_of is not None) + list(_panels(task))
    heights = [_height("faces" if kind == "faces" else task.kind) for kind in kinds] * len(chosen)
    figure = Figure(figsize=(11, 0.9 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for number, video in enumerate(chosen):
        found = predictions[video]
        panels = axes[number * len(kinds) : (number + 1) * len(kinds)]
        for axis, kind in zip(panels, kinds, strict=True):
            if kind == "faces" and face_of is not None:
                _draw_faces(axis, video, len(found.outputs), face_of)
            else:
                _PAINTERS[task.kind](axis, kind, task, found)
        for axis in panels[:-1]:
            axis.tick_params(labelbottom=False)
        panels[0].set_title(video, loc="left", fontsize=10)
        panels[-1].set_xlabel("time in s" if found.fps else "frame")
    figure.suptitle(title, fontsize=12)
    _legend(figure, task)
    with matplotlib.rc_context({"savefig.dpi": 110}):
        figure.savefig(path, format="png")


def _panels(task: Task) -> tuple[str, ...]:
    return task.outputs if task.kind == "regression" else ("label", "predicted")


def _height(kind: str) -> float:
    """Height of a panel in inches."""
    return {"faces": 0.95, "classes": 0.45, "binary": 1.5, "regression": 1.2}[kind]


def _seconds(found: VideoPrediction) -> NDArray[np.float64]:
    return np.arange(len(found.outputs)) / (found.fps or 1.0)


def _end(found: VideoPrediction) -> float:
    """Time at which a video ends."""
    return len(found.outputs) / (found.fps or 1.0)


def _draw_faces(axis: Axes, video: str, n_rows: int, face_of: FaceOf) -> None:
    places = np.linspace(0, n_rows - 1, N_FACES + 2)[1:-1].astype(int)
    blank = np.full((112, 112, 3), 221, dtype=np.uint8)  # as missing spans are shaded
    faces = [face if (face := face_of(video, int(row))) is not None else blank for row in places]
    shape = faces[0].shape
    strip = np.concatenate([face if face.shape == shape else blank for face in faces], axis=1)
    axis.imshow(strip, aspect="auto", extent=(0, n_rows, 0, 1))
    axis.set_axis_off()


def _shade_missing(axis: Axes, found: VideoPrediction) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate([[True], found.present, [True]]).astype(int)))
    for start, end in edges.reshape(-1, 2) / (found.fps or 1.0):
        axis.axvspan(start, end, color=MISSING_COLOUR, lw=0)


def _paint_values(axis: Axes, kind: str, task: Task, found: VideoPrediction) -> None:
    column = task.outputs.index(kind)
    seconds, labels = _seconds(found), found.labels[:, column]
    _shade_missing(axis, found)
    axis.plot(seconds, np.where(task.valid(labels), labels, np.nan), color=LABEL_COLOUR, lw=1.6)
    axis.plot(seconds, decide(task, found.outputs)[:, column], color=PREDICTED_COLOUR, lw=1.2)
    axis.set(ylim=(task.low - 0.05, task.high + 0.05), xlim=(0, _end(found)), ylabel=kind)


def _paint_classes(axis: Axes, kind: str, task: Task, found: VideoPrediction) -> None:
    classes = (found.labels if kind == "label" else decide(task, found.outputs))[:, 0].astype(float)
    shown = np.where(classes == task.invalid, np.nan, classes)
    colours = ListedColormap(CLASS_COLOURS[: len(task.outputs)])
    extent = (0, _end(found), 0, 1)
    axis.imshow(shown[None], aspect="auto", extent=extent, cmap=colours, vmin=-0.5, vmax=len(task.outputs) - 0.5)
    if kind == "predicted":
        _shade_missing(axis, found)
    axis.set(yticks=[], xlim=extent[:2])
    axis.set_ylabel(kind, rotation="horizontal", ha="right", va="center")


def _paint_units(axis: Axes, kind: str, task: Task, found: VideoPrediction) -> None:
    values = found.labels if kind == "label" else 1 / (1 + np.exp(-found.outputs))
    shown = np.where(values == task.invalid, np.nan, values)
    extent = (0, _end(found), len(task.outputs), 0)
    axis.imshow(shown.T, aspect="auto", extent=extent, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axis.set_yticks(np.arange(len(task.outputs)) + 0.5, task.outputs, fontsize=6)
    axis.set_ylabel(kind)


_PAINTERS = {"regression": _paint_values, "classes": _paint_classes, "binary": _paint_units}


def _legend(figure: Figure, task: Task) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    missing = Patch(color=MISSING_COLOUR, label="no crop")
    if task.kind == "regression":
        label = Line2D([], [], color=LABEL_COLOUR, label="label")
        entries = [label, Line2D([], [], color=PREDICTED_COLOUR, label="predicted"), missing]
    elif task.kind == "classes":
        named = zip(CLASS_COLOURS, task.outputs, strict=False)
        entries = [*(Patch(color=colour, label=name) for colour, name in named), missing]
    else:
        entries = [Patch(color="#08306b", label="active, or probability 1")]
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), fontsize=8, frameon=False)
