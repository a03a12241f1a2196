"""The feature store: its layout on disk, what is written and read, names, fingerprints, labels."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from fsspec.registry import _registry
from zarr.storage import LocalStore

from abaw.core.errors import StoreError, UsageError
from abaw.core.names import how_to_make
from abaw.core.progress import Silent
from abaw.store import FeatureStore
from abaw.store import writer as writer_module
from abaw.store.audit import describe_store, verify_store
from abaw.store.claims import claimed
from abaw.store.feature_names import MissingStoreError
from abaw.store.zarr_keys import FolderStore, read_keys
from abaw.tests.support.stores import put_feature

SPEC = {"shape": [3], "weights": "none"}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """An empty store with one feature of three values, `f`."""
    made = FeatureStore.create(tmp_path / "store.zarr")
    made.add_feature("f", SPEC, None, "fingerprint-of-f")
    return made


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 8 rows, chunks of 4."""
    monkeypatch.setattr(writer_module, "CHUNK_ROWS", 4)
    monkeypatch.setattr(writer_module, "SHARD_ROWS", 8)


def draw(n: int, seed: int = 0, width: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


# layout


def test_layout_on_disk_read_with_plain_zarr(store, monkeypatch):
    values = draw(600)
    put_feature(store, "f", "v", np.concatenate([np.zeros((10, 3)), values[:590]]), np.arange(600) >= 10)
    store.write_labels("va", "v", "train", np.full((601, 2), -5, np.float32))
    root = zarr.open_group(store.path, mode="r")
    assert root.metadata.zarr_format == 3
    assert root.attrs["format"] == 1
    feature, video = root["features/f"], root["features/f/v"]
    assert feature.attrs["spec"] == SPEC and feature.attrs["fingerprint"] == "fingerprint-of-f"
    assert {"weights_sha256", "abaw"} <= set(feature.attrs)
    assert {"fps": 25.0, "source": "test", "n_frames": 600, "n_present": 590, "complete": True}.items() <= dict(
        video.attrs
    ).items()
    array = video["values"]
    assert (array.shape, array.dtype, array.chunks) == ((600, 3), np.float16, (256, 3))
    names = [codec["name"] for codec in json.loads((Path(store.path) / "features/f/v/values/zarr.json").read_text())[
        "codecs"][0]["configuration"]["codecs"]]  # fmt: skip
    assert names == ["bytes", "crc32c"]  # checked, not compressed
    assert len([file for file in (Path(store.path) / "features/f/v/values/c").rglob("*") if file.is_file()]) == 1
    np.testing.assert_array_equal(array[10:], values[:590].astype(np.float16))
    np.testing.assert_array_equal(array[:10], 0)
    np.testing.assert_array_equal(video["present"][:], np.arange(600) >= 10)
    labels = root["labels/va/v"]
    assert (labels.shape, labels.dtype, labels.attrs["split"]) == ((601, 2), np.float32, "train")


def nodes_of(group: zarr.Group) -> dict[str, zarr.Array | zarr.Group]:
    nodes = {}
    for name, node in group.members():
        nodes[name] = node
        if isinstance(node, zarr.Group):
            nodes |= {f"{name}/{below}": inner for below, inner in nodes_of(node).items()}
    return nodes


@pytest.mark.filterwarnings("error")
def test_other_readers_find_named_dimensions_and_nothing_else(store):
    store.add_feature("picture", {**SPEC, "shape": [4, 2]}, None, "x")
    for video, n in (("v", 5), ("w", 300)):
        put_feature(store, "f", video, draw(n))
        put_feature(store, "picture", video, draw(n, width=8).reshape(n, 4, 2))
        store.write_labels("va", video, "train", np.zeros((n, 2), np.float32))
    with claimed(store, ["f"], ""):
        nodes = nodes_of(zarr.open_group(store.path, mode="r"))
    names = {path: node.metadata.dimension_names for path, node in nodes.items() if isinstance(node, zarr.Array)}
    assert names == {
        **{f"features/f/{video}/values": ("frame", "dimension") for video in "vw"},
        **{f"features/picture/{video}/values": ("frame", "dimension_1", "dimension_2") for video in "vw"},
        **{f"features/{feature}/{video}/present": ("frame",) for feature in ("f", "picture") for video in "vw"},
        # one group of different lengths: xarray refuses two of one name
        **{f"labels/va/{video}": (f"row_{video}", "column") for video in "vw"},
    }


def test_a_store_without_names_of_dimensions_is_read_and_extended(store, monkeypatch):
    """As earlier versions wrote it, with claims in files, too."""
    values, rows = draw(5), np.zeros((5, 2), np.float32)
    put_feature(store, "f", "v", values)
    store.write_labels("va", "v", "train", rows)
    files = sorted(Path(store.path).rglob("zarr.json"))
    for file in files:
        content = json.loads(file.read_text())
        content.pop("dimension_names", None)
        file.write_text(json.dumps(content, indent=2))
    dead = {"features": ["f"], "part": "", "host": "elsewhere", "process": 1, "began": 0.0, "claimed": 0.0, "beat": 0.0}
    notes = Path(store.path) / ".notes"
    notes.mkdir()
    (notes / "claim-1.json").write_text(json.dumps(dead))
    alive = {**dead, "beat": time.time()}
    (notes / "claim-2.json").write_text(json.dumps(alive))
    before = {file: file.read_bytes() for file in files}
    with pytest.raises(StoreError, match="Another command is writing f"), claimed(store, ["f"], ""):
        pass
    store.notes.drop("claim-2.json")
    monkeypatch.setattr("abaw.core.claim_files.WATCH_S", 0.2)
    with claimed(store, ["f"], ""):
        assert not store.write_labels("va", "v", "train", rows)
        put_feature(store, "f", "w", values)
    assert {file: file.read_bytes() for file in files} == before and store.notes.read() == {}
    assert verify_store(FeatureStore.open(store.path), Silent()) == []
    np.testing.assert_array_equal(store.read("f", "v").values, store.read("f", "w").values)


def test_row_i_is_frame_i_plus_1_whatever_the_order_of_writing(store, small_shards):
    values, rows = draw(15), np.array([14, 2, 3, 20, 0, 5, 6, 7, 8, 9, 10, 11, 12, 13, 19])
    writer = store.writer("f", "v", 23, rows, {"fps": 25.0, "source": "d"})
    for part in (slice(0, 2), slice(2, 9), slice(9, 15)):
        writer.write(rows[part], values[part])
    assert writer.ready
    writer.finish()
    found = store.read("f", "v")
    expected = np.zeros((23, 3), np.float16)
    expected[rows] = values
    np.testing.assert_array_equal(found.values, expected)
    assert np.flatnonzero(found.present).tolist() == sorted(rows.tolist())
    assert found.fps == 25.0


def test_float16_by_default_and_several_shards_where_a_video_is_long(store, small_shards):
    values = draw(21)
    put_feature(store, "f", "v", values)
    array = zarr.open_array(f"{store.path}/features/f/v/values", mode="r")
    assert (array.shards, array.chunks, array.dtype) == ((8, 3), (4, 3), np.float16)
    assert len([f for f in (Path(store.path) / "features/f/v/values/c").rglob("*") if f.is_file()]) == 3
    np.testing.assert_array_equal(store.read("f", "v").values, values.astype(np.float16))


def test_features_of_any_shape(store):
    for feature, shape in (("scalar", ()), ("map", (2, 3, 4))):
        store.add_feature(feature, {"shape": list(shape), "weights": "none"}, None, feature)
        values = np.random.default_rng(0).normal(size=(7, *shape)).astype(np.float32)
        put_feature(store, feature, "v", values)
        np.testing.assert_array_equal(store.read(feature, "v").values, values.astype(np.float16))


@pytest.mark.parametrize("at", [0, 9, 20])
def test_a_value_too_large_for_float16_makes_the_video_float32(store, small_shards, at):
    values = draw(21)
    values[at, 1] = 70_000
    writer = store.writer("f", "v", 21, np.arange(21), {"fps": 25.0, "source": "d"})
    for row in range(21):  # shards before `at` are on disk by then, as float16
        writer.write(np.array([row]), values[row : row + 1])
    writer.finish()
    found = store.read("f", "v").values
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[at], values[at])
    np.testing.assert_allclose(found, values, rtol=1e-3, atol=1e-6)
    assert store.videos("f")["v"]["dtype"] == "float32"


