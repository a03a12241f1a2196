"""How long a submission file of a million rows takes to be written, and to be checked.

python -m benchmarks.submission
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from abaw.core.tasks import TASKS, Task
from abaw.evaluate.evaluation import Evaluation
from abaw.evaluate.postprocessing.smoothing import Smoothing
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.submission.check import check_submission
from abaw.evaluate.submission.formats import Sample
from abaw.evaluate.submission.sample_files import read_sample
from abaw.evaluate.submission.write import write_submission
from abaw.evaluate.trained import Selection
from abaw.store import FeatureStore
from benchmarks.measure import Report, Requirement, peak_kib

N_VIDEOS, N_FRAMES = 200, 5000  # a million rows; the largest official sample has 1,022,655
TASK_NAMES = ("expr", "va", "au")
LIMIT_S = 20
METHOD = [
    f"A sample of {N_VIDEOS} videos with {N_FRAMES} frames each, rows ending in a bare comma, predictions ready; each task "
    "in a process of its own, files in the page cache.",
    "Times are of the processor, of all threads together, for other programs may run. 'Written' reads the sample, finds "
    "the rows in a store, writes the file and checks it; 'checked' reads sample and file and compares them. Memory is the "
    "peak as the kernel counts it (VmHWM), PyTorch included.",
]


def main() -> None:
    """Measure and print; with an argument, be one of the processes that are measured."""
    if len(sys.argv) > 1:
        _measure(TASKS[sys.argv[1]])
        return
    report = Report("submission", METHOD)
    for name in TASK_NAMES:
        command = [sys.executable, "-m", "benchmarks.submission", name]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for what in ("written", "checked"):
            text = f"{N_VIDEOS * N_FRAMES:,} rows of {name} {what}"
            report.requirements.append(Requirement(text, found[what], LIMIT_S, "s", at_least=False))
        report.medians[f"peak memory, {name}, MB"] = found["peak_mb"]
    report.publish()


def _measure(task: Task) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sample, out = place / "sample.txt", place / "predictions.txt"
        with sample.open("w") as file:
            file.write(task.submission.images + "\n")
            for video in range(N_VIDEOS):
                file.writelines(f"video-{video}/{frame:05}.jpg,\n" for frame in range(1, N_FRAMES + 1))
        store = _small_store(place / "store.zarr")

        begin = time.process_time()
        write_submission(Ready(task), store, read_sample(sample), out)
        written = time.process_time()
        again = read_sample(sample)
        assert isinstance(again, Sample) and not check_submission(out, again, task).first
        checked = time.process_time()
    times = {"written": written - begin, "checked": checked - written}
    print(json.dumps({**times, "peak_mb": peak_kib() / 1000}))


@dataclass(frozen=True)
class Ready:
    """A predictor whose predictions are random, and ready at once."""

    task: Task
    name: str = "ready"
    folder: Path = Path("ready")
    features: tuple[str, ...] = ("small",)

    def digest(self) -> str:
        """Nothing."""
        return ""

    def load(self) -> None:
        """Nothing."""

    def evaluate(self, store: FeatureStore, split: str, smoothing: Smoothing | None = None) -> Evaluation:
        """Not for scores."""
        raise NotImplementedError

    def postprocessing(self, videos: Collection[str]) -> dict[str, str]:
        """None."""
        return {}

    def predict(self, store: FeatureStore, selection: Selection) -> dict[str, VideoPrediction]:
        """Outputs between -1 and 1."""
        rng = np.random.default_rng(0)
        empty = np.zeros((N_FRAMES, len(self.task.columns)), dtype=np.float32)
        present = np.ones(N_FRAMES, dtype=np.bool_)
        return {
            video: VideoPrediction(
                rng.uniform(-1, 1, (N_FRAMES, len(self.task.outputs))).astype(np.float32),
                empty,
                present,
                30.0,
                has_feature=present,
            )
            for video in selection.rows or ()
        }


def _small_store(path: Path) -> FeatureStore:
    """One number for each frame."""
    store = FeatureStore.create(path)
    store.add_feature("small", {"shape": [1], "weights": "none"}, None, "c" * 64)
    for video in range(N_VIDEOS):
        writer = store.writer("small", f"video-{video}", N_FRAMES, np.arange(N_FRAMES), {"fps": 30.0, "source": "made"})
        writer.write(np.arange(N_FRAMES), np.zeros((N_FRAMES, 1), dtype=np.float32))
        writer.finish()
    return store


if __name__ == "__main__":
    main()
