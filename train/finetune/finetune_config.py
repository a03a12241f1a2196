"""Options of a fine-tuning: those of a training, and how its encoders learn. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from abaw.train.config import TrainConfig
from abaw.train.head_options import COMMAS, Share

FRAME_BY_FRAME = ("linear", "mlp", "emma")  # heads for which the frames of a window have nothing to do with each other
MOST_IMAGES = 4_096  # in a batch that grew with the share of hidden patches
SOFT_LOSSES = ("cross-entropy", "bce")  # that take labels between those of annotations
MOST_SHOWN = 256  # in a batch of a validation
NOT_FOR_PIXELS = ("standardise", "synthetic", "missing", "min_quality", "weigh_by", "frame_labels")


class LoraOptions(BaseModel):
    """Low-rank adaptation (Hu et al., 2021) of the linear maps in attention and in the perceptrons of a transformer.

    Attributes:
        rank: of the change of each map; 0 trains the maps themselves.
        alpha: the change is multiplied by alpha / rank.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(0, ge=0, le=1_024)
    alpha: float = Field(16.0, gt=0, allow_inf_nan=False)


class FinetuneConfig(TrainConfig):
    """How encoders and their head are trained on pixels.

    For a head that looks at each frame by itself the default window is one frame.

    Attributes:
        pixels: tells a fine-tuning from a training on features.
        backbones: one for each of `features`, whose networks are trained; empty where the names are the same.
        freeze: features whose backbones stay as they are, in evaluation mode.
        unfreeze: train only the last blocks, so many; 0 trains all.
        lora: train small changes of the linear maps instead.
        copies: independent networks of the one backbone, each with a head; their outputs are averaged at evaluation.
        layer_decay: the rate of each layer below the head is that of the next, multiplied by this.
        head_rate: rate of the head, as a multiple of `lr`.
        va_rate: constant rate of the part of the head that gives valence and arousal alone; 0 trains it like the rest.
        drop_path: share of the residual branches that are left out of the last block; it grows linearly from the first.
        batchnorm: normalise by the statistics of the encoder's weights, or of the batch, in several processes the whole one.
        dan_batchnorm: the same of a frozen DAN; `train` as EMMA's authors, whose running statistics drift.
        augment: changes of the training images.
        interpolation: of resizing; empty takes the backbone's.
        mask: share of the patches of each training image that are hidden from the encoder.
        grow_batch: hide patches from so many more images that a step keeps its number of patches.
        lead: the rate of a step is that of one step later in the schedule, as in CoTEX's code, or of one epoch later, as in
            EMMA's, whose first epoch has the number 1.
        accumulate: batches whose gradients are added up before a step.
        checkpoint: compute activations again for the gradient instead of keeping them.
        chunk: images for which an encoder keeps activations at a time; 0 is all of a batch. It computes its output for so many
            after another, and again for their gradient: the loss and the gradient are those of the whole batch.
        aligned: take still images as they are, instead of aligning their faces first.
        contempt: still images that show it have no label, or that of Other.
        votes: labels of still images that several people labelled: the class with most votes, or shares of classes.
        mixup, cutmix: parameter of the beta distribution that shares of mixed images are drawn from; 0 mixes none.
    """

    pixels: Literal[True] = True
    backbones: Annotated[tuple[str, ...], COMMAS] = ()
    freeze: Annotated[tuple[str, ...], COMMAS] = ()
    unfreeze: int = Field(0, ge=0, le=256)
    lora: LoraOptions = LoraOptions()
    copies: int = Field(1, ge=1, le=16)
    layer_decay: float = Field(0.75, gt=0, le=1)
    head_rate: float = Field(1.0, gt=0, allow_inf_nan=False)
    va_rate: float = Field(0.0, ge=0, allow_inf_nan=False)
    drop_path: Share = 0.1
    batchnorm: Literal["eval", "train"] = "eval"
    dan_batchnorm: Literal["eval", "train"] = "eval"
    augment: Literal["none", "light", "randaugment", "emma", "cotex", "v-naw", "situ"] = "light"
    interpolation: Literal["", "bilinear", "bicubic"] = ""
    mask: Share = 0.0
    grow_batch: bool = True
    lead: Literal["step", "epoch"] = "step"
    accumulate: int = Field(1, ge=1, le=4_096)
    checkpoint: bool = False
    chunk: int = Field(0, ge=0, le=1_000_000)
    aligned: bool = False
    contempt: Literal["drop", "other"] = "drop"
    votes: Literal["majority", "soft"] = "majority"
    mixup: float = Field(0.0, ge=0, le=100)
    cutmix: float = Field(0.0, ge=0, le=100)

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(64, ge=1, le=1_000_000)
    lr: float = Field(1e-4, gt=0, allow_inf_nan=False)
    decay_norms: bool = False

    @model_validator(mode="after")
    def _suits_pixels(self) -> "FinetuneConfig":
        fields = type(self).model_fields
        for option in NOT_FOR_PIXELS:
            if getattr(self, option) != fields[option].default:
                raise ValueError(f"{option} is for features, not for pixels: leave it out")
        if self.backbones and len(self.backbones) != len(self.features):
            raise ValueError(
                f"backbones must be as many as features, {len(self.features)}, found {len(self.backbones)}"
            )
        if self.head.is_probe:
            raise ValueError(f"head {self.head.name} is solved on features, not trained: use head.name=linear")
        if extra := [view for view in self.views if view not in ("", "hflip")]:
            raise ValueError(f"views of pixels are the images and hflip, found {extra[0]!r}")
        if self.co_train:
            raise ValueError("co_train is for features: with pixels use copies=N, which has N encoders, too")
        if unknown := [name for name in self.freeze if name not in self.features]:
            raise ValueError(f"freeze names features of the training, {', '.join(self.features)}; found {unknown[0]}")
        if set(self.freeze) == set(self.features):
            raise ValueError("freeze leaves nothing to fine-tune: use `abaw extract` and `abaw train`")
        if self.copies > 1 and len(self.features) > 1:
            raise ValueError(f"copies are of one backbone, found {len(self.features)}")
        if self.copies > 1 and self.views:
            raise ValueError("copies and views cannot be combined: leave out one of them")
        if self.unfreeze and self.lora.rank:
            raise ValueError("unfreeze and lora.rank are two ways to train less of a network: leave out one of them")
        return self

    @model_validator(mode="after")
    def _suits_soft_labels(self) -> "FinetuneConfig":
        mixes = bool(self.mixup or self.cutmix)
        names = [name for name in ("mixup", "cutmix") if getattr(self, name)] + ["votes=soft"] * (self.votes == "soft")
        if names and self.loss.name not in SOFT_LOSSES:
            raise ValueError(f"{names[0]} needs loss {' or '.join(SOFT_LOSSES)}, found {self.loss.name}")
        if self.votes == "soft" and self.own_task.kind != "classes":
            raise ValueError(f"votes=soft is for tasks of classes, not for {self.own_task.name}")
        if mixes and self.chunk:
            raise ValueError(f"{names[0]} mixes the images of a whole batch, and chunk divides it: leave out chunk")
        if mixes and (self.length != 1 or self.views):
            raise ValueError(f"{names[0]} mixes single images: use window=1 and a head of frames, and no views")
        return self

    def encoder_file(self, folder: Path, feature: str, copy: int = 0) -> Path:
        """The weights of a fine-tuned encoder in a run's folder, in the layout of its public checkpoint.

        Args:
            copy: number of the copy, from 0.
        """
        several = self.copies > 1 or len(set(self.features) - set(self.freeze)) > 1
        name = f"-{feature}" if several else ""
        return folder / f"encoder{name}{f'-{copy + 1}' if self.copies > 1 else ''}.safetensors"

    @property
    def n_branches(self) -> int:
        """Outputs that the loss compares: of copies, or of views."""
        return self.copies if self.copies > 1 else len(self.views)

    @property
    def is_of_pixels(self) -> bool:
        """True: images are its inputs."""
        return True

    def training_features(self) -> tuple[str, ...]:
        """Names of the features; their views are made of the images."""
        return self.features

    def backbone_of(self) -> dict[str, str]:
        """The backbone of each feature."""
        return dict(zip(self.features, self.backbones or self.features, strict=True))

    @property
    def length(self) -> int:
        """Length of a window in frames."""
        return self.window or (1 if self.head.name in FRAME_BY_FRAME else super().length)

    @property
    def pass_windows(self) -> int:
        """Windows in a batch, which grows with the share of hidden patches, as in CoTEX."""
        if not (self.mask and self.grow_batch):
            return self.batch_size
        return min(self.batch_size * int(1 / (1 - self.mask)), max(MOST_IMAGES, self.batch_size))

    @property
    def step_windows(self) -> int:
        """Windows of the batches whose gradients are added up for a step."""
        return self.pass_windows * self.accumulate

    @property
    def shown_images(self) -> int:
        """Images in a batch of a validation, so many that it takes less memory than a step."""
        n_images = self.pass_windows * self.length
        return min(MOST_SHOWN, n_images if self.checkpoint else 4 * n_images)
