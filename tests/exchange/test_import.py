"""Import of features that people already have: every layout, what is refused, and going on after an interruption."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from abaw.core.errors import DataError, StoreError, UsageError
from abaw.core.progress import Silent
from abaw.exchange.importer import ImportOptions, import_features
from abaw.exchange.index import read_table
from abaw.media.probe import probe_timing
from abaw.store import FeatureStore

VA = "VA_Estimation_Challenge/Train_Set"
N, WIDTH = 9, 4
MISSING = (2, 5)  # frame numbers of video `a` that no layout has
THERE = np.array([number not in MISSING for number in range(1, N + 1)])


def draw(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float16)


A, B = draw(1), draw(2)
VIDEOS = {"a": (A, THERE), "b": (B, np.ones(N, dtype=bool))}


def write_frames(source: Path) -> None:
    for video, (values, present) in VIDEOS.items():
        (source / video).mkdir(parents=True)
        for row in np.flatnonzero(present):
            # both forms: (1, D) and (D,)
            np.save(source / video / f"{row + 1:05}.npy", values[row : row + 1] if row % 2 else values[row])


def write_npz(source: Path) -> None:
    source.mkdir()
    np.savez(source / "a.npz", values=A, present=THERE)
    np.savez_compressed(source / "b.npz", anything=np.asfortranarray(B))


def write_npz_with_numbers(source: Path) -> None:
    source.mkdir()
    order = np.array([6, 0, 2, 8, 7, 3, 5])  # rows that are there, shuffled
    np.savez(source / "a.npz", values=A[order], frames=order + 1)
    np.savez(source / "b.npz", values=B)


def write_h5(source: Path) -> None:
    source.mkdir()
    for video, (values, present) in VIDEOS.items():
        with h5py.File(source / f"{video}.h5", "w") as file:
            file["values"], file["present"] = values, present


def write_h5_groups(source: Path) -> None:
    source.mkdir()
    with h5py.File(source / "all.hdf5", "w") as file:
        for video, (values, present) in VIDEOS.items():
            file[f"{video}/values"] = values[present]
            file[f"{video}/frames"] = np.flatnonzero(present) + 1


def write_table(source: Path, line: str = "{video},{frame}", header: str = "video,frame") -> None:
    source.mkdir()
    rows = [(video, row) for video, (_, present) in VIDEOS.items() for row in np.flatnonzero(present)]
    np.random.default_rng(0).shuffle(rows)
    rows = [(str(video), int(row)) for video, row in rows]
    np.save(source / "features.npy", np.stack([VIDEOS[video][0][row] for video, row in rows]))
    lines = [line.format(video=video, frame=row + 1) for video, row in rows]
    (source / "features.csv").write_text("\n".join([header, *lines]) + "\n")


def write_table_of_images(source: Path) -> None:
    write_table(source, "7,{video}/{frame:05}.jpg", "id,image")


def write_parts(
    source: Path, first: int = 0, image: str = "/data/crops/{video}/{number:05}.jpg", name: str = "train"
) -> None:
    """As Situ-RUCAIM3 keep them: rows of the table in the order of time, rows of the parts in another order.

    Args:
        first: `frame_idx` of the first frame of a video.
    """
    source.mkdir(exist_ok=True)
    rows = [(video, int(row)) for video, (_, present) in VIDEOS.items() for row in np.flatnonzero(present)]
    places = np.random.default_rng(0).permutation(len(rows))
    values = np.empty((len(rows), WIDTH), np.float16)
    lines = ["main_idx,vn,frame_idx,img_path,embedd_idx"]
    for line, (place, (video, row)) in enumerate(zip(places.tolist(), rows, strict=True)):
        values[place] = VIDEOS[video][0][row]
        lines.append(f"{line},{video},{row + first},{image.format(video=video, number=row + 1)},{place}")
    for number, part in enumerate(np.split(values, [3, 9, 10])):
        np.save(source / f"{name}_{number}.npy", part)
    (source / f"{name}.csv").write_text("\n".join(lines) + "\n")


def write_parts_of_names(source: Path) -> None:
    """As Situ-RUCAIM3's loader reads them: row k of the table names row k of all parts, in the order of their names."""
    source.mkdir()
    rows = [(video, int(row)) for video, (_, present) in VIDEOS.items() for row in np.flatnonzero(present)]
    rows = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    values = np.stack([VIDEOS[video][0][row] for video, row in rows])
    parts = dict(zip(sorted(map(str, range(11))), np.array_split(values, 11), strict=True))
    for number, part in parts.items():
        np.save(source / f"train_{number}.npy", part)
    lines = [f"{k},{video}/{row + 1:05}" for k, (video, row) in enumerate(rows)]
    (source / "train.csv").write_text("\n".join([",embedd_idx", *lines]) + "\n")


def write_fts(source: Path) -> None:
    """As Situ-RUCAIM3's co-author keeps them: frames without a face repeat another frame's features, or have zeros."""
    source.mkdir()
    with h5py.File(source / "train_FAU.h5", "w") as file:
        file["a/fts"] = np.where(THERE[:, None], A, A[np.flatnonzero(THERE)[0]])
        file["a/pad"] = (~THERE).astype(np.int64)
        file["b/fts"], file["b/valid"] = B, np.ones(N, np.int32)


def write_arrays(source: Path) -> None:
    source.mkdir()
    np.save(source / "a.npy", A)
    np.save(source / "a.present.npy", THERE)
    np.save(source / "b.npy", B)


