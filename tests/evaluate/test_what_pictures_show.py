"""What the pictures of a run show: lines, spans, cells and labels against values written by hand, and pixels at known places."""

import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve

from abaw.core.tasks import TASKS
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.report.content import Reported, report_on
from abaw.evaluate.report.figures import PRINT, draw_calibration, draw_learning, draw_outputs, save_figures
from abaw.evaluate.report.plots import draw_confusion, draw_traces
from abaw.evaluate.scores.metrics import Score

pytestmark = pytest.mark.filterwarnings("error")

VA, EXPR, AU, MTL, VGAF = (TASKS[name] for name in ("va", "expr", "au", "mtl", "vgaf"))
GREY = "#dddddd"  # of spans without a crop
# the colours of the classes, in their order
CLASS_COLOURS = ("#767676", "#d55e00", "#009e73", "#56b4e9", "#e8d838", "#0072b2", "#cc79a7", "#e69f00")


def video(outputs, labels, present=None, fps: float = 20.0) -> VideoPrediction:
    present = np.ones(len(outputs), bool) if present is None else np.array(present)
    return VideoPrediction(np.array(outputs, np.float32), np.array(labels, np.float32), present, fps)


class Drawn:
    """The pixels of a figure; they are looked up by the coordinates of its axes."""

    def __init__(self, figure: Figure) -> None:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self._pixels = np.asarray(canvas.buffer_rgba())[..., :3]

    def at(self, axis: Axes, x: float, y: float, reach: int = 0) -> np.ndarray:
        """(pixels, 3) in 0 to 1 around a point of an axis, up to `reach` pixels away."""
        column, row = axis.transData.transform((x, y)).round().astype(int)
        row = len(self._pixels) - 1 - row
        around = self._pixels[row - reach : row + reach + 1, column - reach : column + reach + 1]
        return around.reshape(-1, 3) / 255

    def has(self, axis: Axes, x: float, y: float, colour: str, reach: int = 2, tolerance: float = 0.02) -> bool:
        """A pixel near a point has a colour."""
        return bool((np.abs(self.at(axis, x, y, reach) - to_rgb(colour)).max(axis=1) < tolerance).any())


def legend_of(figure: Figure) -> dict[str, object]:
    """Handles of the legend by their names."""
    (legend,) = figure.legends
    return {text.get_text(): handle for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)}


def spans_of(axis: Axes, hatched: bool = False) -> list[tuple[float, float]]:
    """Where no crop is, or where nothing is annotated."""
    shades = [shade for shade in axis.collections if bool(shade.get_hatch()) == hatched]
    boxes = [path.get_extents() for shade in shades for path in shade.get_paths()]
    assert all((box.y0, box.y1) == (0, 1) for box in boxes)
    return [(round(box.x0, 6), round(box.x1, 6)) for box in boxes]


# confusion

# rows are labels: 3 of Positive right and 1 taken for Negative, Neutral never labelled, 1 of 8 Negative right
COUNTS = np.array([[3, 0, 1], [0, 0, 0], [5, 2, 1]])


@pytest.fixture
def confused() -> dict[str, VideoPrediction]:
    pairs = [pair for pair in np.ndindex(3, 3) for _ in range(COUNTS[pair])]
    videos = {f"v{i}": video([np.eye(3)[answer]], [[label]]) for i, (label, answer) in enumerate(pairs)}
    return {**videos, "unlabelled": video([np.eye(3)[1]], [[-1]])}


def test_cells_of_the_confusion_have_the_share_and_count_of_their_label_and_prediction(confused) -> None:
    axis = draw_confusion(VGAF, confused, "a title").axes[0]
    cells = {tuple(map(int, text.get_position())): text.get_text() for text in axis.texts}
    # by x, the prediction, and y, the label from top to bottom
    assert cells == {
        (0, 0): "75%\n3", (1, 0): "0%\n0", (2, 0): "25%\n1",
        (0, 1): "", (1, 1): "", (2, 1): "",
        (0, 2): "62%\n5", (1, 2): "25%\n2", (2, 2): "12%\n1",
    }  # fmt: skip
    assert axis.yaxis_inverted()
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "label")
    assert [label.get_text() for label in axis.get_xticklabels()] == ["Positive", "Neutral", "Negative"]
    rows = ["Positive\n4 labels", "Neutral\n0 labels", "Negative\n8 labels"]
    assert [label.get_text() for label in axis.get_yticklabels()] == rows
    assert axis.get_xticks().tolist() == axis.get_yticks().tolist() == [0, 1, 2]


