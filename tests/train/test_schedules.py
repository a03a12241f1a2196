"""Learning rates and parameter groups: those of torch's schedulers, and by hand; see test_finetune_reference for those of published systems."""

from itertools import accumulate

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from abaw.core.errors import UsageError
from abaw.train.checkpoint import Progress
from abaw.train.config import TrainConfig, make_config
from abaw.train.schedules import create_optimizer, learning_rate

EPOCHS, STEPS = 12, 7  # steps of an epoch


def config(*settings: str) -> TrainConfig:
    return make_config({"task": "va", "features": ("f",)}, ["warmup=0", f"epochs={EPOCHS}", *settings])


def rates_by_torch(kind: type[lr_scheduler.LRScheduler], n: int, *options: float, **named: float) -> list[float]:
    """The rates of a scheduler in n steps, from .3."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    schedule, rates = kind(optimizer, *options, **named), []
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


BY_EPOCH = {
    "schedule=step lr_epochs=5 lr_factor=0.3": (lr_scheduler.StepLR, (5, 0.3), {}),
    "schedule=step lr_epochs=5 lr_factor=0.3 lr_per=epoch": (lr_scheduler.StepLR, (5, 0.3), {}),
    "schedule=exponential lr_factor=0.9 lr_per=epoch": (lr_scheduler.ExponentialLR, (0.9,), {}),
    "schedule=cyclic-cosine lr_epochs=2 min_lr=0.03 lr_per=epoch": (lr_scheduler.CosineAnnealingLR, (2, 0.03), {}),
    "schedule=cosine min_lr=0.03 lr_per=epoch": (lr_scheduler.CosineAnnealingLR, (EPOCHS, 0.03), {}),
}
BY_STEP = {
    "schedule=cosine min_lr=0.03": (lr_scheduler.CosineAnnealingLR, (EPOCHS * STEPS, 0.03), {}),
    "schedule=linear": (
        lr_scheduler.LinearLR,
        (),
        {"start_factor": 1, "end_factor": 0, "total_iters": EPOCHS * STEPS},
    ),
    "schedule=linear min_lr=0.03": (
        lr_scheduler.LinearLR,
        (),
        {"start_factor": 1, "end_factor": 0.1, "total_iters": EPOCHS * STEPS},
    ),
    "schedule=exponential lr_factor=0.9": (lr_scheduler.ExponentialLR, (0.9 ** (1 / STEPS),), {}),
    "schedule=cyclic-cosine lr_epochs=2 min_lr=0.03": (lr_scheduler.CosineAnnealingLR, (2 * STEPS, 0.03), {}),
    "schedule=constant": (lr_scheduler.ConstantLR, (1,), {}),
}


@pytest.mark.parametrize("settings", [*BY_EPOCH, *BY_STEP])
def test_rates_are_those_of_torchs_schedulers(settings: str) -> None:
    chosen = config("lr=0.3", *settings.split())
    kind, options, named = {**BY_EPOCH, **BY_STEP}[settings]
    if settings in BY_EPOCH:
        wanted = np.repeat(rates_by_torch(kind, EPOCHS, *options, **named), STEPS)
    else:
        wanted = np.array(rates_by_torch(kind, EPOCHS * STEPS, *options, **named))
    found = [learning_rate(chosen, step, EPOCHS * STEPS) for step in range(EPOCHS * STEPS)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


def test_a_plateau_lowers_the_rate_as_torchs_scheduler_does() -> None:
    chosen = config("lr=0.3", "schedule=plateau", "lr_factor=0.5", "lr_epochs=2", "min_lr=0.02")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, 2, threshold=0, min_lr=0.02)
    progress, drops = Progress(), []
    for number, score in enumerate(np.random.default_rng(0).normal(size=40).round(1).tolist(), start=1):
        schedule.step(score)
        progress = progress.after(number, score, chosen.lr_epochs)
        drops.append(progress.n_drops)
        assert learning_rate(chosen, 5, 10, progress.n_drops) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert drops[-1] > 5 and drops == list(accumulate(drops, max))
    assert Progress.from_json(progress.as_json()) == progress
    assert Progress(3, 0.5, 2).as_json() == '{"epoch": 3, "best_score": 0.5, "best_epoch": 2}'


def test_the_lowest_rate_is_not_above_the_highest() -> None:
    with pytest.raises(UsageError, match=r"min_lr must not be above lr, 0\.001, found 0\.01"):
        config("min_lr=0.01")
    assert min(learning_rate(config("schedule=exponential", "min_lr=1e-4"), step, 84) for step in range(84)) == 1e-4


def test_biases_and_norms_do_not_decay_unless_they_should() -> None:
    """By a step without gradients: AdamW multiplies what decays by 1 - rate * decay, and leaves the rest."""
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.GRU(2, 2), nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2))
    for decays in (True, False):
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        chosen = config("lr=0.5", "weight_decay=0.4", f"decay_norms={decays}")
        optimizer = create_optimizer(chosen, model)
        for value in model.parameters():
            value.grad = torch.zeros_like(value)
        optimizer.step()
        for name, value in model.named_parameters():
            kept = not decays and (value.ndim == 1)
            torch.testing.assert_close(value.detach(), before[name] * (1 if kept else 0.8), msg=name)
    assert [(group["name"], group["weight_decay"]) for group in optimizer.param_groups] == [
        ("weights", 0.4),
        ("biases and norms", 0.0),
    ]
