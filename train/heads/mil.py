"""Multiple-instance learning: a clip is a bag of frames, and its label comes from the frames that show it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask
from abaw.train.heads.mlp import hidden_layers
from abaw.train.sequence_options import MilConfig

FLAT = 0.1  # below this sharpness the logarithm is of numbers close to 1, which are rounded


class MilHead(Head):
    """Hidden layers and an output layer, frame by frame; attention or a soft maximum over the frames.

    Only frames that have a feature are pooled; a window without any has the outputs of an average frame. With
    attention the outputs of a clip are the weighed sum of those of its frames.
    """

    inputs: JoinFeatures
    gives_both = True

    def __init__(self, config: MilConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.level = "video"
        widths = (self.inputs.width, *config.hidden)
        self.hidden = nn.Sequential(*hidden_layers(widths, config.dropout), nn.Dropout(config.dropout))
        self.output = nn.Linear(widths[-1], sum(groups))
        self.sharpness = config.sharpness
        self.attention = _Attention(widths[-1], config.attention) if config.pool == "attention" else None

    def give_frames(self) -> bool:
        """Give the outputs of each frame instead of those of the clip."""
        self.level = "frame"
        if self.attention is not None:
            self.attention.requires_grad_(False)  # not used
        return True

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, outputs), or (batch, time, outputs) after `give_frames`."""
        states = self.hidden(self.inputs(features, masks))
        outputs: Tensor = self.output(states)
        return outputs if self.level == "frame" else self._pooled(states, outputs, masks)

    def window_and_frames(self, features: Tensors, masks: Tensors) -> tuple[Tensor, Tensor]:
        """See `Head`: the outputs that are pooled are those of the frames."""
        states = self.hidden(self.inputs(features, masks))
        outputs = self.output(states)
        return self._pooled(states, outputs, masks), outputs

    def _pooled(self, states: Tensor, outputs: Tensor, masks: Tensors) -> Tensor:
        """(batch, outputs) of (batch, time, width) and (batch, time, outputs)."""
        shown = any_mask(masks)
        counted = shown | ~shown.any(dim=1, keepdim=True)  # all frames of a window without any
        if self.attention is not None:
            weights = torch.where(counted, self.attention(states), -torch.inf).softmax(dim=1)
            return (weights[..., None] * outputs).sum(dim=1)
        return soft_maximum(outputs.float(), counted, self.sharpness)


class _Attention(nn.Module):
    """Gated attention (Ilse, Tomczak and Welling, 2018, equation 9): (batch, time, width) -> (batch, time) logits."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.weight = nn.Linear(hidden, 1, bias=False)  # a softmax would remove a bias

    def forward(self, states: Tensor) -> Tensor:
        return self.weight(torch.tanh(self.content(states)) * torch.sigmoid(self.gate(states)))[..., 0]


def soft_maximum(outputs: Tensor, counted: Tensor, sharpness: float) -> Tensor:
    """log(mean(exp(sharpness * x))) / sharpness over the frames that count (Pinheiro and Collobert, 2015).

    Args:
        outputs: (batch, time, outputs).
        counted: (batch, time) bool, True at least once in every window.

    Returns:
        (batch, outputs), between the mean and the maximum.
    """
    counts = counted.sum(dim=1, keepdim=True).to(outputs.dtype)
    if sharpness < FLAT:
        most = torch.where(counted[..., None], outputs, -torch.inf).amax(dim=1, keepdim=True)
        below = torch.where(counted[..., None], torch.expm1(sharpness * (outputs - most)), 0.0)
        return most[:, 0] + torch.log1p(below.sum(dim=1) / counts) / sharpness
    scaled = torch.where(counted[..., None], outputs * sharpness, -torch.inf)
    return (scaled.logsumexp(dim=1) - counts.log()) / sharpness