def test_right_answers_are_bold_and_text_is_bright_on_dark_cells_alone(confused) -> None:
    axis = draw_confusion(VGAF, confused, "a title").axes[0]
    looks = {tuple(map(int, text.get_position())): (text.get_weight(), text.get_color()) for text in axis.texts}
    assert {place for place, (weight, _) in looks.items() if weight == "bold"} == {(0, 0), (1, 1), (2, 2)}
    assert {place for place, (_, colour) in looks.items() if colour == "white"} == {(0, 0), (0, 2)}


def test_cells_of_the_confusion_are_as_dark_as_their_share(confused) -> None:
    figure = draw_confusion(VGAF, confused, "a title")
    drawn, axis = Drawn(figure), figure.axes[0]
    # beside the text: the darkness of each cell, rows are labels
    dark = np.array([[1 - drawn.at(axis, x + 0.42, y + 0.42).mean() for x in range(3)] for y in range(3)])
    shares = COUNTS / np.array([[4], [1], [8]])
    order = np.argsort(shares.ravel(), kind="stable")
    assert (np.diff(dark.ravel()[order]) >= -1e-9).all()
    assert dark[0, 0] > 0.5 and dark[2, 0] > 0.4 and dark[0, 2] < 0.3 and dark[1].max() < 0.03


def test_a_confusion_has_its_title(confused) -> None:
    words = "a run with a long name on val: 0.512 (accuracy over 3 group emotions), more than fits into one line"
    title = draw_confusion(VGAF, confused, words).get_suptitle()
    assert title.replace("\n", " ") == words and "\n" in title


# traces of valence and arousal

SECONDS = np.arange(40) / 20  # of 40 frames


@pytest.fixture
def ramps() -> VideoPrediction:
    """Valence rises, arousal falls; predictions are constant, one of them beyond the range; two gaps."""
    labels = np.stack([np.linspace(-0.9, 0.9, 40), np.linspace(0.4, -0.4, 40)], axis=1)
    labels[5, 0] = labels[30:33, 1] = -5
    present = ~np.isin(np.arange(40), [*range(10, 20), 39])
    return video(np.tile([0.25, -3.0], (40, 1)), labels, present)


def test_lines_of_valence_and_arousal_are_their_labels_and_predictions(ramps) -> None:
    figure = draw_traces(VA, {"clip": ramps}, "a title")
    legend = legend_of(figure)
    assert list(legend) == ["label", "predicted", "no crop", "not annotated"]
    assert [axis.get_ylabel() for axis in figure.axes] == ["valence", "arousal"]
    for column, axis in enumerate(figure.axes):
        by_name = {
            name: line for name in ("label", "predicted") for line in axis.lines
            if same_color(line.get_color(), legend[name].get_color())
        }  # fmt: skip
        assert len(axis.lines) == len(by_name) == 2
        wanted = np.where(ramps.labels[:, column] == -5, np.nan, ramps.labels[:, column])
        np.testing.assert_allclose(by_name["label"].get_xdata(), SECONDS)
        np.testing.assert_allclose(by_name["label"].get_ydata(), wanted)
        np.testing.assert_allclose(by_name["predicted"].get_xdata(), SECONDS)
        np.testing.assert_allclose(by_name["predicted"].get_ydata(), [0.25, -1][column])


def test_axes_of_traces_have_the_time_and_the_name_of_the_video(ramps) -> None:
    valence, arousal = draw_traces(VA, {"clip": ramps}, "a title").axes
    assert (valence.get_title(loc="left"), arousal.get_title(loc="left")) == ("clip", "")
    assert (valence.get_xlabel(), arousal.get_xlabel()) == ("", "time in s")
    for axis in (valence, arousal):
        assert axis.get_xlim() == pytest.approx((0, 2))
        low, high = axis.get_ylim()
        assert -1.2 < low < -1 < 1 < high < 1.2
    assert draw_traces(VA, {"clip": ramps}, "a title").get_suptitle() == "a title"


