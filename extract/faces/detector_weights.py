"""The weights of MTCNN, as the wheel `mtcnn` carries them (MIT).

The files are pickles. Only those of one release are opened, told by their sha256, so that no other code is ever run.
The package itself is not imported: that would want TensorFlow.
"""

import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import CheckpointError

RELEASE = "1.0.0"
INSTALL = f"pip install mtcnn=={RELEASE}"
SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}


def weights_folder() -> Path:
    """Where the installed wheel has its weights.

    Raises:
        CheckpointError: it is not installed.
    """
    spec = importlib.util.find_spec("mtcnn")
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        raise CheckpointError(
            f"The face detector's weights come with the package mtcnn, which is not installed. Run `{INSTALL}`."
        )
    return Path(next(iter(places))) / "assets" / "weights"


def read_weights(network: str, folder: Path) -> list[NDArray[np.float32]]:
    """The arrays of one network, in the order of its layers and in the layout of TensorFlow.

    Args:
        network: a key of `SHA256`.
        folder: what `weights_folder` gave.

    Raises:
        CheckpointError: the file is missing, or is not the one of the release.
    """
    file = folder / f"{network}.lz4"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read ({error.strerror}). Run `{INSTALL} --force-reinstall`."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[network]:
        raise CheckpointError(
            f"{file} is not the file of mtcnn {RELEASE} (sha256 {found[:12]}..., not {SHA256[network][:12]}...) and was "
            f"not opened. Run `{INSTALL} --force-reinstall`."
        )
    try:
        import joblib

        return list(joblib.load(io.BytesIO(content)))  # the bytes that were checked, not the file again
    except (ImportError, ValueError) as error:  # joblib says by a ValueError that lz4 is missing
        raise CheckpointError(f"The weights of mtcnn need joblib and lz4 ({error}). Run `{INSTALL}`.") from error