def test_the_largest_float16_stays_float16(store):
    put_feature(store, "f", "v", np.full((2, 3), -65504, np.float32))
    assert store.read("f", "v").values.dtype == np.float16
    assert np.isfinite(store.read("f", "v").values).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_its_frame(store, bad):
    values = draw(6)
    values[4, 2] = bad
    writer = store.writer("f", "v", 9, np.arange(2, 8), {"fps": 25.0, "source": "d"})
    with pytest.raises(ValueError, match="frame 7 is not finite"):
        writer.write(np.arange(2, 8), values)
    assert store.videos("f") == {}


def test_skipped_frames_are_absent_and_a_video_of_skipped_frames_is_refused(store, small_shards):
    values = draw(10)
    writer = store.writer("f", "v", 10, np.arange(10), {"fps": 25.0, "source": "d"})
    writer.write(np.arange(8), values[:8])
    writer.skip(8)
    assert not writer.ready
    writer.skip(9)
    assert writer.ready
    writer.finish()
    assert store.read("f", "v").present.tolist() == [True] * 8 + [False] * 2
    writer = store.writer("f", "w", 2, np.arange(2), {"fps": 25.0, "source": "d"})
    writer.skip(0)
    writer.skip(1)
    with pytest.raises(ValueError, match="none of its frames"):
        writer.finish()
    assert list(store.videos("f")) == ["v"]