def test_frames_without_a_crop_are_shaded_and_no_others(ramps) -> None:
    figure = draw_traces(VA, {"clip": ramps}, "a title")
    legend, drawn = legend_of(figure), Drawn(figure)
    assert same_color(legend["no crop"].get_facecolor(), GREY)
    for axis in figure.axes:
        assert spans_of(axis) == [(0.5, 1.0), (1.95, 2.0)]
        for second, is_grey in ((0.25, False), (0.53, True), (0.97, True), (1.1, False), (1.9, False), (1.98, True)):
            assert drawn.has(axis, second, 0.8, GREY, reach=0) == is_grey, second


def test_spans_without_a_label_are_hatched_as_in_the_legend(ramps) -> None:
    figure = draw_traces(VA, {"clip": ramps}, "a title")
    assert legend_of(figure)["not annotated"].get_hatch()
    valence, arousal = figure.axes
    assert spans_of(valence, hatched=True) == [(0.25, 0.3)] and spans_of(arousal, hatched=True) == [(1.5, 1.65)]


def test_lines_are_drawn_where_their_values_are(ramps) -> None:
    figure = draw_traces(VA, {"clip": ramps}, "a title")
    legend, drawn = legend_of(figure), Drawn(figure)
    valence, arousal = figure.axes
    label, predicted = legend["label"].get_color(), legend["predicted"].get_color()
    wanted = [
        (valence, 36 / 20, float(ramps.labels[36, 0]), label),
        (arousal, 3 / 20, float(ramps.labels[3, 1]), label),
        (valence, 1.2, 0.25, predicted),
        (arousal, 1.2, -1, predicted),
    ]
    for axis, second, value, colour in wanted:  # the edges of a thin line are blended
        assert drawn.has(axis, second, value, colour, tolerance=0.3), (axis.get_ylabel(), value)
        assert not drawn.has(axis, second, -value, colour, tolerance=0.3), (axis.get_ylabel(), -value)


def test_a_video_without_a_clock_is_drawn_by_frames(ramps) -> None:
    axis = draw_traces(VA, {"clip": replace(ramps, fps=0.0)}, "a title").axes[1]
    assert (axis.get_xlabel(), axis.get_xlim()) == ("frame", (0, 40))
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), np.arange(40))
    assert spans_of(axis) == [(10, 20), (39, 40)] and spans_of(axis, hatched=True) == [(30, 33)]


def test_videos_stand_below_each_other_with_their_own_values(ramps) -> None:
    other = video(np.tile([-0.5, 0.5], (10, 1)), np.zeros((10, 2)), fps=10.0)
    figure = draw_traces(VA, {"second": other, "first": ramps}, "a title")
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["second", "", "first", ""]
    assert [axis.get_xlim()[1] for axis in figure.axes] == pytest.approx([1, 1, 2, 2])
    constants = [axis.lines[1].get_ydata()[0] for axis in figure.axes]
    assert constants == pytest.approx([-0.5, 0.5, 0.25, -1])


def test_faces_above_the_traces_are_in_the_order_of_time(ramps) -> None:
    """A face is as bright as its row says; it stands where its row is on the axis."""

    def face_of(name: str, row: int) -> np.ndarray | None:
        assert name == "clip"
        return None if row < 10 else np.full((112, 112, 3), row, dtype=np.uint8)

    strip, valence, _ = draw_traces(VA, {"clip": ramps}, "a title", face_of).axes
    assert (strip.get_title(loc="left"), valence.get_title(loc="left")) == ("clip", "")
    (image,) = strip.images
    shown = np.asarray(image.get_array())[56, 56::112, 0].astype(float)
    places = (np.arange(len(shown)) + 0.5) * 40 / len(shown)  # rows below the middles of the faces
    assert image.get_extent()[:2] == [0, 40] and len(shown) >= 8
    assert (shown[places < 10] == 221).all()
    np.testing.assert_array_equal(shown[places > 10], np.floor(places[places > 10]))
    np.testing.assert_allclose(strip.lines[0].get_xdata(), places)  # a mark below each


# traces of classes and of action units


