"""Preprocessing: what Pillow would have made of a face, and the scale that each network expects."""

import numpy as np
import pytest
import torch
from PIL import Image

from abaw.backbones.registry import get_spec
from abaw.backbones.spec import IMAGENET_MEAN, IMAGENET_STD, ImageInput
from abaw.backbones.vision.preprocess import apply_view, prepare_images
from abaw.tests.support.paths import DATA

FACES = DATA / "faces"
GREY_LEVELS = 2  # of 255, the mean difference that is allowed
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def read_face(name: str) -> np.ndarray:
    return np.array(Image.open(FACES / f"{name}.jpg").convert("RGB"))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", sorted(file.stem for file in FACES.glob("*.jpg")))
@pytest.mark.parametrize("size", [112, 224])
def test_resizing_agrees_with_pillow(name, size, interpolation):
    face = read_face(name)
    image = ImageInput(size, (0.0,) * 3, (1.0,) * 3, interpolation)
    wanted = np.asarray(Image.fromarray(face).resize((size, size), FILTERS[interpolation])).astype(float)

    found = prepare_images(torch.from_numpy(face)[None], image)[0].permute(1, 2, 0).numpy() * 255

    assert found.shape == (size, size, 3)
    assert np.abs(found - wanted).mean() < GREY_LEVELS
    # antialiasing is not a detail: without it, shrinking gives another image
    if face.shape[0] == 346 and size == 112:
        nearest = np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.NEAREST)).astype(float)
        assert np.abs(found - nearest).mean() > GREY_LEVELS


def test_float_path_of_accelerators_agrees_with_the_8_bit_path():
    """On other devices images are resized as floats: the meta device takes that path but has no values, so by hand."""
    face = torch.from_numpy(read_face("talking_face_346"))[None]
    image = ImageInput(112, (0.0,) * 3, (1.0,) * 3, "bicubic")
    pixels = face.permute(0, 3, 1, 2).float()
    as_float = torch.nn.functional.interpolate(pixels, (112, 112), mode="bicubic", antialias=True).clamp(0, 255)
    assert (prepare_images(face, image) * 255 - as_float).abs().mean() < GREY_LEVELS / 2
    assert prepare_images(face.to("meta"), image).shape == (1, 3, 112, 112)


@pytest.mark.parametrize("name", ["iresnet50", "iresnet100"])
def test_face_recognition_sees_minus_one_to_one(name):
    image = get_spec(name).image
    assert image is not None and image.size == 112
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(1, 112, 112, 1)
    prepared = prepare_images(pixels, image)
    # RGB order is kept, and x / 255 is brought to (x / 255 - .5) / .5
    assert torch.allclose(prepared[0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]), atol=1e-6)
    assert prepared.shape == (1, 3, 112, 112) and prepared.dtype == torch.float32


@pytest.mark.parametrize("name", ["dan", "mae-mean", "mae-l-cls", "mae-h-cls", "swin-t", "resnet50", "emma"])
def test_imagenet_normalisation(name):
    image = get_spec(name).image
    assert image is not None
    assert (image.size, image.mean, image.std) == (224, IMAGENET_MEAN, IMAGENET_STD)
    white = prepare_images(torch.full((1, 224, 224, 3), 255, dtype=torch.uint8), image)
    wanted = (1 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert torch.allclose(white[0, :, 5, 5], wanted, atol=1e-5)


def test_clip_has_its_own_normalisation():
    image = get_spec("clip-l14").image
    assert image is not None and image.size == 224
    assert image.mean == (0.48145466, 0.4578275, 0.40821073)
    assert image.std == (0.26862954, 0.26130258, 0.27577711)


def test_hflip_mirrors_and_masks_leave_images_alone():
    face = torch.from_numpy(read_face("single_face_112"))[None]
    assert torch.equal(apply_view(face, "hflip")[0, :, 0], face[0, :, -1])
    assert torch.equal(apply_view(face, "mask0.75.0"), face)
    assert torch.equal(apply_view(face, ""), face)


def test_bfloat16_input_is_the_float32_input_rounded():
    face = torch.from_numpy(read_face("single_face_112"))[None]
    image = get_spec("iresnet50").image
    assert image is not None
    rounded = prepare_images(face, image, torch.bfloat16)
    assert torch.equal(rounded, prepare_images(face, image).bfloat16())
