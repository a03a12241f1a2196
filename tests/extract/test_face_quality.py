"""The quality of a crop: by hand, in tables of faces, and in the store."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace

from abaw.core.errors import StoreError
from abaw.datasets.crop_quality import FaceTables
from abaw.extract.faces.alignment import TEMPLATE
from abaw.extract.faces.quality import crop_quality
from abaw.store import FeatureStore
from abaw.tests.extract.test_from_videos import N_FRAMES, STUB, VIDEOS, pictures
from abaw.tests.support.videos import NumberedVideos

AHEAD = TEMPLATE.astype(np.float32)  # its nose is .4 % off the middle of the eyes


def noise(sigma: float = 0.0) -> np.ndarray:
    """A grey crop, blurred."""
    image = gaussian_filter(np.random.default_rng(0).integers(0, 256, (112, 112)).astype(float), sigma)
    return np.repeat(image[..., None], 3, axis=2).round().astype(np.uint8)


def quality(
    score: float = 1.0, side: float = 112, landmarks: np.ndarray = AHEAD, crop: np.ndarray | None = None
) -> float:
    box = np.array([10, 20, 10 + side, 20 + side], dtype=np.float32)
    return crop_quality(box, score, landmarks, noise() if crop is None else crop)


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0])
def test_sharpness_is_the_variance_of_the_laplacian(sigma):
    crop = noise(sigma)
    variance = laplace(crop[..., 0].astype(float))[1:-1, 1:-1].var()
    t = (56.0252 - 38.2946) / (73.5318 - 38.2946)
    assert quality(crop=crop) == pytest.approx(variance / (variance + 100) * (1 - abs(2 * t - 1)), rel=0.01)


def test_score_size_and_pose_are_factors():
    whole = quality()
    assert quality(score=0.5) == pytest.approx(whole / 2)
    assert quality(side=56) == pytest.approx(whole / 2) and quality(side=300) == whole
    turned = AHEAD.copy()
    turned[2] = (
        turned[0] + (turned[1] - turned[0]) * 0.75 + (0, 20)
    )  # the nose three quarters of the way to the right eye
    straight = AHEAD.copy()
    straight[2] = (turned[0] + turned[1]) / 2 + (0, 20)
    assert quality(landmarks=turned) == pytest.approx(quality(landmarks=straight) / 2, rel=0.03)
    turned[2] = turned[1] + (9, 20)  # beyond the eye: a profile
    assert quality(landmarks=turned) == 0
    roll = np.array([[0.8, -0.6], [0.6, 0.8]], dtype=np.float32)
    assert quality(landmarks=straight @ roll.T) == pytest.approx(quality(landmarks=straight), rel=1e-3)
    assert math.isnan(quality(landmarks=np.full((5, 2), np.nan, np.float32))), "of a whole picture"


@pytest.fixture(scope="module")
def filmed(tmp_path_factory) -> Path:
    """A video of two people, of whom the right one is away in frames 11 to 14; the left one is blurred from frame 21 on."""
    images = pictures(2)
    for image in images[20:]:
        image[:, :96] = gaussian_filter(image[:, :96].astype(float), (2, 2, 0)).round() * (image[:, :96] > 0)
    folder = tmp_path_factory.mktemp("quality")
    NumberedVideos().write(folder / "pair.mp4", N_FRAMES, pictures=images)
    return folder


def test_qualities_are_stored_with_features_of_crops_and_of_videos(filmed, tmp_path, run_cli):
    data, store, straight = tmp_path / "data", tmp_path / "crops.zarr", tmp_path / "videos.zarr"
    done = run_cli("prepare", filmed / "pair.mp4", "--data", data, "--detector", STUB, "--device", "cpu")
    assert done.exit_code == 0, done.output
    with (data / "faces" / "pair.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for words in (("--data", data, "--store", store), (*VIDEOS, "--data", filmed, "--store", straight)):
        assert run_cli("extract", "--backbone", "hog", "--device", "cpu", *words).exit_code == 0
    for person in ("pair_left", "pair_right"):
        wanted = np.zeros(N_FRAMES)
        for row in rows:
            if row["person"] == person:
                wanted[int(row["frame"]) - 1] = float(row["quality"])
        of_crops = FeatureStore.open(store).read_quality("hog", person)
        np.testing.assert_allclose(of_crops, wanted, rtol=1e-6)
        np.testing.assert_allclose(FeatureStore.open(straight).read_quality("hog", person), wanted, atol=1e-4)
        present = FeatureStore.open(store).read("hog", person).present
        assert ((wanted > 0) == present).all() and (wanted <= 1).all()
    left = FeatureStore.open(store).read_quality("hog", "pair_left")
    assert left[20:].max() < left[:20].min()
    assert (~FeatureStore.open(store).read("hog", "pair_right").present).nonzero()[0].tolist() == [10, 11, 12, 13]
    assert run_cli("store", "verify", store).exit_code == 0
    chunk = store / "features" / "hog" / "pair_left" / "quality" / "c" / "0"
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    with pytest.raises(StoreError, match="pair_left"):
        FeatureStore.open(store).read_quality("hog", "pair_left")
    assert run_cli("store", "verify", store).exit_code == 1


def test_quality_is_unknown_without_a_table_and_in_older_ones(tmp_path):
    faces = tmp_path / "faces"
    faces.mkdir()
    assert FaceTables(tmp_path).quality("old", 3) is None
    (faces / "old.json").write_text('{"people": ["old_left", "old_right"]}')
    (faces / "old.csv").write_text("frame,person,score\n1,old_left,0.9\n")
    assert FaceTables(tmp_path).quality("old_left", 3) is None
    (faces / "old.csv").write_text(
        "frame,person,quality\n1,old_left,0.9\n3,old_right,0.5\n7,old_left,0.2\n0,old_left,0.1\n"
    )
    assert FaceTables(tmp_path).quality("old_left", 3).tolist() == pytest.approx([0.9, 0, 0])
    assert FaceTables(tmp_path).quality("old", 3) is None
