"""Long short-term memory over the frames of a window, alone or behind a transformer encoder (Situ-RUCAIM3, 2022)."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from abaw.train.heads.encoder_head import EncoderHead
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask, shown_first
from abaw.train.heads.mlp import hidden_layers
from abaw.train.heads.recurrent import read_first
from abaw.train.sequence_options import RecurrentConfig, TransformerLstmConfig


class LstmHead(Head):
    """Linear layers with ReLU if there are any, an LSTM in one or both directions, linear output.

    The network reads only the frames that have a feature, one after another; a frame without any gets the outputs of
    the frame read before it, or of the first one.
    """

    inputs: JoinFeatures

    def __init__(self, config: RecurrentConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        widths = (self.inputs.width, *config.hidden)
        self.layers = nn.Sequential(*hidden_layers(widths, config.dropout), nn.Dropout(config.dropout))
        between = config.dropout if config.layers > 1 else 0.0  # torch warns about dropout with a single layer
        n_directions = 2 if config.name == "bilstm" else 1
        self.lstm = nn.LSTM(
            widths[-1], config.dim, config.layers, batch_first=True, dropout=between, bidirectional=n_directions == 2
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(n_directions * config.dim, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        tokens = self.layers(self.inputs(features, masks))
        return self.output(self.dropout(read_shown(self.lstm, tokens, any_mask(masks))))


class TransformerLstmHead(EncoderHead):
    """The encoder head, with an LSTM that reads what the encoder makes of the frames that have a feature."""

    def __init__(
        self, config: TransformerLstmConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]
    ) -> None:
        super().__init__(config, shapes, groups)
        dim, between = config.convs[-1], config.dropout if config.lstm_layers > 1 else 0.0
        self.lstm = nn.LSTM(dim, dim, config.lstm_layers, batch_first=True, dropout=between)

    def encode(self, features: Tensors, masks: Tensors, shown: Tensor) -> Tensor:
        """(batch, time, last of convs): the states of the LSTM."""
        return read_shown(self.lstm, super().encode(features, masks, shown), shown)


def read_shown(lstm: nn.LSTM, tokens: Tensor, shown: Tensor) -> Tensor:
    """States of an LSTM that reads the shown frames of each window as if they followed one another.

    Args:
        tokens: (batch, time, width); finite.
        shown: (batch, time) bool. A window without any is read at its first frame.

    Returns:
        (batch, time, states). Other frames have the states of the shown one before them, or of the first one.
    """
    order = shown_first(shown)
    counts = shown.sum(dim=1).clamp(min=1)
    read = tokens.gather(1, order[..., None].expand_as(tokens))
    states = read_first(lstm, read, counts)
    number = (shown.cumsum(dim=1) - 1).clamp(min=0)  # of the frame read last
    return states.gather(1, number[..., None].expand_as(states))
