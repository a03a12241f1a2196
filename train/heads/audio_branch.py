"""The trainable audio branch of the EmotiW 2023 winner (Augusma et al.): a small CNN and one transformer block."""

from itertools import pairwise

from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.train.head_options import CrossAttentionConfig
from abaw.train.heads.inputs import hidden_keys, positions, width_of

CNN_WIDTH = 1024
LEAST_SIZE = 106  # the CNN reduces anything smaller to nothing


def is_spectrogram(shape: tuple[int, ...]) -> bool:
    """True for a feature that the CNN takes: (1, bands, steps)."""
    return len(shape) == 3 and shape[0] == 1


class AudioBranch(nn.Module):
    """(batch, time, *shape) of a feature -> (batch, time, config.dim).

    Spectrograms go through the CNN, any other feature through a linear map, and both through the transformer block.
    Key names are those of the published network. The CNN's embeddings are 1024 wide, and projected to any other width.

    Args:
        shape: shape of one frame of the feature.
    """

    def __init__(self, shape: tuple[int, ...], config: CrossAttentionConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.backbone: nn.Module
        if is_spectrogram(shape):
            if min(shape[1:]) < LEAST_SIZE:
                raise UsageError(
                    f"The CNN of head 'cross-attention' needs spectrograms of {LEAST_SIZE}x{LEAST_SIZE} or more, found "
                    f"{shape[1]}x{shape[2]}. Extract the backbone spectrogram (128x128)."
                )
            self.backbone = SpectrogramCnn()
            if self.dim != CNN_WIDTH:
                self.backbone = nn.Sequential(self.backbone, nn.Linear(CNN_WIDTH, self.dim))
        else:
            self.backbone = nn.Linear(width_of(shape), self.dim)
        self.encoder = TransformerBlock(config)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Embed frames.

        Args:
            values: (batch, time, 1, bands, steps), or (batch, time, width) for other features.
            mask: (batch, time) bool, the frames that have the feature. Other frames are neither embedded nor attended
                to; their outputs are meaningless.
        """
        rows = self.backbone(values[mask])
        embeddings = rows.new_zeros((*mask.shape, self.dim))
        embeddings[mask] = rows
        tokens = embeddings + positions(mask.shape[1], self.dim, mask.device)
        return self.encoder(tokens, hidden_keys(mask))


class SpectrogramCnn(nn.Module):
    """(n, 1, bands, steps) -> (n, 1024): four blocks of three unpadded 3x3 convolutions and a pooling by two."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn1 = _convolutions(1, 32, 64, 64)
        self.cnn2 = _convolutions(64, 128, 128, 128)
        self.cnn3 = _convolutions(128, 256, 256, 256)
        self.cnn4 = _convolutions(256, 512, 512, 512)
        self.pool = nn.AdaptiveAvgPool2d((1, 2))

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Embed spectrograms."""
        maps = self.cnn4(self.cnn3(self.cnn2(self.cnn1(spectrograms))))
        return self.pool(maps).flatten(1)


def _convolutions(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Conv2d(width_in, width_out, kernel_size=3), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention, with one head as published, and feed-forward."""

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        dim, dropout = config.dim, config.dropout_of(config.audio_dropout)
        self.norm1, self.norm2 = (nn.LayerNorm(dim, config.norm_eps) for _ in range(2))
        self.attn = nn.MultiheadAttention(dim, config.heads, dropout, batch_first=True)
        self.ff = _FeedForward(dim, config.feedforward, config.dropout_of(config.feedforward_dropout))

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """(batch, time, dim) and (batch, time) bool, True at frames that are not attended to -> (batch, time, dim)."""
        normed = self.norm1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, key_padding_mask=hidden, need_weights=False)[0]
        return tokens + self.ff(self.norm2(tokens))


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net(tokens)
