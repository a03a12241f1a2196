"""Training: it learns, its optimizers do as published, its seed decides everything, and it stops where numbers end."""

import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from abaw import pipeline
from abaw.core.errors import AbawError
from abaw.evaluate.trained import TrainedRun
from abaw.tests.support.command_line import assert_refused
from abaw.tests.support.stores import far_copy
from abaw.tests.support.trainings import StopAfter
from abaw.train.config import make_config
from abaw.train.new_run import load_tables
from abaw.train.runs import open_run
from abaw.train.schedules import create_optimizer, learning_rate

pytestmark = pytest.mark.usefixtures("one_thread")


# learning


@pytest.mark.parametrize(("task", "least"), [("va", 0.9), ("expr", 0.6), ("au", 0.8)])
@pytest.mark.parametrize("head", ["linear", "transformer"])
def test_training_finds_a_linear_rule(lab, linear_store, tmp_path, head, task, least):
    quiet = (
        ["head.dropout=0", "head.mask_ratio=0", "head.dim=32", "epochs=10"] if head == "transformer" else ["lr=0.03"]
    )
    config = lab.config(task, "epochs=8", "batch_size=4", "warmup=0", *quiet, head=head)
    run = lab.start(linear_store, tmp_path, config)
    result = lab.train(run, linear_store)
    assert result.best_score > least
    assert lab.metrics(run.folder)[-1]["loss"] < 0.5 * lab.metrics(run.folder)[0]["loss"]


def test_two_views_with_a_head_each_learn_and_are_scored_as_one(lab, linear_store, tmp_path):
    settings = ("views=,hflip", "co_train=true", "loss.name=cotex", "epochs=8", "warmup=0", "lr=0.03")
    run = lab.start(linear_store, tmp_path, lab.config("expr", *settings, head="linear"))
    result = lab.train(run, linear_store)
    assert result.best_score > 0.5
    assert pipeline.evaluate(TrainedRun.open(run, "cpu"), linear_store, "val").official.score == result.best_score


def test_class_weights_change_the_training(lab, linear_store, tmp_path):
    losses = []
    for weights in ("equal", "inverse"):
        config = lab.config("expr", "epochs=1", f"loss.weights={weights}", head="linear")
        run = lab.start(linear_store, tmp_path, config)
        lab.train(run, linear_store)
        losses.append(lab.metrics(run.folder)[0]["loss"])
    assert losses[0] != losses[1]


def test_every_epoch_sees_other_windows(lab, linear_store, tmp_path):
    """With weights that do not move and nothing else that is random, losses differ by their windows alone."""
    run = lab.start(linear_store, tmp_path, lab.config("va", "lr=1e-30", "epochs=3", head="linear"))
    lab.train(run, linear_store)
    assert len({row["loss"] for row in lab.metrics(run.folder)}) == 3


def test_early_stopping_waits_for_its_patience(lab, linear_store, tmp_path):
    """A rate too small to change a weight: the first score is never beaten."""
    run = lab.start(linear_store, tmp_path, lab.config("va", "lr=1e-30", "epochs=9", "patience=3"))
    result = lab.train(run, linear_store)
    assert (result.best_epoch, result.n_epochs) == (1, 4)
    assert len({row["score"] for row in lab.metrics(run.folder)}) == 1
    again = lab.train(open_run(run.folder), linear_store)
    assert again == result, "a run that has stopped early stays stopped"


def test_best_checkpoint_is_of_the_best_epoch(lab, linear_store, tmp_path):
    """A rate so high that scores go up and down."""
    run = lab.start(linear_store, tmp_path, lab.config("va", "lr=0.3", "epochs=8", "patience=8", "warmup=0"))
    result = lab.train(run, linear_store)
    scores = [row["score"] for row in lab.metrics(run.folder)]
    best = int(np.argmax(scores))
    assert best < len(scores) - 1, "else this test cannot tell best from last"
    assert (result.best_score, result.best_epoch, result.n_epochs) == (scores[best], best + 1, 8)
    tensors, metadata = lab.tensors(run.folder / "best.safetensors")
    assert int(metadata["epoch"]) == best + 1
    last, _ = lab.tensors(run.folder / "last.safetensors")
    assert not torch.equal(tensors["heads.0.output.weight"], last["model.heads.0.output.weight"])
    assert pipeline.evaluate(TrainedRun.open(run, "cpu"), linear_store, "val").official.score == scores[best]