def test_classes_are_drawn_in_the_colours_of_the_legend() -> None:
    labels = np.repeat([3, -1, 7, 0], 10)[:, None]
    answers = np.repeat([4, 5, 1, 2], 10)
    found = video(np.eye(8)[answers], labels, ~np.isin(np.arange(40), range(25, 30)))
    figure = draw_traces(EXPR, {"clip": found}, "a title")
    legend, drawn = legend_of(figure), Drawn(figure)
    colours = {name: handle.get_facecolor() for name, handle in legend.items()}
    assert list(colours) == [*EXPR.outputs, "no crop", "not annotated"]
    assert all(same_color(colours[name], wanted) for name, wanted in zip(EXPR.outputs, CLASS_COLOURS, strict=True))
    labelled, predicted = figure.axes
    assert [axis.get_ylabel() for axis in figure.axes] == ["label", "predicted"]
    for axis, classes in ((labelled, labels[:, 0]), (predicted, answers)):
        assert axis.get_xlim() == pytest.approx((0, 2))
        for row in (2, 7, 12, 18, 22, 33, 38):
            if classes[row] < 0:  # the hatch behind the picture is seen
                assert drawn.has(axis, (row + 0.5) / 20, 0.5, "white")
            else:
                assert drawn.has(axis, (row + 0.5) / 20, 0.5, CLASS_COLOURS[classes[row]], reach=0), (axis, row)
    assert spans_of(labelled) == [] and spans_of(labelled, hatched=True) == [(0, 2)]
    assert spans_of(predicted) == [(1.25, 1.5)]
    assert drawn.has(predicted, 1.375, 0.5, GREY, reach=0)


@pytest.mark.parametrize("fps", [20.0, 0.0])
def test_units_are_drawn_beside_their_names(fps: float) -> None:
    labels = np.zeros((40, 12))
    labels[:20, 2] = labels[20:, 11] = 1  # AU4, then AU26
    labels[:, 5] = -1
    chances = np.full((40, 12), 0.02)
    chances[:10, 0] = 0.98  # AU1
    chances[:, 7] = 0.5  # AU15
    found = video(logit(chances), labels, fps=fps)
    figure = draw_traces(AU, {"clip": found}, "a title")
    drawn = Drawn(figure)
    assert [axis.get_ylabel() for axis in figure.axes] == ["label", "predicted"]
    for axis, values in zip(figure.axes, (labels, chances), strict=True):
        places = {label.get_text(): y for label, y in zip(axis.get_yticklabels(), axis.get_yticks(), strict=True)}
        assert list(places) == list(AU.outputs)
        heights = [axis.transData.transform((0, y))[1] for y in places.values()]
        assert (np.diff(heights) < 0).all()  # from top to bottom
        for unit, name in enumerate(AU.outputs):
            for row in (5, 15, 35):
                dark = 1 - drawn.at(axis, (row + 0.5) / (fps or 1), places[name]).mean()
                low, high = {1: (0.6, 0.8), 0: (0, 0.04), -1: (0, 0.4)}.get(values[row, unit], (0, 0.8))
                low, high = {0.98: (0.6, 0.8), 0.02: (0, 0.06), 0.5: (0.25, 0.5)}.get(values[row, unit], (low, high))
                assert low <= dark <= high, (axis.get_ylabel(), name, row)
    (active,) = (handle for name, handle in legend_of(figure).items() if name.startswith("active"))
    assert np.mean(to_rgb(active.get_facecolor())) < 0.4


def test_parts_of_mtl_stand_below_each_other_with_their_own_columns() -> None:
    outputs = np.zeros((20, 22))
    outputs[:, 0], outputs[:, 1], outputs[:, 2 + 6], outputs[:, 10 + 3] = 0.3, -0.7, 9, 50
    labels = np.zeros((20, 15))
    labels[:, 0], labels[:, 1], labels[:, 2], labels[:, 3 + 9] = -0.2, 0.6, 5, 1
    figure = draw_traces(MTL, {"clip": video(outputs, labels)}, "a title")
    names = ["valence", "arousal", "label", "predicted", "label", "predicted"]
    assert [axis.get_ylabel() for axis in figure.axes] == names
    lines = [[float(line.get_ydata()[0]) for line in axis.lines] for axis in figure.axes[:2]]
    assert lines == [pytest.approx([-0.2, 0.3]), pytest.approx([0.6, -0.7])]
    images = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[2:]]
    assert (images[0] == 5).all() and (images[1] == 6).all()
    assert np.flatnonzero(images[2][:, 0]).tolist() == [9] and np.flatnonzero(images[3][:, 0] > 0.9).tolist() == [3]
    shown = {"label", "predicted", *EXPR.outputs, "active, or probability 1", "no crop"}
    assert shown <= set(legend_of(figure))


