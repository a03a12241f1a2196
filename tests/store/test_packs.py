"""Packed videos: every view of the store stays the same, nothing is lost, and other programs read them."""

import json
import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import FsspecStore

from abaw.core.doubles import Doubles
from abaw.core.errors import StoreError
from abaw.core.progress import Silent
from abaw.store import FeatureStore
from abaw.store.audit import describe_label_rows, describe_store, repair_store, verify_store
from abaw.store.in_turn import VideosInTurn
from abaw.store.pack_index import PackedVideo, encode_part
from abaw.store.packing import PackSummary, pack_store
from abaw.store.plain_arrays import Block, PlainArray
from abaw.tests.support.stores import new_store, put_feature
from abaw.train.data.statistics import feature_statistics

SHARD_BYTES = 900  # 148 rows of the feature `f` in four chunks: video v05 takes several
N_VIDEOS = 8


def fill(place: str | Path) -> FeatureStore:
    """Two features of some videos, one of them long, one with values beyond float16; labels of two tasks."""
    store, rng = new_store(place, {"f": (3,), "maps": (2, 2)}), np.random.default_rng(0)
    for number in range(N_VIDEOS):
        name, n = f"v{number:02}", {4: 20, 5: 350}.get(number, int(rng.integers(5, 60)))
        present = rng.random(n) > 0.2 if number % 3 else None
        for feature, shape in (("f", (3,)), ("maps", (2, 2))):
            values = rng.normal(size=(n, *shape)) * (1e6 if number in (3, 7) and feature == "f" else 1)
            put_feature(store, feature, name, values, present, fps=25.0 if number % 2 else 29.97, source=f"{number}")
        store.write_labels("va", name, "val" if number % 4 else "train", rng.normal(size=(n, 2)).astype(np.float32))
        doubles = Doubles(np.array([0]), np.array([[1]], np.int8)) if number == 2 else None
        store.write_labels("expr", name, "train", rng.integers(0, 8, (n, 1)).astype(np.int8), doubles, person="ann")
    rows, qualities = np.arange(20), rng.random(20).astype(np.float32)
    writer = store.writer("f", "v04", 20, rows, {"fps": 25.0, "source": "with quality"})
    writer.write(rows, rng.normal(size=(20, 3)).astype(np.float32))
    writer.finish(quality=qualities)
    return store


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that is not packed."""
    path = tmp_path_factory.mktemp("packs") / "store.zarr"
    fill(path)
    return path


@pytest.fixture
def path(filled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(filled, tmp_path / "store.zarr"))


@pytest.fixture(scope="module")
def packed_once(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store, packed."""
    path = Path(shutil.copytree(filled, tmp_path_factory.mktemp("packed") / "store.zarr"))
    pack(path)
    return path


@pytest.fixture
def packed(packed_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(packed_once, tmp_path / "store.zarr"))


def pack(place: str | Path) -> PackSummary:
    return pack_store(FeatureStore.create(place), Silent(), SHARD_BYTES)


def view(place: str | Path) -> dict[str, Any]:
    """Everything that can be asked of a store."""
    store = FeatureStore.open(place)
    seen: dict[str, Any] = {"described": describe_store(store), "labelled": describe_label_rows(store)}
    for feature in store.features():
        turn = VideosInTurn(store, feature, store.videos(feature))
        for video, attrs in store.videos(feature).items():
            one, quality = store.read(feature, video), store.read_quality(feature, video)
            for whole in (store.stored_video(feature, video), turn.stored_video(video)):
                assert whole is not None
                blocks = [whole.block(number) for number in range(whole.n_blocks)]
                assert b"".join(block.values.tobytes() for block in blocks) == one.values.tobytes()
                assert np.array_equal(whole.present, one.present)
            same, into = turn.read(video), np.zeros(one.values.shape, np.float32)
            assert (same.values.tobytes(), same.values.dtype) == (one.values.tobytes(), one.values.dtype)
            assert np.array_equal(same.present, one.present) and same.fps == one.fps
            for read in (partial(store.read, feature, video), partial(turn.read, video)):
                assert np.array_equal(read(into).values, one.values.astype(np.float32)) and read(into).values is into
            np.testing.assert_array_equal(turn.read_quality(video), quality)
            listed = {key: value for key, value in attrs.items() if key != "checksum"}
            assert listed == {key: store.video_attrs(feature, video)[key] for key in listed}
            seen[f"{feature} {video}"] = (
                one.values.dtype, one.values.tobytes(), one.present.tobytes(), one.fps, listed,
                None if quality is None else quality.tobytes(),
            )  # fmt: skip
    for task in store.tasks():
        for video, labels in store.labels(task).items():
            alone = store.read_labels(task, video)
            assert (alone.split, alone.person, alone.rows.tobytes()) == (
                labels.split,
                labels.person,
                labels.rows.tobytes(),
            )
            doubles = labels.doubles and (labels.doubles.rows.tobytes(), labels.doubles.labels.tobytes())
            seen[f"{task} {video}"] = (labels.split, labels.person, labels.rows.tobytes(), doubles)
    return seen


