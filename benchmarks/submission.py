"""How long a submission file of a million rows takes to be written, and to be checked.

python -m benchmarks.submission
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from abaw.core.tasks import TASKS, Task
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.submission.check import check_submission
from abaw.evaluate.submission.formats import Sample, read_sample
from abaw.evaluate.submission.write import Answerer, write_submission
from abaw.store import FeatureStore
from abaw.train.config import make_config
from abaw.train.data.table import Table
from benchmarks.measure import Report, Requirement

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
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sample, out = place / "sample.txt", place / "predictions.txt"
        with sample.open("w") as file:
            file.write(task.submission.images + "\n")
            for video in range(N_VIDEOS):
                file.writelines(f"video-{video}/{frame:05}.jpg,\n" for frame in range(1, N_FRAMES + 1))
        store = _small_store(place / "store.zarr")

        def predict(table: Table) -> dict[str, VideoPrediction]:
            shape = (N_FRAMES, len(task.outputs))
            empty = np.zeros((N_FRAMES, len(task.columns)), dtype=np.float32)
            present = np.ones(N_FRAMES, dtype=np.bool_)
            return {
                video: VideoPrediction(rng.uniform(-1, 1, shape).astype(np.float32), empty, present, 30.0)
                for video in table.videos
            }

        config = make_config({"task": task.name, "features": ("small",), "head": {"name": "linear"}})
        begin = time.process_time()
        wanted = read_sample(sample)
        write_submission([Answerer(config, predict)], task, store, wanted, out)
        written = time.process_time()
        again = read_sample(sample)
        assert isinstance(again, Sample) and not check_submission(out, again, task).first
        checked = time.process_time()
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    times = {"written": written - begin, "checked": checked - written}
    print(json.dumps({**times, "peak_mb": int(peak.split()[1]) / 1000}))


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
