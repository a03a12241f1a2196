"""Links in data, as git-annex, DataLad and DVC keep every file: what they lead to is read, and never written."""

import os
import wave
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from abaw.core.errors import DataError, UsageError
from abaw.core.tasks import TASKS
from abaw.datasets.frames import BrokenFrame, Frame
from abaw.datasets.layouts import look_through, open_dataset
from abaw.datasets.sound_files import find_sound_files, sound_file_of
from abaw.datasets.synth.clips_writer import _replace
from abaw.datasets.unread import find_unread
from abaw.evaluate.submission.formats import VideoList
from abaw.evaluate.submission.write import check_fits
from abaw.exchange.exporter import export_feature
from abaw.exchange.importer import ImportOptions, import_features
from abaw.extract.faces.layout import Files
from abaw.media.decoder import open_media
from abaw.media.images import read_image
from abaw.media.links import check_file, read_bytes
from abaw.media.sound import load_sound
from abaw.store import FeatureStore
from abaw.tests.support.stores import new_store, put_feature

VA = "VA_Estimation_Challenge"
A, B = (np.random.default_rng(seed).normal(size=(6, 4)).astype(np.float16) for seed in (1, 2))


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """A folder elsewhere, as `.git/annex/objects` and the cache of DVC are."""
    folder = tmp_path / "elsewhere" / "objects"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def move_away(away: Path) -> Callable[[Path], Path]:
    """Moves a file or folder away and leaves a link to it, `move_away(path)` -> where it is now."""

    def move(path: Path) -> Path:
        target = away / f"{len(list(away.iterdir()))}-{path.name}"
        path.rename(target)
        path.symlink_to(target if target.is_dir() else os.path.relpath(target, path.parent))
        return target

    return move


