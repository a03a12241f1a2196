"""How much of its time a training step waits for data, and what it takes beside the bare step on ready tensors.

python -m benchmarks.training
"""

import itertools
import statistics
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from abaw.core.tasks import Task, get_task
from abaw.evaluate.inference import SCORING
from abaw.train.config import make_config
from abaw.train.data.samples import counted_labels
from abaw.train.data.table import Table
from abaw.train.data.windows import WindowBatch, WindowSampler, batches
from abaw.train.loop import Trainer
from abaw.train.losses import create_loss
from abaw.train.model import Model
from abaw.train.schedules import create_optimizer
from abaw.train.scoring import OutputSums
from benchmarks.measure import Report, Requirement, in_turns, median_ratio
from benchmarks.tables import FEATURE, random_table

N_VIDEOS, N_FRAMES, WIDTH = 40, 1000, 768
EPOCHS = 7
CONFIG = make_config({"task": "va", "features": (FEATURE,)})
METHOD = [
    f"The default head and options of `abaw train --task va` on {WIDTH}-d float16 features of "
    f"{N_VIDEOS * N_FRAMES:,} frames; {EPOCHS} epochs of the trainer's own loop after one that does not count.",
    "Waiting is what the loop itself records: drawing the batch and bringing it to the device as float32.",
    "The bare step is forward, loss, backward, clipping and optimizer on batches that are ready, in turns with epochs of the "
    "trainer, which also draws its batches, sets rates and sums up measures; processor seconds, whatever else runs.",
]


def bare_epoch(
    model: Model, loss_of: nn.Module, optimizer: torch.optim.Optimizer, ready: Sequence[WindowBatch]
) -> None:
    """The steps of an epoch as a plain loop."""
    for batch in ready:
        loss = loss_of(*batch.targets.align(model(batch.features, batch.masks)), 0.0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG.clip_norm)
        optimizer.step()


def against_bare_steps(task: Task, table: Table, model: Model, report: Report) -> None:
    """Epochs of the trainer in turns with plain loops over ready batches."""
    bare = deepcopy(model)
    optimizer = create_optimizer(CONFIG, bare.parameters())
    _, labels, valid = counted_labels(table)
    loss_of, sampler = create_loss(CONFIG.loss, task, labels, valid), WindowSampler(table, CONFIG.length)
    windows = sampler.epoch(CONFIG.step, (CONFIG.seed, 1))
    ready = [sampler.batch(some).to(torch.device("cpu")) for some in batches(windows, CONFIG.batch_size)]
    sums = OutputSums(task, SCORING)
    trainer, numbers = Trainer(CONFIG, task, model, table, torch.device("cpu"), sums), itertools.count(1)
    timings = in_turns(
        {
            "trainer": lambda: trainer.run_epoch(next(numbers)),
            "bare": lambda: bare_epoch(bare.train(), loss_of, optimizer, ready),
        },
        rounds=EPOCHS,
    )
    ratio = median_ratio(timings["trainer"].cpu_s, timings["bare"].cpu_s)
    report.requirements.append(
        Requirement("a step against the bare step on ready tensors", ratio, 1.05, at_least=False)
    )
    by_clock = median_ratio(timings["trainer"].wall_s, timings["bare"].wall_s)
    report.ratios["a step against the bare step on ready tensors, by the clock"] = by_clock


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
    against_bare_steps(task, table, model, report)
    report.publish()


if __name__ == "__main__":
    main()
