"""Every source of frames keeps the same contract: crops, images without a time axis, and clips of files and tensors."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from abaw.core.errors import DataError
from abaw.core.records import GIVEN, PREPARED
from abaw.datasets.clips import Clip
from abaw.datasets.frames import WHOLE, BrokenFrame, Frame, FrameSource, Video
from abaw.datasets.image_folders import CropFolder, Stills
from abaw.datasets.vgaf import PictureFolder
from abaw.datasets.video_files import People

NUMBERS = (1, 2, 5)  # of crops; the level of grey of each picture is 20 times its number


def grey(number: int) -> np.ndarray:
    return np.full((16, 16, 3), 20 * number, np.uint8)


def write_crops(root: Path) -> Path:
    folder = root / "crops"
    folder.mkdir()
    for number in NUMBERS:
        Image.fromarray(grey(number)).save(folder / f"{number:05}.png")
    return folder


def write_film(file: Path, n_frames: int) -> Path:
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width = stream.height = 32
        for number in range(1, n_frames + 1):
            picture = np.full((32, 32, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file


def crops(root: Path) -> Video:
    return CropFolder("a", write_crops(root), None)


def crops_of_a_film(root: Path) -> Video:
    return CropFolder("a", write_crops(root), write_film(root / "a.mp4", 8))


def stills(root: Path) -> Video:
    return Stills("a", write_crops(root))


def pictures(root: Path) -> Video:
    return PictureFolder("a", write_crops(root), None)


def clip(root: Path) -> Video:
    film = write_film(root / "a.mp4", 8)
    return Clip("a", film, film, n_frames=4)


def tensor(root: Path) -> Video:
    torch.save(torch.from_numpy(np.stack([grey(number) for number in (1, 2, 3, 4)])), root / "a.mp4.img.4.pt")
    return Clip("a", root / "a.mp4.img.4.pt", None, n_frames=4)


# rows, levels of grey in their order, number of rows of the clock, frame rate without --fps
SOURCES = {
    crops: ([0, 1, 4], [20, 40, 100], 5, 30.0),
    crops_of_a_film: ([0, 1, 4], [20, 40, 100], 8, 10.0),
    stills: ([0, 1, 2], [20, 40, 100], 3, 1.0),
    pictures: ([0, 1, 4], [20, 40, 100], 5, 1.0),
    # row i shows the middle of the i-th quarter of 0.8 s: the border of two pictures, of which the second begins
    clip: ([0, 1, 2, 3], [40, 80, 120, 160], 4, 5.0),
    tensor: ([0, 1, 2, 3], [20, 40, 60, 80], 4, 0.8),
}
each_source = pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)


def opened(video: Video, fps: float | None = None) -> FrameSource:
    return video.open(fps, People(video.path.parent))


@each_source
def test_rows_and_images(make: Callable[[Path], Video], tmp_path):
    frames = opened(make(tmp_path))
    rows, levels, _, _ = SOURCES[make]
    read = list(frames.read(0, len(rows)))
    assert frames.rows.tolist() == rows == [frame.row for frame in read]
    assert frames.size() == len(rows) and frames.people() == (frames.name,) == ("a",)
    for frame, level in zip(read, levels, strict=True):
        assert isinstance(frame, Frame) and frame.image.dtype == np.uint8 and frame.image.shape[2] == 3
        assert frame.person == ""
        np.testing.assert_allclose(frame.image, level, atol=4)


@each_source
def test_pieces_are_parts_of_the_whole(make: Callable[[Path], Video], tmp_path):
    frames = opened(make(tmp_path))
    n_frames = len(frames.rows)
    whole = list(frames.read(0, n_frames))
    pieces = [*frames.read(0, 1), *frames.read(1, n_frames)]
    assert [frame.row for frame in pieces] == [frame.row for frame in whole]
    for one, other in zip(pieces, whole, strict=True):
        assert isinstance(one, Frame) and isinstance(other, Frame)
        np.testing.assert_array_equal(one.image, other.image)
    assert list(frames.read(n_frames, n_frames)) == []


@each_source
def test_clocks_and_times(make: Callable[[Path], Video], tmp_path):
    video = make(tmp_path)
    _, _, n_frames, fps = SOURCES[make]
    frames = opened(video)
    assert (frames.clock().n_frames, frames.clock().fps) == (n_frames, pytest.approx(fps))
    edges_ns = frames.times().edges_ns
    assert len(edges_ns) == n_frames + 1
    np.testing.assert_allclose(edges_ns / 1e9, np.arange(n_frames + 1) / fps, atol=1e-3)
    if video.file is None and make is not stills:
        assert opened(video, 12.5).clock().fps == 12.5
    else:
        assert opened(video, 12.5).clock() == frames.clock()


@each_source
def test_files_of_rows(make: Callable[[Path], Video], tmp_path):
    frames = opened(make(tmp_path))
    names = {row: file.name for row in range(-1, 9) if (file := frames.file_of(row)) is not None}
    if frames.divisible:
        assert names == dict(zip(frames.rows.tolist(), ("00001.png", "00002.png", "00005.png"), strict=True))
    else:
        assert names == {}


def test_what_sources_say_of_themselves(tmp_path):
    said = {}
    for make in SOURCES:
        (tmp_path / make.__name__).mkdir()
        frames = opened(make(tmp_path / make.__name__))
        said[make] = (frames.alignment, frames.divisible, frames.has_time_axis)
    assert said == {
        crops: (GIVEN, True, True),
        crops_of_a_film: (GIVEN, True, True),
        stills: (WHOLE, True, False),
        pictures: (GIVEN, True, True),
        clip: (WHOLE, False, True),
        tensor: (WHOLE, False, True),
    }


def test_crops_of_prepare_have_its_alignment(tmp_path):
    video = crops(tmp_path)
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.json").write_text('{"people": ["a"]}')
    assert video.open(None, People(tmp_path)).alignment == PREPARED


def test_a_source_does_not_change_once_it_is_listed(tmp_path):
    video = crops(tmp_path)
    frames, before = opened(video), opened(video).digest()
    assert frames.digest() == before
    Image.fromarray(grey(6)).save(video.path / "00006.png")
    assert frames.digest() == before and frames.rows.tolist() == [0, 1, 4] and frames.clock().n_frames == 5
    again = opened(video)
    assert again.digest() != before and again.rows.tolist() == [0, 1, 4, 5]


def test_a_broken_crop_costs_itself_alone(tmp_path):
    video = crops(tmp_path)
    (video.path / "00002.png").write_bytes(b"no image")
    first, second, third = opened(video).read(0, 3)
    assert isinstance(first, Frame) and isinstance(third, Frame) and third.row == 4
    assert isinstance(second, BrokenFrame) and second.row == 1 and "00002.png is not an image" in second.reason


@pytest.mark.parametrize("make", [clip, tensor], ids=["clip", "tensor"])
def test_a_broken_clip_has_broken_rows_alone(make: Callable[[Path], Video], tmp_path):
    video = make(tmp_path)
    video.path.write_bytes(b"no clip")
    read = list(opened(video).read(0, 4))
    assert [frame.row for frame in read] == [0, 1, 2, 3]
    assert all(isinstance(frame, BrokenFrame) and str(video.path) in frame.reason for frame in read)


def test_a_tensor_of_another_length_than_its_name_says(tmp_path):
    video = Clip("a", tensor(tmp_path).path, None, n_frames=5)
    (reason,) = {frame.reason for frame in opened(video).read(0, 5) if isinstance(frame, BrokenFrame)}
    assert "holds 4 frames, but its name says 5" in reason


def test_remarks_on_folders_of_crops(tmp_path):
    video = crops(tmp_path)
    assert opened(video).remarks() == []
    (video.path / "notes.txt").write_text("x")
    (remark,) = opened(video).remarks()
    assert remark.sentence == "1 files are not crops, such as notes.txt" and not remark.is_error
    nested = CropFolder("b", tmp_path, None)
    assert len(opened(nested).rows) == 0 and opened(nested).clock().n_frames == 0
    assert [remark.is_error for remark in opened(nested).remarks()] == [False, True]
    assert "such as crops. Move them up one level" in opened(nested).why_empty()


def test_crops_from_0_have_no_clock(tmp_path):
    video = crops(tmp_path)
    (video.path / "00005.png").rename(video.path / "00000.png")
    with pytest.raises(DataError, match="frame number 0"):
        opened(video).clock()


def test_crops_of_a_video_file_that_is_broken_have_a_constant_rate(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no film")
    frames = opened(CropFolder("a", write_crops(tmp_path), tmp_path / "a.mp4"), fps=20.0)
    clock = frames.clock()
    assert (clock.fps, clock.n_frames, clock.is_guessed) == (20.0, 5, True) and "a.mp4" in clock.warning
    assert frames.times().edges_ns.tolist() == [number * 50_000_000 for number in range(6)]