# figures of a report


def reported(name: str, measures: dict[str, float], ends: dict[str, tuple[float, float]], **more) -> Reported:
    """A run with these measures and intervals; nothing else of it is drawn."""
    official = Score(0.0, measures, dict.fromkeys(measures, 10), {}, 10)
    empty: dict[str, VideoPrediction] = {}
    return Reported(name, empty, empty, official, official, 0.0, ends, {}, "", more.get("epochs", ()), {})


def test_bars_of_outputs_have_the_measures_and_intervals_of_their_runs() -> None:
    values = ({"valence": 0.5, "arousal": 0.25}, {"valence": 0.75, "arousal": 0.125})
    ends = (
        {"valence": (0.4, 0.55), "arousal": (0.05, 0.3)},
        {"valence": (0.7, 0.9), "arousal": (0.1, 0.2)},
    )
    figure = draw_outputs(VA, [reported(f"run-{i}", values[i], ends[i]) for i in range(2)])
    (axis,) = figure.axes
    legend = legend_of(figure)
    assert axis.get_ylabel() == "CCC" and list(legend) == ["run-0", "run-1"]
    ticks = {label.get_text(): x for label, x in zip(axis.get_xticklabels(), axis.get_xticks(), strict=True)}
    assert list(ticks) == ["valence", "arousal"]
    middles = []
    for i, bars in enumerate(axis.containers[1::2]):  # each follows its error bars
        assert bars.get_label() == f"run-{i}"
        segments = bars.errorbar[2][0].get_segments()
        for name, bar, segment in zip(ticks, bars.patches, segments, strict=True):
            assert bar.get_height() == values[i][name]
            assert segment[:, 1] == pytest.approx(ends[i][name])
            assert same_color(bar.get_facecolor(), legend[f"run-{i}"].get_facecolor())
            middles.append((name, bar.get_x() + bar.get_width() / 2))
    for name, x in ticks.items():  # the bars of an output stand around its name, the first run to the left
        left, right = (middle for one, middle in middles if one == name)
        assert left < right and (left + right) / 2 == pytest.approx(x)


def test_bars_of_units_are_of_f1() -> None:
    measures = {name: i / 12 for i, name in enumerate(AU.outputs)}
    (axis,) = draw_outputs(AU, [reported("run", measures, dict.fromkeys(measures, (np.nan, np.nan)))]).axes
    assert axis.get_ylabel() == "F1"
    assert [label.get_text() for label in axis.get_xticklabels()] == list(AU.outputs)
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([i / 12 for i in range(12)])
    assert [bar.get_x() + bar.get_width() / 2 for bar in axis.patches] == pytest.approx(range(12))


def test_learning_curves_have_the_epochs_of_their_runs() -> None:
    first = [{"epoch": n, "loss": 1 / n, "score": n / 10, "lr": 1e-3 * n} for n in (1, 2, 3)]
    second = [{"epoch": n, "loss": 2 / n, "score": n / 20} for n in (1, 2)]
    figure = draw_learning([reported("one", {}, {}, epochs=first), reported("two", {}, {}, epochs=second)])
    legend = legend_of(figure)
    titles = {"training loss": "loss", "validation score": "score", "learning rate": "lr"}
    assert [axis.get_ylabel() for axis in figure.axes] == list(titles)
    for axis, key in zip(figure.axes, titles.values(), strict=True):
        assert axis.get_xlabel() == "epoch"
        for line, name, epochs in zip(axis.lines, ("one", "two"), (first, second), strict=True):
            assert line.get_label() == name and line.get_color() == legend[name].get_color()
            assert line.get_linestyle() == legend[name].get_linestyle()
            assert list(line.get_xdata()) == [epoch["epoch"] for epoch in epochs]
            np.testing.assert_array_equal(line.get_ydata(), [epoch.get(key, np.nan) for epoch in epochs])


