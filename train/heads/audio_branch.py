"""The trainable audio branch of the EmotiW 2023 winner (Augusma et al.): a small CNN and one transformer block."""

from itertools import pairwise

from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.train.heads.inputs import hidden_keys, positions, width_of

WIDTH = 1024  # of every embedding
FEEDFORWARD = 2048
LEAST_SIZE = 106  # the CNN reduces anything smaller to nothing


def is_spectrogram(shape: tuple[int, ...]) -> bool:
    """True for a feature that the CNN takes: (1, bands, steps)."""
    return len(shape) == 3 and shape[0] == 1


class AudioBranch(nn.Module):
    """(batch, time, *shape) of a feature -> (batch, time, 1024).

    Spectrograms go through the CNN, any other feature through a linear map, and both through the transformer block.
    Key names are those of the published network.

    Args:
        shape: shape of one frame of the feature.
        dropout: in the transformer block.
    """

    def __init__(self, shape: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.backbone: nn.Module
        if is_spectrogram(shape):
            if min(shape[1:]) < LEAST_SIZE:
                raise UsageError(
                    f"The CNN of head 'cross-attention' needs spectrograms of {LEAST_SIZE}x{LEAST_SIZE} or more, found "
                    f"{shape[1]}x{shape[2]}. Extract the backbone spectrogram (128x128)."
                )
            self.backbone = SpectrogramCnn()
        else:
            self.backbone = nn.Linear(width_of(shape), WIDTH)
        self.encoder = TransformerBlock(dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Embed frames.

        Args:
            values: (batch, time, 1, bands, steps), or (batch, time, width) for other features.
            mask: (batch, time) bool, the frames that have the feature. Other frames are neither embedded nor attended
                to; their outputs are meaningless.
        """
        rows = self.backbone(values[mask])
        embeddings = rows.new_zeros((*mask.shape, WIDTH))
        embeddings[mask] = rows
        tokens = embeddings + positions(mask.shape[1], WIDTH, mask.device)
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
    """Pre-norm self-attention with one head, and feed-forward."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, num_heads=1, dropout=dropout, batch_first=True)
        self.ff = _FeedForward(dropout)

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """(batch, time, 1024) and (batch, time) bool, True at frames that are not attended to -> (batch, time, 1024)."""
        normed = self.norm1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, key_padding_mask=hidden, need_weights=False)[0]
        return tokens + self.ff(self.norm2(tokens))


class _FeedForward(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(WIDTH, FEEDFORWARD), nn.ReLU(), nn.Dropout(dropout), nn.Linear(FEEDFORWARD, WIDTH)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net(tokens)
