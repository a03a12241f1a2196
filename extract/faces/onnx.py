"""YuNet and SCRFD from ONNX files, with onnxruntime.

Supported are YuNet as in OpenCV's model zoo (face_detection_yunet_2023mar; Wu, Peng and Yu 2023, "YuNet: a tiny
millisecond-level face detector") and SCRFD with keypoints as insightface publishes it (scrfd_*_bnkps; Guo et al. 2021,
"Sample and computation redistribution for efficient face detection"). The shapes of the
outputs tell which of the two a file is; their names do not matter.

Tested on graphs made for the purpose, not on the published weights, which `abaw` cannot ship.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from abaw.core.errors import CheckpointError, UsageError, first_line
from abaw.extract.faces.detections import N_LANDMARKS, Detections
from abaw.extract.faces.suppression import kept_boxes

STRIDES_PX = (8, 16, 32)
SIDE_PX = 640  # of an input of open size, for families that use one size for all pictures
MAX_LISTED = 12  # outputs in a message
FATAL_ONLY = 4  # log level of onnxruntime; its errors are raised again as ours

Level = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]  # scores, boxes and points of a stride


@dataclass(frozen=True)
class DetectorFamily:
    """Inputs and outputs of one kind of detector.

    For each stride it gives scores (n, 1), boxes (n, 4) and points (n, 10) at n anchors, in the order row, column,
    anchor in the cell.

    Attributes:
        name: for messages.
        n_anchors: in each cell.
        n_scores: outputs (n, 1) for each stride; the score of a face is their geometric mean.
        min_score: of a face.
        most_overlap: a face with a larger intersection over union with a better face is a duplicate.
        is_rgb: the input is RGB; else BGR.
        mean, scale: the input is (pixel - mean) / scale.
        is_of_one_size: every picture is enlarged or shrunk to fill the input; else it is only shrunk if necessary.
        has_distances: boxes are distances of left, top, right and bottom from the cell, in strides; else the offset of
            the centre from the cell, and the logarithms of width and height.
    """

    name: str
    n_anchors: int
    n_scores: int
    min_score: float
    most_overlap: float
    is_rgb: bool
    mean: float
    scale: float
    is_of_one_size: bool
    has_distances: bool

    def input_size(self, fixed: tuple[int, int] | None, height: int, width: int) -> tuple[int, int]:
        """Height and width of the input for a picture; multiples of the largest stride if the file leaves them open."""
        if fixed:
            return fixed
        if self.is_of_one_size:
            return SIDE_PX, SIDE_PX
        return -(-height // STRIDES_PX[-1]) * STRIDES_PX[-1], -(-width // STRIDES_PX[-1]) * STRIDES_PX[-1]

    def planes(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The input (1, 3, height, width) of RGB pixels (height, width, 3) in 0..255."""
        ordered = pixels if self.is_rgb else pixels[:, :, ::-1]
        scaled = (ordered.transpose(2, 0, 1)[None] - self.mean) / self.scale
        return np.ascontiguousarray(scaled, dtype=np.float32)

    def levels(self, outputs: list[NDArray[np.float32]], size: tuple[int, int]) -> list[Level] | None:
        """The outputs sorted by stride and meaning; None if they are not those of this family.

        Args:
            outputs: in any order; shapes (n, k), with or without leading ones.
            size: height and width of the input.
        """
        flat = [output.reshape(output.shape[-2:]) for output in outputs if _is_flat(output)]
        if len(flat) != len(outputs) or len(outputs) != len(STRIDES_PX) * (self.n_scores + 2):
            return None
        levels = []
        for stride in STRIDES_PX:
            n = (size[0] // stride) * (size[1] // stride) * self.n_anchors
            scores, boxes, points = (
                [output for output in flat if output.shape == (n, n_values)] for n_values in (1, 4, 2 * N_LANDMARKS)
            )
            if (len(scores), len(boxes), len(points)) != (self.n_scores, 1, 1):
                return None
            mean = np.prod(np.clip(scores, 0, 1), axis=0)[:, 0] ** (1 / self.n_scores)
            levels.append((mean, boxes[0], points[0]))
        return levels

    def faces(self, levels: list[Level], size: tuple[int, int]) -> Detections:
        """The faces without duplicates, the best first, in pixels of the input.

        Args:
            levels: see `levels`.
            size: height and width of the input.
        """
        parts = []
        for stride, (scores, boxes, points) in zip(STRIDES_PX, levels, strict=True):
            rows = np.flatnonzero(scores >= self.min_score)
            y, x = np.divmod(rows // self.n_anchors, size[1] // stride)
            cells = np.stack([x, y], axis=1).astype(np.float32)
            landmarks = points[rows].reshape(-1, N_LANDMARKS, 2) + cells[:, None]
            parts.append((self._corners(cells, boxes[rows]) * stride, scores[rows], landmarks * stride))
        faces = Detections(*(np.concatenate(values).astype(np.float32) for values in zip(*parts, strict=True)))
        unique = kept_boxes(torch.from_numpy(faces.boxes), torch.from_numpy(faces.scores), self.most_overlap)
        return faces.select(unique.numpy())

    def _corners(self, cells: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (k, 4) as left, top, right and bottom in strides, at cells (k, 2)."""
        if self.has_distances:
            return np.concatenate([cells - boxes[:, :2], cells + boxes[:, 2:]], axis=1)
        centres, halves = cells + boxes[:, :2], np.exp(boxes[:, 2:]) / 2
        return np.concatenate([centres - halves, centres + halves], axis=1)


FAMILIES = (
    # OpenCV's demo suppresses duplicates from an overlap of 0.3 on
    DetectorFamily("YuNet", 1, 2, 0.6, 0.3, is_rgb=False, mean=0, scale=1, is_of_one_size=False, has_distances=False),
    # insightface's reader divides by 128, not 127.5
    DetectorFamily(
        "SCRFD", 2, 1, 0.5, 0.4, is_rgb=True, mean=127.5, scale=128, is_of_one_size=True, has_distances=True
    ),
)


class OnnxDetector:
    """A detector in an ONNX file. It has no `refine`, so every frame gets full detection.

    In both families the first point is the left eye in the picture (the YuNet papers call it the right eye of the person)
    and the fourth is the left corner of the mouth, as in `Detections`.

    Args:
        file: of YuNet or SCRFD.
        device: a GPU is used if onnxruntime supports it (package onnxruntime-gpu); else the CPU.

    Attributes:
        family: kind of detector in the file.

    Raises:
        UsageError: onnxruntime is not installed.
        CheckpointError: the file is missing, is not an ONNX file, or holds something else.
    """

    def __init__(self, file: Path, device: torch.device | str = "cpu") -> None:
        runtime = _import_runtime()
        if not file.is_file():
            raise CheckpointError(f"No file {file}. Give an ONNX file of YuNet or SCRFD.")
        self._file = file
        try:
            self._session = _open(runtime, file, torch.device(device))
        except Exception as error:  # onnxruntime's errors have no class in common
            raise CheckpointError(
                f"{file} cannot be read as an ONNX file ({first_line(error)}). Give one of YuNet or SCRFD."
            ) from error
        self._fixed = self._fixed_size()
        self.family = self._find_family()

    def detect(self, images: NDArray[np.uint8]) -> list[Detections]:
        """Detect the faces of each picture (n, height, width, 3) uint8 RGB, the best first.

        Raises:
            CheckpointError: the file does not work on pictures of this size, although it accepts them.
        """
        return [self._detect(image) for image in images]

    def _detect(self, image: NDArray[np.uint8]) -> Detections:
        height, width = image.shape[:2]
        size = self.family.input_size(self._fixed, height, width)
        pixels, (scale_y, scale_x) = _letterboxed(image, size, self.family.is_of_one_size)
        levels = self.family.levels(self._run(self.family.planes(pixels)), size)
        if levels is None:
            raise CheckpointError(
                f"{self._file} gives outputs that do not fit an input of {size[1]}x{size[0]} pixels, although it "
                "accepts it. Give another file, or one with an input of fixed size."
            )
        faces = self.family.faces(levels, size)
        scales: NDArray[np.float32] = np.array([scale_x, scale_y], dtype=np.float32)
        return Detections(faces.boxes / scales[[0, 1, 0, 1]], faces.scores, faces.landmarks / scales)

    def _run(self, planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The outputs for an input (1, 3, height, width), in the file's order."""
        try:
            return list(self._session.run(None, {self._session.get_inputs()[0].name: planes}))
        except Exception as error:  # onnxruntime's errors have no class in common
            raise CheckpointError(
                f"{self._file} cannot be run on an input of {planes.shape[3]}x{planes.shape[2]} pixels "
                f"({first_line(error)}). Give another file of YuNet or SCRFD."
            ) from error

    def _fixed_size(self) -> tuple[int, int] | None:
        """Height and width of the input; None if the file leaves them open."""
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(shape) != 4:
            described = " and ".join(f"{one.type} of shape {one.shape}" for one in inputs)
            raise CheckpointError(
                f"{self._file} takes {described}, not one float picture (1, 3, height, width). Give a file of YuNet or SCRFD."
            )
        height, width = (size if isinstance(size, int) else 0 for size in shape[2:])
        return (height or SIDE_PX, width or SIDE_PX) if height or width else None

    def _find_family(self) -> DetectorFamily:
        """The family that fits the outputs for a black picture."""
        size = self._fixed or (SIDE_PX, SIDE_PX)
        outputs = self._run(np.zeros((1, 3, *size), dtype=np.float32))
        for family in FAMILIES:
            if family.levels(outputs, size) is not None:
                return family
        named = list(zip(self._session.get_outputs(), outputs, strict=True))
        shapes = ", ".join(f"{output.name} {np.shape(values)}" for output, values in named[:MAX_LISTED])
        raise CheckpointError(
            f"{self._file} is neither YuNet (12 outputs: cls, obj, bbox and kps at strides 8, 16 and 32) nor SCRFD with "
            f"keypoints (9 outputs: scores, boxes and keypoints): it gives {shapes}. Choose another file, such as "
            "face_detection_yunet_2023mar.onnx or a scrfd_*_bnkps.onnx."
        )


def _import_runtime() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise UsageError(
            f"Detectors in ONNX files need the package onnxruntime ({first_line(error)}). "
            "Install it with: pip install '.[onnx]' in abaw's folder."
        ) from error


def _open(runtime: ModuleType, file: Path, device: torch.device) -> Any:
    """An onnxruntime.InferenceSession with as many threads as torch has."""
    options = runtime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = torch.get_num_threads()
    providers: list[str | tuple[str, dict[str, int]]] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    return runtime.InferenceSession(str(file), options, providers=providers)


def _is_flat(output: Any) -> bool:
    """True for an array (n, k), with or without leading ones."""
    return isinstance(output, np.ndarray) and output.ndim >= 2 and output.size == np.prod(output.shape[-2:])


def _letterboxed(
    image: NDArray[np.uint8], size: tuple[int, int], may_grow: bool
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Scale a picture to the upper left of a black input.

    Args:
        image: (height, width, 3) uint8.
        size: height and width of the input.
        may_grow: enlarge the picture until it fills the height or width.

    Returns:
        (*size, 3) float32 in 0..255, and the scale factors along y and x.
    """
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    if not may_grow:
        scale = min(scale, 1.0)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    pixels = image.astype(np.float32)
    if (new_height, new_width) != (height, width):
        # bilinear without averaging, and rounded: as in the training of the published networks
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        scaled = functional.interpolate(planes, (new_height, new_width), mode="bilinear", align_corners=False)
        pixels = scaled[0].permute(1, 2, 0).round().numpy()
    canvas = np.zeros((*size, 3), dtype=np.float32)
    canvas[:new_height, :new_width] = pixels
    return canvas, (new_height / height, new_width / width)
