"""Tables: feature, mask and label of a frame stand in the same row, and a split holds the videos that it says."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from abaw.core.errors import StoreError, UsageError
from abaw.core.progress import Silent
from abaw.core.tasks import TASKS
from abaw.store import FeatureStore
from abaw.store.packing import pack_store
from abaw.tests.support.stores import far_copy, new_store, put_feature
from abaw.train.data import table as table_module
from abaw.train.data.statistics import feature_statistics
from abaw.train.data.table import Table, allocate, load_table, nearest_present, select_labels

VA, EXPR, LSD, VGAF = (TASKS[name] for name in ("va", "expr", "lsd", "vgaf"))
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


def coded(video: str, n: int) -> np.ndarray:
    """(n, 2): frame number and number of the video, which float16 holds exactly."""
    return np.stack([np.arange(1, n + 1), np.full(n, CODE[video])], axis=1).astype(np.float32)


def face_rows(video: str) -> np.ndarray:
    n_frames, _, absent = VIDEOS[video]
    present = np.ones(n_frames, dtype=bool)
    present[absent] = False
    return present


def sound_rows(video: str) -> np.ndarray:
    """Every third frame is silent, other frames than those without a face."""
    return np.arange(VIDEOS[video][0]) % 3 != 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Features and labels that both say which frame of which video they belong to; `short` has no sound at all."""
    path = tmp_path_factory.mktemp("table") / "store.zarr"
    store = new_store(path, {"face": (2,), "sound": (1, 2)}, audio=("sound",))
    for video, (n_frames, n_labels, _) in VIDEOS.items():
        if n_frames:
            put_feature(store, "face", video, coded(video, n_frames), face_rows(video))
            if video != "short":
                put_feature(store, "sound", video, coded(video, n_frames)[:, None], sound_rows(video))
        store.write_labels("va", video, "train", coded(video, n_labels))
    put_feature(store, "face", "of_val", np.full((40, 2), 999))
    store.write_labels("va", "of_val", "val", np.full((40, 2), 999, dtype=np.float32))
    return store


def load(store: FeatureStore, *features: str, task: str = "va", split: str = "train", missing: str = "mask") -> Table:
    labels = select_labels(store, TASKS[task], split)
    return load_table(store, TASKS[task], labels, features or ("face",), missing)


def padded(mask: np.ndarray, n_rows: int) -> list[bool]:
    return [*mask.tolist(), *[False] * (n_rows - len(mask))]


# rows


def test_table_holds_the_videos_of_the_split_in_order(store: FeatureStore) -> None:
    table = load(store)
    assert table.videos == tuple(sorted(VIDEOS))
    assert np.diff(table.starts).tolist() == [max(VIDEOS[video][:2]) for video in table.videos]
    assert not (table.values["face"] == 999).any()
    assert not table.synthetic.any()
    assert table.task is VA


def test_rows_hold_features_masks_and_labels_of_their_frame(store: FeatureStore) -> None:
    """Labels may end before the frames do, and the other way round."""
    table = load(store)
    for i, video in enumerate(table.videos):
        rows, (n_frames, n_labels, _) = table.rows(i), VIDEOS[video]
        n_rows = rows.stop - rows.start
        faces = padded(face_rows(video), n_rows)
        for mask in (table.masks["face"], table.has_feature, table.has_face, table.present()):
            assert mask[rows].tolist() == faces
        labelled = np.arange(n_rows) < n_labels
        np.testing.assert_array_equal(table.valid[rows].all(1), labelled)
        np.testing.assert_array_equal(table.labels[rows][labelled], coded(video, n_labels))
        assert (table.labels[rows][~labelled] == -5).all()
        wanted = np.where(np.array(faces)[:, None], np.resize(coded(video, max(n_frames, n_rows)), (n_rows, 2)), 0)
        np.testing.assert_array_equal(table.values["face"][rows], wanted)


def test_each_feature_has_its_own_mask(store: FeatureStore) -> None:
    """A face can be missing where there is sound, and sound where there is a face."""
    table = load(store, "face", "sound")
    assert table.values["sound"].shape[1:] == (1, 2)
    kinds = set()
    for i, video in enumerate(table.videos):
        rows = table.rows(i)
        n_rows = rows.stop - rows.start
        faces = np.array(padded(face_rows(video), n_rows))
        sounds = np.array(padded(sound_rows(video) if video != "short" else np.zeros(0, bool), n_rows))
        np.testing.assert_array_equal(table.masks["face"][rows], faces)
        np.testing.assert_array_equal(table.masks["sound"][rows], sounds)
        np.testing.assert_array_equal(table.has_feature[rows], faces | sounds)
        np.testing.assert_array_equal(table.has_face[rows], faces)
        np.testing.assert_array_equal(table.present()[rows], faces | sounds)
        assert not table.values["sound"][rows][~sounds].any()
        kinds |= set(zip(faces.tolist(), sounds.tolist(), strict=True))
    assert len(kinds) == 4, "else this test saw too little"


