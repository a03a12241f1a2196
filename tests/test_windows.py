"""Tables and windows: feature and label of a frame stay together from the store to the batch, and no frame is lost."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw.errors import UsageError
from abaw.store import FeatureStore
from abaw.tasks import TASKS
from abaw.train import windows as windows_module
from abaw.train.windows import Batch, Table, WindowSampler, allocate, load_table, nearest_present, statistics

VA = TASKS["va"]
# name: (frames, label rows, rows without a crop)
VIDEOS = {
    "long": (230, 231, [0, 1, 2, *range(50, 95), 120, 229]),
    "fewer_labels": (60, 59, [30]),
    "short": (37, 38, [0, 36]),
    "single": (1, 1, []),
    "no_feature": (0, 45, []),
    "more_frames": (80, 50, [10, 60]),
}
CODE = {video: i for i, video in enumerate(sorted(VIDEOS))}


def new_store(path: Path, shapes: dict[str, tuple[int, ...]]) -> FeatureStore:
    store = FeatureStore.create(path)
    for feature, shape in shapes.items():
        store.add_feature(feature, {"shape": shape, "weights": "none"}, None, f"fingerprint of {feature}")
    return store


def put(store: FeatureStore, feature: str, video: str, values: np.ndarray, present: np.ndarray) -> None:
    rows = np.flatnonzero(present)
    writer = store.writer(feature, video, len(values), rows, {"fps": 25.0, "source": "test"})
    writer.write(rows, values[rows].astype(np.float32))
    writer.finish()


def coded(video: str, n: int) -> np.ndarray:
    """(n, 2): frame number and number of the video, which float16 holds exactly."""
    return np.stack([np.arange(1, n + 1), np.full(n, CODE[video])], axis=1).astype(np.float32)


def present_rows(video: str) -> np.ndarray:
    n_frames, _, absent = VIDEOS[video]
    present = np.ones(n_frames, dtype=bool)
    present[absent] = False
    return present


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Features and labels that both say which frame of which video they belong to."""
    store = new_store(tmp_path_factory.mktemp("windows") / "store.zarr", {"code": (2,), "half": (1, 2)})
    for video, (n_frames, n_labels, _) in VIDEOS.items():
        if n_frames:
            put(store, "code", video, coded(video, n_frames), present_rows(video))
            if video != "short":  # the second feature lacks a whole video, and every third frame of the others
                there = present_rows(video) & (np.arange(n_frames) % 3 != 2)
                put(store, "half", video, coded(video, n_frames)[:, None], there)
        store.write_labels("va", video, "train", coded(video, n_labels))
    put(store, "code", "of_val", np.full((40, 2), 999), np.ones(40, bool))
    store.write_labels("va", "of_val", "val", np.full((40, 2), 999, dtype=np.float32))
    return store


@pytest.fixture(scope="module")
def table(store: FeatureStore) -> Table:
    return load_table(store, VA, "train", ["code"])


def frames_in(batch: Batch, feature: str = "code") -> Counter[tuple[int, int]]:
    """How often each (video, frame) counts in a batch, by its feature."""
    values = batch.features[feature].flatten(2)[batch.valid.all(-1)]
    return Counter((int(video), int(frame)) for frame, video in values.tolist())


def wanted_frames(n_labels_of: dict[str, int]) -> set[tuple[int, int]]:
    return {
        (CODE[video], row + 1)
        for video, n_labels in n_labels_of.items()
        for row in np.flatnonzero(present_rows(video)[:n_labels]).tolist()
    }


LABELLED = {video: n_labels for video, (n_frames, n_labels, _) in VIDEOS.items() if n_frames}


# the table


def test_table_holds_the_videos_of_the_split_in_order(table: Table) -> None:
    assert table.videos == tuple(sorted(VIDEOS))
    wanted = [max(VIDEOS[video][:2]) for video in table.videos]
    assert np.diff(table.starts).tolist() == wanted
    assert not (table.values["code"] == 999).any()


def test_rows_say_what_is_there(table: Table) -> None:
    for i, video in enumerate(table.videos):
        rows, (n_frames, n_labels, _) = table.rows(i), VIDEOS[video]
        padded = np.zeros(rows.stop - rows.start, dtype=bool)
        padded[:n_frames] = present_rows(video)
        np.testing.assert_array_equal(table.present[rows], padded)
        np.testing.assert_array_equal(table.seen[rows], padded)
        labelled = np.arange(len(padded)) < n_labels
        np.testing.assert_array_equal(table.valid[rows].all(1), labelled)
        np.testing.assert_array_equal(table.labels[rows][labelled], coded(video, n_labels))


