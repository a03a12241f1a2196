"""What fixes a feature: the spec of a backbone, which is data alone and loads no torch."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from abaw.core.records import FLOAT32, GIVEN, VERSION, Record, fingerprint_of

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
UNTRAINED = "untrained"  # the weights of a network that was asked for with --untrained


Option = str | int | float | bool | None


@dataclass(frozen=True)
class ImageInput:
    """How a uint8 RGB face crop becomes a network's input: resized, scaled to [0, 1], normalised.

    Attributes:
        size: side in pixels, or (height, width) where the input is no square.
        mean, std: per channel R, G, B, on the [0, 1] scale.
        interpolation: how it is resized, always antialiased.
        crop: "resize" squeezes the whole crop to `size`. The others are timm's rules, and cut `size` out of the middle
            of a crop that was resized before: "center" so that its shorter side is `size / crop_pct`, "border" its
            longer side, with a border where the crop ends, and "squash" both sides.
        crop_pct: how much of the resized crop the middle is; counts where there is a middle.
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
        """What it adds to the record of a feature; the whole crop is resized where no other rule stands there."""
        height, width = self.height_width
        made: dict[str, Any] = {
            "size": height if height == width else [height, width],
            "mean": [float(value) for value in self.mean],
            "std": [float(value) for value in self.std],
            "interpolation": self.interpolation,
        }
        if self.crop != "resize":
            made["crop"] = self.crop
            if self.crop_pct != 1:
                made["crop_pct"] = self.crop_pct
        return made


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
        weights: where the weights come from: "none" (it has none), "shipped" (with the package), "timm" (downloaded by
            timm), "file" (only from a file), "untrained".
        image: preprocessing of a frame; None for sound.
        classes: names of the outputs in order, where the feature is made of class scores.
        parameters: number of weights.
        licence: what to know before using the public weights.
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

    def record(
        self, weights_sha256: str | None, view: str = "", precision: str = FLOAT32, alignment: str = GIVEN
    ) -> Record:
        """All that a feature's values follow from, and nothing else; see `abaw.core.records`.

        Args:
            weights_sha256: of the weights; None where there are none, or random ones.
            view: of the frames.
            precision: that the network computes in.
            alignment: of the crops.
        """
        record: Record = {"version": VERSION, "network": self.network or self.family, "output": self.output}
        if self.options:
            record["options"] = {name: _plain(value) for name, value in self.options}
        if self.image is not None:
            record["image"] = self.image.record()
        weights = UNTRAINED if self.weights == UNTRAINED else weights_sha256
        given = {"alignment": alignment, "view": view, "precision": precision, "weights": weights}
        left_out = {"precision": FLOAT32}
        return record | {key: value for key, value in given.items() if value and value != left_out.get(key)}

    def fingerprint(
        self, weights_sha256: str | None, view: str = "", precision: str = FLOAT32, alignment: str = GIVEN
    ) -> str:
        """sha256 over the record: equal if and only if features are comparable."""
        return fingerprint_of(self.record(weights_sha256, view, precision, alignment))


def _plain(value: object) -> object:
    """4 for 4.0: both are the same option."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
