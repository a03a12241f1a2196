"""What steps change besides the weights: averages, scaled gradients, gradients of several passes; and validation by a share."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from abaw.core.errors import UsageError
from abaw.core.tasks import get_task
from abaw.evaluate.trained import TrainedRun
from abaw.tests.support.command_line import assert_refused
from abaw.tests.support.trainings import single_thread
from abaw.train.checkpoint import Learner, StepsTaken
from abaw.train.data.share_of_samples import draw_share
from abaw.train.loop import Trainer
from abaw.train.model import build_model
from abaw.train.new_run import load_tables
from abaw.train.training_precision import check_precision

CPU = torch.device("cpu")
PLAIN = ("epochs=2", "warmup=0", "schedule=constant")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


class Normed(nn.Module):
    """A head whose outputs go through batch normalisation; it keeps the type of its outputs."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, self.norm = head, nn.BatchNorm1d(2)

    def forward(self, features, masks):
        outputs = self.head(features, masks)
        self.dtype = outputs.dtype
        return self.norm(outputs.float().flatten(0, 1)).view(outputs.shape)


def trainer_of(lab, store, folder: Path, *settings: str) -> Trainer:
    config = lab.config("va", *PLAIN, *settings, head="linear")
    run = lab.start(store, folder, config)
    return Trainer(run.config, get_task("va"), Normed(build_model(run)), load_tables(config, store)[0], CPU)


def test_the_average_is_that_of_the_weights_after_each_step(lab, linear_store, tmp_path):
    trainer = trainer_of(lab, linear_store, tmp_path, "ema=0.75")
    model, weights = trainer.learner.model, []
    trainer.run_steps(
        1, StepsTaken(), lambda: weights.append(model.head.heads[0].output.weight.detach().double().clone())
    )
    assert len(weights) > 2
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.75 * expected + 0.25 * weight
    scored = trainer.learner.scored
    assert scored is not model
    np.testing.assert_allclose(scored.head.heads[0].output.weight.detach(), expected, rtol=1e-5)
    assert float(model.norm.num_batches_tracked) == len(weights)
    assert all(torch.equal(one, other) for one, other in zip(scored.buffers(), model.buffers(), strict=True))


def test_the_average_is_validated_kept_and_saved(lab, linear_store, tmp_path):
    run = lab.start(linear_store, tmp_path, lab.config("va", *PLAIN, "ema=0.5", "save_every=2", head="linear"))
    lab.train(run, linear_store)
    best, last, kept = (
        load_file(run.folder / name)
        for name in ("best.safetensors", "last.safetensors", "checkpoints/epoch-2/weights.safetensors")
    )
    key = "heads.0.output.weight"
    assert torch.equal(kept[key], last[f"average.module.{key}"])
    assert not torch.equal(kept[key], last[f"model.{key}"])
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    if lines[1]["score"] > lines[0]["score"]:
        assert torch.equal(best[key], kept[key])
    assert not any(name.startswith(("average.", "scaler.")) for name in best)


def test_without_one_a_checkpoint_is_as_before(lab, linear_store, tmp_path):
    run = lab.start(linear_store, tmp_path, lab.config("va", *PLAIN, head="linear"))
    lab.train(run, linear_store)
    assert {key.split(".")[0] for key in load_file(run.folder / "last.safetensors")} == {"model", "optimizer"}


def test_gradients_are_unscaled_before_they_are_clipped(lab, linear_store, tmp_path):
    settings = ("optimizer=sgd", "lr=0.1", "clip_norm=0.05")
    plain, scaled = (trainer_of(lab, linear_store, tmp_path, *settings) for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    scaled.learner = replace(scaled.learner, scaler=scaler)
    before = plain.learner.model.head.heads[0].output.weight.detach().clone()
    for trainer in (plain, scaled):
        trainer.run_epoch(1)
    weights = [trainer.learner.model.head.heads[0].output.weight.detach() for trainer in (plain, scaled)]
    assert not torch.allclose(weights[0], before, atol=1e-4)
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)
    assert scaler.get_scale() > 1024
    _assert_restored(scaled.learner, trainer_of(lab, linear_store, tmp_path, *settings))


