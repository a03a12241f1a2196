"""Decoding of video files: which frame is shown when, upright, shrunk, and what damaged files give."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from abaw.core.errors import DataError
from abaw.media.pictures import SHORTER_SIDE_PX, as_rgb, read_pictures, read_pictures_at, shrink
from abaw.media.probe import probe_span

TIMES_MS = [0, 40, 90, 95, 300, 310, 700, 720, 980, 1500]  # of frames at a variable rate


def shown_at(times_s: list[float], asked_s: float) -> int:
    """The last frame that begins by then, one after another; the first one before all."""
    number = 0
    for index, time_s in enumerate(times_s):
        if time_s <= asked_s + 1e-3:
            number = index
    return number


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4")])
def test_all_frames_come_in_order_with_their_times(tmp_path, numbered, suffix, codec):
    file = numbered.write(tmp_path / f"a{suffix}", 60, rate=25, codec=codec)
    pictures = list(read_pictures(file))
    assert [picture.number for picture in pictures] == list(range(60))
    assert [numbered.number(picture.image) for picture in pictures] == list(range(60))
    np.testing.assert_allclose([picture.time_s for picture in pictures], np.arange(60) / 25, atol=1e-3)
    assert pictures[0].image.shape == (64, 128, 3) and pictures[0].image.dtype == np.uint8


def test_chosen_frames(tmp_path, numbered):
    file = numbered.write(tmp_path / "a.mp4", 40)
    for n_threads in (1, 0):
        found = list(read_pictures(file, {39, 3, 17}, n_threads=n_threads))
        assert [(one.number, numbered.number(one.image)) for one in found] == [(3, 3), (17, 17), (39, 39)]


def test_times_of_a_variable_rate_are_the_files_own(tmp_path, numbered):
    file = numbered.write(tmp_path / "a.mp4", times_ms=TIMES_MS)
    np.testing.assert_allclose([one.time_s for one in read_pictures(file)], np.array(TIMES_MS) / 1000, atol=1e-6)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_is_shown_at_a_time(tmp_path, numbered, suffix):
    file = numbered.write(tmp_path / f"a{suffix}", times_ms=TIMES_MS)
    times_s = [time / 1000 for time in TIMES_MS]
    asked = sorted([-1.0, 0.0, 0.04, 0.0899, 0.0951, 0.2, 0.2, 0.31, 0.69, 0.7, 1.2, 1.5, 1.9])
    found = list(read_pictures_at(file, asked))
    expected = [shown_at(times_s, time_s) for time_s in asked]
    assert [numbered.number(one.image) for one in found] == expected
    assert [one.number for one in found] == expected


def test_pictures_end_where_the_file_ends(tmp_path, numbered):
    file = numbered.write(tmp_path / "a.mp4", 30, rate=30)
    assert len(list(read_pictures_at(file, [0.1, 0.95, 1.4, 1.6, 9.0]))) == 3  # up to half a second after the last
    assert list(read_pictures_at(file, [])) == []


@pytest.mark.parametrize(("first", "n_frames", "rate"), [(0, 150, 30), (0, 100, 25), (700, 20, 10)])
def test_the_span_of_a_file(tmp_path, numbered, first, n_frames, rate):
    times = [first + round(1000 * n / rate) for n in range(n_frames)]
    span = probe_span(numbered.write(tmp_path / "a.mkv", times_ms=times))
    assert (span.start_s, span.duration_s, span.pictured_s) == pytest.approx(
        (first / 1000, n_frames / rate, n_frames / rate), abs=2e-3
    )
    np.testing.assert_allclose(span.middles(4), span.start_s + span.duration_s * np.array([0.125, 0.375, 0.625, 0.875]))


# FFmpeg's display rotation turns counterclockwise: a mark in the top left corner goes down, across, then up again
@pytest.mark.parametrize(
    ("rotation", "shape", "corner"),
    [(0, (64, 96), (0, 0)), (90, (96, 64), (-1, 0)), (180, (64, 96), (-1, -1)), (270, (96, 64), (0, -1))],
)
def test_pictures_are_turned_upright(tmp_path, numbered, rotation, shape, corner):
    picture = np.zeros((64, 96, 3), dtype=np.uint8)
    picture[:24, :24] = 255
    file = numbered.write(tmp_path / "a.mp4", 3, rotation=rotation, pictures=[picture] * 3)
    image = next(read_pictures(file)).image
    assert image.shape == (*shape, 3)
    lit = [(y, x) for y in (0, -1) for x in (0, -1) if image[y, x].min() > 128]
    assert lit == [corner]


def test_colours_are_kept(tmp_path, numbered):
    picture = np.full((64, 96, 3), (200, 40, 60), dtype=np.uint8)
    image = next(read_pictures(numbered.write(tmp_path / "a.mp4", 2, pictures=[picture] * 2))).image
    np.testing.assert_allclose(image.reshape(-1, 3).mean(0), (200, 40, 60), atol=4)


def test_large_pictures_are_shrunk_by_averaging(tmp_path, numbered, sample):
    face = Image.open(next((sample / "cropped_aligned/single_face").iterdir())).convert("RGB")
    picture = np.asarray(face.resize((1280, 720), Image.Resampling.BICUBIC))
    file = numbered.write(tmp_path / "a.mp4", 2, pictures=[picture] * 2)
    full, small = (next(read_pictures(file, shorter_side=side)).image for side in (0, SHORTER_SIDE_PX))
    assert (full.shape, small.shape) == ((720, 1280, 3), (336, 597, 3))
    expected = np.asarray(Image.fromarray(full).resize((597, 336), Image.Resampling.BOX))
    assert np.abs(small.astype(int) - expected).mean() < 0.5
    np.testing.assert_array_equal(small, shrink(full, SHORTER_SIDE_PX))


def test_small_pictures_stay_as_they_are(tmp_path, numbered):
    frame = av.VideoFrame.from_ndarray(numbered.picture(5), format="rgb24")
    np.testing.assert_array_equal(as_rgb(frame, SHORTER_SIDE_PX), numbered.picture(5))
    np.testing.assert_array_equal(shrink(numbered.picture(5), SHORTER_SIDE_PX), numbered.picture(5))


def spoiled(file: Path, how: str) -> Path:
    if how == "text":
        file.write_text("I am a text file.\n")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "no index":
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 20])
    else:
        with av.open(str(file), "w") as container:
            stream = container.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), "fltp", "mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return file


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("text", "cannot be read as a video"),
        ("empty", "cannot be read as a video"),
        ("no index", "has no pictures"),
        ("sound", "has no pictures"),
    ],
)
def test_files_without_pictures(tmp_path, numbered, how, sentence):
    file = spoiled(numbered.write(tmp_path / "a.mp4", 20), how)
    for read in (
        lambda: list(read_pictures(file)),
        lambda: list(read_pictures_at(file, [0.0])),
        lambda: probe_span(file),
    ):
        with pytest.raises(DataError, match=f"a.mp4 {sentence}"):
            read()


def test_a_file_that_is_cut_off_gives_its_first_frames(tmp_path, numbered):
    file = numbered.write(tmp_path / "a.mp4", 150, rate=30)
    content = file.read_bytes()
    start = content.index(b"mdat")
    file.write_bytes(content[: start + (len(content) - start) // 2])
    found = [numbered.number(picture.image) for picture in read_pictures(file)]
    assert 20 < len(found) < 130 and found[:-1] == list(range(len(found) - 1))
    span = probe_span(file)
    assert span.duration_s == pytest.approx(5, abs=0.02)
    assert span.pictured_s == pytest.approx(len(found) / 30, abs=0.1)
