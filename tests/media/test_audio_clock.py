"""The video's clock: intervals of frames, and native frames averaged into them, by cases worked out by hand."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from abaw.core.errors import DataError
from abaw.media.frame_times import NS, RowMeans, read_times, regular_times, rows_with_sound, sample_times

MS = 1_000_000


def means_of(edges, centres, values, block=None):
    """Rows of native frames that come in blocks of some size."""
    rows = RowMeans(np.asarray(edges, dtype=np.int64))
    centres, values = np.asarray(centres, dtype=np.int64), np.asarray(values, dtype=np.float32)
    block = block or len(centres)
    found = [rows.add(centres[i : i + block], values[i : i + block]) for i in range(0, len(centres), block)]
    return np.concatenate([*found, rows.rest()])


@pytest.mark.parametrize("block", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("edges_ms", "wanted"),
    [
        # native frames every 10 ms with their centres at 5, 15, 25, ..., each holding its own number
        ((0, 20, 40, 60), (0.5, 2.5, 4.5)),
        ((0, 15, 40, 100), (0, 2, 6.5)),  # the frame at 15 ms belongs to the row that begins there
        ((0, 2, 4, 6, 30), (0, 0, 0, 1.5)),  # shorter than the hop: the nearest native frame, twice
        ((0, 10, 10, 30), (0, 0, 1.5)),  # a row without duration; 5 and 15 ms are as near, the earlier is taken
        ((85, 90, 130, 170), (8, 9, 9)),  # rows after the last native frame take the last one
    ],
)
def test_rows_are_means_or_the_nearest(edges_ms, wanted, block):
    centres = (np.arange(10) * 10 + 5) * MS
    found = means_of(np.array(edges_ms) * MS, centres, np.arange(10.0)[:, None], block)
    assert found[:, 0].tolist() == list(wanted)


@pytest.mark.parametrize("fps", [15, 24000 / 1001, 30000 / 1001, 30, 60])
def test_a_native_frame_falls_into_the_row_of_its_time(fps):
    times, exact = regular_times(200, fps), Fraction(fps).limit_denominator(1001)
    centres = sample_times(np.arange(0, int(200 / fps * 16000), 160) + 80)
    numbers = np.arange(len(centres))
    found = means_of(times.edges_ns, centres, numbers[:, None], block=7)[:, 0]
    for row in range(200):
        inside = [k for k in numbers if Fraction(row) <= Fraction(80 + 160 * int(k), 16000) * exact < row + 1]
        if inside:
            assert found[row] == pytest.approx(np.mean(inside), abs=1e-3)
        else:
            assert abs(centres[int(found[row])] - times.edges_ns[row]) < NS / fps


def test_blocks_do_not_matter():
    rng = np.random.default_rng(0)
    edges = np.cumsum(rng.integers(0, 80 * MS, 500))
    centres = np.sort(rng.integers(0, edges[-1] + 100 * MS, 1500))
    values = rng.standard_normal((1500, 4, 3)).astype(np.float32)
    whole = means_of(edges, centres, values)
    assert whole.shape == (499, 4, 3)
    for block in (1, 13, 512):
        np.testing.assert_allclose(means_of(edges, centres, values, block), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "wanted"),
    [(0, 100, (0, 5)), (20, 60, (1, 3)), (19, 61, (0, 4)), (-50, 500, (0, 5)), (200, 300, (5, 5)), (-9, 0, (0, 0))],
)
def test_rows_outside_of_the_sound_are_left_out(start_ms, end_ms, wanted):
    assert rows_with_sound(np.arange(0, 101, 20) * MS, start_ms * MS, end_ms * MS) == wanted


def write_video(file: Path, stamps: list[int], base: Fraction, codec: str = "libx264") -> None:
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = base
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), stamp % 256, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("base", [Fraction(1, 15), Fraction(1001, 24000), Fraction(1001, 30000), Fraction(1, 60)])
def test_times_are_those_of_the_file(tmp_path, suffix, base):
    file = tmp_path / f"video{suffix}"
    write_video(file, list(range(40)), base)
    edges = read_times(file, 40).edges_ns
    wanted = np.array([float(base * i) for i in range(41)]) * NS
    tolerance = 1 if suffix == ".mp4" else MS  # Matroska's timestamps are whole milliseconds
    assert np.abs(edges - wanted).max() <= tolerance


def test_variable_frame_rate_and_rows_beyond_the_last_picture(tmp_path):
    file = tmp_path / "video.mp4"
    stamps = [0, 3, 4, 10, 11, 20]
    write_video(file, stamps, Fraction(1, 100))
    edges = read_times(file, 8).edges_ns
    assert edges[:6].tolist() == [stamp * 10 * MS for stamp in stamps]
    assert len(edges) == 9 and np.diff(edges[5:]).tolist() == [40 * MS] * 3, "the mean rate goes on"
    assert len(read_times(file, 3).edges_ns) == 4


def test_avi_without_presentation_times(tmp_path):
    file = tmp_path / "video.avi"
    write_video(file, list(range(20)), Fraction(1, 25), codec="mpeg4")
    assert np.abs(read_times(file, 20).edges_ns[:20] - np.arange(20) * 40 * MS).max() <= 1


def test_a_file_without_pictures_is_an_error(tmp_path):
    file = tmp_path / "video.mp4"
    file.write_bytes(b"not a video")
    with pytest.raises(DataError, match="cannot be read"):
        read_times(file, 3)