# beyond memory


@pytest.mark.parametrize("is_far", [False, True], ids=["folder", "objects"])
def test_a_run_on_a_store_beyond_memory_is_the_same(lab, linear_store, tmp_path, whole_run, monkeypatch, is_far):
    """Windows read while training, ahead and in threads; interrupted and continued; and the evaluation, too."""

    def outputs(folder, store):
        with monkeypatch.context() as patch:
            patch.setattr("abaw.train.data.table.Table.rows_per_batch", 90)  # several batches
            predictions = pipeline.evaluate(TrainedRun.open(open_run(folder), "cpu"), store, "val").predictions
        return {video: one.outputs.tobytes() for video, one in predictions.items()}

    expected = outputs(whole_run, linear_store)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr("abaw.train.data.table.free_memory", lambda: 0)
    store = far_copy(linear_store, "training.zarr") if is_far else linear_store
    run = lab.start(store, tmp_path)
    assert all(table.stored and not table.values for table in load_tables(run.config, store))
    with pytest.raises(KeyboardInterrupt):
        lab.train(run, store, StopAfter(2))
    lab.train(open_run(run.folder), store)
    lab.assert_same(run.folder, whole_run)
    assert outputs(run.folder, store) == expected


# optimizers and rates


def adam(weights, gradients, decoupled, first=0.9, second=0.999):
    """Kingma and Ba 2015; the decay decoupled as by Loshchilov and Hutter 2019, or added to the gradient."""
    rate, decay = 0.1, 0.5
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step, slope in enumerate(gradients, start=1):
        slope = slope + (0 if decoupled else decay) * weights
        weights = weights - (rate * decay * weights if decoupled else 0)
        mean = first * mean + (1 - first) * slope
        square = second * square + (1 - second) * slope**2
        bare_mean, bare_square = mean / (1 - first**step), square / (1 - second**step)
        weights = weights - rate * bare_mean / (np.sqrt(bare_square) + 1e-8)
    return weights


def heavy_ball(weights, gradients, momentum):
    """A velocity that keeps a share of itself and takes the whole gradient, with the decay in it."""
    velocity = np.zeros_like(weights)
    for slope in gradients:
        velocity = momentum * velocity + slope + 0.5 * weights
        weights = weights - 0.1 * velocity
    return weights


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["optimizer=adamw"], lambda w, g: adam(w, g, decoupled=True)),
        (["optimizer=adam"], lambda w, g: adam(w, g, decoupled=False)),
        (["optimizer=adam", "betas=0.5,0.99"], lambda w, g: adam(w, g, False, 0.5, 0.99)),
        (["optimizer=sgd"], lambda w, g: heavy_ball(w, g, 0.9)),
        (["optimizer=sgd", "momentum=0.3"], lambda w, g: heavy_ball(w, g, 0.3)),
        (["optimizer=sgd", "momentum=0"], lambda w, g: heavy_ball(w, g, 0)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_optimizers_step_by_their_formulas(settings, expected):
    config = make_config({"task": "va", "features": ("f",)}, ["lr=0.1", "weight_decay=0.5", *settings])
    start, gradients = np.array([1.0, -2.0, 0.5]), np.array([[0.3, -1.0, 2.0], [0.1, 0.4, -1.0], [0.0, 2.0, 1.0]])
    weights = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = create_optimizer(config, torch.nn.ParameterList([weights]))
    for slope in gradients:
        weights.grad = torch.from_numpy(slope.copy())
        optimizer.step()
    np.testing.assert_allclose(weights.detach().numpy(), expected(start, gradients), rtol=1e-9)


def test_learning_rate_warms_up_and_falls_to_zero():
    config = make_config({"task": "va", "features": ("f",)}, ["lr=1.1", "warmup=0.1"])
    rates = [learning_rate(config, step, 100) for step in range(101)]
    # ten steps of warm-up in elevenths of the rate, then half a cosine over the other ninety
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == pytest.approx(1.1)
    assert rates[55] == pytest.approx(0.55)
    assert rates[40] == pytest.approx(1.1 * 0.75)
    assert rates[100] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_constant_learning_rate_warms_up_and_stays():
    config = make_config({"task": "va", "features": ("f",)}, ["lr=0.5", "warmup=0.04", "schedule=constant"])
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4] + [0.5] * 96)
    without = make_config({"task": "va", "features": ("f",)}, ["lr=0.5", "warmup=0", "schedule=constant"])
    assert {learning_rate(without, step, 100) for step in range(100)} == {0.5}


