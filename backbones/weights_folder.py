"""The folder where weights files are put and looked for. Loads no torch."""

import os
from pathlib import Path

from abaw.backbones.spec import BackboneSpec

FOLDER = "ABAW_WEIGHTS"  # environment variable with the folder
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl")
HUB_CONFIG = "config.json"  # in every folder of a model of transformers


def weights_folder() -> Path:
    """$ABAW_WEIGHTS, else `weights` in abaw's cache folder."""
    named = os.environ.get(FOLDER)
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("ABAW_CACHE")
    if cache:
        return Path(cache) / "weights"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "abaw" / "weights"


def weights_stem(spec: BackboneSpec) -> str:
    """Name of a family's file in the weights folder, without its suffix."""
    return spec.family.replace("/", "-")


def find_weights_file(spec: BackboneSpec) -> Path | None:
    """A family's weights in the weights folder: a file, or for sound and text a folder of transformers; None if missing."""
    folder, stem = weights_folder(), weights_stem(spec)
    if spec.modality != "vision" and (folder / stem / HUB_CONFIG).is_file():
        return folder / stem
    files = [folder / f"{stem}{suffix}" for suffix in SUFFIXES]
    return next((file for file in files if file.is_file()), None)
