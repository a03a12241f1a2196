"""Means and deviations from a real store against numpy's over all rows at once."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from abaw import pipeline
from abaw.core.errors import StoreError, UsageError
from abaw.core.tasks import get_task
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoFeature
from abaw.tests.support.stores import new_store, put_feature
from abaw.tests.support.trainings import Lab
from abaw.train.data.statistics import Moments, MomentsOnLoading, feature_statistics
from abaw.train.data.table import Missing, load_table, select_labels


def put_and_read(
    store: FeatureStore, feature: str, video: str, values: np.ndarray, present: np.ndarray | None = None
) -> np.ndarray:
    """Write a video; its present rows as the store keeps them, in float64."""
    put_feature(store, feature, video, values, present)
    rows = slice(None) if present is None else present
    return store.read(feature, video).values[rows].astype(np.float64)


def spoil(store: FeatureStore, video: str, place: tuple[int, int], value: float) -> None:
    """Put a value into a finished video, which no writer would take."""
    array = zarr.open_array(f"{store.path}/features/f/{video}/values", mode="r+")
    array[place] = value


@pytest.mark.parametrize("n_videos", [1, 2, 7, 16])
def test_statistics_are_numpys(tmp_path: Path, n_videos: int) -> None:
    rng = np.random.default_rng(n_videos)
    store = new_store(tmp_path / "s.zarr", {"f": (3, 5), "g": (70,)})
    kept: dict[str, list[np.ndarray]] = {"f": [], "g": []}
    for number in range(n_videos):
        n_frames = int(rng.integers(1, 600))
        for feature, shape in (("f", (3, 5)), ("g", (70,))):
            values = rng.normal(3 * number, 1 + number, (n_frames, *shape))
            kept[feature].append(put_and_read(store, feature, f"v{number:02}", values, rng.random(n_frames) < 0.8))
    means, stds = feature_statistics(store, ["f", "g"], [f"v{number:02}" for number in range(n_videos)])
    assert list(means) == list(stds) == ["f", "g"]
    for feature, shape in (("f", (3, 5)), ("g", (70,))):
        rows = np.concatenate(kept[feature])
        assert str(means[feature].dtype) == str(stds[feature].dtype) == "torch.float64"
        assert tuple(means[feature].shape) == tuple(stds[feature].shape) == shape
        np.testing.assert_allclose(means[feature].numpy(), rows.mean(axis=0), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(stds[feature].numpy(), rows.std(axis=0), rtol=1e-10, atol=1e-12)


def test_statistics_of_a_tiny_store_by_hand(tmp_path: Path) -> None:
    """Values 1, 3 and 8: mean 4, population variance (9 + 1 + 16) / 3. The missing row's 100 does not count."""
    store = new_store(tmp_path / "s.zarr", {"f": (1,)})
    put_feature(store, "f", "a", np.array([[1.0], [100.0], [3.0]]), np.array([True, False, True]))
    put_feature(store, "f", "b", np.array([[8.0]]))
    means, stds = feature_statistics(store, ["f"], ["a", "b"])
    assert means["f"].item() == pytest.approx(4, rel=1e-15)
    assert stds["f"].item() == pytest.approx((26 / 3) ** 0.5, rel=1e-15)


