"""How much of its time a training step waits for data.

python -m benchmarks.training
"""

import statistics

import numpy as np
import torch

from abaw.core.tasks import get_task
from abaw.train.config import make_config
from abaw.train.data.windows import WindowSampler
from abaw.train.loop import Trainer
from abaw.train.model import Model
from benchmarks.measure import Report, Requirement
from benchmarks.tables import FEATURE, random_table

N_VIDEOS, N_FRAMES, WIDTH = 40, 1000, 768
EPOCHS = 7
CONFIG = make_config({"task": "va", "features": (FEATURE,)})
METHOD = [
    f"The default head and options of `abaw train --task va` on {WIDTH}-d float16 features of "
    f"{N_VIDEOS * N_FRAMES:,} frames; {EPOCHS} epochs of the trainer's own loop after one that does not count.",
    "Waiting is what the loop itself records: drawing the batch and bringing it to the device as float32.",
]


def main() -> None:
    """Measure and print."""
    report = Report("training", METHOD)
    task = get_task(CONFIG.task)
    table = random_table(task, N_VIDEOS, N_FRAMES, WIDTH)
    torch.manual_seed(0)
    model = Model(CONFIG, task, {FEATURE: (WIDTH,)})  # the values are normal: there is nothing to standardise
    trainer = Trainer(CONFIG, task, model, table, torch.device("cpu"))
    trainer.run_epoch(1)
    epochs = [trainer.run_epoch(number)[1:] for number in range(2, EPOCHS + 2)]
    n_steps = int(np.ceil(WindowSampler(table, CONFIG.length).n_windows(CONFIG.step) / CONFIG.batch_size))
    share = statistics.median(100 * waiting_s / seconds for seconds, waiting_s in epochs)
    report.requirements.append(Requirement("step time spent waiting for data", share, 3, "%", at_least=False))
    report.medians["steps/s"] = n_steps / statistics.median(seconds for seconds, _ in epochs)
    report.medians["waiting for a batch, ms"] = 1000 * statistics.median(waiting_s for _, waiting_s in epochs) / n_steps
    report.publish()


if __name__ == "__main__":
    main()
