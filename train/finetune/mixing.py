"""Mixup and cutmix: images of a batch mixed in pairs, and their labels in the same shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from abaw.core.tasks import Task
from abaw.train.config import TrainConfig
from abaw.train.data.windows import SoftLabels, Targets
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.heads.inputs import Tensors

MIXING = "mixing"  # name of an input of a model: share of the own image, then top, bottom, left and right of a box
GRID = 16  # the sides of a box are in so many parts of an image, so that its area is exact at all usual sizes
DRAWN = 16_127  # keeps the numbers apart from others of the same seed, epoch and step


@dataclass(frozen=True)
class Mixing:
    """How the images of a batch are mixed; image i is mixed with the i-th from the end.

    Attributes:
        share: of the own image.
        box: top, bottom, left and right of the part that is taken from the other image, as shares of its size; None mixes
            whole images.
    """

    share: float
    box: tuple[float, float, float, float] | None = None

    def as_input(self, device: torch.device) -> dict[str, Tensor]:
        """The mixing as an input of a model."""
        return {MIXING: torch.tensor([self.share, *(self.box or (0.0,) * 4)], device=device)}

    def targets(self, targets: Targets, task: Task, n_processes: int) -> Targets:
        """The targets of a batch with labels for the loss: a label counts where both images have it.

        Args:
            targets: of windows of one frame.
            n_processes: that share the windows; each mixes its own.
        """
        known = targets.soft or SoftLabels(targets.labels, targets.valid)
        labels, valid = known.labels.float(), known.valid
        if task.kind == "classes" and labels.shape[-1] == 1:
            classes = torch.where(valid, labels, 0).long()[..., 0]
            labels = F.one_hot(classes, len(task.outputs)).float()
        labels = torch.where(valid.expand_as(labels) if valid.shape[-1] == 1 else valid, labels, 0)
        n = len(labels)
        n_each = -(-n // n_processes)
        partner = (
            torch.arange(n_each * n_processes, device=labels.device).view(n_processes, n_each).flip(1).flatten()[:n]
        )
        is_there = (partner < n).view(-1, *[1] * (valid.ndim - 1))
        partner = partner.clamp(max=n - 1)
        mixed = self.share * labels + (1 - self.share) * labels[partner]
        return Targets(
            targets.labels, targets.valid, targets.further, SoftLabels(mixed, valid & valid[partner] & is_there)
        )


def draw_mixing(config: TrainConfig, key: Sequence[int]) -> Mixing | None:
    """How a batch is mixed, the same in all processes; None where nothing is mixed.

    With both, half of the batches are mixed up and half are cut (Zhang et al., 2018; Yun et al., 2019).

    Args:
        key: seed, epoch, step and pass.
    """
    if not isinstance(config, FinetuneConfig) or not (config.mixup or config.cutmix):
        return None
    rng = np.random.default_rng([DRAWN, *key])
    cuts = bool(config.cutmix) and (not config.mixup or rng.random() < 0.5)
    alpha = config.cutmix if cuts else config.mixup
    share = float(rng.beta(alpha, alpha))
    if not cuts:
        return Mixing(share)
    half = round(GRID * (1 - share) ** 0.5) / 2
    centre = rng.integers(0, GRID, 2, endpoint=True)
    top, left = (max(0, int(np.floor(place - half))) for place in centre)
    bottom, right = (min(GRID, int(np.floor(place + half))) for place in centre)
    kept = 1 - (bottom - top) * (right - left) / GRID**2
    return Mixing(kept, (top / GRID, bottom / GRID, left / GRID, right / GRID))


@dataclass(frozen=True)
class Pairs:
    """Which images of a forward pass are mixed, and how.

    Attributes:
        partners: (n,) the image that each is mixed with; itself where the other one cannot be read.
    """

    numbers: Tensor
    partners: Tensor

    def mix(self, images: Tensor) -> Tensor:
        """(n, 3, height, width) normalised images, mixed."""
        if not len(self.partners):
            return images
        share, *box = self.numbers.tolist()
        others = images[self.partners]
        if not any(box):
            return share * images + (1 - share) * others
        height, width = images.shape[-2:]
        top, bottom, left, right = (
            round(edge * side) for edge, side in zip(box, (height, height, width, width), strict=True)
        )
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return mixed


def pairs_of(features: Tensors, shown: Tensor) -> Pairs | None:
    """The pairs of a batch; None where nothing is mixed.

    Args:
        shown: (windows, 1) bool, the window has an image.
    """
    if MIXING not in features:
        return None
    is_shown = shown.flatten()
    windows = is_shown.nonzero()[:, 0]
    others = len(is_shown) - 1 - windows
    numbers: Any = is_shown.cumsum(dim=0) - 1  # of the images, by window
    partners = torch.where(is_shown[others], numbers[others], numbers[windows])
    return Pairs(features[MIXING], partners)
