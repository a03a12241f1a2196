"""Rows while frames come: the same as those of the whole video, a fixed number of frames later, in a bounded memory."""

import csv
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch

from abaw.backbones.backbone import create_backbone, describe
from abaw.core.errors import DataError, UsageError
from abaw.evaluate.postprocessing.postprocess import FitMethod, Postprocess
from abaw.evaluate.postprocessing.smoothing import Smoothing
from abaw.evaluate.trained import Selection, TrainedRun
from abaw.extract.faces import keyframes
from abaw.extract.faces.detections import Detections
from abaw.extract.faces.detector import create_detector
from abaw.extract.faces.following import FaceFollower
from abaw.extract.faces.keyframes import detect_pictures
from abaw.media import live
from abaw.media.images import read_image
from abaw.media.live import LiveVideo
from abaw.media.pictures import Picture, read_pictures
from abaw.pipeline import predict_stream, predict_video, train_seeds, tune
from abaw.predict.input_files import PredictOptions
from abaw.predict.output_rows import OutputRow
from abaw.predict.person_stream import PersonStream
from abaw.predict.stream_networks import FerStream, RunStream
from abaw.store import FeatureStore
from abaw.tests.support.paths import DATA
from abaw.tests.support.stores import put_feature
from abaw.train.config import make_config
from abaw.train.runs import Run, open_run

CROPS, VIDEO = DATA / "sample" / "cropped_aligned" / "single_face", DATA / "sample" / "videos" / "single_face.mp4"
N, WINDOW = 44, 10
PRESENT = ~np.isin(np.arange(N), [3, *range(12, 18), 30])
QUALITY = np.random.default_rng(1).random(N)
CPU = PredictOptions(device="cpu")


