"""What a feature is: records and fingerprints, precision, alignment, and the stores, runs and exports of version 1."""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.numpy import save_file

from abaw.backbones import registry
from abaw.backbones.backbone import build_network, create_backbone, describe
from abaw.backbones.registry import Family, get_spec, register
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.core.errors import CheckpointError, StoreError, UsageError
from abaw.core.records import differences, fingerprint_of
from abaw.evaluate.trained import TrainedRun, evaluate
from abaw.exchange.exporter import export_feature
from abaw.exchange.importer import ImportOptions, import_features, is_imported
from abaw.extract.remake import as_it_was
from abaw.extract.request import ExtractOptions, create_features
from abaw.extract.stage import Stage
from abaw.pipeline import extract, train_seeds
from abaw.predict.run_predictor import describe_training_crops, load_features
from abaw.store import FeatureStore
from abaw.store.old_records import old_fingerprint, old_record, old_spec
from abaw.tests.pin_fingerprints import FILE, fingerprints
from abaw.tests.support.paths import DATA
from abaw.train.config import make_config
from abaw.train.model import best_model, build_model
from abaw.train.new_run import find_started_run
from abaw.train.runs import open_run

OLD = DATA / "store-v1"  # written by the version before records: features, runs and exports
TINY = "timm/test_vit.r160_in1k-cls"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights that `tiny` and `half` of the old store were made with: values by a rule."""
    state = {}
    for number, (key, value) in enumerate(sorted(timm.create_model("test_vit", num_classes=0).state_dict().items())):
        middle = 1.0 if "norm" in key and key.endswith("weight") else 0.0
        values = ((np.arange(value.numel()) * 7919 + 31 * number) % 1009 / 1009 - 0.5) * 0.4 + middle
        state[key] = values.reshape(tuple(value.shape)).astype(np.float32)
    file: Path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(state, file)
    return file


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the old store, its data, runs and exports, that may be written to."""
    place = tmp_path / "old"
    shutil.copytree(OLD, place)
    return place