LAYOUTS = [
    *(write_frames, write_npz, write_npz_with_numbers, write_h5, write_h5_groups),
    *(write_table, write_table_of_images, write_parts, write_parts_of_names, write_fts, write_arrays),
]


def run(source: Path, feature: str = "f", reporter: Silent | None = None, **options: object):
    values = {"store": source.parent / "store.zarr", "fps": 25.0, **options}
    return import_features(ImportOptions(source, feature=feature, **values), reporter)  # type: ignore[arg-type]


def opened(source: Path) -> FeatureStore:
    return FeatureStore.open(source.parent / "store.zarr")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


# layouts


@pytest.mark.parametrize(
    ("first", "image"),
    [(1, "{video}/{number:05}.jpg"), (0, "{number}.png"), (0, ""), (1, "nan"), (0, "c:\\\\{video}\\\\{number}.jpg")],
)
def test_frames_of_parts_count_from_1(source, first, image):
    """By the numbers of their images; without these from 0 if there is a 0."""
    write_parts(source, first, image)
    (source / "train_seq.csv").write_text("start,end\n0,250\n")
    summary = run(source)
    assert (
        summary.ok
        and len(summary.warnings) == 1
        and "train_seq.csv is not read: it lists windows" in summary.warnings[0]
    )
    found = opened(source).read("f", "a")
    np.testing.assert_array_equal(found.present, THERE)
    np.testing.assert_array_equal(found.values[THERE], A[THERE])


def test_images_say_where_frames_count_from_if_the_first_ones_are_missing(source):
    write_parts(source)
    table = source / "train.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if line.split(",")[2] != "0"))
    assert run(source).ok
    found = opened(source).read("f", "b")
    np.testing.assert_array_equal(found.present, np.arange(N) > 0)
    np.testing.assert_array_equal(found.values[1:], B[1:])


def test_parts_of_two_splits_lie_in_one_folder(source, monkeypatch):
    write_parts(source)
    monkeypatch.setattr(sys.modules[__name__], "VIDEOS", {"c": (B[::-1], VIDEOS["b"][1])})
    write_parts(source, name="val")
    assert run(source).done == ["a", "b", "c"]
    np.testing.assert_array_equal(opened(source).read("f", "c").values, B[::-1])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda source: (source / "train_1.npy").unlink(), "train_1.npy is missing next to train_0.npy"),
        (lambda source: np.save(source / "train.npy", np.zeros((1, 4))), "train.npy is next to parts of an array"),
        (lambda source: np.save(source / "train_01.npy", np.zeros((1, 4))), "01.npy is next to parts of an array"),
        (
            lambda source: (source / "train_3.npy").unlink(),
            r"has `embedd_idx` 15, but train_0.npy to train_2.npy have 10",
        ),
        (
            lambda source: np.save(source / "train_2.npy", np.zeros((1, 5))),
            r"rows of shape \(5,\), train_0.npy of \(4,\)",
        ),
        (lambda source: change_cell(source, 3, -1, "9999"), "has `embedd_idx` 9999, but"),
        (lambda source: change_cell(source, 3, -1, "-2"), "line 3: `embedd_idx` is '-2', not a row from 0"),
        (lambda source: repeat_place(source), "more than once; it should count the rows of train_0.npy to train_3.npy"),
        (lambda source: change_cell(source, 3, 2, "7"), "the number in `img_path` minus `frame_idx` is"),
        (
            lambda source: change_cell(source, 2, -1, "a/00001"),
            "line 3: `embedd_idx` should be <video>/00001.jpg, found",
        ),
    ],
)
def test_parts_that_do_not_fit_their_table_are_refused(source, spoil, sentence):
    write_parts(source)
    spoil(source)
    with pytest.raises(DataError, match=sentence):
        run(source)


def change_cell(source: Path, line: int, column: int, text: str) -> None:
    lines = [cells.split(",") for cells in (source / "train.csv").read_text().splitlines()]
    lines[line - 1][column] = text
    (source / "train.csv").write_text("\n".join(map(",".join, lines)) + "\n")


def repeat_place(source: Path) -> None:
    change_cell(source, 3, -1, (source / "train.csv").read_text().splitlines()[3].rpartition(",")[2])


def test_groups_inside_groups_are_refused_by_name(tmp_path, run_cli):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["train/a/values"], file["train/b/values"] = A, B
    done = run_cli("store", "import", tmp_path / "all.h5", "--feature", "f", "--store", tmp_path / "s.zarr")
    assert done.exit_code == 1 and "No feature store" not in done.output
    sentence = "all.h5/train holds groups, such as 'a', and no array. A file has an array `values` (frames, D)"
    assert sentence in " ".join(done.output.split()).replace("\n", " ")


def test_a_table_of_parts_that_is_a_broken_link_is_no_list_of_videos(source):
    write_parts(source)
    (source / "train.csv").unlink()
    (source / "train.csv").symlink_to(source / "elsewhere.csv")
    with pytest.raises(DataError, match="broken link"):
        run(source)


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_layout_gives_the_same_feature(source, write):
    write(source)
    summary = run(source)
    assert summary.ok and summary.done == ["a", "b"] and summary.n_frames == THERE.sum() + N
    store = opened(source)
    assert store.feature_attrs("f")["spec"]["shape"] == [WIDTH]
    for video, (values, present) in VIDEOS.items():
        found = store.read("f", video)
        assert found.values.dtype == np.float16 and found.fps == 25
        np.testing.assert_array_equal(found.present, present)
        np.testing.assert_array_equal(found.values[present], values[present])
        assert not found.values[~present].any()
    assert run(source).skipped == ["a", "b"]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.from_numpy(A),
        torch.from_numpy(A).bfloat16(),
        torch.arange(N * WIDTH).reshape(N, WIDTH),
        torch.rand(N, 2, 3),
    ],
    ids=["half", "bfloat16", "int", "deep"],
)
@pytest.mark.parametrize("is_old_form", [False, True])
def test_tensors(source, tensor, is_old_form):
    source.mkdir()
    torch.save(tensor, source / "v.pt", _use_new_zipfile_serialization=not is_old_form)
    assert run(source).ok
    found = opened(source).read("f", "v")
    np.testing.assert_array_equal(found.values, tensor.to(torch.float16).numpy())
    assert found.present.all() and found.fps == 25


