"""Scikit-learn probes against scikit-learn itself, on the standardised rows, and what labels must not break."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from sklearn.linear_model import LogisticRegression, Ridge

from abaw import pipeline
from abaw.core.progress import Silent, Ticker
from abaw.core.tasks import TASKS, Task
from abaw.evaluate.inference import predict
from abaw.store import FeatureStore
from abaw.tests.support.stores import new_store, put_feature
from abaw.tests.support.tables import build_table
from abaw.train import fit_probes
from abaw.train.config import make_config
from abaw.train.data.table import Table
from abaw.train.fit_probes import fit_probe
from abaw.train.model import Model

CPU = torch.device("cpu")
SHAPES = {"face": (4,), "sound": (2, 3)}
WIDTH = 10
RULES = {name: np.random.default_rng(7).normal(size=(WIDTH, len(task.outputs))) for name, task in TASKS.items()}


def labels_of(task: Task, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(rows, columns): noisy linear rules of the joined features."""
    scores = x @ RULES[task.name] + rng.normal(size=(len(x), len(task.outputs)))
    if task.kind == "regression":
        return np.clip(scores / 6, -1, 1).astype(np.float32)
    return (scores.argmax(axis=1)[:, None] if task.kind == "classes" else scores > 0).astype(np.float32)


def linear_table(task: Task, lengths: tuple[int, ...] = (200, 150, 1, 80), seed: int = 0) -> Table:
    """Videos with a fifth of the labels invalid, a tenth of the faces and a third of the sounds missing."""
    rng = np.random.default_rng(seed)
    n_rows, starts = sum(lengths), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    x = rng.normal(size=(n_rows, WIDTH)) * np.linspace(0.5, 20, WIDTH) + np.linspace(-30, 3, WIDTH)
    labels = labels_of(task, (x - x.mean(0)) / x.std(0), rng)
    if task.level == "video":
        labels = np.repeat(labels[starts[:-1]], lengths, axis=0)
    else:
        labels[rng.random(labels.shape) < 0.2] = task.invalid
    masks = {"face": rng.random(n_rows) < 0.9, "sound": rng.random(n_rows) < 0.67}
    values = {"face": x[:, :4], "sound": x[:, 4:].reshape(-1, 2, 3)}
    for name, mask in masks.items():
        values[name][~mask] = 1e6  # must not matter
    return build_table(task, lengths, values, masks, labels, has_face=masks["face"])


def standardised(table: Table) -> np.ndarray:
    """(rows, width) features by their own mean and deviation over the rows that have them, 0 where one is missing."""
    parts = []
    for name, values in table.values.items():
        rows, mask = values.reshape(len(values), -1).astype(np.float64), table.masks[name]
        parts.append(np.where(mask[:, None], (rows - rows[mask].mean(0)) / rows[mask].std(0), 0))
    return np.concatenate(parts, axis=1)


def fitted(table: Table, *settings: str, head: str = "") -> Model:
    """A model whose probe is fitted on a table, with the table's own statistics."""
    name = head or ("ridge" if table.task.kind == "regression" else "logistic")
    config = make_config({"task": table.task.name, "features": tuple(SHAPES), "head": {"name": name}}, settings)
    model = Model(config, table.task, SHAPES)
    present = {feature: values[table.masks[feature]].astype(np.float64) for feature, values in table.values.items()}
    mean = {feature: torch.from_numpy(values.mean(0)) for feature, values in present.items()}
    model.set_statistics(mean, {feature: torch.from_numpy(values.std(0)) for feature, values in present.items()})
    fit_probe(config.head, table.task, model, table, config.seed)
    return model


def outputs_of(model: Model, table: Table) -> np.ndarray:
    """(rows, outputs) of every row by itself."""
    found = predict(model, table, 50, CPU)
    return np.concatenate([found[video].outputs for video in table.videos])


def log_softmax(outputs: np.ndarray) -> np.ndarray:
    return outputs - np.logaddexp.reduce(outputs, axis=1, keepdims=True)


