"""The spec of a backbone: data that determines a feature. Loads no torch."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from abaw.core.records import FLOAT32, GIVEN, VERSION, Record, fingerprint_of

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
UNTRAINED = "untrained"  # weights of a network that was requested with --untrained


Option = str | int | float | bool | None


@dataclass(frozen=True)
class ImageInput:
    """How a uint8 RGB face crop becomes a network's input: resized, scaled to [0, 1], normalised.

    Attributes:
        size: side in pixels, or (height, width) if the input is not square.
        mean, std: per channel R, G, B, on the [0, 1] scale.
        interpolation: of resizing, always antialiased.
        crop: "resize" resizes the whole crop to `size`. The others are rules of timm, which cut `size` out of the middle
            of a crop that was resized first: with "center" its shorter side to `size / crop_pct`, with "border" its
            longer side, with a border around the crop, and with "squash" both sides.
        crop_pct: part of the resized crop that is kept; unused by "resize".
    """

    size: int | tuple[int, int]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    crop: Literal["resize", "center", "border", "squash"] = "resize"
    crop_pct: float = 1.0

    @property
    def height_width(self) -> tuple[int, int]:
        """Both sides of the input in pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def record(self) -> dict[str, Any]:
        """Its part of the record of a feature; `crop` is left out if the whole crop is resized."""
        height, width = self.height_width
        record: dict[str, Any] = {
            "size": height if height == width else [height, width],
            "mean": [float(value) for value in self.mean],
            "std": [float(value) for value in self.std],
            "interpolation": self.interpolation,
        }
        if self.crop != "resize":
            record["crop"] = self.crop
            if self.crop_pct != 1:
                record["crop_pct"] = self.crop_pct
        return record


@dataclass(frozen=True)
class BackboneSpec:
    """Everything that determines a feature, apart from the values of the weights.

    Attributes:
        name: `family-output`, or the family alone for its main output.
        family: name that all backbones of one network and one forward pass share.
        output: of the network.
        modality: frames ("vision"), sound ("audio") or transcripts ("text").
        shape: shape of the feature of one frame.
        architecture: name of the published network.
        weights: their origin: "none" (a network without weights), "shipped" (with the package), "timm" (downloaded by
            timm), "file" (only from a file), "untrained".
        image: preprocessing of a frame; None for sound and text.
        classes: names of the values in order, for class scores.
        parameters: number of weights.
        licence: what to know before using the public weights.
        rate_hz: native frames per second of an encoder of sound; 0 if it gives one for each frame of the video.
        dtype: of stored values; a video whose values exceed float16 is always float32.
        network: short stable identifier of the network, such as "iresnet100"; it is part of fingerprints and never
            changes. "" stands for the family.
        options: whatever else changes the values, by name: pooling, window_s, layer, number of classes. Defaults are
            left out, so that later options change no fingerprint.
    """

    name: str
    family: str
    output: str
    modality: Literal["vision", "audio", "text"]
    shape: tuple[int, ...]
    architecture: str
    weights: str
    image: ImageInput | None = None
    classes: tuple[str, ...] = ()
    parameters: int = 0
    licence: str = ""
    rate_hz: float = 0.0
    dtype: Literal["float16", "float32"] = "float16"
    network: str = ""
    options: tuple[tuple[str, str | int | float | bool], ...] = ()

    def option(self, name: str, default: Option) -> Option:
        """The value of an option; `default` if it is left out."""
        return dict(self.options).get(name, default)

    def with_options(self, **values: Option) -> "BackboneSpec":
        """This spec with some options set; None removes one."""
        options = {**dict(self.options), **values}
        return replace(self, options=tuple(sorted((k, v) for k, v in options.items() if v is not None)))

    def record(
        self,
        weights_sha256: str | None,
        view: str = "",
        precision: str = FLOAT32,
        alignment: str = GIVEN,
        compiled: bool = False,
    ) -> Record:
        """Everything that a feature's values depend on, and nothing else; see `abaw.core.records`.

        Args:
            weights_sha256: of the weights; None for random weights or none.
            view: of the frames.
            precision: of the network.
            alignment: of the crops.
            compiled: whether the network was compiled. That counts in bfloat16 alone, where compiled networks round less
                often; in float32 it changes values no more than another device does.
        """
        record: Record = {"version": VERSION, "network": self.network or self.family, "output": self.output}
        if self.options:
            record["options"] = {name: _plain(value) for name, value in self.options}
        if self.image is not None:
            record["image"] = self.image.record()
        weights = UNTRAINED if self.weights == UNTRAINED else weights_sha256
        settings = {
            "alignment": alignment,
            "view": view,
            "precision": precision,
            "compiled": compiled and precision != FLOAT32,
            "weights": weights,
        }
        defaults = {"precision": FLOAT32}
        return record | {key: value for key, value in settings.items() if value and value != defaults.get(key)}

    def fingerprint(
        self,
        weights_sha256: str | None,
        view: str = "",
        precision: str = FLOAT32,
        alignment: str = GIVEN,
        compiled: bool = False,
    ) -> str:
        """sha256 over the record: equal if and only if features are comparable."""
        return fingerprint_of(self.record(weights_sha256, view, precision, alignment, compiled))


def _plain(value: object) -> object:
    """4 for 4.0, which is the same option."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