def write_clips(source: Path, kind: str = "img") -> None:
    source.mkdir()
    for name in ("x.mp4", "y.synt"):
        for n in (5, 15):
            torch.save(torch.full((n, WIDTH), float(n)), source / f"{name}.{kind}.{n}.pt")


def test_clips_take_the_largest_number_of_rows_or_the_one_asked_for(source):
    write_clips(source)
    assert run(source, "most").done == ["x", "y"]
    assert run(source, "five", n_rows=5).done == ["x", "y"]
    store = opened(source)
    assert store.read("most", "x").values.shape == (15, WIDTH) and store.read("five", "y").values.shape == (5, WIDTH)
    refused = run(source, "seven", n_rows=7)
    assert refused.failed["x"] == "no tensor has 7 rows; there are tensors with 5, 15; choose with --n-frames"


def test_clips_are_spread_over_their_duration(source):
    write_clips(source)
    summary = run(source, fps=None)
    assert opened(source).read("f", "x").fps == 3  # 15 rows in 5 s
    assert "2 videos, no video file: clips of 5 s assumed; set it with --fps" in summary.warnings


def test_spectrograms_are_sound(source):
    source.mkdir()
    torch.save(torch.rand(3, 1, 128, 128), source / "x.mp4.spec.3.pt")
    assert run(source).ok
    spec = opened(source).feature_attrs("f")["spec"]
    assert (spec["modality"], spec["shape"]) == ("audio", [1, 128, 128])


def test_one_layout_at_a_time(source):
    write_arrays(source)
    np.savez(source / "c.npz", values=A)
    with pytest.raises(UsageError, match=r"contains one \.npz or \.h5 per video and one \.npy per video; cannot"):
        run(source)
    clips = source.parent / "clips"
    write_clips(clips)
    torch.save(torch.rand(2, 3), clips / "x.mp4.spec.2.pt")
    with pytest.raises(UsageError, match=r"holds \.img\. and \.spec\. tensors"):
        run(clips)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_text("no"), lambda path: None])
def test_no_known_layout(source, make):
    make(source)
    with pytest.raises(
        DataError, match=r"no known layout \(<video>/00001\.npy, <video>\.npz|source does not exist\. Choose"
    ):
        run(source)
    assert not (source.parent / "store.zarr").exists()


# values


def test_values_that_need_float32_get_it(source):
    source.mkdir()
    values = np.array([[1.0, 2.0], [1e5, 0.1]], dtype=np.float64)
    np.save(source / "v.npy", values)
    assert run(source).ok
    np.testing.assert_array_equal(opened(source).read("f", "v").values, values.astype(np.float32))


def test_frames_that_are_not_finite_are_left_out_and_counted(source):
    source.mkdir()
    values = draw(3).astype(np.float64)
    values[3, 1], values[5, 0], values[8, 3] = np.nan, -np.inf, 1e39  # the last one is beyond float32
    np.savez(source / "v.npz", values=values)
    np.savez(source / "w.npz", values=np.full((2, WIDTH), np.nan))
    summary = run(source)
    assert summary.failed == {"w": "all of its frames have values that are not finite"} and summary.n_frames == 6
    (said,) = summary.warnings
    assert said == "v: 3 of 9 frames are left out because their values are not finite; the first is frame 4"
    found = opened(source).read("f", "v")
    assert np.flatnonzero(~found.present).tolist() == [3, 5, 8]
    assert opened(source).incomplete("f") == []


# what is refused, one video at a time


def npy(**arrays: np.ndarray):
    return lambda source: [np.save(source / f"{name}.npy", array) for name, array in arrays.items()]


def npz(**arrays: np.ndarray):
    return lambda source: np.savez(source / "bad.npz", **arrays)


def h5(**arrays: np.ndarray):
    def write(source: Path) -> None:
        with h5py.File(source / "bad.h5", "w") as file:
            for name, array in arrays.items():
                file[name] = array

    return write


def tensor(value: object):
    return lambda source: torch.save(value, source / "bad.pt")


