"""Fine-tuning on made crops with a tiny network: learning, resuming, and the way back into the store."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from abaw import pipeline
from abaw.backbones.backbone import build_network, create_backbone
from abaw.backbones.lineage import read_lineage
from abaw.backbones.registry import get_spec
from abaw.core.errors import CheckpointError, StoreError, UsageError
from abaw.core.progress import Silent
from abaw.evaluate.trained import Selection
from abaw.extract.request import ExtractOptions
from abaw.predict.run_predictor import load_features
from abaw.train.config import make_config
from abaw.train.finetune import finetune_runs
from abaw.train.finetune.encoder_build import FirstWeights, best_pixel_model, build_first
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.layers import add_lora, freeze_first, layer_numbers, merged_state
from abaw.train.finetune.pixel_table import IMAGES, SIZES, load_pixel_tables
from abaw.train.loop import Trainer
from abaw.train.runs import open_run

BACKBONE = "tiny=timm/test_vit@32-mean"
SETTINGS = ("epochs=2", "batch_size=8", "lr=1e-3", "warmup=0")


class Warnings(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Crops of four videos, whose brightness is their valence, in the official layout."""
    root, rng = tmp_path_factory.mktemp("pixels") / "data", np.random.default_rng(0)
    for number, split in enumerate(("Train", "Train", "Train", "Validation")):
        folder = root / "cropped_aligned" / f"v{number}"
        folder.mkdir(parents=True)
        valence = rng.uniform(-1, 1, 12)
        for frame, value in enumerate(valence, 1):
            if frame % 6:  # some frames have no crop
                picture = (127 + 100 * value + rng.normal(0, 8, (40, 40, 3))).clip(0, 255).astype(np.uint8)
                Image.fromarray(picture).save(folder / f"{frame:05d}.jpg", quality=95)
        labels = root / "labels" / "VA_Estimation_Challenge" / f"{split}_Set"
        labels.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{value:.4f},{-value / 2:.4f}\n" for value in valence)
        (labels / f"v{number}.txt").write_text(f"valence,arousal\n{rows}")
    return root


def finetune(data: Path, runs: Path, *settings: str, reporter=None, **options):
    configs = pipeline.make_finetune_configs("va", [BACKBONE], {}, [*SETTINGS, *settings])
    return pipeline.finetune_seeds(configs, data, runs, untrained=True, reporter=reporter, **options)[0]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return finetune(data, tmp_path_factory.mktemp("runs"), "epochs=15", "augment=none", name="main")


def test_it_learns_what_is_in_the_pixels(trained):
    run, result = trained
    assert result.best_score > 0.3
    moved, first = (
        best_pixel_model(run, torch.device("cpu")),
        build_network([get_spec("timm/test_vit@32-mean")], untrained=True),
    )
    before = dict(first.network.named_parameters())
    after = dict(moved.encoders[0].named_parameters())
    assert not torch.equal(after["model.patch_embed.proj.weight"], before["model.patch_embed.proj.weight"])


def test_the_encoder_goes_back_into_the_store(trained, data, tmp_path):
    run, _ = trained
    file = run.folder / "encoder.safetensors"
    options = ExtractOptions(
        data, tmp_path / "store.zarr", (f"adapted=timm/test_vit@32-mean:{file}",), precision="fp32"
    )
    assert pipeline.extract(options).ok
    store = pipeline.open_store(tmp_path / "store.zarr")
    predictor = pipeline.find_predictor(run.folder.parent, run.name)
    outputs = [pipeline.evaluate(predictor, opened, "val", data).predictions["v3"].outputs for opened in (None, store)]
    np.testing.assert_allclose(*outputs, atol=2e-3)
    assert not np.allclose(outputs[0], outputs[0][0])
    # videos without labels: by the name that the feature has in the store, and where there is none, what to extract
    assert predictor.features_in(store) == ("adapted",)
    unlabelled = predictor.predict(store, Selection(rows={"v3": 12}))["v3"].outputs
    np.testing.assert_allclose(unlabelled, outputs[1], atol=1e-5)
    with pytest.raises(
        StoreError, match=r"abaw extract --backbone main-tiny=timm/test_vit@32-mean:.*encoder.safetensors"
    ):
        predictor.features_in(None)


