"""What metrics.jsonl says of each epoch: losses and measures of training and validation, against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import cross_entropy

from abaw import pipeline
from abaw.core.progress import Silent
from abaw.core.tasks import TASKS
from abaw.evaluate.inference import SCORING
from abaw.evaluate.trained import TrainedRun
from abaw.train.data.windows import Targets
from abaw.train.loop import Epoch
from abaw.train.scoring import OutputSums, ValidationLoss
from abaw.train.train_progress import TrainProgress

pytestmark = pytest.mark.usefixtures("one_thread")

EXPR, AU, MTL = TASKS["expr"], TASKS["au"], TASKS["mtl"]


def batches_of(task, n_batches, n_views=0):
    rng = torch.Generator().manual_seed(0)
    for _ in range(n_batches):
        outputs = torch.randn(*([n_views] if n_views else []), 4, 10, len(task.outputs) + 3, generator=rng)
        valid = torch.rand(4, 10, len(task.columns), generator=rng) < 0.8
        labels = [
            torch.rand(4, 10, 2, generator=rng) * 2 - 1 if part.kind == "regression" else
            torch.randint(8 if part.kind == "classes" else 2, (4, 10, len(part.columns)), generator=rng).float()
            for part, _, _ in task.each()
        ]  # fmt: skip
        yield outputs, torch.cat(labels, dim=-1), valid


def test_training_outputs_are_measured_over_all_steps_of_an_epoch():
    sums = OutputSums(MTL, SCORING)
    made = list(batches_of(MTL, 7, n_views=2))
    for number, batch in enumerate(made):
        sums.add(*batch)
        if number == 3:  # an interruption
            state, sums = sums.state(), OutputSums(MTL, SCORING)
            sums.set_state(state)
    found = sums.measures()
    outputs, labels, valid = (
        np.concatenate([(one.mean(dim=0) if one.ndim == 4 else one).flatten(0, 1).numpy() for one in kind])
        for kind in zip(*made, strict=True)
    )
    x, y = np.clip(outputs[valid[:, 0], 0], -1, 1).astype(float), labels[valid[:, 0], 0].astype(float)
    ccc = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert found["train CCC valence"] == pytest.approx(ccc, abs=1e-6)
    of_classes = valid[:, 2]
    f1 = f1_score(labels[of_classes, 2], outputs[of_classes, 2:10].argmax(axis=1), average=None)
    assert [found[f"train F1 {name}"] for name in EXPR.outputs] == pytest.approx(f1.tolist())
    units = [f1_score(labels[valid[:, 3 + i], 3 + i], outputs[valid[:, 3 + i], 10 + i] > 0) for i in range(12)]
    assert [found[f"train F1 {name}"] for name in AU.outputs] == pytest.approx(units)
    assert found["train score expr"] == pytest.approx(f1.mean())
    by_part = sum(found[f"train score {part}"] for part in ("va", "expr", "au"))
    assert found["train score"] == pytest.approx(by_part)


@pytest.mark.parametrize("stopped_at", [1, 3, 5])
def test_ctrl_c_while_outputs_are_added_up_counts_no_batch_twice(stopped_at):
    """The steps of an epoch are kept when its validation is interrupted, which asks for these sums."""
    left = [stopped_at]

    def interrupted(*arguments):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return SCORING.sums(*arguments)

    stopped, whole = OutputSums(EXPR, replace(SCORING, sums=interrupted)), OutputSums(EXPR, SCORING)
    for batch in batches_of(EXPR, 5):
        stopped.add(*batch)
        whole.add(*batch)
    with pytest.raises(KeyboardInterrupt):
        stopped.measures()
    assert torch.equal(stopped.state(), whole.state())


def test_losses_and_measures_of_an_epoch_are_logged(lab, linear_store, tmp_path):
    """A linear head whose weights hardly move: its loss on validation is the cross-entropy of what it predicts."""
    config = lab.config("expr", "lr=1e-30", "epochs=1", "window=1", "decay_norms=false", head="linear")
    run = lab.start(linear_store, tmp_path, config)
    lab.train(run, linear_store)
    (row,) = lab.metrics(run.folder)
    parts = {}
    for split in ("train", "val"):
        videos = pipeline.evaluate(TrainedRun.open(run, "cpu"), linear_store, split).predictions.values()
        parts[split] = [np.concatenate([getattr(video, what) for video in videos]) for what in ("outputs", "labels")]
    for split, prefix in (("train", "train "), ("val", "")):
        outputs, labels = parts[split]
        f1 = f1_score(labels[:, 0], outputs.argmax(axis=1), average=None, labels=range(8), zero_division=0)
        assert [row[f"{prefix}F1 {name}"] for name in EXPR.outputs] == pytest.approx(f1.tolist(), abs=1e-6)
        assert row[f"{prefix}score"] == pytest.approx(f1.mean(), abs=1e-6)
    losses = {
        split: cross_entropy(torch.from_numpy(outputs), torch.from_numpy(labels[:, 0]).long()).item()
        for split, (outputs, labels) in parts.items()
    }
    assert (row["loss"], row["val loss"]) == pytest.approx((losses["train"], losses["val"]), rel=1e-4)
    shares = np.bincount(parts["val"][0].argmax(axis=1), minlength=8) / len(parts["val"][0])
    assert [row[f"predicted {name}"] for name in EXPR.outputs] == pytest.approx(shares.tolist())
    assert row["lr weights"] == row["lr biases and norms"] == row["lr"] == pytest.approx(1e-30, rel=0.99)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "val/loss", "train/F1 Fear", "val/F1 Fear", "val/predicted Fear"} <= tags
    assert {"train/learning rate", "train/learning rate of weights", "train/score"} <= tags
    assert events.Scalars("val/loss")[0].value == pytest.approx(row["val loss"])


def test_the_loss_of_validation_is_weighted_by_the_labels_of_each_batch():
    def mean_output(outputs, labels, valid, progress):
        return outputs[valid].mean() if valid.any() else outputs.sum() * 0

    found = ValidationLoss(mean_output, 0.0, 0, torch.device("cpu"))
    for value, n in ((1.0, 2), (4.0, 6), (9.0, 0)):
        valid = torch.arange(6).view(1, 6, 1) < n
        found.add(torch.full((1, 6, 1), value), Targets(torch.zeros(1, 6, 1), valid, None))
    assert found.mean() == pytest.approx((1 * 2 + 4 * 6) / 8)


class Heard(Silent):
    def __init__(self):
        self.warnings = []

    def warn(self, warning):
        self.warnings.append(warning)


@pytest.mark.parametrize(
    ("classes", "n_warnings"),
    [("NNNNN", 1), ("NNANN", 0), ("NNAAA", 1), ("NN-NN", 0), ("--NNN", 1), ("NN", 0)],
)
def test_a_run_that_predicts_one_class_for_three_epochs_is_warned_of_once(classes, n_warnings):
    heard = Heard()
    shown = TrainProgress(heard, "train a", EXPR, len(classes))
    for number, kind in enumerate(classes, start=1):
        shares = {"N": (1.0, 0.0), "A": (0.0, 1.0), "-": (0.9, 0.1)}[kind]
        measures = dict(zip(("predicted Neutral", "predicted Anger"), shares, strict=True))
        shown.on_epoch(Epoch(number, 1.0, 0.1, 1e-3, 1.0, 0.0, measures))
    name = "Anger" if classes[-1] == "A" else "Neutral"
    wanted = (
        f"train a: for 3 epochs every validation row was predicted as {name}. Try a lower lr, or --set balance=class."
    )
    assert heard.warnings == [wanted] * n_warnings


def test_a_training_that_collapses_to_the_common_class_is_warned_of(lab, tmp_path):
    """One frame in 40 is not neutral, and its feature does not show it."""
    store = lab.make_store(tmp_path / "s.zarr", ())
    labels = (np.arange(lab.n_frames) % 40 == 0).astype(np.int8)[:, None]
    for i in range(6):
        store.write_labels("expr", f"v{i}", "train" if i < 4 else "val", labels)
    heard = Heard()
    lab.train(lab.start(store, tmp_path, lab.config("expr", "epochs=8")), store, heard)
    (warning,) = heard.warnings
    assert "for 3 epochs every validation row was predicted as Neutral" in warning
