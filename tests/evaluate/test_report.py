"""The report's file: what it holds, that it is whole in itself, and that names and numbers in it are what they are."""

import base64
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score

from abaw import __version__
from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS, Task
from abaw.evaluate.predictions import VideoPrediction, save_predictions
from abaw.evaluate.report.cells import Cell, DataTable, mark_best, number_cells, row_name
from abaw.evaluate.report.charts import Axis, PointSeries, bar_chart, chart, density_chart, ticks
from abaw.evaluate.report.content import load_runs, report_on
from abaw.evaluate.report.distributions import label_shares
from abaw.evaluate.report.face_crops import open_faces
from abaw.evaluate.report.figures import draw_calibration, draw_learning, save_figures
from abaw.evaluate.report.html import write_report
from abaw.evaluate.report.page import TEMPLATES
from abaw.evaluate.report.palette import LABEL_COLOUR, RUN_COLOURS
from abaw.evaluate.report.sections import DARKEST, calibrations
from abaw.evaluate.report.traces import MAX_POINTS, N_BUCKETS, commonest, extremes
from abaw.evaluate.report.worst_spans import worst_spans
from abaw.evaluate.scores.calibration import calibration, missing_share, row_errors, scores_by_missing
from abaw.train.config import make_config
from abaw.train.runs import create_run

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x>',
    "</script>",
    "<!--",
    "a&amp;b",
    "${x} $title",
    "it's {{ x }} {% y %}",
)
MACROS = TEMPLATES.get_template("macros.html").module


def invent(task: Task, n_rows: int, seed: int = 0, fps: float = 25.0) -> VideoPrediction:
    """Random outputs and labels, every tenth label invalid, a fifth of the rows without a crop."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(n_rows, len(task.outputs)))
    labels = np.empty((n_rows, len(task.columns)))
    for part, _, columns in task.each():
        shape = (n_rows, len(part.columns))
        is_real = part.kind == "regression"
        labels[:, columns] = rng.uniform(-1, 1, shape) if is_real else rng.integers(0, int(part.high) + 1, shape)
        labels[: n_rows - 1 : 10, columns] = part.invalid  # of a whole video the only one is valid
    present = np.ones(n_rows, dtype=bool)
    present[n_rows // 2 : n_rows // 2 + n_rows // 5] = False
    return VideoPrediction(outputs.astype(np.float32), labels.astype(np.float32), present, fps)


def invent_videos(name: str, lengths: tuple[int, ...] = (120, 60, 200)) -> dict[str, VideoPrediction]:
    task = TASKS[name]
    lengths = (1,) * 12 if task.level == "video" else lengths
    return {f"v{i}": invent(task, n, i) for i, n in enumerate(lengths)}


class Parsed(HTMLParser):
    """Elements, text and attributes of a page; complains of tags that are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text_of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]


def write(path: Path, name: str, *runs: dict[str, VideoPrediction], **given: Any) -> str:
    task = TASKS[name]
    write_report(path, task, [report_on(f"run-{i}", task, videos) for i, videos in enumerate(runs)], "val", **given)
    return path.read_text(encoding="utf-8")


def content_of(text: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)
    return json.loads(found)


def unpack(content: dict[str, Any], video: dict[str, Any]) -> dict[tuple[str, int, str], np.ndarray]:
    """Traces by part, run and name; read by the file's own description of its columns."""
    data, offset, traces = zlib.decompress(base64.b64decode(video["data"])), 0, {}
    for column in content["columns"]:
        values = np.frombuffer(data, "<" + column["type"], video["points"], offset)
        traces[column["part"], column["run"], column["name"]] = values
        offset += values.nbytes
    assert offset == len(data)
    return traces


# the file