def test_crops_of_low_quality_are_masked_and_still_count_as_faces(tmp_path: Path) -> None:
    """Frame 1 has no crop, those of 2 and 4 are bad, 3 is as good as asked for; `b` has no quality, and counts as good."""
    store = new_store(tmp_path / "s.zarr", {"a": (1,), "b": (1,), "sound": (1,)}, audio=("sound",))
    values, quality = np.arange(4.0)[:, None], np.array([0, 0.25, 0.5, 0.49])
    put_feature(store, "a", "v", values, [False, True, True, True], quality=quality)
    put_feature(store, "b", "v", values, [False, True, True, True])
    put_feature(store, "sound", "v", values, quality=np.zeros(4))
    store.write_labels("va", "v", "train", np.zeros((5, 2), dtype=np.float32))
    labels = select_labels(store, VA, "train")
    masked = load_table(store, VA, labels, ("a", "b", "sound"), min_quality=0.5)
    assert masked.masks["a"].tolist() == [False, False, True, False, False]
    assert masked.masks["b"].tolist() == masked.has_face.tolist() == [False, True, True, True, False]
    assert masked.masks["sound"].tolist() == masked.has_feature.tolist() == [True] * 4 + [False]
    filled = load_table(store, VA, labels, ("a",), "nearest", min_quality=0.5)
    assert filled.masks["a"].all() and filled.values["a"][:, 0].tolist() == [2] * 5
    whole = load_table(store, VA, labels, ("a",))
    assert whole.masks["a"].tolist() == [False, True, True, True, False]


def test_crop_means_every_visual_feature(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"a": (1,), "b": (1,), "sound": (1,)}, audio=("sound",))
    put_feature(store, "a", "v", np.ones((4, 1)), [True, True, False, False])
    put_feature(store, "b", "v", np.ones((4, 1)), [True, False, True, False])
    put_feature(store, "sound", "v", np.ones((4, 1)), [False, True, False, True])
    put_feature(store, "a", "w", np.ones((1, 1)))
    for video, n in (("v", 4), ("w", 1)):
        store.write_labels("va", video, "train", np.zeros((n, 2), dtype=np.float32))
    both = load(store, "a", "b", "sound")
    assert both.has_face.tolist() == [True, False, False, False, False], "w lacks b wholly"
    assert both.has_feature.all()
    assert load(store, "a", "sound").has_face.tolist() == [True, True, False, False, True]
    assert load(store, "sound").has_face.tolist() == [False, True, False, True, False], (
        "without a picture, of the sound"
    )


def test_labelled_video_without_feature_is_kept(store: FeatureStore) -> None:
    table = load(store, "face", "sound")
    number = table.videos.index("no_feature")
    rows = table.rows(number)
    assert rows.stop - rows.start == 45
    assert table.valid[rows].all()
    assert not table.has_feature[rows].any()
    assert not table.has_face[rows].any()
    assert table.fps[number] == 0
    assert table.fps[table.videos.index("short")] == 25


def test_invalid_labels_are_masked_value_by_value(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (1,)})
    put_feature(store, "face", "a", np.ones((3, 1)))
    store.write_labels("va", "a", "train", np.array([[-5, 0.1], [-1, -1], [0.2, -5]], dtype=np.float32))
    mtl = np.array([[-5, 0.1, 3, *[-1] * 11, 1], [-1, -1, -1, *[0] * 12], [0, 0, 0, *[1] * 12]], dtype=np.float32)
    store.write_labels("mtl", "a", "train", mtl)
    table = load(store)
    assert table.valid.tolist() == [[False, True], [True, True], [True, False]]
    assert table.labels[0, 0] == -5
    valid = load(store, task="mtl").valid
    assert valid[0].tolist() == [False, True, True, *[False] * 11, True]
    assert valid[1].tolist() == [True, True, False, *[True] * 12]
    assert valid[2].all()


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int16])
def test_labels_of_any_numeric_type_are_taken(tmp_path: Path, dtype: type) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (1,)})
    put_feature(store, "face", "a", np.ones((3, 1)))
    store.write_labels("au", "a", "train", np.eye(3, 12, dtype=dtype))
    table = load(store, task="au")
    assert np.array_equal(table.labels, np.eye(3, 12)) and table.valid.all()


