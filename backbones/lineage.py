"""What a weights file says about its own training: encoders that abaw fine-tuned name their videos and their input."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from abaw.backbones.spec import BackboneSpec

METADATA = "abaw"  # key in the metadata of a safetensors file
KEPT = ("run", "task", "split", "data", "videos", "from")
INTERPOLATIONS = ("bilinear", "bicubic")


def read_lineage(file: Path) -> dict[str, Any]:
    """Run, task, split, data folder and videos of the training, and the `image` input; empty if the file has no such words."""
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors" or not file.is_file():
        return {}
    try:
        with safe_open(file, "pt") as opened:
            metadata = json.loads((opened.metadata() or {}).get(METADATA, "{}"))
        said = {key: json.loads(metadata[key]) for key in (*KEPT, "image") if key in metadata}
    except (SafetensorError, ValueError, TypeError, RecursionError):
        return {}
    videos = said.get("videos", [])
    if not isinstance(videos, list) or not all(isinstance(video, str) for video in videos):
        return {}
    return said


def with_input(spec: BackboneSpec, lineage: Mapping[str, Any]) -> BackboneSpec:
    """The spec with the interpolation that the weights were trained with."""
    image = lineage.get("image")
    interpolation = image.get("interpolation") if isinstance(image, dict) else None
    if spec.image is None or interpolation not in INTERPOLATIONS:
        return spec
    return replace(spec, image=replace(spec.image, interpolation=interpolation))
