"""How well a crop shows its face: one number, to weigh or mask frames with.

quality = score * size * sharpness * pose, each in [0, 1]:

score      of the detector
size       sqrt(area of the box) / 112 pixels, at most 1: smaller faces were enlarged
sharpness  v / (v + 100), where v is the variance of the Laplacian of the crop's brightness (Pech-Pacheco et al. 2000,
           "Diatom autofocusing in brightfield microscopy")
pose       1 - |2 t - 1|, where t is where the nose lies between the eyes, along the line through them: 1 for a face
           that looks ahead, 0 for a profile
"""

import math

import numpy as np
from numpy.typing import NDArray

from abaw.extract.faces.alignment import CROP_PX
from abaw.extract.faces.boxes import areas

SHARP = 100.0  # variance of the Laplacian, in squared grey levels, of a crop that is half sharp
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def crop_quality(
    box: NDArray[np.float32], score: float, landmarks: NDArray[np.float32], crop: NDArray[np.uint8]
) -> float:
    """The quality of a crop in [0, 1], see above; NaN for a picture without landmarks.

    Args:
        box: (4,) left, top, right and bottom in pixels of the frame.
        score: of the detector, in [0, 1].
        landmarks: (5, 2) x and y in pixels of the frame, see `Detections`.
        crop: (height, width, 3) RGB.
    """
    size = min(1.0, math.sqrt(float(areas(box[None])[0])) / CROP_PX)
    variance = _variance_of_laplacian(crop)
    return float(np.clip(score, 0, 1)) * size * variance / (variance + SHARP) * _pose(landmarks)


def _variance_of_laplacian(crop: NDArray[np.uint8]) -> float:
    luma = crop @ LUMA
    inside = luma[1:-1, 1:-1]
    return float((luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inside).var())


def _pose(landmarks: NDArray[np.float32]) -> float:
    left, right, nose = landmarks[:3].astype(np.float64)
    axis = right - left
    position = float((nose - left) @ axis) / max(float(axis @ axis), 1e-9)
    return 1 - min(1.0, abs(2 * position - 1)) if math.isfinite(position) else math.nan