# reading


def test_a_video_that_was_cut_off_is_never_read(store, small_shards):
    writer = store.writer("f", "v", 21, np.arange(21), {"fps": 25.0, "source": "d"})
    writer.write(np.arange(16), draw(16))  # two of three shards are on disk
    assert store.videos("f") == {}
    assert store.incomplete("f") == ["v"]
    with pytest.raises(StoreError, match=r"'f' of video 'v' is incomplete\. Run the same `abaw extract` again"):
        store.read("f", "v")
    put_feature(store, "f", "v", draw(21, seed=1))
    assert store.incomplete("f") == []
    np.testing.assert_array_equal(store.read("f", "v").values, draw(21, seed=1).astype(np.float16))


@pytest.mark.parametrize("left", ["values", "present", "both"])
def test_a_video_whose_own_attributes_are_gone_is_written_anew(store, left):
    """The state that a process killed while it makes or deletes a video leaves."""
    put_feature(store, "f", "v", draw(21))
    place = Path(store.path) / "features/f/v"
    (place / "zarr.json").unlink()
    if left != "both":
        shutil.rmtree(place / {"values": "present", "present": "values"}[left])
    store = FeatureStore.create(store.path)
    assert store.videos("f") == {}
    put_feature(store, "f", "v", draw(12, seed=1))
    np.testing.assert_array_equal(store.read("f", "v").values, draw(12, seed=1).astype(np.float16))


def test_a_store_that_was_killed_at_its_birth_is_taken_up(tmp_path):
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "store.zarr/zarr.0123456789abcdef0123456789abcdef.partial").write_bytes(b"{")
    store = FeatureStore.create(tmp_path / "store.zarr")
    assert store.features() == []


def test_a_store_that_two_make_at_once_is_made_though_one_sweeps_what_the_other_writes(tmp_path, monkeypatch):
    """The first is held as it gives `zarr.json` its name."""
    link, others = os.link, []

    def held(source, target):
        if not others:
            others.append(source)
            FolderStore(tmp_path / "store.zarr").sweep([])
            assert not Path(source).exists()
        link(source, target)

    monkeypatch.setattr("os.link", held)
    assert FeatureStore.create(tmp_path / "store.zarr").features() == [] and others


def test_a_store_that_another_process_makes_meanwhile_is_kept(tmp_path, monkeypatch):
    """It is made as the first is held before its first file."""
    put, others = zarr.storage._local._put, []

    def held(path, value, exclusive=False):
        if not others:
            others.append(path)
            other = FeatureStore.create(tmp_path / "store.zarr")
            other.add_feature("g", SPEC, None, "fingerprint-of-g")
            other.notes.write("x", "y")
        return put(path, value, exclusive)

    monkeypatch.setattr("zarr.storage._local._put", held)
    assert FeatureStore.create(tmp_path / "store.zarr").features() == ["g"] and others


