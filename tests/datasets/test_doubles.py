"""Images that are listed twice: stored, trained and scored row by row, answered row by row, counted by `doctor`."""

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from abaw.core.doubles import Doubles
from abaw.core.errors import CheckpointError, DataError, StoreError, UsageError
from abaw.core.tasks import MTL, TASKS
from abaw.datasets.layouts import open_dataset
from abaw.datasets.mtl import doubles_of
from abaw.evaluate.evaluation import score_both
from abaw.evaluate.postprocessing.postprocess import Postprocess, fit_postprocess
from abaw.evaluate.postprocessing.thresholds import best_threshold
from abaw.evaluate.postprocessing.tuning import load_tuning
from abaw.evaluate.predictions import VideoPrediction, save_predictions, stack_labels
from abaw.evaluate.report.content import report_on, videos_by_error
from abaw.evaluate.results import read_predictions
from abaw.evaluate.scores.bootstrap import difference, interval, n_units
from abaw.evaluate.scores.metrics import confusion
from abaw.evaluate.submission.check import check_submission
from abaw.evaluate.submission.sample_files import read_sample
from abaw.evaluate.submission.score import score_predictions
from abaw.store import FeatureStore
from abaw.tests.support.paths import DATA
from abaw.tests.support.stores import new_store, put_feature
from abaw.train.config import make_config
from abaw.train.data.table import load_table, select_labels
from abaw.train.data.windows import WindowSampler, class_counts
from abaw.train.loop import Trainer
from abaw.train.model import Model
from abaw.train.runs import open_run

HEADER = "image,valence,arousal,expression,aus"
TRAIN, VAL = "training_set_annotations.txt", "validation_set_annotations.txt"
CPU = torch.device("cpu")
Row = tuple[str, int, np.ndarray]  # video, frame number, 15 values


def drawn_rows(
    rng: np.random.Generator, frames: dict[str, int], n_agreeing: int, n_apart: int, n_thrice: int = 0
) -> list[Row]:
    """A row for each frame, some values not annotated; then doubles that agree and that do not, and triples."""
    rows = []
    for video, n_frames in frames.items():
        for number in range(1, n_frames + 1):
            rows.append((video, number, drawn_values(rng)))  # noqa: PERF401 (the loop says it plainly)
    chosen = rng.choice(len(rows), n_agreeing + n_apart + n_thrice, replace=False)
    for at, place in enumerate(chosen):
        video, number, values = rows[place]
        rows.append((video, number, values if at < n_agreeing else drawn_values(rng)))
        if at >= n_agreeing + n_apart:
            rows.append((video, number, drawn_values(rng)))
    return [rows[i] for i in rng.permutation(len(rows))]


def drawn_values(rng: np.random.Generator) -> np.ndarray:
    values = np.concatenate([rng.uniform(-1, 1, 2).round(3), rng.integers(-1, 8, 1), rng.integers(-1, 2, 12)])
    values[:2][rng.random(2) < 0.1] = -5
    return values


def write(file: Path, rows: list[Row], rng: np.random.Generator | None = None) -> Path:
    """Write an annotation file; with `rng` the image is written in any of the ways that mean the same."""
    lines = [HEADER]
    for video, number, values in rows:
        digits, suffix = (
            (5, "jpg") if rng is None else (int(rng.choice([1, 5])), str(rng.choice(["jpg", "JPG", "png"])))
        )
        if rng is not None:
            video = unicodedata.normalize(str(rng.choice(["NFC", "NFD"])), video)
        lines.append(f"{video}/{number:0{digits}}.{suffix},{','.join(f'{value:g}' for value in values)}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def by_loop(answers: list[np.ndarray], labels: list[np.ndarray]) -> float:
    """The measure of MTL, row by row: mean CCC, macro F1 of 8 classes and mean F1 of 12 units, summed."""
    cccs = []
    for column in (0, 1):
        pairs = [(a[column], y[column]) for a, y in zip(answers, labels, strict=True) if y[column] != -5]
        x, y = (np.array(values, dtype=np.float64) for values in zip(*pairs, strict=True))
        covariance = ((x - x.mean()) * (y - y.mean())).mean()
        cccs.append(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))
    f1s: list[list[float]] = [[], []]
    for part, wanted in [(0, kind) for kind in range(8)] + [(1, column) for column in range(3, 15)]:
        column, positive = (2, wanted) if part == 0 else (wanted, 1)
        hits = said = true = 0
        for a, y in zip(answers, labels, strict=True):
            if y[column] != -1:
                hits += a[column] == positive and y[column] == positive
                said += a[column] == positive
                true += y[column] == positive
        f1s[part].append(2 * hits / (said + true) if said + true else 0.0)
    return float(np.mean(cccs) + np.mean(f1s[0]) + np.mean(f1s[1]))


