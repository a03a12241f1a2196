"""Windows and batches: no frame is lost, frames stay in order and beside their labels, draws are as fair as they say."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS, Task
from abaw.tests.support.stores import new_store, put_feature
from abaw.tests.support.tables import build_table
from abaw.train.data.table import Table, load_table, select_labels
from abaw.train.data.windows import WindowBatch, WindowSampler, batches, class_counts, share

VA, EXPR, AU, MTL, LSD, VGAF = (TASKS[name] for name in ("va", "expr", "au", "mtl", "lsd", "vgaf"))


def table_of_row_numbers(lengths: list[int], task: Task = VA, labels: np.ndarray | None = None, made: int = 0) -> Table:
    """Videos of these lengths, all there; the feature `row` is the row number, labels are 0 unless given.

    Args:
        labels: (videos, columns) or (rows, columns).
        made: how many of the last videos are synthetic.
    """
    n_rows = sum(lengths)
    labels = np.zeros((n_rows, len(task.columns))) if labels is None else labels
    if len(labels) != n_rows:
        labels = np.repeat(labels, lengths, axis=0)
    return build_table(task, lengths, {"row": np.arange(n_rows)[:, None]}, labels=labels, n_synthetic=made)


layouts = st.tuples(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 25), st.integers(1, 25))


# where windows are


@given(layouts, st.one_of(st.none(), st.integers(0, 99)))
def test_windows_cover_every_row_and_stay_in_their_video(layout: tuple, seed: int | None) -> None:
    lengths, length, stride = layout
    stride = min(stride, length)
    table = table_of_row_numbers(lengths)
    sampler = WindowSampler(table, length)
    found = sampler.windows(stride, None if seed is None else np.random.default_rng(seed))
    covered = np.zeros(len(table.labels), dtype=int)
    for (first, end, span), video in zip(found.tolist(), sampler.videos_of(found).tolist(), strict=True):
        assert table.starts[video] <= first < end == table.starts[video + 1]
        assert span == length
        assert first + length <= end or first == table.starts[video], "a window that is too long begins the video"
        covered[first : min(first + length, end)] += 1
    assert covered.min() >= 1


@given(layouts)
def test_windows_are_stride_apart_and_the_last_is_moved_back(layout: tuple) -> None:
    lengths, length, stride = layout
    table = table_of_row_numbers(lengths)
    found = WindowSampler(table, length).windows(stride)
    for start, n in zip(table.starts.tolist(), lengths, strict=False):
        mine = [first - start for first, end, _ in found.tolist() if end == start + n]
        last = max(0, n - length)
        assert mine == [*range(0, last, stride), last]


def test_windows_by_hand() -> None:
    sampler = WindowSampler(table_of_row_numbers([7, 3]), 4)
    assert sampler.windows(2).tolist() == [[0, 7, 4], [2, 7, 4], [3, 7, 4], [7, 10, 4]]
    assert sampler.n_windows(2) == 4
    batch = sampler.batch(sampler.windows(2))
    assert batch.features["row"][batch.masks["row"]][:, 0].tolist() == [0, 1, 2, 3, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9]
    assert batch.masks["row"][3].tolist() == [True, True, True, False]
    assert batch.valid[3, :, 0].tolist() == [True, True, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_no_window_is_drawn_twice_in_an_epoch(seed: int) -> None:
    found = WindowSampler(table_of_row_numbers([7, 3, 12, 30]), 12).windows(6, np.random.default_rng(seed))
    assert len(np.unique(found, axis=0)) == len(found)


def test_phases_are_random_so_that_windows_begin_anywhere() -> None:
    sampler = WindowSampler(table_of_row_numbers([200]), 20)
    begins = {int(first) for seed in range(60) for first in sampler.windows(10, np.random.default_rng(seed))[:, 0]}
    assert len(begins) > 100


# epochs


def test_epoch_is_every_window_in_another_order() -> None:
    sampler = WindowSampler(table_of_row_numbers([30, 40, 50]), 10)
    assert sampler.n_windows(10) == 3 + 4 + 5
    found = sampler.epoch(1, (0, 1))
    assert len(found) == sampler.n_windows(1) == 21 + 31 + 41
    assert found.tolist() != sampler.windows(1).tolist()
    assert sorted(found.tolist()) == sampler.windows(1).tolist()


def test_batches_are_all_windows_the_last_one_smaller() -> None:
    windows = WindowSampler(table_of_row_numbers([30]), 10).windows(1)
    parts = list(batches(windows, 8))
    assert [len(part) for part in parts] == [8, 8, 5]
    assert np.concatenate(parts).tolist() == windows.tolist()


def test_epoch_is_seeded_and_every_epoch_differs() -> None:
    sampler = WindowSampler(table_of_row_numbers([80, 90, 100]), 10)
    for options in ({}, {"speed": (0.6, 1.4)}, {"balance": "video"}):
        first = sampler.epoch(5, (3, 1), **options).tolist()
        assert sampler.epoch(5, (3, 1), **options).tolist() == first
        others = [sampler.epoch(5, seed, **options).tolist() for seed in ((3, 2), (4, 1))]
        assert all(sorted(other) != sorted(first) for other in others), "not only the order, the windows differ too"


def test_clips_are_so_many_of_each_video_anywhere_in_it() -> None:
    table = table_of_row_numbers([30, 8, 15])
    sampler = WindowSampler(table, 10)
    begins: list[set[int]] = [set(), set(), set()]
    for number in range(80):
        found = sampler.epoch(5, (0, number), clips_per_video=2)
        assert len(found) == sampler.n_windows(5, clips_per_video=2) == 6
        for (first, end, span), video in zip(found.tolist(), sampler.videos_of(found).tolist(), strict=True):
            assert (end, span) == (table.starts[video + 1], 10)
            begins[video].add(first)
    assert begins == [set(range(21)), {30}, set(range(38, 44))]
    batch = sampler.batch(sampler.epoch(5, (0, 1), clips_per_video=3))
    rows, inside = sampler.rows_of(sampler.epoch(5, (0, 1), clips_per_video=3))
    assert torch.equal(batch.features["row"][..., 0][batch.masks["row"]], torch.from_numpy(rows[inside]).float())
    assert batch.masks["row"].sum(dim=1).tolist() == inside.sum(axis=1).tolist()


def test_a_fixed_phase_has_the_same_windows_in_every_epoch() -> None:
    """Situ's: every 100 frames, and one at the end."""
    sampler = WindowSampler(table_of_row_numbers([520, 250, 90]), 250)
    wanted = [[0, 520], [100, 520], [200, 520], [270, 520], [520, 770], [770, 860]]
    for number in range(3):
        found = sampler.epoch(100, (0, number), phase="fixed")
        assert sorted(found[:, :2].tolist()) == wanted
    assert sampler.epoch(100, (0, 0), phase="fixed").tolist() != sampler.epoch(100, (0, 1), phase="fixed").tolist()


