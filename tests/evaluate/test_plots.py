"""Pictures: which kind a task gets, what is counted in it, and that everything in it can be seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from sklearn.metrics import confusion_matrix

from abaw.core.tasks import TASKS, Task
from abaw.evaluate.predictions import VideoPrediction, stack_labels
from abaw.evaluate.report.palette import ACTIVE_COLOUR, CLASS_COLOURS, LABEL_COLOUR, MISSING_COLOUR, PREDICTED_COLOUR
from abaw.evaluate.report.plots import draw_traces, save_confusion, save_picture
from abaw.evaluate.scores.metrics import confusion

pytestmark = pytest.mark.filterwarnings("error")


def invent(task: Task, n_rows: int, seed: int = 0) -> VideoPrediction:
    """Random outputs and labels, every tenth label invalid, a fifth of the rows in a gap."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(n_rows, len(task.outputs)))
    labels = np.empty((n_rows, len(task.columns)))
    for part, _, columns in task.each():
        shape = (n_rows, len(part.columns))
        if part.kind == "regression":
            labels[:, columns] = rng.uniform(-1, 1, shape)
        else:
            labels[:, columns] = rng.integers(0, int(part.high) + 1, shape)
        labels[::10, columns] = part.invalid
    present = np.ones(n_rows, dtype=bool)
    present[n_rows // 2 : n_rows // 2 + n_rows // 5] = False
    return VideoPrediction(outputs.astype(np.float32), labels.astype(np.float32), present, 25.0)


def pixels_of(path: Path, colour: str) -> int:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return int((pixels == np.rint(np.array(to_rgb(colour)) * 255)).all(axis=2).sum())


# of each kind of trace the colours that must cover more than their entry of the legend does
IN_TRACES = {"regression": (LABEL_COLOUR, PREDICTED_COLOUR), "classes": CLASS_COLOURS, "binary": (ACTIVE_COLOUR,)}


@pytest.mark.parametrize("name", ["va", "expr", "au", "mtl"])
def test_tasks_of_frames_get_traces_of_all_their_parts(tmp_path: Path, name: str) -> None:
    task = TASKS[name]
    title = "A title that is much longer than a small picture is wide"
    path = save_picture(tmp_path, "val", task, {f"v{i}": invent(task, 60, i) for i in range(2)}, title)
    assert [file.name for file in tmp_path.iterdir()] == [path.name] == ["traces-val.png"]
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    counts = {c: pixels_of(path, c) for part, _, _ in task.each() for c in IN_TRACES[part.kind]}
    assert {colour: n for colour, n in counts.items() if n < 800} == {}


@pytest.mark.parametrize("name", ["lsd", "vgaf"])
def test_tasks_of_images_and_videos_get_a_confusion_whose_right_answers_are_on_its_diagonal(
    tmp_path: Path, name: str
) -> None:
    task = TASKS[name]
    n_classes, one = len(task.outputs), np.ones(1, dtype=bool)
    exact = np.eye(n_classes, dtype=np.float32)
    videos = {
        f"v{i}": VideoPrediction(exact[[i]], np.array([[i]], dtype=np.float32), one, 0.0) for i in range(n_classes)
    }
    title = "A title that is much longer than a small picture is wide"
    path = save_picture(tmp_path, "val", task, videos, title)
    assert [file.name for file in tmp_path.iterdir()] == [path.name] == ["confusion-val.png"]
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    dark = np.argwhere((pixels == np.rint(np.array(to_rgb(ACTIVE_COLOUR)) * 255)).all(axis=2))
    assert len(dark) > 2000 * n_classes
    assert np.corrcoef(dark.T)[0, 1] > 0.8


@pytest.mark.parametrize("name", sorted(TASKS))
def test_one_row_and_no_valid_label_can_be_drawn(tmp_path: Path, name: str) -> None:
    task = TASKS[name]
    found = invent(task, 1)
    found.labels[:] = np.array(task.invalid_row)
    save_picture(tmp_path, "train", task, {"v": found}, "title", lambda video, row: None)
    assert len(list(tmp_path.glob("*-train.png"))) == 1


def test_huge_outputs_can_be_drawn(tmp_path: Path) -> None:
    found = invent(TASKS["mtl"], 30)
    found.outputs[:] = np.where(found.outputs > 0, 1e30, -1e30)
    save_picture(tmp_path, "val", TASKS["mtl"], {"v": found}, "title")


# traces


def test_traces_of_mtl_show_all_three_parts(tmp_path: Path) -> None:
    """Constant predictions: Fear everywhere, all units active; the legend alone has each other colour once."""
    task = TASKS["mtl"]
    found = invent(task, 100)
    found.labels[:] = np.array(task.invalid_row)
    found.outputs[:] = 0
    found.outputs[::2, :2] = 0.9
    found.outputs[:, 2 + 3] = 5
    found.outputs[:, 10:] = 50
    path = save_picture(tmp_path, "val", task, {"v": found}, "title")
    in_legend = pixels_of(path, CLASS_COLOURS[7])
    assert in_legend > 50
    assert pixels_of(path, CLASS_COLOURS[3]) > 20 * in_legend
    assert pixels_of(path, ACTIVE_COLOUR) > 100 * in_legend
    assert pixels_of(path, MISSING_COLOUR) > 20 * in_legend
    assert pixels_of(path, PREDICTED_COLOUR) > 1000  # two lines, up and down all the time


def test_faces_stand_above_the_traces(tmp_path: Path) -> None:
    face = np.zeros((112, 112, 3), dtype=np.uint8)
    face[:] = 1, 200, 3
    asked: list[tuple[str, int]] = []

    def face_of(video: str, row: int) -> np.ndarray | None:
        asked.append((video, row))
        return face if row < 50 else None

    path = save_picture(tmp_path, "val", TASKS["va"], {"v": invent(TASKS["va"], 100)}, "title", face_of)
    assert {video for video, _ in asked} == {"v"}
    assert all(0 <= row < 100 for _, row in asked)
    assert pixels_of(path, "#01c803") > 20_000


def test_faces_of_several_sizes_are_in_one_strip() -> None:
    levels = {0: 40, 1: 112, 2: 224}

    def face_of(video: str, row: int) -> np.ndarray | None:
        size = levels.get(row % 4)
        return None if size is None else np.full((size, size, 3), size, dtype=np.uint8)

    axis = draw_traces(TASKS["va"], {"v": invent(TASKS["va"], 100)}, "title", face_of).axes[0]
    strip = np.asarray(axis.get_images()[0].get_array())
    rows = ((np.arange(12) + 0.5) * 100 / 12).astype(int)
    assert strip.shape == (112, 12 * 112, 3)
    assert [int(value) for value in strip[56, 56::112, 0]] == [levels.get(row % 4, 221) for row in rows]


def test_the_three_longest_videos_are_drawn(tmp_path: Path) -> None:
    task = TASKS["expr"]
    drawn: set[str] = set()

    def face_of(video: str, row: int) -> None:
        drawn.add(video)

    save_picture(tmp_path, "val", task, {f"v{n}": invent(task, n) for n in (5, 50, 20, 40)}, "title", face_of)
    assert drawn == {"v50", "v40", "v20"}


# confusion


@pytest.mark.parametrize("name", ["lsd", "vgaf", "expr"])
def test_confusion_counts_are_scikit_learns(name: str) -> None:
    task = TASKS[name]
    videos = {f"v{i}": invent(task, n, i) for i, n in enumerate((1, 200, 37))}
    labels = np.concatenate([found.labels[:, 0] for found in videos.values()])
    answers = np.concatenate([found.outputs.argmax(axis=1) for found in videos.values()])
    kept = labels != -1
    wanted = confusion_matrix(labels[kept], answers[kept], labels=range(len(task.outputs)))
    outputs, labels, _ = stack_labels(videos.values())
    np.testing.assert_array_equal(confusion(task, outputs, labels), wanted)


def test_rows_of_the_confusion_are_shaded_by_their_share(tmp_path: Path) -> None:
    """All of one class right, all of the next taken for the third, the third never labelled: two dark cells of nine."""
    task = TASKS["vgaf"]
    answers, labels = np.array([0] * 300 + [2] * 3), np.array([0] * 300 + [1] * 3)
    found = VideoPrediction(
        np.eye(3, dtype=np.float32)[answers], labels[:, None].astype(np.float32), np.ones(303, dtype=bool), 0.0
    )
    save_confusion(tmp_path / "confusion.png", task, {"v": found}, "title")
    dark, cell = pixels_of(tmp_path / "confusion.png", ACTIVE_COLOUR), pixels_of(tmp_path / "confusion.png", "#f7fbff")
    assert dark > 10_000
    assert cell / dark == pytest.approx(7 / 2, rel=0.15)


def test_more_classes_than_colours_can_be_drawn(tmp_path: Path) -> None:
    names = tuple(f"c{i}" for i in range(11))
    task = replace(TASKS["expr"], outputs=names, high=10)
    found = invent(task, 110)
    found.outputs[:] = np.eye(11, dtype=np.float32)[np.arange(110) // 10]
    path = save_picture(tmp_path, "val", task, {"v": found}, "title")
    assert pixels_of(path, CLASS_COLOURS[1]) == pytest.approx(2 * pixels_of(path, CLASS_COLOURS[7]), rel=0.1)
