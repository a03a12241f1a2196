"""Extraction takes any source of frames: one of another distribution, which shares no class with ours."""

import sys

import numpy as np
import pytest
import torch

from abaw.backbones.backbone import create_backbone
from abaw.core import plugins
from abaw.core.records import MIXED, PREPARED
from abaw.datasets.doctor import examine
from abaw.datasets.layouts import open_dataset
from abaw.evaluate.submission.write import locate_stills
from abaw.extract.crop_alignment import Alignments
from abaw.extract.reader import FRAMES_PER_PIECE, pieces_of
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore
from abaw.tests.support.plugins import write_distribution

NOISE = '''
"""Videos of noise: <name>.noise holds the number of frames, of which every third is broken."""

import hashlib
from pathlib import Path

import numpy as np

from abaw.core.clock import Clock
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import BrokenFrame, Frame
from abaw.datasets.layouts import Layout
from abaw.media.frame_times import regular_times


def draw(name, row):
    return np.random.default_rng([*name.encode(), row]).integers(0, 256, (112, 112, 3), dtype=np.uint8)


class NoiseFrames:
    alignment, has_time_axis, file = "whole", True, None

    def __init__(self, path, fps):
        self.name, self.path, self.fps = path.stem, path, fps or 20.0
        self.n_frames = int(path.read_text())
        self.divisible = self.n_frames < 50
        self.rows = np.arange(self.n_frames)

    def size(self):
        return self.n_frames

    def people(self):
        return (self.name,)

    def digest(self):
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def content(self):
        return ""

    def has_content(self, content):
        return True

    def clock(self):
        return Clock(self.fps, self.n_frames)

    def times(self):
        return regular_times(self.n_frames, self.fps)

    def read(self, start, stop):
        for row in range(start, stop):
            yield BrokenFrame(row, f"{self.name} {row} is broken") if row % 3 == 2 else Frame(row, draw(self.name, row))

    def file_of(self, row):
        return None

    def remarks(self):
        return []

    def why_empty(self):
        return f"{self.path} has no frames."


class NoiseVideo:
    def __init__(self, path):
        self.name, self.path, self.file = path.stem, path, None

    def open(self, fps, people):
        return NoiseFrames(self.path, fps)


def open_noise(root: Path, fps):
    videos = tuple(map(NoiseVideo, sorted(root.glob("*.noise"))))
    return Dataset(root, videos, (), fps) if videos else None


NOISE = Layout(open_noise, "noise")
'''
N_FRAMES = {"few": 40, "many": 70}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Videos of noise, and the layout that reads them."""
    entries = {"abaw.layouts": {"noise": "noise_layout:NOISE"}}
    write_distribution(tmp_path / "site", "abaw-noise", "1.0", entries, {"noise_layout": NOISE})
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_named", {})
    for name, n_frames in N_FRAMES.items():
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.noise").write_text(str(n_frames))
    yield tmp_path / "data"
    sys.modules.pop("noise_layout", None)


def test_features_of_a_source_of_another_distribution(data, tmp_path):
    options = ExtractOptions(data, tmp_path / "store.zarr", ("hog",), device="cpu", batch_size=16)
    summary = extract(options)
    assert sorted(summary.done) == ["few", "many"] and not (summary.failed or summary.stopped)
    assert len(summary.broken_frames) == sum(n // 3 for n in N_FRAMES.values())
    from noise_layout import draw

    store, hog = FeatureStore.open(tmp_path / "store.zarr"), create_backbone("hog")
    for name, n_frames in N_FRAMES.items():
        video = store.read("hog", name)
        rows = np.flatnonzero(np.arange(n_frames) % 3 != 2)
        assert np.flatnonzero(video.present).tolist() == rows.tolist() and len(video.present) == n_frames
        images = torch.from_numpy(np.stack([draw(name, row) for row in rows]))
        np.testing.assert_allclose(video.values[rows], hog(hog.preprocess(images)).numpy(), atol=1e-3)
    again = extract(options)
    assert sorted(again.skipped) == ["few", "many"] and not again.done and len(again.broken_frames) == 36


def test_what_is_not_divisible_is_read_in_one_piece(data):
    dataset = open_dataset(data)
    pieces = [(piece.source.name, piece.start, piece.stop) for piece in pieces_of(map(dataset.open, dataset.videos))]
    assert FRAMES_PER_PIECE == 32
    assert pieces == [("few", 0, 32), ("few", 32, 40), ("many", 0, 70)]


def test_pictures_that_are_no_crops_of_faces_have_no_say_in_the_alignment(make_crops, tmp_path):
    data = tmp_path / "faces-and-images"
    make_crops(data / "cropped_aligned/a", 2)
    make_crops(data / "validation_set_real_images/FEAR", 2)
    (data / "faces").mkdir()
    (data / "faces/a.json").write_text('{"people": ["a"]}')
    dataset = open_dataset(data)
    assert {video.name for video in dataset.videos} == {"a", "val-fear"}
    assert Alignments.of(dataset).alignment == PREPARED
    make_crops(data / "cropped_aligned/b", 2)
    assert Alignments.of(open_dataset(data)).alignment == MIXED


def test_frames_of_videos_are_not_found_by_their_names(make_crops, tmp_path):
    data, store = tmp_path / "data", FeatureStore.create(tmp_path / "store.zarr")
    make_crops(data / "cropped_aligned/test", 1)
    assert locate_stills(data, store, (), ("test", "val-fear")) == {}
    make_crops(data / "validation_set_real_images/FEAR", 2)
    images = {"00001.jpg": ("val-fear", 0), "00002.jpg": ("val-fear", 1)}
    assert locate_stills(data, store, (), ("test", "val-fear")) == images


def test_doctor_warns_of_a_clip_that_is_cut_off_and_does_not_list_its_rows(numbered, tmp_path):
    (tmp_path / "Train_labels.txt").write_text("Vid_name Label\n1_1 1\n")
    file = numbered.write(tmp_path / "Train" / "1_1.mp4", n_frames=150)
    content = file.read_bytes()
    half = (content.index(b"mdat") + len(content)) // 2
    file.write_bytes(content[:half] + bytes(len(content) - half))
    (report,) = examine(open_dataset(tmp_path))
    assert report.errors == () and "1_1.mp4 is cut off" in report.warnings[0]
