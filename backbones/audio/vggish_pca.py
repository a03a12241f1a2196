"""The projection of `vggish-pca`, in the checkpoint itself or in a separate file next to it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from abaw.backbones.audio.vggish import WIDTH, Vggish
from abaw.backbones.weights import file_sha256, read_tensors
from abaw.core.errors import CheckpointError

VECTORS, MEANS = "pca_eigen_vectors", "pca_means"
PCA_FILES = "vggish_pca_params*"  # published by torchvggish (.pth) and TensorFlow's models (.npz)


def load_pca(network: Vggish, file: Path) -> str | None:
    """Load the projection into a network; gives the sha256 of the separate file, if it is from there.

    Raises:
        CheckpointError: it is missing in both files, or has other shapes.
    """
    source, state = file, _bare(read_tensors(file))
    if VECTORS not in state:
        candidates = sorted(file.parent.glob(PCA_FILES))
        if not candidates:
            raise CheckpointError(
                f"vggish-pca needs {VECTORS} and {MEANS}, and {file} has neither. Put vggish_pca_params.pth (torchvggish) or "
                f"vggish_pca_params.npz (Google) into {file.parent}, or use vggish."
            )
        source = candidates[0]
        state = _bare(_read_npz(source) if source.suffix == ".npz" else read_tensors(source))
    vectors, means = state.get(VECTORS), state.get(MEANS)
    if vectors is None or means is None or vectors.shape != (WIDTH, WIDTH) or means.numel() != WIDTH:
        raise CheckpointError(
            f"{source} should hold {VECTORS} ({WIDTH}, {WIDTH}) and {MEANS} ({WIDTH}). Download it again."
        )
    network.pca_vectors.copy_(vectors)
    network.pca_means.copy_(means.reshape(-1))
    return file_sha256(source) if source != file else None


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("pproc."): value for key, value in state.items()}


def _read_npz(file: Path) -> dict[str, Tensor]:
    with np.load(file, allow_pickle=False) as content:
        return {key: torch.from_numpy(content[key]) for key in content}