# against scikit-learn


@pytest.mark.parametrize("invalid", ["either", "both", "arousal", "none"])
def test_ridge_is_scikit_learns_on_the_valid_rows(invalid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are solved together, by themselves, or (the one valid in all rows) last; rows are joined in blocks."""
    monkeypatch.setattr(fit_probes, "ROWS_AT_ONCE", 100)
    table = linear_table(TASKS["va"])
    is_invalid = table.labels == -5
    lost = {
        "either": is_invalid,
        "both": is_invalid.any(axis=1, keepdims=True),
        # the labelled rows of both have another mean than those that the inputs are standardised by
        "arousal": is_invalid & [False, True] | (table.values["face"][:, :1] > -30),
        "none": np.array(False),
    }[invalid]
    table = with_labels(table, np.where(lost, -5, np.where(is_invalid, 0.5, table.labels)))
    x, found = standardised(table), outputs_of(fitted(table, "head.alpha=0.3"), table)
    for column in range(2):
        counted = table.valid[:, column] & table.has_feature
        assert 50 < counted.sum() <= table.has_feature.sum()
        model = Ridge(alpha=0.3 * counted.sum()).fit(x[counted], table.labels[counted, column])
        wanted = model.predict(x[table.has_feature])
        np.testing.assert_allclose(found[table.has_feature, column], wanted, atol=1e-4)


@pytest.mark.parametrize("balanced", [True, False])
def test_logistic_of_classes_is_scikit_learns_on_the_valid_rows(balanced: bool) -> None:
    table = linear_table(TASKS["expr"])
    counted = table.valid[:, 0] & table.has_feature
    x = standardised(table)
    model = LogisticRegression(
        C=5 / counted.sum(), class_weight="balanced" if balanced else None, max_iter=1000, tol=1e-8
    ).fit(x[counted], table.labels[counted, 0])
    settings = (f"head.balanced={balanced}", "head.inverse_penalty=5", "head.n_iterations=1000")
    found = log_softmax(outputs_of(fitted(table, *settings), table))[table.has_feature]
    np.testing.assert_allclose(found, model.predict_log_proba(x[table.has_feature]), atol=0.02)
    assert (found.argmax(1) == model.predict(x[table.has_feature])).mean() > 0.99


def test_logistic_of_action_units_is_scikit_learns_on_the_valid_values() -> None:
    table = linear_table(TASKS["au"])
    x, found = standardised(table), outputs_of(fitted(table), table)
    for column in range(12):
        counted = table.valid[:, column] & table.has_feature
        model = LogisticRegression(C=100 / counted.sum(), class_weight="balanced", max_iter=300, tol=1e-8)
        model.fit(x[counted], table.labels[counted, column])
        wanted = model.decision_function(x[table.has_feature])
        np.testing.assert_allclose(found[table.has_feature, column], wanted, atol=0.02)


def test_logistic_of_whole_videos_is_fitted_on_their_mean_frames() -> None:
    table = linear_table(TASKS["vgaf"], (5, 1, 12, 7) * 10)
    masks = {name: mask & (np.arange(len(mask)) >= 5) for name, mask in table.masks.items()}
    table = replace(table, masks=masks, has_feature=masks["face"] | masks["sound"])  # the first video has nothing
    x, groups = standardised(table), [np.arange(len(table.labels))[table.rows(i)] for i in range(40)]
    groups = [rows[table.has_feature[rows]] for rows in groups]
    has = np.array([len(rows) > 0 for rows in groups])
    assert 30 < has.sum() < 40
    means = np.stack([x[rows].mean(0) for rows in groups if len(rows)])
    given = table.labels[table.starts[:-1], 0][has]
    model = LogisticRegression(C=100 / has.sum(), class_weight="balanced", max_iter=300, tol=1e-8).fit(means, given)
    found = predict(fitted(table), table, 20, CPU)
    outputs = np.concatenate([found[video].outputs for video in table.videos])
    np.testing.assert_allclose(log_softmax(outputs)[has], model.predict_log_proba(means), atol=0.05)
    assert (outputs[has].argmax(1) == model.predict(means)).mean() > 0.97


# labels that lack something


def with_labels(table: Table, labels: np.ndarray) -> Table:
    labels = labels.astype(np.float32)
    return replace(table, labels=labels, valid=table.task.valid(labels))


def test_class_that_never_occurs_is_never_predicted() -> None:
    table = linear_table(TASKS["expr"])
    without = with_labels(table, np.where(np.isin(table.labels, [2, 7]), -1, table.labels))
    found = outputs_of(fitted(without), table)
    assert set(found.argmax(1)) == {0, 1, 3, 4, 5, 6}
    assert (np.exp(log_softmax(found))[:, [2, 7]] < 1e-6).all()


def test_two_classes_have_the_probabilities_of_scikit_learn() -> None:
    table = linear_table(TASKS["expr"])
    two = with_labels(table, np.where(table.labels == -1, -1, np.where(table.labels < 4, 6, 1)))
    counted, x = two.valid[:, 0] & two.has_feature, standardised(two)
    model = LogisticRegression(C=100 / counted.sum(), class_weight="balanced", max_iter=300, tol=1e-8)
    model.fit(x[counted], two.labels[counted, 0])
    chances = np.exp(log_softmax(outputs_of(fitted(two), two)))[two.has_feature]
    np.testing.assert_allclose(chances[:, [1, 6]], model.predict_proba(x[two.has_feature]), atol=5e-3)
    assert chances[:, [0, 2, 3, 4, 5, 7]].max() < 1e-6


@pytest.mark.filterwarnings("error")
def test_a_single_class_is_always_predicted() -> None:
    table = linear_table(TASKS["expr"])
    found = outputs_of(fitted(with_labels(table, np.where(table.labels == 3, 3, -1))), table)
    assert (found.argmax(1) == 3).all()
    assert np.isfinite(found).all()


@pytest.mark.filterwarnings("error")
def test_action_units_that_never_change_keep_their_value() -> None:
    table = linear_table(TASKS["au"])
    labels = table.labels.copy()
    labels[:, 0] = np.where(labels[:, 0] == -1, -1, 0)
    labels[:, 5] = np.where(labels[:, 5] == -1, -1, 1)
    labels[:, 9] = -1
    found = outputs_of(fitted(with_labels(table, labels)), table)
    assert (found[:, [0, 9]] < -10).all()
    assert (found[:, 5] > 10).all()
    assert ((found > 0).mean(axis=0)[[1, 2, 3]] > 0.1).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("task", ["va", "expr", "au"])
@pytest.mark.parametrize("n_valid", [0, 1])
def test_one_label_or_none_gives_finite_outputs(task: str, n_valid: int) -> None:
    table = linear_table(TASKS[task])
    keep = int(np.flatnonzero(table.has_feature & table.valid.all(axis=1))[0]) if n_valid else -1
    labels = np.where(np.arange(len(table.labels))[:, None] == keep, table.labels, TASKS[task].invalid)
    found = outputs_of(fitted(with_labels(table, labels)), table)
    assert np.isfinite(found).all()
    if n_valid and task == "va":
        np.testing.assert_allclose(found, np.broadcast_to(labels[keep], found.shape), atol=1e-6)


# a part of the rows


def test_probe_is_fitted_on_as_many_rows_as_allowed() -> None:
    """One row gives that row's label everywhere; another seed another row; enough rows all of them."""
    table = linear_table(TASKS["va"])
    levels = set()
    for seed in range(5):
        found = outputs_of(fitted(table, "head.n_rows=1", f"seed={seed}"), table)
        assert np.ptp(found[:, 0]) < 1e-6
        near = np.abs(table.labels[table.valid[:, 0], 0] - found[0, 0]).min()
        assert near < 1e-6 or found[0, 0] == 0, "a label of the table, or none if that of the row is not valid"
        levels.add(float(found[0, 0]))
    assert len(levels) > 2
    n_rows = int((table.valid.any(axis=1) & table.has_feature).sum())
    whole, exact = (outputs_of(fitted(table, f"head.n_rows={n}"), table) for n in (200_000, n_rows))
    np.testing.assert_array_equal(whole, exact)
    assert np.abs(outputs_of(fitted(table, f"head.n_rows={n_rows // 3}"), table) - whole).max() > 1e-3


# through the command line


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    store = new_store(tmp_path_factory.mktemp("probes") / "store.zarr", {"f": (WIDTH,)})
    rng = np.random.default_rng(0)
    for i in range(40):
        x = rng.normal(size=(30, WIDTH)) + 2 * rng.normal(size=WIDTH)
        put_feature(store, "f", f"v{i:02}", x, np.arange(30) % 7 != 3)
        split = "train" if i < 30 else "val"
        for task in ("va", "expr", "au", "lsd"):
            store.write_labels(task, f"v{i:02}", split, labels_of(TASKS[task], x, rng))
        label = (x.mean(0) @ RULES["vgaf"]).argmax()
        store.write_labels("vgaf", f"v{i:02}", split, np.array([[label]], dtype=np.int8))
    return store


# by chance: va 0, expr about .1, au about .5, lsd about .15, vgaf a third
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("head", "task", "least"),
    [
        ("ridge", "va", 0.7),
        ("logistic", "expr", 0.4),
        ("logistic", "au", 0.8),
        ("logistic", "lsd", 0.5),
        ("logistic", "vgaf", 0.5),
    ],
)
def test_probe_trains_and_evaluates(
    run_cli: Callable[..., Result], store: FeatureStore, tmp_path: Path, head: str, task: str, least: float
) -> None:
    common = ("--store", store.path, "--runs", tmp_path, "--device", "cpu")
    window = 1 if task == "lsd" else 30
    done = run_cli("train", "--task", task, "--head", head, "--set", f"window={window}", *common)
    assert done.exit_code == 0, done.output
    found = run_cli("eval", "--json", "--data", tmp_path / "none", *common)
    assert found.exit_code == 0, found.output
    score = float(found.output.split('"official"')[1].split('"score": ')[1].split(",")[0])
    assert score > least
    assert f"{score:.3f}" in done.output, "train and eval agree"