def test_labelled_video_without_feature_is_kept_as_not_present(table: Table) -> None:
    number = table.videos.index("no_feature")
    rows = table.rows(number)
    assert rows.stop - rows.start == 45
    assert table.valid[rows].all()
    assert not table.present[rows].any()
    assert not table.seen[rows].any()
    assert table.fps[number] == 0
    assert table.fps[table.videos.index("long")] == 25


def test_joined_features_must_all_be_there(store: FeatureStore) -> None:
    joined = load_table(store, VA, "train", ["code", "half"])
    assert joined.values["half"].shape[1:] == (1, 2)
    for i, video in enumerate(joined.videos):
        n_frames = VIDEOS[video][0]
        wanted = np.zeros(joined.rows(i).stop - joined.rows(i).start, dtype=bool)
        if video != "short":
            wanted[:n_frames] = present_rows(video) & (np.arange(n_frames) % 3 != 2)
        np.testing.assert_array_equal(joined.present[joined.rows(i)], wanted)
    assert joined.fps[joined.videos.index("short")] == 0


def test_invalid_labels_are_masked_value_by_value(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (1,)})
    put(store, "f", "a", np.ones((3, 1)), np.ones(3, bool))
    store.write_labels("va", "a", "train", np.array([[-5, 0.1], [-1, -1], [0.2, -5]], dtype=np.float32))
    table = load_table(store, VA, "train", ["f"])
    assert table.valid.tolist() == [[False, True], [True, True], [True, False]]
    assert table.labels[0, 0] == -5


def test_one_wide_video_makes_the_table_float32(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    narrow, wide = np.array([[0.1, 2.0], [3.0, 4.0]]), np.array([[1e5, -123456.0]])
    put(store, "f", "narrow", narrow, np.ones(2, bool))
    put(store, "f", "wide", wide, np.ones(1, bool))
    for video, n in (("narrow", 2), ("wide", 1)):
        store.write_labels("va", video, "train", np.zeros((n, 2), dtype=np.float32))
    values = load_table(store, VA, "train", ["f"]).values["f"]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.concatenate([narrow.astype(np.float16), wide]).astype(np.float32))


def test_features_keep_float16_where_it_is_enough(table: Table) -> None:
    assert table.values["code"].dtype == np.float16


def test_labelled_videos_that_all_lack_the_feature_are_an_error(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (1,)})
    put(store, "f", "other", np.ones((3, 1)), np.ones(3, bool))
    store.write_labels("va", "a", "train", np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(UsageError, match=r"None of the 1 videos with va labels \(train\) has f.*abaw extract"):
        load_table(store, VA, "train", ["f"])


# missing frames


def test_nearest_by_hand() -> None:
    present = np.array([False, False, True, False, False, False, True, False, False])
    # row 4 is two away from both 2 and 6: the earlier one
    assert nearest_present(present).tolist() == [2, 2, 2, 2, 2, 6, 6, 6, 6]
    assert nearest_present(np.array([False, True])).tolist() == [1, 1]
    assert nearest_present(np.array([True, True])).tolist() == [0, 1]


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
@settings(deadline=None)
def test_nearest_is_the_closest_by_brute_force(values: list[bool]) -> None:
    places = [i for i, there in enumerate(values) if there]
    wanted = [min(places, key=lambda place: (abs(place - row), place)) for row in range(len(values))]
    assert nearest_present(np.array(values)).tolist() == wanted


def test_missing_frames_are_masked_or_taken_from_the_nearest(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (1,)})
    present = np.array([False, True, False, False, True])
    put(store, "f", "a", np.arange(5.0)[:, None] + 10, present)
    store.write_labels("va", "a", "train", np.zeros((7, 2), dtype=np.float32))
    masked = load_table(store, VA, "train", ["f"], "mask")
    assert masked.values["f"][:, 0].tolist() == [0, 11, 0, 0, 14, 0, 0]
    assert masked.present.tolist() == [*present.tolist(), False, False]
    filled = load_table(store, VA, "train", ["f"], "nearest")
    assert filled.values["f"][:, 0].tolist() == [11, 11, 11, 14, 14, 14, 14]
    assert filled.present.all()
    assert filled.seen.tolist() == [*present.tolist(), False, False]


