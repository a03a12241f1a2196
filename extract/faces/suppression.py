"""Suppression of boxes that overlap a better one: torchvision's operators without the rest of torchvision.

Importing torchvision loads torch's compiler, which takes a second of the processor. Its operators are in a library of
their own, which loads at once.
"""

from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MOST_TOGETHER = {"cpu": 4000, "cuda": 100_000}  # coordinates; torchvision's limits, above which groups are faster alone


def kept_boxes(boxes: Tensor, scores: Tensor, most_overlap: float) -> Tensor:
    """Indices (m,) of the boxes that no better one overlaps too much, the best first; `torchvision.ops.nms`.

    Args:
        boxes: (k, 4) left, top, right and bottom.
        scores: (k,).
        most_overlap: a box with a larger intersection over union is dropped.
    """
    return _operators().nms(boxes, scores, most_overlap)


def kept_in_groups(boxes: Tensor, scores: Tensor, groups: Tensor, most_overlap: float) -> Tensor:
    """The same, where only boxes of one group (k,) compete; `torchvision.ops.batched_nms`, with its rounding."""
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    if boxes.numel() <= MOST_TOGETHER.get(boxes.device.type, MOST_TOGETHER["cuda"]):
        apart = groups.to(boxes) * (boxes.max() + 1)
        return kept_boxes(boxes + apart[:, None], scores, most_overlap)
    is_kept = torch.zeros_like(scores, dtype=torch.bool)
    for group in torch.unique(groups):
        rows = torch.where(groups == group)[0]
        is_kept[rows[kept_boxes(boxes[rows], scores[rows], most_overlap)]] = True
    rows = torch.where(is_kept)[0]
    return rows[scores[rows].sort(descending=True)[1]]


@cache
def _operators() -> Any:
    """torchvision's operators; from the whole of torchvision if its library is elsewhere in this version."""
    spec = find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for library in sorted(Path(folder).glob("_C*")):
            with suppress(OSError):
                torch.ops.load_library(str(library))
    if not hasattr(torch.ops.torchvision, "nms"):
        import torchvision.ops  # noqa: F401  # registers them
    return torch.ops.torchvision
