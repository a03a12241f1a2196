"""Batches of crops of many sizes: the networks get full batches, and each frame the feature that it has alone."""

import numpy as np
import pytest
import torch

from abaw.backbones.spec import ImageInput
from abaw.backbones.vision.preprocess import apply_view, prepare_images
from abaw.core.progress import Summary
from abaw.datasets.crops import list_crops
from abaw.extract.stage import Stage
from abaw.media.images import read_image
from abaw.pipeline import ExtractOptions

BATCH_SIZE = 8
BACKBONES = ("timm/test_vit", "timm/test_resnet")  # both are small, and take images of 160 pixels


@pytest.fixture
def mixed(make_data, make_crops):
    """Data with 30 crops of three videos, in sizes from 60 to 200; some sizes are there several times."""
    root = make_data({"even": 10}, size=112)
    sizes = np.random.default_rng(0).integers(60, 200, 20).tolist()
    for number, size in enumerate([*sizes[:17], 112, 64, 64]):
        make_crops(root / "cropped_aligned" / ("one" if number < 12 else "two"), [number + 1], seed=5, size=size)
    return root


@pytest.fixture
def extracted(mixed, tmp_path):
    """A stage that has extracted the mixed crops, and the numbers of rows of each forward pass of each backbone."""
    options = ExtractOptions(mixed, tmp_path / "store.zarr", (*BACKBONES, "hog"), views=("hflip",), untrained=True,
                             device="cpu", batch_size=BATCH_SIZE)  # fmt: skip
    stage, summary = Stage.open(options), Summary()
    passes: dict[str, list[int]] = {}
    for backbone in {id(feature.backbone): feature.backbone for feature in stage.features}.values():
        mine = passes.setdefault(backbone.spec.name, [])
        backbone._network.register_forward_hook(lambda module, inputs, output, mine=mine: mine.append(len(inputs[0])))
    stage.run(stage.plan(summary).groups, summary, lambda n, note: None)
    assert summary.ok and summary.n_frames == 30, summary
    return stage, passes


def test_crops_of_many_sizes_share_full_batches(extracted):
    passes = extracted[1]
    assert passes == dict.fromkeys((*BACKBONES, "hog"), [BATCH_SIZE] * 4 * 2)  # 30 crops, plain and mirrored


def test_crops_of_many_sizes_have_the_features_that_each_has_alone(extracted, mixed):
    stage = extracted[0]
    assert len(stage.features) == 6
    for feature in stage.features:
        for video in ("even", "one", "two"):
            crops = list_crops(mixed / "cropped_aligned" / video)
            found = stage.store.read(feature.name, video)
            assert np.flatnonzero(found.present).tolist() == (crops.numbers - 1).tolist()
            for row, name in zip(crops.numbers - 1, crops.names, strict=True):
                alone = np.stack([read_image(mixed / "cropped_aligned" / video / name)] * BATCH_SIZE)
                images = apply_view(torch.from_numpy(alone), feature.view)
                wanted = feature.backbone(feature.backbone.preprocess(images))[0].numpy()
                np.testing.assert_array_equal(found.values[row], wanted.astype(found.values.dtype))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(112, 112), (67, 131), (160, 160), (250, 201)])
def test_model_input_does_not_depend_on_how_many_images_are_prepared_together(interpolation, size):
    """As they are here padded to a full batch only afterwards."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, *size, 3), dtype=np.uint8))
    image = ImageInput(160, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), interpolation)
    together = prepare_images(images, image)
    for n in (1, 2, 5):
        assert torch.equal(prepare_images(images[:n], image), together[:n])