# the file


def test_every_row_is_read_whichever_way_its_image_is_written(make_data: Callable[..., Path]) -> None:
    root = make_data({"café": 3})
    a, b, c, d, e = (drawn_values(np.random.default_rng(i)) for i in range(5))
    rows = [("café/00003.jpg", a), ("cafe\u0301/3.png", b), ("café/1.jpg", c), ("café/0003.JPEG", d), ("café/1.jpg", e)]
    lines = [f"{image},{','.join(map(str, values))}" for image, values in rows]
    (root / TRAIN).write_bytes(("\ufeff" + "\r".join([HEADER, *lines, "  ", "\t", ""])).encode())
    (labels,) = open_dataset(root).labels
    doubles = doubles_of(labels)
    assert labels.video == "café" and doubles is not None
    np.testing.assert_allclose(labels.read(), [c, MTL.invalid_row, a], rtol=1e-6)
    assert doubles.rows.tolist() == [0, 2, 2]
    np.testing.assert_allclose(doubles.labels, [e, b, d], rtol=1e-6)


@pytest.mark.parametrize(
    ("n_agreeing", "n_apart", "n_thrice", "said"),
    [
        (4, 0, 0, f"{TRAIN} lists 4 images twice: both rows count, all with the same labels"),
        (3, 2, 0, f"{TRAIN} lists 5 images twice: both rows count, 2 of them with different labels"),
        (0, 1, 0, f"{TRAIN} lists 1 image twice: both rows count, 1 of them with different labels"),
        (1, 1, 1, f"{TRAIN} lists 3 images twice or more often: all 7 rows count, 2 of them with different labels"),
    ],
)
def test_doctor_counts_them_and_has_nothing_to_mend(
    make_data: Callable[..., Path], run_cli, n_agreeing: int, n_apart: int, n_thrice: int, said: str
) -> None:
    root = make_data({"a": 9, "b": 5})
    rng = np.random.default_rng(3)
    write(root / TRAIN, drawn_rows(rng, {"a": 9, "b": 5}, n_agreeing, n_apart, n_thrice), rng)
    (remark,) = open_dataset(root).remarks
    assert (remark.about, remark.sentence, remark.is_error) == (TRAIN, said, False)
    result = run_cli("doctor", "--data", root, "--json")
    assert result.exit_code == 0, result.output
    assert said in result.stdout


# the store


def stored(path: Path, labels: np.ndarray, doubles: Doubles | None) -> FeatureStore:
    store = FeatureStore.create(path)
    store.write_labels("mtl", "a", "train", labels, doubles)
    return store


def some_doubles(rng: np.random.Generator, n_rows: int, rows: list[int]) -> tuple[np.ndarray, Doubles]:
    values = [drawn_values(rng) for _ in range(n_rows + len(rows))]
    labels = np.array(values, dtype=np.float32)
    return labels[:n_rows], Doubles(np.array(rows), labels[n_rows:])


def test_store_keeps_them_and_writes_the_same_once(tmp_path: Path) -> None:
    labels, doubles = some_doubles(np.random.default_rng(0), 6, [1, 1, 5])
    store = stored(tmp_path / "s.zarr", labels, doubles)
    found = FeatureStore.open(store.path).read_labels("mtl", "a")
    assert np.array_equal(found.rows, labels) and found.doubles is not None
    assert np.array_equal(found.doubles.rows, [1, 1, 5]) and np.array_equal(found.doubles.labels, doubles.labels)
    assert not store.write_labels("mtl", "a", "train", labels, doubles)
    assert store.write_labels("mtl", "a", "train", labels, Doubles(np.array([1, 2, 5]), doubles.labels))
    assert store.write_labels("mtl", "a", "train", labels)
    assert store.read_labels("mtl", "a").doubles is None


