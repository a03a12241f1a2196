"""Suppression of overlapping boxes, against torchvision's own functions."""

import pytest
import torch

from abaw.extract.faces.suppression import kept_boxes, kept_in_groups


@pytest.mark.parametrize("n", [0, 1, 900, 1500])  # torchvision takes groups one by one from 1001 boxes on
def test_boxes_kept_are_those_of_torchvision(n):
    from torchvision.ops import batched_nms, nms

    generator = torch.Generator().manual_seed(n)
    corners = torch.rand(n, 2, generator=generator) * 300
    boxes = torch.cat([corners, corners + 20 + 60 * torch.rand(n, 2, generator=generator)], dim=1)
    scores, groups = torch.rand(n, generator=generator), torch.randint(0, 4, (n,), generator=generator)
    assert kept_boxes(boxes, scores, 0.5).tolist() == nms(boxes, scores, 0.5).tolist()
    expected = batched_nms(boxes, scores, groups, 0.7).tolist()
    assert kept_in_groups(boxes, scores, groups, 0.7).tolist() == expected
    assert n < 2 or len(nms(boxes, scores, 0.7)) < len(expected) < n