def test_nearest_fills_each_joined_feature_by_itself(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (1,), "g": (1,)})
    put(store, "f", "a", np.array([[1.0], [2.0], [3.0]]), np.array([True, False, False]))
    put(store, "g", "a", np.array([[1.0], [2.0], [3.0]]), np.array([False, False, True]))
    store.write_labels("va", "a", "train", np.zeros((3, 2), dtype=np.float32))
    table = load_table(store, VA, "train", ["f", "g"], "nearest")
    assert table.values["f"][:, 0].tolist() == [1, 1, 1]
    assert table.values["g"][:, 0].tolist() == [3, 3, 3]
    assert table.present.all()
    assert not table.seen.any()


# windows


def bare_table(lengths: list[int]) -> Table:
    """Videos of these lengths, all there; the feature is the row number, the first label the number of the video."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    n = int(starts[-1])
    there = np.ones(n, dtype=bool)
    labels = np.repeat(np.arange(len(lengths), dtype=np.float32), lengths)[:, None].repeat(2, axis=1)
    values = {"row": np.arange(n, dtype=np.float32)[:, None]}
    names = tuple(f"v{i:02}" for i in range(len(lengths)))
    return Table(names, starts, values, there, there, labels, labels >= 0, np.ones(len(lengths)))


layouts = st.tuples(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 25), st.integers(1, 25))


@given(layouts, st.one_of(st.none(), st.integers(0, 99)))
@settings(deadline=None)
def test_windows_cover_every_row_and_stay_in_their_video(layout: tuple, seed: int | None) -> None:
    lengths, length, stride = layout
    stride = min(stride, length)
    table = bare_table(lengths)
    rng = None if seed is None else np.random.default_rng(seed)
    found = WindowSampler(table, length).windows(stride, rng)
    covered = np.zeros(len(table.present), dtype=int)
    for first, end in found.tolist():
        video = int(np.searchsorted(table.starts, first, side="right")) - 1
        assert end == table.starts[video + 1]
        assert first + length <= end or first == table.starts[video], "a window that is too long begins the video"
        covered[first : min(first + length, end)] += 1
    assert covered.min() >= 1


@given(layouts)
@settings(deadline=None)
def test_windows_are_stride_apart_and_the_last_is_moved_back(layout: tuple) -> None:
    lengths, length, stride = layout
    table = bare_table(lengths)
    found = WindowSampler(table, length).windows(stride)
    for start, n in zip(table.starts.tolist(), lengths, strict=False):
        mine = [first - start for first, end in found.tolist() if end == start + n]
        last = max(0, n - length)
        assert mine == [*range(0, last, stride), last]


def test_windows_by_hand() -> None:
    sampler = WindowSampler(bare_table([7, 3]), 4)
    assert sampler.windows(2).tolist() == [[0, 7], [2, 7], [3, 7], [7, 10]]
    assert sampler.n_windows(2) == 4
    batch = sampler.batch(sampler.windows(2))
    assert batch.features["row"][batch.mask][:, 0].tolist() == [0, 1, 2, 3, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9]
    assert batch.mask[3].tolist() == [True, True, True, False]
    assert batch.valid[3, :, 0].tolist() == [True, True, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_no_window_is_drawn_twice_in_an_epoch(seed: int) -> None:
    found = WindowSampler(bare_table([7, 3, 12, 30]), 12).windows(6, np.random.default_rng(seed))
    assert len(np.unique(found, axis=0)) == len(found)


def test_phases_are_random_so_that_windows_begin_anywhere() -> None:
    sampler = WindowSampler(bare_table([200]), 20)
    begins = {int(first) for seed in range(60) for first in sampler.windows(10, np.random.default_rng(seed))[:, 0]}
    assert len(begins) > 100


# batches


@pytest.mark.parametrize(("length", "stride", "batch_size"), [(50, 25, 4), (100, 100, 3), (7, 3, 64), (1, 1, 32)])
def test_feature_and_label_are_of_the_same_frame(table: Table, length: int, stride: int, batch_size: int) -> None:
    sampler = WindowSampler(table, length)
    counted: Counter[tuple[int, int]] = Counter()
    for batch in sampler.epoch(stride, batch_size, (0, 1)):
        assert torch.equal(batch.features["code"][batch.valid].float(), batch.labels[batch.valid])
        assert not batch.valid[~batch.mask].any()
        counted += frames_in(batch)
        for codes, mask in zip(batch.features["code"], batch.mask, strict=True):
            frames, videos = codes[mask].unbind(1)
            places = mask.nonzero()[:, 0]
            assert len(videos.unique()) <= 1, "one video in a window"
            assert len((frames - places).unique()) <= 1, "one frame after another"
    assert set(counted) == wanted_frames(LABELLED)


def test_joined_features_are_of_the_same_frame(store: FeatureStore) -> None:
    joined = load_table(store, VA, "train", ["code", "half"])
    n_frames = 0
    for batch in WindowSampler(joined, 20).epoch(20, 8, (0, 1)):
        assert torch.equal(batch.features["half"][:, :, 0][batch.mask], batch.features["code"][batch.mask])
        n_frames += int(batch.mask.sum())
    assert n_frames >= joined.present.sum() > 0


def test_epoch_is_every_window_in_batches_the_last_one_smaller() -> None:
    sampler = WindowSampler(bare_table([30, 40, 50]), 10)
    n_windows = sampler.n_windows(10)
    assert n_windows == 3 + 4 + 5
    sizes = [len(batch.mask) for batch in sampler.epoch(1, 7, (0, 1))]
    assert sum(sizes) == sampler.n_windows(1) == 21 + 31 + 41
    assert sizes == [7] * 13 + [2]


def rows_of_epoch(sampler: WindowSampler, seed: tuple[int, int]) -> list[list[int]]:
    return [row for batch in sampler.epoch(5, 4, seed) for row in batch.features["row"][:, :, 0].int().tolist()]


def test_epoch_is_seeded_and_every_epoch_differs() -> None:
    sampler = WindowSampler(bare_table([80, 90, 100]), 10)
    first = rows_of_epoch(sampler, (3, 1))
    assert rows_of_epoch(sampler, (3, 1)) == first
    others = [rows_of_epoch(sampler, seed) for seed in ((3, 2), (4, 1))]
    assert all(other != first for other in others)
    assert all(sorted(other) != sorted(first) for other in others), "not only the order, the windows differ too"
    assert [row[0] for row in first] != sorted(row[0] for row in first), "videos are mixed"


def test_batch_goes_to_the_device_as_float32(table: Table) -> None:
    sampler = WindowSampler(table, 10)
    batch = sampler.batch(sampler.windows(10))
    moved = batch.to(torch.device("cpu"))
    assert batch.features["code"].dtype == torch.float16
    assert moved.features["code"].dtype == torch.float32
    assert torch.equal(moved.features["code"], batch.features["code"].float())


# memory


def test_allocate_gives_zeros_in_memory_or_in_a_file() -> None:
    dtype = np.dtype(np.float16)
    small, large = allocate((10, 3), dtype, 60), allocate((10, 3), dtype, 59)
    assert not isinstance(small, np.memmap)
    assert isinstance(large, np.memmap)
    for found in (small, large):
        assert found.shape == (10, 3)
        assert found.dtype == dtype
        assert not found.any()
        found[4] = 1.5
        assert found[4].tolist() == [1.5] * 3


def test_file_beyond_the_budget_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = allocate((100, 100), np.dtype(np.float32), 0)
    found[:] = 7
    assert list(tmp_path.iterdir()) == []
    assert (found == 7).all()


def test_table_in_a_file_gives_the_same_batches(
    store: FeatureStore, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows_module, "allocate", partial(allocate, budget_bytes=0))
    mapped = load_table(store, VA, "train", ["code"])
    assert isinstance(mapped.values["code"], np.memmap)
    np.testing.assert_array_equal(mapped.values["code"], table.values["code"])
    pairs = zip(*(WindowSampler(t, 30).epoch(10, 8, (0, 1)) for t in (mapped, table)), strict=True)
    for ours, theirs in pairs:
        assert torch.equal(ours.features["code"], theirs.features["code"])
        assert torch.equal(ours.mask, theirs.mask)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.valid, theirs.valid)


# statistics


@pytest.mark.parametrize("n_rows", [50, 16_384, 40_000])
def test_statistics_are_numpys_over_the_present_rows(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(n_rows, 2, 3)) * [0.01, 1, 50] + [100, 0, -300]).astype(np.float16)
    present = rng.random(n_rows) > 0.4
    values[~present] = 60_000
    table = bare_table([n_rows])
    table = Table(**{**vars(table), "values": {"f": values}, "present": present})
    means, stds = statistics(table)
    assert means["f"].shape == stds["f"].shape == (2, 3)
    kept = values[present].astype(np.float64)
    np.testing.assert_allclose(means["f"], kept.mean(0), rtol=1e-12)
    np.testing.assert_allclose(stds["f"], kept.std(0), rtol=1e-6)


def test_statistics_without_a_present_row_are_finite() -> None:
    table = bare_table([5])
    means, stds = statistics(Table(**{**vars(table), "present": np.zeros(5, dtype=bool)}))
    assert means["row"].tolist() == [0]
    assert stds["row"].tolist() == [0]