@pytest.mark.parametrize("name", ["au", "emi", "expr", "lsd", "mtl", "va", "vgaf"])
@pytest.mark.parametrize("n_runs", [1, 2])
def test_page_of_every_task_is_whole_and_needs_no_network(tmp_path: Path, name: str, n_runs: int) -> None:
    text = write(tmp_path / "deep" / "report.html", name, *[invent_videos(name)] * n_runs)
    page = Parsed(text)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["report.html"]
    for _, attributes in page.tags:
        assert not any(key in attributes for key in ("onclick", "onerror", "onload", "srcset", "action"))
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"https?:|@import|url\(|//cdn", text)
    titles = page.text_of("h2")
    assert ("Videos" in titles) == (TASKS[name].level == "frame")
    assert ("Wrong answers" in titles) == (name in ("lsd", "vgaf"))
    assert ("Largest errors" in titles) == (name == "emi")
    assert ("Confusion" in titles) == (name in ("expr", "mtl", "lsd", "vgaf"))
    assert bool(content_of(text)) == (TASKS[name].level == "frame")


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` as WCAG 2.2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def mixed(colour: str, ground: str, share: float) -> str:
    return to_hex([share * c + (1 - share) * g for c, g in zip(to_rgb(colour), to_rgb(ground), strict=True)])


def test_text_has_the_contrast_that_wcag_asks_for(tmp_path: Path) -> None:
    """4.5 to 1 for text, 3 to 1 for lines; on light and on dark ground."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.01
    )
    style = "".join(Parsed(write(tmp_path / "r.html", "va", *[invent_videos("va")] * 5)).text_of("style"))
    light = dict(re.findall(r"--(\w+): ?(#\w{6})", style[: style.index("@media")]))
    dark = dict(re.findall(r"--(\w+): ?(#\w{6})", style[style.index("@media") : style.index("* {")]))
    assert light.keys() == dark.keys() and len(light) == 10
    for colours, ground in ((light, 0), (dark, 1)):
        for name in ("text", "quiet", "accent"):
            assert contrast(colours[name], colours["page"]) >= 4.5, name
        for name in ("panel", "chosen"):
            assert contrast(colours["text"], colours[name]) >= 4.5, name
        darkest_cell = mixed(colours["tint"], colours["page"], DARKEST / 100)
        assert contrast(colours["text"], darkest_cell) >= 4.5
        for pair in RUN_COLOURS:
            assert contrast(pair[ground], colours["page"]) >= 3, pair


@pytest.mark.parametrize("name", ["va", "mtl", "lsd"])
def test_structure_is_what_screen_readers_and_checkers_need(tmp_path: Path, name: str) -> None:
    page = Parsed(write(tmp_path / "r.html", name, *[invent_videos(name)] * 2))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes.get("src") and "alt" in attributes for tag, attributes in page.tags if tag == "img")
    for tag in ("h1", "h2", "h3", "th", "caption", "summary", "dt", "dd"):
        texts = page.text_of(tag) + (page.text_of("button") if tag == "th" else [])
        assert len(texts) == sum(found == tag for found, _ in page.tags), tag
        assert all(text.strip() for text in texts), tag
    for tag, attributes in page.tags:
        assert tag != "label" or attributes["for"] in ids
        assert tag != "svg" or attributes.get("aria-label") or attributes.get("aria-hidden")
        if attributes.get("role") == "slider":
            assert {"aria-valuemin", "aria-valuemax", "aria-valuenow", "aria-label", "tabindex"} <= attributes.keys()


def test_head_says_where_the_report_comes_from(tmp_path: Path) -> None:
    page = Parsed(
        write(tmp_path / "r.html", "va", invent_videos("va"), about={"command": "abaw report <b>", "store": "s.zarr"})
    )
    made, command, store = page.text_of("dd")
    assert page.text_of("dt") == ["made", "command", "store"]
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d UTC by abaw {re.escape(__version__)}", made)
    assert (command, store) == ("abaw report <b>", "s.zarr")


def test_best_of_several_runs_is_marked_and_of_one_none() -> None:
    assert [cell.look for cell in mark_best(number_cells([0.2, 0.5, math.nan]))] == ["", "best", ""]
    assert [cell.look for cell in mark_best(number_cells([0.5]))] == [""]
    assert [cell.look for cell in mark_best(number_cells([math.nan, math.nan]))] == ["", ""]
    assert mark_best(number_cells([0.2, 0.5]))[1].attributes["class"] == "number best"


def test_shares_of_labels_and_predictions_are_of_valid_rows() -> None:
    expr, au = TASKS["expr"], TASKS["au"]
    labels, answers = np.array([[0], [1], [1], [-1]]), np.array([[1], [1], [7], [3]])
    assert label_shares(expr, labels, labels)[:3] == pytest.approx([1 / 3, 2 / 3, 0])
    assert label_shares(expr, labels, answers)[1::6] == pytest.approx([2 / 3, 1 / 3])
    units = np.tile([[1.0], [0], [-1], [1]], (1, 12))
    assert label_shares(au, units, units) == pytest.approx([2 / 3] * 12)
    assert label_shares(au, units, np.ones((4, 12))) == pytest.approx([1] * 12)
    assert label_shares(expr, np.full((2, 1), -1), np.zeros((2, 1))) == [0] * 8


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bar_chart("t", Axis("share"), ["a", "b"], {-1: [0.5, 0.0], 0: [0.25, 1.0]})
    widths = [[mark.position["width"] for mark in series.marks] for series in drawn.series]
    assert [series.look for series in drawn.series] == ["mark bar label", "mark bar run0"]
    assert widths[0][0] == pytest.approx(2 * widths[1][0], abs=0.2) and widths[0][1] == 0
    assert widths[1][1] == pytest.approx(4 * widths[1][0], abs=0.3)
    places = {text: x for x, text in drawn.x_ticks}
    assert widths[1][1] + drawn.frame[0] == pytest.approx(places["1"], abs=0.1)
    assert [mark.tip for mark in drawn.series[1].marks] == ["a: 25.0%", "b: 100.0%"]


def test_cells_of_a_histogram_are_where_their_values_are() -> None:
    counts = np.zeros((4, 4), dtype=np.int64)
    counts[3, 0], counts[0, 2] = 1, 4  # far right at the bottom; far left above the middle
    drawn = density_chart("t", Axis("x", -1, 1), Axis("y", -1, 1), counts)
    left, right, top, bottom = drawn.frame
    cells = {mark.position["fill-opacity"]: mark.position for mark in drawn.series[0].marks}
    assert cells.keys() == {0.5, 1.0}
    assert cells[0.5]["x"] + cells[0.5]["width"] == pytest.approx(right, abs=0.2)
    assert cells[0.5]["y"] + cells[0.5]["height"] == pytest.approx(bottom, abs=0.2)
    assert cells[1.0]["x"] == left and cells[1.0]["y"] + cells[1.0]["height"] == pytest.approx(
        (top + bottom) / 2, abs=0.2
    )


def test_script_is_the_only_one_that_the_page_may_run(tmp_path: Path) -> None:
    text = write(tmp_path / "r.html", "va", invent_videos("va"))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


@pytest.mark.parametrize("name", ["va", "expr", "lsd", "vgaf"])
def test_names_cannot_break_out(tmp_path: Path, name: str) -> None:
    task = TASKS[name]
    videos = {nasty: invent(task, 1 if task.level == "video" else 30, i) for i, nasty in enumerate(NASTY)}
    for found in videos.values():  # all wrong, so that the lists of wrong answers have them too
        found.outputs[:] = 0
        found.labels[:] = 1
    write_report(tmp_path / "r.html", task, [report_on(NASTY[1], task, videos, origin=NASTY[0])], "val")
    text = (tmp_path / "r.html").read_text()
    page = Parsed(text)
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "content"}, {},
    ]  # fmt: skip
    assert not any(attributes.get("src") == "x" for _, attributes in page.tags)
    shown = {text.split(", image")[0] for _, text in page.texts}
    assert set(NASTY) <= shown
    if task.level == "frame":
        assert {video["name"] for video in content_of(text)["videos"]} == set(NASTY)


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a folder\. Name the file to write, such as --out .*report\.html"):
        write(tmp_path, "va", invent_videos("va"))


def test_text_in_tables_and_charts_is_escaped() -> None:
    cells = [Cell(text, note=text, key=text, look=text, picture=None) for text in NASTY]
    rows = [[row_name(NASTY[0]), *cells], [row_name(NASTY[1], video=3), Cell(picture=NASTY[1])]]
    points = [PointSeries(0, [1.0], [2.0], [NASTY[0]], [3.0])]
    drawn = chart(NASTY[0], Axis(NASTY[1]), Axis(NASTY[2]), points)
    page = Parsed(MACROS.table(DataTable(NASTY[0], NASTY, rows, NASTY[1], NASTY[1])) + MACROS.chart(drawn))
    assert {tag for tag, _ in page.tags} == {
        *("div", "table", "caption", "thead", "tbody", "tr", "th", "td", "small", "img", "button"),
        *("svg", "text", "line", "path", "circle", "title"),
    }
    assert page.text_of("caption") == page.text_of("title") == [NASTY[0]]
    assert page.text_of("small") == list(NASTY)
    assert {attributes["src"] for tag, attributes in page.tags if tag == "img"} == {NASTY[1]}
    assert [attributes["data-key"] for tag, attributes in page.tags if tag == "td" and attributes] == list(NASTY)


def test_what_the_script_reads_cannot_end_it() -> None:
    text = TEMPLATES.from_string("{{ content|tojson }}").render(content={"</script>": "<!--&", "b": 1, "a": 0.5})
    assert text.endswith(',"b":1,"a":0.5}')  # in the order given, without spaces
    assert json.loads(text)["</script>"] == "<!--&"
    assert not set(text) & set("<>&")
    with pytest.raises(ValueError, match="not JSON compliant"):
        TEMPLATES.from_string("{{ content|tojson }}").render(content=[float("nan")])


def test_numbers_that_are_missing_are_dashes_that_sort_last() -> None:
    shown = [(cell.text, cell.attributes["data-key"]) for cell in number_cells([0.12345, float("nan")])]
    assert shown == [("0.123", 0.12345), ("–", "")]
    assert [cell.text for cell in number_cells([1234567, 0], 0)] == ["1,234,567", "0"]


def test_ticks_are_round() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(-1, 1) == [-1, -0.5, 0, 0.5, 1]
    assert ticks(0.3, 31.7) == [10, 20, 30]


# what is drawn over time


def test_extremes_of_every_bucket_survive() -> None:
    values = np.random.default_rng(0).normal(size=10_007)
    values[5000:5020] = np.nan
    kept = extremes(values)
    assert len(kept) == MAX_POINTS
    for bucket in range(N_BUCKETS):
        own = values[bucket * 10_007 // N_BUCKETS : (bucket + 1) * 10_007 // N_BUCKETS]
        pair = kept[2 * bucket : 2 * bucket + 2]
        if np.isnan(own).all():
            assert np.isnan(pair).all()
        else:
            wanted = [np.nanargmin(own), np.nanargmax(own)]
            np.testing.assert_array_equal(pair, own[sorted(wanted)])
    assert extremes(values[:MAX_POINTS]) is not None
    np.testing.assert_array_equal(extremes(values[:MAX_POINTS]), values[:MAX_POINTS])


def test_the_two_commonest_classes_of_every_bucket_survive() -> None:
    classes = np.tile(np.array([3, 3, 5, 3, 1, 1, 3, 0, 255, 255], dtype=np.uint8), N_BUCKETS)
    classes[-10:] = 255
    classes[-20:-10] = [255] * 9 + [7]
    kept = commonest(classes).reshape(-1, 2)
    assert kept[:-2].tolist() == [[3, 1]] * (N_BUCKETS - 2)
    assert kept[-2:].tolist() == [[7, 7], [255, 255]]


@pytest.mark.parametrize("n_rows", [300, 7001])
def test_packed_traces_are_the_predictions(tmp_path: Path, n_rows: int) -> None:
    task = TASKS["mtl"]
    first, second = invent(task, n_rows, 1), invent(task, n_rows, 2)
    second = VideoPrediction(second.outputs, first.labels, first.present, first.fps)
    content = content_of(write(tmp_path / "r.html", "mtl", {"v": first}, {"v": second}))
    (video,) = content["videos"]
    assert (video["rows"], video["fps"], video["points"]) == (n_rows, 25, min(n_rows, MAX_POINTS))
    traces = unpack(content, video)
    scale, none = content["scales"]["i2"]
    share, no_share = content["scales"]["u1"]
    for run, found in enumerate((first, second)):
        valence = traces["va", run, "valence"] / scale
        answers = found.outputs[:, 0].clip(-1, 1)
        assert (valence.min(), valence.max()) == pytest.approx((answers.min(), answers.max()), abs=1e-4)
        unit = traces["au", run, "AU26"] / share
        chances = expit(found.outputs[:, -1])
        assert (unit.min(), unit.max()) == pytest.approx((chances.min(), chances.max()), abs=0.003)
        top = softmax(found.outputs[:, 2:10], axis=1).max(axis=1)
        assert traces["expr", run, "top"].max() / share == pytest.approx(top.max(), abs=0.003)
        assert set(traces["expr", run, "class"].tolist()) == set(found.outputs[:, 2:10].argmax(axis=1).tolist())
    arousal = traces["va", -1, "arousal"]
    labels = first.labels[:, 1]
    assert arousal[arousal != none].min() / scale == pytest.approx(labels[labels != -5].min(), abs=1e-4)
    if n_rows <= MAX_POINTS:
        assert (arousal == none).tolist() == (labels == -5).tolist()
        assert (traces["expr", -1, "class"] == no_share).tolist() == (first.labels[:, 2] == -1).tolist()
        assert traces["", -1, "present"].tolist() == first.present.tolist()
    else:
        assert np.mean(traces["", -1, "present"] == 0) == pytest.approx(0.2, abs=0.003)
    assert set(traces["au", -1, "AU1"].tolist()) <= {0, 1, no_share}


def test_traces_of_a_wide_range_are_not_cut_off(tmp_path: Path) -> None:
    task = replace(TASKS["va"], name="wide", low=-50, high=200)
    video = invent(task, 40)
    video.outputs[:4, 0], video.labels[:4, 1] = [-50, 200, 13, -500], [-50, 200, 13, task.invalid]
    run = report_on("r", task, {"v": video})
    write_report(tmp_path / "r.html", task, [run], "val")
    axis = draw_calibration(task, [run]).axes[0]
    assert (axis.get_xlim(), axis.get_ylim()) == ((-50, 200), (-50, 200))
    assert {"-50", "200"} <= {text for _, text in calibrations(task, [run])[0].x_ticks}
    content = content_of((tmp_path / "r.html").read_text())
    traces, (scale, none) = unpack(content, content["videos"][0]), content["scales"]["i2"]
    np.testing.assert_allclose(traces["wide", 0, "valence"][:4] / scale, [-50, 200, 13, -50], atol=0.005)
    np.testing.assert_allclose(traces["wide", -1, "arousal"][:3] / scale, [-50, 200, 13], atol=0.005)
    assert traces["wide", -1, "arousal"][3] == none


def test_a_run_without_a_video_or_with_other_frames_has_no_trace_of_it(tmp_path: Path) -> None:
    task = TASKS["va"]
    videos = {"a": invent(task, 50, 1), "b": invent(task, 40, 2)}
    content = content_of(write(tmp_path / "r.html", "va", videos, {"a": invent(task, 51, 1), "c": invent(task, 30, 3)}))
    traces = {video["name"]: unpack(content, video) for video in content["videos"]}
    none = content["scales"]["i2"][1]
    empty = {
        name: [bool((found["va", run, "valence"] == none).all()) for run in (0, 1)] for name, found in traces.items()
    }
    assert empty == {"a": [False, True], "b": [False, True], "c": [True, False]}


# errors, calibration, missing frames


def test_errors_of_rows() -> None:
    outputs = np.array([[2.0, 0.5], [0, 0], [0, 0]])
    labels = np.array([[0.5, 0.0], [-5, 0.25], [-5, -5]])
    np.testing.assert_allclose(row_errors(TASKS["va"], outputs, labels), [0.5, 0.25, np.nan])
    classes = np.eye(8)[[3, 4, 5]]
    np.testing.assert_array_equal(row_errors(TASKS["expr"], classes, np.array([[3], [1], [-1]])), [0, 1, np.nan])
    units = np.tile([1.0, -1.0], 6)[None]
    actual = np.array([[1, 1, 0, 0, -1, -1, 1, 0, 1, 0, 1, 0]])
    np.testing.assert_allclose(row_errors(TASKS["au"], units, actual), [2 / 10])


def test_calibration_is_scikit_learns() -> None:
    found = invent(TASKS["au"], 4000)
    (curve,) = calibration(TASKS["au"], found.outputs, found.labels)
    valid = found.labels != -1
    truth, predicted = calibration_curve(found.labels[valid] == 1, expit(found.outputs.astype(float))[valid], n_bins=10)
    np.testing.assert_allclose(curve.actual, truth)
    np.testing.assert_allclose(curve.predicted, predicted)
    assert curve.counts.sum() == valid.sum()
    classes = invent(TASKS["expr"], 4000)
    (curve,) = calibration(TASKS["expr"], classes.outputs, classes.labels)
    valid = classes.labels[:, 0] != -1
    right = (classes.outputs.argmax(axis=1) == classes.labels[:, 0])[valid]
    top = softmax(classes.outputs.astype(float), axis=1).max(axis=1)[valid]
    np.testing.assert_allclose(curve.actual, calibration_curve(right, top, n_bins=10)[0])
    assert curve.error == pytest.approx(np.average(np.abs(curve.actual - curve.predicted), weights=curve.counts))


def test_perfect_and_shifted_predictions_of_valence() -> None:
    labels = np.random.default_rng(0).uniform(-0.8, 0.8, (5000, 2))
    exact, shifted = calibration(TASKS["va"], labels + np.array([0, 0.1]), labels)
    assert exact.error == pytest.approx(0, abs=1e-12)
    assert shifted.error == pytest.approx(0.1, abs=1e-6)


def test_scores_by_missing_share() -> None:
    task = TASKS["expr"]
    videos = {f"v{share}": invent(task, 100, share) for share in (0, 3, 5, 20, 21, 80)}
    for name, found in videos.items():
        found.present[:] = np.arange(100) >= int(name[1:])
        assert missing_share(found) == pytest.approx(int(name[1:]) / 100)
    ranges = scores_by_missing(task, videos)
    assert [(one.name, one.n_videos) for one in ranges] == [
        ("none", 1), ("up to 5%", 2), ("up to 20%", 1), ("up to 50%", 1), ("over 50%", 1),
    ]  # fmt: skip
    pooled = [videos["v3"], videos["v5"]]
    labels = np.concatenate([one.labels[:, 0] for one in pooled])
    answers = np.concatenate([one.outputs.argmax(axis=1) for one in pooled])
    kept = labels != -1
    assert ranges[1].score == pytest.approx(f1_score(labels[kept], answers[kept], labels=range(8), average="macro"))
    assert ranges[1].n_frames == kept.sum()


def test_worst_spans_are_the_worst_and_do_not_overlap() -> None:
    errors = np.full(1000, 0.1)
    errors[300:350], errors[700:750], errors[720:725] = 0.9, 0.5, np.nan
    errors[0:200] = np.nan
    spans = worst_spans(errors, 25.0)  # 50 rows each
    assert len(spans) == 4
    assert (spans[1 if spans[0].start < 300 else 0].start, 350) == (300, 350)
    assert max(spans, key=lambda span: span.error).error == pytest.approx(0.9)
    assert any((span.start, span.stop) == (700, 750) for span in spans)
    assert all(a.stop <= b.start for a, b in pairwise(spans))
    assert worst_spans(np.full(10, np.nan), 25.0) == []
    assert worst_spans(np.zeros(10), 0.0) == []


# numbers in the page


def cells(text: str, caption: str) -> dict[str, list[str]]:
    """Rows of the table with a caption, by their name: the texts of their cells."""
    (found,) = [part for part in re.findall(r"<table.*?</table>", text, re.S) if caption in part]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', found, re.S)
    return {re.sub("<.*?>", "", name): re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for name, row in rows}


def test_table_of_units_has_labels_f1_and_threshold(tmp_path: Path) -> None:
    task = TASKS["au"]
    videos = {f"v{i}": invent(task, 200, i) for i in range(4)}
    write_report(tmp_path / "r.html", task, [report_on("r", task, videos, thresholds={"AU4": 0.3})], "val")
    rows = cells((tmp_path / "r.html").read_text(), "F1 with 95 % interval")
    assert list(rows) == list(task.outputs)
    labels = np.concatenate([found.labels[:, 2] for found in videos.values()])
    answers = np.concatenate([found.outputs[:, 2] > 0 for found in videos.values()])
    kept = labels != -1
    n_labels, share, f1, threshold = rows["AU4"]
    assert n_labels == str(int((labels == 1).sum()))
    assert share == f"{(labels[kept] == 1).mean():.1%}"
    assert f1.startswith(f"{f1_score(labels[kept], answers[kept]):.3f}<small> [")
    assert threshold == "0.30"
    assert rows["AU1"][3] == "0.50"


def test_published_scores_are_shown_for_comparison(tmp_path: Path) -> None:
    text = write(tmp_path / "r.html", "va", invent_videos("va"))
    rows = cells(text, "Published scores")
    assert rows["Situ-RUCAIM3"] == [
        "ABAW 3, CVPR 2022",
        "validation",
        "0.682",
        "valence .656, arousal .709<small> arXiv 2203.13032</small>",
    ]
    assert rows["IMLAB"] == ["ABAW 10, CVPR 2026", "hidden test", "0.53", "<small> arXiv 2605.27451</small>"]
    assert "the scores of the best teams of 2026 fell by .04 to .20" in text


def test_runs_are_compared_side_by_side(tmp_path: Path) -> None:
    videos = invent_videos("expr")
    better = {
        name: VideoPrediction(np.eye(8, dtype=np.float32)[found.labels[:, 0].astype(int)], *vars_of(found))
        for name, found in videos.items()
    }
    text = write(tmp_path / "r.html", "expr", videos, better)
    rows = cells(text, "macro F1 over 8 expressions")
    assert rows["score"][1].startswith("1.000")
    gain = 1 - float(rows["score"][0][:5])
    assert float(re.match(r"[+-]\d\.\d+", rows["difference from A"][1])[0]) == pytest.approx(gain, abs=0.0011)
    assert rows["videos"] == ["3", "3"]
    other = {"other": videos["v0"]}
    assert (
        cells(write(tmp_path / "r.html", "expr", videos, other), "macro F1")["difference from A"][1] == "other videos"
    )


def vars_of(found: VideoPrediction) -> tuple[np.ndarray, np.ndarray, float]:
    return found.labels, found.present, found.fps


def test_wrong_answers_are_listed_the_surest_first(tmp_path: Path) -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]]))
    labels = [0, 2, 0, -1]
    videos = {
        f"clip-{i}": VideoPrediction(
            logits[[i]].astype(np.float32), np.array([[label]], dtype=np.float32), np.ones(1, dtype=bool), 15.0
        )
        for i, label in enumerate(labels)
    }
    rows = cells(write(tmp_path / "r.html", "vgaf", videos), "2 of 3 videos that the run has wrong")
    assert rows == {"clip-1": ["Negative", "Positive", "0.90"], "clip-2": ["Positive", "Neutral", "0.80"]}


# pictures


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))


def test_faces_of_the_worst_spans(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    task = TASKS["va"]
    data = make_data({"a": range(1, 101), "b": [1, 2]})
    videos = {name: invent(task, 100, i) for i, name in enumerate("abc")}
    content = content_of(write(tmp_path / "r.html", "va", videos, faces=open_faces(data)))
    spans = {video["name"]: video["spans"] for video in content["videos"]}
    assert spans["c"] and not any(span["faces"] for span in spans["c"])
    rows = [row for span in spans["a"] for row, _ in span["faces"]]
    assert len(rows) > 5
    assert all(videos["a"].present[row] for row in rows)
    picture = decode(spans["a"][0]["faces"][0][1])
    assert picture.format == "JPEG"
    assert picture.size == (72, 72)
    row = spans["a"][0]["faces"][0][0]
    with Image.open(data / "cropped_aligned" / "a" / f"{row + 1:05}.jpg") as crop:
        wanted = np.asarray(crop.resize((72, 72)), dtype=float)
    assert np.abs(np.asarray(picture, dtype=float) - wanted).mean() < 6


def test_pictures_stay_in_the_budget(
    tmp_path: Path, make_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abaw.evaluate.report.worst_spans.BUDGET_BYTES", 10_000)
    text = write(
        tmp_path / "r.html", "va", {"a": invent(TASKS["va"], 100)}, faces=open_faces(make_data({"a": range(1, 101)}))
    )
    assert 1000 < sum(map(len, re.findall('data:image/jpeg;base64,[^"]*', text))) < 15_000


def test_faces_of_a_foreign_folder_and_of_none(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    assert open_faces(None) is None
    assert open_faces(tmp_path / "nowhere") is None
    (tmp_path / "music").mkdir()
    assert open_faces(tmp_path / "music") is None
    faces = open_faces(make_data({"a": [2, 3]}))
    assert faces is not None
    assert faces.file("a", 0) is None and faces.file("b", 1) is None and faces.file("a", 7) is None
    assert faces.file("a", 1).name == "00002.jpg"
    assert faces.read("a", 1).shape == (112, 112, 3)
    faces.file("a", 2).write_bytes(b"no picture")
    assert faces.read("a", 2) is None


# the command


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs of valence and arousal and one of expressions, with predictions."""
    for name in ("va", "va", "expr"):
        config = make_config({"task": name, "features": ("hog",), "head": {"name": "linear"}})
        run = create_run(tmp_path / "runs", config, {"hog": {"fingerprint": "f", "shape": [4]}})
        (run.folder / "best.safetensors").write_bytes(b"weights")
        save_predictions(run.folder / "predictions-val.h5", invent_videos(name), TASKS[name], run.digest())
        lines = [
            json.dumps({"epoch": n, "loss": 1 / n, "score": n / 10, "lr": 1e-3, "seconds": 1.0}) for n in (1, 2, 3)
        ]
        (run.folder / "metrics.jsonl").write_text("\n".join([*lines, '{"epoch": 4, "lo']))
    return tmp_path / "runs"


def test_command_writes_the_page_and_the_figures(run_cli: Callable[..., Any], runs: Path, tmp_path: Path) -> None:
    out, plots = tmp_path / "out.html", tmp_path / "plots"
    result = run_cli(
        *("report", "va-hog-linear-1", "va-hog-linear-2", "--runs", runs, "--out", out, "--plots", plots),
        *("--data", tmp_path / "none"),
    )
    assert result.exit_code == 0, result.output
    assert "MB; open it in a browser" in result.stdout
    assert "10 figures" in result.stdout
    text = out.read_text()
    assert "va-hog-linear-1, va-hog-linear-2 on val" in Parsed(text).text_of("title")
    assert text.count("epoch 3: loss 0.3333") == 2
    assert "epoch 4" not in text
    names = {file.name for file in plots.iterdir()}
    stems = ("outputs", "calibration", "learning", "traces-worst", "traces-best")
    assert names == {f"{stem}-val.{kind}" for stem in stems for kind in ("png", "pdf")}


def test_newest_run_is_the_default(run_cli: Callable[..., Any], runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    assert run_cli("report", "--runs", runs, "--out", out, "--data", tmp_path / "none").exit_code == 0
    assert "<title>expr-hog-linear-1 on val</title>" in out.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("va-hog-linear-1", "expr-hog-linear-1"), r"A report compares runs of one task, found va-hog-linear-1 \(va\)"),
        (
            ("va-hog-linear-1", "--split", "train"),
            r"no predictions-train\.h5\. Create it with `abaw eval va-hog-linear-1",
        ),
        (("nothing",), "No run 'nothing'"),
    ],
)
def test_wrong_use(run_cli: Callable[..., Any], runs: Path, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    result = run_cli("report", *words, "--runs", runs, "--out", tmp_path / "out.html")
    assert result.exit_code == 2
    assert re.search(said, result.stderr)
    assert not (tmp_path / "out.html").exists()


def test_only_runs_with_a_curve_are_in_the_legend_of_curves(run_cli: Callable[..., Any], runs: Path) -> None:
    members = ("va-hog-linear-1", "va-hog-linear-2")
    assert run_cli("ensemble", *members, "--run", "both", "--runs", runs).exit_code == 0
    task, found = load_runs(runs, ("both", *members), "val")
    (legend,) = draw_learning(found).legends
    assert [text.get_text() for text in legend.get_texts()] == list(members)
    colours = [handle.get_color() for handle in legend.legend_handles]
    assert colours == [line.get_color() for line in draw_calibration(task, found).axes[0].lines[1:3]]
    (legend,) = draw_calibration(task, found).legends
    assert [text.get_text() for text in legend.get_texts()] == ["both", *members]


@pytest.mark.parametrize("name", ["mtl", "vgaf"])
@pytest.mark.filterwarnings("error")
def test_figures_of_every_kind_of_task(tmp_path: Path, name: str) -> None:
    task = TASKS[name]
    videos = invent_videos(name, (40,))
    runs = [report_on(f"run-{i}", task, videos) for i in range(1 if name == "mtl" else 2)]
    paths = save_figures(tmp_path, task, runs, "val")
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    assert any(path.name.startswith("confusion-") for path in paths)
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.width <= 7 * 300 or path.name.startswith("confusion")
                pixels = np.asarray(picture.convert("RGB"))[: picture.height * 17 // 20]  # above the legend
            # bars and lines of the last run, as all are equal; of a confusion its texts
            colour = LABEL_COLOUR if path.name.startswith("confusion") else RUN_COLOURS[len(runs) - 1][0]
            assert (pixels == np.rint(np.array(to_rgb(colour)) * 255)).all(axis=2).sum() > 300
        else:
            assert path.read_bytes().startswith(b"%PDF")
