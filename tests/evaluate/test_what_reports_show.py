"""What a report and the tables of the terminal show: each number under its heading, each point where its value is."""

import base64
import csv
import io
import json
import math
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, logit, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score

from abaw import pipeline
from abaw.commands.tables import (
    show_comparison,
    show_doctor,
    show_evaluation,
    show_store,
    show_summary,
    show_tuning,
    write_doctor_csv,
)
from abaw.core.progress import Summary
from abaw.core.tasks import TASKS, Task
from abaw.datasets.doctor import VideoReport
from abaw.evaluate.compare import Compared, Comparison
from abaw.evaluate.evaluation import Evaluation
from abaw.evaluate.postprocessing.postprocess import Postprocess
from abaw.evaluate.postprocessing.smoothing import Smoothing
from abaw.evaluate.postprocessing.tuning import POSTPROCESS, Tuning
from abaw.evaluate.predictions import VideoPrediction, save_predictions
from abaw.evaluate.report.charts import Axis, PointSeries, chart, sizes_of
from abaw.evaluate.report.content import Reported, load_runs, report_on
from abaw.evaluate.report.face_crops import open_faces
from abaw.evaluate.report.html import write_report
from abaw.evaluate.report.page import TEMPLATES
from abaw.evaluate.results import Results
from abaw.evaluate.scores.bootstrap import Difference, difference, interval
from abaw.evaluate.scores.metrics import Score
from abaw.tests.support.stores import new_store, put_feature
from abaw.train.config import make_config
from abaw.train.runs import create_run

MACROS = TEMPLATES.get_template("macros.html").module
VA, EXPR, AU, MTL, LSD, VGAF = (TASKS[name] for name in ("va", "expr", "au", "mtl", "lsd", "vgaf"))


def video(outputs, labels, present=None, fps: float = 20.0) -> VideoPrediction:
    present = np.ones(len(outputs), bool) if present is None else np.array(present)
    return VideoPrediction(np.array(outputs, np.float32), np.array(labels, np.float32), present, fps)


def noise(task: Task, n_rows: int, seed: int) -> VideoPrediction:
    """Random outputs, and random valid labels that are the same for every seed."""
    truth = np.random.default_rng(n_rows)
    labels = [
        truth.uniform(-1, 1, (n_rows, 2)) if part.kind == "regression"
        else truth.integers(0, int(part.high) + 1, (n_rows, len(part.columns)))
        for part, _, _ in task.each()
    ]  # fmt: skip
    outputs = np.random.default_rng(seed).normal(size=(n_rows, len(task.outputs)))
    return video(outputs, np.concatenate(labels, axis=1))


