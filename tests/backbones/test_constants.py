"""What each backbone expects and gives, written out by hand, and the record that its fingerprint is made of."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from abaw.backbones.registry import get_spec, list_specs
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision.mae import MaeEncoder, Size
from abaw.backbones.vision.preprocess import prepare_images
from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS
from abaw.extract.faces.alignment import CROP_PX, TEMPLATE
from abaw.media.waveform import RATE_HZ

# means and standard deviations of R, G and B, as the authors of the weights publish them
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
VNAW = ((0.577, 0.4494, 0.4001), (0.2628, 0.2395, 0.2383))
VGGFACE = ((131.0912 / 255, 103.8827 / 255, 91.4953 / 255), (1 / 255, 1 / 255, 1 / 255))
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

# name: output, shape, side, mean and std, interpolation
VISION = {
    "hog": ("hog", 1764, 112, PLAIN, "bilinear"),
    "mae-mean": ("mean", 768, 224, IMAGENET, "bicubic"),
    "mae-cls": ("cls", 768, 224, IMAGENET, "bicubic"),
    "mae-l-mean": ("mean", 1024, 224, IMAGENET, "bicubic"),
    "mae-l-cls": ("cls", 1024, 224, IMAGENET, "bicubic"),
    "mae-h-mean": ("mean", 1280, 224, IMAGENET, "bicubic"),
    "mae-h-cls": ("cls", 1280, 224, IMAGENET, "bicubic"),
    "mae-mean-bilinear": ("mean", 768, 224, IMAGENET, "bilinear"),
    "mae-cls-bilinear": ("cls", 768, 224, IMAGENET, "bilinear"),
    "mae-l-mean-bilinear": ("mean", 1024, 224, IMAGENET, "bilinear"),
    "mae-l-cls-bilinear": ("cls", 1024, 224, IMAGENET, "bilinear"),
    "mae-h-mean-bilinear": ("mean", 1280, 224, IMAGENET, "bilinear"),
    "mae-h-cls-bilinear": ("cls", 1280, 224, IMAGENET, "bilinear"),
    "dan": ("logits", 8, 224, IMAGENET, "bilinear"),
    "dan-head": ("head", 512, 224, IMAGENET, "bilinear"),
    "dan-map": ("map", 512, 224, IMAGENET, "bilinear"),
    "emma": ("output", 22, 224, IMAGENET, "bilinear"),
    "emma-hidden": ("hidden", 768, 224, IMAGENET, "bilinear"),
    "emma-vit": ("vit", 768, 224, IMAGENET, "bilinear"),
    "emma-dan": ("dan", 8, 224, IMAGENET, "bilinear"),
    "emma-dan-head": ("dan-head", 512, 224, IMAGENET, "bilinear"),
    "vit-mean": ("mean", 768, 224, HALF, "bicubic"),
    "vit-cls": ("cls", 768, 224, HALF, "bicubic"),
    "vit-tiny-mean": ("mean", 192, 224, HALF, "bicubic"),
    "vit-tiny-cls": ("cls", 192, 224, HALF, "bicubic"),
    "resnet50": ("pooled", 2048, 224, IMAGENET, "bicubic"),
    "swin-t": ("pooled", 768, 224, IMAGENET, "bicubic"),
    "clip-l14": ("pooled", 1024, 224, CLIP, "bicubic"),
    "dinov3-s16-mean": ("mean", 384, 256, IMAGENET, "bicubic"),
    "dinov3-s16-cls": ("cls", 384, 256, IMAGENET, "bicubic"),
    "dinov3-b16-mean": ("mean", 768, 256, IMAGENET, "bicubic"),
    "dinov3-b16-cls": ("cls", 768, 256, IMAGENET, "bicubic"),
    "dinov3-l16-mean": ("mean", 1024, 256, IMAGENET, "bicubic"),
    "dinov3-l16-cls": ("cls", 1024, 256, IMAGENET, "bicubic"),
    "iresnet18": ("embedding", 512, 112, HALF, "bilinear"),
    "iresnet34": ("embedding", 512, 112, HALF, "bilinear"),
    "iresnet50": ("embedding", 512, 112, HALF, "bilinear"),
    "iresnet100": ("embedding", 512, 112, HALF, "bilinear"),
    "iresnet200": ("embedding", 512, 112, HALF, "bilinear"),
    "swin-face": ("embedding", 512, 112, VNAW, "bilinear"),
    "swin-face-mean": ("mean", 768, 112, VNAW, "bilinear"),
    "resnet50-vggface": ("pooled", 2048, 112, VNAW, "bilinear"),
    "resnet50-vggface-caffe": ("pooled", 2048, 224, VGGFACE, "bilinear"),
    "fer": ("mean", 128, 64, HALF, "bilinear"),
    "fer-logits": ("logits", 7, 64, HALF, "bilinear"),
    "emotieffnet-b0": ("embedding", 1280, 224, IMAGENET, "bilinear"),
    "emotieffnet-b0-logits": ("logits", 8, 224, IMAGENET, "bilinear"),
    "emotieffnet-b0-va": ("va", 2, 224, IMAGENET, "bilinear"),
    "emotieffnet-b2": ("embedding", 1408, 260, IMAGENET, "bilinear"),
    "emotieffnet-b2-logits": ("logits", 8, 260, IMAGENET, "bilinear"),
    "emotiddamfn": ("embedding", 512, 112, IMAGENET, "bilinear"),
    "emotiddamfn-logits": ("logits", 8, 112, IMAGENET, "bilinear"),
    "emotiddamfn-va": ("va", 2, 112, IMAGENET, "bilinear"),
}
# name: output, shape, frames a second, dtype
AUDIO = {
    "spectrogram": ("spectrogram", (1, 128, 128), 0, "float16"),  # one for each frame of the video
    "vggish": ("embedding", (128,), 1 / 0.24, "float16"),
    "vggish-relu": ("relu", (128,), 1 / 0.24, "float16"),
    "vggish-pca": ("pca", (128,), 1 / 0.24, "float16"),
    "compare": ("lld", (130,), 100, "float32"),
    "compare-functionals": ("func", (6373,), 1, "float32"),
    "egemaps": ("lld", (25,), 100, "float32"),
    "egemaps-functionals": ("func", (88,), 1, "float32"),
    "egemaps-v01a": ("lld", (23,), 100, "float32"),
    "egemaps-v01a-functionals": ("func", (88,), 1, "float32"),
    "wav2vec2": ("last", (768,), 50, "float16"),
    "hubert": ("last", (768,), 50, "float16"),
    "wavlm": ("last", (768,), 50, "float16"),
    "whisper": ("last", (512,), 50, "float16"),
    "ast": ("pooled", (768,), 1, "float16"),
}
TIMM = {
    "vit": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "vit-tiny": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "resnet50": "resnet50.a1_in1k",
    "swin-t": "swin_tiny_patch4_window7_224.ms_in1k",
    "clip-l14": "vit_large_patch14_clip_quickgelu_224.openai",
    "dinov3-s16": "vit_small_patch16_dinov3_qkvb.lvd1689m",
    "dinov3-b16": "vit_base_patch16_dinov3_qkvb.lvd1689m",
    "dinov3-l16": "vit_large_patch16_dinov3_qkvb.lvd1689m",
}
AFFECTNET = "neutral happy sad surprise fear disgust anger contempt"
HSEMOTION = "anger contempt disgust fear happiness neutral sadness surprise"
ABAW_EXPRESSIONS = "Neutral Anger Disgust Fear Happiness Sadness Surprise Other"
ABAW_UNITS = "AU1 AU2 AU4 AU6 AU7 AU10 AU12 AU15 AU23 AU24 AU25 AU26"
CLASSES = {
    "dan": AFFECTNET,
    "emma-dan": AFFECTNET,
    "emma": f"valence arousal {ABAW_EXPRESSIONS} {ABAW_UNITS}",
    "fer-logits": "angry disgust fear happy sad surprise neutral",
    "emotieffnet-b0-logits": HSEMOTION,
    "emotieffnet-b2-logits": HSEMOTION,
    "emotiddamfn-logits": HSEMOTION,
    "emotieffnet-b0-va": "valence arousal",
    "emotiddamfn-va": "valence arousal",
}


def catalog(modality: str) -> dict[str, BackboneSpec]:
    return {spec.name: spec for spec in list_specs() if spec.modality == modality}


def test_vision_backbones_by_hand():
    found = {}
    for name, spec in catalog("vision").items():
        image = spec.image
        assert image is not None and (image.crop, image.crop_pct) == ("resize", 1)
        (width,) = spec.shape
        found[name] = (spec.output, width, image.size, (image.mean, image.std), image.interpolation)
    assert found == VISION


@pytest.mark.parametrize("name", VISION)
def test_a_colour_as_each_backbone_sees_it(name):
    _, _, side, (mean, std), _ = VISION[name]
    colour = (200, 100, 50)
    crop = torch.tensor(colour, dtype=torch.uint8).repeat(1, 150, 130, 1)
    seen = prepare_images(crop, get_spec(name).image)
    assert seen.shape == (1, 3, side, side)
    wanted = [(value / 255 - m) / s for value, m, s in zip(colour, mean, std, strict=True)]
    np.testing.assert_allclose(seen[0, :, side // 2, side // 3], wanted, rtol=1e-4, atol=1e-4)


def test_audio_backbones_by_hand():
    found = {
        name: (spec.output, spec.shape, pytest.approx(spec.rate_hz), spec.dtype)
        for name, spec in catalog("audio").items()
    }
    assert found == AUDIO
    assert RATE_HZ == 16_000


def test_networks_of_timm_by_hand():
    networks = {spec.family: spec.network for spec in list_specs() if spec.weights == "timm"}
    assert networks == {family: f"timm/{model}" for family, model in TIMM.items()}


def test_orders_of_classes_by_hand():
    for name, classes in CLASSES.items():
        assert " ".join(get_spec(name).classes) == classes, name
    named = {spec.name for spec in list_specs() if spec.classes and spec.modality == "vision"}
    assert named == set(CLASSES)
    assert " ".join(EXPRESSIONS) == ABAW_EXPRESSIONS and " ".join(ACTION_UNITS) == ABAW_UNITS


def test_arcface_template_by_hand():
    assert CROP_PX == 112
    points = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    assert TEMPLATE.tolist() == points


def test_mean_is_of_patch_tokens_and_cls_the_first_token():
    torch.manual_seed(0)
    for global_pool in (False, True):
        network = MaeEncoder(Size(patch=56, width=24, depth=2, heads=2), global_pool).eval()
        images = torch.randn(2, 3, 224, 224)
        with torch.no_grad():
            found, tokens = network(images), network.forward_features(images)  # timm's own way to the tokens
            assert tokens.shape == (2, 1 + 16, 24)
            torch.testing.assert_close(found["cls"], tokens[:, 0])
            means = tokens[:, 1:].sum(dim=1) / 16
            if global_pool:
                means = torch.nn.functional.layer_norm(means, (24,), eps=1e-6)
            torch.testing.assert_close(found["mean"], means)


# records

SPEC = BackboneSpec(
    name="name-logits",
    family="family",
    output="logits",
    modality="vision",
    shape=(7,),
    architecture="for people",
    weights="file",
    image=ImageInput((112, 96), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", "center", 0.875),
    network="net",
    options=(("classes", 7), ("window_s", 2.5)),
)


def test_a_record_by_hand():
    record = SPEC.record("cafe", "hflip", "bfloat16", "prepare")
    wanted = {
        "version": 2,
        "network": "net",
        "options": {"classes": 7, "window_s": 2.5},
        "output": "logits",
        "image": {
            "size": [112, 96],
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "interpolation": "bilinear",
            "crop": "center",
            "crop_pct": 0.875,
        },
        "alignment": "prepare",
        "view": "hflip",
        "precision": "bfloat16",
        "weights": "cafe",
    }
    assert record == wanted
    text = json.dumps(wanted, sort_keys=True, separators=(",", ":"))
    fingerprint = SPEC.fingerprint("cafe", "hflip", "bfloat16", "prepare")
    assert fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_defaults_are_left_out_of_a_record():
    plain = replace(SPEC, network="", options=(), image=ImageInput(224))
    assert plain.record(None) == {
        "version": 2,
        "network": "family",
        "output": "logits",
        "image": {
            "size": 224,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bicubic",
        },
    }
    assert replace(plain, weights="untrained").record(None)["weights"] == "untrained"
    assert replace(plain, options=(("window_s", 4.0),)).record(None)["options"] == {"window_s": 4}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("egemaps-functionals-4s-1s", {}),
        ("compare-functionals-2s-1s", {"window_s": 2}),
        ("egemaps-v01a-functionals-4s-0.5s", {"hop_s": 0.5}),
        ("vggish-0.24s", {}),
        ("vggish-pca-0.96s", {"hop_s": 0.96}),
        ("ast-1s", {}),
        ("ast-0.5s", {"hop_s": 0.5}),
    ],
)
def test_windows_and_hops_that_are_the_default_are_left_out(name, options):
    assert dict(get_spec(name).options) == options


IMAGE = SPEC.image
assert IMAGE is not None
OTHERS = {
    "network": {"network": "other"},
    "output": {"output": "other"},
    "options": {"options": (("classes", 8), ("window_s", 2.5))},
    "fewer options": {"options": (("classes", 7),)},
    "untrained": {"weights": "untrained"},
    "no image": {"image": None},
    "height": {"image": replace(IMAGE, size=(96, 96))},
    "width": {"image": replace(IMAGE, size=(112, 112))},
    "mean": {"image": replace(IMAGE, mean=(0.1, 0.2, 0.31))},
    "order of means": {"image": replace(IMAGE, mean=(0.3, 0.2, 0.1))},
    "std": {"image": replace(IMAGE, std=(0.4, 0.51, 0.6))},
    "interpolation": {"image": replace(IMAGE, interpolation="bicubic")},
    "crop": {"image": replace(IMAGE, crop="border")},
    "crop_pct": {"image": replace(IMAGE, crop_pct=0.9)},
}
SAME = {
    "name": {"name": "other"},
    "architecture": {"architecture": "other"},
    "licence": {"licence": "other"},
    "parameters": {"parameters": 3},
    "classes": {"classes": tuple("abcdefg")},
}


@pytest.mark.parametrize("field", OTHERS)
def test_whatever_changes_values_changes_the_fingerprint(field):
    assert replace(SPEC, **OTHERS[field]).fingerprint("cafe") != SPEC.fingerprint("cafe")


@pytest.mark.parametrize("field", SAME)
def test_whatever_changes_no_values_keeps_the_fingerprint(field):
    assert replace(SPEC, **SAME[field]).fingerprint("cafe") == SPEC.fingerprint("cafe")


def test_what_is_asked_for_changes_the_fingerprint():
    asked = [(None,), ("cafe",), ("beef",), ("cafe", "hflip"), ("cafe", "mask0.75.0"), ("cafe", "mask0.75.1")]
    asked += [("cafe", "", "bfloat16"), ("cafe", "", "float32", "prepare"), ("cafe", "", "float32", "mixed")]
    assert len({SPEC.fingerprint(*arguments) for arguments in asked}) == len(asked)
