"""A detector for crops: the whole picture is the face."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from abaw.extract.faces.detections import Detections


class WholePicture:
    """Finds one face in each picture, as large as the picture.

    Args:
        device: name of a torch device; not used.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    def detect(self, images: NDArray[np.uint8]) -> Sequence[Detections]:
        """One detection for each of (n, height, width, 3) images."""
        height, width = images.shape[1:3]
        box = np.array([[0, 0, width, height]], np.float32)
        eyes_nose_mouth = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
        landmarks = (eyes_nose_mouth * [width, height])[None].astype(np.float32)
        return [Detections(box, np.ones(1, np.float32), landmarks) for _ in images]