def test_a_video_that_is_written_again_is_replaced_whole(store, small_shards):
    put_feature(store, "f", "v", draw(21))
    put_feature(store, "f", "v", draw(5, seed=1) * 1e5, source="other")
    found = store.read("f", "v")
    np.testing.assert_array_equal(found.values, draw(5, seed=1) * np.float32(1e5))
    assert store.videos("f")["v"]["source"] == "other"
    assert verify_store(FeatureStore.open(store.path), Silent()) == []


def test_an_unknown_video_and_an_unknown_feature(store):
    put_feature(store, "f", "v", draw(2))
    with pytest.raises(StoreError, match=r"'f' has no video 'w'"):
        store.read("f", "w")
    store.add_feature("g", SPEC, None, "fingerprint-of-g")
    with pytest.raises(UsageError, match=r"No feature 'h' .*it has: f, g\. .*abaw extract --backbone h"):
        store.feature_attrs("h")


def test_another_fingerprint_is_an_error_that_names_both_and_the_way_out(store):
    store.add_feature("f", SPEC, None, "fingerprint-of-f")  # the same again
    with pytest.raises(StoreError, match=r"'f' .*fingerprint fingerprint-.*has another-fing.*NEWNAME=.*delete"):
        store.add_feature("f", SPEC, "0" * 64, "another-fingerprint")
    assert store.feature_attrs("f")["weights_sha256"] is None


# names


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", ".hidden", "..", ".", "", "/etc/x", "__x", " x", "x\n", "a\0b",
                                  "a\u2028b", "a\u202eb", "a\u2067b", "a\x9bb", "a\udcffb", "x" * 256])  # fmt: skip
def test_names_that_would_leave_their_place_are_refused(store, tmp_path, name):
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=r"cannot be the name of a feature.*Rename"):
        store.add_feature(name, SPEC, None, "x")
    with pytest.raises(StoreError, match=r"cannot be the name of a video.*Rename"):
        store.writer("f", name, 1, np.arange(1), {})
    store.write_labels("va", "ok", "train", np.zeros((1, 2), np.float32))
    with pytest.raises(StoreError, match="cannot be the name of a video"):
        store.write_labels("va", name, "train", np.zeros((1, 2), np.float32))
    after = [path for path in tmp_path.rglob("*") if "labels" not in path.parts]
    assert sorted(after) == [path for path in before if "labels" not in path.parts]


@pytest.mark.parametrize(
    "name",
    [
        *("a.b", "video 1", "ünï-çødé", "視頻", "10-60-1280x720_right", "x=y", "timm-vit@hflip", "c", "x" * 240),
        *("9.41.00\u202fAM", "a\u00a0b", "a\u3000b", "می\u200cخواهم", "👨\u200d👩"),
    ],
)
def test_usual_and_unusual_names_work(store, name):
    put_feature(store, "f", name, draw(3))
    store.add_feature(name, SPEC, None, "x")
    put_feature(store, name, "v", draw(3))
    store.write_labels("va", name, "val", np.zeros((1, 2), np.float32))
    opened = FeatureStore.open(store.path)
    np.testing.assert_array_equal(opened.read("f", name).values, opened.read(name, "v").values)
    assert list(opened.labels("va")) == [name]


# labels


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("va", np.array([[-5, 0.3], [-1, 1], [0.123456, -5], [0, 0]], np.float32)),
        ("expr", np.array([[-1], [0], [7]], np.int8)),
        ("au", np.array([[0, 1, -1] * 4, [-1] * 12], np.int8)),
    ],
)
def test_labels_come_back_as_published(store, task, rows):
    assert store.write_labels(task, "v", "val", rows)
    found = FeatureStore.open(store.path).labels(task)["v"]
    np.testing.assert_array_equal(found.rows, rows)
    assert (found.rows.dtype, found.split) == (rows.dtype, "val")
    assert store.tasks() == [task]


def test_labels_are_written_again_only_when_they_or_their_split_changed(store):
    rows = np.array([[0.5, 0.5]], np.float32)
    assert store.write_labels("va", "v", "train", rows)
    assert not store.write_labels("va", "v", "train", rows)
    assert store.write_labels("va", "v", "val", rows)
    assert store.write_labels("va", "v", "val", np.repeat(rows, 3, 0))
    assert {video: (found.split, len(found.rows)) for video, found in store.labels("va").items()} == {"v": ("val", 3)}


