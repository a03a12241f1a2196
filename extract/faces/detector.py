"""Face detectors by name.

A detector is a class whose objects are made with the name of a torch device and have a method `detect`, see
`abaw.extract.faces.detections.FaceDetector`. abaw lists its own under the group `abaw.detectors` of entry points, and
other distributions list theirs: `retina = abaw_retina:RetinaFace`.
"""

from pathlib import Path
from typing import Any, cast

from abaw.core.devices import pick_device
from abaw.core.errors import UsageError, did_you_mean
from abaw.core.plugins import load_named, load_object
from abaw.extract.faces.detections import FaceDetector

GROUP = "abaw.detectors"
DEFAULT_DETECTOR = "mtcnn"


def create_detector(name: str = DEFAULT_DETECTOR, device: str = "auto") -> FaceDetector:
    """A detector by its name.

    Args:
        name: of a plug-in, such as "mtcnn"; an ONNX file of YuNet or SCRFD that ends in ".onnx"; or `module:Class` of any
            module that can be imported, which runs its code.
        device: "auto" takes a GPU if there is one.

    Raises:
        UsageError: no such detector, or it is not a FaceDetector.
        CheckpointError: its weights are missing or invalid.
    """
    torch_device = pick_device(device)
    if Path(name).suffix.lower() == ".onnx":
        from abaw.extract.faces.onnx import OnnxDetector

        return OnnxDetector(Path(name), torch_device)
    detector_class = _find_class(name)
    try:
        detector = detector_class(str(torch_device))
    except (AttributeError, TypeError) as error:
        raise UsageError(
            f"Detector {name!r} cannot be made by {_name_of(detector_class)}(device) ({error})."
        ) from error
    if not callable(getattr(detector, "detect", None)):
        raise UsageError(f"Detector {name!r} has no method detect(images) -> list of Detections.")
    return cast("FaceDetector", detector)


def list_detectors() -> dict[str, str]:
    """Every detector by name: distribution and version that it comes from."""
    return {name: plugin.source for name, plugin in load_named(GROUP, object).items()}


def _find_class(name: str) -> Any:
    plugins = load_named(GROUP, object)
    if name in plugins:
        return plugins[name].value
    module, _, class_name = name.partition(":")
    if not module or not class_name:
        raise UsageError(
            f"No detector {name!r}. {did_you_mean(name, list(plugins))}Choose {', '.join(plugins)}, or give MODULE:CLASS of your own or a FILE.onnx."
        )
    return load_object(name)


def _name_of(detector_class: Any) -> str:
    return getattr(detector_class, "__name__", str(detector_class))
