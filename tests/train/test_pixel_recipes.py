"""Recipes of pixels: they have the published numbers, and run as they are typed, on small networks and made images."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file

from abaw import pipeline
from abaw.backbones import registry
from abaw.backbones.backbone import build_network
from abaw.backbones.registry import Family, get_spec
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision import swin_face
from abaw.backbones.vision.dan import Dan
from abaw.backbones.vision.emma import Emma
from abaw.backbones.vision.mae import BASE, MaeEncoder, Size
from abaw.backbones.weights import load_network
from abaw.core.tasks import ACTION_UNITS, LSD_CLASSES, get_task
from abaw.evaluate.pixel_predictions import stored_features
from abaw.tests.support.paths import DATA
from abaw.train.config import make_config
from abaw.train.finetune.encoder_file import emma_state
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.pixel_model import Outputs, PixelModel
from abaw.train.finetune.pixel_table import load_pixel_tables
from abaw.train.recipes import load_recipe
from abaw.train.runs import open_run

Cli = Callable[..., Result]
TINY = Size(patch=56, width=16, depth=2, heads=2)
EMMA_PARTS = ("--backbone", "mae-cls=timm/test_vit@32-mean", "--backbone", "dan=timm/test_resnet@32")


def build_tiny(specs, file):
    return MaeEncoder(TINY) if file is None else load_network(build_tiny, specs, file)


@pytest.fixture(scope="module", autouse=True)
def tiny_mae() -> Iterator[None]:
    """A family `tiny-mae` of this process."""
    image = ImageInput(224, interpolation="bilinear")
    spec = BackboneSpec("tiny-mae-cls", "tiny-mae", "cls", "vision", (TINY.width,), "a small MAE", "file", image)
    registry.register(Family("tiny-mae", (spec,), build_tiny))
    yield
    del registry._FAMILIES["tiny-mae"]


def draw(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def mtl_data(tmp_path_factory) -> Path:
    """Ten crops of a video for each split, with all labels; those of some frames are missing."""
    root, rng = tmp_path_factory.mktemp("mtl"), np.random.default_rng(0)
    for video, file in (("v0", "training_set_annotations.txt"), ("v1", "validation_set_annotations.txt")):
        rows = ["image,valence,arousal,expression,aus"]
        for frame in range(1, 11):
            draw(root / "cropped_aligned" / video / f"{frame:05d}.jpg", rng)
            valence, arousal = rng.uniform(-1, 1, 2).round(3) if frame != 3 else (-5, -5)
            units = ",".join(map(str, rng.integers(0, 2, 12))) if frame != 4 else ",".join(["-1"] * 12)
            rows.append(f"{video}/{frame:05d}.jpg,{valence},{arousal},{-1 if frame == 5 else frame % 8},{units}")
        (root / file).write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def lsd_data(tmp_path_factory) -> Path:
    """Two synthetic images and a real one of each class."""
    root, rng = tmp_path_factory.mktemp("lsd"), np.random.default_rng(0)
    for name in LSD_CLASSES:
        for folder, n_images in (("training_set_synthetic_images", 2), ("validation_set_real_images", 1)):
            for number in range(n_images):
                draw(root / folder / name.upper() / f"{number}.jpg", rng)
    return root


def epoch_of(folder: Path) -> dict[str, float]:
    (line,) = (folder / "metrics.jsonl").read_text().splitlines()
    return dict(json.loads(line))


EMMA_LOGITS = (0.8, 0.8, 0.7, 0.5, 0.5, 0.5, 0.6, 0.8, 0.8, 0.8, 0.3, 0.7)  # thresholds
OF_BOTH = {
    **{"optimizer": "adamw", "betas": (0.9, 0.999), "weight_decay": 0.05, "decay_norms": False, "layer_decay": 0.65},
    **{"min_lr": 1e-6, "schedule": "cosine", "lr_per": "step", "clip_norm": 0.05, "drop_path": 0.1, "head_rate": 1.0},
    **{"pass_interpolation": "bilinear", "length": 1, "views": (), "unfreeze": 0, "lora.rank": 0},
}
PUBLISHED: dict[str, Mapping[str, Any]] = {
    "emma-pixels": {
        **OF_BOTH,
        **{"task": "mtl", "freeze": ("dan",), "batch_size": 100, "accumulate": 4, "step_windows": 400, "epochs": 30},
        **{"lr": 5e-4 * 100 * 4 / 256, "warmup": pytest.approx(5 / 30), "lead": "epoch", "va_rate": 1e-4, "mask": 0.0},
        **{"augment": "emma", "head.name": "emma", "loss.name": "emma", "dan_batchnorm": "eval"},
        **{"postprocess.thresholds": pytest.approx(
            dict(zip(ACTION_UNITS, 1 / (1 + np.exp(-np.array(EMMA_LOGITS))), strict=True)), abs=5e-4)},
    },
    "cotex-pixels": {
        **OF_BOTH,
        **{"task": "lsd", "copies": 2, "mask": 0.75, "batch_size": 64, "pass_windows": 256, "epochs": 6, "lr": 5e-4},
        **{"warmup": pytest.approx(5 / 6), "lead": "step", "augment": "cotex", "accumulate": 1, "va_rate": 0.0},
        **{"head.name": "linear", "head.std": 2e-5, "loss.name": "cotex", "loss.consistency": 100},
    },
    "v-naw-pixels": {
        **{"task": "expr", "features": ("swin-face",), "views": ("", "hflip"), "augment": "v-naw", "mask": 0.0, "copies": 1},
        **{"length": 100, "speed": (0.6, 1.4), "clips_per_video": 1, "batch_size": 24, "epochs": 50, "accumulate": 1},
        **{"optimizer": "adamw", "lr": 1e-4, "weight_decay": 0.01, "decay_norms": True, "layer_decay": 1.0},
        **{"head_rate": 1.0, "va_rate": 0.0, "min_lr": 1e-5, "schedule": "cyclic-cosine", "lr_per": "epoch"},
        **{"lr_epochs": 2, "warmup": 0.0, "clip_norm": math.inf, "drop_path": 0.1, "batchnorm": "train"},
        **{"pass_interpolation": "bilinear"},
    },
}  # fmt: skip


def value_at(config: FinetuneConfig, place: str) -> Any:
    if place == "pass_interpolation":
        (found,) = {get_spec(name).image.interpolation for name in config.backbone_of().values()}
        return config.interpolation or found
    found: Any = config
    for key in place.split("."):
        found = getattr(found, key)
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_has_the_published_numbers(name: str) -> None:
    config = make_config(load_recipe(name).values)
    assert isinstance(config, FinetuneConfig)
    wrong = {
        place: value_at(config, place) for place, value in PUBLISHED[name].items() if value_at(config, place) != value
    }
    assert wrong == {}
    heads = {"emma-pixels": "emma", "cotex-pixels": "masked-cotex", "v-naw-pixels": "v-naw"}
    assert config.loss == make_config(load_recipe(heads[name]).values).loss


def test_emma_runs_as_typed(run_cli: Cli, mtl_data: Path, tmp_path: Path) -> None:
    """Ten images make a step of four batches; the checkpoints of parts are evaluated by name."""
    runs = ("--runs", tmp_path / "runs", "--device", "cpu")
    options = ("--data", mtl_data, *EMMA_PARTS, "--untrained", "--set", "epochs=1", "--set", "batch_size=3")
    done = run_cli("finetune", "--recipe", "emma-pixels", *options, *runs)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "runs" / "emma-pixels-1"
    epoch, run = epoch_of(folder), open_run(folder)
    assert np.isfinite(list(epoch.values())).all()
    assert epoch["score"] == pytest.approx(epoch["score va"] + epoch["score expr"] + epoch["score au"])
    assert {path.stem for path in folder.glob("best*")} == {"best", "best-va", "best-expr", "best-au"}
    assert run.config.freeze == ("dan",) and epoch["lr constant 0.0001 without decay"] == 1e-4
    for part in ("va", "au"):
        predictor = pipeline.find_predictor(tmp_path / "runs", f"emma-pixels-1@best-{part}", device="cpu")
        official = predictor.evaluate(None, "val").official
        assert official.by_task[part] == pytest.approx(epoch[f"score {part}"], abs=1e-4)
    assert any(key.startswith("encoders.1.") for key in load_file(folder / "best.safetensors"))


def test_cotex_runs_as_typed(run_cli: Cli, lsd_data: Path, tmp_path: Path) -> None:
    """Each ViT begins with its own of the authors' file, and is a file afterwards: scores from pixels and from the store."""
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        states.append(MaeEncoder(TINY).state_dict())
    heads = {"vit.head.weight": torch.zeros(6, 16), "vit.head.bias": torch.zeros(6)}
    as_published = [{**{f"vit.{key}": value for key, value in state.items()}, **heads} for state in states]
    torch.save({"state_dicts": as_published}, tmp_path / "cotex.pth")
    inits = [word for number in range(2) for word in ("--init", f"tiny-mae:{tmp_path / 'cotex.pth'}#{number}")]
    options = ("--data", lsd_data, "--runs", tmp_path / "runs", "--device", "cpu", "--set", "epochs=1")
    network = ("--backbone", "mae-cls=tiny-mae-cls", "--set", "lr=1e-9", "--set", "min_lr=0")
    done = run_cli("finetune", "--recipe", "cotex-pixels", *inits, *network, *options)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "runs" / "cotex-pixels-1"
    assert np.isfinite(list(epoch_of(folder).values())).all()
    files = [folder / f"encoder-mae-cls-{number}.safetensors" for number in (1, 2)]
    for before, after in zip(states, map(load_file, files), strict=True):
        assert before.keys() == after.keys()
        assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    last = load_file(folder / "last.safetensors")
    outputs = [last[f"model.heads.{copy}.heads.0.output.weight"] for copy in range(2)]
    assert all(1e-5 < float(weight.std()) < 3e-5 for weight in outputs)
    assert not torch.equal(*outputs)
    _assert_same_from_the_store(run_cli, lsd_data, tmp_path, files)