def files_of(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_the_view_stays_the_same(path: Path) -> None:
    before = view(path)
    summary = pack(path)
    assert summary.n_videos == 4 * N_VIDEOS and summary.damaged == []
    assert view(path) == before
    assert verify_store(FeatureStore.open(path), Silent()) == []
    assert not list(path.glob("features/f/v*")) and not list(path.glob("labels/va/v*"))
    assert zarr.open_group(str(path), mode="r").attrs["format"] == 2, "earlier versions refuse it"
    files = files_of(path)
    assert pack(path).n_videos == 0 and files_of(path) == files


def test_other_programs_read_what_is_packed(filled: Path, packed_once: Path) -> None:
    """With Zarr and JSON alone, as docs/store.md says."""
    before = FeatureStore.open(filled)
    expected = {video: before.read("f", video) for video in before.videos("f")}
    group = zarr.open_group(str(packed_once), mode="r", use_consolidated=False)["features/f/.packs"]
    found = {}
    for _, part in group["index"].groups():
        names, n_videos = json.loads(bytes(part["name"][:])), part.attrs["n_videos"]
        assert len(names) == len(part["first_row"][:]) == n_videos

        def column(name: str, part: Any = part) -> list[Any]:
            if f"{name}.code" in part:
                known = json.loads(bytes(part[name][:]))
                return [None if code < 0 else known[code] for code in part[f"{name}.code"][:]]
            return json.loads(bytes(part[name][:])) if part[name].dtype == np.uint8 else part[name][:].tolist()

        starts = [0, *part["present_end"][:].tolist()] if "present_end" in part else [0] * (n_videos + 1)
        columns = [names, column("array"), column("first_row"), column("n_rows"), column("attrs/fps")]
        for number, (name, array, first, n_rows, fps) in enumerate(zip(*columns, strict=True)):
            values = group[array][first : first + n_rows]
            present = np.ones(n_rows, bool)
            if starts[number] < starts[number + 1]:
                bits = part["present_bits"][starts[number] : starts[number + 1]]
                present = np.unpackbits(bits)[:n_rows].astype(bool)
            found[name] = (values, present, fps)
    assert found.keys() == expected.keys()
    for video, (values, present, fps) in found.items():
        np.testing.assert_array_equal(values, expected[video].values)
        np.testing.assert_array_equal(present, expected[video].present)
        assert fps == expected[video].fps


def test_videos_that_are_written_again_removed_and_new(packed: Path) -> None:
    path = packed
    store = FeatureStore.create(path)
    first, kept = np.ones((9, 3)), store.read("f", "v05").values
    put_feature(store, "f", "v03", first)
    put_feature(store, "f", "new", 2 * first)
    assert store.write_labels("va", "v01", "test", np.zeros((4, 2), np.float32))
    again = store.read_labels("expr", "v02")
    assert not store.write_labels("expr", "v02", again.split, again.rows, again.doubles, again.person), "as packed"
    store.drop("features/f/v06", "features/f/nothing", "labels/va/v06")
    for _ in range(2):
        for now in (store, FeatureStore.open(path)):
            assert len(now.videos("f")) == N_VIDEOS and "v06" not in now.videos("f")
            assert np.array_equal(now.read("f", "v03").values, first) and now.read("f", "new").values.max() == 2
            assert np.array_equal(now.read("f", "v05").values, kept) and now.incomplete("f") == []
            assert now.read_labels("va", "v01").split == "test" and "v06" not in now.label_names("va")
            with pytest.raises(StoreError, match="has no video 'v06'"):
                now.read("f", "v06")
        before = view(path)
        pack(path)
        assert view(path) == before
    assert not list(path.glob("features/f/[vn]*"))
    store = FeatureStore.create(path)
    store.drop(*(f"features/f/{video}" for video in store.videos("f")))
    pack(path)
    assert not list(path.glob("features/f/.packs/float*/c/*/0")), "nothing in them counts"


def test_what_a_killed_process_left_is_not_packed_again(packed: Path, filled: Path) -> None:
    """Killed before it deleted what it had packed, or halfway; `fuzz.kills` kills at every change."""
    path, files = packed, files_of(packed)
    for video in ("v01", "v04", "v05"):
        shutil.copytree(filled / "features/f" / video, path / "features/f" / video)
    (path / "features/f/v05/zarr.json").unlink()
    shutil.copytree(filled / "labels/va/v01", path / "labels/va/v01")
    (path / "features/f/.packs/float16-3/c/0/0.1.partial").write_bytes(b"x")
    shutil.copytree(next((path / "features/f/.packs/index").glob("0*")), path / "features/f/.packs/index/00000099-0")
    (path / "features/f/.packs/index/00000099-0/zarr.json").unlink()
    store = FeatureStore.open(path)
    assert store.incomplete("f") == [] and len(store.videos("f")) == N_VIDEOS
    assert pack(path).n_videos == 0 and files_of(path) == files
    # one of the same name whose values differ is newer
    stored = FeatureStore.open(path).read("f", "v01")
    other = np.where(stored.present[:, None], stored.values + 1, 0)
    put_feature(FeatureStore.create(path), "f", "v01", other, stored.present, stored.fps, source="1")
    assert pack(path).n_videos > 0
    np.testing.assert_array_equal(FeatureStore.open(path).read("f", "v01").values, other.astype(np.float16))


def test_many_videos_are_read_at_once_and_damage_is_that_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rows = new_store(tmp_path / "s.zarr", {"f": (2048,)}), np.arange(72.0)[:, None] + np.arange(2048) / 10_000
    for number, row in enumerate(rows):
        put_feature(store, "f", f"v{number:03}", row[None])
        store.write_labels("va", f"v{number:03}", "train", row[None, :2].astype(np.float32))
    pack_store(store, Silent())
    opened, open_file = list[Path](), PlainArray.open
    monkeypatch.setattr(PlainArray, "open", lambda self, file: opened.append(file) or open_file(self, file))
    store = FeatureStore.open(store.path)
    turn, labels = VideosInTurn(store, "f", store.videos("f")), store.labels("va")
    np.testing.assert_array_equal(np.concatenate([one.rows for one in labels.values()]), rows[:, :2].astype(np.float32))
    np.testing.assert_array_equal(
        np.concatenate([turn.read(video).values for video in store.videos("f")]), rows.astype(np.float16)
    )
    assert len(opened) == 2, "the labels at once, and the features at once: each has less than a megabyte"
    # a bit in the second of their chunks of 32 rows
    shard = Path(store.path) / "features/f/.packs/float16-2048/c/0/0"
    content = bytearray(shard.read_bytes())
    content[40 * 4096 + 10] ^= 1
    shard.write_bytes(bytes(content))
    damaged = set()
    for number, video in enumerate(store.videos("f")):
        turn = VideosInTurn(store, "f", store.videos("f")) if number % 60 == 0 else turn
        for read in (turn.read, partial(block_of, turn)):
            try:
                np.testing.assert_array_equal(read(video).values[0], rows[number].astype(np.float16))
            except StoreError as error:
                assert f"{video!r} is damaged (a chunk does not match its checksum)" in str(error)
                damaged.add(number)
    assert damaged == set(range(32, 64))


def block_of(turn: VideosInTurn, video: str) -> Block:
    stored = turn.stored_video(video)
    assert stored is not None and stored.n_blocks == 1
    return stored.block(0)


def test_a_damaged_shard(packed: Path) -> None:
    path = packed
    before = view(path)
    shard = path / "features/f/.packs/float16-3/c/0/0"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1  # in the first chunk, which is that of the first video
    shard.write_bytes(bytes(content))
    store = FeatureStore.open(path)
    with pytest.raises(StoreError, match=r"'v00' is damaged \(a chunk does not match.*abaw store repair"):
        store.read("f", "v00")
    problems = verify_store(store, Silent())
    damaged = {problem.path.rpartition("/")[2] for problem in problems}
    assert "v00" in damaged and len(damaged) < N_VIDEOS / 2
    dropped, left = repair_store(FeatureStore.create(path), Silent())
    assert len(dropped) == len(damaged) and left == []
    assert verify_store(FeatureStore.open(path), Silent()) == []
    left_over = {key: value for key, value in view(path).items() if " " in key}
    assert left_over == {key: before[key] for key in left_over} and len(left_over) > N_VIDEOS
    assert damaged.isdisjoint(FeatureStore.open(path).videos("f"))
    shard.unlink()
    assert verify_store(FeatureStore.open(path), Silent())


@pytest.mark.parametrize("file", ["zarr.json", "n_rows/c/0"])
def test_a_damaged_index(packed: Path, file: str) -> None:
    path = packed
    part = min((path / "features/f/.packs/index").glob("0*"))
    in_part = json.loads((part / "zarr.json").read_text())["attributes"]["n_videos"]
    content = bytearray((part / file).read_bytes())
    content[len(content) // 2] ^= 2
    (part / file).write_bytes(bytes(content))
    store = FeatureStore.open(path)
    with pytest.raises(StoreError, match=r"index of packed videos .* is damaged"):
        store.videos("f")
    (problem,) = verify_store(store, Silent())
    assert problem.path.endswith(part.name)
    repair_store(FeatureStore.create(path), Silent())
    store = FeatureStore.open(path)
    assert len(store.videos("f")) == N_VIDEOS - in_part and len(store.videos("maps")) == N_VIDEOS
    assert verify_store(store, Silent()) == []


@pytest.mark.parametrize("lost", ["index", "index/0*/zarr.json"])
def test_videos_whose_index_is_lost_are_neither_forgotten_nor_deleted(packed: Path, lost: str) -> None:
    path, before = packed, view(packed)
    packs, copy = path / "features/f/.packs", path.parent / "copy"
    shutil.copytree(packs, copy)
    gone = max(packs.glob(lost))
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    (problem,) = verify_store(FeatureStore.open(path), Silent())
    assert "missing" in problem.sentence and (problem.path == "") == (lost == "index")
    if lost == "index":
        assert pack(path).damaged == [problem.sentence]
    else:
        with pytest.raises(StoreError, match=r"is damaged \(it is missing\)\. Restore it if there is a copy"):
            pack(path)
    shutil.copytree(copy, packs, dirs_exist_ok=True)
    assert view(path) == before
    assert verify_store(FeatureStore.open(path), Silent()) == []


def test_a_part_that_was_begun_when_a_reader_looked_counts_once_it_is_complete(packed: Path) -> None:
    index = packed / "features/f/.packs/index"
    (index / "zarr.json").unlink()
    heads = {file: file.read_bytes() for file in index.glob("0*/zarr.json")}
    for file in heads:
        file.unlink()
    reader = FeatureStore.open(packed)
    assert len(reader.videos("f")) == 0
    for file, content in heads.items():
        file.write_bytes(content)
    assert len(reader.videos("f")) == N_VIDEOS and reader.read("f", "v05").values.shape == (350, 3)


def test_an_index_from_elsewhere_cannot_lead_out_of_the_store(packed: Path) -> None:
    path, store = packed, FeatureStore.create(packed)
    for name in ("../x", "a/b", ".x", "__x", "", "a\nb"):
        files, head = encode_part([PackedVideo(name, "float16-3", 0, 1, {})], {})
        part = path / "features/f/.packs/index/00000077-0"
        for key, content in {**files, "zarr.json": head}.items():
            (part / key).parent.mkdir(parents=True, exist_ok=True)
            (part / key).write_bytes(content)
        with pytest.raises(StoreError, match="name of a video is invalid"):
            store.videos("f")
        shutil.rmtree(part)
    own = path / "features/f/.packs/index/zarr.json"
    own.write_text(own.read_text().replace('"parts": [', '"parts": ["../../../../..", 3, '))
    assert len(FeatureStore.open(path).videos("f")) == N_VIDEOS


def test_parts_of_the_index_are_merged(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (3,)})
    for number in range(12):
        put_feature(store, "f", f"v{number:02}", np.full((100, 3), number), source=str(number))
        pack(store.path)
        if number == 9:
            FeatureStore.create(store.path).drop("features/f/v03")
    assert sum(1 for _ in Path(store.path).glob("features/f/.packs/index/0*")) < 8
    now = FeatureStore.open(store.path)
    assert list(now.videos("f")) == [f"v{number:02}" for number in range(12) if number != 3]
    for video, attrs in now.videos("f").items():
        assert attrs["source"] == str(int(video[1:])) and now.read("f", video).values.max() == int(video[1:])


def test_readers_while_a_store_is_packed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found by itself is packed and deleted before it is read."""
    reader, other = FeatureStore.open(path), FeatureStore.open(path)
    expected = {video: other.read("f", video).values for video in other.videos("f")}
    labels = reader.labels("va")
    pack(path)
    find, missed = reader.packs.find, set()

    def late(group: str, video: str) -> PackedVideo | None:
        is_first = (group, video) not in missed
        missed.add((group, video))
        return None if is_first else find(group, video)

    monkeypatch.setattr(reader.packs, "find", late)
    for video, values in expected.items():
        assert np.array_equal(reader.read("f", video).values, values)
        assert np.array_equal(reader.read_labels("va", video).rows, labels[video].rows)
    assert len(missed) == 2 * N_VIDEOS


def test_a_store_far_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with far fewer requests than videos."""
    place = "memory://packs/store.zarr"
    fill(place)
    before = view(path)
    pack_store(FeatureStore.create(place), Silent(), 2**20)
    requests = []
    for method in (FsspecStore.get, FsspecStore.list_dir, FsspecStore.get_partial_values):

        def counted(self: FsspecStore, *arguments: Any, method: Any = method, **options: Any) -> Any:
            requests.append(method.__name__)
            return method(self, *arguments, **options)

        monkeypatch.setattr(FsspecStore, method.__name__, counted)
    with monkeypatch.context() as small:
        small.setattr("abaw.store.far_files.BLOCK_BYTES", 700)
        assert view(place) == before
    store = FeatureStore.open(place)
    videos = list(store.videos("maps"))
    requests.clear()
    for video in videos:
        store.read("maps", video)
    assert len(requests) < N_VIDEOS, requests
    writer = FeatureStore.create(place)
    put_feature(writer, "f", "v03", np.ones((9, 3)))
    writer.drop("features/f/v05")
    for now in (writer, FeatureStore.open(place)):
        assert now.read("f", "v03").values.shape == (9, 3) and "v05" not in now.videos("f")
    pack(place)
    assert FeatureStore.open(place).read("f", "v03").values.shape == (9, 3)


@pytest.mark.parametrize("is_packed", [False, True])
def test_to_dask(filled: Path, packed_once: Path, is_packed: bool) -> None:
    dask = pytest.importorskip("dask")
    store = pickle.loads(pickle.dumps(FeatureStore.open(packed_once if is_packed else filled)))
    for feature in ("f", "maps"):
        lazy = store.to_dask(feature, chunk_bytes=600)
        assert lazy.videos == tuple(store.videos(feature)) and lazy.values.numblocks[0] > N_VIDEOS / 3
        assert max(lazy.values.chunks[0]) * lazy.values[0].nbytes <= 600
        rows = lazy.values.astype("float64")[lazy.present]
        with dask.config.set(scheduler="synchronous"):
            mean, deviation, values = dask.compute(rows.mean(axis=0), rows.std(axis=0), lazy.values)
        means, deviations = feature_statistics(store, [feature], lazy.videos)
        np.testing.assert_allclose(mean, means[feature].numpy(), rtol=1e-12)
        np.testing.assert_allclose(deviation, deviations[feature].numpy(), rtol=1e-9)
        for number, video in enumerate(lazy.videos):
            part = values[lazy.starts[number] : lazy.starts[number + 1]]
            np.testing.assert_array_equal(part, store.read(feature, video).values)


def test_the_command(path: Path, run_cli: Any) -> None:
    shutil.rmtree(path / "features/maps")
    first = run_cli("store", "pack", path)
    assert first.exit_code == 0 and f"{3 * N_VIDEOS} arrays of videos and labels packed" in first.output
    again = run_cli("store", "pack", path)
    assert again.exit_code == 0 and "Nothing new packed" in again.output
    put_feature(FeatureStore.create(path), "f", "bad", np.ones((3, 3)))
    file = path / "features/f/bad/values/c/0/0"
    file.write_bytes(file.read_bytes()[:-2])
    damaged = run_cli("store", "pack", path)
    assert damaged.exit_code == 1 and "'bad' is damaged" in damaged.output and "store repair" in damaged.output
    assert run_cli("store", "pack", path.parent / "nothing.zarr").exit_code == 1
