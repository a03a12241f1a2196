"""The interface of face detectors."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

N_LANDMARKS = 5


@dataclass(frozen=True)
class Detections:
    """The faces of one picture.

    Attributes:
        boxes: (k, 4) float32 left, top, right and bottom in pixels; may reach beyond the picture.
        scores: (k,) float32 in [0, 1].
        landmarks: (k, 5, 2) float32 x and y of the left eye, right eye, nose and the left and right corner of the mouth,
            in pixels; "left" means left in the picture.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def empty(cls) -> "Detections":
        """No faces."""
        return cls(*(np.zeros(shape, dtype=np.float32) for shape in ((0, 4), (0,), (0, N_LANDMARKS, 2))))

    def select(self, rows: NDArray) -> "Detections":
        """Some of the faces, by index or mask."""
        return Detections(self.boxes[rows], self.scores[rows], self.landmarks[rows])


class FaceDetector(Protocol):
    """Finds faces. Any class with this method can be used: `--detector module:Class`."""

    def detect(self, images: NDArray[np.uint8]) -> list[Detections]:
        """The faces of each picture, (n, height, width, 3) uint8 RGB."""


@runtime_checkable
class RefiningDetector(FaceDetector, Protocol):
    """A detector that can also search around given boxes, which is much faster than searching whole pictures."""

    def refine(self, images: NDArray[np.uint8], places: list[NDArray[np.float32]]) -> list[Detections]:
        """Find faces near given boxes.

        Args:
            images: (n, height, width, 3) uint8 RGB.
            places: for each picture (k, 4) boxes that are roughly right.

        Returns:
            For each picture k faces in the order of its boxes; a score of 0 where there is no face.
        """