class Page:
    """A report that was written, read again: its tables, charts, and what its script draws."""

    def __init__(self, path: Path, task: Task, runs: list[Reported], **given: Any) -> None:
        write_report(path, task, runs, "val", **given)
        self.text = path.read_text(encoding="utf-8")

    def table(self, caption: str) -> tuple[list[str], dict[str, list[str]]]:
        """Headings and rows by name of the table whose caption has these words."""
        (found,) = [part for part in re.findall(r"<table.*?</table>", self.text, re.S) if caption in part]
        tree = ElementTree.fromstring(re.sub(r"<img([^>]*)>", r"<img\1/>", found))
        head = ["".join(cell.itertext()) for cell in tree.find("thead/tr")]
        rows = [["".join(cell.itertext()) for cell in row] for row in tree.find("tbody")]
        assert all(len(row) == len(head) for row in rows)
        return head, {row[0]: row[1:] for row in rows}

    def cells(self, caption: str) -> dict[str, dict[str, str]]:
        """The same by name of the row and heading."""
        head, rows = self.table(caption)
        assert len(set(head)) == len(head)
        return {name: dict(zip(head[1:], row, strict=True)) for name, row in rows.items()}

    def chart(self, title: str) -> "Chart":
        """The chart whose title begins so."""
        drawn = re.findall(r'<svg viewBox="0 0 380.*?</svg>', self.text, re.S)
        (found,) = [Chart(svg) for svg in drawn if f'class="chart-title">{title}' in svg]
        return found

    @property
    def content(self) -> dict[str, Any]:
        (found,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', self.text, re.S)
        return json.loads(found)

    def traces(self, number: int = 0) -> dict[tuple[str, int, str], np.ndarray]:
        """Packed traces of a video by part, run and name."""
        content = self.content
        packed = content["videos"][number]
        data, offset, traces = zlib.decompress(base64.b64decode(packed["data"])), 0, {}
        for column in content["columns"]:
            values = np.frombuffer(data, "<" + column["type"], packed["points"], offset)
            traces[column["part"], column["run"], column["name"]] = values
            offset += values.nbytes
        return traces


class Chart:
    """A chart read by its own axes: values of points are measured against the labels of the grid."""

    def __init__(self, svg: str) -> None:
        self._tree = ElementTree.fromstring(svg)
        texts = self._tree.findall("text")
        (self.title,) = (one.text for one in texts if one.get("class") == "chart-title")
        (self.y_title,) = (one.text for one in texts if "rotate" in one.get("transform", ""))
        middle = [one for one in texts if one.get("text-anchor") == "middle" and not one.get("transform")]
        lowest = max(middle, key=lambda one: float(one.get("y")))
        self.x_title = lowest.text
        grid = [one for one in self._tree.findall("line") if one.get("class") == "grid"]
        columns = sorted({float(one.get("x1")) for one in grid if one.get("x1") == one.get("x2")})
        rows = sorted({float(one.get("y1")) for one in grid if one.get("y1") == one.get("y2")})
        x_labels = [(float(one.get("x")), float(one.text)) for one in middle if one is not lowest]
        y_labels = [(float(one.get("y")), float(one.text)) for one in texts if one.get("text-anchor") == "end"]
        self._x = self._scale([(min(columns, key=lambda at: abs(at - x)), value) for x, value in x_labels])
        self._y = self._scale([(min(rows, key=lambda at: abs(at - y)), value) for y, value in y_labels])
        self.is_upwards = self._y[0] < 0 < self._x[0]

    @staticmethod
    def _scale(pairs: list[tuple[float, float]]) -> np.ndarray:
        """Slope and start of values by pixels."""
        pixels, values = np.array(pairs).T
        fit = np.polyfit(pixels, values, 1)
        np.testing.assert_allclose(np.polyval(fit, pixels), values, atol=0.01 * np.ptp(values))
        return fit

    def value(self, x: object, y: object) -> tuple[float, float]:
        return float(np.polyval(self._x, float(x))), float(np.polyval(self._y, float(y)))

    def line(self, run: int) -> np.ndarray:
        """(points, 2) values of a run's line."""
        (path,) = [one for one in self._tree.findall("path") if one.get("class") == f"line run{run}"]
        return np.array([self.value(*point.split()) for point in path.get("d")[1:].split(" L")])

    def marks(self, run: int) -> list[tuple[float, float, float, str]]:
        """Values, size and tip of a run's points."""
        marks = []
        for one in self._tree:
            if one.get("class") == f"mark run{run}":
                tip = one.findtext("title") or ""
                if one.tag == "circle":
                    marks.append((*self.value(one.get("cx"), one.get("cy")), float(one.get("r")), tip))
                else:
                    side = float(one.get("width"))
                    assert one.get("width") == one.get("height")
                    middle = (float(one.get("x")) + side / 2, float(one.get("y")) + side / 2)
                    marks.append((*self.value(*middle), side / 2, tip))
        return marks

    @property
    def diagonal(self) -> list[float]:
        """Values of both ends of the diagonal."""
        (line,) = [one for one in self._tree.findall("line") if one.get("class") == "diagonal"]
        ends = (self.value(line.get(f"x{end}"), line.get(f"y{end}")) for end in (1, 2))
        return [value for point in ends for value in point]


# charts


def test_points_and_lines_of_a_chart_are_where_their_values_are() -> None:
    """A point whose value is missing is left out with its tip and its size."""
    x, y = [1.0, 2.0, 3.0, 4.0], [0.2, math.nan, 0.9, 0.4]
    series = [
        PointSeries(0, x, y, ["a", "b", "c", "d"], [2.0, 3.0, 4.0, 5.0]),
        PointSeries(1, x, [0.0, 0.1, 0.2, 0.3], ["e", "f", "g", "h"], [3.0] * 4),
        PointSeries(2, x, [0.5] * 4),
    ]
    found = Chart(MACROS.chart(chart("Heights", Axis("place"), Axis("height", 0, 1), series, diagonal=True)))
    assert (found.title, found.x_title, found.y_title) == ("Heights", "place", "height")
    assert found.is_upwards
    wanted = [(1, 0.2, 2, "a"), (3, 0.9, 4, "c"), (4, 0.4, 5, "d")]
    for mark, one in zip(found.marks(0), wanted, strict=True):
        assert mark[:3] == pytest.approx(one[:3], abs=0.01) and mark[3] == one[3]
    for mark, one in zip(found.marks(1), [(1, 0, "e"), (2, 0.1, "f"), (3, 0.2, "g"), (4, 0.3, "h")], strict=True):
        assert mark[:2] == pytest.approx(one[:2], abs=0.01) and mark[2:] == (3, one[2])
    np.testing.assert_allclose(found.line(0), [(1, 0.2), (3, 0.9), (4, 0.4)], atol=0.01)
    np.testing.assert_allclose(found.line(2), [(n, 0.5) for n in x], atol=0.01)
    assert found.marks(2) == []
    assert found.diagonal[0] == pytest.approx(found.diagonal[1], abs=0.02)
    assert found.diagonal[2] == pytest.approx(found.diagonal[3], abs=0.02)


def test_areas_of_points_grow_with_their_counts() -> None:
    small, large, nothing = (size - 2 for size in sizes_of([100, 900, 0]))
    assert (large / small) ** 2 == pytest.approx(9, rel=0.1) and nothing == 0


# tables of a report


def reported(name: str, task: Task, predictions: dict[str, VideoPrediction], **other: Any) -> Reported:
    """A run whose numbers all differ and have nothing to do with its predictions."""
    names = [*task.outputs, *(part.name for part in task.parts), "score"]
    start = other.pop("start")
    values = {name: start + 0.011 * i for i, name in enumerate(names)}
    ends = {name: (value - 0.1, value + 0.2) for name, value in values.items()}
    parts = {name: values[name] for name in task.outputs}
    support = {name: 100 + i for i, name in enumerate(task.outputs)}
    by_task = {part.name: values[part.name] for part in task.parts}
    official = Score(values["score"], parts, support, by_task, 1000)
    crops = Score(values["score"] + 0.3, dict.fromkeys(parts, 9.0), dict.fromkeys(parts, 7), by_task, 700)
    given = {"thresholds": {}, "origin": "", "epochs": (), "settings": {}, "raw_score": start - 0.5, **other}
    return Reported(name, predictions, predictions, official, crops, intervals=ends, **given)


@pytest.fixture
def two_of_au(tmp_path: Path) -> Page:
    videos = {f"v{i}": noise(AU, 10 + i, 1) for i in range(4)}
    runs = [
        reported("one", AU, videos, start=0.1, thresholds={"AU4": 0.3}, origin="by hand"),
        reported("two", AU, videos, start=0.4, thresholds={"AU4": 0.7, "AU1": 0.2}, origin="by machine"),
    ]
    return Page(tmp_path / "r.html", AU, runs)


def test_every_run_has_its_own_columns_of_outputs(two_of_au: Page) -> None:
    rows = two_of_au.cells("F1 with 95 % interval")
    assert list(rows) == list(AU.outputs)
    assert list(rows["AU4"]) == ["labels", "share", "F1 A", "threshold A", "F1 B", "threshold B"]
    for name, (a, b) in {"AU1": ("0.50", "0.20"), "AU2": ("0.50", "0.50"), "AU4": ("0.30", "0.70")}.items():
        assert (rows[name]["threshold A"], rows[name]["threshold B"]) == (a, b), name
    assert rows["AU4"]["labels"] == "102"
    assert rows["AU4"]["F1 A"] == "0.122 [0.022, 0.322]"
    assert rows["AU4"]["F1 B"] == "0.422 [0.322, 0.622]"


def test_scores_of_every_kind_are_in_their_rows(two_of_au: Page) -> None:
    rows = two_of_au.cells("mean F1 over 12 action units, over all labelled rows")
    assert rows["score"] == {"A": "0.232 [0.132, 0.432]", "B": "0.532 [0.432, 0.732]"}
    assert rows["labelled rows with a crop only"] == {"A": "0.532", "B": "0.832"}
    assert rows["score before post-processing"] == {"A": "-0.400", "B": "-0.100"}
    assert rows["labelled rows"] == {"A": "1,000", "B": "1,000"}
    assert rows["videos"] == {"A": "4", "B": "4"}
    assert "difference from A" in rows
    notes = re.findall(r'<p class="note">([AB] post-processed: .*?)</p>', two_of_au.text)
    assert notes == ["A post-processed: by hand", "B post-processed: by machine"]


def test_difference_is_that_of_the_second_run_less_the_first_with_its_p(tmp_path: Path) -> None:
    """The outputs of the second are the labels, nearly."""
    first = {f"v{i}": noise(VA, 30 + i, i) for i in range(6)}
    second = {name: video(one.labels * 0.9, one.labels) for name, one in first.items()}
    runs = [report_on("one", VA, first), report_on("two", VA, second)]
    row = Page(tmp_path / "r.html", VA, runs).cells("mean of CCC")["difference from A"]
    found = difference(VA, first, second)["score"]
    assert found.estimate > 0.5
    shown = f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}], p = {found.p_value:.2g}"
    assert row == {"A": "–", "B": shown}