def test_wrong_probe_leaves_no_run_behind(run_cli: Callable[..., Result], store: FeatureStore, tmp_path: Path) -> None:
    for wrong in (("ridge", "expr"), ("logistic", "va")):
        done = run_cli("train", "--head", wrong[0], "--task", wrong[1], "--store", store.path, "--runs", tmp_path)
        assert done.exit_code == 2
        assert "does not fit task" in done.output
    assert list(tmp_path.iterdir()) == []


class Notes(Silent):
    """A reporter that keeps notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def advance(self, n: int = 1, note: str = "") -> None:
        self.notes.append(note)


def test_a_probe_says_what_it_is_doing(tiny_store: Path, tmp_path: Path) -> None:
    config = make_config({"task": "au", "features": ("hog",), "head": {"name": "logistic"}})
    notes = Notes()
    pipeline.train_seeds([config], FeatureStore.open(tiny_store), tmp_path, device="cpu", reporter=notes)
    parts = list(dict.fromkeys(re.sub(r"[\d,]+ (rows|%|s$)", r"N \1", note) for note in notes.notes if note))
    assert parts[:4] == ["reading rows, N s", "solving for N rows, N s", "solving for AU1, N s", "solving for AU2, N s"]
    assert parts[-2].startswith("solved, validating N %") and parts[-1].startswith("au ")


def test_a_long_part_is_shown_again_and_again() -> None:
    notes = Notes()
    with Ticker(notes, every_s=0.01) as ticker:
        ticker.doing("solving")
        time.sleep(0.2)
    n_shown = len(notes.notes)
    assert n_shown >= 3 and set(notes.notes) == {"solving, 0 s"}
    time.sleep(0.05)
    assert len(notes.notes) == n_shown