def test_labels_without_doubles_are_written_as_ever(tmp_path: Path) -> None:
    labels, _ = some_doubles(np.random.default_rng(0), 6, [])
    stored(tmp_path / "s.zarr", labels, None)
    metadata = json.loads((tmp_path / "s.zarr/labels/mtl/a/zarr.json").read_text())
    assert list(metadata["attributes"]) == ["split", "sha256", "complete", "checksum"] and metadata["shape"] == [6, 15]


@pytest.mark.parametrize(
    "change",
    [
        lambda attrs: attrs.pop("doubles"),
        lambda attrs: attrs.update(doubles=[2, 2, 5]),
        lambda attrs: attrs.update(doubles=[2, 2]),
        lambda attrs: attrs.update(doubles=[2, 2, 7]),
        lambda attrs: attrs.update(doubles=[2, 2, 6.0]),
        lambda attrs: attrs.update(doubles="2"),
        lambda attrs: attrs.update(doubles={"2": 1}),
        lambda attrs: attrs.update(doubles=None),
    ],
)
def test_damaged_doubles_are_never_read(tmp_path: Path, change: Callable[[dict], object]) -> None:
    store = stored(tmp_path / "s.zarr", *some_doubles(np.random.default_rng(0), 6, [1, 1, 5]))
    place = tmp_path / "s.zarr/labels/mtl/a/zarr.json"
    metadata = json.loads(place.read_text())
    change(metadata["attributes"])
    place.write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match=r"The mtl labels of video 'a' are damaged .*Delete .* and run `abaw extract`"):
        FeatureStore.open(store.path).read_labels("mtl", "a")


def test_doubles_that_are_no_labels_of_the_task_are_refused(tmp_path: Path) -> None:
    labels, doubles = some_doubles(np.random.default_rng(0), 6, [1])
    doubles.labels[0, 3] = np.nan
    with pytest.raises(StoreError, match="are not finite numbers in 15 columns"):
        select_labels(stored(tmp_path / "s.zarr", labels, doubles), MTL, "train")
    store = FeatureStore.create(tmp_path / "t.zarr")
    store.write_labels("vgaf", "a", "train", np.ones((1, 1), np.int8), Doubles(np.array([0]), np.ones((1, 1))))
    with pytest.raises(StoreError, match="vgaf labels of video 'a' are more than one row"):
        select_labels(store, TASKS["vgaf"], "train")


# training

N_FRAMES, WIDTH = {"a": 23, "b": 40, "c": 6}, 5  # the last one is shorter than a window


class Listed:
    """A store with random features and rows as an annotation file would list them."""

    def __init__(self, path: Path, rows: list[Row], split: str = "train") -> None:
        rng = np.random.default_rng(7)
        self.rows = rows
        self.store = new_store(path, {"f": (WIDTH,), "f@hflip": (WIDTH,)})
        self.present = {video: rng.random(n) < 0.85 for video, n in N_FRAMES.items()}
        for video, n_frames in N_FRAMES.items():
            for feature in ("f", "f@hflip"):
                put_feature(self.store, feature, video, rng.normal(size=(n_frames, WIDTH)), self.present[video])
            own = [(number, values) for name, number, values in rows if name == video]
            firsts = dict(reversed(own))
            labels = np.tile(np.array(MTL.invalid_row, dtype=np.float64), (max(firsts), 1))
            for number, values in firsts.items():
                labels[number - 1] = values
            again = [(number, values) for place, (number, values) in enumerate(own)
                     if number in {earlier for earlier, _ in own[:place]}]  # fmt: skip
            again.sort(key=lambda one: one[0])
            doubles = Doubles(np.array([n - 1 for n, _ in again]), np.array([v for _, v in again])) if again else None
            self.store.write_labels("mtl", video, split, labels.astype(np.float32), doubles)

    def counted(self) -> list[Row]:
        """The rows whose frame has a feature."""
        return [row for row in self.rows if self.present[row[0]][row[1] - 1]]

    def table(self, *features: str):
        labels = select_labels(self.store, MTL, "train")
        return load_table(self.store, MTL, labels, features or ("f",))


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    rng = np.random.default_rng(1)
    rows = [*drawn_rows(rng, N_FRAMES, 6, 9, 3), ("c", N_FRAMES["c"], drawn_values(rng))]
    return Listed(tmp_path / "s.zarr", rows)