REFUSED = {
    "pickled array": (npy(bad=np.array([{}, {}])), "holds pickled objects, which are not read"),
    "pickled archive": (npz(values=np.array([[None]])), "holds pickled objects, which are not read"),
    "a bare pickle": (lambda s: (s / "bad.npy").write_bytes(pickle.dumps([1])), "is not a NumPy array, or is cut off"),
    "text": (npy(bad=np.array([["x", "y"]])), "holds values of type <U1; features are numbers"),
    "flat": (npy(bad=np.ones(5)), r"should hold an array \(frames, values\)"),
    "no width": (npz(values=np.ones((5, 0))), "with 1 to 1,000,000 values per frame"),
    "empty": (npz(values=np.ones((0, WIDTH))), "has no frames"),
    "wide": (npy(bad=np.ones((3, WIDTH + 1))), r"its frames have the shape \[5\], feature 'f' has \[4\]"),
    "which array": (npz(x=A, y=A), "should have an array `values`, or only one; found x, y"),
    "twice": (npz(values=A[:3], frames=np.array([1, 7, 7])), "has frame 7 more than once"),
    "frame 0": (npz(values=A[:2], frames=np.array([0, 1])), "has a frame number 0; frames are numbered from 1"),
    "negative": (h5(values=A[:2], frames=np.array([-3, 1])), "has a frame number -3"),
    "absurd": (
        h5(values=A[:2], frames=np.array([1, 10_000_001])),
        "has a frame number 10000001; the largest allowed is 10,000,000",
    ),
    "too few rows for its last frame": (
        npz(values=A[:2], frames=np.array([1, 500_001])),
        "bad.npz has frame 500,001, and 2 rows in all; with so few, the last frame can be 500,000",
    ),
    "numbers for other rows": (npz(values=A, frames=np.arange(3)), "`frames` should be 9 frame numbers"),
    "fractions": (npz(values=A, frames=np.ones(N)), "`frames` should be 9 frame numbers.*found float64"),
    "mask of text": (h5(values=A, present=[b"x"] * N), "`present` should be 9 truth values"),
    "no dataset": (h5(), "should have an array `values`, or only one; found none"),
    "no HDF5": (
        lambda s: (s / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 50),
        "is not an HDF5 file, or is cut off",
    ),
    "no archive": (lambda s: (s / "bad.npz").write_bytes(b"PK\3\4 no"), r"is not a \.npz archive, or is cut off"),
    "code": (tensor(np.random.default_rng()), "holds more than a tensor and is not opened"),
    "a dict": (tensor({"x": torch.ones(2, 2)}), "holds a dict, not a dense tensor"),
    "complex": (tensor(torch.ones(2, 2, dtype=torch.complex64)), "holds values of type torch.complex64"),
    "no tensor": (lambda s: (s / "bad.pt").write_bytes(b"nothing"), "bad.pt"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_video_is_refused_in_a_sentence_and_the_others_go_on(source, case):
    write, said = REFUSED[case]
    source.mkdir()
    write(source)
    (bad,) = source.iterdir()
    good = A[:, None].mean(1)
    if bad.suffix == ".pt":
        torch.save(torch.from_numpy(good), source / "a.pt")
    elif bad.suffix == ".npy":
        np.save(source / "a.npy", good)
    else:
        np.savez(source / "a.npz", values=good)
    summary = run(source)
    assert summary.done == ["a"] and list(summary.failed) == ["bad"] and not summary.ok
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(summary.failed["bad"])
    assert "\n" not in summary.failed["bad"]
    store = opened(source)
    assert list(store.videos("f")) == ["a"] and store.incomplete("f") == []


FRAME_FILES = {
    "pickled": ("00009.npy", lambda: np.array([{}]), "holds pickled objects"),
    "other width": ("00009.npy", lambda: np.ones(WIDTH + 1), r"has float64 values of shape \(5,\), others have \(4,\)"),
    "frame 0": ("0.npy", lambda: A[0], "has a frame number 0"),
    "twice": ("1.npy", lambda: A[0], "has frame 1 more than once"),
    "absurd": ("10000001.npy", lambda: A[0], "has a frame number 10000001"),
    "no number": ("-1.npy", lambda: A[0], "'-1' is not a frame number from 1"),
}


@pytest.mark.parametrize("case", FRAME_FILES)
def test_a_bad_file_of_one_frame_costs_its_video(source, case):
    name, make, said = FRAME_FILES[case]
    write_frames(source)
    np.save(source / "b" / name, make())
    summary = run(source)
    assert summary.done == ["a"] and list(summary.failed) == ["b"]
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(summary.failed["b"])
    assert opened(source).incomplete("f") == []


def test_a_file_that_is_cut_off(source):
    write_frames(source)
    file = source / "b" / "00009.npy"
    file.write_bytes(file.read_bytes()[:-1])
    assert "00009.npy is cut off" in run(source).failed["b"]
    other = source.parent / "other"
    write_npz(other)
    content = bytearray((other / "a.npz").read_bytes())
    start = content.find(A.tobytes())
    content[start] ^= 1  # one bit: the archive has checksums
    (other / "a.npz").write_bytes(content)
    assert "CRC" in run(other, "g").failed["a"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "..", ".hidden", "__x", "", "a\\b"])
def test_names_that_would_escape(source, name):
    write_table(source)
    with (source / "features.csv").open("a") as stream:
        stream.write(f'"{name}",1\n')
    np.save(source / "features.npy", np.concatenate([np.load(source / "features.npy"), A[:1]]))
    before = sorted(path.name for path in source.parent.iterdir())
    summary = run(source)
    assert summary.done == ["a", "b"] and list(summary.failed) == [name]
    assert "cannot be the name of a video" in summary.failed[name]
    assert sorted(path.name for path in source.parent.iterdir()) == [*before, "store.zarr"]


def test_a_table_that_cannot_be_opened_is_not_said_to_be_of_another_form(tmp_path):
    with pytest.raises(DataError, match=r" is a folder, where a file should be\. Move it away\."):
        read_table(tmp_path)
    (tmp_path / "a.csv").write_bytes("vidéo,frame\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"cannot be read as a table \(.*\)\. Save it as CSV in UTF-8"):
        read_table(tmp_path / "a.csv")


def test_tensors_that_repeat_their_values(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name, is_old_form in (("new", False), ("old", True)):
        tensor = torch.arange(4.0)[:, None].expand(4, 3)
        torch.save(tensor, source / f"{name}.pt", _use_new_zipfile_serialization=not is_old_form)
    torch.save(torch.ones(1).expand(10**12, 3), source / "bad.pt")
    summary = run(source)
    assert summary.done == ["new", "old"]
    for name in summary.done:
        values = FeatureStore.open(tmp_path / "store.zarr").read("f", name).values
        np.testing.assert_array_equal(values, np.arange(4.0)[:, None].repeat(3, axis=1))
    assert summary.failed["bad"].endswith("is not expanded. Save tensor.contiguous() instead.")


@pytest.mark.parametrize("frame", ["0", "-1", "1.5", "", "10000001", "9" * 5000, "1"])
def test_bad_frame_numbers_in_a_table_cost_their_video(source, frame):
    write_table(source)
    with (source / "features.csv").open("a") as stream:
        stream.write(f"b,{frame}\n")
    np.save(source / "features.npy", np.concatenate([np.load(source / "features.npy"), A[:1]]))
    summary = run(source)
    assert summary.done == ["a"] and list(summary.failed) == ["b"]
    assert "frame" in summary.failed["b"] and len(summary.failed["b"]) < 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video,frame\na,1\n", "has 1 rows after its header, but features.npy has 16"),
        ("name,number\na,1\n", "should have the columns `video` and `frame`, or `image`"),
        ("video,frame\na\n", "line 2: the row has 1 cells"),
        ("", "should have the columns"),
        pytest.param(f"video,frame\na,1{' ' * 2**20}", "has a line of more than 1,048,576 characters", id="long line"),
    ],
)
def test_a_table_that_does_not_fit_costs_everything(source, text, said):
    write_table(source)
    (source / "features.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        run(source)
    assert not (source.parent / "store.zarr").exists()


def test_links_inside_hdf5_are_not_followed(source):
    write_h5(source)
    with h5py.File(source / "a.h5", "a") as file:
        del file["present"]
        file["present"] = h5py.ExternalLink("b.h5", "present")
    with h5py.File(source / "c.h5", "w") as file:
        file.create_dataset("values", (3, WIDTH), "f2", external=[(str(source / "b.h5"), 0, 3 * WIDTH * 2)])
    with h5py.File(source / "d.h5", "w") as file:
        layout = h5py.VirtualLayout((N, WIDTH), "f2")
        layout[:] = h5py.VirtualSource(str(source / "b.h5"), "values", (N, WIDTH))
        file.create_virtual_dataset("values", layout)
    summary = run(source)
    assert summary.done == ["b"] and sorted(summary.failed) == ["a", "c", "d"]
    assert "'present' is a link, and links are not followed" in summary.failed["a"]
    assert "lie in another file" in summary.failed["c"] and "lie in another file" in summary.failed["d"]


def test_two_files_of_one_video(source):
    write_npz(source)
    with h5py.File(source / "a.h5", "w") as file:
        file["values"] = A
    summary = run(source)
    assert summary.done == ["b"] and "several videos of this name" in summary.failed["a"]


# the store


def test_another_feature_of_the_name_is_kept(source, tiny_store):
    write_arrays(source)
    copy = source.parent / "store.zarr"
    shutil.copytree(tiny_store, copy)
    with pytest.raises(
        StoreError, match=r"Feature 'hog' in .* is a different one, of shape \[1764\].*Choose another name"
    ):
        run(source, "hog")
    assert run(source, "mine").ok
    assert FeatureStore.open(copy).features() == ["hog", "mine"]


def test_new_and_changed_videos_are_taken_and_the_others_skipped(source):
    write_arrays(source)
    run(source)
    np.save(source / "b.npy", 2 * B)
    np.save(source / "c.npy", A)
    summary = run(source)
    assert (summary.done, summary.skipped) == (["b", "c"], ["a"])
    np.testing.assert_array_equal(opened(source).read("f", "b").values, 2 * B)


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_noticed(source, write):
    write(source)
    run(source)
    assert run(source).skipped == ["a", "b"]
    for file in [file for file in source.rglob("*") if file.is_file() and file.suffix != ".csv"]:
        times, content = file.stat(), file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert run(source).skipped == []


class Interrupting(Silent):
    """Ctrl-C when the second video has been written."""

    def advance(self, n: int = 1, note: str = "") -> None:
        if note == "b":
            raise KeyboardInterrupt


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_goes_on_after_ctrl_c(source, write):
    write(source)
    with pytest.raises(KeyboardInterrupt):
        run(source, reporter=Interrupting())
    assert list(opened(source).videos("f")) == ["a"]
    summary = run(source)
    assert (summary.done, summary.skipped) == (["b"], ["a"])


def test_goes_on_after_a_kill(source, process_env):
    source.mkdir()
    values = np.random.default_rng(0).normal(size=(40_000, 16)).astype(np.float16)
    for number in range(30):
        np.save(source / f"v{number:02}.npy", values + np.float16(number))
    store = source.parent / "store.zarr"
    command = [sys.executable, "-m", "abaw", "store", "import", str(source), "--feature", "f", "--store", str(store)]
    process = subprocess.Popen(command, env=process_env, cwd=source.parent, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (store / "features/f/v02/values").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    n_done = len(opened(source).videos("f"))
    summary = run(source, fps=None)
    assert 2 <= n_done < 30 and len(summary.skipped) == n_done and len(summary.done) == 30 - n_done
    for number in range(30):
        np.testing.assert_array_equal(opened(source).read("f", f"v{number:02}").values, values + np.float16(number))


def test_a_video_longer_than_a_block(source):
    source.mkdir()
    values = draw(4, 10_000)
    present = np.random.default_rng(5).random(10_000) < 0.7
    np.savez(source / "v.npz", values=values, present=present)
    np.savez(source / "w.npz", values=np.asfortranarray(values), present=present)
    np.savez(source / "x.npz", values=values[present][::-1], frames=(np.flatnonzero(present) + 1)[::-1])
    assert run(source).ok
    for video in "vwx":
        found = opened(source).read("f", video)
        n_frames = 10_000 if video != "x" else int(np.flatnonzero(present)[-1]) + 1
        np.testing.assert_array_equal(found.present, present[:n_frames])
        np.testing.assert_array_equal(found.values[found.present], values[present])


# data, labels, training


def test_frame_rate_and_length_come_from_the_video_file(source, sample, tmp_path):
    videos = next(sample.glob("**/single_face.*[!t]")).parent
    file = next(path for path in videos.iterdir() if path.stem == "single_face")
    (tmp_path / "data" / "videos").mkdir(parents=True)
    shutil.copy(file, tmp_path / "data" / "videos" / file.name)
    source.mkdir()
    np.save(source / "single_face_left.npy", A)
    np.save(source / "other.npy", A)
    summary = run(source, data=tmp_path / "data", fps=None)
    found = opened(source).read("f", "single_face_left")
    import av

    with av.open(str(file)) as container:
        assert found.fps == float(container.streams.video[0].average_rate)
        n_frames = sum(1 for _ in container.decode(video=0))
    assert len(found.values) == n_frames and found.present.sum() == N
    assert opened(source).read("f", "other").fps == 30
    assert summary.warnings == ["1 videos, no video file: 30 fps assumed; set it with --fps"]


def test_labels_of_every_layout_are_stored_where_there_are_no_crops(source, tmp_path):
    data = tmp_path / "data"
    (data / "MTL_Challenge").mkdir(parents=True)
    header = "image,valence,arousal,expression,aus"
    rows = [f"x/{number:05}.jpg,0.5,-0.25,3{',1' * 12}" for number in (1, 2)]
    (data / "MTL_Challenge" / "training_set_annotations.txt").write_text("\n".join([header, *rows]))
    for split, clip in (("Train", "y"), ("Val", "z")):
        (data / f"{split}_labels.txt").write_text(f"Vid_name Label\n{clip} 2\n")
    write_arrays(source)
    assert run(source, data=data).ok
    store = opened(source)
    assert {task: store.label_names(task) for task in store.tasks()} == {"mtl": ["x"], "vgaf": ["y", "z"]}
    np.testing.assert_allclose(store.read_labels("mtl", "x").rows[1, :3], [0.5, -0.25, 3])


def test_rows_of_clips_are_on_the_clock_of_their_files(source, numbered, tmp_path):
    data = tmp_path / "data"
    numbered.write(data / "Train" / "x.mp4")
    (data / "Train_labels.txt").write_text("Vid_name Label\nx 2\n")
    write_clips(source)
    summary = run(source, data=data, fps=None)
    timing = probe_timing(data / "Train" / "x.mp4")
    assert opened(source).read("f", "x").fps == pytest.approx(15 * timing.fps / timing.n_frames)
    assert "1 videos, no video file: clips of 5 s assumed; set it with --fps" in summary.warnings
    assert opened(source).video_attrs("f", "x")["sampled"] is True


def test_a_batch_of_one_video_is_no_frame(source):
    source.mkdir()
    np.savez(source / "a.npz", values=A[None])
    np.savez(source / "b.npz", values=B)
    summary = run(source)
    assert summary.done == ["b"]
    assert (
        summary.failed["a"]
        == f"its shape is (1, {N}, {WIDTH}): one frame of {N} x {WIDTH} values. If these are {N} frames, save them as ({N}, {WIDTH}); if it is one frame, as <video>/00001.npy"
    )
    assert opened(source).feature_attrs("f")["spec"]["shape"] == [WIDTH]


def test_abaw_train_on_an_imported_feature(run_cli, source, make_labels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(6)
    source.mkdir()
    for split, folder in (("train", VA), ("val", VA.replace("Train", "Validation"))):
        for number in range(3):
            values = rng.uniform(-1, 1, size=(60, 8)).astype(np.float32)
            np.save(source / f"{split}{number}.npy", values)
            lines = [f"{row[0]:.3f},{row[1]:.3f}" for row in values]
            make_labels(tmp_path / "data", folder, f"{split}{number}", "valence,arousal", *lines)
    result = run_cli("store", "import", source, "--feature", "mine", "--fps", "30")
    assert result.exit_code == 0, result.stderr
    assert "done 6, skipped 0, failed 0 (360 frames into store.zarr)" in result.stdout
    words = [
        "--task",
        "va",
        "--feature",
        "mine",
        "--head",
        "linear",
        "--set",
        "epochs=1",
        "--set",
        "window=20",
        "--device",
        "cpu",
    ]
    trained = run_cli("train", *words)
    assert trained.exit_code == 0, trained.stderr
    config = json.loads(next(Path("runs").glob("*/config.json")).read_text())
    assert FeatureStore.open("store.zarr").feature_attrs("mine")["fingerprint"] in json.dumps(config)


def test_the_command_exits_with_1_if_a_video_failed(run_cli, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_arrays(source)
    np.save(source / "bad.npy", np.array([{}]))
    result = run_cli("store", "import", source, "--feature", "mine")
    assert result.exit_code == 1
    assert "done 2, skipped 0, failed 1" in result.stdout
    assert "bad: " in result.stderr and "30 fps assumed" in result.stderr
    for words, code, said in (
        (["--feature", "../x"], 1, "cannot be the name of a feature"),
        (["--feature", "x", "--data", "nowhere"], 1, "No data folder nowhere"),
        (["--feature", "x", "--fps", "0"], 2, "--fps"),
    ):
        result = run_cli("store", "import", source, *words)
        assert result.exit_code == code and said in result.stderr
    assert not Path("x").exists()


# names


def test_suffixes_count_in_any_case(tmp_path):
    for number, (write, name, new) in enumerate(
        [
            (write_npz, "a.npz", "a.NPZ"),
            (write_h5, "a.h5", "a.H5"),
            (write_h5_groups, "all.hdf5", "all.HDF5"),
            (write_arrays, "a.npy", "a.Npy"),
            (write_arrays, "a.present.npy", "a.present.NPY"),
            (write_frames, "a/00003.npy", "a/00003.NPY"),
            (write_table, "features.csv", "features.CSV"),
            (write_table, "features.npy", "features.NPY"),
        ]
    ):
        source = tmp_path / f"source{number}"
        write(source)
        (source / name).rename(source / new)
        store = tmp_path / f"store{number}.zarr"
        assert run(source, store=store).done == ["a", "b"]
        found = FeatureStore.open(store).read("f", "a")
        np.testing.assert_array_equal(found.present, THERE)
        np.testing.assert_array_equal(found.values[THERE], A[THERE])
    (tmp_path / "clips").mkdir()
    torch.save(torch.ones(5, WIDTH), tmp_path / "clips" / "X.MP4.IMG.5.PT")
    assert run(tmp_path / "clips", "g").done == ["X"]


def test_what_other_programs_leave_behind_is_no_data(tmp_path):
    for number, write in enumerate(LAYOUTS):
        source = tmp_path / f"source{number}"
        write(source)
        for folder in (source, *(path for path in source.iterdir() if path.is_dir())):
            for name in (".DS_Store", "._00001.npy", "._a.npz", "._a.h5", "._a.pt", "._features.csv", "Thumbs.db"):
                (folder / name).write_bytes(b"Mac OS X")
        (source / "__MACOSX" / "a").mkdir(parents=True)
        (source / "__MACOSX" / "a" / "00009.npy").write_bytes(b"Mac OS X")
        summary = run(source, store=tmp_path / f"store{number}.zarr")
        assert summary.done == ["a", "b"] and not summary.failed
    with zipfile.ZipFile(tmp_path / "source1" / "b.npz", "a") as archive:
        archive.writestr("__MACOSX/._anything.npy", b"Mac OS X")
    assert run(tmp_path / "source1", store=tmp_path / "again.zarr").done == ["a", "b"]


@pytest.mark.parametrize("name", ["_0efYOjQYRc", "_", "-x", "n" * 250, "\u4e2d" * 83])
@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_names_that_file_systems_let_be(source, write, name):
    if write in (write_table, write_table_of_images, write_parts, write_parts_of_names):
        write(source)
        (table,) = source.glob("*.csv")
        table.write_text(table.read_text().replace("a,", f"{name},").replace("a/", f"{name}/"), encoding="utf-8")
    elif write in (write_h5_groups, write_fts):
        write(source)
        with h5py.File(next(source.iterdir()), "a") as file:
            file.move("a", name)
    else:
        write(source)
        for path in source.glob("a*"):
            if len((new := name + path.name[1:]).encode()) > 255:
                pytest.skip("no file system lets a file have the name")
            path.rename(source / new)
    assert sorted(run(source).done) == sorted([name, "b"])
    np.testing.assert_array_equal(opened(source).read("f", name).values[THERE], A[THERE])


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_names_are_composed_wherever_they_come_from(source, write):
    apart, together = "cafe\u0301", "caf\u00e9"
    write(source)
    for path in source.glob("a*"):
        if path.stem.split(".")[0] == "a":
            path.rename(source / (apart + path.name[1:]))
    for table in source.glob("*.csv"):
        table.write_text(table.read_text().replace("a,", f"{apart},").replace("a/", f"{apart}/"), encoding="utf-8")
    for file in (source / "all.hdf5", source / "train_FAU.h5"):
        if file.exists():
            with h5py.File(file, "a") as groups:
                groups.move("a", apart)
    assert run(source).done == ["b", together]
    np.testing.assert_array_equal(opened(source).read("f", together).present, THERE)


@pytest.mark.parametrize("ending", [".pt", ".mp4.img.5.pt", ".synt.spec.5.pt"])
def test_names_of_tensors_are_composed(source, ending):
    source.mkdir()
    torch.save(torch.ones(5, WIDTH), source / f"cafe\u0301{ending}")
    assert run(source).done == ["caf\u00e9"]


# arrays that lie the other way round

LONG = np.random.default_rng(4).normal(size=(60, 8)).astype(np.float16)  # of 60 frames


def turned_npy(source: Path, values: np.ndarray) -> None:
    np.save(source / "talk.npy", values.T)


def turned_npz(source: Path, values: np.ndarray) -> None:
    np.savez(source / "talk.npz", values=values.T)


def turned_h5(source: Path, values: np.ndarray) -> None:
    with h5py.File(source / "talk.h5", "w") as file:
        file["values"] = values.T


def turned_h5_groups(source: Path, values: np.ndarray) -> None:
    with h5py.File(source / "all.h5", "w") as file:
        file["talk/values"] = values.T


def turned_pt(source: Path, values: np.ndarray) -> None:
    torch.save(torch.from_numpy(np.ascontiguousarray(values.T)), source / "talk.pt")


TURNED = [turned_npy, turned_npz, turned_h5, turned_h5_groups, turned_pt]


@pytest.mark.parametrize("write", TURNED, ids=lambda write: write.__name__)
@pytest.mark.parametrize("n_frames", [58, 60, 61])
def test_columns_as_many_as_the_frames_of_the_video_are_asked_about(source, numbered, write, n_frames):
    source.mkdir()
    numbered.write(source.parent / "data" / "videos" / "talk.mp4", n_frames)
    write(source, LONG)
    summary = run(source, data=source.parent / "data", fps=None)
    assert summary.failed == {
        "talk": f"its shape is (8, 60), and talk.mp4 has {n_frames} frames: if its columns are the frames, save array.T; if "
        "its rows are, save an .npz with `values` and `frames`, the frame number of each row"
    }
    for path in source.iterdir():
        path.unlink()
    write(source, LONG.T)  # as it should be
    assert run(source, data=source.parent / "data", fps=None).done == ["talk"]
    np.testing.assert_array_equal(opened(source).read("f", "talk").values[:60], LONG)


def test_columns_as_many_as_rows_of_labels_are_asked_about(source, make_labels):
    source.mkdir()
    make_labels(source.parent / "data", VA, "talk", "valence,arousal", *["0,0"] * 61)
    np.save(source / "talk.npy", LONG.T)
    said = run(source, data=source.parent / "data").failed["talk"]
    assert said.startswith(
        "its shape is (8, 60), and its va labels have 61 rows: if its columns are the frames, save array.T"
    )


def test_what_says_its_frames_is_not_asked_about(source, numbered):
    source.mkdir()
    numbered.write(source.parent / "data" / "videos" / "talk.mp4", 60)
    np.savez(source / "talk.npz", values=LONG.T, frames=np.arange(1, 9))
    assert run(source, data=source.parent / "data").done == ["talk"]


@pytest.mark.parametrize("shape", [(60, 8), (59, 60), (8, 50), (30, 8), (62, 60)])
def test_what_fits_its_video_or_nothing_is_not_asked_about(source, numbered, shape):
    source.mkdir()
    numbered.write(source.parent / "data" / "videos" / "talk.mp4", 60)
    np.save(source / "talk.npy", np.ones(shape, np.float16))
    assert run(source, data=source.parent / "data").done == ["talk"]


def test_equal_numbers_of_rows_and_other_columns_are_asked_about(source):
    source.mkdir()
    for video, n in (("a", 20), ("b", 20), ("c", 31)):
        np.save(source / f"{video}.npy", np.ones((8, n), np.float16))
    with pytest.raises(
        DataError, match=r"All arrays have 8 rows, and .*: the shape of 'a' is \(8, 20\), that of 'c' is \(8, 31\)\."
    ):
        run(source)
    assert not (source.parent / "store.zarr").exists()


def test_a_video_as_long_as_its_rows_says_that_these_are_frames(source, numbered):
    source.mkdir()
    numbered.write(source.parent / "data" / "videos" / "a.mp4", 8)
    np.save(source / "a.npy", np.ones((8, 20), np.float16))
    np.save(source / "b.npy", np.ones((8, 31), np.float16))
    summary = run(source, data=source.parent / "data")
    assert summary.done == ["a"] and "its frames have the shape [31], feature 'f' has [20]" in summary.failed["b"]


def test_an_array_that_would_fit_the_feature_the_other_way_round_is_told_so(source):
    source.mkdir()
    np.save(source / "a.npy", np.ones((20, 8), np.float16))
    np.save(source / "b.npy", np.ones((8, 31), np.float16))
    said = run(source).failed["b"]
    assert (
        said == "its frames have the shape [31], feature 'f' has [8]. Import it as a separate feature, or save array.T"
    )


# names as people have them


@pytest.mark.parametrize("form", ["{}", "{:03}", "{:05}", "{:08}"])
def test_frame_files_are_in_the_order_of_their_numbers(source, form):
    """Sorted by name, 10 comes before 9, and 10000 before 9999."""
    numbers = [1, 2, 9, 10, 11, 99, 100, 9999, 10000, 10001]
    (source / "v").mkdir(parents=True)
    for number in numbers:
        np.save(source / "v" / f"{form.format(number)}.npy", np.full(WIDTH, number / 8, dtype=np.float32))
    assert run(source).done == ["v"]
    found = opened(source).read("f", "v")
    assert (np.flatnonzero(found.present) + 1).tolist() == numbers
    np.testing.assert_array_equal(found.values[found.present][:, 0], np.array(numbers, dtype=np.float16) / 8)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("video,frame", "{video},{frame}"),
        ("frame,video", "{frame},{video}"),
        ("frame,score,video", "{frame},0.5,{video}"),
        ("index,video,time,frame", "7,{video},1.5,{frame}"),
        ("Frame;Video", "{frame};{video}"),
        ("frame\tvideo", "{frame:05}\t{video}"),
        ("image,index", "{video}/{frame}.jpg,3"),
        ("index,image", "3,./cropped_aligned/{video}/{frame:05}.jpg"),
        ("index,image", "3,data\\{video}\\{frame:06}.png"),
    ],
)
def test_columns_of_a_table_in_any_order(source, header, line):
    write_table(source, line, header)
    assert run(source).done == ["a", "b"]
    for video, (values, present) in VIDEOS.items():
        found = opened(source).read("f", video)
        np.testing.assert_array_equal(found.present, present)
        np.testing.assert_array_equal(found.values[present], values[present])