class Told:
    """A Reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.n_started = 0

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self.n_started += label == "extract"

    def advance(self, n: int = 1, note: str = "") -> None:
        pass

    def finish(self) -> None:
        pass

    def log(self, line: str) -> None:
        pass

    def warn(self, sentence: str) -> None:
        assert not self.n_started, "it is said before the first frame"
        self.sentences.append(sentence)


def run(root: Path, store: Path, *backbones: str, **options: object):
    told = Told()
    summary = extract(ExtractOptions(root, store, backbones, device="cpu", fps=25.0, **options), told)
    return summary, told.sentences


def put_crops(root: Path, video: str, n: int = 3) -> None:
    folder = root / "cropped_aligned" / video
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(video))
    for number in range(1, n + 1):
        Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(folder / f"{number:05d}.jpg")


def put_record(root: Path, video: str, *people: str) -> None:
    (root / "faces").mkdir(exist_ok=True)
    (root / "faces" / f"{video}.json").write_text(json.dumps({"people": people}))


# fingerprints


def test_fingerprints_of_all_names_are_pinned():
    """A change here makes features stale that people have; see `pin_fingerprints` for names that are new."""
    pinned, found = json.loads(FILE.read_text()), fingerprints()
    assert {name: found.get(name) for name in pinned} == pinned, "features of these names become stale"
    assert [name for name in found if name not in pinned] == [], "pin them: python -m abaw.tests.pin_fingerprints"


def test_a_fingerprint_is_over_the_record_and_the_record_says_it_all():
    spec = get_spec("dan").with_options(classes=7)
    record = spec.record("ab", "hflip", "bfloat16", "prepare")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    assert record == {
        "version": 2,
        "network": "dan",
        "output": "logits",
        "options": {"classes": 7},
        "image": {"size": 224, "mean": mean, "std": std, "interpolation": "bilinear"},
        "alignment": "prepare",
        "view": "hflip",
        "precision": "bfloat16",
        "weights": "ab",
    }
    assert spec.fingerprint("ab", "hflip", "bfloat16", "prepare") == fingerprint_of(json.loads(json.dumps(record)))
    assert list(get_spec("egemaps").record(None)) == ["version", "network", "output"], "defaults are left out"
    square = replace(get_spec("resnet50"), image=ImageInput(size=(224, 224)))  # type: ignore[arg-type]
    assert square.record("a") == get_spec("resnet50").record("a")


def test_prose_and_names_are_no_part_of_it():
    spec = get_spec("dan")
    other = replace(
        spec, name="x", architecture="y", licence="z", parameters=1, classes=("a",), weights="file", dtype="float32"
    )
    assert other.fingerprint("a") == spec.fingerprint("a")
    image = spec.image
    assert image is not None
    changed = [
        replace(spec, network="n"),
        replace(spec, output="head"),
        spec.with_options(classes=7),
        replace(spec, weights="untrained"),
        *(replace(spec, image=replace(image, **{key: value})) for key, value in [
            ("size", 112), ("size", (224, 112)), ("mean", (0.5,) * 3), ("std", (0.5,) * 3),
            ("interpolation", "bicubic"), ("crop", "center"), ("crop", "border"),
        ]),
    ]  # fmt: skip
    cut = replace(spec, image=replace(image, crop="center", crop_pct=0.9))
    found = [one.fingerprint("a") for one in (spec, *changed, cut)]
    found += [
        spec.fingerprint(*args)
        for args in [("b",), ("a", "hflip"), ("a", "", "bfloat16"), ("a", "", "float32", "prepare")]
    ]
    assert len(set(found)) == len(found)
    assert spec.with_options(hop_s=4.0).fingerprint("a") == spec.with_options(hop_s=4).fingerprint("a")


def test_differences_are_named_with_both_sides():
    spec = get_spec("emma")
    there = {**as_it_was(spec).record("ab" * 32, precision="bfloat16"), "alignment": None}
    here = spec.record("ab" * 32, alignment="prepare")
    assert differences(there, here) == [
        "interpolation bicubic there, bilinear here",
        "precision bfloat16 there, float32 here",
    ]
    plain, other = spec.record("ab" * 32), spec.with_options(classes=7).record("cd" * 32, "hflip", alignment="prepare")
    assert sorted(differences(plain, other)) == [
        "alignment given there, prepare here",
        "classes none there, 7 here",
        "view plain there, hflip here",
        "weights abababababab there, cdcdcdcdcdcd here",
    ]
    assert differences(plain, json.loads(json.dumps(plain))) == []


def test_a_name_that_is_taken_is_an_error_that_names_both(monkeypatch):
    registry.list_specs()  # plug-ins are loaded before the registry is copied
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    spec = BackboneSpec("mine", "mine", "x", "vision", (3,), "colour", "none", ImageInput(16))
    mine = Family("mine", (spec,), lambda specs, file: torch.nn.Identity(), source="mine 1.2")
    register(mine)
    with pytest.raises(UsageError, match=r"Family 'mine' is taken by mine 1\.2"):
        register(replace(mine, specs=(replace(spec, name="mine-b"),)))
    for name, owner in {
        "hog": "'hog' of abaw",
        "mae-cls-bilinear": "'mae' of abaw",
        "mine": "'mine' of mine 1.2",
        "vggish-0.96s": "'vggish' of abaw",
        "timm/unheard-of": "'timm' of abaw",
    }.items():
        other = replace(mine, name="other", specs=(replace(spec, name=name, family="other"),))
        with pytest.raises(UsageError, match=rf"'{name}' of family 'other' is taken by family {owner}"):
            register(other)
    with pytest.raises(UsageError, match=r"'twice' of family 'other' is taken by family 'other'"):
        register(replace(other, specs=(replace(spec, name="twice", family="other"),) * 2))
    with pytest.raises(UsageError, match=r"Family 'mine-too' has specs of mine"):
        register(replace(mine, name="mine-too"))


def test_mae_is_to_be_had_bilinear():
    for name in ("mae-mean", "mae-cls", "mae-l-mean", "mae-l-cls", "mae-h-mean", "mae-h-cls"):
        usual, other = get_spec(name), get_spec(f"{name}-bilinear")
        assert usual.image is not None and usual.image.interpolation == "bicubic"
        assert other.image == replace(usual.image, interpolation="bilinear")
        assert differences(usual.record("a"), other.record("a")) == ["interpolation bicubic there, bilinear here"]
    with pytest.raises(UsageError, match=r"not outputs of one network"):
        create_backbone(["mae-mean", "mae-mean-bilinear"], untrained=True)
    emma = get_spec("emma-dan").image
    assert emma is not None and emma.interpolation == "bilinear"


# random state


@pytest.fixture
def kept() -> Iterator[None]:
    """Checks that the test leaves the random states as they were."""
    torch.manual_seed(11)
    random.seed(12)
    np.random.seed(13)  # noqa: NPY002  the state of people's scripts
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state())  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    now = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(one, other) for one, other in zip(now, states[2], strict=True))


def test_networks_leave_the_random_state_alone(kept, tiny):
    one, other = (create_backbone("timm/test_vit-cls", untrained=True) for _ in range(2))
    images = torch.zeros(1, 3, 160, 160)
    assert torch.equal(one(images), other(images)), "random weights are the same each time"
    create_backbone(TINY, tiny)


def test_whatever_a_network_draws_from(kept, monkeypatch):
    """Networks of others may draw from numpy and from Python."""
    registry.list_specs()
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))

    def build(specs, file):
        random.random()
        np.random.rand(3)  # noqa: NPY002
        return torch.nn.Linear(3, 3)

    spec = BackboneSpec("drawn", "drawn", "x", "vision", (3,), "noise", "none", ImageInput(16))
    register(Family("drawn", (spec,), build))
    create_backbone("drawn")


def test_models_leave_the_random_state_alone(kept):
    made = open_run(OLD / "runs" / "hog")
    deep = replace(
        made, config=make_config({"task": "va", "features": ("hog",), "head": {"name": "transformer", "dim": 16}})
    )
    one, other = build_model(deep), build_model(deep)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    best_model(made, torch.device("cpu"))


# precision


def test_a_feature_holds_one_precision(tmp_path, tiny):
    root, store = tmp_path / "data", tmp_path / "store.zarr"
    put_crops(root, "a")
    summary, told = run(root, store, f"f={TINY}:{tiny}", "hog", precision="bf16")
    assert summary.done == ["a"] and "Precision: bfloat16 for f; float32 for hog." in told
    record = FeatureStore.open(store).feature_record("f")
    assert record is not None and record["precision"] == "bfloat16"
    assert "precision" not in (FeatureStore.open(store).feature_record("hog") or {"precision": 1}), (
        "it knows float32 alone"
    )
    put_crops(root, "b")
    with pytest.raises(
        StoreError, match=r"'f' .*made differently: precision bfloat16 there, float32 here.*NEWNAME=.*delete"
    ):
        run(root, store, f"f={TINY}:{tiny}", precision="fp32")
    summary, told = run(root, store, f"f={TINY}:{tiny}", f"g={TINY}:{tiny}", "hog")  # auto, on a CPU
    assert summary.ok and "Precision: bfloat16 for f; float32 for g, hog." in told
    opened = FeatureStore.open(store)
    assert {attrs["precision"] for attrs in opened.videos("f").values()} == {"bfloat16"}
    assert {attrs["precision"] for attrs in opened.videos("hog").values()} == {"float32"}
    rounded, exact = opened.read("f", "b").values, opened.read("g", "b").values
    assert not np.array_equal(rounded, exact) and np.allclose(rounded, exact, atol=0.1)


def test_workers_are_asked_for_what_the_driver_chose(tmp_path, tiny):
    root, store = tmp_path / "data", tmp_path / "store.zarr"
    put_crops(root, "a")
    options = ExtractOptions(root, store, (f"f={TINY}:{tiny}", "hog"), device="cpu")
    assert Stage.open(options, on_gpu=True).options.precision == "bf16", "the workers have GPUs"
    assert Stage.open(options).options.precision == "bf16", "as the store has it by now"
    both = replace(options, backbones=(*options.backbones, f"g={TINY}:{tiny}"))
    stage = Stage.open(both)
    assert stage.options.precision == "auto"
    assert [feature.backbone.precision for feature in Stage.open(stage.options).features] == [
        "bfloat16",
        "float32",
        "float32",
    ]


def test_views_share_the_precision_of_what_they_are_of(tmp_path, tiny):
    root, store = tmp_path / "data", tmp_path / "store.zarr"
    put_crops(root, "a")
    run(root, store, f"f={TINY}:{tiny}", precision="bf16")
    _, told = run(root, store, f"f={TINY}:{tiny}", views=("hflip",))
    assert "Precision: bfloat16 for f." in told


# alignment


def test_crops_of_prepare_and_others_are_told_apart(tmp_path):
    root, store = tmp_path / "data", tmp_path / "store.zarr"
    put_crops(root, "a")
    put_crops(root, "b_left")
    put_crops(root, "b_right")
    summary, told = run(root, store, "hog")
    assert summary.ok and not any("alignments" in sentence for sentence in told)
    assert "alignment" not in (FeatureStore.open(store).feature_record("hog") or {"alignment": 1})
    put_record(root, "b", "b_left", "b_right")
    with pytest.raises(StoreError, match=r"'hog' .*alignment given there, mixed here.*NEWNAME="):
        run(root, store, "hog")
    summary, told = run(root, store, "new=hog")
    assert [one for one in told if "alignments" in one] == [
        "The data has crops of two alignments: those of 2 videos were made by `abaw prepare`, those of 1 were not. They look "
        "different to a network; keep them apart if you can."
    ]
    for part in ("1/3", "2/3", "3/3"):
        run(root, tmp_path / "other.zarr", "hog", part=part)
    record = FeatureStore.open(tmp_path / "other.zarr").feature_record("hog")
    assert record is not None and record["alignment"] == "mixed", "whatever is in a part"
    put_record(root, "a", "a")
    with pytest.raises(StoreError, match=r"'hog' .*alignment given there, prepare here"):
        run(root, store, "hog")
    run(root, tmp_path / "prepared.zarr", "hog")
    record = FeatureStore.open(tmp_path / "prepared.zarr").feature_record("hog")
    assert record is not None and record["alignment"] == "prepare"


def test_sound_and_clips_have_no_alignment(tmp_path):
    backbone = create_backbone("spectrogram")
    assert "alignment" not in describe(backbone, backbone.spec, "", "prepare")["record"]


# version 1


def test_fingerprints_of_version_1_are_told_again():
    """As that version gave them; where a name means the same, its record says so."""
    changed = {}
    for name, fingerprint in json.loads((DATA / "old_fingerprints.json").read_text()).items():
        spec = asdict(get_spec(name))
        was = old_spec(spec)
        assert was is not None
        unread = {**was, "variant": ""} if was["family"] == "wav2vec2" else was  # before its weights were read
        assert old_fingerprint(unread, "weights") == fingerprint, name
        record = old_record(was, "weights")
        assert record is not None
        other = differences(record, get_spec(name).record("weights"))
        if other:
            changed[name] = other
            assert differences(record, as_it_was(get_spec(name)).record("weights")) == []
    quick = "vit_{}_patch{}_clip_quickgelu_224.openai"
    assert changed == {
        **{
            f"emma{output}": ["interpolation bicubic there, bilinear here"]
            for output in ("", "-hidden", "-vit", "-dan", "-dan-head")
        },
        **{
            name: [f"network timm/{model.replace('_quickgelu', '')} there, timm/{model} here"]
            for name, model in (
                ("clip-l14", quick.format("large", 14)),
                ("timm/vit_base_patch16_clip_224.openai", quick.format("base", 16)),
            )
        },
    }


def test_a_network_of_version_1_has_its_own_activation_and_resizing():
    was = as_it_was(get_spec("clip-l14"))
    with torch.device("meta"):
        network = build_network([was], untrained=True).network
    modules = [type(module).__name__ for module in network.modules()]
    assert "GELU" in modules and not any("Quick" in name for name in modules)
    with torch.device("meta"):
        [feature] = load_features(open_run(OLD / "runs" / "emma-dan"), (), "meta", untrained=True)
    assert feature.spec.image is not None and feature.spec.image.interpolation == "bicubic"
    assert feature.backbone.spec.image == feature.spec.image, "which is what the network is given"


def test_an_old_store_evaluates_and_trains(old):
    store = FeatureStore.open(old / "store.zarr")
    made = open_run(old / "runs" / "tiny")
    found = evaluate(TrainedRun.open(made, "cpu"), store, "val")
    assert found.official.score == pytest.approx(0.1585112602229422, abs=1e-6)
    config = make_config({"task": "va", "features": ("tiny",), "head": {"name": "ridge"}, "window": 4})
    begun = find_started_run(config, store, old / "runs")
    assert begun is not None and begun.name == "tiny", "which is the same, though it has no record"
    [(again, result)] = list(train_seeds([config], store, old / "runs", "again", device="cpu"))
    assert result.best_score == pytest.approx(found.official.score, abs=1e-5)
    told = again.features["tiny"]
    assert told["fingerprint"] == made.features["tiny"]["fingerprint"]
    assert told["record"]["network"] == "timm/test_vit.r160_in1k" and "precision" not in told["record"]
    assert open_run(again.folder).features == again.features


def test_an_old_feature_is_extended_by_the_same_and_by_nothing_else(old, tiny):
    root, place = old / "data", old / "store.zarr"
    before = FeatureStore.open(place).feature_attrs("tiny")
    put_crops(root, "more")
    summary, told = run(root, place, "hog", f"tiny={TINY}:{tiny}", f"half={TINY}:{tiny}")
    assert summary.ok and summary.done == ["more"]
    assert "Precision: bfloat16 for half; float32 for hog, tiny." in told, "as their videos have it"
    store = FeatureStore.open(place)
    assert store.feature_attrs("tiny") == before, "so that runs on it go on"
    open_run(old / "runs" / "tiny").check_store(store)
    with pytest.raises(StoreError, match=r"'tiny' .*precision float32 there, bfloat16 here"):
        run(root, place, f"tiny={TINY}:{tiny}", precision="bf16")
    with pytest.raises(
        StoreError, match=r"'tiny' .*made differently: weights b5f10b58c761 there, untrained here\. Keep.*NEWNAME="
    ):
        run(root, place, f"tiny={TINY}", untrained=True)
    with pytest.raises(
        StoreError, match=r"'hog' .*made differently: network hog there, timm/test_vit.r160_in1k here; output "
    ):
        run(root, place, f"hog={TINY}:{tiny}")
    put_crops(root, "fresh")
    put_record(root, "fresh", "fresh")
    with pytest.raises(StoreError, match=r"'tiny' .*alignment given there, mixed here"):
        run(root, place, f"tiny={TINY}:{tiny}")
    alone = old / "alone"
    put_crops(alone, "fresh")
    put_record(alone, "fresh", "fresh")
    _, told = run(alone, place, f"tiny={TINY}:{tiny}")
    assert "It is unknown whether feature 'tiny' was made of crops of `abaw prepare`." in told


def test_what_an_old_name_meant_is_not_extended_by_what_it_means_now(old):
    with torch.device("meta"):
        emma = create_backbone("emma-dan", untrained=True, device="meta")
    store = FeatureStore.create(old / "store.zarr")
    with pytest.raises(
        StoreError, match=r"'emma-dan' .*made differently: interpolation bicubic there, bilinear here. Keep"
    ):
        store.add_feature("emma-dan", **describe(emma, emma.spec, ""))


def test_a_mixed_old_feature_is_not_extended(old, tiny):
    store = FeatureStore.create(old / "store.zarr")
    shutil.copytree(old / "store.zarr/features/half/blue", old / "store.zarr/features/tiny/teal")
    assert (store.feature_record("tiny") or {})["precision"] == "bfloat16 and float32"
    with pytest.raises(StoreError, match=r"'tiny' .*precision bfloat16 and float32 there, float32 here"):
        run(old / "data", old / "store.zarr", f"tiny={TINY}:{tiny}")


def test_old_runs_predict_with_the_networks_of_their_features(old, tiny):
    store, made = FeatureStore.open(old / "store.zarr"), open_run(old / "runs" / "tiny")
    [feature] = load_features(made, (f"tiny={TINY}:{tiny}",), "cpu")
    files = sorted((old / "data" / "cropped_aligned" / "blue").glob("*.jpg"))
    images = torch.from_numpy(np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))
    values = feature.backbone(feature.backbone.preprocess(images))
    assert isinstance(values, torch.Tensor)
    assert np.allclose(values.numpy(), store.read("tiny", "blue").values.astype(np.float32), atol=2e-3)
    assert describe_training_crops(made, [feature]) == "", "nobody knows"
    with pytest.raises(CheckpointError, match=r"'tiny' with fingerprint .*other weights or settings"):
        load_features(made, (f"tiny={TINY}",), "cpu", untrained=True)
    assert [one.spec.name for one in load_features(open_run(old / "runs" / "hog"), (), "cpu")] == ["hog"]
    mine = open_run(old / "runs" / "mine")
    assert is_imported("mine", mine.features["mine"])
    with pytest.raises(UsageError, match=r"'mine' that was imported"):
        load_features(mine, (), "cpu")


def test_runs_are_predicted_in_the_precision_of_their_features(tmp_path, old, tiny):
    place = old / "store.zarr"
    run(old / "data", place, f"new={TINY}:{tiny}", precision="bf16")
    config = make_config({"task": "va", "features": ("new", "half"), "head": {"name": "ridge"}, "window": 4})
    [(made, _)] = list(train_seeds([config], FeatureStore.open(place), tmp_path, "both", device="cpu"))
    backbones = (f"new={TINY}:{tiny}", f"half={TINY}:{tiny}")
    features = load_features(made, backbones, "cpu")
    assert [feature.backbone.precision for feature in features] == ["bfloat16", "bfloat16"]
    assert features[0].backbone is features[1].backbone, "one pass serves both"
    assert describe_training_crops(made, features).startswith(
        "Run both was trained on crops that `abaw prepare` did not make (new)."
    )
    with pytest.raises(
        CheckpointError, match=r"network timm/test_vit.* there, hog here; .*backbone that .*new=BACKBONE:"
    ):
        load_features(made, ("new=hog", backbones[1]), "cpu")
    with pytest.raises(
        CheckpointError, match=r"weights b5f10b58c761 there, untrained here.*weights that .*new=timm/test_"
    ):
        load_features(made, (f"new={TINY}", f"half={TINY}"), "cpu", untrained=True)
    del made.features["new"]["record"]  # which only helps
    assert [feature.backbone.precision for feature in load_features(made, backbones, "cpu")] == ["bfloat16", "bfloat16"]


def test_a_run_on_prepared_crops_is_predicted_without_a_word(tmp_path):
    root, place = tmp_path / "data", tmp_path / "store.zarr"
    put_crops(root, "a")
    put_record(root, "a", "a")
    run(root, place, "hog")
    hog, record = create_backbone("hog"), FeatureStore.open(place).feature_record("hog")
    assert record == hog.record(hog.spec, "", "prepare")
    made = open_run(OLD / "runs" / "hog")
    made.features["hog"]["fingerprint"] = fingerprint_of(record)
    features = load_features(made, (), "cpu")
    assert describe_training_crops(made, features) == ""
    made.features["hog"]["fingerprint"] = hog.fingerprint(hog.spec, "", "mixed")
    assert "(hog)" in describe_training_crops(made, load_features(made, (), "cpu"))


def test_old_runs_and_new_stores_know_each_other(old, tiny):
    """The same features, made again."""
    place = old / "new.zarr"
    run(old / "data", place, "hog", f"tiny={TINY}:{tiny}", f"half={TINY}:{tiny}")
    store = FeatureStore.open(place)
    for name in ("hog", "tiny"):
        assert store.feature_attrs(name)["fingerprint"] != open_run(old / "runs" / name).features[name]["fingerprint"]
        open_run(old / "runs" / name).check_store(store)
    config = make_config({"task": "va", "features": ("tiny", "half"), "head": {"name": "ridge"}, "window": 4})
    [(made, _)] = list(train_seeds([config], store, old / "runs", "made", device="cpu"))
    made.check_store(store)
    with pytest.raises(StoreError, match=r"'half' with fingerprint .*: precision float32 there, bfloat16 here"):
        made.check_store(FeatureStore.open(old / "store.zarr"))


def test_old_imports_and_exports_go_on(old, tmp_path, tiny):
    store = FeatureStore.create(old / "store.zarr")
    (tmp_path / "mine").mkdir()
    np.save(tmp_path / "mine" / "more.npy", np.zeros((4, 5), np.float32))
    before = store.feature_attrs("mine")
    summary = import_features(ImportOptions(tmp_path / "mine", old / "store.zarr", "mine", fps=25.0))
    assert summary.done == ["more"] and store.feature_attrs("mine") == before
    place = tmp_path / "store.zarr"
    for name in ("mine", "tiny"):
        assert import_features(ImportOptions(OLD / f"{name}.h5", place, name)).ok
        taken = FeatureStore.open(place).feature_attrs(name)
        assert {key: taken[key] for key in ("spec", "fingerprint", "weights_sha256")} == {
            key: store.feature_attrs(name)[key] for key in ("spec", "fingerprint", "weights_sha256")
        }
    open_run(old / "runs" / "tiny").check_store(FeatureStore.open(place))
    run(old / "data", old / "new.zarr", f"tiny={TINY}:{tiny}", "hog")
    export_feature(FeatureStore.open(old / "new.zarr"), "tiny", tmp_path / "new.h5")
    assert import_features(ImportOptions(tmp_path / "new.h5", tmp_path / "again.zarr", "tiny")).ok
    again = FeatureStore.open(tmp_path / "again.zarr")
    assert again.feature_attrs("tiny") == FeatureStore.open(old / "new.zarr").feature_attrs("tiny") | {
        "abaw": again.feature_attrs("tiny")["abaw"]
    }
    assert import_features(ImportOptions(tmp_path / "new.h5", place, "tiny")).ok, "the same as the old one there"
    export_feature(FeatureStore.open(old / "new.zarr"), "hog", tmp_path / "hog.h5")
    with pytest.raises(
        StoreError, match=r"'tiny' in .* is a different one.*network timm/test_vit.r160_in1k there, hog here"
    ):
        import_features(ImportOptions(tmp_path / "hog.h5", place, "tiny"))


def test_views_wait_for_their_backbone_in_one_precision(tmp_path, tiny):
    options = ExtractOptions(
        tmp_path, tmp_path / "no.zarr", (f"f={TINY}:{tiny}", "hog"), device="cpu", precision="bf16"
    )
    assert [feature.backbone.precision for feature in create_features(options)] == ["bfloat16", "float32"]
