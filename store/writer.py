"""VideoWriter: writes one feature of one video into the store, whole shards at a time.

Zarr itself creates the metadata, once for each kind of array. Shards are encoded here, which takes a third of the time
that Zarr's arrays would take. Zarr alone reads them back.
"""

import math
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray

from abaw import __version__
from abaw.core.finite import finite_rows, largest_magnitude
from abaw.store.schema import with_attrs_checksum
from abaw.store.zarr_keys import array_template, encode_metadata, write_keys

CHUNK_ROWS = 256
SHARD_ROWS = 16 * CHUNK_ROWS  # a longer video (2 minutes at 30 fps) is several shards, so that memory stays flat
CHECKSUM_BYTES = 4
MISSING_CHUNK = 2**64 - 1  # in the index of a shard
QUALITY = "quality"  # an array beside the values, and the attribute that says that there is one
FLOAT16_MAX = float(np.finfo(np.float16).max)


class VideoWriter:
    """Writes the features of a video's frames, given in any order; the video is `complete` once `finish` has returned.

    A shard is written once, when all of its expected rows have arrived. An existing video of this name is replaced
    when the first shard is ready.

    Args:
        feature: the feature's Zarr group.
        video: name of the video, checked by the caller.
        n_frames: frames of the video.
        rows: frame number - 1 of every frame that will be written.
        attrs: `fps`, `source` and further attributes of the video.
    """

    def __init__(self, feature: zarr.Group, video: str, n_frames: int, rows: NDArray, attrs: dict[str, Any]) -> None:
        self._feature, self._video, self._attrs = feature, video, attrs
        self._n_frames = n_frames
        self._present = np.zeros(n_frames, dtype=np.bool_)
        self._awaited = np.bincount(np.asarray(rows) // SHARD_ROWS, minlength=-(-n_frames // SHARD_ROWS))
        self._buffers: dict[int, NDArray] = {}
        self._written: set[int] = set()
        self._path = f"{feature.path}/{video}"
        spec = feature.attrs.get("spec")
        known_spec = spec if isinstance(spec, dict) else {}
        self._shape: tuple[int, ...] = tuple(known_spec.get("shape", ()))  # for a video without any frame
        self._dtype: np.dtype = np.dtype(known_spec.get("dtype", "float16"))

    @property
    def ready(self) -> bool:
        """True once every expected frame was written or skipped."""
        return not self._awaited.any()

    def write(self, rows: NDArray, values: NDArray) -> None:
        """Take the features of some frames.

        Args:
            rows: (n,) int, frame number - 1.
            values: (n, *shape) float32, finite.

        Raises:
            ValueError: a value is not finite.
        """
        highest = largest_magnitude(values)
        if not np.isfinite(highest):
            raise ValueError(f"the feature of frame {int(rows[~finite_rows(values)][0]) + 1} is not finite")
        self._shape = values.shape[1:]
        if highest > FLOAT16_MAX:
            self._widen()
        shards = rows // SHARD_ROWS
        for shard in np.unique(shards).tolist():
            in_shard = shards == shard
            numbers, content = (rows, values) if in_shard.all() else (rows[in_shard], values[in_shard])
            self._buffer(shard)[_as_slice(numbers - shard * SHARD_ROWS)] = content
            self._present[numbers] = True
            self._arrived(shard, len(numbers))

    def skip(self, row: int) -> None:
        """Note that an expected frame will not be written because it could not be read."""
        self._arrived(row // SHARD_ROWS, 1)

    def finish(
        self,
        allow_empty: bool = False,
        attrs: Mapping[str, Any] | None = None,
        quality: NDArray[np.float32] | None = None,
    ) -> None:
        """Write the remaining shards and mark the video complete.

        Args:
            allow_empty: accept a video without any frame, such as one without sound.
            attrs: attributes that are known only now.
            quality: (frames,) in [0, 1], of the crops; 0 where there is none.

        Raises:
            ValueError: the video has no frame.
        """
        assert self.ready, "every expected row has to be written or skipped before finish()"
        if not (self._present.any() or allow_empty):
            raise ValueError("none of its frames could be read")
        for shard in range(len(self._awaited)):
            if shard not in self._written:  # no frame of it has a crop
                self._flush(shard)
        counts = {
            "n_frames": self._n_frames,
            "n_present": int(self._present.sum()),
            "dtype": self._dtype.name,
            "abaw": __version__,
        }
        arrays = {"values/zarr.json": self._values_metadata(), **encode_column("present", self._present)}
        if quality is not None:
            arrays |= encode_column(QUALITY, quality.astype(np.float32))
            counts[QUALITY] = True
        # no part of the video is read before its group exists
        whole = with_attrs_checksum({**self._attrs, **(attrs or {}), **counts, "complete": True})
        self._put(arrays, last={"zarr.json": group_metadata(whole)})

    def _arrived(self, shard: int, n_rows: int) -> None:
        self._awaited[shard] -= n_rows
        if self._awaited[shard] == 0 and shard in self._buffers:
            self._flush(shard)

    def _buffer(self, shard: int) -> NDArray:
        if shard not in self._buffers:
            n_rows = min(SHARD_ROWS, self._n_frames - shard * SHARD_ROWS)
            self._buffers[shard] = np.zeros((n_rows, *self._shape), dtype=self._dtype)
        return self._buffers[shard]

    def _flush(self, shard: int) -> None:
        coordinates = "/".join(str(index) for index in (shard, *(0 for _ in self._shape)))
        content: dict[str, bytes | memoryview] = {
            f"values/c/{coordinates}": encode_shard(self._buffer(shard), *self._grid())
        }
        self._put(content, clear=not self._written)
        del self._buffers[shard]
        self._written.add(shard)

    def _widen(self) -> None:
        """Switch to float32 for a value that float16 cannot hold; shards already written are written again."""
        if self._dtype == np.float32:
            return
        self._put({"values/zarr.json": self._values_metadata()} if self._written else {})
        self._dtype = np.dtype(np.float32)
        self._buffers = {shard: rows.astype(np.float32) for shard, rows in self._buffers.items()}
        for shard in self._written:
            narrow = zarr.open_array(self._feature.store, path=f"{self._path}/values", mode="r")
            self._buffer(shard)[:] = narrow[shard * SHARD_ROWS : (shard + 1) * SHARD_ROWS]
        self._written.clear()

    def _values_metadata(self) -> bytes:
        return values_metadata((self._n_frames, *self._shape), self._dtype.name, *self._grid())

    def _grid(self) -> tuple[int, int]:
        """Rows of a chunk and of a shard; a video shorter than a chunk is a single chunk of its length."""
        return (CHUNK_ROWS, SHARD_ROWS) if self._n_frames >= CHUNK_ROWS else (self._n_frames, self._n_frames)

    def _put(
        self,
        contents: Mapping[str, bytes | memoryview],
        last: Mapping[str, bytes] | None = None,
        clear: bool = False,
    ) -> None:
        """Write keys of the video, see `write_keys`; `clear` deletes what an earlier run left."""
        write_keys(self._feature.store, self._path, contents, last, clear)


def _as_slice(rows: NDArray) -> slice | NDArray:
    """The slice that takes the same rows, which is faster, if they follow each other."""
    first, n_rows = int(rows[0]), len(rows)
    return slice(first, first + n_rows) if (rows == np.arange(first, first + n_rows)).all() else rows


def encode_shard(rows: NDArray, chunk_rows: int, shard_rows: int) -> memoryview:
    """A shard of Zarr's sharding codec: chunks with their checksums, then the index with its own.

    Args:
        rows: (rows, *shape), at most `shard_rows`; the last chunk is padded with NaN, the fill value.
    """
    chunk_shape = (chunk_rows, *rows.shape[1:])
    chunk_bytes = math.prod(chunk_shape) * rows.dtype.itemsize
    step, starts = chunk_bytes + CHECKSUM_BYTES, range(0, len(rows), chunk_rows)
    index = np.full((shard_rows // chunk_rows, 2), MISSING_CHUNK, dtype="<u8")
    # filled in place: a shard has megabytes, and each copy of it costs as much as writing it
    shard = np.empty(len(starts) * step + index.nbytes + CHECKSUM_BYTES, dtype=np.uint8)
    for number, start in enumerate(starts):
        begin = number * step
        chunk = shard[begin : begin + chunk_bytes].view(rows.dtype).reshape(chunk_shape)
        n_rows = min(chunk_rows, len(rows) - start)
        chunk[:n_rows], chunk[n_rows:] = rows[start : start + n_rows], np.nan
        put_checksum(shard[begin : begin + step])
        index[number] = begin, step
    end = shard[len(starts) * step :]
    end[: index.nbytes] = index.reshape(-1).view(np.uint8)
    put_checksum(end)
    return shard.data


def put_checksum(content: NDArray[np.uint8]) -> None:
    """Fill the last bytes of some content with the CRC-32C of those before them."""
    checked = content[:-CHECKSUM_BYTES]
    checked.flags.writeable = False  # the package takes nothing that might change
    content[-CHECKSUM_BYTES:] = np.frombuffer(_checksum(checked), dtype=np.uint8)


def encode_column(name: str, values: NDArray) -> dict[str, bytes]:
    """The files of an array with a number for each frame, in chunks of `SHARD_ROWS` rows."""
    template = array_template((1,), values.dtype.name, (SHARD_ROWS,), None, None, ("frame",))
    files = {f"{name}/zarr.json": encode_metadata({**template, "shape": values.shape})}
    for number, start in enumerate(range(0, len(values), SHARD_ROWS)):
        chunk = np.zeros(SHARD_ROWS, dtype=values.dtype)
        part = values[start : start + SHARD_ROWS]
        chunk[: len(part)] = part
        files[f"{name}/c/{number}"] = with_checksum(chunk.tobytes())
    return files


def with_checksum(content: bytes) -> bytes:
    """Content followed by its CRC-32C, as Zarr's codec of that name stores it."""
    return content + _checksum(content)


def _checksum(content: bytes | NDArray[np.uint8]) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(CHECKSUM_BYTES, "little")


def axis_names(value_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the dimensions of values of shape (frames, *value_shape): frame and dimension, or several of these."""
    if len(value_shape) == 1:
        return ("frame", "dimension")
    return ("frame", *(f"dimension_{number}" for number in range(1, len(value_shape) + 1)))


def values_metadata(shape: tuple[int, ...], dtype: str, chunk_rows: int, shard_rows: int) -> bytes:
    """The `zarr.json` of an array of values of shape (frames, ...)."""
    value_shape = shape[1:]
    # NaN is never stored: where it is read, a shard is missing
    template = array_template(
        (1, *value_shape),
        dtype,
        (chunk_rows, *value_shape),
        (shard_rows, *value_shape),
        math.nan,
        axis_names(value_shape),
    )
    return encode_metadata({**template, "shape": shape})


def group_metadata(attrs: Mapping[str, Any]) -> bytes:
    """The content of a group's `zarr.json`."""
    return encode_metadata({"attributes": dict(attrs), "zarr_format": 3, "node_type": "group"})