def _assert_same_from_the_store(run_cli: Cli, data: Path, folder: Path, files: list[Path]) -> None:
    backbones = [word for file in files for word in ("--backbone", f"{file.stem}=tiny-mae-cls:{file}")]
    made = run_cli("extract", "--data", data, "--store", folder / "s.zarr", "--device", "cpu", *backbones)
    assert made.exit_code == 0, made.output
    run = pipeline.find_predictor(folder / "runs", "cotex-pixels-1", device="cpu")
    stored = pipeline.open_store(folder / "s.zarr")
    assert stored_features(open_run(run.folder), stored) == [{"mae-cls": file.stem} for file in files]
    from_pixels, from_store = (run.evaluate(store, "val").predictions for store in (None, stored))
    found = [np.concatenate([video.outputs for video in made.values()]) for made in (from_pixels, from_store)]
    assert found[0].std() > 1e-6
    np.testing.assert_allclose(*found, rtol=2e-2, atol=1e-7)


@pytest.fixture(scope="module")
def expr_data(tmp_path_factory) -> Path:
    """Twelve crops of two videos for the training, and of one for the validation; a crop and a label are missing."""
    root, rng = tmp_path_factory.mktemp("expr"), np.random.default_rng(0)
    for number, split in enumerate(("Train", "Train", "Validation")):
        for frame in {*range(1, 13)} - {5}:
            draw(root / "cropped_aligned" / f"v{number}" / f"{frame:05d}.jpg", rng)
        labels = root / "labels" / "EXPR_Recognition_Challenge" / f"{split}_Set" / f"v{number}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n-1\n" + "1\n3\n" * 5 + "6\n")
    return root