def contents(folder: Path) -> dict[str, bytes]:
    """What is in all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# one file


def test_a_file_and_a_link_to_it_are_files(tmp_path, away):
    (away / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to(away / "real")
    (tmp_path / "again").symlink_to("link")
    for path in (away / "real", tmp_path / "link", tmp_path / "again"):
        assert check_file(path) == path and read_bytes(path) == b"x"


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        (
            "../.git/annex/objects/0f/Kq/SHA256E-s4--1f.txt/SHA256E-s4--1f.txt",
            r"get it with `git annex get a\.txt` in its folder",
        ),
        ("/data/.dvc/cache/files/md5/ab/cd", r"get it with `dvc pull a\.txt` in its folder"),
        ("nowhere", r"get it with `git annex get` or `dvc pull`, or copy the file"),
    ],
)
@pytest.mark.parametrize("read", [check_file, read_bytes, read_image, open_media])
def test_a_link_to_nowhere_says_what_to_do(tmp_path, read, target, remedy):
    (tmp_path / "a.txt").symlink_to(target)
    with pytest.raises(
        DataError, match=rf"a\.txt is a broken link: it leads to {target}, which cannot be opened; {remedy}\.$"
    ):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("read", [check_file, read_bytes, read_image, open_media])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is a pipe, a socket or a device, where a file should be. Move it away."),
        (os.mkdir, "is a folder, where a file should be. Move it away."),
        (lambda path: path.symlink_to("/dev/zero"), "is a link to a pipe, a socket or a device"),
        (lambda path: path.symlink_to("."), "is a link to a folder, where a file should be"),
        (lambda path: path.symlink_to(path.name), "is a circular link. Delete it"),
        (lambda path: None, r"cannot be read (No such file or directory). Copy it again."),
    ],
    ids=["pipe", "folder", "device", "link to folder", "circle", "nothing"],
)
def test_what_is_no_file_is_not_opened(tmp_path, read, make, said):
    make(tmp_path / "a")
    with pytest.raises(DataError) as raised:
        read(tmp_path / "a")
    assert said in str(raised.value)


# a dataset


@pytest.fixture
def data(make_data, make_labels, numbered) -> Path:
    """Crops, labels, a video file and a sound file of one video."""
    root = make_data({"a": 3})
    make_labels(root, f"{VA}/Train_Set", "a", "valence,arousal", "0.5,0.25", "0,0", "-1,1")
    numbered.write(root / "videos" / "a.mp4", 3)
    (root / "audio").mkdir()
    with wave.open(str(root / "audio" / "a.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(np.full(1600, 8192, "<i2").tobytes())
    return root


def everything_of(root: Path) -> tuple[object, ...]:
    """All that is read of the one video of a dataset."""
    dataset = open_dataset(root)
    (video,), (label,) = dataset.videos, dataset.labels
    frames = dataset.open(video)
    pictures = [read_image(str(frames.file_of(row))) for row in frames.rows.tolist()]
    file = sound_file_of(video, find_sound_files(root), dataset.people)
    assert file is not None and file.suffix == ".wav"
    sound = load_sound(file)
    assert sound is not None
    return (
        *(video.name, np.stack(pictures).tolist(), label.read().tolist(), frames.clock()),
        *(frames.digest(), sound.waveform.read(0, 1600).tolist()),
    )


LINKED = {
    "label file": [f"{VA}/Train_Set/a.txt"],
    "folder of a split": [f"{VA}/Train_Set"],
    "folder of a challenge": [VA],
    "crops": [f"cropped_aligned/a/{number:05}.jpg" for number in (1, 2, 3)],
    "folder of a video": ["cropped_aligned/a"],
    "folder of all videos": ["cropped_aligned"],
    "video": ["videos/a.mp4"],
    "folder of video files": ["videos"],
    "sound": ["audio/a.wav"],
    "folder of sound": ["audio"],
}


@pytest.mark.parametrize("what", [*LINKED, "every file", "the data folder"])
def test_a_dataset_of_links_is_read_as_one_of_files(data, move_away, what):
    expected = everything_of(data)
    files = [str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()]
    for name in {**LINKED, "every file": files, "the data folder": ["."]}[what]:
        move_away((data / name) if name != "." else data)
    assert everything_of(data) == expected


def test_crops_and_labels_that_are_not_fetched_cost_no_more_than_themselves(data, move_away):
    for name in ("cropped_aligned/a/00002.jpg", f"{VA}/Train_Set/a.txt"):
        move_away(data / name).unlink()
    dataset = open_dataset(data)
    with pytest.raises(DataError, match=r"a\.txt is a broken link: "):
        dataset.labels[0].read()
    first, second, third = dataset.open(dataset.videos[0]).read(0, 3)
    assert isinstance(first, Frame) and isinstance(third, Frame)
    assert first.image.shape == third.image.shape == (112, 112, 3)
    assert isinstance(second, BrokenFrame) and "00002.jpg is a broken link: " in second.reason


def test_folders_of_crops_that_are_not_fetched_are_told(data, move_away):
    move_away(data / "cropped_aligned" / "a").rename(data.parent / "gone")
    (found,) = (one for one in find_unread(look_through(data)) if one.folder == "cropped_aligned")
    assert found.sentence == ("cropped_aligned/a: a broken link: get its target with `git annex get` or `dvc pull`")


def test_extraction_reads_links_and_changes_nothing_behind_them(data, move_away, away, run_cli, tmp_path):
    for path in [path for path in data.rglob("*") if path.is_file()]:
        move_away(path)
    before = contents(away)
    done = run_cli("extract", "--backbone", "hog", "--data", data, "--store", tmp_path / "s.zarr", "--device", "cpu")
    assert done.exit_code == 0
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert store.read("hog", "a").present.tolist() == [True] * 3
    np.testing.assert_array_equal(store.labels("va")["a"].rows, np.array([[0.5, 0.25], [0, 0], [-1, 1]], np.float32))
    assert contents(away) == before


# imports


def write_frames(source: Path) -> None:
    for video, values in (("a", A), ("b", B)):
        (source / video).mkdir(parents=True)
        for number, row in enumerate(values, 1):
            np.save(source / video / f"{number:05}.npy", row)


def write_arrays(source: Path) -> None:
    source.mkdir()
    for video, values in (("a", A), ("b", B)):
        np.save(source / f"{video}.npy", values)
        np.save(source / f"{video}.present.npy", np.ones(len(values), bool))


def write_archives(source: Path) -> None:
    source.mkdir()
    np.savez(source / "a.npz", values=A)
    np.savez(source / "b.npz", values=B)


def write_h5(source: Path) -> None:
    source.mkdir()
    for video, values in (("a", A), ("b", B)):
        with h5py.File(source / f"{video}.h5", "w") as file:
            file["values"] = values


def write_table(source: Path) -> None:
    source.mkdir()
    np.save(source / "features.npy", np.concatenate([A, B]))
    lines = [f"{video},{number}" for video in "ab" for number in range(1, 7)]
    (source / "features.csv").write_text("\n".join(["video,frame", *lines]))


def write_tensors(source: Path) -> None:
    source.mkdir()
    torch.save(torch.from_numpy(A), source / "a.pt")
    torch.save(torch.from_numpy(B), source / "b.pt")


LAYOUTS = [write_frames, write_arrays, write_archives, write_h5, write_table, write_tensors]


def imported(source: Path):
    return import_features(ImportOptions(source, source.parent / "store.zarr", "f", fps=25.0))


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("what", ["files", "folders"])
def test_imports_of_links_are_those_of_files(tmp_path, move_away, away, write, what):
    source = tmp_path / "source"
    write(source)
    linked = [path for path in source.rglob("*") if path.is_file()]
    for path in linked if what == "files" else [*(path for path in source.iterdir() if path.is_dir()), source]:
        move_away(path)
    before = contents(away)
    summary = imported(source)
    assert summary.ok and summary.done == ["a", "b"]
    store = FeatureStore.open(tmp_path / "store.zarr")
    np.testing.assert_array_equal(store.read("f", "a").values, A)
    np.testing.assert_array_equal(store.read("f", "b").values, B)
    assert contents(away) == before
    assert imported(source).skipped == ["a", "b"]


@pytest.mark.parametrize("write", [one for one in LAYOUTS if one is not write_table], ids=lambda write: write.__name__)
def test_a_broken_link_costs_its_video(tmp_path, move_away, write):
    source = tmp_path / "source"
    write(source)
    first = min(path for path in source.rglob("*") if path.is_file())
    move_away(first).unlink()
    summary = imported(source)
    assert summary.done == ["b"] and list(summary.failed) == ["a"]
    assert f"{first} is a broken link: " in summary.failed["a"]


@pytest.mark.parametrize("name", ["features.npy", "features.csv"])
def test_a_broken_link_of_a_table_is_not_taken_for_another_layout(tmp_path, move_away, name):
    write_table(tmp_path / "source")
    move_away(tmp_path / "source" / name).unlink()
    try:
        said = imported(tmp_path / "source").failed["features"]
    except DataError as error:
        said = str(error)
    assert f"{name} is a broken link: " in said


def test_folders_that_are_not_fetched_are_told(tmp_path, move_away):
    source = tmp_path / "source"
    write_frames(source)
    move_away(source / "b").rename(tmp_path / "gone")
    summary = imported(source)
    assert summary.done == ["a"] and "b is a broken link: " in summary.failed["b"]
    move_away(source / "a").rename(tmp_path / "gone too")
    with pytest.raises(DataError, match="a is a broken link: "):
        imported(source)


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_pipes_among_imports_are_not_waited_for(tmp_path, write):
    source = tmp_path / "source"
    write(source)
    first = min(path for path in source.rglob("*") if path.is_file())
    first.unlink()
    os.mkfifo(first)
    try:
        said = next(iter(imported(source).failed.values()))
    except DataError as error:
        said = str(error)
    assert f"{first} is a pipe, a socket or a device" in said


def test_a_source_may_be_a_link_to_a_file_of_another_name(tmp_path, away):
    with h5py.File(away / "MD5E-s1--0f", "w") as file:
        file["a/values"], file["b/values"] = A, B
    (tmp_path / "all.H5").symlink_to(away / "MD5E-s1--0f")
    assert imported(tmp_path / "all.H5").done == ["a", "b"]


# nothing is written through


def test_an_export_does_not_follow_the_link_in_its_place(tmp_path, away):
    store = new_store(tmp_path / "store.zarr", {"f": (4,)})
    put_feature(store, "f", "a", A)
    (away / "kept").write_bytes(b"kept")
    for form in ("h5", "npy"):
        (tmp_path / "out").symlink_to(away / "kept")
        with pytest.raises(UsageError, match="out already exists and is not overwritten"):
            export_feature(store, "f", tmp_path / "out", form)
        (tmp_path / "out").unlink()
        (tmp_path / "out.partial").symlink_to(away / "kept")
        export_feature(store, "f", tmp_path / "out", form)
        (tmp_path / "out").rename(tmp_path / f"done.{form}")
    assert contents(away) == {"kept": b"kept"}


def test_a_store_replaces_a_link_and_leaves_its_target(tmp_path, away):
    store = new_store(tmp_path / "store.zarr", {"f": (4,)})
    put_feature(store, "f", "a", A)
    for path in [path for path in (tmp_path / "store.zarr" / "features" / "f" / "a").rglob("*") if path.is_file()]:
        target = away / f"{len(list(away.iterdir()))}"
        path.rename(target)
        path.symlink_to(target)
    before = contents(away)
    np.testing.assert_array_equal(store.read("f", "a").values, A)
    put_feature(store, "f", "a", B)
    np.testing.assert_array_equal(FeatureStore.open(tmp_path / "store.zarr").read("f", "a").values, B)
    assert contents(away) == before


@pytest.mark.parametrize("target", ["kept", "folder", "nowhere"])
def test_a_submission_does_not_follow_the_link_in_its_place(tmp_path, away, target):
    (away / "kept").write_bytes(b"kept")
    (away / "folder").mkdir()
    (tmp_path / "out").symlink_to(away / target)
    with pytest.raises(UsageError, match=r"out exists\. Delete it, or choose another path, such as --out \S+out-2\."):
        check_fits(TASKS["va"], VideoList(tmp_path / "videos.txt", ("a",)), tmp_path / "out")
    assert contents(away) == {"kept": b"kept"}


def test_synthetic_clips_replace_a_link_and_leave_its_target(tmp_path, away):
    (away / "kept").write_bytes(b"kept")
    (tmp_path / "Positive_labels.txt").symlink_to(away / "kept")
    _replace(tmp_path, "Positive_labels.txt", lambda path: path.write_text("new"))
    assert (tmp_path / "Positive_labels.txt").read_text() == "new" and contents(away) == {"kept": b"kept"}


@pytest.mark.parametrize("name", ["cropped_aligned", "audio", "faces", "videos"])
def test_prepare_does_not_write_where_the_link_of_a_folder_leads(tmp_path, away, numbered, name):
    film = numbered.write(tmp_path / "a.mp4", 2)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(away)
    with pytest.raises(
        DataError, match=rf"{name} is a link, and nothing is written through one\. Put a folder in its place"
    ):
        Files(tmp_path / "data", film).begin()
    assert contents(away) == {}
