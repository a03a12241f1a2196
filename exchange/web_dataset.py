"""Export as WebDataset: tar files with a sample for each video, which readers of training stream from disks and buckets.

    shard-000000.tar        <key>.npy           (frames, *shape) float16 or float32; zero where not present
                            <key>.present.npy   (frames,) bool
                            <key>.json          video, fps, n_frames, and marks that are true
    feature.json            how the feature was made

The key is the name of the video with `%` as `%25` and `.` as `%2E`: in these files the first dot ends a key.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from abaw.core.output_stream import OutputStream
from abaw.exchange.provenance import FEATURE_FILE
from abaw.store.feature_store import VideoFeature

SHARD_BYTES = 10**9  # a shard ends with the video that passes it


class WebDatasetSink:
    """A folder of tar files.

    Args:
        folder: a new one.
        origin: of the feature, for `feature.json`.
    """

    def __init__(self, folder: Path, origin: dict[str, Any]) -> None:
        folder.mkdir()
        self._folder, self._origin = folder, origin
        self._n_shards = 0
        self._stream: OutputStream | None = None
        self._tar: tarfile.TarFile | None = None

    def put(self, video: str, stored: VideoFeature, marks: Sequence[str]) -> None:
        """Write one video."""
        if self._tar is None:
            self._stream = OutputStream(self._folder / f"shard-{self._n_shards:06}.tar")
            self._tar = tarfile.TarFile(fileobj=self._stream, mode="w", format=tarfile.PAX_FORMAT)
            self._n_shards += 1
        assert self._stream is not None
        key = video.replace("%", "%25").replace(".", "%2E")
        about = {"video": video, "fps": stored.fps, "n_frames": len(stored.present), **dict.fromkeys(marks, True)}
        contents = {
            "npy": _saved(stored.values),
            "present.npy": _saved(stored.present),
            "json": json.dumps(about).encode(),
        }
        for ending, content in contents.items():
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
            self._stream.check()
        if self._stream.tell() >= SHARD_BYTES:
            self._end_shard()

    def finish(self) -> None:
        """End the last shard, and say how the feature was made."""
        self._end_shard()
        content = json.dumps({**self._origin, "n_shards": self._n_shards}, indent=2)
        (self._folder / FEATURE_FILE).write_text(f"{content}\n", encoding="utf-8")

    def _end_shard(self) -> None:
        if self._tar is not None and self._stream is not None:
            with self._stream:
                self._tar.close()
            self._tar = self._stream = None


def _saved(values: np.ndarray) -> bytes:
    """An array as the bytes of a `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()
