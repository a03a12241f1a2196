"""Views: their names, which patches a mask keeps, and that a masked pass is the pass of the kept patches."""

import numpy as np
import pytest
import torch

from abaw.backbones.backbone import create_backbone
from abaw.backbones.extractor import Backbone
from abaw.backbones.registry import Built
from abaw.backbones.spec import BackboneSpec
from abaw.backbones.vision.mae import MaeEncoder, Size
from abaw.backbones.vision.views import Mask, kept_patches, parse_mask, parse_view
from abaw.core.errors import UsageError

RECORDED_PATCHES = [4, 5, 10, 14, 31, 36]
KEYS = [("walk", 1), ("walk", 2), ("talk", 1), ("talk", 7)]


def make_tiny_mae() -> Backbone:
    """The real network, narrow, with other weights in its norm and tokens than the ones it starts from."""
    torch.manual_seed(0)
    network = MaeEncoder(Size(patch=16, width=24, depth=2, heads=3))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    specs = [BackboneSpec(f"tiny-{output}", "tiny", output, "vision", (24,), "", "file") for output in ("mean", "cls")]
    return Backbone(Built(network, specs))


@pytest.mark.parametrize(
    ("text", "n_views", "views"),
    [
        ("", 1, [""]),
        ("hflip", 1, ["hflip"]),
        ("mask0.75", 1, ["mask0.75.0"]),
        ("mask0.75", 2, ["mask0.75.0", "mask0.75.1"]),
        ("mask.5", 3, ["mask0.5.0", "mask0.5.1", "mask0.5.2"]),
        ("mask0.750", 1, ["mask0.75.0"]),
        ("mask0.75.4", 1, ["mask0.75.4"]),
    ],
)
def test_view_names(text, n_views, views):
    assert parse_view(text, n_views) == views


@pytest.mark.parametrize(
    ("text", "n_views"),
    [
        *(
            (text, 1)
            for text in ("flip", "mask", "mask1.0", "mask0.0", "mask75", "mask-0.5", "mask0.75.x", "mask0.75.1.2")
        ),
        *((text, 2) for text in ("", "hflip", "mask0.75.1")),
        ("mask0.75", 0),
    ],
)
def test_nonsense_views_are_refused_with_what_is_allowed(text, n_views):
    with pytest.raises(UsageError, match=r"Allowed are hflip .* mask0\.75"):
        parse_view(text, n_views)


def test_masks_depend_on_video_frame_and_index_alone():
    mask = Mask(0.75, 0)
    kept = kept_patches(mask, KEYS, 196)
    assert kept.shape == (4, 49)
    assert (np.diff(kept, axis=1) > 0).all() and kept.min() >= 0 and kept.max() < 196
    assert len({tuple(row) for row in kept}) == 4, "frames have masks of their own"
    assert np.array_equal(kept_patches(mask, KEYS[2:3], 196)[0], kept[2])
    assert np.array_equal(kept_patches(mask, KEYS[::-1], 196), kept[::-1])
    assert not np.array_equal(kept_patches(Mask(0.75, 1), KEYS, 196), kept)
    # recorded: a later version must make the same choice, or stored views could not be continued
    assert kept[0, :6].tolist() == RECORDED_PATCHES
    assert kept_patches(Mask(0.9, 0), KEYS, 10).shape == (4, 1)
    assert kept_patches(Mask(0.999, 0), KEYS, 196).shape == (4, 1)


def test_masks_hide_every_patch_equally_often():
    keys = [(f"video{video}", frame) for video in range(4) for frame in range(1, 501)]
    counts = np.bincount(kept_patches(Mask(0.75, 0), keys, 196).ravel(), minlength=196)
    # binomial: 2000 draws of 1/4, so 500 +- 19; five deviations either side
    assert counts.sum() == 2000 * 49
    assert abs(counts - 500).max() < 97


def test_masked_pass_is_the_pass_of_the_kept_tokens():
    backbone = make_tiny_mae()
    network = backbone._network
    images = torch.randn(4, 3, 224, 224)
    features = backbone(images, "mask0.75.1", KEYS)
    assert isinstance(features, dict)

    mask = parse_mask("mask0.75.1")
    assert mask is not None
    kept = torch.from_numpy(kept_patches(mask, KEYS, 196))
    with torch.inference_mode():
        embedded = network.patch_embed(images) + network.pos_embed[:, 1:]
        for row in range(4):  # one by one, picked by indexing
            first = network.cls_token + network.pos_embed[:, :1]
            tokens = network.norm(network.blocks(torch.cat([first, embedded[row : row + 1, kept[row]]], dim=1)))
            assert torch.allclose(features["tiny-cls"][row], tokens[0, 0], atol=1e-5)
            assert torch.allclose(features["tiny-mean"][row], tokens[0, 1:].mean(0), atol=1e-5)
    alone = backbone(images[2:3], "mask0.75.1", KEYS[2:3])
    assert isinstance(alone, dict)
    assert torch.allclose(alone["tiny-mean"][0], features["tiny-mean"][2], atol=1e-5)


def test_full_pass_is_timm_s_own():
    network = make_tiny_mae()._network
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(network.tokens(images), network.forward_features(images), atol=1e-5)
        every = torch.arange(196).expand(2, -1)
        assert torch.allclose(network.tokens(images, every), network.tokens(images), atol=1e-5)


def test_masked_views_in_bfloat16():
    network = MaeEncoder(Size(patch=16, width=24, depth=2, heads=3))
    backbone = Backbone(Built(network, make_tiny_mae().specs), precision="bfloat16")
    features = backbone(torch.randn(4, 3, 224, 224, dtype=torch.bfloat16), "mask0.5.0", KEYS)
    assert isinstance(features, dict)
    assert features["tiny-cls"].dtype == torch.bfloat16 and bool(features["tiny-cls"].isfinite().all())


def test_masked_views_need_patches_and_keys():
    hog = create_backbone("hog")
    inputs = torch.rand(1, 3, 112, 112)
    with pytest.raises(UsageError, match=r"hog has no patches to mask\. Take mae-mean or mae-cls"):
        hog(inputs, "mask0.75.0", KEYS[:1])
    with pytest.raises(UsageError, match="the video and frame of each; it got 0"):
        make_tiny_mae()(torch.randn(2, 3, 224, 224), "mask0.75.0")
    with pytest.raises(UsageError, match="the video and frame of each; it got 1"):
        make_tiny_mae()(torch.randn(2, 3, 224, 224), "mask0.75.0", KEYS[:1])
    with pytest.raises(UsageError, match="has no number"):
        make_tiny_mae()(torch.randn(2, 3, 224, 224), "mask0.75", KEYS[:2])
    assert torch.equal(hog(inputs, "hflip"), hog(inputs)), "mirroring is done to the images before"