# tasks of images and of whole videos


def test_label_of_a_whole_video_stands_in_all_its_rows(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (1,)})
    for video, n_frames, label in (("a", 5, 2), ("b", 3, 0), ("c", 0, 1), ("d", 2, -1)):
        if n_frames:
            put_feature(store, "face", video, np.ones((n_frames, 1)), [True] + [False] * (n_frames - 1))
        store.write_labels("vgaf", video, "train", np.array([[label]], dtype=np.int8))
    table = load(store, task="vgaf")
    assert table.labels[:, 0].tolist() == [2] * 5 + [0] * 3 + [1] + [-1] * 2
    assert table.valid[:, 0].tolist() == [True] * 9 + [False] * 2
    assert table.starts.tolist() == [0, 5, 8, 9, 11]


def test_images_are_rows_of_their_own(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (1,)})
    put_feature(store, "face", "train-anger", np.array([[1.0], [2], [3]]), [True, False, True])
    store.write_labels("lsd", "train-anger", "train", np.zeros((3, 1), dtype=np.int8))
    table = load(store, task="lsd")
    assert table.labels.tolist() == [[0]] * 3
    assert table.values["face"].tolist() == [[1], [0], [3]]
    assert table.has_feature.tolist() == [True, False, True]


# widths of the values


def test_float32_is_for_the_features_that_need_it(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (2,), "other": (1,)})
    narrow, wide = np.array([[0.1, 2.0], [3.0, 4.0]]), np.array([[1e5, -123456.0]])
    put_feature(store, "face", "narrow", narrow)
    put_feature(store, "face", "wide", wide)
    put_feature(store, "other", "wide", np.array([[0.1]]))
    for video, n in (("narrow", 2), ("wide", 1)):
        store.write_labels("va", video, "train", np.zeros((n, 2), dtype=np.float32))
    table = load(store, "face", "other")
    assert table.values["face"].dtype == np.float32
    assert table.values["other"].dtype == np.float16
    np.testing.assert_array_equal(table.values["face"], np.concatenate([narrow.astype(np.float16), wide]))


# what is refused


def test_feature_that_no_labelled_video_has_is_an_error(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (1,), "sound": (1,)})
    put_feature(store, "face", "a", np.ones((3, 1)))
    put_feature(store, "sound", "other", np.ones((3, 1)))
    store.write_labels("va", "a", "train", np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(
        UsageError, match=r"None of the 1 train videos with va labels has the feature sound in .*abaw extract"
    ):
        load(store, "face", "sound")


def spoil(store: FeatureStore, video: str, place: tuple[int, int], value: float) -> None:
    """Put a value into a finished video, which no writer would take."""
    array = zarr.open_array(f"{store.path}/features/face/{video}/values", mode="r+")
    array[place] = value


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf]])
def test_value_that_is_not_finite_names_feature_video_and_frame(tmp_path: Path, values: list[float]) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (5,)})
    for video in ("good", "bad"):
        put_feature(store, "face", video, np.ones((300, 5)), np.arange(300) != 150)
        store.write_labels("va", video, "train", np.zeros((300, 2), dtype=np.float32))
    for row in (263, 270):
        for column, value in enumerate(values):
            spoil(store, "bad", (row, column + 1), value)
    words = r"Feature 'face' of video 'bad' is not finite at frame 264 \(2 such frames\).*`abaw store repair .*s.zarr`"
    with pytest.raises(StoreError, match=words):
        load(store)


@pytest.mark.parametrize("is_packed", [False, True])
def test_what_training_says_of_damage_works_when_it_is_typed(tmp_path: Path, run_cli: Any, is_packed: bool) -> None:
    """Also of packed videos, which have no files of their own."""
    store = new_store(tmp_path / "a store.zarr", {"face": (5,)})
    for video in ("good", "bad", "narrow"):
        put_feature(store, "face", video, np.ones((9, 5)))
        n_columns = 3 if video == "narrow" else 2
        store.write_labels("va", video, "train", np.zeros((9, n_columns), dtype=np.float32))
    spoil(store, "bad", (6, 2), np.inf)
    if is_packed:
        assert pack_store(store, Silent()).n_videos == 6
    for words, action in (
        ("va labels of video 'narrow' are not finite numbers in 2 columns", lambda: load(store)),
        ("'face' of video 'bad' is not finite at frame 7", lambda: load(store)),
        ("'bad' has a value that is not finite in frame 7", lambda: feature_statistics(store, ["face"], ["bad"])),
    ):
        if "labels" not in words:
            store.drop("labels/va/narrow")
        with pytest.raises(StoreError, match=words) as caught:
            action()
    typed = shlex.split(str(caught.value).split("`")[1])
    store.write_labels("va", "narrow", "train", np.zeros((9, 3), dtype=np.float32))
    repaired = run_cli(*typed[1:])
    assert repaired.exit_code == 0 and "2 dropped" in repaired.output, repaired.output
    assert "features/face/bad" in repaired.output and "labels/va/narrow" in repaired.output
    assert load(FeatureStore.open(store.path)).has_feature.sum() == 9


