"""What a training shows: calls of its progress to a reporter, by hand."""

from abaw.core.progress import Silent
from abaw.core.tasks import get_task
from abaw.train.checkpoint import Progress
from abaw.train.loop import Epoch, Position
from abaw.train.train_progress import TrainProgress


class Kept(Silent):
    """A reporter that keeps its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self.calls.append(("start", label, total, unit, done))

    def advance(self, n: int = 1, note: str = "") -> None:
        self.calls.append((n, note))

    def log(self, line: str) -> None:
        self.calls.append((line,))

    def finish(self) -> None:
        self.calls.append(("finish",))


def test_steps_are_counted_over_all_epochs_and_epochs_leave_lines() -> None:
    """Continued in epoch 2 of 3 after one of its two steps; epoch 3 has a step more than planned."""
    kept = Kept()
    shown = TrainProgress(kept, "train a", get_task("va"), 3)
    second, third = Progress(1, 0.25, 1), Progress(2, 0.5, 2)
    shown.on_step(Position(2, 1, 2, second))
    shown.on_step(Position(2, 2, 2, second))
    validating = shown.validating()
    validating.start("predict", 8, "windows")
    validating.advance(6)
    validating.finish()
    shown.on_epoch(Epoch(2, 0.75, 0.5, 1e-3, 4.25, 0.1))
    for step in range(4):
        shown.on_step(Position(3, step, 2, third))
    shown.on_epoch(Epoch(3, 0.7, 0.4, 1e-3, 6.0, 0.1))
    shown.finish()
    assert kept.calls == [
        ("start", "train a", 6, "steps", 3),
        (0, "epoch 2/3, best va 0.250"),
        (1, "epoch 2/3, best va 0.250"),
        (0, "epoch 2/3, best va 0.250, validating 75 %"),
        ("epoch 2/3: loss 0.750, va 0.500 (the best so far), 4.2 s",),
        (0, "epoch 3/3, best va 0.500"),
        (1, "epoch 3/3, best va 0.500"),
        (1, "epoch 3/3, best va 0.500"),
        (0, "epoch 3/3, best va 0.500"),
        ("epoch 3/3: loss 0.700, va 0.400 (best 0.500 at 2), 6.0 s",),
        ("finish",),
    ]
