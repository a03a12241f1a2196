"""Dense prediction, filled gaps, both scores, and what `abaw eval` prints and keeps."""

import doctest
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from sklearn.metrics import f1_score
from torch import Tensor, nn

from abaw import pipeline
from abaw.cli import main
from abaw.core.tasks import EXPRESSIONS, TASKS, Task
from abaw.evaluate.inference import evaluate_head, predict
from abaw.evaluate.predictions import fill_gaps, load_predictions, save_predictions
from abaw.evaluate.trained import TrainedRun
from abaw.store import FeatureStore
from abaw.tests.support.command_line import assert_refused
from abaw.tests.support.stores import new_store, put_feature
from abaw.tests.support.tables import build_table
from abaw.tests.support.trainings import single_thread
from abaw.train.config import make_config
from abaw.train.data.table import Missing, Table, load_table, select_labels
from abaw.train.new_run import start_run
from abaw.train.runs import Run, find_run

VA, CPU = TASKS["va"], torch.device("cpu")
TRAINED = ("au", "expr", "lsd", "mtl", "va", "vgaf")  # tasks of each kind and level
MISSING_ROWS = [0, 7, 8, 9, 39]
WINDOWS = {"lsd": 1, "vgaf": 8}  # frames; the others' are 30


Tensors = Mapping[str, Tensor]


class WindowPosition(nn.Module):
    """Gives each frame its place in the window, twice: once as it is, once below zero."""

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        shape = masks["f"].shape
        places = torch.arange(shape[1], dtype=torch.float32).expand(shape)
        return torch.stack([places, -places], dim=-1)


class Copy(nn.Module):
    """Gives back the feature, a large number where the mask hides it, and NaN in training mode."""

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        values = torch.where(masks["f"][..., None], features["f"], 1e6)
        return values * float("nan") if self.training else values


class WindowMean(nn.Module):
    """One output row for the whole window: the mean of the feature over what the mask shows."""

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        shown = masks["f"][..., None]
        return (features["f"] * shown).sum(dim=1) / shown.sum(dim=1).clamp(min=1)


def unlabelled_table(lengths: list[int], values: np.ndarray | None = None, present: np.ndarray | None = None) -> Table:
    """Videos without labels, all frames there unless said otherwise."""
    values = np.zeros((sum(lengths), 2)) if values is None else values
    return build_table(VA, lengths, {"f": values}, None if present is None else {"f": present})


def load(store: FeatureStore, task: Task, features: Sequence[str] = ("f",), missing: Missing = "mask") -> Table:
    """The validation videos of a store."""
    return load_table(store, task, select_labels(store, task, "val"), features, missing)


# overlapping windows