def test_large_float32_values_keep_nine_digits(tmp_path: Path) -> None:
    """As functionals of sound have them: some columns near 1e11, some with a mean 100,000 times their deviation.

    A sum of squares minus the squared mean would lose all digits of the latter.
    """
    rng = np.random.default_rng(0)
    store = new_store(tmp_path / "s.zarr", {"f": (6,)})
    scales, offsets = np.array([1e11, 1e9, 1e5, 1.0, 1e-3, 1e-6]), np.array([0, 1e11, 0, 1e5, 1.0, 0])
    found = [put_and_read(store, "f", f"v{i}", rng.normal(size=(400, 6)) * scales + offsets + i) for i in range(9)]
    rows = np.concatenate(found)
    assert np.abs(rows).max() > 1e11
    assert rows[:, 3].mean() / rows[:, 3].std() > 1e4
    means, stds = feature_statistics(store, ["f"], [f"v{i}" for i in range(9)])
    np.testing.assert_allclose(means["f"].numpy(), rows.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(stds["f"].numpy(), rows.std(axis=0), rtol=1e-9)


def test_video_longer_than_a_block_is_taken_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    store = new_store(tmp_path / "s.zarr", {"f": (512,)})
    rows = put_and_read(store, "f", "long", np.cumsum(rng.normal(size=(1500, 512)), axis=0))
    means, stds = feature_statistics(store, ["f"], ["long"])
    np.testing.assert_allclose(means["f"].numpy(), rows.mean(axis=0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(stds["f"].numpy(), rows.std(axis=0), rtol=1e-10)


def test_a_value_that_never_varies_has_no_deviation(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    for video in "abc":
        put_feature(store, "f", video, np.tile([0.1, 1.23456e11], (77, 1)))
    means, stds = feature_statistics(store, ["f"], list("abc"))
    assert stds["f"].tolist() == [0, 0]
    assert means["f"].tolist() == [np.float32(0.1), np.float32(1.23456e11)]


def test_only_the_given_videos_count_and_those_without_the_feature_are_passed_over(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (2,), "g": (2,)})
    put_feature(store, "f", "a", np.full((4, 2), 1.0))
    put_feature(store, "f", "b", np.full((4, 2), 3.0))
    put_feature(store, "f", "other", np.full((4, 2), 1000.0))
    put_feature(store, "g", "b", np.full((4, 2), 7.0))
    means, stds = feature_statistics(store, ["f", "g"], ["a", "b", "unheard of"])
    assert means["f"].tolist() == [2, 2]
    assert stds["f"].tolist() == [1, 1]
    assert means["g"].tolist() == [7, 7]


def test_no_present_row_gives_zeros(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (2, 3)})
    put_feature(store, "f", "a", np.ones((4, 2, 3)), np.zeros(4, dtype=bool))
    for videos in (["a"], []):
        means, stds = feature_statistics(store, ["f"], videos)
        assert means["f"].tolist() == stds["f"].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_bits_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    store = new_store(tmp_path / "s.zarr", {"f": (40,)})
    for i in range(13):
        put_feature(store, "f", f"v{i}", rng.normal(size=(50, 40)))
    found = []
    for n_threads in (1, 4):
        means, stds = feature_statistics(store, ["f"], [f"v{i}" for i in range(13)], n_threads)
        found.append((means["f"].tolist(), stds["f"].tolist()))
    assert found[0] == found[1]


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=8), min_size=1, max_size=8))
def test_merged_parts_are_the_whole(parts: list[list[float]]) -> None:
    merged = Moments(0, np.zeros(1), np.zeros(1))
    for part in parts:
        rows = np.array(part).reshape(-1, 1)
        mean = rows.mean(axis=0) if part else np.zeros(1)
        merged = merged.merge(Moments(len(part), mean, np.square(rows - mean).sum(axis=0)))
    every = np.array([value for part in parts for value in part])
    assert merged.n_rows == len(every)
    if len(every):
        largest = np.abs(every).max()
        assert merged.mean[0] == pytest.approx(every.mean(), abs=1e-12 * largest + 1e-300)
        assert merged.squares[0] == pytest.approx(len(every) * every.var(), rel=1e-9, abs=1e-9 * largest**2 + 1e-300)


# what is wrong with the store


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf]])
def test_value_that_is_not_finite_is_told(tmp_path: Path, values: list[float]) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (3,)})
    for video in "abc":
        put_feature(store, "f", video, np.ones((6, 3)), np.array([False, True, True, True, True, True]))
    for row, value in enumerate(values, start=3):
        spoil(store, "b", (row, 2), value)
    words = r"Feature 'f' of video 'b' has a value that is not finite in frame 4\. Run `abaw store repair .*s\.zarr`"
    with pytest.raises(StoreError, match=words):
        feature_statistics(store, ["f"], ["a", "b", "c"])