def loss_by_hand(outputs: list[np.ndarray], labels: list[np.ndarray], weights: np.ndarray, n_rows: int) -> float:
    """The loss `emma` over listed rows, in float64: 1 - CCC of each, cross-entropy, binary cross-entropy."""
    x, y = np.array(outputs, dtype=np.float64), np.array(labels, dtype=np.float64)
    total = 0.0
    for column in (0, 1):
        known = y[:, column] != -5
        a, b = x[known, column], y[known, column]
        covariance = ((a - a.mean()) * (b - b.mean())).sum() / (len(a) - 1)
        spread = np.sqrt(((a - a.mean()) ** 2).sum() * ((b - b.mean()) ** 2).sum())
        distance = (a.mean() - b.mean()) ** 2
        total += 1 - 2 * covariance * spread / (spread + 1e-4) / (a.var(ddof=1) + b.var(ddof=1) + distance + 1e-4)
    known = y[:, 2] != -1
    logits = x[known, 2:10]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total += -np.log(chances[np.arange(known.sum()), y[known, 2].astype(int)]).mean()
    for logit, label in zip(x[:, 10:], y[:, 3:], strict=True):
        for value, wanted, weight in zip(logit, label, weights, strict=True):
            if wanted != -1:
                chance = 1 / (1 + np.exp(-value))
                total += -(weight * np.log(chance) if wanted else np.log(1 - chance)) / n_rows
    return float(total)


@pytest.mark.parametrize("settings", [(), ("views=,hflip",), ("speed=0.5,1.5",), ("balance=class",)], ids=str)
def test_loss_of_training_is_that_over_the_listed_rows(listed: Listed, settings: tuple[str, ...]) -> None:
    config = make_config(
        {"task": "mtl", "features": ["f"], "head": {"name": "linear"}},
        ["window=8", "stride=5", "batch_size=1000", "epochs=1", *settings],
    )
    table = listed.table(*config.training_features())
    torch.manual_seed(0)
    model = Model(config, MTL, {"f": (WIDTH,)})
    model.set_statistics({"f": torch.zeros(WIDTH)}, {"f": torch.ones(WIDTH)})
    sampler = WindowSampler(table, config.length)
    windows = sampler.epoch(config.step, (config.seed, 1), config.balance, 0.0, config.speed)
    batch = sampler.batch(windows).to(CPU)
    model.train()
    given = model(batch.features, batch.masks).detach().numpy()
    views = given if given.ndim == 4 else given[None]
    numbered = {(video, number) for video, number, _ in listed.rows}
    assert len(numbered) < len(listed.rows)
    rows, inside = sampler.rows_of(windows)
    outputs, labels, n_rows = [], [], 0
    for view in views:
        for window in range(len(windows)):
            for step in range(config.length):
                video_index = int(np.searchsorted(table.starts, rows[window, step], side="right")) - 1
                video, number = table.videos[video_index], int(rows[window, step] - table.starts[video_index]) + 1
                own = [values for name, frame, values in listed.rows if (name, frame) == (video, number)]
                n_rows += max(1, len(own)) if inside[window, step] else 1
                if inside[window, step] and listed.present[video][number - 1]:
                    outputs += [view[window, step]] * len(own)
                    labels += own
    positives = np.sum([values[3:] == 1 for _, _, values in listed.counted()], axis=0)
    negatives = np.sum([values[3:] == 0 for _, _, values in listed.counted()], axis=0)
    weights = np.clip(negatives / positives, 1 / 50, 50)
    trainer = Trainer(config, MTL, model, table, CPU)
    loss = trainer.run_epoch(1)[0]
    assert loss == pytest.approx(loss_by_hand(outputs, labels, weights, n_rows), rel=2e-5)


def test_both_labels_pull(listed: Listed) -> None:
    """The gradient at a frame that is labelled twice is that of its two rows."""
    sampler = WindowSampler(listed.table(), 8)
    batch = sampler.batch(sampler.windows(8))
    outputs = torch.zeros(*batch.labels.shape[:2], 22, requires_grad=True)
    given, labels, valid = batch.targets.align(outputs)
    assert given.ndim == labels.ndim == 2 and len(given) == len(labels) == len(valid)
    torch.where(valid[:, :2], (given[:, :2] - labels[:, :2]) ** 2, 0).sum().backward()
    rows, inside = sampler.rows_of(sampler.windows(8))
    table = listed.table()
    for window, step in np.ndindex(rows.shape):
        video = int(np.searchsorted(table.starts, rows[window, step], side="right")) - 1
        number = int(rows[window, step] - table.starts[video]) + 1
        own = [values[:2] for name, frame, values in listed.rows if (name, frame) == (table.videos[video], number)]
        is_counted = inside[window, step] and listed.present[table.videos[video]][number - 1]
        wanted = [-2 * sum(v[i] for v in own if v[i] != -5) * is_counted for i in (0, 1)]
        np.testing.assert_allclose(outputs.grad[window, step, :2], wanted, rtol=1e-5, atol=1e-6)


