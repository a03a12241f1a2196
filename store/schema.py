"""Validation of store metadata and arrays. Stores may come from anyone; trust nothing in them."""

import errno
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import StoreError, UnreachableError, first_line
from abaw.core.names import MAX_FRAMES, MAX_VALUES
from abaw.core.system_errors import lacks_threads

DTYPES = ("float16", "float32")
MODALITIES = ("vision", "audio", "text")
MAX_METADATA_BYTES = 2**23  # of a group; a video has some hundreds
MAX_CHUNKS = 200_000  # per array; the longest video has a fifth of it
OUTSIDE = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
)
CHECKSUM = "checksum"  # over the other attributes of a video or of labels; stores of older versions have none
# a folder or a loop of links instead of a file, or a file instead of a folder
MISPLACED = (errno.ELOOP, errno.EISDIR, errno.ENOTDIR)
CHECKED_BYTES = 2**26  # larger arrays are compared with the size of their files before memory is allocated


def group_attrs(metadata: bytes) -> dict[str, Any]:
    """The attributes in the `zarr.json` of a group; empty if it is damaged or describes an array."""
    try:
        if len(metadata) > MAX_METADATA_BYTES:
            return {}
        content = json.loads(metadata)
        is_group = content["zarr_format"] == 3 and content["node_type"] == "group"
        return dict(content["attributes"]) if is_group else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def is_feature(attrs: Mapping[str, Any]) -> bool:
    """True if a group has the attributes of a feature, see `abaw.store`."""
    spec = attrs.get("spec")
    if not isinstance(attrs.get("record", {}), dict):
        return False
    if not isinstance(spec, dict) or not isinstance(attrs.get("fingerprint"), str) or "weights_sha256" not in attrs:
        return False
    shape = spec.get("shape")
    if not isinstance(shape, list) or not all(_is_count(size, MAX_VALUES) and size for size in shape):
        return False
    is_known = spec.get("dtype", DTYPES[0]) in DTYPES and spec.get("modality", "vision") in MODALITIES
    return math.prod(shape) <= MAX_VALUES and len(shape) < 8 and is_known and "weights" in spec


def is_video(attrs: Mapping[str, Any]) -> bool:
    """True if a group has the attributes of a complete video."""
    n_frames, fps = attrs.get("n_frames"), attrs.get("fps")
    is_counted = _is_count(n_frames, MAX_FRAMES) and _is_count(attrs.get("n_present"), int(n_frames or 0))
    is_rate = isinstance(fps, int | float) and 0 <= fps < math.inf
    is_whole = attrs.get("complete") is True and is_counted and is_rate and attrs.get("dtype") in DTYPES
    return is_whole and has_checksum(attrs)


def with_attrs_checksum(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes with a checksum over all of them, so that a flipped bit in a frame rate or a split is noticed."""
    return {**attrs, CHECKSUM: _checksum_of(attrs)}


def has_checksum(attrs: Mapping[str, Any]) -> bool:
    """True if attributes are as `with_attrs_checksum` left them, or have no checksum, as in older stores."""
    return CHECKSUM not in attrs or attrs[CHECKSUM] == _checksum_of(attrs)


def _checksum_of(attrs: Mapping[str, Any]) -> str:
    """CRC-32 of the attributes as JSON, in hexadecimal."""
    listed = json.dumps({key: value for key, value in attrs.items() if key != CHECKSUM}, sort_keys=True)
    return f"{zlib.crc32(listed.encode()):08x}"


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def is_outside(error: Exception) -> bool:
    """True for errors of the system or the network, which do not mean that the stored data are damaged."""
    is_of_system = isinstance(error, OSError) and error.errno in OUTSIDE
    is_of_network = type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp")
    return (
        is_of_system
        or is_of_network
        or lacks_threads(error)
        or isinstance(error, PermissionError | TimeoutError | ConnectionError | MemoryError)
    )


@contextmanager
def report_unreachable(path: str) -> Iterator[None]:
    """Turns errors of the system or the network into an UnreachableError."""
    try:
        yield
    except Exception as error:
        if lacks_threads(error) or not is_outside(error):
            raise
        raise UnreachableError(
            f"{path} cannot be read at the moment ({first_line(error)}). Check the disk, the network and your permissions, and run this again."
        ) from error


@contextmanager
def report_damage(path: str) -> Iterator[None]:
    """Turns the errors of many types that zarr raises for missing or damaged metadata into a StoreError."""
    try:
        yield
    except Exception as error:
        # such as a full disk; zarr also raises OSErrors, which have no errno
        is_of_system = isinstance(error, OSError) and error.errno not in (None, *MISPLACED)
        if isinstance(error, StoreError) or is_of_system or is_outside(error):
            raise
        raise StoreError(
            f"{path} is damaged ({first_line(error)}). Restore its zarr.json, or extract again into another store."
        ) from error


def as_numpy(array: Any) -> NDArray:
    """The values of an array.

    Raises:
        ValueError: it is not an array, or claims an impossible number of values or chunks.
    """
    import zarr  # attributes are checked without it

    if not isinstance(array, zarr.Array):
        raise ValueError("it is a group instead of an array")
    n_chunks = math.prod(-(-size // max(1, chunk)) for size, chunk in zip(array.shape, array.chunks, strict=True))
    if n_chunks > MAX_CHUNKS:
        raise ValueError(f"an array claims to have {n_chunks} chunks")
    # nothing in a store is compressed
    if array.nbytes > CHECKED_BYTES and array.nbytes_stored() < array.nbytes:
        raise ValueError(f"an array claims to have {array.nbytes} bytes, but its files are smaller")
    return np.asarray(array[...])


class ArrayHead(Protocol):
    """What is known about an array before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> np.dtype:
        """Its dtype."""


def check_shapes(
    values: ArrayHead, present: NDArray[np.bool_], attrs: Mapping[str, Any], shape: tuple[int, ...]
) -> None:
    """Raise a ValueError if the arrays of a video contradict its attributes; values may be unread."""
    if values.shape != (attrs["n_frames"], *shape) or values.dtype != attrs["dtype"]:
        raise ValueError("the shape or type of its values does not match its attributes")
    if values.shape[0] != len(present) or present.sum() != attrs["n_present"]:
        raise ValueError("its arrays disagree")


def check_no_shard_is_missing(values: NDArray) -> None:
    """Raise a ValueError if rows (rows, ...) have the fill value, NaN, which is never stored."""
    if np.isnan(values.reshape(len(values), -1)[:, :1]).any():
        raise ValueError("a shard is missing")