def test_calibration_is_of_the_outputs_as_the_head_gives_them() -> None:
    rng = np.random.default_rng(0)
    chances = rng.uniform(0, 1, (500, 12))
    labels = (rng.uniform(0, 1, (500, 12)) < chances**2).astype(float)
    raw = {"v": video(logit(chances), labels)}
    moved = {"v": video(logit(chances) + 2, labels)}
    other = {"v": video(logit(chances) / 3, labels)}
    figure = draw_calibration(AU, [report_on("tuned", AU, moved, raw), report_on("other", AU, other)])
    (axis,) = figure.axes
    legend = legend_of(figure)
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("predicted", "found", "au: all units")
    assert list(legend) == ["tuned", "other"]
    for line, name, found in zip(axis.lines[:2], legend, (raw, other), strict=True):
        assert line.get_label() == name and line.get_color() == legend[name].get_color()
        truth, predicted = calibration_curve(labels.ravel(), expit(found["v"].outputs.astype(float)).ravel(), n_bins=10)
        np.testing.assert_allclose(line.get_xdata(), predicted)
        np.testing.assert_allclose(line.get_ydata(), truth)
    assert axis.lines[2].get_xydata().tolist() == [[0, 0], [1, 1]]


def test_calibration_of_valence_and_of_arousal_have_a_panel_each() -> None:
    labels = np.random.default_rng(0).uniform(-0.8, 0.8, (1000, 2))
    found = report_on("run", VA, {"v": video(labels * [1, -1], labels)})
    valence, arousal = draw_calibration(VA, [found]).axes
    for axis, sign in ((valence, 1), (arousal, -1)):
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "label")
        assert axis.get_xlim() == axis.get_ylim() == (-1, 1)
        np.testing.assert_allclose(axis.lines[0].get_ydata(), sign * np.array(axis.lines[0].get_xdata()), atol=1e-6)
    assert [valence.get_title(), arousal.get_title()] == ["va: valence", "va: arousal"]


# figures as files


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The PNG beside each PDF is small, and fonts are put into the PDF by the quicker way."""
    monkeypatch.setitem(PRINT, "savefig.dpi", 20)
    monkeypatch.setitem(PRINT, "pdf.fonttype", 3)


def text_of_pdf(path: Path) -> str:
    """What is written in a PDF, a line for each piece of text."""
    lines = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.S):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        for block in re.findall(rb"\bBT\b(.*?)\bET\b", content, re.S):
            pieces = re.findall(rb"\(((?:\\.|[^\\)])*)\)", block, re.S)
            lines.append(b"".join(pieces).replace(b"\0", b"").decode("latin-1"))  # one byte a letter, or two
    return "\n".join(lines)


def test_traces_are_of_the_worst_and_of_the_best_videos_of_the_first_run(tmp_path: Path, coarse: None) -> None:
    labels = np.zeros((12, 2))
    wrong = {"a": 0.3, "b": 0.9, "c": 0.1, "d": 0.5, "e": 0.7}
    runs = [
        report_on("run A", VA, {name: video(labels + error, labels) for name, error in wrong.items()}),
        report_on("run B", VA, {name: video(labels + 1 - error, labels) for name, error in wrong.items()}),
    ]
    save_figures(tmp_path, VA, runs, "val")
    lines = {path.stem: text_of_pdf(path).splitlines() for path in tmp_path.glob("*.pdf")}
    assert set(lines) == {"outputs-val", "calibration-val", "traces-worst-val", "traces-best-val"}
    for name, videos in (("worst", ["b", "e", "d"]), ("best", ["c", "a", "d"])):
        shown = lines[f"traces-{name}-val"]
        assert f"run A: the {name} videos" in shown
        assert [line for line in shown if line in wrong] == videos


def test_each_run_has_its_own_confusion(tmp_path: Path, coarse: None) -> None:
    labels = [0, 0, 0, 1, 2]
    runs = [
        report_on(name, VGAF, {f"v{i}": video([np.eye(3)[a]], [[labels[i]]]) for i, a in enumerate(answers)})
        for name, answers in (("one", [0, 0, 1, 1, 2]), ("two", [2, 2, 2, 1, 2]))
    ]
    save_figures(tmp_path, VGAF, runs, "val")
    for name, cells in (("one", ["67%", "33%", "0%"]), ("two", ["0%", "0%", "100%"])):
        shown = text_of_pdf(tmp_path / f"confusion-vgaf-{name}-val.pdf").splitlines()
        assert f"{name} on val" in shown
        assert [line for line in shown if line.endswith("%")][:3] == cells