def test_class_counts_and_balanced_windows_count_each_row(listed: Listed) -> None:
    table = listed.table()
    counts = class_counts(table)
    counted = [values for _, _, values in listed.counted()]
    assert list(counts.values()) == [
        *(sum(values[2] == kind for values in counted) for kind in range(8)),
        *(sum(values[column] == 1 for values in counted) for column in range(3, 15)),
    ]
    sampler = WindowSampler(table, 8)
    windows = sampler.windows(5)
    names = [*TASKS["expr"].outputs, *TASKS["au"].outputs]
    expected = []
    for first, end, _ in windows:
        video = int(np.searchsorted(table.starts, first, side="right")) - 1
        numbers = range(first - table.starts[video] + 1, min(first + 8, end) - table.starts[video] + 1)
        own = [v for name, frame, v in listed.counted() if name == table.videos[video] and frame in numbers]
        by_class = sum(1 / counts[names[int(v[2])]] for v in own if v[2] >= 0)
        by_unit = sum(1 / counts[names[8 + unit]] for v in own for unit in range(12) if v[3 + unit] == 1)
        expected.append(by_class + by_unit)
    np.testing.assert_allclose(sampler._class_weights(windows), expected, rtol=1e-9)


def test_a_probe_is_fitted_to_every_row(listed: Listed) -> None:
    from abaw.train.fit_probes import _examples

    table = listed.table()
    model = Model(make_config({"task": "mtl", "features": ["f"], "head": {"name": "linear"}}), MTL, {"f": (WIDTH,)})
    inputs, labels, valid = _examples(model.heads[0], table, 10_000, 0)
    wanted = [values for _, _, values in listed.counted() if MTL.valid(values).any()]
    assert len(inputs) == len(labels) == len(valid) == len(wanted)
    np.testing.assert_allclose(np.sort(labels, axis=0), np.sort(np.array(wanted, np.float32), axis=0))


# scores


def predicted(rng: np.random.Generator, n_videos: int = 6) -> tuple[dict[str, VideoPrediction], dict[str, list]]:
    """Predictions with doubles, and by video the listed (row, labels)."""
    videos, listed = {}, {}
    for number in range(n_videos):
        n_rows = int(rng.integers(20, 50))
        again = np.sort(rng.integers(0, n_rows, 8))
        labels, doubles = some_doubles(rng, n_rows, again.tolist())
        outputs = rng.normal(size=(n_rows, 22)).astype(np.float32)
        outputs[:, :2] += labels[:, :2]
        videos[f"v{number}"] = VideoPrediction(outputs, labels, rng.random(n_rows) < 0.8, 25.0, doubles)
        listed[f"v{number}"] = [*enumerate(labels), *zip(again.tolist(), doubles.labels, strict=True)]
    return videos, listed


def answers_of(output: np.ndarray) -> np.ndarray:
    return np.concatenate([np.clip(output[:2], -1, 1), [output[2:10].argmax()], output[10:] > 0])


def loop_over(videos: dict[str, VideoPrediction], listed: dict[str, list], with_crop: bool = False) -> float:
    rows = [
        (answers_of(videos[name].outputs[row]), labels)
        for name, own in listed.items()
        for row, labels in own
        if videos[name].present[row] or not with_crop
    ]
    return by_loop([answers for answers, _ in rows], [labels for _, labels in rows])


