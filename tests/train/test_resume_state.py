"""What a run remembers when it goes on: the best score and its epoch, patience, and what is written, after any stop."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from abaw.core.tasks import get_task
from abaw.train.data.table import Table
from abaw.train.loop import TrainingResult, fit
from abaw.train.model import build_model
from abaw.train.new_run import load_tables

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


class Watched(nn.Module):
    """A model that writes down how it is called, and draws a random number each time that it trains."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.modes: list[bool] = []
        self.draws: list[float] = []

    def forward(self, features, masks):
        self.modes.append(self.training)
        if self.training:
            self.draws.append(float(torch.rand(())))
        return self.model(features, masks)


class Training:
    """A run whose validation scores are given by epoch; it can be stopped after any epoch, and go on."""

    def __init__(self, lab, store, runs: Path, scores: list[float], *settings: str) -> None:
        config = lab.config("va", f"epochs={len(scores)}", *settings, head="linear")
        self.run, self.scores = lab.start(store, runs, config), scores
        self.tables: tuple[Table, Table] = load_tables(config, store)
        self.folder = self.run.folder
        self.validated: list[int] = []
        self.weights: dict[int, torch.Tensor] = {}
        self.watched: list[Watched] = []

    def go_on(self, n_epochs: int = 10**6) -> TrainingResult | None:
        """Train so many epochs more, as a new process does it; None if that was a stop."""
        model, first = Watched(build_model(self.run)), len(self.validated)
        self.watched.append(model)

        def validate(trained: nn.Module, on_outputs: object) -> dict[str, float]:
            epoch = self.n_lines() + 1
            assert not trained.training, "a model that trains drops what it should say"
            self.validated.append(epoch)
            self.weights[epoch] = model.model.heads[0].output.weight.detach().clone()
            return {"score": self.scores[epoch - 1]}

        def stop(epoch) -> None:
            if len(self.validated) - first == n_epochs:
                raise KeyboardInterrupt

        config = self.run.config
        try:
            return fit(config, get_task("va"), model, self.tables[0], validate, self.folder, CPU, stop)
        except KeyboardInterrupt:
            return None

    def n_lines(self) -> int:
        file = self.folder / "metrics.jsonl"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def best(self) -> tuple[int, float, torch.Tensor]:
        """Epoch, score and weights in the file of the best checkpoint."""
        with safe_open(self.folder / "best.safetensors", "pt") as file:
            told = json.loads(file.metadata()["abaw"])
            return int(told["epoch"]), float(told["score"]), file.get_tensor("model.heads.0.output.weight")


@pytest.fixture
def start(lab, linear_store, tmp_path):
    """Begins a training, `start([0.5, 0.2], "patience=3")` with the scores of its epochs."""
    return lambda scores, *settings: Training(lab, linear_store, tmp_path, scores, *settings)


def test_a_worse_epoch_after_a_stop_leaves_the_best_as_it_is(start):
    made = start([0.9, 0.1, 0.5, 0.8])
    made.go_on(2)
    kept = (made.folder / "best.safetensors").read_bytes()
    assert made.go_on() == TrainingResult(0.9, 1, 4)
    assert (made.folder / "best.safetensors").read_bytes() == kept
    assert made.best()[:2] == (1, 0.9)


def test_a_better_epoch_after_a_stop_takes_over(start):
    made = start([0.5, 0.1, 0.6, 0.2])
    made.go_on(2)
    assert made.go_on() == TrainingResult(0.6, 3, 4)
    epoch, score, weight = made.best()
    assert (epoch, score) == (3, 0.6)
    assert torch.equal(weight, made.weights[3])


# by the number of epochs: the best so far by hand
SCORES = [-0.3, -0.5, 0.2, 0.2, 0.1, 0.4, 0.4, 0.3]
BEST = [(-0.3, 1), (-0.3, 1), (0.2, 3), (0.2, 3), (0.2, 3), (0.4, 6), (0.4, 6), (0.4, 6)]


@pytest.mark.parametrize("n_epochs", range(1, 8))
def test_the_best_is_the_same_wherever_a_run_was_stopped(start, n_epochs):
    """Below 0, equal and worse scores among them; of equal ones the first stays."""
    made = start(SCORES, "patience=4")
    assert made.go_on(n_epochs) is None
    score, epoch = BEST[n_epochs - 1]
    assert made.best()[:2] == (epoch, score)
    assert torch.equal(made.best()[2], made.weights[epoch])
    assert made.go_on() == TrainingResult(0.4, 6, 8)
    assert made.best()[:2] == (6, 0.4)
    assert torch.equal(made.best()[2], made.weights[6])
    assert made.validated == list(range(1, 9)), "every epoch once"