def test_overlapping_windows_are_averaged_by_hand() -> None:
    """Windows of 4 begin at 0, 2 and 3 (moved back from 4) in a video of 7; one of 3 is a single padded window."""
    found = predict(WindowPosition(), unlabelled_table([7, 3]), 4, CPU)
    wanted = [0, 1, (2 + 0) / 2, (3 + 1 + 0) / 3, (2 + 1) / 2, (3 + 2) / 2, 3]
    np.testing.assert_allclose(found["v0"].outputs[:, 0], wanted, rtol=1e-6)
    np.testing.assert_allclose(found["v0"].outputs[:, 1], -np.array(wanted), rtol=1e-6)
    assert found["v1"].outputs[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("window", [1, 2, 5, 64, 1000])
def test_every_row_of_every_video_gets_its_own_output(window: int) -> None:
    """Enough windows for several batches; the output is the row's own number wherever it stands in a window."""
    lengths = [1, 400, 2, 37, 250]
    rows = np.stack([np.arange(sum(lengths)), -np.arange(sum(lengths))], axis=1)
    found = predict(Copy(), unlabelled_table(lengths, rows), window, CPU)
    assert [len(video.outputs) for video in found.values()] == lengths
    np.testing.assert_allclose(np.concatenate([video.outputs for video in found.values()]), rows, rtol=1e-6)


# gaps


def test_gaps_are_filled_by_hand() -> None:
    values = np.array([[9, 9], [1, 10], [9, 9], [9, 9], [4, 4], [9, 9]], dtype=np.float32)
    found = fill_gaps(values, np.array([False, True, False, False, True, False]))
    assert found[:, 0].tolist() == pytest.approx([1, 1, 2, 3, 4, 4])
    assert found[:, 1].tolist() == pytest.approx([10, 10, 8, 6, 4, 4])


def test_gap_leans_to_the_nearer_neighbour() -> None:
    """Reversed weights would give 3, 2, 1."""
    values = np.array([[0], [9], [9], [9], [4]], dtype=np.float32)
    assert fill_gaps(values, np.array([True, False, False, False, True]))[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("missing", ["mask", "nearest"])
def test_predictions_of_missing_frames_are_interpolated(tmp_path: Path, missing: Missing) -> None:
    """Whatever the head was shown there; two labelled rows after the last frame take the last output."""
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    values = np.array([[1, -1], [0, 0], [0, 0], [4, -4], [8, -8], [0, 0]])
    put_feature(store, "f", "a", values, np.array([True, False, False, True, True, False]))
    store.write_labels("va", "a", "val", np.zeros((8, 2), dtype=np.float32))
    found = predict(Copy(), load(store, VA, missing=missing), 4, CPU)["a"]
    assert found.outputs[:, 0].tolist() == pytest.approx([1, 2, 3, 4, 8, 8, 8, 8])
    assert found.outputs[:, 1].tolist() == pytest.approx([-1, -2, -3, -4, -8, -8, -8, -8])
    assert found.present.tolist() == [True, False, False, True, True, False, False, False]
    assert (found.fps, len(found.labels)) == (25, 8)


def test_gaps_are_not_filled_across_videos() -> None:
    present = np.array([True, False, False, False, False, True])
    values = np.array([[1, 1], [0, 0], [0, 0], [0, 0], [0, 0], [9, 9]])
    found = predict(Copy(), unlabelled_table([3, 3], values, present), 2, CPU)
    assert found["v0"].outputs[:, 0].tolist() == [1, 1, 1]
    assert found["v1"].outputs[:, 0].tolist() == [9, 9, 9]


def test_video_without_a_feature_gets_the_mean_output_of_the_others(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    put_feature(store, "f", "a", np.array([[0.1, 0.2], [0.3, 0.4], [0, 0]]), np.array([True, True, False]))
    for video, n in (("a", 3), ("lost", 2)):
        store.write_labels("va", video, "val", np.zeros((n, 2), dtype=np.float32))
    found = evaluate_head(Copy(), load(store, VA), 4, CPU)
    np.testing.assert_allclose(found.predictions["lost"].outputs, [[0.2, 0.3]] * 2, atol=1e-3)
    assert found.without_feature == ("lost",)
    assert found.official.n_frames == 5
    assert found.crop_only.n_frames == 2


# two scores


def test_official_and_crop_only_by_hand(tmp_path: Path) -> None:
    """Right where there is a crop; the missing frame is interpolated to .4 while its label is -.4.

    Over all five: means .4 and .24, variances .08 and .1824, covariance .08: .16 / (.08 + .1824 + .0256) = 5/9.
    """
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    truth = np.array([0, 0.2, -0.4, 0.6, 0.8])
    put_feature(store, "f", "a", np.stack([truth, truth], axis=1), np.array([True, True, False, True, True]))
    store.write_labels("va", "a", "val", np.stack([truth, truth], axis=1).astype(np.float32))
    found = evaluate_head(Copy(), load(store, VA), 3, CPU)
    assert found.crop_only.score == pytest.approx(1, abs=1e-3)
    assert found.official.score == pytest.approx(5 / 9, abs=1e-3)
    assert (found.official.n_frames, found.crop_only.n_frames) == (5, 4)


def test_labelled_rows_beyond_the_last_frame_count_officially(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    put_feature(store, "f", "a", np.array([[0.5, 0.5], [-0.5, -0.5]]))
    store.write_labels("va", "a", "val", np.array([[0.5, 0.5], [-0.5, -0.5], [-0.5, -0.5]], dtype=np.float32))
    found = evaluate_head(Copy(), load(store, VA), 4, CPU)
    assert found.official.support == {"valence": 3, "arousal": 3}
    assert found.crop_only.support == {"valence": 2, "arousal": 2}
    assert found.official.score == pytest.approx(1)


def test_invalid_labels_count_in_neither_score(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    put_feature(store, "f", "a", np.array([[0.5, 0.5], [-0.5, -0.5], [0.25, 0.25]]))
    labels = np.array([[0.5, 0.5], [-0.5, -0.5], [-5, -5]], dtype=np.float32)
    store.write_labels("va", "a", "val", labels)
    found = evaluate_head(Copy(), load(store, VA), 4, CPU)
    for score in (found.official, found.crop_only):
        assert score.n_frames == 2
        assert score.score == pytest.approx(1)


def test_scores_are_pooled_over_videos(tmp_path: Path) -> None:
    """Each video is constant, CCC 0 by itself; both together are right."""
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    for video, level in (("a", 0.5), ("b", -0.5)):
        put_feature(store, "f", video, np.full((4, 2), level))
        store.write_labels("va", video, "val", np.full((4, 2), level, dtype=np.float32))
    assert evaluate_head(Copy(), load(store, VA), 4, CPU).official.score == pytest.approx(1)


def test_task_of_whole_videos_has_one_row_each_by_hand(tmp_path: Path) -> None:
    """Outputs (2, 1, 1), (1, 0, 2) and, for the lost video, their mean (1.5, .5, 1.5): Positive, Negative, Positive."""
    store = new_store(tmp_path / "s.zarr", {"f": (3,)})
    put_feature(store, "f", "a", np.array([[1, 1, 2], [9, 9, 9], [3, 1, 0]]), np.array([True, False, True]))
    put_feature(store, "f", "b", np.array([[1, 0, 2]]))
    for video, label in (("a", 0), ("b", 1), ("lost", 2)):
        store.write_labels("vgaf", video, "val", np.array([[label]], dtype=np.int8))
    task = TASKS["vgaf"]
    found = evaluate_head(WindowMean(), load(store, task), 3, CPU)
    outputs = {video: one.outputs.tolist() for video, one in found.predictions.items()}
    assert outputs == {"a": [[2, 1, 1]], "b": [[1, 0, 2]], "lost": [[1.5, 0.5, 1.5]]}
    assert (found.official.score, found.official.n_frames) == (pytest.approx(1 / 3), 3)
    assert (found.crop_only.score, found.crop_only.n_frames) == (pytest.approx(1 / 2), 2)
    assert found.without_feature == ("lost",)


def test_images_without_a_feature_are_not_interpolated(tmp_path: Path) -> None:
    """The missing image gets the mean output of all others, whatever stands beside it."""
    store = new_store(tmp_path / "s.zarr", {"f": (6,)})
    put_feature(store, "f", "val-anger", 6 * np.eye(6)[[0, 0, 0]], np.array([True, False, True]))
    put_feature(store, "f", "val-fear", 6 * np.eye(6)[[2, 2, 2, 2]])
    for video, label, n in (("val-anger", 0, 3), ("val-fear", 2, 4)):
        store.write_labels("lsd", video, "val", np.full((n, 1), label, dtype=np.int8))
    task = TASKS["lsd"]
    found = evaluate_head(Copy(), load(store, task), 1, CPU)
    np.testing.assert_allclose(found.predictions["val-anger"].outputs[1], [2, 0, 4, 0, 0, 0], rtol=1e-6)
    # Anger: 2 of 3 found, nothing else taken for it; Fear: all 4 found, and one that is none
    assert found.official.score == pytest.approx((4 / 5 + 8 / 9) / 6)
    assert found.crop_only.score == pytest.approx(2 / 6)
    assert (found.official.n_frames, found.crop_only.n_frames) == (7, 6)


@pytest.mark.filterwarnings("error")
def test_features_that_never_meet_are_scored_without_a_warning(tmp_path: Path) -> None:
    """Two joined features of the same video have no frame in common."""
    store = new_store(tmp_path / "s.zarr", {"f": (2,), "g": (2,)})
    put_feature(store, "f", "a", np.ones((2, 2)), np.array([True, False]))
    put_feature(store, "g", "a", np.ones((2, 2)), np.array([False, True]))
    store.write_labels("va", "a", "val", np.zeros((2, 2), dtype=np.float32))
    found = evaluate_head(Copy(), load(store, VA, ["f", "g"]), 4, CPU)
    assert np.isfinite(found.predictions["a"].outputs).all()


# the predictions file


def test_predictions_file_reads_back_equal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    given = predict(Copy(), unlabelled_table([5, 1, 30], rng.normal(size=(36, 2)), rng.random(36) > 0.1), 4, CPU)
    save_predictions(tmp_path / "p.h5", given, VA)
    found = load_predictions(tmp_path / "p.h5")
    assert found.keys() == given.keys()
    for video, wanted in given.items():
        for name in ("outputs", "labels", "present"):
            np.testing.assert_array_equal(getattr(found[video], name), getattr(wanted, name))
            assert getattr(found[video], name).dtype == getattr(wanted, name).dtype
        assert found[video].fps == wanted.fps
    assert [path.name for path in tmp_path.iterdir()] == ["p.h5"]


# the command


def label_rows(x: np.ndarray, rules: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Labels of every row for the tasks that label rows, by linear rules that a head can learn."""
    va = np.clip(x @ rules["va"] / 8, -1, 1).astype(np.float32)
    expr, lsd = ((x @ rules[task]).argmax(1)[:, None].astype(np.int8) for task in ("expr", "lsd"))
    au = (x @ rules["au"] > 0).astype(np.int8)
    return {"va": va, "expr": expr, "au": au, "lsd": lsd, "mtl": np.concatenate([va, expr, au], axis=1)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A store with missing frames and a labelled video without feature, and one trained run per task."""
    with single_thread():
        root = tmp_path_factory.mktemp("evaluation")
        store = new_store(root / "store.zarr", {"f": (16,)})
        rng = np.random.default_rng(0)
        rules = {
            name: rng.normal(size=(16, n)) for name, n in (("va", 2), ("expr", 8), ("au", 12), ("lsd", 6), ("vgaf", 3))
        }
        present = np.ones(120, dtype=bool)
        present[MISSING_ROWS] = False
        for i in range(7):
            x = rng.normal(size=(121, 16))
            split = "train" if i < 4 else "val"
            if i < 6:
                put_feature(store, "f", f"v{i}", x[:120], present)
            for task, rows in label_rows(x, rules).items():
                store.write_labels(task, f"v{i}", split, rows)
        for i in range(30):
            x = rng.normal(size=(8, 16)) + 2 * rng.normal(size=16)
            if i < 29:
                put_feature(store, "f", f"clip{i}", x)
            label = (x.mean(axis=0, keepdims=True) @ rules["vgaf"]).argmax(1)[:, None].astype(np.int8)
            store.write_labels("vgaf", f"clip{i}", "train" if i < 15 else "val", label)
        settings = ["epochs=3", "lr=0.03", "batch_size=8", "warmup=0"]
        for task in ("va", "expr", "au", "mtl", "lsd", "vgaf"):
            values = {"task": task, "features": ("f",), "head": {"name": "linear"}}
            config = make_config(values, [*settings, f"window={WINDOWS.get(task, 30)}"])
            run = start_run(config, store, root / "runs")
            pipeline.train(run, store, device="cpu")
    yield Path(store.path), root / "runs"


@pytest.fixture
def evaluate(trained: tuple[Path, Path], tmp_path: Path) -> Callable[..., Result]:
    """`abaw eval` without a data folder."""

    def call(*arguments: object) -> Result:
        common = ("--store", trained[0], "--runs", trained[1], "--data", tmp_path / "none", "--device", "cpu")
        return CliRunner().invoke(main, [str(argument) for argument in ("eval", *common, *arguments)])

    return call


@pytest.mark.parametrize("split", ["val", "train"])
@pytest.mark.parametrize("task", TRAINED)
def test_json_holds_both_scores_and_their_parts(
    evaluate: Callable[..., Result], trained: tuple[Path, Path], task: str, split: str
) -> None:
    run = f"{task}-f-linear-1"
    result = evaluate(run, "--split", split, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["task"], found["split"], found["run"]) == (task, split, run)
    for name in ("official", "crop_only"):
        assert tuple(found[name]["parts"]) == TASKS[task].outputs
        assert set(found[name]["by_task"]) == {part.name for part, _, _ in TASKS[task].each()}
        assert found[name]["score"] == pytest.approx(sum(found[name]["by_task"].values()))
        if not TASKS[task].parts and task != "vgaf":
            assert found[name]["score"] == pytest.approx(np.mean(list(found[name]["parts"].values())))
    n_videos, n_lost = (4, 0) if split == "train" else (3, 1)
    n_rows, n_seen = 121 * n_videos, (120 - len(MISSING_ROWS)) * (n_videos - n_lost)
    if task == "vgaf":
        n_rows, n_seen = 15, 15 - n_lost
    assert found["official"]["n_frames"] == n_rows
    assert found["crop_only"]["n_frames"] == n_seen
    lost = "clip29" if task == "vgaf" else "v6"
    assert found["without_feature"] == ([] if split == "train" else [lost])
    if task != "vgaf":
        assert found["crop_only"]["score"] > found["official"]["score"]
    assert json.loads((trained[1] / run / f"scores-{split}.json").read_text()) == found


def test_scores_follow_from_the_saved_predictions(evaluate: Callable[..., Result], trained: tuple[Path, Path]) -> None:
    found = json.loads(evaluate("expr-f-linear-1", "--json").stdout)
    videos = load_predictions(trained[1] / "expr-f-linear-1" / "predictions-val.h5").values()
    answers, labels, present = (
        np.concatenate(parts)
        for parts in zip(*((v.outputs.argmax(1), v.labels[:, 0], v.present) for v in videos), strict=True)
    )
    for name, kept in (("official", np.ones_like(present)), ("crop_only", present)):
        wanted = f1_score(labels[kept], answers[kept], labels=range(8), average="macro", zero_division=0)
        assert found[name]["score"] == pytest.approx(wanted, abs=1e-9)


def test_scores_follow_from_the_csv_file(
    evaluate: Callable[..., Result], trained: tuple[Path, Path], tmp_path: Path
) -> None:
    """By another program's measures: of labels that are there, of frames with a crop, and of smoothed outputs."""
    pandas = pytest.importorskip("pandas")
    found = json.loads(evaluate("expr-f-linear-1", "--json", "--csv", tmp_path / "expr.csv").stdout)
    frame = pandas.read_csv(tmp_path / "expr.csv").dropna(subset="label_expression")
    for name, rows in (("official", frame), ("crop_only", frame[frame.has_crop])):
        wanted = f1_score(rows.label_expression, rows.expression, labels=EXPRESSIONS, average="macro", zero_division=0)
        assert found[name]["score"] == pytest.approx(wanted, abs=1e-9)
    result = evaluate("va-f-linear-1", "--smooth", "box:5", "--csv", tmp_path / "va.csv")
    assert f"{tmp_path / 'va.csv'}: 363 rows, 0.0 MB." in result.stdout
    smoothed = json.loads(evaluate("va-f-linear-1", "--smooth", "box:5", "--json").stdout)["postprocessed"]
    frame = pandas.read_csv(tmp_path / "va.csv")
    for name, value in smoothed["official"]["parts"].items():
        x, y = frame[name], frame[f"label_{name}"]
        ccc = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var(ddof=0) + y.var(ddof=0) + (x.mean() - y.mean()) ** 2)
        assert value == pytest.approx(ccc, abs=1e-5)


def test_example_of_a_run_gives_what_it_says(evaluate: Callable[..., Result], trained: tuple[Path, Path]) -> None:
    pytest.importorskip("pandas")
    assert evaluate("va-f-linear-1").exit_code == 0
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    (example,) = doctest.DocTestFinder(recurse=False).find(Run, globs={"runs": trained[1]})
    runner.run(example)
    assert runner.summarize(verbose=False) == doctest.TestResults(0, 5)


def test_csv_is_refused_before_the_work(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    result = evaluate("va-f-linear-1", "--csv", tmp_path / "deep" / "va.csv")
    assert result.exit_code == 2 and "there is no folder" in result.output and "official" not in result.output
    assert_refused(evaluate("--csv", tmp_path / "a", "--predictions", tmp_path), 2, "--csv is about runs")


def test_saved_predictions_cover_every_label(evaluate: Callable[..., Result], trained: tuple[Path, Path]) -> None:
    assert evaluate("va-f-linear-1").exit_code == 0
    labels = FeatureStore.open(trained[0]).labels("va", "val")
    found = load_predictions(trained[1] / "va-f-linear-1" / "predictions-val.h5")
    assert found.keys() == labels.keys()
    for video, wanted in labels.items():
        np.testing.assert_array_equal(found[video].labels, wanted.rows)
        assert found[video].outputs.shape == (121, 2)
        assert np.isfinite(found[video].outputs).all()


def test_table_shows_every_class_and_both_scores(evaluate: Callable[..., Result]) -> None:
    found = json.loads(evaluate("expr-f-linear-1", "--json").stdout)
    result = evaluate("expr-f-linear-1")
    assert result.exit_code == 0
    lines = {line.strip("│┃ ").split()[0]: line for line in result.output.splitlines() if line.strip("│┃ ")}
    assert all(f"{found['official']['parts'][name]:.3f}" in lines[name] for name in EXPRESSIONS)
    assert f"{found['official']['score']:.3f}" in lines["score"]
    assert f"{found['crop_only']['score']:.3f}" in lines["score"]
    assert "macro F1 over 8 expressions" in lines["score"]
    assert "all labelled rows (official)" in result.output
    assert "those with a crop" in result.output
    assert lines["labelled"].split() == ["│", "labelled", "rows", "│", "│", "363", "│", "│", "230", "│", "│"]
    assert "1 labelled videos have no feature" in result.output


def test_table_of_mtl_shows_the_three_scores_that_are_summed(evaluate: Callable[..., Result]) -> None:
    found = json.loads(evaluate("mtl-f-linear-1", "--json").stdout)["official"]
    lines = evaluate("mtl-f-linear-1").output.splitlines()
    cells = {row[0]: row[1:] for line in lines if len(row := [cell.strip() for cell in line.strip("│").split("│")]) > 2}
    assert [name for name in cells if name in found["parts"]] == list(TASKS["mtl"].outputs)
    assert [cells[name][0] for name in ("arousal", "Other", "AU26")] == ["CCC", "F1", "F1"]
    for name, value in found["by_task"].items():
        assert cells[name][:2] == [TASKS[name].measure.name, f"{value:.3f}"]
    assert cells["score"][1] == f"{sum(found['by_task'].values()):.3f}"


def test_table_of_whole_videos_counts_videos(evaluate: Callable[..., Result]) -> None:
    """The second column is there only if videos have no feature; nothing speaks of frames or crops."""
    for split, n_columns in (("val", 6), ("train", 5)):
        output = evaluate("vgaf-f-linear-1", "--split", split).stdout
        assert "all labelled rows (official)" in output
        assert ("those with a feature" in output) == (split == "val")
        assert "frame" not in output.split("Predictions")[0]
        score = next(line for line in output.splitlines() if line.startswith("│ score"))
        assert "accuracy over 3 group emotions" in score
        assert score.count("│") == n_columns + 1


def test_tasks_are_listed_with_what_their_labels_belong_to() -> None:
    tasks = json.loads(CliRunner().invoke(main, ["list", "tasks", "--json"]).output)["tasks"]
    listed = {task["name"]: task for task in tasks}
    assert {name: listed[name]["labels_of_a"] for name in TASKS} == {
        **dict.fromkeys(("va", "expr", "au", "mtl", "ah-frames", "vd", "ce"), "frame"),
        "lsd": "image",
        **dict.fromkeys(("vgaf", "ah", "emi", "mer", "engagement"), "video"),
    }
    assert listed["mtl"]["invalid"] == {"va": -5, "expr": -1, "au": -1}
    assert (listed["va"]["invalid"], listed["vgaf"]["invalid"]) == ({"va": -5}, {"vgaf": -1})
    (line,) = (line for line in CliRunner().invoke(main, ["list", "tasks"]).output.splitlines() if line[:3] == "mtl")
    assert "va -5, expr -1, au -1" in line


def test_evaluation_draws_a_picture(evaluate: Callable[..., Result], trained: tuple[Path, Path]) -> None:
    for name, task in ((name, TASKS[name]) for name in TRAINED):
        assert evaluate(f"{name}-f-linear-1").exit_code == 0
        kind = "traces" if task.level == "frame" else "confusion"
        with Image.open(trained[1] / f"{name}-f-linear-1" / f"{kind}-val.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_evaluation_is_repeatable(evaluate: Callable[..., Result]) -> None:
    assert evaluate("au-f-linear-1", "--json").stdout == evaluate("au-f-linear-1", "--json").stdout


def test_the_newest_run_is_taken(evaluate: Callable[..., Result], trained: tuple[Path, Path], tmp_path: Path) -> None:
    assert json.loads(evaluate("--json").stdout)["run"] == "vgaf-f-linear-1"
    runs = shutil.copytree(trained[1], tmp_path / "runs")
    config = runs / "va-f-linear-1" / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "created": "2999-01-01T00:00:00+00:00"}))
    assert json.loads(evaluate("--runs", runs, "--json").stdout)["run"] == "va-f-linear-1"


def test_run_may_be_given_as_a_path(evaluate: Callable[..., Result], trained: tuple[Path, Path]) -> None:
    result = evaluate(trained[1] / "va-f-linear-1", "--json")
    assert json.loads(result.stdout)["run"] == "va-f-linear-1"


def test_unknown_names_list_the_known_ones(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    assert_refused(
        evaluate("va"),
        2,
        "No run 'va'",
        "au-f-linear-1, expr-f-linear-1, lsd-f-linear-1, mtl-f-linear-1, va-f-linear-1, vgaf-f-linear-1",
    )
    assert_refused(evaluate("--split", "test"), 2, "labels of train, val", "not of 'test'")
    assert_refused(evaluate("--runs", tmp_path / "empty"), 2, "No run in", "abaw train")
    assert_refused(evaluate("--store", tmp_path / "none.zarr"), 1, "No feature store")


def test_feature_that_left_the_store_is_named(
    evaluate: Callable[..., Result], trained: tuple[Path, Path], tmp_path: Path
) -> None:
    store = new_store(tmp_path / "other.zarr", {"g": (2,)})
    assert_refused(evaluate("--store", store.path), 2, "No feature 'f'", "it has: g")


def test_damaged_feature_is_named_and_not_scored(
    evaluate: Callable[..., Result], trained: tuple[Path, Path], tmp_path: Path
) -> None:
    store = shutil.copytree(trained[0], tmp_path / "damaged.zarr")
    shard = next(path for path in (store / "features/f/v4/values/c").rglob("*") if path.is_file())
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    assert_refused(
        evaluate("va-f-linear-1", "--store", store), 1, "Feature 'f' of video 'v4' is damaged", "abaw extract"
    )


def test_data_folder_without_crops_does_not_matter(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    result = evaluate("--data", tmp_path / "data", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["task"] == "vgaf"


def test_damaged_run_does_not_hide_the_others(
    evaluate: Callable[..., Result], trained: tuple[Path, Path], tmp_path: Path
) -> None:
    runs = shutil.copytree(trained[1], tmp_path / "runs")
    (runs / "va-f-linear-1" / "config.json").write_text("{")
    assert json.loads(evaluate("--runs", runs, "--json").stdout)["run"] == "vgaf-f-linear-1"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("task", TRAINED)
def test_split_of_a_single_frame_is_scored(trained: tuple[Path, Path], tmp_path: Path, task: str) -> None:
    runs = shutil.copytree(trained[1], tmp_path / "runs")
    store = new_store(tmp_path / "one.zarr", {"f": (16,)})
    put_feature(store, "f", "a", np.ones((1, 16)))
    columns = len(TASKS[task].columns)
    store.write_labels(task, "a", "val", np.ones((1, columns), dtype=np.int8 if task != "va" else np.float32))
    found = pipeline.evaluate(TrainedRun.open(find_run(runs, f"{task}-f-linear-1"), "cpu"), store, "val")
    assert found.official.n_frames == 1
