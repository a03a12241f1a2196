"""Everything about one backbone in words and numbers, for lists. Loads no torch, except for models of timm by name."""

from typing import Any

from abaw.backbones.published import FamilyWeights, weights_in_brief, weights_of
from abaw.backbones.registry import find_backbone
from abaw.backbones.spec import BackboneSpec, ImageInput

INPUTS = {"audio": "sound, 16 kHz, mono", "text": "a transcript with times"}


def outline_backbone(spec: BackboneSpec) -> dict[str, Any]:
    """What a list of backbones shows: name, shape, parameters, state and licence of the weights, and the network."""
    state, licence = weights_in_brief(spec)
    return {
        "name": spec.name,
        "family": spec.family,
        "modality": spec.modality,
        "shape": list(spec.shape),
        "parameters": spec.parameters,
        "weights": state or "needs none",
        "licence": licence,
        "architecture": spec.architecture,
    }


def describe_backbone(name: str) -> dict[str, Any]:
    """All about a backbone: what `outline_backbone` says, its input, output and classes, and its weights.

    Raises:
        UsageError: no backbone has this name.
    """
    spec, family = find_backbone(name)
    described = outline_backbone(spec)
    described["output"] = spec.output
    described["input"] = _input_in_words(spec.image) if spec.image else INPUTS[spec.modality]
    if spec.image:
        described |= {"mean": list(spec.image.mean), "std": list(spec.image.std)}
    if spec.rate_hz:
        described["rate_hz"] = spec.rate_hz
    if spec.options:
        described["options"] = dict(spec.options)
    described["classes"] = list(spec.classes)
    described["terms"] = spec.licence
    described["from"] = family.source or "abaw"
    if spec.weights != "none":
        described |= _describe_weights(weights_of(spec, (spec.name,)))
    return described


def _describe_weights(weights: FamilyWeights) -> dict[str, Any]:
    published = [
        {"name": file.name, "by": file.by, "url": file.source, "md5": file.md5, "sha256": file.sha256}
        for file in weights.sources
    ]
    return {
        "weights": weights.line,
        "file": str(weights.file) if weights.file else None,
        "is_published_file": weights.agrees,
        "published": [{key: value for key, value in file.items() if value} for file in published],
    }


def _input_in_words(image: ImageInput) -> str:
    """Size, interpolation and crop rule of an input, as "224 x 224, bicubic, whole crop"."""
    height, width = image.height_width
    rule = "whole crop" if image.crop == "resize" else f"{image.crop} {image.crop_pct:g}"
    return f"{height} x {width}, {image.interpolation}, {rule}"
