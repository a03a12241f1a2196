"""Digests of what features are made from: they are stored, so the same files must give the same ones in every version."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from abaw.datasets.clips import Clip
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import Video
from abaw.datasets.image_folders import CropFolder, Stills
from abaw.datasets.sound_files import sound_digest
from abaw.datasets.vgaf import PictureFolder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_bytes(path: Path, n_bytes: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * n_bytes)
    return path


def digest(video: Video, fps: float | None = None) -> str:
    return Dataset(video.path.parent, (video,), (), fps).open(video).digest()


@pytest.fixture
def crops(tmp_path):
    """Crops of the frames 1, 2 and 10 with 11, 12 and 13 bytes."""
    for name, n_bytes in [("00010.jpg", 13), ("00002.png", 12), ("1.jpg", 11), ("notes.txt", 9)]:
        write_bytes(tmp_path / "a" / name, n_bytes)
    return tmp_path / "a"


def test_crops(crops, tmp_path):
    """Numbers and sizes as int64, and then the size of the video file, or --fps."""
    listing = sha256(np.array([1, 2, 10, 11, 12, 13], dtype="<i8").tobytes())
    film = write_bytes(tmp_path / "a.mp4", 1000)
    assert digest(CropFolder("a", crops, film)) == sha256(f"{listing} 1000".encode())
    assert digest(CropFolder("a", crops, film), fps=25.0) == sha256(f"{listing} 1000".encode())
    assert digest(CropFolder("a", crops, None)) == sha256(f"{listing} None".encode())
    assert digest(CropFolder("a", crops, None), fps=25.0) == sha256(f"{listing} 25.0".encode())
    assert digest(PictureFolder("a", crops, None), fps=25.0) == sha256(f"{listing} 25.0".encode())
    assert digest(CropFolder("a", crops, film)) == "c5e4e9fe230d6fc55257bf85eff3d071a0bf71973ca76f45854d77ac1d8e074a"


def test_stills(crops):
    """Names in natural order and sizes; the frame rate is always 1.0."""
    listing = sha256(b"1.jpg\x0011\x0000002.png\x0012\x0000010.jpg\x0013\x00")
    assert digest(Stills("a", crops), fps=25.0) == sha256(f"{listing} 1.0".encode())
    assert digest(Stills("a", crops)) == "a99a75e76a1a8168440a16816ed4f802d949d1496471a6b561cdcf1c0179e8ac"


def test_clips(tmp_path):
    """Name and size of the file that the pictures are in, and the number of rows."""
    film, tensor = write_bytes(tmp_path / "a.mp4", 1000), write_bytes(tmp_path / "a.mp4.img.6.pt", 500)
    listing = sha256(b"a.mp4 1000 75")
    assert digest(Clip("a", film, film), fps=3.0) == sha256(f"{listing} 1000".encode())
    assert digest(Clip("a", film, film)) == "18b45a77c10be1731c8dfb7962d50b342faa8d3bc967d937d47ac5d91758bed8"
    of_tensor = Clip("a", tensor, None, n_frames=6)
    listing = sha256(b"a.mp4.img.6.pt 500 6")
    assert digest(of_tensor) == sha256(f"{listing} None".encode())
    assert digest(of_tensor, fps=15.0) == sha256(f"{listing} 15.0".encode())
    assert digest(of_tensor) == "37fd3e0b2cb11c54ecf0185e73354fe27cffc81a32bebe3249b8df0ac1c1fbee"


def test_sound(tmp_path):
    """The digest of the frames, then name and size of the file that the sound is in."""
    sound = write_bytes(tmp_path / "a.wav", 77)
    assert (
        sound_digest("0f", sound)
        == sha256(b"0f sound a.wav 77")
        == "aac043b10fe1f178be81410334632989924401ba111441dc0f042987b91d7f8b"
    )
    assert sound_digest("0f", None) == sha256(b"0f sound None None")
