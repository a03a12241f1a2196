"""What a training shows while it runs: steps, the best score so far, and a line for each epoch that stays."""

from abaw.core.progress import Reporter, Silent
from abaw.core.tasks import Task
from abaw.train.loop import Epoch, Position
from abaw.train.scoring import PREDICTED

COLLAPSED_EPOCHS = 3  # in a row in which a single class is predicted, until a warning


class TrainProgress:
    """Reports a training of `n_epochs` to a reporter: one step of progress, in steps of the optimizer.

    Args:
        label: of the training, such as the name of the run.
    """

    def __init__(self, reporter: Reporter, label: str, task: Task, n_epochs: int) -> None:
        self._reporter, self._label, self._task, self._n_epochs = reporter, label, task, n_epochs
        self._shown: int | None = None  # steps, over all epochs
        self._best: tuple[float, int] = (float("-inf"), 0)
        self._note = ""
        self._collapsed: tuple[str, int] = ("", 0)  # class, and for how many epochs nothing else was predicted

    def on_step(self, position: Position) -> None:
        """Show where the training is."""
        progress, n_steps = position.progress, position.n_steps
        self._best = (progress.best_score, progress.best_epoch)
        # some epochs have a step more or less: the next one begins where it should
        done = (position.epoch - 1) * n_steps + min(position.step, n_steps)
        best = f", best {self._task.name} {self._best[0]:.3f}" if self._best[1] else ""
        self._note = f"epoch {position.epoch}/{self._n_epochs}{best}"
        if self._shown is None:
            self._reporter.start(self._label, self._n_epochs * n_steps, "steps", done)
            self._shown = done
        self._reporter.advance(max(0, done - self._shown), self._note)
        self._shown = max(self._shown, done)

    def on_epoch(self, epoch: Epoch) -> None:
        """Leave a line."""
        best = "the best so far" if epoch.score > self._best[0] else f"best {self._best[0]:.3f} at {self._best[1]}"
        self._reporter.log(
            f"epoch {epoch.epoch}/{self._n_epochs}: loss {epoch.loss:.3f}, {self._task.name} {epoch.score:.3f} "
            f"({best}), {epoch.seconds:.1f} s"
        )
        self._warn_of_collapse(epoch)

    def _warn_of_collapse(self, epoch: Epoch) -> None:
        """Say once that a single class has been predicted for some epochs."""
        predicted = f"{PREDICTED} "
        only = next((name for name, share in epoch.measures.items() if name.startswith(predicted) and share == 1), "")
        self._collapsed = (only, self._collapsed[1] + 1 if only == self._collapsed[0] else 1) if only else ("", 0)
        if self._collapsed[1] == COLLAPSED_EPOCHS:
            self._reporter.warn(
                f"{self._label}: for {COLLAPSED_EPOCHS} epochs every validation row was predicted as "
                f"{only.removeprefix(predicted)}. Try a lower lr, or --set balance=class."
            )

    def validating(self) -> "Validating":
        """A reporter for the prediction of the validation videos."""
        return Validating(self._reporter, self._note)

    def finish(self) -> None:
        """The training is over."""
        if self._shown is not None:
            self._reporter.finish()


class Validating(Silent):
    """Shows the progress of a prediction within a training, whose own progress stays."""

    def __init__(self, reporter: Reporter, note: str) -> None:
        self._reporter, self._note = reporter, note
        self._total = self._done = 0

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        """Keep the total."""
        self._total, self._done = total, done

    def advance(self, n: int = 1, note: str = "") -> None:
        """Say how far the prediction is."""
        self._done += n
        self._reporter.advance(0, f"{self._note}, validating {100 * self._done // max(1, self._total)} %")
