"""Similarity transforms and crops against scikit-image."""

import numpy as np
import pytest
from PIL import Image
from skimage.transform import SimilarityTransform, downscale_local_mean, warp

from abaw.extract.faces.alignment import CROP_PX, TEMPLATE, align, similarity


def landmarks_at(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    """The template, brought into a picture."""
    turn = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return TEMPLATE @ matrix.T + shift


def smooth_picture(height: int, width: int, coarse: int = 8, seed: int = 0) -> np.ndarray:
    grains = np.random.default_rng(seed).integers(0, 256, (height // coarse, width // coarse, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(grains).resize((width, height), Image.Resampling.BICUBIC))


def test_similarity_agrees_with_scikit_image():
    rng = np.random.default_rng(0)
    for _ in range(50):
        source = landmarks_at(rng.uniform(0.2, 6), rng.uniform(-180, 180), rng.uniform(0, 500, 2))
        source = source + rng.normal(0, 5, source.shape)
        wanted = SimilarityTransform.from_estimate(source, TEMPLATE).params[:2]
        np.testing.assert_allclose(similarity(source, TEMPLATE), wanted, atol=1e-6)


def test_similarity_by_hand():
    square = np.array([(0, 0), (2, 0), (2, 2), (0, 2)])
    turned = np.array([(5, 1), (5, 5), (1, 5), (1, 1)])  # twice as large, a quarter turn, shifted
    np.testing.assert_allclose(similarity(square, turned), [[0, -2, 5], [2, 0, 1]], atol=1e-12)


def test_similarity_does_not_mirror():
    mirrored = TEMPLATE * [-1, 1]
    assert np.linalg.det(similarity(mirrored, TEMPLATE)[:, :2]) > 0


def test_a_face_that_is_in_place_stays_as_it_is():
    picture = smooth_picture(CROP_PX, CROP_PX)
    assert np.array_equal(align(picture, TEMPLATE), picture)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.4])
def test_crops_agree_with_scikit_image(scale):
    picture, landmarks = smooth_picture(400, 480), landmarks_at(scale, 20, (150, 90))
    found = SimilarityTransform.from_estimate(landmarks, TEMPLATE)
    wanted = warp(picture, found.inverse, output_shape=(CROP_PX, CROP_PX), order=1, preserve_range=True)
    assert np.abs(align(picture, landmarks) - wanted).max() <= 1


@pytest.mark.parametrize("shrinking", [2.2, 3.0, 3.4])
def test_a_shrunk_face_is_the_mean_over_areas(shrinking):
    picture, landmarks = smooth_picture(700, 800, coarse=4), landmarks_at(shrinking, 12, (220, 90))
    n = 8  # samples along each axis of a pixel of the crop
    fine = SimilarityTransform.from_estimate(landmarks, TEMPLATE * n + (n - 1) / 2)
    size = (n * CROP_PX, n * CROP_PX)
    wanted = downscale_local_mean(
        warp(picture, fine.inverse, output_shape=size, order=1, preserve_range=True), (n, n, 1)
    )
    plain = SimilarityTransform.from_estimate(landmarks, TEMPLATE)
    aliased = warp(picture, plain.inverse, output_shape=(CROP_PX, CROP_PX), order=1, preserve_range=True)
    crop = align(picture, landmarks)
    assert np.abs(crop - wanted).mean() < np.abs(aliased - wanted).mean() / 3


@pytest.mark.parametrize("shrinking", [1.0, 2.0, 3.5, 4.2, 7.3])
def test_a_mean_is_of_the_area_where_the_pixel_is(shrinking):
    ramp = np.broadcast_to(np.linspace(0, 255, 1021)[None, :, None], (900, 1021, 3)).round().astype(np.uint8)
    landmarks = landmarks_at(shrinking, 0, (100, 50))
    crop = align(ramp, landmarks).astype(float)
    wanted = (shrinking * np.arange(CROP_PX) + 100) * 255 / 1020  # of a ramp, an average is the value in the middle
    assert np.abs(crop[:, :, 0] - wanted).max() <= 1


def test_what_lies_outside_of_the_picture_is_black():
    picture = np.full((200, 200, 3), 200, dtype=np.uint8)
    crop = align(picture, landmarks_at(1, 0, (-56, 0)))
    assert (crop[:, :55] == 0).all() and (crop[:, 57:] == 200).all()
    assert not align(picture, landmarks_at(3, 0, (5000, 5000))).any()
