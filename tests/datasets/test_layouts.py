"""Layouts of other distributions: found by their entry points, and named when they fail."""

import logging
import sys

import numpy as np
import pytest
from PIL import Image

from abaw.core import plugins
from abaw.core.errors import DataError
from abaw.datasets.layouts import look_through, open_dataset
from abaw.tests.support.plugins import write_distribution

PAIRS = """
from abaw.core.errors import DataError
from abaw.datasets.clips import Clip
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import Remark
from abaw.datasets.image_folders import CropFolder
from abaw.datasets.layouts import Layout

def open_pairs(root, fps):
    folders = sorted((root / "pairs").glob("*")) if (root / "pairs").is_dir() else []
    videos = tuple(CropFolder(folder.name, folder, None) for folder in folders)
    return Dataset(root, videos, (), fps, (Remark("pairs", "two of each", False),)) if videos else None

def open_films(root, fps):
    return Dataset(root, tuple(Clip(file.stem, file, file) for file in sorted(root.glob("videos/*.mp4"))), (), fps)

def fail(root, fps):
    raise KeyError("broken")

def give_a_list(root, fps):
    return ["a"]

def refuse(root, fps):
    raise DataError("pairs/b lacks its partner.")

PAIRS = Layout(open_pairs, "Pairs, with crops in pairs/")
FILMS = Layout(open_films)
FAILING = Layout(fail)
LISTING = Layout(give_a_list)
REFUSING = Layout(refuse)
"""


@pytest.fixture
def add_layout(tmp_path, monkeypatch):
    """Install a distribution that lists some of the objects above as layouts."""

    def forget() -> None:
        sys.modules.pop("pairs_layout", None)
        for cache in (plugins._loaded, plugins._named):
            for key in [key for key in cache if key[0] == "abaw.layouts"]:
                del cache[key]

    def install(**entries: str) -> None:
        listed = {name: f"pairs_layout:{value}" for name, value in entries.items()}
        write_distribution(tmp_path / "site", "abaw-pairs", "2.1", {"abaw.layouts": listed}, {"pairs_layout": PAIRS})
        monkeypatch.syspath_prepend(tmp_path / "site")
        forget()

    yield install
    forget()


@pytest.fixture
def data(tmp_path):
    """One video of Aff-Wild2, and two in pairs/."""
    for folder in ("cropped_aligned/a", "pairs/b", "pairs/c"):
        path = tmp_path / "data" / folder
        path.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path / "00001.jpg")
    return tmp_path / "data"


def test_built_in_layouts_are_listed_like_others(add_layout):
    from abaw.datasets.layouts import Layout

    add_layout(pairs="PAIRS")
    names = {plugin.name: plugin.source.split()[0] for plugin in plugins.load_group("abaw.layouts", Layout)}
    assert names == {
        **dict.fromkeys(("affwild2", "bah", "engagement", "lsd", "mtl", "tables", "vgaf", "violence"), "abaw"),
        "pairs": "abaw-pairs",
    }


def test_videos_and_remarks_of_another_layout(add_layout, data):
    assert [video.name for video in open_dataset(data).videos] == ["a"]
    add_layout(pairs="PAIRS")
    dataset = open_dataset(data)
    assert [video.name for video in dataset.videos] == ["a", "b", "c"]
    assert [remark.sentence for remark in dataset.remarks] == ["two of each"]


def test_a_video_file_of_crops_is_not_a_clip_as_well(add_layout, data):
    (data / "videos").mkdir()
    for name in ("a.mp4", "d.mp4"):
        (data / "videos" / name).write_bytes(b"film")
    add_layout(films="FILMS")
    assert [(video.name, video.path.name) for video in open_dataset(data).videos] == [("a", "a"), ("d", "d.mp4")]


def test_a_folder_of_nothing_lists_all_layouts(add_layout, tmp_path):
    (tmp_path / "empty").mkdir()
    add_layout(pairs="PAIRS")
    with pytest.raises(
        DataError, match=r"Aff-Wild2, with crops in .*; LSD, .*; VGAF, .*; Pairs, with crops in pairs/\.$"
    ):
        open_dataset(tmp_path / "empty")


def test_a_layout_that_fails_names_its_distribution(add_layout, data):
    add_layout(failing="FAILING")
    with pytest.raises(DataError, match=r"Layout failing of abaw-pairs 2\.1 failed on .*KeyError: 'broken'"):
        look_through(data)


def test_a_layout_that_gives_something_else_names_its_distribution(add_layout, data):
    add_layout(listing="LISTING")
    with pytest.raises(DataError, match=r"Layout listing of abaw-pairs 2\.1 failed on .*it gave a list, not a Dataset"):
        look_through(data)


def test_what_a_layout_says_of_the_data_is_passed_on(add_layout, data):
    add_layout(refusing="REFUSING")
    with pytest.raises(DataError, match=r"^pairs/b lacks its partner\.$"):
        look_through(data)


def test_a_name_that_is_taken_is_left_out_with_a_warning(add_layout, data, caplog):
    add_layout(affwild2="PAIRS")
    with caplog.at_level(logging.WARNING):
        assert [video.name for video in open_dataset(data).videos] == ["a"]
    assert len(caplog.messages) == 1 and "affwild2" in caplog.text and "abaw-pairs 2.1" in caplog.text