@pytest.mark.filterwarnings("error")
def test_large_finite_values_are_no_damage(tmp_path: Path) -> None:
    """Their sum is beyond float16, and of the second feature beyond float32."""
    store = new_store(tmp_path / "s.zarr", {"face": (100,), "loud": (4,)})
    put_feature(store, "face", "a", np.full((2, 100), 60_000.0))
    put_feature(store, "loud", "a", np.full((2, 4), 3e38))
    store.write_labels("va", "a", "train", np.zeros((2, 2), dtype=np.float32))
    table = load(store, "face", "loud")
    assert (table.values["face"] == 60_000).all()
    assert (table.values["loud"] == np.float32(3e38)).all()


def test_missing_row_may_hold_anything(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (2,)})
    put_feature(store, "face", "a", np.ones((3, 2)), [True, False, True])
    store.write_labels("va", "a", "train", np.zeros((3, 2), dtype=np.float32))
    spoil(store, "a", (1, 1), np.nan)
    assert load(store).masks["face"].tolist() == [True, False, True]
    assert (load(store, missing="nearest").values["face"] == 1).all()


# splits, folds, synthetic clips


@pytest.fixture(scope="module")
def split_store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Labels alone: 9 recordings, some of them of two people; three synthetic clips."""
    store = new_store(tmp_path_factory.mktemp("splits") / "store.zarr", {})
    videos = {f"v{i}": "train" if i < 5 else "val" for i in range(7)}
    videos |= {"duo_left": "train", "duo_right": "train", "pair": "val", "pair_right": "train", "asked": "test"}
    for i, (video, split) in enumerate(videos.items()):
        store.write_labels("expr", video, split, np.zeros((10 + i, 1), dtype=np.int8))
    for i in range(3):
        store.write_labels("expr", f"made{i}", "synthetic", np.full((4, 1), i, dtype=np.int8))
    return store


def names(store: FeatureStore, split: str, fold: str = "", synthetic: bool = False) -> set[str]:
    return set(select_labels(store, EXPR, split, fold, synthetic))


MADE = {"made0", "made1", "made2"}


def test_split_is_that_of_the_label_files(split_store: FeatureStore) -> None:
    assert names(split_store, "val") == {"v5", "v6", "pair"}
    assert names(split_store, "train") == {"v0", "v1", "v2", "v3", "v4", "duo_left", "duo_right", "pair_right"}
    assert names(split_store, "test") == {"asked"}


def test_folds_deal_out_every_video_once(split_store: FeatureStore) -> None:
    all_real = set(split_store.labels("expr")) - MADE - names(split_store, "test")
    seen: list[str] = []
    for number in (1, 2, 3):
        val, train = names(split_store, "val", f"{number}/3"), names(split_store, "train", f"{number}/3")
        assert val | train == all_real
        assert not val & train
        for pair in ({"duo_left", "duo_right"}, {"pair", "pair_right"}):
            assert pair <= val or pair <= train
        seen += val
    assert sorted(seen) == sorted(all_real)


def test_fold_leaves_other_splits_alone(split_store: FeatureStore) -> None:
    assert names(split_store, "test", "1/3") == {"asked"}


@pytest.mark.parametrize("fold", ["", "1/3", "2/3", "3/3"])
def test_synthetic_clips_are_for_training_alone(split_store: FeatureStore, fold: str) -> None:
    assert not names(split_store, "val", fold) & MADE
    assert not names(split_store, "train", fold) & MADE
    assert names(split_store, "train", fold, synthetic=True) == names(split_store, "train", fold) | MADE


def test_synthetic_clips_do_not_change_the_folds(tmp_path: Path) -> None:
    stores = [new_store(tmp_path / f"{name}.zarr", {}) for name in ("with", "without")]
    for store in stores:
        for i in range(5):
            store.write_labels("expr", f"v{i}", "train", np.zeros((10 + i, 1), dtype=np.int8))
    for i in range(9):
        stores[0].write_labels("expr", f"a{i}", "synthetic", np.zeros((100, 1), dtype=np.int8))
    for fold in ("1/2", "2/2"):
        assert names(stores[0], "val", fold) == names(stores[1], "val", fold)


def test_table_tells_synthetic_clips(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (1,)})
    for video, split in (("a", "train"), ("b", "synthetic"), ("c", "train")):
        put_feature(store, "face", video, np.ones((2, 1)))
        store.write_labels("vgaf", video, split, np.ones((1, 1), dtype=np.int8))
    table = load_table(store, VGAF, select_labels(store, VGAF, "train", synthetic=True), ["face"])
    assert dict(zip(table.videos, table.synthetic.tolist(), strict=True)) == {"a": False, "b": True, "c": False}


def test_missing_synthetic_clips_are_said(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {})
    store.write_labels("vgaf", "a", "train", np.ones((1, 1), dtype=np.int8))
    with pytest.raises(UsageError, match=r"has no synthetic vgaf clips to mix in\. Create some with `abaw synth`"):
        select_labels(store, VGAF, "train", synthetic=True)


@pytest.mark.parametrize("fold", ["", "1/2"])
def test_labels_that_are_not_there_are_said(split_store: FeatureStore, tmp_path: Path, fold: str) -> None:
    with pytest.raises(UsageError, match=r"only has labels of expr, not of va.*abaw extract"):
        select_labels(split_store, VA, "train", fold)
    with pytest.raises(UsageError, match=r"has expr labels of synthetic, test, train, val, but not of 'dev'"):
        select_labels(split_store, EXPR, "dev", fold)
    empty = new_store(tmp_path / "s.zarr", {})
    with pytest.raises(UsageError, match="has no labels, not of va"):
        select_labels(empty, VA, "train", fold)
    empty.write_labels("va", "a", "val", np.full((3, 2), VA.invalid, dtype=np.float32))
    with pytest.raises(UsageError, match=r"None of the va labels of val in .* is annotated, .*--fold 1/5\."):
        select_labels(empty, VA, "val")


def test_too_many_folds_are_refused(split_store: FeatureStore) -> None:
    with pytest.raises(UsageError, match=r"11 folds need at least 11 groups of videos, found 9"):
        select_labels(split_store, EXPR, "train", "1/11")


# missing frames


def test_nearest_by_hand() -> None:
    present = np.array([False, False, True, False, False, False, True, False, False])
    # row 4 is two away from both 2 and 6: the earlier one
    assert nearest_present(present).tolist() == [2, 2, 2, 2, 2, 6, 6, 6, 6]
    assert nearest_present(np.array([False, True])).tolist() == [1, 1]
    assert nearest_present(np.array([True, True])).tolist() == [0, 1]


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_nearest_is_the_closest_by_brute_force(values: list[bool]) -> None:
    places = [i for i, there in enumerate(values) if there]
    wanted = [min(places, key=lambda place: (abs(place - row), place)) for row in range(len(values))]
    assert nearest_present(np.array(values)).tolist() == wanted


def test_missing_frames_are_masked_or_taken_from_the_nearest(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (1,)})
    present = [False, True, False, False, True]
    put_feature(store, "face", "a", np.arange(5.0)[:, None] + 10, present)
    store.write_labels("va", "a", "train", np.zeros((7, 2), dtype=np.float32))
    masked = load(store)
    assert masked.values["face"][:, 0].tolist() == [0, 11, 0, 0, 14, 0, 0]
    assert masked.masks["face"].tolist() == [*present, False, False]
    filled = load(store, missing="nearest")
    assert filled.values["face"][:, 0].tolist() == [11, 11, 11, 14, 14, 14, 14]
    assert filled.masks["face"].all()
    for mask in (filled.has_feature, filled.has_face):
        assert mask.tolist() == [*present, False, False], "by itself"


def test_nearest_fills_each_feature_by_itself(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (1,), "other": (1,)})
    put_feature(store, "face", "a", np.array([[1.0], [2.0], [3.0]]), [True, False, False])
    put_feature(store, "other", "a", np.array([[1.0], [2.0], [3.0]]), [False, False, True])
    put_feature(store, "face", "b", np.array([[4.0]]))
    for video, n in (("a", 3), ("b", 1), ("c", 2)):
        store.write_labels("va", video, "train", np.zeros((n, 2), dtype=np.float32))
    table = load(store, "face", "other", missing="nearest")
    assert table.values["face"][:, 0].tolist() == [1, 1, 1, 4, 0, 0]
    assert table.values["other"][:, 0].tolist() == [3, 3, 3, 0, 0, 0]
    assert table.masks["face"].tolist() == [True] * 4 + [False] * 2
    assert table.masks["other"].tolist() == [True] * 3 + [False] * 3, "never from another video"
    assert table.has_feature.tolist() == [True, False, True, True, False, False]
    assert not table.has_face.any()


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


def test_table_in_a_file_holds_the_same(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = load(store, "face", "sound", missing="nearest")
    monkeypatch.setattr(table_module, "allocate", lambda shape, dtype, budget_bytes: allocate(shape, dtype, 0))
    mapped = load(store, "face", "sound", missing="nearest")
    for feature, values in mapped.values.items():
        assert isinstance(values, np.memmap)
        np.testing.assert_array_equal(values, wanted.values[feature])
        np.testing.assert_array_equal(mapped.masks[feature], wanted.masks[feature])


def stay_in_files(monkeypatch: pytest.MonkeyPatch, free_bytes: int = 0) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(table_module, "free_memory", lambda: free_bytes)


def test_features_share_one_budget(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two would fit into it, both together do not."""
    n_bytes = load(store).values["face"].nbytes
    stay_in_files(monkeypatch, 3 * n_bytes)
    table = load(store, "face", "sound")
    assert (list(table.values), list(table.stored)) == (["face"], ["sound"])
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each of two processes loads it
    assert list(load(store, "face", "sound").stored) == ["face", "sound"]


