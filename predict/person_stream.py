"""The features of one person as they come, and outputs of single frames from them, with a bounded memory."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import Task

Features = Mapping[str, NDArray[np.float32]]


class StreamNetwork(Protocol):
    """What makes outputs of crops.

    Attributes:
        task: what the outputs are.
        window, stride: of the head in frames, as in `abaw.evaluate.inference.predict`.
        is_causal: the head needs no later frames.
        half: frames to either side that `finish` looks at.
        min_quality: the head is not shown crops of less quality, see `TrainConfig`.
        note: see `FacePredictor`.
    """

    task: Task
    window: int
    stride: int
    is_causal: bool
    half: int
    min_quality: float
    note: str

    def embed(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """(n, *shape) of each feature, from (n, height, width, 3) RGB crops."""

    def head(self, features: Features, shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(time, outputs) of one window, from (time, *shape) of each feature, and (time,) whether a frame has them."""

    def finish(self, values: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Post-processed (time, outputs); frames that are not present have arbitrary ones."""


class PersonStream:
    """Outputs of one person's frames, which are the means over the windows that `abaw predict` has, too.

    Frames are counted from 0. The last window of a person ends at the last frame in which the person was seen, so the
    output of a frame is known `wait` frames after it. Until the end, nobody is taken to have left for good; a causal head
    does without that window.
    """

    def __init__(self, network: StreamNetwork) -> None:
        self._network = network
        self._features: dict[int, Features] = {}
        self._masked: set[int] = set()  # frames whose features the head does not see
        self._raw: dict[int, NDArray[np.float32]] = {}
        self._windows: dict[int, tuple[int, NDArray[np.float32]]] = {}  # by first frame: the end, and outputs
        self.last_seen = -1

    @staticmethod
    def wait(network: StreamNetwork) -> int:
        """Frames after a frame that its output needs."""
        return network.half + (0 if network.is_causal else network.window)

    def add(self, frame: int, features: Features, quality: float = 1.0) -> None:
        """Add a frame in which the person is seen: (*shape) of each feature. Frames ascend."""
        self._features[frame] = features
        if quality < self._network.min_quality:
            self._masked.add(frame)
        self.last_seen = frame

    def output(self, frame: int, is_over: bool = False) -> NDArray[np.float32]:
        """(outputs,) of a frame in which the person was seen, once all frames that it needs were added.

        Frames ascend from call to call: what no later one needs is forgotten.

        Args:
            is_over: no frames follow.
        """
        half = self._network.half
        first, last = max(0, frame - half), min(frame + half, self.last_seen)
        for number in range(frame, last + 1):
            if number in self._features and number not in self._raw:
                self._raw[number] = self._mean(number, is_over)
        values = np.zeros((last + 1 - first, len(self._raw[frame])), dtype=np.float32)
        present = np.zeros(len(values), dtype=np.bool_)
        for number in range(first, last + 1):
            if number in self._raw:
                values[number - first], present[number - first] = self._raw[number], True
        self._forget(frame)
        row: NDArray[np.float32] = self._network.finish(values, present)[frame - first]
        return row

    def _mean(self, frame: int, is_over: bool) -> NDArray[np.float32]:
        """Mean over the windows of the head that cover a frame."""
        window, stride, end = self._network.window, self._network.stride, self.last_seen + 1
        starts = list(range(max(0, -(-(frame - window + 1) // stride) * stride), frame + 1, stride))
        if not self._network.is_causal:
            end = end if is_over else max(end, frame + window + 1)
            last = max(0, end - window)
            starts = [start for start in starts if start < last] + [last] * (last <= frame)
        rows = [self._window(start, end, frame)[frame - start] for start in starts]
        mean: NDArray[np.float32] = np.mean(rows, axis=0, dtype=np.float32)
        return mean

    def _window(self, start: int, end: int, frame: int) -> NDArray[np.float32]:
        """Outputs of a window, (window, outputs); of a causal head as far as `end`, or at least to a frame."""
        network = self._network
        stop = min(start + network.window, end)
        known = self._windows.get(start, (0, None))[0]
        if known <= frame if network.is_causal else known != stop:
            length = stop - start if network.is_causal else network.window
            example = self._features[self.last_seen]
            features = {name: np.zeros((length, *values.shape), dtype=np.float32) for name, values in example.items()}
            shown = np.zeros(length, dtype=np.bool_)
            for number in range(start, stop):
                for name, values in self._features.get(number, {}).items():
                    features[name][number - start] = values
                    shown[number - start] = number not in self._masked
            self._windows[start] = stop, network.head(features, shown)
        return self._windows[start][1]

    def _forget(self, frame: int) -> None:
        """Drop what frames after this one do not need."""
        oldest = frame - self._network.window
        for frames, limit in ((self._features, oldest), (self._raw, frame - self._network.half)):
            for number in [number for number in frames if number < limit]:
                del frames[number]
        self._masked = {number for number in self._masked if number >= oldest}
        self._windows = {start: outputs for start, outputs in self._windows.items() if start >= oldest}
