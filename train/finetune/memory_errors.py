"""A batch that does not fit the memory: refused before it is tried, where that can be known, and explained where it fails."""

import errno
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod

import torch

from abaw.backbones.registry import get_spec
from abaw.core.errors import AbawError, UsageError
from abaw.core.memory import free_memory, gigabytes
from abaw.core.system_errors import system_error
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.memory_plan import GB, MemoryPlan, MemoryUse, plan_memory
from abaw.train.runs import PIXEL_CHANGEABLE

LARGE_IMAGE = 0.25 * GB  # bytes that no network of ours keeps for an image of 224 x 224 pixels, or of fewer
TOLERANCE = 1.15  # of a forecast


def check_memory(config: FinetuneConfig, device: torch.device) -> None:
    """Raise a UsageError if a batch is sure to take more memory than this machine has free; of GPUs nothing is checked.

    The system ends a process that takes too much without a word. Most batches are clearly small enough; what others take
    is measured, see `plan_memory`.
    """
    if device.type != "cpu":
        return
    sizes = [get_spec(name).image for name in config.backbone_of().values()]
    areas = [prod(size.height_width) / 224**2 for size in sizes if size is not None]
    n_images = config.pass_windows * config.length * max(1, config.n_branches)
    if n_images * sum(LARGE_IMAGE * max(1.0, area) for area in areas) < free_memory():
        return
    plan = plan_memory(config, device)
    if plan.asked.most > TOLERANCE * plan.room:
        raise UsageError(f"{_too_much(plan)} {_remedy(plan.remedy)}.")


@contextmanager
def explaining_memory(run: str, config: FinetuneConfig, device: torch.device) -> Iterator[None]:
    """Turns an error for lack of memory in a training into a sentence with what to set.

    Raises:
        AbawError: the memory is used up.
    """
    try:
        yield
        return
    except (RuntimeError, MemoryError) as error:
        found = system_error(error)
        if found is None or found.errno != errno.ENOMEM:
            raise
        reason = found.strerror
    # here what the failed step held is gone
    plan = None
    with suppress(RuntimeError, MemoryError):
        plan = plan_memory(config, device)
    if plan is None:
        raise AbawError(
            f"The memory of {device} is used up ({reason}). Close other programs, or fine-tune with --set checkpoint=true "
            "or a smaller batch_size."
        )
    if plan.fits:
        raise AbawError(
            f"The memory of {device} is used up ({reason}), and a step should take {gigabytes(plan.asked.most)} GB of "
            f"{gigabytes(plan.room)} GB. Close other programs, or fine-tune with --set checkpoint=true."
        )
    raise AbawError(f"{_too_much(plan)} {_remedy(plan.remedy, run)}.")


def _too_much(plan: MemoryPlan) -> str:
    asked = plan.asked
    return (
        f"{asked.n_images} images at a time do not fit the memory of {plan.device}: "
        f"{'a step' if asked.training >= asked.validation else 'a validation'} takes about {gigabytes(asked.most)} GB."
    )


def _remedy(use: MemoryUse | None, run: str = "") -> str:
    """What to set; the started run of this name can be continued with some options."""
    if use is None:
        return "No smaller batch fits either: train fewer layers with --set unfreeze=N, or choose a smaller --backbone"
    words = " ".join(f"--set {setting}" for setting in use.settings)
    keeps_run = run and all(setting.partition("=")[0] in PIXEL_CHANGEABLE for setting in use.settings)
    begin = f"Continue with `abaw finetune --resume --run {shlex.quote(run)} {words}`" if keeps_run else f"Use {words}"
    return f"{begin}, which takes about {gigabytes(use.most)} GB"
