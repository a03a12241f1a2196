"""What fixes a feature: the spec of a backbone, which is data alone and loads no torch."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


Option = str | int | float | bool | None


@dataclass(frozen=True)
class ImageInput:
    """How a uint8 RGB face crop becomes a network's input: resized to a square, scaled to [0, 1], normalised.

    Attributes:
        size: side in pixels.
        mean, std: per channel R, G, B, on the [0, 1] scale.
        interpolation: how it is resized, always antialiased.
        crop: the whole crop is resized ("resize"), or its shorter side is resized to `size / crop_pct` and the middle
            cut out ("center"), as timm does.
        crop_pct: how much of the resized crop the middle is; counts for "center" alone.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    crop: Literal["resize", "center"] = "resize"
    crop_pct: float = 1.0
    channels: ClassVar[str] = "RGB"

    @property
    def value_range(self) -> tuple[float, float]:
        """The least and the greatest value of the model input, over all channels."""
        low = min(-mean / std for mean, std in zip(self.mean, self.std, strict=True))
        high = max((1 - mean) / std for mean, std in zip(self.mean, self.std, strict=True))
        return low, high


@dataclass(frozen=True)
class BackboneSpec:
    """Everything that fixes a feature, apart from the values of the weights.

    Attributes:
        name: `family-output`, or the family alone for its main output.
        family: what shares one network and one forward pass.
        output: which of the network's outputs this is.
        modality: frames ("vision") or sound ("audio").
        shape: shape of the feature of one frame.
        architecture: the published network, as its authors or timm call it.
        weights: where the weights come from: "none" (it has none), "timm" (downloaded by timm), "file" (only from a
            file), "untrained".
        image: preprocessing of a frame; None for sound.
        classes: names of the outputs in order, where the feature is made of class scores.
        parameters: number of weights.
        licence: what to know before using the public weights.
        variant: form of the architecture that the weights file asked for, such as "7-class"; "" is the usual one.
        rate_hz: native frames a second of an encoder of sound; 0 where one is made for each frame of the video.
        dtype: how values are stored; a video whose values exceed float16 is float32 in any case.
        network: short stable identifier of the network, such as "iresnet100"; it goes into fingerprints and is never
            changed later. "" takes the family.
        options: by name, what else changes the numbers: pooling, window_s, layer, number of classes. Defaults are left
            out, so that options that come later change no fingerprint.
    """

    name: str
    family: str
    output: str
    modality: Literal["vision", "audio"]
    shape: tuple[int, ...]
    architecture: str
    weights: str
    image: ImageInput | None = None
    classes: tuple[str, ...] = ()
    parameters: int = 0
    licence: str = ""
    variant: str = ""
    rate_hz: float = 0.0
    dtype: Literal["float16", "float32"] = "float16"
    network: str = ""
    options: tuple[tuple[str, str | int | float | bool], ...] = ()

    def option(self, name: str, default: Option) -> Option:
        """The value of an option; `default` where it is left out."""
        return dict(self.options).get(name, default)

    def with_options(self, **values: Option) -> "BackboneSpec":
        """The same with some options set; None leaves one out."""
        options = {**dict(self.options), **values}
        kept = tuple(sorted((name, value) for name, value in options.items() if value is not None))
        return replace(self, options=kept)

    def fingerprint(self, weights_sha256: str | None, view: str = "") -> str:
        """sha256 over the spec, the weights and the view: equal if and only if features are comparable."""
        fixed = {key: value for key, value in asdict(self).items() if key not in ("parameters", "licence", "dtype")}
        if not self.rate_hz:  # features of before it was there keep their fingerprint
            del fixed["rate_hz"]
        for key in ("network", "options"):
            if not fixed[key]:
                del fixed[key]
        if fixed["image"] and self.image and self.image.crop == "resize":
            for key in ("crop", "crop_pct"):
                del fixed["image"][key]
        text = json.dumps({"spec": fixed, "weights": weights_sha256, "view": view}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