def _assert_restored(learner: Learner, trainer: Trainer) -> None:
    """A new scaler goes on with the scale, and with the steps since it grew."""
    other = replace(trainer.learner, scaler=torch.amp.GradScaler("cpu"))
    other.restore(learner.tensors(), Path("last"))
    assert other.scaler.state_dict() == learner.scaler.state_dict()
    assert other.scaler.get_scale() == learner.scaler.get_scale()


def test_float16_needs_a_gpu_and_is_refused_before_there_is_a_run(lab, linear_store, tmp_path, run_cli):
    options = ("--feature", "f", "--store", linear_store.path, "--runs", tmp_path / "runs", "--device", "cpu")
    done = run_cli("train", "--task", "va", "--set", "precision=fp16", *options)
    assert_refused(done, 2, "precision=fp16 needs a GPU, found cpu", "--set precision=bf16")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UsageError):
        trainer_of(lab, linear_store, tmp_path, "precision=fp16")
    check_precision(lab.config("va", "precision=fp16"), torch.device("cuda"))


@pytest.mark.parametrize(("precision", "dtype"), [("auto", "float32"), ("fp32", "float32"), ("bf16", "bfloat16")])
def test_forward_passes_compute_in_the_precision(lab, linear_store, tmp_path, precision, dtype):
    trainer = trainer_of(lab, linear_store, tmp_path, f"precision={precision}")
    trainer.run_epoch(1)
    assert trainer.learner.model.dtype == getattr(torch, dtype)
    assert trainer.learner.model.head.heads[0].output.weight.dtype == torch.float32


# a share of the validation


@pytest.mark.parametrize("length", [30, 1])
def test_a_share_has_the_rows_of_its_windows(lab, linear_store, length):
    _, table = load_tables(lab.config("va"), linear_store)
    part = draw_share(table, length, 0.5, (0,))
    assert len(part.labels) == 120 and part.starts[-1] == 120
    again, other = draw_share(table, length, 0.5, (0,)), draw_share(table, length, 0.5, (1,))
    assert np.array_equal(again.picked, part.picked) and not np.array_equal(other.picked, part.picked)
    assert np.array_equal(part.picked, np.unique(part.picked))
    if length == 30:
        assert len(part.videos) == 4 and all("+" in name for name in part.videos)
        assert (np.diff(part.picked.reshape(4, 30), axis=1) == 1).all()
    else:
        assert list(part.videos) == ["v4", "v5"]
    rows = np.arange(120)[None]
    found, masks = part.inputs(rows, np.ones(rows.shape, dtype=bool))
    expected, _ = table.inputs(part.picked[rows], np.ones(rows.shape, dtype=bool))
    assert torch.equal(found["f"], expected["f"]) and masks["f"].all()
    assert np.array_equal(part.labels, table.labels[part.picked])
    assert draw_share(table, length, 1, (0,)) is table


def test_unlabelled_windows_are_not_in_a_share(lab, linear_store):
    _, table = load_tables(lab.config("va"), linear_store)
    table = replace(table, valid=table.valid & (np.arange(240) % 120 < 30)[:, None])
    part = draw_share(table, 30, 1 - 1e-9, (0,))
    assert sorted(part.videos) == ["v4+0", "v5+0"]
    assert len(draw_share(table, 1, 0.1, (0,)).labels) == 6


def test_the_best_of_a_share_is_scored_on_all_at_the_end(lab, linear_store, tmp_path):
    run = lab.start(linear_store, tmp_path, lab.config("va", "epochs=3", "eval_share=0.4"))
    result = lab.train(run, linear_store)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    official = TrainedRun.open(run).evaluate(linear_store, "val").official.score
    assert result.best_score == pytest.approx(official, abs=1e-6)
    assert all(abs(line["score"] - official) > 1e-6 for line in lines)
