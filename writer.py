"""VideoWriter: writes one feature of one video into the store, whole shards at a time."""

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from abaw import __version__

CHUNK_ROWS = 256
SHARD_ROWS = 64 * CHUNK_ROWS  # a longer video (9 minutes at 30 fps) is several shards, so that memory stays flat
FLOAT16_MAX = float(np.finfo(np.float16).max)


class VideoWriter:
    """Takes the features of a video's frames in any order; the video is `complete` once `finish` has returned.

    A shard is written when all of its awaited rows have come, and each shard once. Whatever stood in the store
    under this name is replaced when the first shard is ready.

    Args:
        feature: the feature's Zarr group.
        video: name of the video, checked by the caller.
        n_frames: frames of the video.
        rows: frame number - 1 of every frame that will come.
        attrs: `fps`, `source` and what else is kept with the video.
    """

    def __init__(self, feature: zarr.Group, video: str, n_frames: int, rows: NDArray, attrs: dict[str, Any]) -> None:
        self._feature, self._video, self._attrs = feature, video, attrs
        self._n_frames = n_frames
        self._present = np.zeros(n_frames, dtype=np.bool_)
        self._awaited = np.bincount(np.asarray(rows) // SHARD_ROWS, minlength=-(-n_frames // SHARD_ROWS))
        self._buffers: dict[int, NDArray] = {}
        self._written: set[int] = set()
        self._array: zarr.Array | None = None
        spec = feature.attrs.get("spec")
        made = spec if isinstance(spec, dict) else {}
        self._shape: tuple[int, ...] = tuple(made.get("shape", ()))  # for a video of which no frame comes
        self._dtype: np.dtype = np.dtype(made.get("dtype", "float16"))

    @property
    def ready(self) -> bool:
        """True once every awaited frame has come or was skipped."""
        return not self._awaited.any()

    def write(self, rows: NDArray, values: NDArray) -> None:
        """Take the features of some frames.

        Args:
            rows: (n,) int, frame number - 1.
            values: (n, *shape) float32, finite.

        Raises:
            ValueError: a value is not finite.
        """
        flat = values.reshape(len(values), -1)
        highest = np.abs(flat).max(axis=1)
        if not np.isfinite(highest).all():
            raise ValueError(f"the feature of frame {int(rows[~np.isfinite(highest)][0]) + 1} is not finite")
        self._shape = values.shape[1:]
        if highest.max() > FLOAT16_MAX:
            self._widen()
        shards = rows // SHARD_ROWS
        for shard in np.unique(shards).tolist():
            mine = shards == shard
            self._buffer(shard)[rows[mine] - shard * SHARD_ROWS] = values[mine]
            self._present[rows[mine]] = True
            self._arrived(shard, int(mine.sum()))

    def skip(self, row: int) -> None:
        """Say that an awaited frame will not come: it could not be read."""
        self._arrived(row // SHARD_ROWS, 1)

    def finish(self, allow_empty: bool = False) -> None:
        """Write what is left and mark the video complete.

        Args:
            allow_empty: also a video of which no frame came, as one without sound.

        Raises:
            ValueError: not one frame came.
        """
        assert self.ready, "every awaited row has to come or be skipped before finish()"
        if not (self._present.any() or allow_empty):
            raise ValueError("none of its frames could be read")
        for shard in range(len(self._awaited)):
            if shard not in self._written:  # no frame of it has a crop
                self._flush(shard)
        self._create_present()[:] = self._present
        group = self._feature[self._video]
        assert isinstance(group, zarr.Group)
        made = {
            "n_frames": self._n_frames,
            "n_present": int(self._present.sum()),
            "dtype": self._dtype.name,
            "abaw": __version__,
        }
        group.update_attributes({**self._attrs, **made, "complete": True})

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
        rows = self._buffer(shard)
        if self._array is None:
            self._array = self._create_values()
        self._array[shard * SHARD_ROWS : shard * SHARD_ROWS + len(rows)] = rows
        del self._buffers[shard]
        self._written.add(shard)

    def _widen(self) -> None:
        """Go over to float32, as a value does not fit into float16; shards already written are written again."""
        if self._dtype == np.float32:
            return
        self._dtype = np.dtype(np.float32)
        self._buffers = {shard: rows.astype(np.float32) for shard, rows in self._buffers.items()}
        for shard in self._written:
            assert self._array is not None
            self._buffer(shard)[:] = self._array[shard * SHARD_ROWS : (shard + 1) * SHARD_ROWS]
        self._written.clear()
        self._array = None

    def _create_values(self) -> zarr.Array:
        # the group first: it clears what a killed process left, which may be arrays whose group is not there
        group = self._feature.create_group(self._video, overwrite=True)
        chunk_rows = min(CHUNK_ROWS, self._n_frames)
        shard_rows = min(SHARD_ROWS, -(-self._n_frames // chunk_rows) * chunk_rows)
        return group.create_array(
            "values",
            shape=(self._n_frames, *self._shape),
            dtype=self._dtype,
            chunks=(chunk_rows, *self._shape),
            shards=(shard_rows, *self._shape),
            compressors=[Crc32cCodec()],
            filters=None,
            fill_value=np.nan,  # never stored: where it is read, a shard is missing
            config={"write_empty_chunks": True},
        )

    def _create_present(self) -> zarr.Array:
        return self._feature.create_array(
            f"{self._video}/present",
            shape=self._present.shape,
            dtype=np.dtype(np.bool_),
            chunks=self._present.shape,
            compressors=[Crc32cCodec()],
            filters=None,
            config={"write_empty_chunks": True},
        )