def test_post_processing_and_new_videos_need_no_store(trained, data, tmp_path):
    run = open_run(Path(shutil.copytree(trained[0].folder, tmp_path / "main")))
    tuning = pipeline.tune(run, None, "auto", tmp_path)
    assert tuning.fit_on == "train" and tuning.videos == ("v0", "v1", "v2")  # val is a single video
    with pytest.raises(UsageError, match=r"`abaw finetune ... --fold K/3` with the options of main, for K = 1, 2, 3"):
        pipeline.tune(run, None, "folds", tmp_path)
    (feature,) = load_features(run, ())
    sha256 = hashlib.sha256((run.folder / "encoder.safetensors").read_bytes()).hexdigest()
    assert feature.describe()["weights_sha256"] == sha256
    (run.folder / "encoder.safetensors").unlink()
    with pytest.raises(CheckpointError, match="abaw finetune --resume --run main"):
        load_features(run, ())


def test_a_training_on_its_features_warns_of_videos_it_has_seen(trained, data, tmp_path):
    run, _ = trained
    file = run.folder / "encoder.safetensors"
    options = ExtractOptions(data, tmp_path / "store.zarr", (f"adapted=timm/test_vit@32-mean:{file}",))
    pipeline.extract(options)
    store, reporter = pipeline.open_store(tmp_path / "store.zarr"), Warnings()
    configs = pipeline.make_train_configs(
        store, "va", ["adapted"], {"head": {"name": "ridge"}}, ["fold=1/2", "window=12"]
    )
    pipeline.train_seeds(configs, store, tmp_path / "runs", reporter=reporter)
    assert any("The encoder of adapted was fine-tuned on" in sentence for sentence in reporter.warnings)
    reporter.warnings.clear()
    configs = pipeline.make_train_configs(store, "va", ["adapted"], {"head": {"name": "ridge"}}, ["window=12"])
    pipeline.train_seeds(configs, store, tmp_path / "runs", reporter=reporter)
    assert not any("fine-tuned on" in sentence for sentence in reporter.warnings)


def test_resuming_takes_the_same_steps(data, tmp_path, monkeypatch):
    finetune(data, tmp_path / "whole", "chunk=3", name="run")

    class Stops(Silent):
        def advance(self, n=1, note=""):
            if "epoch 2" in note:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(data, tmp_path / "stopped", "chunk=3", name="run", reporter=Stops())
    run = pipeline.find_run(tmp_path / "stopped", "run")
    assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == 1
    pipeline.finetune(run, data)
    for name in ("last.safetensors", "best.safetensors", "encoder.safetensors"):
        expected, found = (load_file(folder / "run" / name) for folder in (tmp_path / "whole", tmp_path / "stopped"))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert not (run.folder / "initial.safetensors").exists()


def test_an_image_that_cannot_be_read_is_left_out_and_counted(data, tmp_path):
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    (broken / "cropped_aligned" / "v0" / "00003.jpg").write_bytes(b"no image")
    (broken / "people.csv").write_text("video,person\nv0,a\nw,b\nx,b\n")
    reporter = Warnings()
    _, result = finetune(broken, tmp_path / "runs", "epochs=1", reporter=reporter)
    assert np.isfinite(result.best_score)
    assert any(sentence.startswith("1 images cannot be read") for sentence in reporter.warnings)
    assert reporter.warnings.count("people.csv: 2 names are of no video: w, x.") == 1


