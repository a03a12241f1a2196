"""MTCNN: an image pyramid goes through P-Net, its proposals through R-Net, the remaining ones through O-Net.

Parameters and the rounding of coordinates between the stages are those of facenet-pytorch; the outputs agree with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.extract.faces.area_means import AddedAreas, AreaMeans, SummedAreas
from abaw.extract.faces.detections import N_LANDMARKS, Detections
from abaw.extract.faces.detector_weights import read_weights, weights_folder
from abaw.extract.faces.networks import (
    CELL_PX,
    OUTPUT_PX,
    REFINE_PX,
    STRIDE_PX,
    output_network,
    proposal_network,
    refine_network,
    run,
)
from abaw.extract.faces.suppression import kept_in_groups

THRESHOLDS = (0.6, 0.7, 0.7)  # minimum probability of a face in the three networks
PYRAMID_FACTOR = 0.709  # the area halves from one scale to the next
MIN_FACE_PX = 40
MIN_FACE_PART = 18  # the smallest face is at least 1/18 of the shorter side: 60 pixels of 1080
BATCH_PIXELS = {"cpu": 2**20, "cuda": 2**25}  # of pictures that go through P-Net together
N_REFINED = 1024  # boxes that go through R-Net or O-Net together


class Mtcnn:
    """The detector. It is deterministic; pictures of one size share forward passes.

    Args:
        device: of torch.
        min_face_px: side of the smallest face to find; 0 takes 40, or 1/18 of the shorter side if that is larger.

    Raises:
        CheckpointError: the weights are missing or invalid.
    """

    def __init__(self, device: torch.device | str = "cpu", min_face_px: float = 0) -> None:
        self._device, self._min_face_px = torch.device(device), min_face_px
        self._proposal, self._refine, self._output = proposal_network(), refine_network(), output_network()
        folder = weights_folder()
        for name, network in (("pnet", self._proposal), ("rnet", self._refine), ("onet", self._output)):
            network.load(read_weights(name, folder))
            network.eval().requires_grad_(False).to(self._device)

    def detect(self, images: NDArray[np.uint8]) -> list[Detections]:
        """Detect the faces of each picture (n, height, width, 3) uint8 RGB, the largest first."""
        batch_size = max(
            1, BATCH_PIXELS.get(self._device.type, BATCH_PIXELS["cpu"]) // (images.shape[1] * images.shape[2])
        )
        detections: list[Detections] = []
        for start in range(0, len(images), batch_size):
            with _exact():
                detections += self._detect(images[start : start + batch_size])
        return detections

    def refine(self, images: NDArray[np.uint8], places: list[NDArray[np.float32]]) -> list[Detections]:
        """Find faces near given boxes, see `RefiningDetector`: R-Net and O-Net on squares around the boxes."""
        counts = [len(boxes) for boxes in places]
        if not sum(counts):
            return [Detections.empty() for _ in places]
        with _exact():
            owners = torch.repeat_interleave(torch.arange(len(places)), torch.tensor(counts)).to(self._device)
            boxes = torch.from_numpy(np.concatenate(places).astype(np.float32)).to(self._device)
            pixels = AddedAreas(images, self._device)  # few boxes
            boxes = _squares(boxes)
            boxes = _moved(boxes, self._refined(pixels, owners, boxes)[0])
            boxes, landmarks, scores = self._finished(pixels, owners, _squares(boxes))
            scores = torch.where(scores > THRESHOLDS[2], scores, 0)
        return _by_picture(len(places), owners, boxes, scores, landmarks)

    def _detect(self, images: NDArray[np.uint8]) -> list[Detections]:
        on_cpu = self._device.type == "cpu"
        pixels = SummedAreas(images) if on_cpu else AddedAreas(images, self._device)
        owners, boxes = self._proposed(pixels)
        offsets, scores = self._refined(pixels, owners, boxes)
        rows = torch.nonzero(scores > THRESHOLDS[1])[:, 0]
        rows = rows[kept_in_groups(boxes[rows], scores[rows], owners[rows], 0.7)]
        return self._last_stage(pixels, owners[rows], _moved(boxes[rows], offsets[rows]))

    def _proposed(self, pixels: AreaMeans) -> tuple[Tensor, Tensor]:
        """Proposals: the picture (k,) and the square (k, 4) of each."""
        _, height, width = pixels.shape
        parts = []
        for scale in _scales(height, width, self._min_face_px or max(MIN_FACE_PX, min(height, width) / MIN_FACE_PART)):
            size = int(height * scale + 1), int(width * scale + 1)
            offsets, probabilities = run(self._proposal, pixels.resized(*size))
            owners, cells, scores, boxes = _cells(offsets, probabilities, scale)
            rows = kept_in_groups(cells, scores, owners, 0.5)
            parts.append((owners[rows], cells[rows], scores[rows], boxes[rows]))
        if not parts:  # the pictures are smaller than the smallest face
            return torch.zeros(0, dtype=torch.int64, device=self._device), torch.zeros(0, 4, device=self._device)
        owners, cells, scores, offsets = (torch.cat([part[number] for part in parts]) for number in range(4))
        rows = kept_in_groups(cells, scores, owners, 0.7)
        sides = (cells[rows, 2:] - cells[rows, :2]).repeat(1, 2)
        return owners[rows], _squares(cells[rows] + offsets[rows] * sides)

    def _refined(self, pixels: AreaMeans, owners: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (k, 4) and probabilities (k,) by R-Net."""
        if not len(boxes):
            return boxes, boxes.new_zeros(0)
        crops = [run(self._refine, part) for part in _crops(pixels, owners, boxes, REFINE_PX)]
        offsets, scores = (torch.cat(part) for part in zip(*crops, strict=True))
        return offsets, scores

    def _finished(self, pixels: AreaMeans, owners: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (k, 4), landmarks (k, 5, 2) and probabilities (k,) by O-Net."""
        if not len(boxes):
            return boxes, boxes.new_zeros(0, N_LANDMARKS, 2), boxes.new_zeros(0)
        crops = [run(self._output, part) for part in _crops(pixels, owners, boxes, OUTPUT_PX)]
        offsets, points, scores = (torch.cat(part) for part in zip(*crops, strict=True))
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        relative = points.reshape(-1, 2, N_LANDMARKS).transpose(1, 2)  # five x, then five y
        landmarks = relative * sides[:, None] + boxes[:, None, :2] - 1
        return _moved(boxes, offsets), landmarks, scores

    def _last_stage(self, pixels: AreaMeans, owners: Tensor, boxes: Tensor) -> list[Detections]:
        boxes, landmarks, scores = self._finished(pixels, owners, _squares(boxes))
        rows = torch.nonzero(scores > THRESHOLDS[2])[:, 0]
        detections = _by_picture(pixels.shape[0], owners[rows], boxes[rows], scores[rows], landmarks[rows])
        return [faces.select(_without_nested(faces)) for faces in detections]


@contextmanager
def _exact() -> Iterator[None]:
    """Deterministic, and in full precision on a GPU, because probabilities are compared with thresholds."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield


def _scales(height: int, width: int, min_face_px: float) -> list[float]:
    """Scales of the pyramid: from where the smallest face fills a cell down to where the picture does."""
    scale, scales = CELL_PX / min_face_px, []
    while min(height, width) * scale >= CELL_PX:
        scales.append(scale)
        scale *= PYRAMID_FACTOR
    return scales


def _cells(offsets: Tensor, probabilities: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cells of P-Net with a face: picture (k,), cell (k, 4) in pixels of the picture, probability (k,), offsets (k, 4)."""
    owners, rows, columns = torch.nonzero(probabilities >= THRESHOLDS[0], as_tuple=True)
    corners = torch.stack([columns, rows], dim=1) * STRIDE_PX
    cells = torch.cat([((corners + 1) / scale).floor(), ((corners + CELL_PX) / scale).floor()], dim=1)
    return owners, cells, probabilities[owners, rows, columns], offsets[owners, :, rows, columns]


def _squares(boxes: Tensor) -> Tensor:
    """Squares (k, 4) with the centres and the longer sides of boxes."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(dim=1, keepdim=True).values
    low = boxes[:, :2] + (sides - longer) / 2
    return torch.cat([low, low + longer], dim=1)


def _moved(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Boxes (k, 4) moved by offsets relative to their sides; a side includes both border pixels, as in training."""
    return boxes + offsets * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def _crops(pixels: AreaMeans, owners: Tensor, boxes: Tensor, size_px: int) -> list[Tensor]:
    """Batches of the insides of boxes, clipped to the picture, area-resized to float (k, 3, size_px, size_px)."""
    _, height, width = pixels.shape
    left, top, right, bottom = boxes.trunc().to(torch.int64).T.cpu()  # pixels count from 1 here
    left, top = left.clamp(1, width) - 1, top.clamp(1, height) - 1
    right, bottom = torch.maximum(right.clamp(max=width), left + 1), torch.maximum(bottom.clamp(max=height), top + 1)
    corners, owner = torch.stack([left, top, right, bottom]).numpy(), owners.cpu().numpy()
    return [
        pixels.crops(owner[part], tuple(corners[:, part]), size_px)
        for part in (slice(start, start + N_REFINED) for start in range(0, len(owner), N_REFINED))
    ]


def _by_picture(n: int, owners: Tensor, boxes: Tensor, scores: Tensor, landmarks: Tensor) -> list[Detections]:
    arrays = [tensor.float().cpu().numpy() for tensor in (boxes, scores, landmarks)]
    rows = owners.cpu().numpy()
    return [Detections(*(array[rows == number] for array in arrays)) for number in range(n)]


def _without_nested(faces: Detections) -> NDArray[np.int64]:
    """Indices of the faces, the largest first, without those that share 70 % of the smaller box with a better face."""
    boxes = faces.boxes
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    rows: list[int] = []
    for row in np.argsort(-faces.scores, kind="stable").tolist():
        low, high = np.maximum(boxes[row, :2], boxes[rows, :2]), np.minimum(boxes[row, 2:], boxes[rows, 2:])
        shared = (high - low + 1).clip(min=0).prod(axis=1)
        if (shared <= 0.7 * np.minimum(sides[row].prod(), sides[rows].prod(axis=1))).all():
            rows.append(row)
    rows.sort(key=lambda row: -float(sides[row].prod()))
    return np.array(rows, dtype=np.int64)