@pytest.mark.parametrize("n_warm", [0, 10])
def test_learning_rates_are_those_of_torchs_schedulers(n_warm):
    """Of a linear warm-up and a cosine one after the other, which differ in rounding alone."""
    config = make_config({"task": "va", "features": ("f",)}, ["lr=0.3", f"warmup={n_warm / 100}"])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    cosine = CosineAnnealingLR(optimizer, 100 - n_warm)
    warm = LinearLR(optimizer, 1 / (n_warm + 1), 1.0, max(1, n_warm))
    schedule = SequentialLR(optimizer, [warm, cosine], [n_warm]) if n_warm else cosine
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert [learning_rate(config, step, 100) for step in range(100)] == pytest.approx(rates, rel=1e-6, abs=1e-9)


# seeds


def test_several_seeds_are_several_runs_with_mean_and_deviation(lab, linear_store, tmp_path, whole_run, run_cli):
    settings = [part for setting in lab.settings for part in ("--set", setting)]
    result = run_cli(
        *("train", "--task", "va", "--feature", "f", "--seeds", "2", "--run", "mine", *settings),
        *("--store", linear_store.path, "--runs", tmp_path, "--device", "cpu"),
    )
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine-seed0", "mine-seed1"]
    scores = [max(row["score"] for row in lab.metrics(tmp_path / f"mine-seed{seed}")) for seed in (0, 1)]
    assert scores[0] != scores[1]
    lines = result.stdout.splitlines()
    assert [f"{score:.3f}" in line for score, line in zip(scores, lines, strict=False)] == [True, True]
    mean, deviation = sum(scores) / 2, abs(scores[0] - scores[1]) / 2**0.5
    assert lines[2:] == [f"2 seeds: va score {mean:.3f} ± {deviation:.3f}."]
    assert deviation == pytest.approx(statistics.stdev(scores))
    lab.assert_same(tmp_path / "mine-seed0", whole_run)
    first, second = (open_run(tmp_path / f"mine-seed{seed}").config for seed in (0, 1))
    assert second == first.model_copy(update={"seed": 1})


def test_seeds_are_checked_before_the_first_one_is_trained(lab, linear_store, tmp_path, run_cli):
    (tmp_path / "mine-seed1").mkdir()
    (tmp_path / "mine-seed1" / "config.json").touch()
    common = ("train", "--task", "va", "--feature", "f", "--seeds", "2", "--run", "mine", "--device", "cpu")
    places = ("--store", linear_store.path, "--runs", tmp_path)
    assert_refused(run_cli(*common, *places), 2, "mine-seed1 already exists", "another --run")
    assert_refused(run_cli(*common, *places, "--set", f"seed={2**32 - 1}"), 2, "seed", "less than 4294967296")
    assert [path.name for path in tmp_path.iterdir()] == ["mine-seed1"]


# what the labels lack


def test_class_that_never_occurs_is_said_once(lab, tmp_path, run_cli):
    store = lab.make_store(tmp_path / "s.zarr", tasks=())
    classes = np.array([0, 1, 2, 4, 5, 6])  # no Fear, no Other
    for i in range(6):
        rows = classes[np.random.default_rng(i).integers(6, size=(lab.n_frames, 1))].astype(np.int8)
        store.write_labels("expr", f"v{i}", "train" if i < 4 else "val", rows)
    common = ("--task", "expr", "--feature", "f", "--head", "linear", "--set", "epochs=1", "--set", "window=30")
    places = ("--store", store.path, "--runs", tmp_path / "runs", "--device", "cpu")
    for extra in ((), ("--seeds", "2")):
        result = run_cli("train", *common, *places, *extra)
        assert result.exit_code == 0, result.output
        assert result.stderr.count("No training frame shows") == 1
        assert "No training frame shows Fear, Other: the head cannot learn it" in result.stderr