def test_inputs_are_the_images_of_their_rows(data):
    (table,) = load_pixel_tables(make_config({"task": "va", "features": ("f",)}).own_task, "", data, ("train",))
    assert table.starts.tolist() == [0, 12, 24, 36] and table.has_feature.reshape(3, 12)[:, [5, 11]].sum() == 0
    rows, inside = np.array([[0, 5, 13], [13, 0, 30]]), np.array([[True, True, True], [True, False, True]])
    inputs, masks = table.inputs(rows, inside)
    assert masks[IMAGES].tolist() == [[True, False, True], [True, False, True]]
    assert inputs[SIZES][0, 0].tolist() == [40, 40] and inputs[IMAGES].dtype == torch.uint8
    assert torch.equal(inputs[IMAGES][0, 2], inputs[IMAGES][1, 0])
    brightness = inputs[IMAGES][0, 0].float().mean()
    assert brightness == pytest.approx(127 + 100 * table.labels[0, 0], abs=6)


def test_lora_begins_at_nothing_and_is_merged_into_the_weights():
    network = build_network([get_spec("timm/test_vit@32-mean")], untrained=True).network.eval()
    images = torch.randn(2, 3, 32, 32)
    before, keys = network(images)["mean"], set(network.state_dict())
    add_lora(network, rank=2, alpha=4.0)
    torch.testing.assert_close(network(images)["mean"], before)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trained and all(name.endswith((".up", ".down")) for name in trained)
    for name, parameter in network.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter, std=0.1)
    changed, merged = network(images)["mean"], merged_state(network)
    assert set(merged) == keys and not torch.allclose(changed, before, atol=1e-3)
    plain = build_network([get_spec("timm/test_vit@32-mean")], untrained=True).network.eval()
    plain.load_state_dict(merged)
    torch.testing.assert_close(plain(images)["mean"], changed, rtol=1e-4, atol=1e-5)


def test_only_the_last_blocks_learn():
    network = build_network([get_spec("timm/test_vit@32-mean")], untrained=True).network
    numbers = layer_numbers(network)
    n_blocks = max(numbers.values()) - 1
    freeze_first(network, 2)
    learning = {numbers[name] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {n_blocks - 1, n_blocks, n_blocks + 1}


@pytest.mark.parametrize("passes", [("batch_size=8", "accumulate=4"), ("batch_size=10", "accumulate=3")])
def test_gradients_of_several_passes_are_those_of_one(data, passes):
    """Of 36 frames 30 have a crop: a step of 8, 8, 8 and 6, or of three tens."""
    settings = (
        "optimizer=sgd",
        "momentum=0",
        "augment=none",
        "drop_path=0",
        "loss.name=mse",
        "clip_norm=inf",
        "lr=0.1",
    )
    (table,) = load_pixel_tables(make_config({"task": "va", "features": ("f",)}).own_task, "", data, ("train",))
    after, losses = [], []
    for own in (("batch_size=40",), passes):
        (config,) = pipeline.make_finetune_configs("va", [BACKBONE], {}, ["warmup=0", *settings, *own])
        model, _ = build_first(config, FirstWeights({}, untrained=True))
        before = model.encoders[0].model.patch_embed.proj.weight.detach().clone()
        trainer = Trainer(config, config.own_task, model, table, torch.device("cpu"))
        assert trainer.n_steps == 1 and len(trainer._sampler.epoch(1, (0, 1))) == 30
        losses.append(trainer.run_epoch(1)[0])
        after.append([parameter.detach() for parameter in model.parameters()])
        assert not torch.allclose(model.encoders[0].model.patch_embed.proj.weight, before, atol=1e-6)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(*after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_average_of_an_encoder_is_its_file(data, tmp_path):
    """With blocks that compute their activations again; a share of val is scored, and all of it at the end."""
    run, result = finetune(data, tmp_path, "ema=0.5", "checkpoint=true", "precision=bf16", "eval_share=0.5")
    best, encoder = load_file(run.folder / "best.safetensors"), load_file(run.folder / "encoder.safetensors")
    last = load_file(run.folder / "last.safetensors")
    key = "model.patch_embed.proj.weight"
    assert torch.equal(
        encoder[key.removeprefix("model.")] if key not in encoder else encoder[key], best[f"encoders.0.{key}"]
    )
    epochs = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    if epochs[1]["score"] > epochs[0]["score"]:
        assert torch.equal(best[f"encoders.0.{key}"], last[f"average.module.encoders.0.{key}"])
    assert not torch.equal(last[f"average.module.encoders.0.{key}"], last[f"model.encoders.0.{key}"])
    evaluated = pipeline.evaluate(pipeline.find_predictor(tmp_path, run.name), None, "val", data)
    assert result.best_score == pytest.approx(evaluated.official.score, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["head.name=ridge"], "solved on features"),
        (["views=,mask0.5"], "views of pixels"),
        (["freeze=tiny"], "nothing to fine-tune"),
        (["standardise=frame"], "standardise is for features"),
        (["unfreeze=1", "lora.rank=2"], "two ways to train less"),
    ],
)
def test_options_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        pipeline.make_finetune_configs("va", [BACKBONE], {}, settings)