def test_scores_and_intervals_are_over_the_listed_rows() -> None:
    videos, listed = predicted(np.random.default_rng(0))
    official, crop_only = score_both(MTL, videos)
    assert official.score == pytest.approx(loop_over(videos, listed), abs=1e-9)
    assert crop_only.score == pytest.approx(loop_over(videos, listed, with_crop=True), abs=1e-9)
    assert official.n_frames == sum(MTL.valid(y).any() for own in listed.values() for _, y in own)
    assert official.support["valence"] == sum(y[0] != -5 for own in listed.values() for _, y in own)
    # as if they were one row more each: what is drawn is whole videos, with all that belongs to them
    rows = {name: found.by_label() for name, found in videos.items()}
    assert all(found.doubles is None for found in rows.values())
    assert n_units(MTL, videos) == len(videos)
    assert interval(MTL, videos, n_draws=200) == interval(MTL, rows, n_draws=200)
    worse = {
        name: VideoPrediction(-one.outputs, one.labels, one.present, one.fps, one.doubles)
        for name, one in videos.items()
    }
    report = report_on("run", MTL, videos)
    assert report.official == official and report.crop_only == crop_only
    outputs, labels, _ = stack_labels(videos.values())
    expressions = confusion(TASKS["expr"], outputs[:, 2:10], labels[:, 2:3])
    assert expressions.sum() == sum(y[2] != -1 for own in listed.values() for _, y in own)
    for errors in videos_by_error(MTL, [report]):
        of_valence = [abs(answers_of(videos[errors.video].outputs[row])[:2] - y[:2]) for row, y in listed[errors.video]]
        known = [y[:2] != -5 for _, y in listed[errors.video]]
        means = [error[is_known].mean() for error, is_known in zip(of_valence, known, strict=True) if is_known.any()]
        assert errors.by_part[0][0] == pytest.approx(np.mean(means), abs=1e-6)
        assert len(errors.rows) == len(videos[errors.video].outputs)
    gained = difference(MTL, worse, videos, n_draws=200)["score"].estimate
    assert gained == pytest.approx(loop_over(videos, listed) - loop_over(worse, listed), abs=1e-9)
    without = {name: VideoPrediction(*list(vars(one).values())[:4]) for name, one in videos.items()}
    with pytest.raises(UsageError, match="have different labels for v0"):
        difference(MTL, without, videos)


def test_smoothing_is_over_frames_and_fitting_over_rows() -> None:
    videos, listed = predicted(np.random.default_rng(1))
    fitted = fit_postprocess(MTL, videos)
    smoothed = fitted.apply_to(MTL, videos)
    without = fitted.apply_to(
        MTL, {name: VideoPrediction(*list(vars(one).values())[:4]) for name, one in videos.items()}
    )
    for name, found in smoothed.items():
        assert np.array_equal(found.outputs, without[name].outputs) and found.doubles is videos[name].doubles
    before, after = loop_over(videos, listed), loop_over(smoothed, listed)
    assert after > before
    assert score_both(MTL, smoothed)[0].score == pytest.approx(after, abs=1e-9)
    smooth = Postprocess(smoothing=fitted.smoothing).apply_to(MTL, videos)
    for unit, name in enumerate(TASKS["au"].outputs):
        pairs = [
            (smooth[video].outputs[row, 10 + unit], y[3 + unit]) for video, own in listed.items() for row, y in own
        ]
        logits, actual = (np.array(values, dtype=np.float32) for values in zip(*pairs, strict=True))
        wanted = best_threshold(logits[actual != -1], actual[actual != -1] == 1)[0]
        assert fitted.thresholds[name] == pytest.approx(wanted, abs=1e-9)


def test_saved_predictions_keep_them(tmp_path: Path) -> None:
    videos, _ = predicted(np.random.default_rng(2), 3)
    (tmp_path / "run").mkdir()
    path = tmp_path / "run/predictions-val.h5"
    save_predictions(path, videos, MTL)
    found = read_predictions(path.parent, "val", MTL)
    for name, one in videos.items():
        assert np.array_equal(found[name].doubles.rows, one.doubles.rows)
        assert np.array_equal(found[name].doubles.labels, one.doubles.labels)
    for change in (
        lambda file: file["v1"].pop("doubles"),
        lambda file: file["v1/doubles_rows"].__setitem__(-1, 10_000),
        lambda file: file["v1/doubles_rows"].__setitem__(0, -1),
        lambda file: file["v1/doubles_rows"].__setitem__(slice(None), np.arange(8)[::-1]),
    ):
        save_predictions(path, videos, MTL)
        with h5py.File(path, "a") as file:
            change(file)
        with pytest.raises(CheckpointError):
            read_predictions(path.parent, "val", MTL)


# files of predictions