def test_stopped_after_every_epoch_it_ends_the_same(start):
    made = start(SCORES, "patience=4")
    for score, epoch in BEST:
        made.go_on(1)
        assert made.best()[:2] == (epoch, score)
    assert made.go_on() == TrainingResult(0.4, 6, 8)
    assert made.validated == list(range(1, 9))


@pytest.mark.parametrize("stops", [(), (1,), (2,), (3,), (1, 1, 1)])
def test_patience_is_counted_over_stops(start, stops):
    """Three epochs without a better one after the first: four in all, wherever it was stopped."""
    made = start([0.5, 0.1, 0.2, 0.3, 0.9, 0.9], "patience=3")
    for n_epochs in stops:
        assert made.go_on(n_epochs) is None
    assert made.go_on() == TrainingResult(0.5, 1, 4)
    assert made.validated == [1, 2, 3, 4]
    assert made.go_on() == TrainingResult(0.5, 1, 4), "what has stopped by itself stays stopped"
    assert made.validated == [1, 2, 3, 4]


def test_an_equal_score_is_no_better_one(start):
    """Not for the file, and not for patience; neither in one process nor after a stop."""
    third = 1 / 3  # has no short decimal form
    made = start([third] * 6, "patience=2")
    assert made.go_on() == TrainingResult(third, 1, 3)
    stopped = start([third] * 6, "patience=2")
    stopped.go_on(1)
    kept = (stopped.folder / "best.safetensors").read_bytes()
    assert stopped.go_on() == TrainingResult(third, 1, 3)
    assert (stopped.folder / "best.safetensors").read_bytes() == kept
    assert stopped.best()[:2] == (1, third), "to the last bit"


def test_the_smallest_gain_is_a_better_score(start):
    one = 0.1 + 0.2
    two = math.nextafter(one, 1)
    made = start([one, two, one], "patience=2")
    made.go_on(1)
    assert made.go_on() == TrainingResult(two, 2, 3)


def test_a_better_epoch_gives_new_patience(start):
    made = start([0.1, 0.0, 0.2, 0.1, 0.1, 0.9], "patience=2")
    made.go_on(2)
    made.go_on(1)
    assert made.go_on() == TrainingResult(0.2, 3, 5)


def test_a_finished_run_is_not_validated_again(start):
    made = start([0.1, 0.2])
    assert made.go_on() == made.go_on() == TrainingResult(0.2, 2, 2)
    assert made.validated == [1, 2]


def test_every_epoch_trains_in_training_mode(start):
    """Validation turns dropout off, and the next epoch has to turn it on again."""
    made = start([0.1, 0.2, 0.3])
    made.go_on(2)
    made.go_on()
    for watched in made.watched:
        assert set(watched.modes) == {True}
    n_steps = [len(watched.modes) for watched in made.watched]
    assert n_steps[0] == 2 * n_steps[1] > 0


def test_chance_is_that_of_the_epoch_and_of_the_seed(start):
    """What a head draws, such as its masks, differs by epoch and by seed, and not by where a run was stopped."""
    whole, stopped, other = start([0.1] * 3), start([0.1] * 3), start([0.1] * 3, "seed=1")
    whole.go_on()
    stopped.go_on(1)
    torch.manual_seed(99)
    stopped.go_on()
    other.go_on()
    draws = whole.watched[0].draws
    assert [value for watched in stopped.watched for value in watched.draws] == draws
    assert len(set(draws)) == len(draws)
    assert not set(other.watched[0].draws) & set(draws)


def test_steps_and_rates_go_on_where_they_were(start, lab):
    """Half a cosine over all epochs by hand: with one step in an epoch the rate at epoch e of n is cos(pi (e - 1) / n)."""
    made = start([0.1] * 4, "batch_size=1000", "lr=0.2", "warmup=0")
    made.go_on(2)
    made.go_on()
    rows = lab.metrics(made.folder)
    assert [row["lr"] for row in rows] == pytest.approx([0.2, 0.1 * (1 + 0.5**0.5), 0.1, 0.1 * (1 - 0.5**0.5)])
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["score"] for row in rows] == made.scores