# speed


@pytest.mark.parametrize("length", [1, 2, 10, 100])
def test_window_of_another_speed_takes_the_nearest_frames(length: int) -> None:
    """Against a loop: step t of L lies at t (span - 1) / (L - 1) frames from the first one."""
    table = table_of_row_numbers([400, 3, 130, 60, 1])
    sampler = WindowSampler(table, length)
    found = np.concatenate([sampler.epoch(max(1, length // 2), (0, n), speed=(0.6, 1.4)) for n in range(3)])
    rows, inside = sampler.rows_of(found)
    spans = set()
    for window, (first, end, span) in enumerate(found.tolist()):
        video = int(sampler.videos_of(found[[window]])[0])
        start = int(table.starts[video])
        assert start <= first < end == table.starts[video + 1]
        assert first + span <= end or first == start, "only a window longer than its video is filled up"
        assert round(0.6 * length) <= span <= round(1.4 * length)
        for step in range(length):
            place = step * (span - 1) / max(1, length - 1)
            assert inside[window, step] == (first + round(place) < end)
            if inside[window, step]:
                assert start <= rows[window, step] < end
                assert abs(rows[window, step] - first - place) <= 0.5 + 1e-9
        spans.add(span)
    assert len(spans) == len(set(range(round(0.6 * length), round(1.4 * length) + 1))) or length == 100
    batch = sampler.batch(found[:50])
    shown = batch.masks["row"]
    assert torch.equal(batch.features["row"][:, :, 0][shown], torch.from_numpy(rows[:50]).float()[shown])


def test_speed_one_leaves_the_frames_as_they_are() -> None:
    sampler = WindowSampler(table_of_row_numbers([137]), 50)
    rows, inside = sampler.rows_of(sampler.windows(7))
    assert inside.all()
    assert (np.diff(rows, axis=1) == 1).all()


def test_speeds_are_even_over_their_range() -> None:
    sampler = WindowSampler(table_of_row_numbers([2000] * 5), 100)
    spans = np.concatenate([sampler.epoch(20, (0, n), speed=(0.6, 1.4))[:, 2] for n in range(5)])
    counts, _ = np.histogram(spans, bins=[60, 80, 100, 120, 141])
    assert len(spans) > 2000
    assert (np.abs(counts / len(spans) - 0.25) < 0.03).all()


@pytest.mark.parametrize("n_frames", [100, 130])
def test_short_windows_reach_both_ends_of_a_video(n_frames: int) -> None:
    """They are drawn evenly from a video that is hardly longer than a window: as often from its end as from its beginning."""
    sampler = WindowSampler(table_of_row_numbers([n_frames]), 100)
    counts = np.zeros(n_frames)
    for epoch in range(600):
        found = sampler.epoch(50, (0, epoch), speed=(0.5, 0.9))
        for first, _, span in found.tolist():
            counts[first : first + span] += 1
    assert counts.min() >= 10
    for n in (10, n_frames // 2):
        assert counts[:n].sum() == pytest.approx(counts[-n:].sum(), rel=0.15)


# balance


def labels_of(sampler: WindowSampler, windows: np.ndarray) -> np.ndarray:
    return sampler.samples.labels[windows[:, 0], 0].astype(int)


def test_balance_by_class_draws_windows_of_each_class_alike() -> None:
    """Clips of one class each, 40, 8 and 2 of them: a third of the windows each, within five deviations."""
    labels = np.array([[0]] * 40 + [[1]] * 8 + [[2]] * 2)
    sampler = WindowSampler(table_of_row_numbers([20] * 50, VGAF, labels), 20)
    drawn = np.concatenate([labels_of(sampler, sampler.epoch(10, (0, n), "class")) for n in range(120)])
    assert len(drawn) == 120 * 50
    counts = np.bincount(drawn, minlength=3)
    assert (np.abs(counts - len(drawn) / 3) < 5 * np.sqrt(len(drawn) * 2 / 9)).all()
    plain = np.concatenate([labels_of(sampler, sampler.epoch(10, (0, n))) for n in range(2)])
    assert np.bincount(plain).tolist() == [80, 16, 4]


def test_balance_by_class_leaves_out_what_is_not_valid() -> None:
    """Frames without label or feature have no weight: windows of such alone are never drawn."""
    labels = np.array([[0]] * 30 + [[-1]] * 30 + [[3]] * 30)
    table = table_of_row_numbers([30, 30, 30], EXPR, labels)
    masks = {"row": np.arange(90) < 80}
    sampler = WindowSampler(replace(table, masks=masks, has_feature=masks["row"]), 10)
    drawn = np.concatenate([sampler.epoch(10, (0, n), "class") for n in range(400)])
    assert not ((drawn[:, 0] >= 30) & (drawn[:, 0] + 10 <= 60)).any()
    # 30 frames of the first class weigh as much as the 20 of the other that have a feature
    assert np.mean(drawn[:, 0] < 30) == pytest.approx(0.5, abs=0.04)


def test_balance_by_class_counts_active_units() -> None:
    labels = np.zeros((100, 12))
    labels[:50, 0] = 1  # one video of two shows AU1 throughout, the other AU26 in ten frames
    labels[50:60, 11] = 1
    sampler = WindowSampler(table_of_row_numbers([50, 50], AU, labels), 10)
    drawn = np.concatenate([sampler.epoch(10, (0, n), "class")[:, 0] for n in range(300)])
    assert np.mean(drawn < 50) == pytest.approx(0.5, abs=0.06)
    assert (drawn[drawn >= 50] < 60).all()


def test_balance_by_class_is_that_of_the_real_windows() -> None:
    """Synthetic clips, as many of each class, do not stand in for the rare class among the real ones."""
    labels = np.array([[0]] * 45 + [[1]] * 5 + [[0]] * 100 + [[1]] * 100)
    sampler = WindowSampler(table_of_row_numbers([4] * 250, VGAF, labels, made=200), 4)
    drawn = np.concatenate([sampler.epoch(4, (0, n), "class", synthetic=0.5) for n in range(60)])
    real = labels_of(sampler, drawn[~sampler.samples.synthetic[sampler.videos_of(drawn)]])
    assert len(real) == 60 * 50
    assert np.mean(real == 0) == pytest.approx(0.5, abs=0.05)


def test_balance_by_video_draws_each_video_alike() -> None:
    sampler = WindowSampler(table_of_row_numbers([1000, 100, 20]), 20)
    drawn = np.concatenate([sampler.videos_of(sampler.epoch(10, (0, n), "video")) for n in range(40)])
    counts = np.bincount(drawn, minlength=3)
    assert counts.sum() >= 40 * sampler.n_windows(10)
    assert (np.abs(counts - len(drawn) / 3) < 5 * np.sqrt(len(drawn) * 2 / 9)).all()


def test_balance_without_classes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Task va has no classes to balance\. Use --set balance=video"):
        WindowSampler(table_of_row_numbers([20]), 10).epoch(5, (0, 1), "class")


# synthetic clips


@pytest.mark.parametrize(("rate", "n_made"), [(0.1, 2), (0.3, 9), (0.5, 20), (0.75, 60)])
def test_synthetic_share_is_exact_and_its_classes_equal(rate: float, n_made: int) -> None:
    """To 20 real windows come round(20 r / (1 - r)); no clip comes twice before all of its class came once."""
    labels = np.array([[0]] * 20 + [[0]] * 10 + [[1]] * 5 + [[2]] * 8)
    table = table_of_row_numbers([6] * 43, VGAF, labels, made=23)
    sampler = WindowSampler(table, 6)
    assert sampler.n_windows(3, rate) == 20 + n_made
    for epoch in range(5):
        found = sampler.epoch(3, (0, epoch), synthetic=rate)
        videos = sampler.videos_of(found)
        is_made = table.synthetic[videos]
        assert sorted(videos[~is_made].tolist()) == list(range(20))
        assert is_made.sum() == n_made
        counts = np.bincount(labels_of(sampler, found[is_made]), minlength=3)
        assert counts.max() - counts.min() <= 1
        assert is_made[:20].any() or n_made < 5, "mixed with the real ones"
        for kind in range(3):
            clips = [video for video in range(20, 43) if labels[video, 0] == kind]
            often = [int((videos == clip).sum()) for clip in clips]
            assert max(often) - min(often) <= 1


def test_synthetic_clips_differ_from_epoch_to_epoch() -> None:
    labels = np.array([[0]] * 10 + [[0], [1], [2]] * 20)
    sampler = WindowSampler(table_of_row_numbers([6] * 70, VGAF, labels, made=60), 6)
    drawn = [
        frozenset(videos[videos >= 10].tolist())
        for videos in (sampler.videos_of(sampler.epoch(3, (0, n), synthetic=0.3)) for n in range(10))
    ]
    assert all(len(clips) == 4 for clips in drawn)
    assert len(set(drawn)) > 5


@pytest.mark.parametrize(("rate", "n_real", "n_made"), [(0, 4, 0), (0.3, 4, 3), (0.55, 4, 6), (0.69, 4, 9), (1, 0, 10)])
def test_synthetic_clips_drawn_for_the_run_are_the_same_in_every_epoch(rate: float, n_real: int, n_made: int) -> None:
    """4 / .7 - 4 is 1.7, rounded to 3; 4 / .45 - 4 is 4.9, to 6; 4 / .31 - 4 is 8.9. At 1 all of the 10 are alone.

    Clip 5 has two windows, the others have one.
    """
    table = table_of_row_numbers([6] * 5 + [9] + [6] * 8, VGAF, made=10)
    sampler = WindowSampler(table, 6)
    of_seed = {}
    for seed in range(8):
        drawn = [sampler.epoch(6, (seed, n), "class", rate, draw="run") for n in range(4)]
        clips = [np.sort(videos[videos >= 4]) for videos in map(sampler.videos_of, drawn)]
        assert all(np.array_equal(np.unique(one), np.unique(clips[0])) for one in clips)
        assert len(np.unique(clips[0])) == n_made and all((sampler.videos_of(one) < 4).sum() == n_real for one in drawn)
        assert sampler.n_windows(6, rate, "run", seed) == n_real + n_made + (5 in clips[0])
        of_seed[seed] = tuple(np.unique(clips[0]))
    assert (len(set(of_seed.values())) > 4) == (0 < n_made < 10)


def test_too_few_synthetic_clips_are_said() -> None:
    sampler = WindowSampler(table_of_row_numbers([6] * 14, VGAF, made=10), 6)
    with pytest.raises(
        UsageError, match=r"synthetic=0\.75 takes 12 synthetic clips next to 4 real ones, and there are 10"
    ):
        sampler.n_windows(6, 0.75, "run")


def test_synthetic_clips_stay_out_unless_asked_for() -> None:
    sampler = WindowSampler(table_of_row_numbers([6] * 5, VGAF, made=2), 6)
    assert sampler.n_windows(3) == 3
    found = sampler.epoch(3, (0, 1))
    assert sorted(sampler.videos_of(found).tolist()) == [0, 1, 2]


# shares of several processes


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("n_windows", [1, 4, 7, 8])
def test_shares_are_of_equal_size_and_cover_each_window_once(n_windows: int, n_ranks: int) -> None:
    sampler = WindowSampler(table_of_row_numbers([5, 30]), 10)
    windows = sampler.windows(3)[1 : 1 + n_windows]
    parts = [share(windows, rank, n_ranks) for rank in range(n_ranks)]
    assert len({len(part) for part in parts}) == 1
    joined = np.concatenate(parts)
    assert joined[: len(windows)].tolist() == windows.tolist()
    assert len(joined) - len(windows) < n_ranks
    for part in parts:
        batch = sampler.batch(part)
        filled = torch.from_numpy(part[:, 1] > 0)
        assert batch.valid.any(dim=(1, 2)).equal(filled)
        assert batch.masks["row"].any(dim=1).equal(filled)


def test_empty_windows_are_not_valid_for_whole_videos_either() -> None:
    sampler = WindowSampler(table_of_row_numbers([5, 5], VGAF), 5)
    last = share(sampler.windows(5)[:1], 1, 2)
    batch = sampler.batch(last)
    assert batch.valid.tolist() == [[False]]
    assert not batch.masks["row"].any()


# batches


Loaded = tuple[Table, set[tuple[int, int]]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A table of a real store whose features and labels both say frame and video; and what can be valid in it."""
    store = new_store(tmp_path_factory.mktemp("windows") / "s.zarr", {"face": (2,), "sound": (2,)}, audio=("sound",))
    rng, wanted = np.random.default_rng(0), set()
    for number, (n_frames, n_labels) in enumerate([(230, 231), (60, 50), (37, 60), (1, 1), (0, 20)]):
        coded = np.stack([np.arange(1, 232), np.full(231, number)], axis=1)
        faces, sounds = rng.random((2, n_frames)) < [[0.7], [0.5]]
        if n_frames > 1:
            put_feature(store, "face", f"v{number}", coded[:n_frames], faces)
            put_feature(store, "sound", f"v{number}", coded[:n_frames], sounds)
        elif n_frames:
            put_feature(store, "sound", f"v{number}", coded[:1])
            faces, sounds = np.zeros(1, dtype=bool), np.ones(1, dtype=bool)
        store.write_labels("va", f"v{number}", "train", coded[:n_labels].astype(np.float32))
        wanted |= {(number, row + 1) for row in np.flatnonzero((faces | sounds)[:n_labels]).tolist()}
    return load_table(store, VA, select_labels(store, VA, "train"), ["face", "sound"]), wanted


@pytest.mark.parametrize(("length", "stride"), [(50, 25), (100, 100), (7, 3), (1, 1)])
@pytest.mark.parametrize("speed", [(1.0, 1.0), (0.6, 1.4)])
def test_features_and_labels_are_of_the_same_frame(
    loaded: Loaded, length: int, stride: int, speed: tuple[float, float]
) -> None:
    table, wanted = loaded
    sampler = WindowSampler(table, length)
    found: set[tuple[int, int]] = set()
    for part in batches(sampler.epoch(stride, (0, 1), speed=speed), 5):
        batch = sampler.batch(part)
        assert not batch.valid[~(batch.masks["face"] | batch.masks["sound"])].any()
        for name, mask in batch.masks.items():
            counted = mask & batch.valid.all(-1)
            assert torch.equal(batch.features[name][counted].float(), batch.labels[counted])
            assert not batch.features[name][~table_mask(table, name, batch, mask)].any()
        frames = batch.labels[batch.valid.all(-1)].tolist()
        found |= {(int(video), int(frame)) for frame, video in frames}
        for codes, valid in zip(batch.labels, batch.valid.all(-1), strict=True):
            assert len(codes[valid][:, 1].unique()) <= 1, "one video in a window"
            assert (codes[valid][:, 0].diff() >= 0).all(), "one frame after another"
    assert found <= wanted
    if speed == (1.0, 1.0):
        assert found == wanted


def table_mask(table: Table, name: str, batch: WindowBatch, mask: torch.Tensor) -> torch.Tensor:
    """Steps whose row has the feature; those after the end of a video repeat its last row."""
    return mask | (batch.features[name] != 0).any(-1)


def test_label_of_a_whole_video_is_one_row_and_valid_where_a_frame_counts() -> None:
    table = table_of_row_numbers([5, 3, 4, 2], VGAF, np.array([[2], [1], [0], [-1]]))
    masks = {"row": np.array([False, True, *[False] * 3, *[True] * 3, *[False] * 4, True, True])}
    sampler = WindowSampler(replace(table, masks=masks), 5)
    batch = sampler.batch(sampler.windows(2))
    assert batch.labels.tolist() == [[2], [1], [0], [-1]]
    assert batch.valid.tolist() == [[True], [True], [False], [False]]


def test_image_is_a_window_of_its_own() -> None:
    table = table_of_row_numbers([3, 2], LSD, np.array([[0], [4]]))
    sampler = WindowSampler(table, 1)
    found = sampler.epoch(1, (0, 1))
    assert Counter(found[:, 0].tolist()) == Counter(range(5))
    assert sampler.batch(found).labels.shape == (5, 1, 1)


def test_batch_goes_to_the_device_as_float32(loaded: Loaded) -> None:
    sampler = WindowSampler(loaded[0], 10)
    batch = sampler.batch(sampler.windows(10))
    moved = batch.to(torch.device("cpu"))
    assert batch.features["face"].dtype == torch.float16
    assert moved.features["face"].dtype == torch.float32
    assert torch.equal(moved.features["face"], batch.features["face"].float())
    assert torch.equal(moved.masks["sound"], batch.masks["sound"])


def test_table_in_a_file_gives_the_same_batches(loaded: Loaded, tmp_path: Path) -> None:
    table, _ = loaded
    for name, values in table.values.items():
        np.save(tmp_path / f"{name}.npy", values)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in table.values}
    samplers = [WindowSampler(one, 30) for one in (table, replace(table, values=mapped))]
    ours, theirs = (sampler.batch(sampler.epoch(10, (0, 1))) for sampler in samplers)
    for name in table.values:
        assert torch.equal(ours.features[name], theirs.features[name])
        assert torch.equal(ours.masks[name], theirs.masks[name])


# counts


def test_class_counts_by_hand() -> None:
    labels = np.full((6, 15), -1.0)
    labels[:, 2] = [0, 0, 5, -1, 5, 7]
    labels[:, 3] = [1, 0, 1, 1, -1, 1]
    table = table_of_row_numbers([6], MTL, labels)
    found = class_counts(replace(table, masks={"row": np.arange(6) < 5}))
    assert {name: n for name, n in found.items() if n} == {"Neutral": 2, "Sadness": 2, "AU1": 3}
    assert len(found) == 20
    assert class_counts(table_of_row_numbers([6])) == {}