def answered(tmp_path: Path, listed: Listed, answer: Callable[[int, str, int], np.ndarray], rows: list[Row]) -> Path:
    lines = [HEADER]
    for place, (video, number, _) in enumerate(rows):
        values = answer(place, video, number)
        lines.append(f"{video}/{number:05}.jpg,{','.join(f'{value:g}' for value in values)}")
    path = tmp_path / "p.txt"
    path.write_text("\n".join(lines) + "\n \n\n")
    return path


def answer_at(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-1, 1, 2).round(4), rng.integers(0, 8, 1), rng.integers(0, 2, 12)])


def test_rows_of_a_file_meet_the_labels_of_an_image_in_their_order(tmp_path: Path, listed: Listed) -> None:
    path = answered(tmp_path, listed, lambda place, *_: answer_at(place), listed.rows)
    found = score_predictions(listed.store, MTL, "train", path)
    wanted = by_loop([answer_at(place) for place in range(len(listed.rows))], [v for _, _, v in listed.rows])
    assert found.official.score == pytest.approx(wanted, abs=1e-6)


def test_one_row_answers_all_labels_of_an_image(tmp_path: Path, listed: Listed) -> None:
    frames = list(dict.fromkeys((video, number) for video, number, _ in listed.rows))
    path = answered(tmp_path, listed, lambda place, *_: answer_at(place), [(*frame, None) for frame in frames])
    found = score_predictions(listed.store, MTL, "train", path)
    answers = [answer_at(frames.index((video, number))) for video, number, _ in listed.rows]
    assert found.official.score == pytest.approx(by_loop(answers, [v for _, _, v in listed.rows]), abs=1e-6)


def test_equal_answers_to_one_label_are_one_and_others_are_refused(tmp_path: Path, listed: Listed) -> None:
    once = drawn_rows(np.random.default_rng(1), N_FRAMES, 0, 0)
    for video in N_FRAMES:
        labels = np.array([v for name, _, v in sorted(once, key=lambda row: row[1]) if name == video], np.float32)
        listed.store.write_labels("mtl", video, "train", labels)
    frames = [(video, number, None) for video, number, _ in once]
    twice = [*frames, frames[4]]
    plain = score_predictions(
        listed.store, MTL, "train", answered(tmp_path, listed, lambda p, *_: answer_at(p), frames)
    )
    equal = answered(
        tmp_path, listed, lambda place, *_: answer_at(place % len(frames) if place < len(frames) else 4), twice
    )
    assert score_predictions(listed.store, MTL, "train", equal).official == plain.official
    apart = answered(tmp_path, listed, lambda place, *_: answer_at(place), twice)
    line, (video, number, _) = len(twice) + 1, frames[4]
    with pytest.raises(DataError, match=rf"lines 6 and {line} answer frame {number} of {video} differently"):
        score_predictions(listed.store, MTL, "train", apart)


@pytest.mark.parametrize("task", ["va", "expr", "au"])
def test_other_samples_may_list_an_image_twice_too(tmp_path: Path, task: str) -> None:
    golden = DATA / "golden"
    header, *lines = (golden / f"sample_{task}.txt").read_text().splitlines()
    given_header, *given = (golden / f"predictions_{task}.txt").read_text().splitlines()
    sample, path = tmp_path / "sample.txt", tmp_path / "p.txt"
    sample.write_text("\n".join([header, *lines, lines[2], lines[0], lines[2]]) + "\n")
    whole = [given_header, *given, given[2], given[0], given[2]]
    path.write_text("\n".join(whole) + "\n")
    wanted = read_sample(sample)
    assert check_submission(path, wanted).first == "" and check_submission(path, wanted).n_rows == len(given) + 3

    def checked(*rows: str):
        path.write_text("\n".join(rows) + "\n")
        return check_submission(path, wanted)

    image = given[2].partition(",")[0]
    missing = checked(*whole[:-1])
    assert missing.counts == {"missing row": 1}
    assert f"line {len(whole)}: row 3 of {image} should be here and is missing." in missing.first
    many = checked(*whole, given[2])
    assert many.counts == {"double row": 1}
    assert f"line {len(whole) + 1}: {image} is already on line {len(whole)}." in many.first
    moved = checked(*whole[:-2], whole[-1], whole[-2])
    assert moved.counts == {"row out of order": 2}


# the commands


