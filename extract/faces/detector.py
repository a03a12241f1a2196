"""What a face detector gives and takes, and how one is chosen."""

import importlib
from pathlib import Path
from typing import cast

from abaw.core.devices import pick_device
from abaw.core.errors import UsageError
from abaw.extract.faces.detections import FaceDetector

DEFAULT_DETECTOR = "mtcnn"


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