def test_labels_by_split_and_of_a_task_that_has_none(store):
    for video, split in (("b", "train"), ("a", "train"), ("c", "val")):
        store.write_labels("va", video, split, np.zeros((2, 2), np.float32))
    assert list(store.labels("va", "train")) == ["a", "b"]
    assert list(store.labels("va", "val")) == ["c"]
    assert list(store.labels("va")) == ["a", "b", "c"]
    assert store.labels("expr") == {}


# the whole


def test_info_counts(store, small_shards):
    put_feature(store, "f", "v", draw(10), np.arange(10) < 8)
    put_feature(store, "f", "w", draw(5) * 1e5)
    store.writer("f", "x", 21, np.arange(21), {"fps": 25.0, "source": "d"}).write(np.arange(16), draw(16))
    (info,) = describe_store(store)
    assert (info.feature, info.n_videos, info.n_frames, info.n_missing, info.n_incomplete) == ("f", 2, 15, 2, 1)
    assert info.n_bytes == 10 * 3 * 2 + 5 * 3 * 4
    assert (info.shape, info.fingerprint) == ((3,), "fingerprint-of-f")


@pytest.mark.parametrize("what", ["nothing", "file", "empty", "other", "array", "group"])
def test_what_is_no_store_is_refused(tmp_path, what):
    place = tmp_path / "place"
    if what == "file":
        place.write_text("x")
    elif what != "nothing":
        place.mkdir()
    if what == "other":
        (place / "thesis.txt").write_text("x")
    if what == "array":
        zarr.create_array(str(place), shape=(3,), dtype="f4", overwrite=True)
    if what == "group":
        zarr.create_group(str(place), attributes={"mine": 1}, overwrite=True)
    before = sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*"))
    with pytest.raises(StoreError, match="place"):
        FeatureStore.open(place)
    assert sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("what", ["other", "file", "inside a file", "array", "group"])
def test_nothing_of_others_is_taken_for_a_new_store(tmp_path, what):
    place = tmp_path / "place"
    if what == "other":
        place.mkdir()
        (place / "thesis.txt").write_text("x")
    elif what in ("file", "inside a file"):
        place.write_text("x")
    elif what == "array":
        zarr.create_array(str(place), shape=(3,), dtype="f4")
    else:
        zarr.create_group(str(place), attributes={"mine": 1})
    before = sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*"))
    with pytest.raises(StoreError, match="place"):
        FeatureStore.create(place / "store.zarr" if what == "inside a file" else place)
    assert sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")) == before


def test_another_format_is_refused_with_both_numbers(store):
    zarr.open_group(store.path, mode="a").update_attributes({"format": 7})
    with pytest.raises(StoreError, match="store format 7; this version of abaw reads formats 1 and 2"):
        FeatureStore.open(store.path)


def test_a_store_that_needs_a_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)  # it keeps what it has imported
    words = r"^s3://bucket/store\.zarr needs a package that is not installed \(.*\): pip install '\.\[s3\]' in abaw's folder\.$"
    with pytest.raises(StoreError, match=words):
        FeatureStore.open("s3://bucket/store.zarr")


@pytest.mark.parametrize(
    ("feature", "command"),
    [
        ("vit-mean", "vit-mean"),
        ("mae-cls@mask0.75.1", "mae-cls --view mask0.75 --views 2"),
        ("timm-resnet18-mean@hflip", "timm/resnet18-mean --view hflip"),
    ],
)
def test_how_a_feature_is_made(feature, command):
    assert how_to_make(feature) == f"abaw extract --backbone {command}"


# killed between any two changes


class Killed(BaseException):
    """The end of a process."""


class MortalStore(LocalStore):
    """A store that deletes files one by one, the attributes last, and dies after a number of changes.

    Attributes:
        n_left: changes until then.
    """

    n_left = 10**9

    def _live(self) -> None:
        self.n_left -= 1
        if self.n_left < 0:
            raise Killed

    async def set(self, key, value, *arguments):
        self._live()
        await super().set(key, value, *arguments)

    async def delete(self, key):
        self._live()
        await super().delete(key)

    async def delete_dir(self, prefix):
        files = [path for path in (self.root / prefix).rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path.parent == self.root / prefix, path)):
            self._live()
            path.unlink()