def test_a_named_disk_with_room_takes_what_memory_does_not(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stay_in_files(monkeypatch)
    monkeypatch.setattr(table_module, "is_in_memory", lambda folder: folder.name == "ram")
    for name, is_used in (("disk", True), ("ram", False), ("missing", False)):
        if name != "missing":
            (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        table = load(store)
        assert (list(table.values), list(table.stored)) == ((["face"], []) if is_used else ([], ["face"]))


class Notes(Silent):
    """Keeps the warnings of a reporter."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


@pytest.mark.parametrize("missing", ["mask", "nearest"])
@pytest.mark.parametrize(("is_far", "is_packed"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_table_that_stays_in_the_store_holds_the_same(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, is_far: bool, is_packed: bool
) -> None:
    expected, notes = load(store, "face", "sound", missing=missing), Notes()
    if is_packed:
        shutil.copytree(store.path, tmp_path / "packed.zarr")
        store = FeatureStore.create(tmp_path / "packed.zarr")
        assert pack_store(store, Silent(), 2**12).n_shards > 2
    if is_far:
        store = far_copy(store, f"{missing}-{is_packed}.zarr")
    seen: dict[str, list[np.ndarray]] = {"face": [], "sound": []}
    stay_in_files(monkeypatch)
    task = TASKS["va"]
    table = load_table(
        store,
        task,
        select_labels(store, task, "train"),
        ("face", "sound"),
        missing,
        notes,
        on_read=lambda feature, stored, is_last: seen[feature].append(stored.values),
    )
    assert not table.values and list(table.stored) == ["face", "sound"]
    order = np.random.default_rng(0).permutation(len(table.labels))
    for rows in (np.arange(len(table.labels)), order, np.array([[3, 4, 5], [5, 4, 3], [0, 0, 400]])):
        inside = rows % 7 != 0
        pairs = zip(table.inputs(rows, inside), expected.inputs(rows, inside), strict=True)
        for ours, theirs in pairs:
            assert ours.keys() == theirs.keys()
            assert all(ours[name].dtype == theirs[name].dtype for name in ours)
            assert all(ours[name].equal(theirs[name]) for name in ours)
    for name in ("has_feature", "has_face", "labels", "valid", "fps"):
        np.testing.assert_array_equal(getattr(table, name), getattr(expected, name))
    assert (table.n_readers, expected.n_readers) == (8 if is_far else 2, 1)
    monkeypatch.setattr(table_module, "AHEAD_BYTES", 3 * 8192 * (4 + 4))  # of three batches of both features in float16
    assert table.n_readers == (3 if is_far else 2)
    words = (
        f"face, sound of 6 videos (0.00 GB) would fill more than half of the free memory: it stays in {store.path}, and"
    )
    assert len(notes.warnings) == 1 and words in notes.warnings[0] and ("TMPDIR" in notes.warnings[0]) == is_far
    read = sum(n_frames for n_frames, _, _ in VIDEOS.values())
    assert sum(map(len, seen["face"])) == read


def test_narrow_and_wide_videos_in_one_table_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (3,)})
    values = {"narrow": np.arange(900.0).reshape(300, 3), "wide": np.arange(900.0).reshape(300, 3) * 1000}
    for video, rows in values.items():
        put_feature(store, "face", video, rows)
        store.write_labels("va", video, "train", np.zeros((300, 2), dtype=np.float32))
    stay_in_files(monkeypatch)
    table = load(store)
    monkeypatch.setattr("abaw.train.data.stored_rows.MAX_OPEN", 1)
    n_open = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(2):
        taken = table.stored["face"].take(np.arange(600))
        assert taken.dtype == np.float32 and table.stored["face"].nbytes == taken.nbytes
        np.testing.assert_array_equal(taken, np.concatenate(list(values.values())))
    if n_open:
        assert len(list(Path("/proc/self/fd").iterdir())) == n_open + 1
        del table
        assert len(list(Path("/proc/self/fd").iterdir())) == n_open, "files are closed"


def test_a_video_that_is_replaced_under_a_table_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (3,)})
    put_feature(store, "face", "a", np.ones((30, 3)))
    store.write_labels("va", "a", "train", np.zeros((30, 2), dtype=np.float32))
    stay_in_files(monkeypatch)
    table = load(store)
    assert (table.stored["face"].take(np.arange(30)) == 1).all()
    put_feature(store, "face", "a", np.full((30, 3), 2))
    with pytest.raises(StoreError, match=r"was replaced or deleted since it was first read\. Run the same command"):
        table.stored["face"].take(np.arange(30))


@pytest.mark.parametrize("how", ["other", "flipped", "shorter", "deleted"])
def test_objects_that_change_under_a_table_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (3,)})
    put_feature(store, "face", "a", np.arange(900.0).reshape(300, 3))
    store.write_labels("va", "a", "train", np.zeros((300, 2), dtype=np.float32))
    far = far_copy(store, f"{how}.zarr")
    stay_in_files(monkeypatch)
    rows = load(far).stored["face"]
    np.testing.assert_array_equal(rows.take(np.array([299, 0, 299])), [[897, 898, 899], [0, 1, 2], [897, 898, 899]])
    memory, key = fsspec.filesystem("memory"), f"/{how}.zarr/features/face/a/values/c/0/0"
    content = memory.cat_file(key)
    changed = {"other": bytes(len(content)), "flipped": bytes([content[0] ^ 1]) + content[1:], "shorter": content[:90]}
    memory.rm_file(key)
    if how != "deleted":
        memory.pipe_file(key, changed[how])
    with pytest.raises(StoreError, match=rf"memory://{how}.zarr/features/face/a/values/c/0/0 was replaced or deleted"):
        rows.take(np.arange(100))


def test_rows_close_together_are_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (256,)})
    for video in ("a", "b"):
        put_feature(store, "face", video, np.random.default_rng(0).normal(size=(9000, 256)))
        store.write_labels("va", video, "train", np.zeros((9000, 2), dtype=np.float32))
    stay_in_files(monkeypatch)
    table, far = load(store), far_copy(store, "requests.zarr")
    asked: list[tuple[str, int, int]] = []
    read = FeatureStore.read_ranges
    monkeypatch.setattr(FeatureStore, "read_ranges", lambda self, ranges: asked.extend(ranges) or read(self, ranges))
    taken = load(far).stored["face"]
    assert asked == []
    # across chunks, in steps, in another order, in the next file of a video, after the end, and in another video
    rows = np.concatenate([np.arange(200, 300), np.arange(1900, 1700, -2), np.arange(4090, 4100), [8999] * 50, [9000]])
    np.testing.assert_array_equal(taken.take(rows), table.stored["face"].take(rows))
    chunk = 256 * 512 + 4
    shards = "features/face/a/values/c/0/0", "features/face/a/values/c/1/0", "features/face/a/values/c/2/0"
    assert asked == [
        (shards[0], 200 * 512, 300 * 512 + 4),
        (shards[0], 6 * chunk + 166 * 512, 7 * chunk + 109 * 512),
        (shards[0], 15 * chunk + 250 * 512, 16 * chunk - 4),
        (shards[1], 0, 4 * 512),
        (shards[2], 3 * chunk + 39 * 512, 3 * chunk + 40 * 512),
        ("features/face/b/values/c/0/0", 0, 512),
    ]


def test_damage_in_a_table_that_stays_in_the_store_is_found_on_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path / "s.zarr", {"face": (3,)})
    put_feature(store, "face", "a", np.ones((30, 3)))
    store.write_labels("va", "a", "train", np.zeros((30, 2), dtype=np.float32))
    stay_in_files(monkeypatch)
    file = tmp_path / "s.zarr/features/face/a/values/c/0/0"
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(StoreError, match=r"'face' of video 'a' is damaged \(a chunk does not match its checksum\)"):
        load(store)


# clocks


@pytest.mark.parametrize(
    ("other", "wrong"),
    [((5, 1.0), True), ((5, 25.0), False), ((75, 24.0), False), ((72, 24.0), False), ((150, 50.0), True)],
    ids=lambda given: str(given),
)
def test_features_that_count_other_moments_are_refused(tmp_path: Path, other: tuple[int, float], wrong: bool) -> None:
    store = new_store(tmp_path / "store.zarr", {"scene": (2,), "sound": (2,)})
    for feature, (n_rows, fps) in (("scene", (75, 25.0)), ("sound", other)):
        put_feature(store, feature, "clip", np.ones((n_rows, 2)), fps=fps)
    store.write_labels("vgaf", "clip", "train", np.array([[1]], dtype=np.int8))
    labels = select_labels(store, VGAF, "train")
    if not wrong:
        assert len(load_table(store, VGAF, labels, ("scene", "sound")).labels) == 75
        return
    words = rf"Row i of 'scene' and of 'sound' are not the same moment: video 'clip' has 75 rows at 25 .* {other[0]} at"
    with pytest.raises(UsageError, match=words):
        load_table(store, VGAF, labels, ("scene", "sound"))


@pytest.mark.parametrize("missing", ["mask", "nearest"])
@pytest.mark.parametrize("free_bytes", [10**9, 0], ids=["memory", "store"])
def test_rows_that_are_spread_over_a_clip_are_joined_by_time(
    tmp_path: Path, missing: str, free_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 spectrograms, 6 pictures and 15 of another network: each covers the whole clip."""
    stay_in_files(monkeypatch, free_bytes)
    store = new_store(tmp_path / "store.zarr", {"scene": (2,), "sound": (2,), "other": (2,)})
    rows = {"scene": 15, "sound": 5, "other": 6}
    for feature, n_rows in rows.items():
        present = np.arange(n_rows) != 1
        put_feature(store, feature, "clip", coded("long", n_rows), present, fps=n_rows / 5, sampled=True)
    store.write_labels("vgaf", "clip", "train", np.array([[1]], dtype=np.int8))
    table = load_table(store, VGAF, select_labels(store, VGAF, "train"), ("scene", "other", "sound"), missing)
    times = (np.arange(15) + 0.5) / 15  # as shares of the clip
    for feature, n_rows in rows.items():
        shown = np.array([next(j for j in range(n_rows) if j / n_rows <= time < (j + 1) / n_rows) for time in times])
        is_shown = shown != 1
        values = table.values[feature] if free_bytes else table.stored[feature].take(np.arange(15))
        np.testing.assert_array_equal(values[is_shown, 0], shown[is_shown] + 1)
        np.testing.assert_array_equal(table.masks[feature], is_shown | (missing == "nearest"))
    assert table.fps.tolist() == [3.0] and len(table.labels) == 15


def test_rows_spread_over_a_clip_have_no_labels_of_frames(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store.zarr", {"scene": (2,)})
    put_feature(store, "scene", "clip", np.ones((5, 2)), fps=1.0, sampled=True)
    store.write_labels("va", "clip", "train", np.zeros((5, 2), dtype=np.float32))
    store.write_labels("vgaf", "clip", "train", np.array([[1]], dtype=np.int8))
    assert len(load_table(store, VGAF, select_labels(store, VGAF, "train"), ("scene",)).labels) == 5
    with pytest.raises(
        UsageError, match=r"'scene' of video 'clip' .* 5 rows spread over the whole clip, and va labels"
    ):
        load_table(store, VA, select_labels(store, VA, "train"), ("scene",))


def test_a_feature_that_ends_with_the_last_crop_at_an_assumed_rate_goes_with_one_of_the_whole_video(
    tmp_path: Path,
) -> None:
    store = new_store(tmp_path / "store.zarr", {"face": (2,), "sound": (2,)}, audio=("sound",))
    put_feature(store, "face", "a", np.ones((80, 2)), fps=30.0, length_from_crops=True)
    put_feature(store, "sound", "a", np.ones((100, 2)))
    store.write_labels("va", "a", "train", np.zeros((100, 2), dtype=np.float32))
    table = load_table(store, VA, select_labels(store, VA, "train"), ("face", "sound"))
    assert (table.masks["face"].sum(), table.masks["sound"].sum()) == (80, 100)
