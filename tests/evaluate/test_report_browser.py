"""The report in a browser: it loads without errors, tables sort and filter, and the chosen video's traces are drawn."""

import base64
import fcntl
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from abaw.core.tasks import TASKS, Task
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.report.content import report_on
from abaw.evaluate.report.html import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: the page cannot be opened")

TIMEOUT_S = 60
FIRST_FD = 10  # out of the way of 3 and 4, which Chromium takes for its pipe


class Page:
    """A tab of a headless Chromium, driven by its DevTools protocol over a pipe: JSON messages that end with a NUL."""

    def __init__(self, profile: Path) -> None:
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, FIRST_FD) for fd in (theirs_in, theirs_out)]

        def place() -> None:
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        command = [str(CHROMIUM), *options, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            command, preexec_fn=place, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for fd in (theirs_in, theirs_out, *ends):
            os.close(fd)
        self._read = os.fdopen(self._in, "rb", buffering=0)
        self._rest, self._number, self._session = b"", 0, None
        self.complaints: list[str] = []
        self._closed = False
        tab = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method and give its result; what the page complains of meanwhile is kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._receive()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._read.read(65536)
            assert part, "Chromium has ended"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        found = json.loads(text)
        method, parameters = found.get("method"), found.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded" or (method == "Runtime.consoleAPICalled" and parameters["type"] == "error"):
            self.complaints.append(str(parameters))
        elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(("file:", "data:")):
            self.complaints.append(parameters["request"]["url"])
        return found

    def open(self, file: Path, width: int = 1280, height: int = 900) -> None:
        """Load a file; waits until its first video is drawn, if it has any."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.complaints.clear()
        self.send("Page.navigate", url=file.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")
        self.wait("!document.getElementById('canvas') || document.getElementById('canvas').dataset.video")

    def ask(self, expression: str) -> Any:
        """Evaluate JavaScript."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a condition holds."""
        end = time.monotonic() + TIMEOUT_S
        while not self.ask(f"!!({condition})"):
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.02)

    def move(self, selector: str, x_share: float, y: float = 40) -> None:
        """Move the mouse over an element."""
        box = self.ask(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView();"
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width] })()"
        )
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + x_share * box[2], y=box[1] + y)

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def picture(self, whole: bool = False) -> Image.Image:
        """What is seen; or the whole page."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        return Image.open(io.BytesIO(base64.b64decode(found["data"])))

    def _clip(self, whole: bool) -> dict[str, Any]:
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}} if whole else {}

    def close(self) -> None:
        """End this browser."""
        if not self._closed:
            self._closed = True
            self._process.terminate()
            self._process.wait(TIMEOUT_S)
            os.close(self._out)
            self._read.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests here."""
    found = Page(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def wave(n_rows: int, error: float, fps: float = 25.0, gap: slice = slice(0, 0)) -> VideoPrediction:
    """Labels of a sine and its opposite; predictions that are off by `error`; rows in `gap` without a crop."""
    labels = 0.5 * np.sin(np.arange(n_rows) / 20)[:, None] * [1, -1]
    present = np.ones(n_rows, dtype=bool)
    present[gap] = False
    return VideoPrediction((labels + error).astype(np.float32), labels.astype(np.float32), present, fps)


def invent(task: Task, n_rows: int, seed: int) -> VideoPrediction:
    """Random outputs and labels."""
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, int(part.high) + 1, (n_rows, len(part.columns))) for part, _, _ in task.each()]
    outputs = rng.normal(size=(n_rows, len(task.outputs)))
    return VideoPrediction(
        outputs.astype(np.float32), np.concatenate(labels, axis=1).astype(np.float32), np.ones(n_rows, dtype=bool), 25.0
    )


