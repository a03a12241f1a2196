"""Losses of tasks with classes that also ask several views of the same windows to agree."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.core.tasks import Task
from abaw.train.loss_options import CotexConfig, VNawConfig
from abaw.train.losses.class_weights import class_weights
from abaw.train.losses.classes import cross_entropies, row_weights
from abaw.train.losses.masked_rows import as_rows, as_views, weighted_mean

LEAST = 1e-4  # probability in the logarithms of CoTEX's divergence


class VNawLoss(nn.Module):
    """Cross-entropy, once plain and once weighted by how noisy a label looks, and the views' divergence (V-NAW, 2025).

    Both cross-entropies use only the first view; the others only have to agree with it. In the authors' code, too, the
    labels of the flipped clip are unused. By default no gradient flows through the noise weights, and the divergence
    is Jensen and Shannon's in nats, a mean over the valid frames; see `VNawConfig` for the authors' variants.
    """

    weights: Tensor

    def __init__(self, config: VNawConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self._config = config
        self.register_buffer("weights", class_weights(config.weights, task, labels, valid))

    def forward(self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        config, views = self._config, as_views(outputs, labels)
        first, labels, valid = as_rows(views[0], labels.flatten(0, -2), valid.flatten(0, -2))
        entropies = cross_entropies(first, labels, valid)
        noise = noise_weights(entropies, first, labels, valid, 1 - math.exp(-config.decay * progress))
        noise = noise if config.through_weights else noise.detach()
        by_class = row_weights(self.weights, labels, valid)
        loss = weighted_mean((config.plain + config.weighted * noise) * entropies, by_class)
        if len(views) == 1:
            return loss
        shown = torch.where(valid, views, 0)
        if config.divergence == "logit-sum":  # equal views, as where nothing is valid, add 0
            return loss + config.consistency * logit_divergence(shown).sum()
        distances = divergence(shown)
        return loss + config.consistency * weighted_mean(distances, valid[:, 0].to(distances.dtype))


class CotexLoss(nn.Module):
    """Mean cross-entropy of the views, and their generalised Jensen-Shannon divergence (masked CoTEX, 2022).

    The views are the outputs of models trained together. The divergence is a mean over frames and, as in the authors'
    code, over classes, for which its default factor is chosen; so are probabilities of 1e-4 at least in its logarithms.
    """

    def __init__(self, config: CotexConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self._config = config

    def forward(self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        views = as_views(outputs, labels)
        rows, row_labels, row_valid = as_rows(outputs, labels, valid)
        entropy = weighted_mean(cross_entropies(rows, row_labels, row_valid), row_valid[:, 0].to(rows.dtype))
        flat = valid.flatten(0, -2)
        counted = torch.ones_like(flat) if self._config.unlabelled else flat
        distances = divergence(torch.where(counted, views, 0), LEAST) / views.shape[-1]
        return entropy + self._config.consistency * weighted_mean(distances, counted[:, 0].to(distances.dtype))


def noise_weights(entropies: Tensor, outputs: Tensor, labels: Tensor, valid: Tensor, e: float) -> Tensor:
    """(rows,) weights exp(-d' S^-1 d / 2) of V-NAW, in (0, 1]: low where a label looks wrong.

    d is (p_gt, p_nn) - mu, the probabilities of the label and of the most probable other class. Where the label is
    the top class mu = (.50, .50), S = [[.75, -.50 e], [-.50 e, .75]]; otherwise mu = (.30, .15), S = [[.85, .80], [.80, .85]].

    Args:
        entropies: (rows,) -log(p_gt).
        outputs: (rows, classes) logits.
        labels, valid: (rows, 1).
        e: from 0 at the first epoch towards 1.
    """
    probabilities = torch.where(valid, outputs, 0).softmax(dim=-1)
    classes = torch.where(valid, labels, 0).long()
    of_label, of_other = torch.exp(-entropies), probabilities.scatter(-1, classes, -1).amax(dim=-1)
    on_top = _closeness(of_label - 0.50, of_other - 0.50, 0.75, -0.50 * e)
    below = _closeness(of_label - 0.30, of_other - 0.15, 0.85, 0.80)
    return torch.where(probabilities.gather(-1, classes)[:, 0] >= of_other, on_top, below)


def _closeness(x: Tensor, y: Tensor, variance: float, covariance: float) -> Tensor:
    """exp(-d' S^-1 d / 2) for d = (x, y) and S with the same variance twice."""
    squared = variance * (x.square() + y.square()) - 2 * covariance * x * y
    return torch.exp(-squared / 2 / (variance**2 - covariance**2))


def divergence(views: Tensor, least: float = 0.0) -> Tensor:
    """(rows,) generalised Jensen-Shannon divergence, in nats, of logits (views, rows, classes); at most log(views).

    The mean over views of the Kullback-Leibler divergence from the views' mean distribution (Lin, 1991).

    Args:
        least: probabilities below it count as it within the logarithms.
    """
    logs = F.log_softmax(views, dim=-1)
    mean = logs.logsumexp(dim=0) - math.log(len(views))
    probabilities = logs.exp()
    if least:
        logs, mean = logs.clamp(min=math.log(least)), mean.clamp(min=math.log(least))
    return (probabilities * (logs - mean)).sum(dim=-1).mean(dim=0)


def logit_divergence(views: Tensor) -> Tensor:
    """(rows,) mean over views of KL(m || view), in nats, of logits (views, rows, classes); m is the softmax of their mean.

    The divergence in V-NAW's code.
    """
    log_mean = F.log_softmax(views.mean(dim=0), dim=-1)
    return (log_mean.exp() * (log_mean - F.log_softmax(views, dim=-1))).sum(dim=-1).mean(dim=0)