def test_labels_that_have_everything_are_not_talked_about(lab, linear_store, tmp_path, run_cli):
    common = ("--task", "au", "--feature", "f", "--head", "linear", "--set", "epochs=1", "--set", "window=30")
    result = run_cli("train", *common, "--store", linear_store.path, "--runs", tmp_path, "--device", "cpu")
    assert result.exit_code == 0
    assert "No training frame" not in result.output


# numbers that end


def test_loss_that_is_not_finite_stops_and_keeps_the_good_checkpoints(lab, linear_store, tmp_path, whole_run):
    """Two good epochs, then every frame is broken, then good again."""
    run = lab.start(linear_store, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        lab.train(run, linear_store, StopAfter(2))
    kept = {name: (run.folder / name).read_bytes() for name in ("best.safetensors", "last.safetensors")}
    table, validation = load_tables(run.config, linear_store)
    broken = replace(table, values={"f": np.full_like(table.values["f"], np.inf)})
    with pytest.raises(AbawError) as error:
        pipeline.train(run, linear_store, (broken, validation), "cpu")
    message = str(error.value)
    assert message.startswith("The loss is not finite at step 1 of epoch 3, with windows of v")
    assert "Train a new run with a lower lr (--set lr=0.001); the last good checkpoint is kept." in message
    assert {name: (run.folder / name).read_bytes() for name in kept} == kept
    assert len(lab.metrics(run.folder)) == 2
    assert pipeline.evaluate(TrainedRun.open(run, "cpu"), linear_store, "val").official.score == max(
        row["score"] for row in lab.metrics(run.folder)
    )
    lab.train(open_run(run.folder), linear_store)
    lab.assert_same(run.folder, whole_run)


def test_loss_that_is_not_finite_names_the_videos_of_its_step(lab, linear_store, tmp_path):
    run = lab.start(linear_store, tmp_path, lab.config("va", "batch_size=1", head="linear"))
    table, validation = load_tables(run.config, linear_store)
    values = table.values["f"].copy()
    values[table.rows(table.videos.index("v2"))] = np.inf
    with pytest.raises(AbawError, match=r"not finite at step \d+ of epoch 1, with windows of v2\."):
        pipeline.train(run, linear_store, (replace(table, values={"f": values}), validation), "cpu")
    assert not (run.folder / "last.safetensors").exists()


def test_step_that_breaks_the_weights_is_named_by_the_next(lab, linear_store, tmp_path):
    """A rate beyond reason overflows the weights with the first step: the second has no loss."""
    run = lab.start(linear_store, tmp_path, lab.config("va", "lr=1e37", "warmup=0", "epochs=2", head="linear"))
    with pytest.raises(AbawError, match=r"not finite at step 2 of epoch 1, with windows of v0, v1, v2 and 1 more\."):
        lab.train(run, linear_store)
    assert not (run.folder / "best.safetensors").exists()
    assert not (run.folder / "last.safetensors").exists()


@pytest.mark.parametrize("task", ["va", "expr", "au"])
def test_last_step_of_an_epoch_that_breaks_the_weights_is_no_checkpoint(lab, linear_store, tmp_path, task):
    """One step in an epoch, whose loss is still finite; a score alone would not show that the outputs are not."""
    config = lab.config(task, "lr=1e37", "warmup=0", "batch_size=1000", "epochs=3")
    run = lab.start(linear_store, tmp_path, config)
    with pytest.raises(AbawError, match=r"outputs are not finite after epoch 1\. Train a new run with a lower lr"):
        lab.train(run, linear_store)
    assert sorted(path.name for path in run.folder.iterdir()) == ["config.json", "tensorboard"]