def test_scores_of_the_parts_of_mtl_have_their_own_intervals(tmp_path: Path) -> None:
    page = Page(tmp_path / "r.html", MTL, [reported("one", MTL, {"v": noise(MTL, 10, 1)}, start=0.1)])
    (row,) = (row for name, row in page.cells("sum of the measures").items() if name.startswith("expr: "))
    assert row == {"this run": "0.353 [0.253, 0.553]"}  # the 24th of all names
    assert page.cells("va: CCC")["arousal"] == {"labels": "101", "CCC": "0.111 [0.011, 0.311]"}


def test_header_and_legends_name_the_runs_by_their_letters(two_of_au: Page) -> None:
    items = re.findall(r'<li><svg class="sample".*?<line [^>]*class="line (\w+)".*?</svg>(.*?)</li>', two_of_au.text)
    assert [(look, re.sub("<.*?>", "", text)) for look, text in items] == [
        ("run0", "A one"), ("run1", "B two"),
        ("label", "label"), ("run0", "A"), ("run1", "B"),
    ]  # fmt: skip
    assert two_of_au.content["runs"] == ["A", "B"]
    assert "<title>one, two on val</title>" in two_of_au.text


def luminance(colour: str) -> float:
    return float(np.dot([int(colour[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114]))


def test_each_run_has_its_colour_brighter_on_dark_ground(two_of_au: Page) -> None:
    style = re.search("<style>(.*?)</style>", two_of_au.text, re.S)[1]
    light, dark = ([found[1] for found in re.finditer(rf"--run{i}:(#\w+);", style)] for i in (0, 1))
    assert luminance(light[0]) < luminance(light[1]) and luminance(dark[0]) < luminance(dark[1])
    assert style.index("prefers-color-scheme:dark){:root:not([data-print]){--run0") > style.index(":root{--run0:")
    for i in (0, 1):
        assert f".run{i}{{stroke:var(--run{i});stroke-dasharray:var(--dash{i})}}" in style
        assert f".mark.run{i}{{fill:var(--run{i});" in style


def test_settings_that_differ_are_marked(tmp_path: Path) -> None:
    videos = {"v": noise(VA, 10, 1)}
    runs = [
        reported("one", VA, videos, start=0.1, settings={"lr": "0.1", "seed": "0"}),
        reported("two", VA, videos, start=0.4, settings={"lr": "0.2", "seed": "0", "new": "x"}),
    ]
    page = Page(tmp_path / "r.html", VA, runs)
    wanted = {"lr": {"A": "0.1", "B": "0.2"}, "seed": {"A": "0", "B": "0"}, "new": {"A": "–", "B": "x"}}
    assert page.cells("Options of training") == wanted
    marked = re.findall(r'<td class="differs">(.*?)</td>', page.text)
    assert marked == ["0.1", "0.2", "–", "x"]


def test_published_scores_say_of_which_split_they_are(tmp_path: Path) -> None:
    """The winner of the challenge on group emotions: 0.792 on validation videos, 0.751 on those of the test."""
    predictions = {f"v{i}": noise(VGAF, 1, i) for i in range(3)}
    page = Page(tmp_path / "r.html", VGAF, [reported("one", VGAF, predictions, start=0.1)])
    (found,) = re.findall(r"<table><caption>Published.*?</table>", page.text, re.S)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>.*?</tr>", found)[1:]]
    source = "<small> arXiv 2312.05265</small>"
    assert rows[:2] == [
        ["EmotiW 2023", "validation", "0.792", source],
        ["EmotiW 2023", "hidden test", "0.751", source],
    ]


def test_confusions_of_runs_have_labels_in_rows(tmp_path: Path) -> None:
    labels = [0, 0, 0, 0, 2]
    runs = [
        report_on(name, VGAF, {f"v{i}": video([np.eye(3)[a]], [[labels[i]]]) for i, a in enumerate(answers)})
        for name, answers in (("one", [0, 1, 1, 1, 0]), ("two", [2, 2, 0, 2, 2]))
    ]
    page = Page(tmp_path / "r.html", VGAF, runs)
    first, second = page.cells("vgaf A: labels by row"), page.cells("vgaf B: labels by row")
    assert first["Positive"] == {"labels": "4", "Positive": "25% 1", "Neutral": "75% 3", "Negative": "0% 0"}
    assert first["Neutral"] == {"labels": "0", "Positive": "", "Neutral": "", "Negative": ""}
    assert first["Negative"] == {"labels": "1", "Positive": "100% 1", "Neutral": "0% 0", "Negative": "0% 0"}
    assert second["Positive"] == {"labels": "4", "Positive": "25% 1", "Neutral": "0% 0", "Negative": "75% 3"}
    (matrix,) = [part for part in re.findall(r"<table.*?</table>", page.text, re.S) if "vgaf A: labels by row" in part]
    looks = re.findall(r'<td style="--share:(\d+)%" class="(.*?)">', matrix)
    assert [look == "number right" for _, look in looks] == [True, False, False, False, True, False, False, False, True]
    shares = [int(share) for share, _ in looks]
    assert shares[:3] == [pytest.approx(shares[6] / 4, abs=1), pytest.approx(shares[6] * 3 / 4, abs=1), 0]
    assert shares[3:6] == [0, 0, 0] and 0 < shares[6] <= 100


def test_wrong_answers_have_label_and_predictions_of_each_run(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    """The second image: both wrong; the third: A right, B wrong."""
    chances = {"one": [[0.9, 0.05, 0.05], [0.7, 0.2, 0.1], [0.2, 0.6, 0.2]],
               "two": [[0.8, 0.1, 0.1], [0.15, 0.1, 0.75], [0.5, 0.2, 0.3]]}  # fmt: skip
    labels = [[0], [1], [1]]
    rows = {name: np.pad(np.log(shares), ((0, 0), (0, 3)), constant_values=-99) for name, shares in chances.items()}
    runs = [report_on(name, LSD, {"a": video(outputs, labels)}) for name, outputs in rows.items()]
    data = make_data({"a": 3})
    page = Page(tmp_path / "r.html", LSD, runs, faces=open_faces(data))
    head, _ = page.table("2 of 3 images that a run has wrong")
    assert head == ["picture", "image", "label", "predicted A", "probability A", "predicted B", "probability B"]
    (listed,) = [part for part in re.findall(r"<table.*?</table>", page.text, re.S) if "that a run has wrong" in part]
    for row, name in ((1, "00002"), (2, "00003")):
        (uri,) = re.findall(rf'<img src="data:image/jpeg;base64,([^"]*)"[^>]*></td><th scope="row">a/{name}', listed)
        with (
            Image.open(io.BytesIO(base64.b64decode(uri))) as small,
            Image.open(data / f"cropped_aligned/a/{row + 1:05}.jpg") as crop,
        ):
            wanted = np.asarray(crop.resize(small.size), dtype=float)
            assert np.abs(np.asarray(small, dtype=float) - wanted).mean() < 8
    text = re.sub("<.*?>", "|", listed)
    assert re.search(r"a/00002\.jpg\|+Disgust\|+Anger\|+0\.70\|+Fear\|+0\.75", text)
    assert re.search(r"a/00003\.jpg\|+Disgust\|+Disgust\| right\|+0\.60\|+Anger\|+0\.50", text)


def test_images_without_files_are_counted_from_one(tmp_path: Path) -> None:
    found = report_on("one", LSD, {"a": video(np.eye(6)[[0, 0]], [[0], [1]])})
    assert list(Page(tmp_path / "r.html", LSD, [found]).cells("1 of 2 images")) == ["a, image 2"]


# videos of a report


def test_errors_of_parts_and_runs_are_under_their_headings(tmp_path: Path) -> None:
    """The worst video of the first run is on top; every error differs."""
    labels = np.zeros((40, 15))
    runs = []
    for shift in (0.1, 0.4):
        found = {}
        for name, n_wrong in (("good", 4), ("bad", 10)):
            outputs = np.zeros((40, 22))
            outputs[:, :2] = shift
            outputs[:, 2] = 1  # Neutral
            outputs[: n_wrong + round(10 * shift), 3] = 2
            outputs[:, 10:] = -1
            outputs[: 2 * n_wrong + round(20 * shift), 10:16] = 1
            found[name] = video(outputs, labels, np.arange(40) >= n_wrong)
        runs.append(report_on(f"run {shift}", MTL, found))
    page = Page(tmp_path / "r.html", MTL, runs)
    rows = page.cells("Error over the labelled rows")
    assert list(rows) == ["bad", "good"]
    assert rows["good"] == {
        "rows": "40", "seconds": "2.0", "no crop": "10.0%",
        "va error A": "0.100", "va error B": "0.400",
        "expr error A": f"{5 / 40:.3f}", "expr error B": f"{8 / 40:.3f}",
        "au error A": f"{10 / 40 / 2:.3f}", "au error B": f"{16 / 40 / 2:.3f}",
    }  # fmt: skip
    buttons = re.findall(r'<button type="button" data-video="(\d+)">(.*?)</button>', page.text)
    drawn = [one["name"] for one in page.content["videos"]]
    assert [(drawn[int(number)], name) for number, name in buttons] == [("bad", "bad"), ("good", "good")]
    marks = page.chart("expr: each video").marks(1)
    assert {tip for *_, tip in marks} == {
        "bad: 25.0 % missing, error 0.350", "good: 10.0 % missing, error 0.200",
    }  # fmt: skip
    for x, y, _, tip in marks:
        share, error = (25, 0.35) if tip.startswith("bad") else (10, 0.2)
        assert x == pytest.approx(share, abs=0.2) and y == pytest.approx(error, abs=0.005)


def test_scores_by_missing_frames_are_those_of_the_runs(tmp_path: Path) -> None:
    videos = [{f"v{n}": noise(EXPR, 40, seed + n) for n in (0, 1, 30)} for seed in (0, 100)]
    for found in videos:
        for name, one in found.items():
            one.present[: int(name[1:])] = False
    page = Page(tmp_path / "r.html", EXPR, [report_on(name, EXPR, videos[i]) for i, name in enumerate(("one", "two"))])
    rows = page.cells("Score over the videos of each range")
    for name, one in (("none", "v0"), ("up to 5%", "v1"), ("over 50%", "v30")):
        wanted = [
            f1_score(found[one].labels[:, 0], found[one].outputs.argmax(axis=1), labels=range(8), average="macro")
            for found in videos
        ]
        assert wanted[0] != wanted[1]
        assert rows[name] == {
            "videos": "1", "labelled rows": "40", "score A": f"{wanted[0]:.3f}", "score B": f"{wanted[1]:.3f}",
        }  # fmt: skip
    assert rows["up to 20%"]["score A"] == "–"


def test_learning_curves_have_the_epochs_of_their_runs(tmp_path: Path) -> None:
    videos = {"v": noise(VA, 10, 1)}
    first = [{"epoch": n, "loss": 1 / n, "score": n / 10, "lr": 1e-3 * n} for n in (1, 2, 3)]
    second = [{"epoch": n, "loss": 0.1 * n, "score": 0.2} for n in (1, 2)]
    runs = [reported("one", VA, videos, start=0.1, epochs=first), reported("two", VA, videos, start=0.2, epochs=second)]
    page = Page(tmp_path / "r.html", VA, runs)
    for title, key in (("training loss", "loss"), ("validation score", "score")):
        found = page.chart(title)
        assert (found.x_title, found.y_title) == ("epoch", key)
        for run, epochs in enumerate((first, second)):
            wanted = [(epoch["epoch"], epoch[key]) for epoch in epochs]
            np.testing.assert_allclose(found.line(run), wanted, atol=0.02)
            assert [tip for *_, tip in found.marks(run)] == [f"epoch {x:g}: {key} {y:.4g}" for x, y in wanted]


def test_calibration_is_of_the_outputs_as_the_head_gives_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chances = rng.uniform(0, 1, (500, 12))
    labels = (rng.uniform(0, 1, (500, 12)) < chances**2).astype(float)
    raw, moved = ({"v": video(logit(chances) + shift, labels)} for shift in (0, 2))
    runs = [report_on("one", AU, moved, raw), report_on("two", AU, moved)]
    found = Page(tmp_path / "r.html", AU, runs).chart("au, all units: mean distance")
    errors = []
    for run, predictions in enumerate((raw, moved)):
        given = expit(predictions["v"].outputs.astype(float)).ravel()
        truth, predicted = calibration_curve(labels.ravel(), given, n_bins=10)
        np.testing.assert_allclose(found.line(run), np.stack([predicted, truth], axis=1), atol=0.01)
        counts = np.bincount(np.minimum(given * 10, 9).astype(int), minlength=10)
        errors.append(np.average(np.abs(truth - predicted), weights=counts[counts > 0]))
        assert [tip for *_, tip in found.marks(run)] == [
            f"predicted {x:.3f}, found {y:.3f}, {n:,} values"
            for x, y, n in zip(predicted, truth, counts[counts > 0], strict=True)
        ]
    assert found.title.endswith(f"{errors[0]:.3f} A, {errors[1]:.3f} B")
    assert (found.x_title, found.y_title) == ("probability", "share that is active")
    assert found.diagonal == pytest.approx([0, 0, 1, 1], abs=0.01)


def test_calibration_of_valence_is_of_means(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).uniform(-0.8, 0.8, (1000, 2))
    page = Page(tmp_path / "r.html", VA, [report_on("run", VA, {"v": video(labels / 2, labels)})])
    found = page.chart("va, arousal")
    assert (found.x_title, found.y_title) == ("mean prediction", "mean label")
    line = found.line(0)
    np.testing.assert_allclose(line[:, 1], 2 * line[:, 0], atol=0.03)


# traces of a report


def test_traces_are_the_values_of_their_rows(tmp_path: Path) -> None:
    runs = [noise(MTL, 50, 1), noise(MTL, 50, 2)]
    runs[0].labels[7] = np.array(MTL.invalid_row)
    runs[0].present[20:30] = False
    both = [runs[0], VideoPrediction(runs[1].outputs, runs[0].labels, runs[0].present, 20.0)]
    page = Page(tmp_path / "r.html", MTL, [report_on(f"run {i}", MTL, {"v": one}) for i, one in enumerate(both)])
    (scale, missing), (share, no_share) = page.content["scales"]["i2"], page.content["scales"]["u1"]
    traces, labels = page.traces(), runs[0].labels
    np.testing.assert_array_equal(traces["", -1, "present"], runs[0].present)
    rows = np.arange(50) != 7
    for i, name in enumerate(VA.outputs):
        assert traces["va", -1, name][7] == missing
        np.testing.assert_allclose(traces["va", -1, name][rows] / scale, labels[rows, i], atol=1e-4)
    np.testing.assert_array_equal(traces["expr", -1, "class"], np.where(rows, labels[:, 2], no_share))
    for i, name in enumerate(AU.outputs):
        np.testing.assert_array_equal(traces["au", -1, name], np.where(rows, labels[:, 3 + i], no_share))
    for run, found in enumerate(both):
        for i, name in enumerate(VA.outputs):
            np.testing.assert_allclose(traces["va", run, name] / scale, found.outputs[:, i].clip(-1, 1), atol=1e-4)
        shares = softmax(found.outputs[:, 2:10].astype(float), axis=1)
        np.testing.assert_array_equal(traces["expr", run, "class"], shares.argmax(axis=1))
        np.testing.assert_allclose(traces["expr", run, "top"] / share, shares.max(axis=1), atol=0.003)
        for i, name in enumerate(AU.outputs):
            np.testing.assert_allclose(traces["au", run, name] / share, expit(found.outputs[:, 10 + i]), atol=0.003)


def test_traces_of_a_long_video_keep_gaps_and_order(tmp_path: Path) -> None:
    """8000 rows are drawn as 2000 points: every four points stand for 16 rows."""
    rise = np.linspace(-1, 1, 8000)
    found = video(np.stack([rise, -rise], axis=1), np.zeros((8000, 2)), np.arange(8000) != 4003)
    page = Page(tmp_path / "r.html", VA, [report_on("run", VA, {"v": found})])
    traces, scale = page.traces(), page.content["scales"]["i2"][0]
    assert np.flatnonzero(traces["", -1, "present"] == 0).tolist() == [1000, 1001]
    for name, sign in (("valence", 1), ("arousal", -1)):
        np.testing.assert_allclose(traces["va", 0, name] / scale, sign * np.linspace(-1, 1, 2000), atol=0.002)


def test_classes_have_the_same_colours_in_the_legend_and_in_the_traces(tmp_path: Path) -> None:
    page = Page(tmp_path / "r.html", EXPR, [report_on("run", EXPR, {"v": noise(EXPR, 20, 1)})])
    legend = re.findall(r'<span class="swatch" style="background:(#\w+)"></span>(\w+)</li>', page.text)
    assert [name for _, name in legend] == list(EXPR.outputs)
    assert [colour for colour, _ in legend] == page.content["colours"]
    (part,) = page.content["parts"]
    assert (part["name"], part["outputs"], part["low"], part["high"]) == ("expr", list(EXPR.outputs), 0, 7)
    assert len(set(page.content["colours"])) == 8


def test_faces_are_those_of_their_rows(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    data = make_data({"a": 40})
    labels = np.zeros((40, 2))
    found = video(labels + np.linspace(0.1, 0.9, 40)[:, None], labels)
    page = Page(tmp_path / "r.html", VA, [report_on("run", VA, {"a": found})], faces=open_faces(data))
    (span,) = page.content["videos"][0]["spans"]
    assert (span["start"], span["stop"]) == (0, 40)
    assert [row for row, _ in span["faces"]] == sorted({row for row, _ in span["faces"]}) and len(span["faces"]) == 12
    for row, uri in span["faces"]:
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as small:
            shown = np.asarray(small, dtype=float)
        with Image.open(data / "cropped_aligned" / "a" / f"{row + 1:05}.jpg") as crop:
            assert np.abs(shown - np.asarray(crop.resize((72, 72)), dtype=float)).mean() < 8


# what goes into a report


def test_score_of_crops_is_over_the_frames_that_have_one() -> None:
    found = noise(EXPR, 60, 1)
    found.present[:20] = False
    run = report_on("run", EXPR, {"v": found})
    labels, answers = found.labels[:, 0], found.outputs.argmax(axis=1)
    wanted = f1_score(labels[20:], answers[20:], labels=range(8), average="macro")
    assert run.crop_only.score == pytest.approx(wanted) and run.crop_only.n_frames == 40
    assert run.official.score == pytest.approx(f1_score(labels, answers, labels=range(8), average="macro"))


def test_post_processed_run_has_its_thresholds_and_its_raw_score(tmp_path: Path) -> None:
    """Thresholds so high that no unit is ever on: F1 is 0 where it was not."""
    run = create_run(
        tmp_path / "runs",
        make_config({"task": "au", "features": ("f",)}),
        {"f": {"fingerprint": "f", "shape": [4]}},
        "tuned",
    )
    (run.folder / "best.safetensors").write_bytes(b"weights")
    predictions = {f"v{i}": noise(AU, 30, i) for i in range(3)}
    save_predictions(run.folder / "predictions-val.h5", predictions, AU, run.digest())
    thresholds = dict.fromkeys(AU.outputs, 0.999)
    tuning = Tuning(
        abaw="0", task="au", weights=run.digest(), postprocess=Postprocess(thresholds=thresholds), fit_on="folds",
        runs=(), videos=(), n_frames=1, score_before=0, score_after=0,
    )  # fmt: skip
    (run.folder / POSTPROCESS).write_text(tuning.model_dump_json())
    _, (found,) = load_runs(tmp_path / "runs", ["tuned"], "val")
    labels, answers = (
        np.concatenate([getattr(v, name) for v in predictions.values()]) for name in ("labels", "outputs")
    )
    wanted = np.mean([f1_score(labels[:, i], answers[:, i] > 0) for i in range(12)])
    assert found.raw_score == pytest.approx(wanted) and wanted > 0.3
    assert found.official.score == 0 and found.thresholds == thresholds
    np.testing.assert_array_equal(found.raw["v1"].outputs, predictions["v1"].outputs)
    assert found.origin.startswith("fitted on folds")


# tables of the terminal


def printed(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Headings and rows of each table; a heading may take several lines."""
    tables: list[tuple[list[str], list[list[str]]]] = []
    for block in re.findall(r"┏.*?└", text, re.S):
        lines = block.splitlines()
        head = [line.strip("┃").split("┃") for line in lines if line.startswith("┃")]
        rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
        tables.append(([" ".join(" ".join(parts).split()) for parts in zip(*head, strict=True)], rows))
    return tables


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    """Rows of the only table by their first cell, cells by their heading."""
    ((head, rows),) = printed(capsys.readouterr().out)
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_evaluation_is_shown_under_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    predictions = {f"v{i}": noise(VA, 30, i) for i in range(6)}
    official = Score(0.15, {"valence": 0.1, "arousal": 0.2}, {"valence": 11, "arousal": 12}, {"va": 0.15}, 180)
    crops = Score(0.35, {"valence": 0.3, "arousal": 0.4}, {"valence": 7, "arousal": 8}, {"va": 0.35}, 90)
    show_evaluation("run", "val", Evaluation(VA, official, crops, predictions, ()))
    rows, ends = shown(capsys), interval(VA, predictions)
    values = {"valence": ("0.100", "0.300", "11"), "arousal": ("0.200", "0.400", "12"), "score": ("0.150", "0.350", "")}
    for name, (all_frames, with_crop, labels) in values.items():
        assert rows[name] == {
            "measure": "mean of CCC valence and CCC arousal" if name == "score" else "CCC",
            "all labelled rows (official)": all_frames,
            "official, 95 %": f"{ends[name][0]:.3f} to {ends[name][1]:.3f}",
            "those with a crop": with_crop,
            "labels": labels,
        }
    assert (rows["labelled rows"]["all labelled rows (official)"], rows["labelled rows"]["those with a crop"]) == (
        "180",
        "90",
    )


def test_comparison_is_shown_under_the_names_of_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    found = {
        name: Compared(
            (i + 0.1, i + 0.2), ((i + 0.05, i + 0.15), (i + 0.16, i + 0.24)), Difference(0.1, 0.01, 0.19, 0.03)
        )
        for i, name in enumerate(("valence", "arousal", "score"))
    }
    one, two = (Results(name, Path(name), VA, {}) for name in ("one", "two"))
    show_comparison(Comparison((one, two), "val", found, 30))
    assert shown(capsys)["arousal"] == {
        "measure": "CCC",
        "one, 95 %": "1.100 [1.050, 1.150]",
        "two, 95 %": "1.200 [1.160, 1.240]",
        "difference, 95 %": "+0.100 [+0.010, +0.190]",
        "p": "0.0300",
    }


def test_tuning_is_shown_under_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Postprocess(
        smoothing={"AU1": Smoothing(kind="median", width=5), "Fear": Smoothing(width=1)},
        thresholds={"AU1": 0.3}, offsets={"Fear": -0.5},
    )  # fmt: skip
    tuning = Tuning(
        abaw="0", task="mtl", weights="w", postprocess=steps, fit_on="train", runs=(), videos=("a", "b"), n_frames=7,
        score_before=0.4, score_after=0.6,
    )  # fmt: skip
    show_tuning("run", MTL, tuning)
    out = capsys.readouterr().out
    ((head, rows),) = printed(out)
    assert head == ["", "smoothing", "threshold", "offset of the logit"]
    assert [row[0] for row in rows] == list(MTL.outputs)
    cells = {row[0]: row[1:] for row in rows}
    assert (cells["AU1"], cells["Fear"]) == (["median 5", "0.300", "-"], ["-", "-", "-0.500"])
    assert "0.400, post-processed 0.600" in out


def test_store_is_shown_under_its_headings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (4,)})
    put_feature(store, "face", "a", np.ones((5, 4)), [True, False, True, True, True])
    put_feature(store, "face", "b", np.ones((3, 4)), [True, True, False])
    store.write_labels("va", "a", "train", np.zeros((6, 2), dtype=np.float32))
    store.write_labels("va", "b", "val", np.zeros((4, 2), dtype=np.float32), person="anna")
    show_store(store.path, *pipeline.describe_store(store))
    features, labels = printed(capsys.readouterr().out)
    row = dict(zip(features[0], features[1][0], strict=True))
    assert (row["feature"], row["shape"], row["videos"], row["frames"], row["missing"], row["incomplete"]) == (
        "face", "4", "2", "8", "2 (25.0%)", "0",
    )  # fmt: skip
    rows = [["va", "train", "1", "-", "6"], ["va", "val", "1", "1", "4"]]
    assert labels == (["task", "split", "videos", "people", "rows"], rows)


REPORTS = (
    VideoReport("a", "train", 25.0, 10, 8, 2, {"va": 3, "au": -1}, {"va": 4, "au": 5}, {"va": 6, "au": 7}, ("odd", "old"), n_labelled_rows={"va": 8, "au": 5}),
    VideoReport("b", "val", 30.0, 20, 19, 1, {"va": -2}, {"va": 9}, {"va": 0}, (), ("broken",), n_labelled_rows={"va": 22}),
)  # fmt: skip


def test_doctor_is_shown_under_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    totals = {**pipeline.doctor_totals(REPORTS), "left_right_pairs": [("l", "r")]}
    show_doctor(Path("data"), REPORTS, totals, every=True)
    out = capsys.readouterr().out
    ((head, rows),) = printed(out)
    found = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    assert found["a"] == {
        "split": "train", "fps": "25.00", "frames": "10", "crops": "8", "missing": "2", "runs": "2",
        "extra rows au/va": "-1/3", "no crop au/va": "5/4", "notes": "odd; old",
    }  # fmt: skip
    assert (found["b"]["extra rows au/va"], found["b"]["notes"]) == ("-/-2", "1 errors")
    assert "data: 2 videos, 30 frames, 27 crops, 3 missing, 1 left/right pairs." in out
    assert "va: 2 label files; 30 labelled rows (8 train, 22 val); 3 rows more and 2 fewer than frames" in out
    assert "13 rows without a crop, 6 crops without a row" in out


def test_doctor_as_csv_has_its_counts_under_their_headings() -> None:
    stream = io.StringIO()
    write_doctor_csv(REPORTS, stream)
    first, second = csv.DictReader(io.StringIO(stream.getvalue()))
    assert first == {
        "kind": "video", "video": "a", "split": "train", "fps": "25.0", "n_frames": "10", "n_crops": "8",
        "n_missing": "2", "n_runs": "2", "va_n_labelled_rows": "8", "au_n_labelled_rows": "5", "va_extra_rows": "3", "va_n_labels_without_crop": "4",
        "va_n_crops_without_label": "6", "au_extra_rows": "-1", "au_n_labels_without_crop": "5",
        "au_n_crops_without_label": "7", "warnings": "odd; old", "errors": "",
    }  # fmt: skip
    assert (second["warnings"], second["errors"], second["au_extra_rows"]) == ("", "broken", "")


def test_summary_counts_what_was_done_skipped_and_failed(capsys: pytest.CaptureFixture[str]) -> None:
    summary = Summary(done=["a"], skipped=["b", "c"], failed={"d": "no", "e": "no", "f": "no"}, n_frames=7)
    show_summary(summary, "store")
    out, err = capsys.readouterr()
    assert "done 1, skipped 2, failed 3 (7 frames into store)" in out
    assert "3 failed videos:" in err and "  d: no" in err