def crops() -> np.ndarray:
    """(n, 112, 112, 3), of the frames that are present."""
    return np.stack([read_image(CROPS / f"{number + 1:05}.jpg") for number in np.flatnonzero(PRESENT)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `tcn`, which is tuned, and `lstm`, and the store that they are trained and validated on."""
    folder, rng = tmp_path_factory.mktemp("stream"), np.random.default_rng(0)
    store, hog = FeatureStore.create(folder / "store.zarr"), create_backbone("hog")
    store.add_feature("hog", **describe(hog, hog.spec, ""))
    values = np.zeros((N, *hog.spec.shape), dtype=np.float32)
    values[PRESENT] = hog(hog.preprocess(torch.from_numpy(crops())))  # type: ignore[assignment]
    put_feature(store, "hog", "train", rng.random((60, *hog.spec.shape)))
    put_feature(store, "hog", "val", values, PRESENT, quality=QUALITY)
    for split, n in (("train", 60), ("val", N)):
        store.write_labels("va", split, split, rng.uniform(-1, 1, (n, 2)).astype(np.float32))
    for head in ({"name": "tcn", "dim": 8, "layers": 2}, {"name": "lstm", "dim": 8}):
        config = make_config({"task": "va", "features": ("hog",), "head": head, "window": WINDOW, "epochs": 1})
        train_seeds([config], store, folder, str(head["name"]), device="cpu")
    smoothing = {"valence": Smoothing(kind="median", width=5), "arousal": Smoothing(kind="gaussian", width=7)}
    tune(
        open_run(folder / "tcn"), store, "val", folder, "cpu", method=FitMethod(given=Postprocess(smoothing=smoothing))
    )
    return folder


def streamed(run: Run) -> dict[int, np.ndarray]:
    """Outputs of the frames that are present, each as soon as it may be asked for."""
    network = RunStream(run, CPU)
    series, wait, rows = PersonStream(network), PersonStream.wait(network), {}
    features = iter(network.embed(crops())["hog"])
    for frame in range(N):
        if PRESENT[frame]:
            series.add(frame, {"hog": next(features)}, float(QUALITY[frame]))
        if frame >= wait and PRESENT[frame - wait]:
            rows[frame - wait] = series.output(frame - wait)
        assert len(series._features) <= wait + WINDOW + 1 and len(series._windows) <= wait + WINDOW
    rows |= {frame: series.output(frame, is_over=True) for frame in range(N - wait, N) if PRESENT[frame]}
    return rows


def predicted(folder: Path, run: Run) -> np.ndarray:
    store = FeatureStore.open(folder / "store.zarr")
    return TrainedRun.open(run, "cpu").predict(store, Selection(rows={"val": N}))["val"].outputs


def test_a_head_that_looks_ahead_with_post_processing(folder):
    run = open_run(folder / "tcn")
    assert RunStream(run, CPU).half == 3
    rows, expected = streamed(run), predicted(folder, run)
    assert list(rows) == np.flatnonzero(PRESENT).tolist()
    np.testing.assert_allclose(np.stack(list(rows.values())), expected[PRESENT], atol=1e-5)


def test_a_causal_head_waits_for_nothing(folder):
    run = open_run(folder / "lstm")
    assert PersonStream.wait(RunStream(run, CPU)) == 0
    rows, expected = streamed(run), predicted(folder, run)
    early = [frame for frame in rows if frame < N - WINDOW]
    np.testing.assert_allclose(np.stack([rows[frame] for frame in early]), expected[early], atol=1e-5)
    assert len(early) > 2 * WINDOW  # `predict` has one more window in the last rows


@pytest.mark.parametrize("name", ["tcn", "lstm"])
def test_crops_of_low_quality_are_masked_as_in_files(folder, name):
    run = open_run(folder / name)
    strict = replace(run, config=run.config.model_copy(update={"min_quality": 0.5}))
    rows, expected = streamed(strict), predicted(folder, strict)
    # an LSTM gives the frames before the first one of a window its outputs, which a stream does not know yet
    early = [frame for frame in rows if frame < N - WINDOW and (name == "tcn" or QUALITY[frame] >= 0.5)]
    np.testing.assert_allclose(np.stack([rows[frame] for frame in early]), expected[early], atol=1e-5)
    assert len(early) > WINDOW and np.abs(predicted(folder, run) - expected)[early].max() > 1e-2


def pair(rows: list[OutputRow]) -> list[tuple[float, ...]]:
    return [
        (row.frame, row.time_s, *row.box, *(v for v in row.outputs.values() if isinstance(v, float))) for row in rows
    ]


def test_a_file_and_its_frames_give_the_rows_of_predict(tmp_path, numbered, monkeypatch):
    pictures = [picture.image for picture in read_pictures(VIDEO, range(14), shorter_side=180)]
    file = numbered.write(tmp_path / "a.mp4", pictures=pictures, n_frames=14, rate=30)
    expected = predict_video(None, file, device="cpu")
    stream = predict_stream(None, file, options=CPU)
    rows = list(stream)
    assert stream.delay == 9 + 4, "0.3 s of 30 frames, which is more than half of the smoothing, and the key frames"
    assert [row.frame for row in rows] == list(range(1, 15)) and {row.person for row in rows} == {"1"}
    # boxes and times went through a table with two and six decimals
    np.testing.assert_allclose(np.array(pair(rows))[:, 2:6], np.array(pair(expected))[:, 2:6], atol=6e-3)
    np.testing.assert_allclose(np.array(pair(rows))[:, 6:], np.array(pair(expected))[:, 6:], atol=1e-5)
    monkeypatch.setattr(keyframes, "CHUNK_PIXELS", 1)  # as for large pictures, whose batches are the same in both
    qualities: list[float] = []
    add = PersonStream.add
    with monkeypatch.context() as patch:
        patch.setattr(FerStream, "min_quality", 1e-9)
        patch.setattr(
            PersonStream, "add", lambda self, *words: add(self, *words[:2], qualities.append(words[2]) or 1.0)
        )
        rows = list(predict_stream(None, file, options=CPU))
    follower = FaceFollower(file, create_detector(device="cpu"))
    assert qualities == pytest.approx([face.quality() for frame in follower for face in frame.faces.values()], rel=1e-5)
    n_read = 0

    def frames() -> Iterator[tuple[float, np.ndarray]]:
        nonlocal n_read
        for picture in read_pictures(file):
            n_read += 1
            yield picture.time_s, picture.image
        yield 0.0, picture.image

    n_rows = 0
    with pytest.raises(UsageError, match=r"Frame 14 is shown at 0 s, and the one before it at 0.43\d* s"):
        for number, row in enumerate(predict_stream(None, frames(), fps=30, options=CPU)):
            assert n_read <= row.frame + stream.delay
            assert pair([row]) == pair([rows[number]])
            n_rows += 1
    assert n_rows == 14, "an error comes after the rows of what was read"


class Boxes:
    """A detector of one face, whose place is the grey level of the picture; it notes what it detects in full."""

    def __init__(self) -> None:
        self.full: list[int] = []

    def detect(self, images: np.ndarray) -> list[Detections]:
        levels = images[:, 0, 0, 0].tolist()
        self.full += levels
        return [self._at(float(level)) for level in levels]

    def refine(self, images: np.ndarray, places: list[np.ndarray]) -> list[Detections]:
        return [self._at(float(boxes[0, 0])) for boxes in places]

    def _at(self, left: float) -> Detections:
        box = np.array([[left, 0, left + 100, 100]], dtype=np.float32)
        return Detections(box, np.ones(1, dtype=np.float32), np.zeros((1, 5, 2), dtype=np.float32))


@pytest.mark.parametrize("n_chunk", [4, 8, 24])
def test_key_frames_are_those_of_files_and_come_soon(monkeypatch, n_chunk):
    monkeypatch.setattr(keyframes, "CHUNK_PIXELS", 64 * n_chunk)
    sizes = [(8, 8)] * 31 + [(8, 6)] * 9
    images = [np.full((*size, 3), 2 * i + i % 3, dtype=np.uint8) for i, size in enumerate(sizes)]
    n_read = 0

    def pictures() -> Iterator[Picture]:
        nonlocal n_read
        for i, image in enumerate(images):
            n_read = i + 1
            yield Picture(i, i / 25, image)

    of_file, live = Boxes(), Boxes()
    expected = list(detect_pictures(pictures(), of_file))
    for (picture, detections), (_, other) in zip(detect_pictures(pictures(), live, live=True), expected, strict=True):
        np.testing.assert_array_equal(detections.boxes, other.boxes)
        assert n_read <= picture.number + 1 + 4
    assert sorted(set(live.full)) == sorted(set(of_file.full))


def test_a_stream_over_http(tmp_path, numbered):
    pictures = [picture.image for picture in read_pictures(VIDEO, range(6), shorter_side=90)]
    file = numbered.write(tmp_path / "a.mkv", pictures=pictures, n_frames=6)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *words: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        camera = LiveVideo(f"{url}/a.mkv")
        for found, wanted in zip(camera, read_pictures(file), strict=True):
            assert (found.number, found.time_s) == (wanted.number, pytest.approx(wanted.time_s))
            np.testing.assert_array_equal(found.image, wanted.image)
        with pytest.raises(DataError, match=r"none.mkv cannot be read \(.*404"):
            LiveVideo(f"{url}/none.mkv")
        server.shutdown()
    with pytest.raises(DataError, match=r"cannot be read"):
        LiveVideo(f"file://{file}")


class Camera(BaseHTTPRequestHandler):
    """Sends the content of files one after another, and ends as a camera that is switched off: without a word."""

    content = b""

    def do_GET(self) -> None:
        """Answer a request."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *words: object) -> None:
        """Print nothing."""


def test_cameras_without_clock_or_end(tmp_path, numbered):
    """A stream whose clock begins again, and which ends without a word; one of JPEGs, without times; and standard input."""
    both = b"".join(numbered.write(tmp_path / f"{n}.ts", n_frames=n, rate=20).read_bytes() for n in (9, 14))
    jpegs = [simplejpeg.encode_jpeg(numbered.picture(number)) for number in range(5)]
    begin = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    parts = [begin % len(jpeg) + jpeg + b"\r\n" for jpeg in jpegs]
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        for content, fps, n_read in ((both, 20, 23), (b"".join(parts), 25, 5)):
            Camera.content, pictures = content, []
            camera = LiveVideo(url)
            assert camera.fps == fps
            with pytest.raises(DataError, match=rf"broke off after {n_read} pictures \(.* Run the same command again"):
                pictures += camera
            numbers = [numbered.number(picture.image) for picture in pictures]
            assert numbers == ([*range(9), *range(14)] if n_read == 23 else list(range(5)))
            times_s = np.array([picture.time_s for picture in pictures])
            if n_read == 23:
                np.testing.assert_allclose(np.diff(times_s), 1 / 20, atol=1e-6)
            else:
                assert times_s[0] >= 0 and (np.diff(times_s) >= 0).all() and times_s[-1] < 0.1, "when they came"
        server.shutdown()
    before, file = os.dup(0), os.open(tmp_path / "9.ts", os.O_RDONLY)
    try:
        os.dup2(file, 0)
        assert len(list(LiveVideo("-"))) == 9
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(file)


def test_nobody_waits_for_a_silent_source():
    """It is closed when it sends something, or its time is up."""
    sends, closed = threading.Event(), threading.Event()

    def pictures() -> Iterator[int]:
        try:
            yield 1
            sends.wait(10)
            yield 2
        finally:
            closed.set()

    reading = live._detached(pictures())
    assert next(reading) == 1
    reading.close()  # as where Ctrl-C ends the loop
    assert not closed.is_set()
    sends.set()
    assert closed.wait(10)


def test_the_command_prints_a_table(tmp_path, numbered, run_cli):
    pictures = [picture.image for picture in read_pictures(VIDEO, range(8), shorter_side=180)]
    file = numbered.write(tmp_path / "a.mp4", pictures=pictures, n_frames=8)
    done = run_cli("predict", "--stream", file, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "Rows come 13 frames (0.43 s) after their frame." in done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["frame"] for row in rows] == [str(number) for number in range(1, 9)]
    assert {"time_s", "person", "expression", "happy_probability", "bottom"} <= set(rows[0])
    wrong = run_cli("predict", "--stream", file, "--faces", 2)
    assert wrong.exit_code == 2 and "--faces is for files, and --stream writes none" in wrong.output


def test_what_a_stream_cannot_take(tmp_path):
    shutil.copy(CROPS / "00001.jpg", tmp_path / "a.jpg")
    with pytest.raises(UsageError, match=r"a.jpg is an image, and a stream is of a video"):
        predict_stream(None, tmp_path / "a.jpg", options=CPU)
    with pytest.raises(UsageError, match=r"is a folder, and a stream is of one video"):
        predict_stream(None, tmp_path, options=CPU)
    with pytest.raises(UsageError, match=r"The frames have no rate. Give it as fps"):
        predict_stream(None, [], options=CPU)
    grey = [(0.0, np.zeros((9, 9), dtype=np.uint8))]
    with pytest.raises(UsageError, match=r"Frame 0 must be .* uint8 RGB, found uint8 \(9, 9\)"):
        list(predict_stream(None, grey, fps=25, options=CPU))
