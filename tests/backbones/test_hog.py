"""`hog` equals scikit-image's, whatever else is in the batch."""

import numpy as np
import pytest
import torch
from skimage.feature import hog as reference_hog

from abaw.backbones.backbone import create_backbone
from abaw.backbones.vision.hog import Hog
from abaw.media.images import read_image

GREY = np.array([0.299, 0.587, 0.114])


def reference(image: np.ndarray) -> np.ndarray:
    """scikit-image's HOG of a uint8 RGB image."""
    grey = (image.astype(np.float64) / 255) @ GREY
    return reference_hog(grey, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(1, 1))


def ours(images: np.ndarray) -> np.ndarray:
    hog = create_backbone("hog")
    return hog(hog.preprocess(torch.from_numpy(images))).numpy()


def random_images(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (n, 112, 112, 3), dtype=np.uint8)
    smooth = np.repeat(np.repeat(rng.integers(0, 256, (n, 14, 14, 3), dtype=np.uint8), 8, 1), 8, 2)
    return np.concatenate([noise, smooth])


@pytest.mark.parametrize("video", ["single_face", "face_noface"])
def test_equals_scikit_image_on_real_faces(sample, video):
    files = sorted((sample / "cropped_aligned" / video).iterdir())[::9]
    images = np.stack([read_image(file) for file in files])
    np.testing.assert_allclose(ours(images), np.stack([reference(image) for image in images]), atol=1e-4)


def test_equals_scikit_image_on_random_images():
    images = random_images(4)
    np.testing.assert_allclose(ours(images), np.stack([reference(image) for image in images]), atol=1e-4)


def test_equals_scikit_image_on_the_demo(tiny_demo):
    files = sorted((tiny_demo / "cropped_aligned").glob("*/00020.jpg"))
    images = np.stack([read_image(file) for file in files])
    np.testing.assert_allclose(ours(images), np.stack([reference(image) for image in images]), atol=1e-4)


def test_flat_images_give_zeros():
    flat = np.stack([np.full((112, 112, 3), level, np.uint8) for level in (0, 127, 255)])
    np.testing.assert_array_equal(ours(flat), 0)


def test_a_frame_does_not_depend_on_the_others_in_its_batch(sample):
    images = np.concatenate([random_images(3), read_image(sample / "cropped_aligned/single_face/00001.jpg")[None]])
    together = ours(images)
    for index in range(len(images)):
        np.testing.assert_array_equal(ours(images[index : index + 1])[0], together[index])
    np.testing.assert_array_equal(ours(images[::-1].copy())[::-1], together)


def test_spec_tells_the_shape_and_needs_no_weights():
    hog = create_backbone("hog", precision="bfloat16")
    assert (hog.spec.shape, hog.spec.weights, hog.weights_sha256) == ((1764,), "none", None)
    assert ours(random_images(1)).shape == (2, 1764)


def test_is_computed_in_float32_whatever_precision_is_asked_for():
    images = torch.from_numpy(random_images(2))
    rough = create_backbone("hog", precision="bfloat16")
    np.testing.assert_array_equal(rough(rough.preprocess(images)).numpy(), ours(images.numpy()))


def test_bins_and_cells_are_where_they_should_be():
    image = torch.zeros(1, 3, 112, 112)
    image[:, :, 8:16, 20:] = 1  # one upright edge between columns 19 and 20, inside cell column 2 of cell row 1
    cells = Hog()(image)["hog"].view(14, 14, 9)
    row, column = 1, 2
    assert cells[row, column].argmax() == 0  # a gradient to the right is at 0 degrees
    assert cells[row, 1].sum() == 0
    assert cells[5:].sum() == 0
