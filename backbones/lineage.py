"""What a weights file says about its own training: encoders that abaw fine-tuned name their videos and their input."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from abaw.backbones.spec import BackboneSpec

METADATA = "abaw"  # key in the metadata of a safetensors file
KEPT = ("run", "task", "split", "data", "videos", "from", "sets")
NOT_SAID = "unknown"  # a data set of an encoder that was trained before files said which
INTERPOLATIONS = ("bilinear", "bicubic")


def read_lineage(file: Path) -> dict[str, Any]:
    """Run, task, split, data folder and videos of the training, and the `image` input; empty if the file has no such words.

    `sets` are the names of the data sets that it was trained on, and all before that it began from.
    """
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors" or not file.is_file():
        return {}
    try:
        with safe_open(file, "pt") as opened:
            metadata = json.loads((opened.metadata() or {}).get(METADATA, "{}"))
        said = {key: json.loads(metadata[key]) for key in (*KEPT, "image") if key in metadata}
    except (SafetensorError, ValueError, TypeError, RecursionError):
        return {}
    if not all(_is_list_of_names(said.get(key, [])) for key in ("videos", "sets")):
        return {}
    return said


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def sets_of_training(lineage: Mapping[str, Any]) -> list[str]:
    """The data sets that a lineage names; empty for weights that abaw did not train."""
    return sorted(lineage.get("sets", [NOT_SAID])) if lineage else []


def with_input(spec: BackboneSpec, lineage: Mapping[str, Any]) -> BackboneSpec:
    """The spec with the interpolation that the weights were trained with."""
    image = lineage.get("image")
    interpolation = image.get("interpolation") if isinstance(image, dict) else None
    if spec.image is None or interpolation not in INTERPOLATIONS:
        return spec
    return replace(spec, image=replace(spec.image, interpolation=interpolation))