class Commands:
    """Data with doubles in both annotation files, taken through the commands as far as scores of trained runs."""

    def __init__(
        self, root: Path, run_cli, folder: Path, n_agreeing: int, n_apart: int, names: tuple[str, ...]
    ) -> None:
        rng = np.random.default_rng(5)
        self.rows = {split: drawn_rows(rng, own, n_agreeing, n_apart) for split, own in FRAMES.items()}
        self.sample = write(root / VAL, self.rows["val"], rng)
        write(root / TRAIN, self.rows["train"], rng)
        self._run_cli, self.store, self.runs = run_cli, folder / "s.zarr", folder / "runs"
        self.run("extract", "--backbone", "hog", "--data", root, "--store", self.store)
        self.places = ("--store", self.store, "--runs", self.runs)
        small = [option for setting in ("epochs=2", "window=8", "batch_size=8") for option in ("--set", setting)]
        self.scores = {}
        for number, name in enumerate(names):
            chosen = ("--run", name, "--set", f"seed={number}", *small, *self.places)
            self.run("train", "--task", "mtl", "--head", "linear", *chosen)
            self.scores[name] = json.loads(self.run("eval", name, "--json", *self.places))["official"]

    def run(self, *command: object) -> str:
        result = self._run_cli(*command)
        assert result.exit_code == 0, result.output
        return result.stdout

    def by_loop(self, name: str) -> float:
        """The score of what a run says of each listed row."""
        with h5py.File(self.runs / name / "predictions-val.h5") as file:
            outputs = {video: file[video]["outputs"][...] for video in file}
        answers = [answers_of(outputs[video][number - 1]) for video, number, _ in self.rows["val"]]
        return by_loop(answers, [values for _, _, values in self.rows["val"]])


FRAMES = {"train": {"a": 20, "b_left": 16, "c1": 12}, "val": {"d": 15, "e": 18, "f": 11, "g": 10, "h": 9}}


@pytest.mark.parametrize(("n_agreeing", "n_apart"), [(12, 0), (0, 12)], ids=["agreeing", "contradicting"])
def test_from_annotation_files_to_scores(
    make_data: Callable[..., Path], run_cli, tmp_path: Path, n_agreeing: int, n_apart: int
) -> None:
    root = make_data(FRAMES["train"] | FRAMES["val"])
    made = Commands(root, run_cli, tmp_path, n_agreeing, n_apart, ("one",))
    score = made.scores["one"]["score"]
    assert score == pytest.approx(made.by_loop("one"), abs=1e-6)
    assert made.scores["one"]["n_frames"] == sum(MTL.valid(values).any() for _, _, values in made.rows["val"])
    # a submission for the annotated rows has each of them, and is scored the same
    out = tmp_path / "p.txt"
    made.run("submit", "one", "--sample", made.sample, "--out", out, *made.places)
    given, listed = (path.read_text(encoding="utf-8").splitlines()[1:] for path in (out, made.sample))
    assert [line.partition(",")[0] for line in given] == [line.partition(",")[0] for line in listed]
    made.run("check-submission", out, "--sample", made.sample)
    of_file = json.loads(made.run("eval", "--predictions", out, "--json", "--store", made.store))
    assert of_file["official"]["score"] == pytest.approx(score, abs=1e-5)


def test_all_that_comes_after_scores_counts_the_same_rows(make_data, run_cli, tmp_path: Path) -> None:
    made = Commands(make_data(FRAMES["train"] | FRAMES["val"]), run_cli, tmp_path, 3, 9, ("one", "two"))
    runs = ("--runs", made.runs)
    made.run("ensemble", "one", "two", "--run", "both", *runs)
    ensemble = json.loads((made.runs / "both/scores-val.json").read_text())
    assert ensemble["official"]["score"] == pytest.approx(made.by_loop("both"), abs=1e-6)
    wanted = [made.by_loop("one"), made.by_loop("two")]
    compared = json.loads(made.run("compare", "one", "two", "--json", *runs))["scores"]["score"]["values"]
    assert compared == pytest.approx(wanted, abs=1e-6)
    made.run("report", "one", "two", "--out", tmp_path / "r.html", *runs)
    assert re.search(rf"\b{wanted[0]:.3f}\b", (tmp_path / "r.html").read_text(encoding="utf-8"))
    made.run("tune", "one", "--fit-on", "val", *made.places)
    tuning = load_tuning(open_run(made.runs / "one"))
    assert tuning is not None and tuning.score_before == pytest.approx(wanted[0], abs=1e-6)
