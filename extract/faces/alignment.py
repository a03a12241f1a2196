"""Face crops of 112x112 pixels, rotated and scaled so that eyes, nose and mouth lie where ArcFace expects them."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

CROP_PX = 112
# left eye, right eye, nose, left and right corner of the mouth: Deng et al. 2019, "ArcFace"
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)


def similarity(source: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Least-squares similarity transform (rotation, scale, translation; no reflection) from points to other points.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", eq. 40 to 42.

    Args:
        source, target: (n, 2) points, not all equal.

    Returns:
        (2, 3) matrix A with A @ (x, y, 1) near the target.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_centred, target_centred = source - source_mean, target - target_mean
    left, singular_values, right = np.linalg.svd(target_centred.T @ source_centred / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right)) or 1.0])
    variance = source_centred.var(axis=0).sum()
    scale = (singular_values * signs).sum() / max(variance, 1e-12)
    linear = scale * (left * signs) @ right
    return np.column_stack([linear, target_mean - linear @ source_mean])


def align(image: NDArray[np.uint8], landmarks: NDArray) -> NDArray[np.uint8]:
    """Crop a face.

    Sampling is bilinear. Where the image shrinks, a pixel of the crop is the mean of several samples in its area, about
    one per covered pixel. An image that shrinks more than fourfold is first averaged over blocks of pixels, at most half
    as wide as that area. Outside of the image the crop is black.

    Args:
        image: (height, width, 3) RGB.
        landmarks: (5, 2) x and y in pixels, as in `Detections`.

    Returns:
        (112, 112, 3) uint8.
    """
    matrix = similarity(landmarks, TEMPLATE)
    inverse = _inverse(matrix)
    shrinkage = np.sqrt(abs(np.linalg.det(inverse[:, :2])))  # pixels of the image per pixel of the crop, along an axis
    block = max(1, int(shrinkage / 2)) if shrinkage > 4 else 1
    n_samples = max(1, round(shrinkage / block))  # along each axis
    ends = np.array([-0.5, CROP_PX - 0.5])
    corners = np.stack(np.meshgrid(ends, ends), axis=-1).reshape(-1, 2) @ inverse[:, :2].T + inverse[:, 2]
    low = np.floor(corners.min(axis=0)).astype(np.int64) - block
    n_blocks = -(-(np.ceil(corners.max(axis=0)).astype(np.int64) + block + 1 - low) // block)
    pixels = _averaged(_part(image, low, n_blocks * block), block)
    to_blocks = inverse / block  # centres of pixels are whole numbers in both
    to_blocks[:, 2] = (inverse[:, 2] - low + 0.5) / block - 0.5
    return _sampled(pixels, to_blocks, n_samples)


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def _part(image: NDArray[np.uint8], low: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A rectangle of an image whose upper left corner is (x, y); black outside of the image."""
    height, width = image.shape[:2]
    high = low + size
    (x0, y0), (x1, y1) = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
    if (x1 - x0, y1 - y0) == tuple(size):
        return image[y0:y1, x0:x1]
    part = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    part[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]] = image[y0:y1, x0:x1]
    return part


def _averaged(image: NDArray[np.uint8], block: int) -> "torch.Tensor":
    """(1, 3, rows, columns) float means over blocks."""
    import torch  # videos are looked for without it
    from torch.nn import functional

    pixels = torch.tensor(image.transpose(2, 0, 1), dtype=torch.float32)[None]
    return functional.avg_pool2d(pixels, block) if block > 1 else pixels


def _sampled(pixels: "torch.Tensor", matrix: NDArray[np.float64], n_samples: int) -> NDArray[np.uint8]:
    """Sample the crop from (1, 3, rows, columns) with the (2, 3) matrix that maps crop to image coordinates.

    A pixel is the mean of `n_samples` by `n_samples` bilinear samples.
    """
    import torch
    from torch.nn import functional

    size = np.array([pixels.shape[3], pixels.shape[2]])
    # the convention of grid_sample: -1 to 1 from the first to the last pixel
    matrix = matrix * (2 / (size - 1))[:, None]
    matrix[:, 2] -= 1
    axis = torch.arange(CROP_PX * n_samples, dtype=torch.float32).add(0.5).div(n_samples).sub(0.5)
    per_column, per_row, begin = torch.from_numpy(matrix.T.astype(np.float32))
    grid = axis[None, :, None] * per_column + (axis[:, None, None] * per_row + begin)
    sampled = functional.grid_sample(pixels, grid[None], mode="bilinear", padding_mode="zeros", align_corners=True)
    means = functional.avg_pool2d(sampled, n_samples) if n_samples > 1 else sampled
    return means[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
