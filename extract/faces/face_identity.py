"""Who a face is: embeddings of crops, by which tracks are joined into people.

`arcface` is IResNet in the layout of insightface's checkpoints, which were trained so that crops of one person have a high
cosine, and crops of two people a low one. Any other backbone of pictures can be used, too.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abaw.backbones.backbone_names import split_weights
from abaw.backbones.registry import get_spec
from abaw.backbones.spec import BackboneSpec
from abaw.backbones.weights_folder import find_weights_file, weights_folder
from abaw.core.devices import pick_device
from abaw.core.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    import torch

    from abaw.backbones.extractor import Backbone

ARCFACE = "arcface"
NETWORKS = tuple(f"iresnet{depth}" for depth in (200, 100, 50, 34, 18))  # the best first


class FaceIdentity:
    """Embeds crops of faces.

    Args:
        backbone: of pictures, with one output.
    """

    def __init__(self, backbone: "Backbone") -> None:
        self._backbone = backbone

    def embed(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """(n, d) embeddings of unit length of n crops (112, 112, 3)."""
        import torch

        outputs = self._backbone(self._backbone.preprocess(torch.from_numpy(np.stack(crops))))
        return _unit(outputs)


def _unit(outputs: "torch.Tensor | dict[str, torch.Tensor]") -> NDArray[np.float64]:
    values = next(iter(outputs.values())) if isinstance(outputs, dict) else outputs
    embeddings = values.double().flatten(1).cpu().numpy()
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def check_identity(text: str) -> None:
    """Raise a UsageError or a CheckpointError for `--identity` without loading a network; "" is fine."""
    if text:
        _parse(text)


def create_identity(text: str, device: str = "auto") -> FaceIdentity | None:
    """The network of `--identity`; None for "", by position alone.

    Args:
        text: `arcface:FILE`; `arcface`, from the weights folder; or `BACKBONE[:FILE]`.
        device: "auto" takes a GPU if there is one.

    Raises:
        UsageError: no such backbone of pictures.
        CheckpointError: its weights are missing or invalid.
    """
    if not text:
        return None
    from abaw.backbones.backbone import create_backbone

    name, file = _parse(text)
    return FaceIdentity(create_backbone(name or _network_of(file), file, str(pick_device(device))))


def identity_key(text: str) -> str:
    """What identifies `--identity` in records: without the folder of the file."""
    name, weights = _split(text)
    return f"{name}:{Path(weights).name}" if weights else name


def absolute_identity(text: str) -> str:
    """The same with an absolute path."""
    name, weights = _split(text)
    return f"{name}:{Path(weights).expanduser().absolute()}" if weights else text


def _split(text: str) -> tuple[str, str | None]:
    """Like `split_weights`, which takes `arcface:FILE` for the class `FILE` of a module `arcface`."""
    name, colon, weights = text.partition(":")
    return (name, weights if colon else None) if name == ARCFACE else split_weights(text)


def _parse(text: str) -> tuple[str, Path | None]:
    """The backbone and its file; the name is empty for ArcFace, where the file says which network it is."""
    name, weights = _split(text)
    if weights == "":
        raise UsageError(f"--identity takes arcface:FILE, arcface or BACKBONE[:FILE], found {text!r}.")
    file = Path(weights).expanduser() if weights else None
    if file is not None and not file.is_file():
        what = f"{file} is a folder, not the weights" if file.is_dir() else f"There is no file {file}"
        raise CheckpointError(f"{what} for --identity. Name the file of the weights: {name}:FILE.")
    if name != ARCFACE:
        return _vision(name).name, file
    return ("", file) if file is not None else _in_folder()


def _vision(name: str) -> BackboneSpec:
    spec = get_spec(name)
    if spec.modality != "vision":
        raise UsageError(
            f"--identity takes a backbone of pictures, and {name} is one of {spec.modality}. Use arcface:FILE."
        )
    return spec


def _in_folder() -> tuple[str, Path | None]:
    for name in NETWORKS:
        if (file := find_weights_file(get_spec(name))) is not None:
            return name, file
    raise CheckpointError(
        f"{weights_folder()} has no weights of ArcFace ({', '.join(f'{name}.pth' for name in NETWORKS)}). Get them from "
        "insightface, and give the file: --identity arcface:FILE."
    )


def _network_of(file: Path | None) -> str:
    from abaw.backbones.weights import identify

    assert file is not None, "without a name there is a file"
    names = identify(file, among=NETWORKS)
    if not names:
        raise CheckpointError(
            f"{file} does not have the layout of ArcFace's IResNet. For another network, give --identity BACKBONE:{file}."
        )
    return names[0]
