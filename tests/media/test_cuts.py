"""Cuts are seen in real pictures, and what is none is not."""

from itertools import chain

import numpy as np
import pytest

from abaw.media.cuts import LOOK, note_cuts
from abaw.media.pictures import Picture, read_pictures
from abaw.tests.support.paths import DATA

Pictures = list[np.ndarray]


@pytest.fixture(scope="module")
def face() -> Pictures:
    """Somebody who talks, 12 pictures."""
    return [picture.image for picture in read_pictures(DATA / "sample" / "videos" / "single_face.mp4", range(12))]


@pytest.fixture(scope="module")
def leaving() -> Pictures:
    """Somebody, then a black picture, then another view: pictures 66 to 79."""
    file = DATA / "sample" / "videos" / "face_noface.mov"
    return [picture.image[::2, ::2] for picture in read_pictures(file, range(66, 80))]


@pytest.fixture(scope="module")
def room(leaving) -> Pictures:
    """The view without anybody, seven pictures."""
    return leaving[7:]


def cuts_of(pictures: Pictures) -> list[int]:
    """Numbers of the first pictures after cuts; each was known when its picture came, and all came in order."""
    cuts: list[int] = []
    numbers = []
    for picture in note_cuts((Picture(n, n / 25, image) for n, image in enumerate(pictures)), cuts):
        numbers.append(picture.number)
        assert picture.image is pictures[picture.number]
        assert all(cut <= picture.number for cut in cuts)
    assert numbers == list(range(len(pictures)))
    return cuts


def test_cuts_between_real_shots(face, room):
    assert cuts_of([*face[:8], *room[:6], *face[8:]]) == [8, 14]
    assert cuts_of([*face[:2], *room[:6], *face[:1]]) == [2, 8], "also near the ends"
    assert cuts_of(face) == cuts_of(face[:1]) == cuts_of([]) == []


def test_a_black_picture_between_two_shots_is_one_cut(leaving):
    assert leaving[6].mean() < 1 and cuts_of(leaving) == [6]


@pytest.mark.parametrize("n_bright", range(1, LOOK))
def test_a_flash_is_no_cut(face, n_bright):
    flash = [np.full_like(face[0], 250 - 20 * n) for n in range(n_bright)]
    assert cuts_of([*face[:6], *flash, *face[6:]]) == []
    assert cuts_of([*face[:6], *flash, *flash[:1] * (LOOK - n_bright), *face[6:]]) == [6, 6 + LOOK], "a shot is"


def test_light_pans_dissolves_and_noise_are_no_cuts(face, room):
    darker = [(image * 0.45).astype(np.uint8) for image in face]
    assert cuts_of([*face, *darker]) == [] != cuts_of([*face, *(image[::-1] for image in darker)])
    n_rows, n_columns = room[0].shape[:2]
    wide = np.concatenate([face[0][:n_rows, :n_columns], room[0]], axis=1)
    assert cuts_of([wide[:, start : start + 320] for start in range(0, wide.shape[1] - 320, 20)]) == []
    dissolved = [wide[:, :n_columns] * (1 - part) + room[0] * part for part in np.linspace(0, 1, 30)]
    dissolved = [image.astype(np.uint8) for image in dissolved]
    assert cuts_of(dissolved) == []
    rng = np.random.default_rng(0)
    assert cuts_of([rng.integers(0, 8, (90, 160, 3), dtype=np.uint8) for _ in range(12)]) == [], "a dark, noisy room"


def test_cuts_do_not_depend_on_the_size(face, room):
    half = list(chain((image[::2, ::2] for image in face[:6]), room[:6], (image[::3, ::3] for image in face[6:])))
    assert cuts_of(half) == [6, 12]
