"""Options of the heads with a post-norm encoder, an LSTM, or both. Imports no torch, as `abaw.train.head_options`."""

from typing import Literal

from pydantic import Field, model_validator

from abaw.train.head_options import MAX_WIDTH, HeadConfig, Layers, OwnShare, Share, Width, Widths


class PostNormConfig(HeadConfig):
    """Base class for options of heads with a post-norm encoder; the defaults follow Situ-RUCAIM3, except
    `output_hidden`, `positions` and `input_dropout`, which are 256, false and 0 there.

    Attributes:
        convs: widths of the 1x1 convolutions; the last one is the encoder's.
        layers: of the encoder.
        heads: attention heads of a layer.
        feedforward: width of the hidden layer in each.
        dropout: inside the encoder and, unless `input_dropout` says otherwise, on its input.
        input_dropout: on the input of the encoder; by default `dropout`.
        positions: tell the encoder the order of the frames, by sines and cosines. Without them it sees a set of frames.
        output_hidden: width of the hidden layer, with batch normalisation, that each group of outputs has at the end;
            0 for a linear output.
    """

    convs: Widths = Field((1024, 512), min_length=1)
    layers: Layers = 4
    heads: int = Field(4, ge=1)
    feedforward: Width = 512
    dropout: Share = 0.3
    input_dropout: OwnShare = None
    positions: bool = True
    output_hidden: int = Field(0, ge=0, le=MAX_WIDTH)

    @model_validator(mode="after")
    def _width_fits(self) -> "PostNormConfig":
        width = self.convs[-1]
        if width % 2 or width % self.heads:
            raise ValueError(
                f"the last of head.convs ({width}) must be even and a multiple of head.heads ({self.heads})"
            )
        return self


class EncoderConfig(PostNormConfig):
    """Options of the encoder head. V-NAW has convs 512, heads 1 and dropout 0.6, no positions and no input dropout."""

    built_by = "abaw.train.heads.encoder_head:EncoderHead"
    summary = "1x1 convolutions and a post-norm transformer encoder over time (Situ-RUCAIM3, 2022)"

    name: Literal["encoder"] = "encoder"


class TransformerLstmConfig(PostNormConfig):
    """Options of the encoder with an LSTM behind it, a model of Situ-RUCAIM3's ensemble.

    Attributes:
        lstm_layers: LSTM layers, as wide as the encoder.
    """

    built_by = "abaw.train.heads.lstm:TransformerLstmHead"
    summary = "The encoder head with an LSTM between encoder and output (Situ-RUCAIM3, 2022)"

    name: Literal["transformer-lstm"] = "transformer-lstm"
    lstm_layers: Layers = 1


class RecurrentConfig(HeadConfig):
    """Base class for options of heads with an LSTM.

    Attributes:
        hidden: widths of linear layers with ReLU before the LSTM; empty for none.
        dim: width of the LSTM's state in each direction.
        layers: of the LSTM.
        dropout: on the input of each layer and before the output.
    """

    built_by = "abaw.train.heads.lstm:LstmHead"

    hidden: Widths = ()
    dim: Width = 256
    layers: Layers = 1
    dropout: Share = 0.3


class LstmConfig(RecurrentConfig):
    """Options of the LSTM head."""

    summary = "Long short-term memory, forwards in time; with head.hidden after linear layers (Situ-RUCAIM3, 2022)"
    looks_ahead = False  # but frames before the first one that has a feature get its outputs

    name: Literal["lstm"] = "lstm"


class BilstmConfig(RecurrentConfig):
    """Options of the LSTM head that reads in both directions."""

    summary = "Long short-term memory in both directions of time"

    name: Literal["bilstm"] = "bilstm"


class MambaConfig(HeadConfig):
    """Options of the selective state space head; the defaults inside a layer are those of Mamba.

    Attributes:
        dim: width of the layers.
        layers: each with a residual around it.
        states: of each channel.
        kernel: frames in the convolution before the scan: this frame and those before it.
        expand: channels of a layer, as a multiple of `dim`.
        bidirectional: a second scan in each layer, from the last frame to the first.
        dropout: on the input, after each layer and before the output.
    """

    built_by = "abaw.train.heads.mamba:MambaHead"
    summary = "Selective state spaces (Mamba; Gu and Dao, 2023), forwards in time or in both directions"

    name: Literal["mamba"] = "mamba"
    dim: Width = 128
    layers: Layers = 2
    states: int = Field(16, ge=1, le=1024)
    kernel: int = Field(4, ge=1, le=1024)
    expand: int = Field(2, ge=1, le=64)
    bidirectional: bool = False
    dropout: Share = 0.2

    @property
    def is_causal(self) -> bool:
        """True for a single direction."""
        return not self.bidirectional


class MilConfig(HeadConfig):
    """Options of multiple-instance learning: labels of clips from outputs of frames.

    For a task of frames the head gives the outputs of each frame. A run that begins with these weights (`--init`) and
    has labels of clips trains frames and pooling further; `frame_labels` of a training takes both together.

    Attributes:
        hidden: widths of the hidden layers, frame by frame.
        dropout: on the input of each layer.
        pool: weights of the frames by gated attention (Ilse et al., 2018), or the soft maximum of each output,
            log(mean(exp(sharpness * x))) / sharpness.
        attention: width of the hidden layer in the attention.
        sharpness: of the soft maximum: towards 0 it is the mean of the frames, for large numbers their maximum.
    """

    built_by = "abaw.train.heads.mil:MilHead"
    summary = "Frames as instances of a clip: attention (Ilse et al., 2018) or a soft maximum over their outputs"

    name: Literal["mil"] = "mil"
    hidden: Widths = Field((256,), min_length=1)
    dropout: Share = 0.3
    pool: Literal["attention", "log-sum-exp"] = "attention"
    attention: Width = 64
    sharpness: float = Field(4.0, gt=0, le=1e4)