def test_masking_grows_the_batch_as_published():
    sizes = {}
    for share in (0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9):
        config = make_config({"pixels": True, "task": "expr", "features": ("mae-cls",), "mask": share})
        assert isinstance(config, FinetuneConfig)
        sizes[share] = config.pass_windows
    assert sizes == {0: 64, 0.5: 128, 0.6: 128, 0.7: 192, 0.75: 256, 0.8: 320, 0.9: 640}


def test_the_interpolation_of_the_training_is_that_of_the_extraction(data, tmp_path):
    run, _ = finetune(data, tmp_path, "epochs=1", "interpolation=bilinear")
    backbone = create_backbone("timm/test_vit@32-mean", run.folder / "encoder.safetensors")
    assert backbone.spec.image.interpolation == "bilinear"
    assert get_spec("timm/test_vit@32-mean").image.interpolation == "bicubic"


def test_encoders_that_have_seen_a_forbidden_set_are_refused(trained, data, tmp_path, run_cli, monkeypatch):
    run, _ = trained
    weights = f"adapted=timm/test_vit@32-mean:{run.folder / 'encoder.safetensors'}"
    store, more = tmp_path / "store.zarr", tmp_path / "runs"
    places = ("--data", str(data), "--store", str(store))
    assert run_cli("extract", *places, "--backbone", weights).exit_code == 0
    # an encoder that began from it, on other images, has seen it, too
    chain = pipeline.make_finetune_configs("va", [weights.partition(":")[0]], {}, [*SETTINGS, "epochs=1"])
    with monkeypatch.context() as patched:
        patched.setattr(finetune_runs, "sets_in", lambda data, images: {"rafdb"})
        second, _ = pipeline.finetune_seeds(chain, data, more, [weights], name="second")[0]
    lineage = read_lineage(second.folder / "encoder.safetensors")
    assert lineage["sets"] == second.features["adapted"]["seen"] == ["aff-wild2", "rafdb"]
    again, forbid = f"b=timm/test_vit@32-mean:{second.folder / 'encoder.safetensors'}", ("--forbid", "Aff-Wild2")
    for words in (
        ("extract", *places, "--backbone", again),
        ("finetune", "--task", "va", "--data", str(data), "--backbone", again),
        ("finetune", "--task", "va", "--data", str(data), "--backbone", "b=timm/test_vit@32-mean", "--untrained"),
        ("train", "--task", "va", "--store", str(store), "--feature", "adapted", "--head", "ridge"),
        ("eval", "main", *places, "--runs", str(run.folder.parent)),
    ):
        result = run_cli(*words, *forbid)
        assert result.exit_code == 2 and "aff-wild2" in result.stderr, (words, result.output)
        assert not (tmp_path / "b").exists()
    assert "Did you mean aff-wild2?" in run_cli("extract", *places, "--backbone", again, "--forbid", "affwild2").stderr
    assert run_cli("extract", *places, "--backbone", again, "--forbid", "lsd").exit_code == 0
