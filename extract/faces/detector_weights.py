"""The weights of MTCNN from the wheel `mtcnn` (MIT licence).

The files are pickles. Only those of one release, identified by sha256, are opened, so that no other code can run. The
package itself is not imported, because that requires TensorFlow.
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
    """The folder of weights in the installed wheel.

    Raises:
        CheckpointError: it is not installed.
    """
    spec = importlib.util.find_spec("mtcnn")
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise CheckpointError(
            f"The face detector's weights come with the package mtcnn, which is not installed. Run `{INSTALL}`."
        )
    return Path(next(iter(folders))) / "assets" / "weights"


def read_weights(network: str, folder: Path) -> list[NDArray[np.float32]]:
    """The arrays of one network, in the order of its layers and in the layout of TensorFlow.

    Args:
        network: a key of `SHA256`.
        folder: see `weights_folder`.

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
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256[network]:
        raise CheckpointError(
            f"{file} is not the file of mtcnn {RELEASE} (sha256 {sha256[:12]}..., not {SHA256[network][:12]}...) and was "
            f"not opened. Run `{INSTALL} --force-reinstall`."
        )
    try:
        import joblib

        return list(joblib.load(io.BytesIO(content)))  # the bytes that were checked; the file may change
    except (ImportError, ValueError) as error:  # joblib raises ValueError if lz4 is missing
        raise CheckpointError(f"The weights of mtcnn need joblib and lz4 ({error}). Run `{INSTALL}`.") from error
