"""What a step of fine-tuning takes beside the bare step on ready inputs, and how fast images are decoded and augmented.

python -m benchmarks.finetuning
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from abaw.core.tasks import get_task
from abaw.train.data.samples import counted_labels
from abaw.train.data.windows import WindowBatch, WindowSampler, batches
from abaw.train.finetune.augment import AUGMENTS
from abaw.train.finetune.encoder_build import FirstWeights, build_first
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.new_finetune import make_finetune_configs
from abaw.train.finetune.pixel_model import PixelModel
from abaw.train.finetune.pixel_table import IMAGES, PixelTable, load_pixel_tables
from abaw.train.loop import Trainer
from abaw.train.losses import create_loss
from abaw.train.schedules import create_optimizer
from benchmarks.crops import draw_crops
from benchmarks.measure import Report, Requirement, in_turns, median_ratio, one_core

ROUNDS = 3
STEPS = {"vit-tiny-mean": (2, 16), "vit-mean": (2, 2)}  # in an epoch, and images of each
BATCH_SIZE = 32  # decoded and augmented
TRAINED_PER_S = 5059 / 3  # images of a ViT-B on a GPU: a third of what is published of its forward pass in bfloat16
METHOD = [
    "Crops of the demo, "
    f"{' and '.join(f'{n} steps of {size} for {name}' for name, (n, size) in STEPS.items())}; untrained networks with a linear head for valence and arousal, float32.",
    "An epoch of the trainer decodes its images, resizes and normalises them, sets rates and checks the loss; the bare step is "
    "forward, loss, backward, clipping and optimizer on inputs that are ready, in turns with these epochs.",
    "Decoding and augmentation are those of a batch, on one core; a GPU augments on the GPU. The cores that keep up with a ViT-B "
    "decode 1,690 images a second, a third of 5,059, the published rate of its forward pass on an RTX PRO 6000.",
]


def config_of(network: str) -> FinetuneConfig:
    """The default fine-tuning, without augmentation."""
    settings = ["augment=none", "drop_path=0", f"batch_size={STEPS[network][1]}", "precision=fp32"]
    return make_finetune_configs("va", [network], {}, settings)[0]


def ready_batches(config: FinetuneConfig, table: PixelTable, model: PixelModel) -> list[tuple[Tensor, WindowBatch]]:
    """Normalised inputs of the network, and the batches that they come from."""
    sampler, seen = WindowSampler(table, config.length, only_labelled=True), []
    hook = model.encoders[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    windows = sampler.epoch(config.step, (config.seed, 1))
    read = [sampler.batch(some) for some in batches(windows, config.batch_size)]
    with torch.no_grad():
        for batch in read:
            model(batch.features, batch.masks)
    hook.remove()
    return list(zip(seen, read, strict=True))


def bare_epoch(
    model: PixelModel,
    config: FinetuneConfig,
    loss_of: nn.Module,
    optimizer: torch.optim.Optimizer,
    ready: Sequence[tuple[Tensor, WindowBatch]],
) -> None:
    """The steps of an epoch as a plain loop."""
    name = config.features[0]
    output = name.rpartition("-")[2]
    for inputs, batch in ready:
        feature = model.encoders[0](inputs)[output].unsqueeze(1)
        outputs = model.heads[0]({name: feature}, {name: batch.masks[IMAGES]})
        loss = loss_of(*batch.targets.align(outputs), 0.0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()


def against_bare_steps(network: str, whole: PixelTable, report: Report) -> None:
    """Epochs of the trainer in turns with plain loops over ready inputs."""
    config = config_of(network)
    table = first_images(whole, STEPS[network][0] * config.batch_size)
    model, _ = build_first(config, FirstWeights({}, untrained=True))
    model.freeze_unused()
    bare = deepcopy(model).train()
    _, labels, valid = counted_labels(table)
    loss_of, optimizer = create_loss(config.loss, table.task, labels, valid), create_optimizer(config, bare)
    trainer, numbers = Trainer(config, table.task, model, table, torch.device("cpu")), itertools.count(1)
    ready = ready_batches(config, table, bare)
    timings = in_turns(
        {
            "trainer": lambda: trainer.run_epoch(next(numbers)),
            "bare": lambda: bare_epoch(bare, config, loss_of, optimizer, ready),
        },
        rounds=ROUNDS,
    )
    share = 100 * (1 - 1 / median_ratio(timings["trainer"].wall_s, timings["bare"].wall_s))
    report.requirements.append(
        Requirement(f"{network}: share of the loop beside the step", share, 5, "%", at_least=False)
    )
    report.medians[f"{network}, images/s in training"] = len(ready) * config.batch_size / timings["trainer"].median_s


def first_images(table: PixelTable, n_images: int) -> PixelTable:
    """The table with labels for so many of its images alone."""
    chosen = np.flatnonzero(table.valid.any(axis=1) & table.has_feature)[:n_images]
    assert len(chosen) == n_images, "the demo has as many"
    valid = np.zeros_like(table.valid)
    valid[chosen] = table.valid[chosen]
    few = own_table(table)
    few.valid = valid
    return few


def own_table(table: PixelTable) -> PixelTable:
    """A table of its own with the same sources."""
    return PixelTable(
        *(table.task, table.videos, table.starts, table.labels, table.valid, table.synthetic, table.sources),
        *(table.has_feature.copy(), table.fps),
    )


def per_second(action: Callable[[], int]) -> float:
    """Items a second of processor time; `action` returns how many it did."""
    action()
    begin, n_done = time.process_time(), 0
    while time.process_time() - begin < 1.0:
        n_done += action()
    return n_done / (time.process_time() - begin)


def inputs_per_core(table: PixelTable, report: Report) -> None:
    """Images decoded and augmented on a core."""
    rows = np.flatnonzero(table.has_feature)[:256].reshape(-1, 1)
    inside = np.ones_like(rows, dtype=np.bool_)

    def decode() -> int:
        table.inputs(rows, inside)
        return len(rows)

    with one_core():
        rate = per_second(decode)
        report.medians["images/s decoded on a core"] = rate
        report.medians["cores that keep up with a ViT-B in training on a GPU"] = TRAINED_PER_S / rate
        images = table.inputs(rows[:BATCH_SIZE], inside[:BATCH_SIZE])[0][IMAGES][:, 0].permute(0, 3, 1, 2).contiguous()
        clips = torch.arange(len(images))
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for name, augment in AUGMENTS.items():

            def change(augment: Callable[..., Tensor] = augment) -> int:
                return len(augment(images, clips, 224, "bilinear"))

            report.medians[f"images/s augmented on a core, {name}"] = per_second(change)
        torch.set_num_threads(n_threads)


def main() -> None:
    """Measure and print."""
    report = Report("finetuning", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        draw_crops(Path(folder))
        (table,) = load_pixel_tables(get_task("va"), "", Path(folder) / "drawn", ("train",))
        for network in STEPS:
            against_bare_steps(network, table, report)
        inputs_per_core(table, report)
    report.publish()


if __name__ == "__main__":
    main()
