"""What a face detector gives and takes, and how one is chosen."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from abaw.core.devices import pick_device
from abaw.core.errors import UsageError

N_LANDMARKS = 5
DEFAULT_DETECTOR = "mtcnn"


@dataclass(frozen=True)
class Detections:
    """The faces of one picture.

    Attributes:
        boxes: (k, 4) float32, left, top, right and bottom in pixels; they may reach beyond the picture.
        scores: (k,) float32 in [0, 1].
        landmarks: (k, 5, 2) float32 x and y of the left eye, right eye, nose and the left and right corner of the mouth,
            in pixels; left is what is on the left in the picture.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls) -> "Detections":
        """No face."""
        return cls(*(np.zeros(shape, dtype=np.float32) for shape in ((0, 4), (0,), (0, N_LANDMARKS, 2))))

    def chosen(self, rows: NDArray) -> "Detections":
        """Some of the faces, by index or mask."""
        return Detections(self.boxes[rows], self.scores[rows], self.landmarks[rows])


class FaceDetector(Protocol):
    """Finds faces; any class with this method can be named with `--detector module:Class`."""

    def detect(self, images: NDArray[np.uint8]) -> list[Detections]:
        """The faces of each picture, (n, height, width, 3) uint8 RGB."""


@runtime_checkable
class RefiningDetector(FaceDetector, Protocol):
    """A detector that can also look at places only, which is much quicker than looking at whole pictures."""

    def refine(self, images: NDArray[np.uint8], places: list[NDArray[np.float32]]) -> list[Detections]:
        """The faces near given places.

        Args:
            images: (n, height, width, 3) uint8 RGB.
            places: for each picture (k, 4) boxes that are roughly right.

        Returns:
            For each picture k faces, in the order of its places; where none is found, a score of 0.
        """


def create_detector(name: str = DEFAULT_DETECTOR, device: str = "auto") -> FaceDetector:
    """A detector by its name.

    Args:
        name: "mtcnn", or `module:Class` of any module that can be imported; importing it runs its code. The class is
            called with the name of the torch device. Or an ONNX file of YuNet or SCRFD that ends in ".onnx".
        device: "auto" takes a GPU if there is one.

    Raises:
        UsageError: no such detector, or one that is no FaceDetector.
        CheckpointError: its weights are not there, or are not what they should be.
    """
    place = pick_device(device)
    if name == DEFAULT_DETECTOR:
        from abaw.extract.faces.mtcnn import Mtcnn

        return Mtcnn(device=place)
    if Path(name).suffix.lower() == ".onnx":
        from abaw.extract.faces.onnx import OnnxDetector

        return OnnxDetector(Path(name), place)
    module, colon, kind = name.partition(":")
    if not colon or not module or not kind:
        raise UsageError(
            f"No detector {name!r}. Choose {DEFAULT_DETECTOR}, or give MODULE:CLASS of your own or a FILE.onnx."
        )
    try:
        made = getattr(importlib.import_module(module), kind)(str(place))
    except ImportError as error:
        raise UsageError(f"The detector's module {module!r} cannot be imported ({error}).") from error
    except (AttributeError, TypeError) as error:
        raise UsageError(f"Detector {name!r} cannot be made by {kind}(device) ({error}).") from error
    if not callable(getattr(made, "detect", None)):
        raise UsageError(f"Detector {name!r} has no method detect(images) -> list of Detections.")
    return cast("FaceDetector", made)