def test_value_that_is_not_finite_in_a_missing_row_does_not_matter(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (3,)})
    put_feature(store, "f", "a", np.ones((4, 3)), np.array([True, False, True, True]))
    spoil(store, "a", (1, 2), np.inf)
    assert feature_statistics(store, ["f"], ["a"])[0]["f"].tolist() == [1, 1, 1]


def test_damaged_video_and_unknown_feature_are_named(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (16,)})
    for video in "ab":
        put_feature(store, "f", video, np.ones((20, 16)))
    with pytest.raises(UsageError, match=r"No feature 'h' .* it has: f"):
        feature_statistics(store, ["f", "h"], ["a"])
    shard = next(path for path in (tmp_path / "s.zarr/features/f/b/values/c").rglob("*") if path.is_file())
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match="Feature 'f' of video 'b' is damaged"):
        feature_statistics(store, ["f"], ["a", "b"])


# statistics from what a table loads


@pytest.mark.parametrize("missing", ["mask", "nearest"])
@pytest.mark.parametrize("free_bytes", [10**9, 0], ids=["memory", "store"])
def test_statistics_of_loaded_videos_are_those_of_the_store_to_the_last_bit(
    tmp_path: Path, missing: Missing, free_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synthetic clips, validation videos, missing rows and a feature that one video lacks are left out in both."""
    monkeypatch.setattr("abaw.train.data.statistics.BLOCK_BYTES", 40 * 8 * 32)  # a block ends within a shard
    monkeypatch.setattr("abaw.store.writer.SHARD_ROWS", 24)
    monkeypatch.setattr("abaw.store.writer.CHUNK_ROWS", 8)
    rng = np.random.default_rng(0)
    store = new_store(tmp_path / "s.zarr", {"f": (40,), "g": (3,)})
    for number in range(11):
        n_frames = int(rng.integers(1, 90))
        video, present = f"v{number:02}", rng.random(n_frames) < 0.8
        put_feature(store, "f", video, rng.normal(number, 3, (n_frames, 40)), present)
        if number != 4:
            put_feature(store, "g", video, rng.normal(size=(n_frames, 3)))
        split = {9: "val", 2: "synthetic"}.get(number, "train")
        store.write_labels("vgaf", video, split, np.zeros((1, 1), dtype=np.int8))
    task = get_task("vgaf")
    labels = select_labels(store, task, "train", synthetic=True)
    loaded = MomentsOnLoading(["f", "g", "other"])
    monkeypatch.setattr("abaw.train.data.table.free_memory", lambda: free_bytes)
    monkeypatch.delenv("TMPDIR", raising=False)
    table = load_table(store, task, labels, ["f", "g"], missing, on_read=loaded.add)
    assert bool(table.stored) == (free_bytes == 0)
    real = [video for video, is_clip in zip(table.videos, table.synthetic, strict=True) if not is_clip]
    assert len(real) == 9 and len(table.videos) == 10
    found = feature_statistics(store, ["f", "g"], real, loaded=loaded)
    wanted = feature_statistics(store, ["f", "g"], real)
    for statistic, expected in zip(found, wanted, strict=True):
        assert {name: value.tolist() for name, value in statistic.items()} == {
            name: value.tolist() for name, value in expected.items()
        }


def test_a_training_reads_each_video_once(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lab.make_store(tmp_path / "s.zarr")
    read: list[tuple[str, str]] = []

    def reading(self: FeatureStore, feature: str, video: str, into: np.ndarray | None = None) -> VideoFeature:
        read.append((feature, video))
        return original(self, feature, video, into)

    original = FeatureStore.read
    monkeypatch.setattr(FeatureStore, "read", reading)
    pipeline.train_seeds(
        [lab.config("va", "epochs=1", f"seed={s}") for s in (0, 1)], store, tmp_path / "r", device="cpu"
    )
    assert sorted(read) == [("f", f"v{i}") for i in range(6)]