def test_v_naw_runs_as_typed(run_cli: Cli, expr_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks that hold frames of two clips and of both views; one group of parameters, one rate an epoch."""
    for name, value in (("WIDTH", 6), ("DEPTHS", (1, 1, 2, 1)), ("HEADS", (1, 1, 2, 2))):
        monkeypatch.setattr(swin_face, name, value)
    runs = ("--runs", tmp_path / "runs", "--device", "cpu")
    small = ("epochs=2", "window=5", "batch_size=2", "chunk=4", "head.layers=1", "head.convs=32", "head.feedforward=16")
    options = ("--data", expr_data, "--untrained", *(word for setting in small for word in ("--set", setting)))
    done = run_cli("finetune", "--recipe", "v-naw-pixels", *options, *runs)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "runs" / "v-naw-pixels-1"
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["lr"] for epoch in epochs] == pytest.approx([1e-4, 5.5e-5])
    assert (
        not any(key.startswith("lr ") for key in epochs[0]) and np.isfinite([epoch["loss"] for epoch in epochs]).all()
    )
    encoder = load_file(folder / "encoder.safetensors")
    assert encoder.keys() == swin_face.SwinFace().state_dict().keys()
    best = max(epoch["score"] for epoch in epochs)
    n_steps = 1 + [epoch["score"] for epoch in epochs].index(best)  # one each epoch
    assert encoder["feature.1.num_batches_tracked"] == n_steps
    found = run_cli("eval", "v-naw-pixels-1", "--json", *runs)
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["official"]["score"] == pytest.approx(best, abs=1e-4)


def test_frames_without_an_annotation_may_be_other(expr_data: Path) -> None:
    task = get_task("expr")
    for invalid_as, label in (("", -1), ("Other", 7)):
        train, val = load_pixel_tables(task, "", expr_data, ("train", "val"), invalid_as=invalid_as)
        assert train.labels[[0, 12], 0].tolist() == [label] * 2 and train.valid[0, 0] == (label == 7)
        assert val.labels[0, 0] == -1 and not val.valid[0, 0]


def small_emma(networks: list, **options: Any) -> PixelModel:
    values = {"pixels": True, "task": "mtl", "features": ("mae-cls", "dan"), "freeze": ("dan",)}
    config = make_config({**values, "head": {"name": "emma"}, **options})
    assert isinstance(config, FinetuneConfig)
    outputs = [Outputs({name: get_spec(name)}) for name in config.features]
    return PixelModel(config, config.own_task, {"mae-cls": (768,), "dan": (8,)}, networks, outputs)


def test_the_file_of_emma_is_that_of_its_authors() -> None:
    layout = json.loads((DATA / "reference" / "emma.json").read_text())["layout"]
    with torch.device("meta"):
        model = small_emma([MaeEncoder(BASE), Dan(8)])
        state = emma_state(model)
        Emma().load_state_dict(state, assign=True)
    wanted = {key for key in layout if "num_batches_tracked" not in key}
    assert {key: list(value.shape) for key, value in state.items() if key in wanted} == {
        key: layout[key] for key in wanted
    }
    assert all("num_batches_tracked" in key for key in state.keys() - wanted)


def test_dan_stays_as_it_is_unless_its_statistics_may_drift() -> None:
    names = ("timm/test_vit@32-mean", "timm/test_resnet@32")
    vit, dan = (build_network([get_spec(name)], untrained=True).network for name in names)
    for batchnorm in ("eval", "train"):
        model = small_emma([vit, dan], dan_batchnorm=batchnorm).train()
        norms = [module for module in dan.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert norms and all(norm.training == (batchnorm == "train") for norm in norms)
        assert not dan.training and not any(parameter.requires_grad for parameter in dan.parameters())
        model.eval()
        assert not any(norm.training for norm in norms)


def test_weights_for_another_network_are_refused(run_cli: Cli, lsd_data: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    network = ("--backbone", "mae-cls=tiny-mae-cls")
    options = (*network, "--data", lsd_data, "--runs", tmp_path / "runs", "--device", "cpu")
    done = run_cli("finetune", "--recipe", "cotex-pixels", "--init", f"dan:{tmp_path / 'w.pth'}", *options)
    assert done.exit_code == 2 and "--init has weights of dan, and the backbones are mae-cls" in done.output