def written_again(path: Path, write: Callable[[FeatureStore], None], n_changes: int) -> bool:
    """Write into a store until a number of changes; True if the process was killed there."""
    files = MortalStore(path)
    root = zarr.open_group(files, mode="r+")
    files.n_left = n_changes
    try:
        write(FeatureStore(root, str(path)))
    except Killed:
        return True
    return False


def test_a_video_that_is_written_again_is_never_half_of_each(tmp_path):
    """Two shards, and a change to float32 midway. The video is whole or missing, whenever the writer dies."""
    n = 4096 + 20
    old, new = (draw(n, seed=seed, width=1).astype(np.float16).astype(np.float32) for seed in (0, 1))
    new[4100] = 1e6

    def write(store: FeatureStore) -> None:
        writer = store.writer("f", "v", n, np.arange(n), {"fps": 25.0, "source": "new"})
        writer.write(np.arange(4098), new[:4098])
        writer.write(np.arange(4098, n), new[4098:])
        writer.finish()

    path, seen, n_changes = tmp_path / "store.zarr", [], 0
    made = FeatureStore.create(path)
    made.add_feature("f", {**SPEC, "shape": [1]}, None, "fingerprint-of-f")
    while True:
        put_feature(FeatureStore.create(path), "f", "v", old, source="old")
        was_killed = written_again(path, write, n_changes)
        found = FeatureStore.open(path)
        attrs = found.videos("f").get("v")
        seen.append(attrs["source"] if attrs else "missing")
        if attrs is None:
            with pytest.raises(StoreError, match=r"is incomplete|has no video"):
                found.read("f", "v")
        else:
            wanted = old if attrs["source"] == "old" else new
            np.testing.assert_array_equal(found.read("f", "v").values, wanted)
            assert verify_store(found, Silent()) == []
        if not was_killed:
            break
        n_changes += 1
    assert seen[0] == "old" and seen[-1] == "new" and set(seen[1:-1]) == {"missing"} and len(seen) > 10, seen


def test_labels_that_are_written_again_are_never_half_of_each(tmp_path):
    path, seen, n_changes = tmp_path / "store.zarr", [], 0
    old, new = np.zeros((9, 2), dtype=np.float32), np.ones((12, 2), dtype=np.float32)
    while True:
        FeatureStore.create(path).write_labels("va", "v", "train", old)
        was_killed = written_again(path, lambda store: store.write_labels("va", "v", "val", new), n_changes)
        found = FeatureStore.open(path).labels("va").get("v")
        seen.append(found.split if found else "missing")
        if found is not None:
            np.testing.assert_array_equal(found.rows, old if found.split == "train" else new)
        if not was_killed:
            break
        n_changes += 1
    assert seen[0] == "train" and seen[-1] == "val" and set(seen[1:-1]) == {"missing"} and len(seen) > 3, seen


def test_a_video_that_is_dropped_is_whole_or_not_there(tmp_path):
    path, seen, n_changes = tmp_path / "store.zarr", [], 0
    FeatureStore.create(path).add_feature("f", SPEC, None, "fingerprint-of-f")
    while True:
        put_feature(FeatureStore.create(path), "f", "v", draw(30))
        was_killed = written_again(path, lambda store: store.drop("features/f/v"), n_changes)
        found = FeatureStore.open(path)
        seen.append("v" in found.videos("f"))
        if seen[-1]:
            assert found.read("f", "v").present.all()
        if not was_killed:
            break
        n_changes += 1
    assert seen == [True] + [False] * (len(seen) - 1) and len(seen) > 3


def test_only_a_link_to_itself_counts_as_a_missing_key(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "loop").symlink_to("loop")
    store = FolderStore(tmp_path)
    assert read_keys(store, ["a", "loop", "missing"]) == [b"1", None, None]
    with pytest.raises(OSError, match="name too long"):
        read_keys(store, ["a", "n" * 300])


@pytest.mark.parametrize("groups", [(), ("features",), ("features", "labels")])
def test_a_store_that_was_only_begun_is_none_yet_and_is_made(tmp_path, groups):
    root = zarr.open_group(str(tmp_path / "s.zarr"), mode="a")
    for group in groups:
        root.require_group(group)
    with pytest.raises(MissingStoreError, match="No feature store at"):
        FeatureStore.open(tmp_path / "s.zarr")
    FeatureStore.create(tmp_path / "s.zarr")
    assert FeatureStore.open(tmp_path / "s.zarr").features() == []