VIDEOS = {"calm": wave(100, 0.1), "loud": wave(5000, 0.4, 50.0, slice(1000, 2000)), "mid 10": wave(300, 0.2)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of valence and arousal."""
    other = {name: VideoPrediction(-one.outputs, one.labels, one.present, one.fps) for name, one in VIDEOS.items()}
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path, TASKS["va"], [report_on("first", TASKS["va"], VIDEOS), report_on("second", TASKS["va"], other)], "val"
    )
    return path


NAMES = (
    "[...document.querySelectorAll('#videos tbody tr')].filter(row => !row.hidden).map(row => row.cells[0].textContent)"
)


def test_nothing_is_complained_of_and_nothing_is_fetched(page: Page, report: Path) -> None:
    page.open(report)
    assert page.ask("document.title") == "first, second on val"
    assert page.ask("[...document.querySelectorAll('nav a')].map(a => a.textContent)") == [
        "Scores", "By output", "Labels and predictions", "Learning curves", "Calibration", "Missing frames", "Videos",
    ]  # fmt: skip
    assert page.complaints == []


def test_list_sorts_by_its_columns(page: Page, report: Path) -> None:
    page.open(report)
    assert page.ask(NAMES) == ["loud", "mid 10", "calm"]
    for column, first, second in (
        (0, ["calm", "loud", "mid 10"], ["mid 10", "loud", "calm"]),
        (1, ["loud", "mid 10", "calm"], ["calm", "mid 10", "loud"]),
        (4, ["loud", "mid 10", "calm"], ["calm", "mid 10", "loud"]),
    ):
        for wanted in (first, second):
            page.ask(f"document.querySelectorAll('#videos thead button')[{column}].click()")
            assert page.ask(NAMES) == wanted
        assert page.ask("document.querySelectorAll('#videos th[aria-sort]').length") == 1


def test_list_filters_by_text(page: Page, report: Path) -> None:
    page.open(report)
    page.ask("document.querySelector('#filter-videos').focus()")
    page.send("Input.insertText", text="MID")
    assert page.ask(NAMES) == ["mid 10"]
    assert page.ask("document.querySelector('.filter output').textContent") == "1 of 3"


def test_choosing_a_video_draws_its_traces(page: Page, report: Path) -> None:
    page.open(report)
    assert page.ask("canvas.dataset.video") == "loud"
    before = page.ask("canvas.toDataURL()")
    page.ask("document.querySelector('[data-video=\"2\"]').click()")
    page.wait("canvas.dataset.video === 'calm'")
    assert page.ask("canvas.toDataURL()") != before
    assert page.ask("document.querySelector('tr[aria-current]').cells[0].textContent") == "calm"
    assert page.ask("document.getElementById('chosen').textContent").startswith("calm: 100 rows, 4.0 s at 25 frames")
    assert page.complaints == []


def colours_of(page: Page, top: str = "0", height: str = "canvas.height") -> dict[tuple[int, ...], int]:
    """Pixels of each colour in some rows of the canvas."""
    part = f"canvas.getContext('2d').getImageData(0, {top}, canvas.width, {height}).data"
    colours, counts = np.unique(np.reshape(page.ask(f"Array.from({part})"), (-1, 4)), axis=0, return_counts=True)
    return dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True))


def test_traces_have_the_colours_of_the_runs_and_missing_spans_are_shaded(page: Page, report: Path) -> None:
    page.open(report)
    found = colours_of(page)
    for colour in ((0, 114, 178, 255), (213, 94, 0, 255), (27, 31, 36, 255)):
        assert found.get(colour, 0) > 200, colour
    between = colours_of(page, "TOP + VALUES_HEIGHT + Math.round(GAP / 2)", "1")  # the two panels, where no line is
    # of the video's 5000 frames 1000 have no crop
    assert between[(223, 226, 230, 255)] == pytest.approx(0.2 * page.ask("video.plot.width"), abs=4)


def test_values_under_the_cursor_are_those_of_the_frame(page: Page, report: Path) -> None:
    page.open(report)
    page.ask("choose(2)")
    page.wait("canvas.dataset.video === 'calm'")
    left, width = page.ask("[video.plot.left, video.plot.width]")
    page.move("#canvas", (left + 0.305 * width) / page.ask("canvas.clientWidth"))
    said = page.ask("[...readout.children].map(one => one.textContent)")
    label = 0.5 * np.sin(30 / 20)
    assert said[:2] == ["1.20 s", "frame 31"]
    assert said[2] == f"valence: label {label:.2f}, A {label + 0.1:.2f}, B {-label - 0.1:.2f}"
    page.ask("canvas.focus()")
    page.press("ArrowRight")
    assert page.ask("readout.children[1].textContent") == "frame 32"
    assert "frame 32" in page.ask("canvas.getAttribute('aria-valuetext')")


def test_list_is_walked_through_with_arrow_keys(page: Page, report: Path) -> None:
    page.open(report)
    page.ask("document.querySelector('[data-video=\"0\"]').focus()")
    page.press("ArrowDown")
    assert page.ask("document.activeElement.textContent") == "mid 10"


@pytest.mark.parametrize("width", [1280, 400])
def test_page_is_never_wider_than_the_window(page: Page, report: Path, width: int) -> None:
    page.open(report, width)
    assert page.ask("document.documentElement.scrollWidth") <= width


def test_page_follows_a_dark_system(page: Page, report: Path) -> None:
    page.open(report)
    light = np.asarray(page.picture().convert("L")).mean()
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    dark = np.asarray(page.picture().convert("L")).mean()
    page.send("Emulation.setEmulatedMedia", features=[])
    assert light > 200
    assert dark < 60


@pytest.mark.parametrize("name", ["mtl", "lsd", "vgaf"])
def test_other_tasks_load(page: Page, tmp_path: Path, name: str) -> None:
    task = TASKS[name]
    videos = {f"v{i}": invent(task, 1 if task.level == "video" else 80, i) for i in range(4)}
    write_report(tmp_path / "r.html", task, [report_on("run", task, videos)], "val")
    page.open(tmp_path / "r.html")
    assert page.complaints == []
    if name == "mtl":
        page.move("#canvas", 0.5)
        said = page.ask("readout.textContent")
        assert all(word in said for word in ("valence", "expr: label", "AU26"))
    else:
        assert page.ask("document.querySelectorAll('#answers tbody tr').length") > 0


def test_names_are_only_text(page: Page, tmp_path: Path) -> None:
    names = (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</script><script>alert(2)</script>",
        "a&amp;b",
    )
    videos = {name: wave(50, 0.1 * i) for i, name in enumerate(names)}
    write_report(tmp_path / "r.html", TASKS["va"], [report_on(names[1], TASKS["va"], videos)], "val")
    page.open(tmp_path / "r.html")
    assert page.complaints == []
    assert sorted(page.ask(NAMES)) == sorted(names)
    assert page.ask("document.querySelectorAll('img[src=x]').length") == 0
    assert page.ask("document.scripts.length") == 2
