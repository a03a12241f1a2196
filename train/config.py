"""Options of a training run: one frozen, validated record that is saved with the run."""

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abaw.errors import UsageError
from abaw.train.heads import HEADS, HeadConfig, TransformerConfig


class TrainConfig(BaseModel):
    """How a head is trained.

    Attributes:
        task: what to predict.
        features: names of the features that are joined.
        head: the head's name and options.
        loss: of `abaw.train.losses`; empty takes the task's default.
        class_weights: weigh the classes of the cross-entropy by their inverse frequency in the training labels.
        missing: mask frames without a feature, or fill them from the nearest frame that has it.
        window, stride: length of a window and distance between windows, in frames; stride 0 takes half a window.
        epochs: passes over the training videos.
        batch_size: windows in a batch.
        lr, weight_decay: of AdamW; the rate warms up over `warmup` of all steps, then falls to 0 along a cosine.
        clip_norm: largest norm of the gradient.
        patience: epochs without a better validation score after which training stops.
        seed: of the initial weights, the windows and the masks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    features: tuple[str, ...] = Field(min_length=1)
    head: HeadConfig = TransformerConfig()
    loss: str = ""
    class_weights: bool = False
    missing: Literal["mask", "nearest"] = "mask"
    window: int = Field(100, ge=1)
    stride: int = Field(0, ge=0)
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(16, ge=1)
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(0.05, ge=0, allow_inf_nan=False)
    warmup: float = Field(0.1, ge=0, lt=1)
    clip_norm: float = Field(1.0, gt=0)
    patience: int = Field(10, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)

    @property
    def step(self) -> int:
        """Distance between windows in frames."""
        return self.stride or max(1, self.window // 2)


def make_config(values: Mapping[str, Any], settings: Iterable[str] = ()) -> TrainConfig:
    """A config from values, with `key=value` settings on top; `head.dim=64` reaches into the head.

    Raises:
        UsageError: an unknown key (the message names near ones) or a value that does not fit.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(values))
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set wants key=value, found {setting!r}.")
        _place(merged, key.strip().split("."), value.strip(), setting)
    if isinstance(merged.get("head"), dict):
        merged["head"].setdefault("name", TransformerConfig().name)
    try:
        return TrainConfig.model_validate(merged)
    except ValidationError as error:
        raise UsageError(_explain(error)) from None


def _place(values: dict[str, Any], keys: list[str], value: str, setting: str) -> None:
    inner = values
    for key in keys[:-1]:
        below = inner.setdefault(key, {})
        if not isinstance(below, dict):
            raise UsageError(f"--set {setting}: {key} has no options of its own.")
        inner = below
    inner[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    """The first problem as a sentence."""
    first = error.errors()[0]
    # pydantic puts the tag of the chosen head into the location; users write head.dim
    loc = [str(key) for key in first["loc"]]
    keys = [key for place, key in enumerate(loc) if not (place == 1 and loc[0] == "head" and key in HEADS)]
    place, head = ".".join(keys), loc[1] if loc[0] == "head" and len(loc) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"Unknown option {place!r}. {_near(place, head)}"
    if first["type"] == "union_tag_invalid":
        return f"Unknown head {first['ctx']['tag']!r}. Choose one of: {', '.join(HEADS)}."
    if place == "head" and not isinstance(first["input"], dict):
        return f"head: say which with head.name=..., one of: {', '.join(HEADS)}; found {first['input']!r}."
    message = first["msg"].removeprefix("Value error, ")
    return f"{place + ': ' if place else ''}{message}, found {first['input']!r}." if place != "head" else f"{message}."


def _near(place: str, head: str) -> str:
    """The known options most like an unknown one, of the chosen head if it is one of `head.`."""
    known = [f"head.{field}" for field in HEADS[head][0].model_fields] if head else list(TrainConfig.model_fields)
    near = difflib.get_close_matches(place, known, n=3)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known are: {', '.join(sorted(known))}."
