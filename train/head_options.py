"""Options of the heads. Imports no torch: configs are also read where nothing is computed."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from abaw.train.options import Options, Registry

MAX_WIDTH, MAX_LAYERS = 65_536, 256  # far beyond anything published: larger numbers are mistakes


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value else []
    return value


COMMAS = BeforeValidator(_split)  # for lists: `a,b` on the command line, a list in a file
EMPTY = BeforeValidator(lambda value: None if value == "" else value)
Share = Annotated[float, Field(ge=0, lt=1)]  # of the values that dropout or a mask hides
# empty, or None, stands for the value of another option, or for none
OwnShare = Annotated[float | None, Field(ge=0, lt=1), EMPTY]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
Widths = Annotated[tuple[Width, ...], COMMAS]
Frames = Literal["middle", "all"]


def check_heads(dim: int, heads: int) -> None:
    """Raise a ValueError if attention heads cannot share a width equally."""
    if dim % heads:
        raise ValueError(f"head.dim ({dim}) must be a multiple of head.heads ({heads})")


class HeadConfig(Options):
    """Base class for options of heads.

    The callable takes the options, the shapes of the features and the sizes of the groups of outputs, as
    `abaw.train.heads.create_head` does.

    Attributes:
        is_probe: solved by scikit-learn rather than trained.
        looks_ahead: the output of a frame depends on later ones, whatever the options are.
    """

    is_probe: ClassVar[bool] = False
    looks_ahead: ClassVar[bool] = True

    @property
    def is_causal(self) -> bool:
        """True if the output of a frame depends on no later frame."""
        return not self.looks_ahead


HEADS = Registry("abaw.heads", HeadConfig)
AnyHeadConfig = Annotated[HeadConfig, HEADS]


class TransformerConfig(HeadConfig):
    """Options of the transformer head.

    Attributes:
        dim: width of the encoder, a multiple of `heads`.
        layers: of the encoder.
        heads: attention heads of a layer.
        feedforward: width of the hidden layer in each.
        dropout: inside the encoder and, unless `input_dropout` says otherwise, on its input.
        input_dropout: on the input of the encoder; by default `dropout`.
        positions: tell the encoder the order of the frames, by sines and cosines.
        mask_ratio: share of the frames that are hidden in training, drawn for every window.
        mask_token: what replaces a hidden or missing frame: one learned vector, or zeros.
    """

    built_by = "abaw.train.heads.transformer:TransformerHead"
    summary = "A transformer encoder over time, with randomly hidden frames"

    name: Literal["transformer"] = "transformer"
    dim: int = Field(128, ge=2, le=MAX_WIDTH, multiple_of=2)
    layers: Layers = 2
    heads: int = Field(4, ge=1)
    feedforward: Width = 256
    dropout: Share = 0.2
    input_dropout: OwnShare = None
    positions: bool = True
    mask_ratio: Share = 0.3
    mask_token: Literal["learned", "zero"] = "learned"

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "TransformerConfig":
        check_heads(self.dim, self.heads)
        return self


class LinearConfig(HeadConfig):
    """Options of the linear head.

    Attributes:
        dropout: on the input.
        std: standard deviation of its first weights, which are a truncated normal, without a bias; 0 takes PyTorch's rule.
    """

    built_by = "abaw.train.heads.linear:LinearHead"
    summary = "A linear map, frame by frame"
    looks_ahead = False

    name: Literal["linear"] = "linear"
    dropout: Share = 0.0
    std: float = Field(0.0, ge=0, le=1)


class MlpConfig(HeadConfig):
    """Options of the multilayer perceptron.

    Attributes:
        hidden: widths of the hidden layers.
        dropout: on the input of each layer.
    """

    built_by = "abaw.train.heads.mlp:MlpHead"
    summary = "Linear maps with ReLU between them, frame by frame"
    looks_ahead = False

    name: Literal["mlp"] = "mlp"
    hidden: Widths = Field((256,), min_length=1)
    dropout: Share = 0.3


class GruConfig(HeadConfig):
    """Options of the recurrent head.

    Attributes:
        dim: width of the input, and of the state in each direction.
        layers: bidirectional layers.
        dropout: on the input of each layer and before the output.
    """

    built_by = "abaw.train.heads.gru:GruHead"
    summary = "Gated recurrent units in both directions of time"

    name: Literal["gru"] = "gru"
    dim: Width = 128
    layers: Layers = 2
    dropout: Share = 0.3


class TcnConfig(HeadConfig):
    """Options of the convolutional head.

    Attributes:
        kernel: frames in a convolution, odd.
        layers: convolutions; layer i (from 0) takes every 2^i-th frame, so that an output sees
            (kernel - 1) (2^layers - 1) / 2 frames to either side.
        dim: channels.
        dropout: in each layer.
    """

    built_by = "abaw.train.heads.tcn:TcnHead"
    summary = "Residual convolutions over time with growing dilation"

    name: Literal["tcn"] = "tcn"
    kernel: int = Field(3, ge=3, le=MAX_WIDTH)
    layers: int = Field(5, ge=1, le=16)
    dim: Width = 128
    dropout: Share = 0.3

    @field_validator("kernel")
    @classmethod
    def _kernel_has_a_middle(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("must be odd, so that it has a middle")
        return kernel


class EmmaHeadConfig(HeadConfig):
    """Options of EMMA's heads.

    Attributes:
        vit: feature with the class token of an MAE ViT.
        dan: feature with DAN's logits.
        vit_hidden: width of the hidden layer between the class token and the expression and action unit logits.
        va_hidden: width of the hidden layer between all logits and valence and arousal.
    """

    built_by = "abaw.train.heads.emma_head:EmmaHead"
    summary = "Expressions and action units from a ViT, valence and arousal from these and from DAN (EMMA, 2022)"
    looks_ahead = False

    name: Literal["emma"] = "emma"
    vit: str = Field("mae-cls", min_length=1)
    dan: str = Field("dan", min_length=1)
    vit_hidden: Width = 512
    va_hidden: Width = 256


class CrossAttentionConfig(HeadConfig):
    """Options of the fusion of sound and scene.

    The published variants have windows of 75 frames in 5 segments: 5 (`middle`) or 75 (`all`) frames of each kind.

    Attributes:
        audio: name of the sound feature; all others are the scene. Empty for no sound.
        segments: time steps that sound and scene are reduced to.
        audio_frames, video_frames: frames of a segment that each branch takes: the middle one, or all, whose
            embeddings are averaged.
        attend: what the cross-attention is between: segments, or the frames that both branches take, whose results are
            averaged in segments after it (75 / 75 frames as published, with `audio_frames=all`).
        pool: mean of the segments, or their concatenation.
        dim: width of every embedding, even and a multiple of `heads`.
        heads: attention heads, of both attentions.
        feedforward: width of the hidden layer in the audio branch.
        dropout: everywhere that the next three do not say otherwise.
        feedforward_dropout: in the hidden layer of the audio branch; .5 as published.
        audio_dropout: in the self-attention of the audio branch; .2 as published.
        cross_dropout: in the cross-attention; .1 as published.
        norm_eps: added to the variance in the layer normalisations of the audio branch; 1e-6 as published.
    """

    built_by = "abaw.train.heads.cross_attention:CrossAttentionHead"
    summary = "Sound attends to the scene; one output for the whole video (EmotiW 2023)"

    name: Literal["cross-attention"] = "cross-attention"
    audio: str = "spectrogram"
    segments: int = Field(5, ge=1, le=MAX_WIDTH)
    audio_frames: Frames = "middle"
    video_frames: Frames = "all"
    attend: Literal["segments", "frames"] = "segments"
    pool: Literal["mean", "flatten"] = "mean"
    dim: int = Field(1024, ge=2, le=MAX_WIDTH, multiple_of=2)
    heads: int = Field(1, ge=1)
    feedforward: Width = 2048
    dropout: Share = 0.1
    feedforward_dropout: OwnShare = None
    audio_dropout: OwnShare = None
    cross_dropout: OwnShare = None
    norm_eps: float = Field(1e-5, gt=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "CrossAttentionConfig":
        check_heads(self.dim, self.heads)
        return self

    def dropout_of(self, share: float | None) -> float:
        """One of the three shares, or `dropout` if it is None."""
        return self.dropout if share is None else share


class ProbeConfig(HeadConfig):
    """Base class for options of probes.

    Attributes:
        n_rows: maximum number of labelled frames to fit on, drawn at random.
    """

    built_by = "abaw.train.heads.linear:ProbeHead"
    is_probe = True
    looks_ahead = False

    n_rows: int = Field(200_000, ge=1)


class RidgeConfig(ProbeConfig):
    """Options of ridge regression, for valence and arousal.

    Attributes:
        alpha: strength of the penalty on the squared weights, as a multiple of the number of rows.
    """

    summary = "Ridge regression on single frames: an honest first number within minutes"
    kinds = ("regression",)

    name: Literal["ridge"] = "ridge"
    alpha: float = Field(0.01, gt=0, allow_inf_nan=False)


class LogisticConfig(ProbeConfig):
    """Options of logistic regression, for classes and action units.

    Attributes:
        inverse_penalty: scikit-learn's `C` for the mean loss per row; larger means less regularisation.
        balanced: weigh classes by their inverse frequency.
        n_iterations: maximum number of L-BFGS iterations.
    """

    summary = "Logistic regression on single frames: an honest first number within minutes"
    kinds = ("classes", "binary")

    name: Literal["logistic"] = "logistic"
    inverse_penalty: float = Field(100.0, gt=0, allow_inf_nan=False)
    balanced: bool = True
    n_iterations: int = Field(300, ge=1)
