"""Recipes: each has the numbers that were published, trains and evaluates, and a wrong file is named with its fault."""

import json
import re
import shlex
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import Result

from abaw.core.errors import UsageError
from abaw.core.tasks import ACTION_UNITS, TASKS
from abaw.store import FeatureStore
from abaw.tests.support.command_line import assert_refused
from abaw.tests.support.stores import new_store, put_feature
from abaw.tests.support.trainings import single_thread
from abaw.train.config import TrainConfig, make_config
from abaw.train.head_options import HeadConfig
from abaw.train.recipes import FOLDER, format_config, load_recipe, recipe_names
from abaw.train.runs import open_run

OF_PIXELS = [name for name in recipe_names() if load_recipe(name).values.get("pixels")]  # see test_pixel_recipes
RECIPES = pytest.mark.parametrize("name", [name for name in recipe_names() if name not in OF_PIXELS])
SHAPES = {
    **dict.fromkeys(("vit-mean", "mae-cls", "mae-cls@mask0.75.0", "mae-cls@mask0.75.1"), (768,)),
    **dict.fromkeys(("swin-t", "swin-t@hflip", "wav2vec2"), (768,)),
    **dict.fromkeys(("iresnet100-expr", "iresnet100-au"), (512,)),
    **{"dan": (8,), "compare": (130,), "egemaps-v01a": (23,), "vggish-relu": (128,), "clip-l14-laion2b": (1024,)},
    "spectrogram": (1, 128, 128),
    **{"dinov2-l": (1024,), "emotieffnet-b0": (1280,), "emotieffnet-b2": (1408,), "wavlm": (768,), "text": (768,)},
    "speech-timing": (16,),
}
SOUND = ("compare", "egemaps-v01a", "vggish-relu", "wav2vec2", "wavlm", "text", "speech-timing", "spectrogram")
OF_CLIPS = (
    "clip-l14-laion2b",
    "spectrogram",
    "emotieffnet-b0",
    "emotieffnet-b2",
    "wavlm",
    "wav2vec2",
    "text",
    "speech-timing",
)
Cli = Callable[..., Result]


def drawn_by(name: str) -> np.random.Generator:
    """Random numbers for a name, whatever others are drawn."""
    return np.random.default_rng(zlib.crc32(name.encode()))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


def frame_labels(classes: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of all tasks that label frames, tied to their classes; some are invalid."""
    va = np.stack([np.cos(classes), np.sin(classes)], axis=1).astype(np.float32)
    au = (classes[:, None] >> np.arange(12) % 3 & 1).astype(np.int8)
    expr = classes[:, None].astype(np.int8)
    va[::17], expr[::13], au[::11, 4] = -5, -1, -1
    return {"va": va, "expr": expr, "au": au, "mtl": np.concatenate([va, expr, au], axis=1, dtype=np.float32)}


def clip_labels(emotion: int) -> dict[str, np.ndarray]:
    """Labels of all tasks that label clips, tied to one of three emotions."""
    intensities = np.linspace(0, 1, 6, dtype=np.float32) * (emotion + 1) / 3
    return {
        **{task: np.array([[emotion]], dtype=np.int8) for task in ("vgaf", "mer")},
        "ah": np.array([[emotion == 2]], dtype=np.int8),
        "emi": intensities[None],
        "engagement": intensities[None, -1:],
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Every feature that a recipe wants: two videos, two sets of images, and six clips of 75 frames."""
    store = new_store(tmp_path_factory.mktemp("recipes") / "store.zarr", SHAPES, audio=SOUND)
    rng = np.random.default_rng(0)
    # views of a feature are like it
    prototypes = {
        name: drawn_by(name).normal(size=(8, *shape)).astype(np.float32)
        for name, shape in SHAPES.items()
        if "@" not in name
    }

    def put(video: str, classes: np.ndarray, names: list[str]) -> None:
        for name in names:
            own = drawn_by(f"{name} of {video}")
            noise = own.normal(scale=0.5, size=(len(classes), *SHAPES[name])).astype(np.float32)
            present = np.ones(len(classes), bool) if name in SOUND else own.random(len(classes)) < 0.9
            put_feature(store, name, video, prototypes[name.partition("@")[0]][classes] + noise, present)

    frames = [name for name in SHAPES if name != "spectrogram"]
    for video, n_frames in (("train", 260), ("val", 120)):
        classes = np.repeat(rng.permutation(np.arange(n_frames // 10 + 1) % 8), 10)[:n_frames]
        put(video, classes, frames)
        for task, rows in frame_labels(classes).items():
            store.write_labels(task, video, video, rows)
        store.write_labels("vd", video, video, (classes[:, None] > 3).astype(np.int8))
    for split in ("train", "val"):
        for kind in range(6):
            put(f"{split}-{kind}", np.full(6, kind), [name for name in frames if name.startswith("mae-cls")])
            store.write_labels("lsd", f"{split}-{kind}", split, np.full((6, 1), kind, dtype=np.int8))
    for i in range(6):
        put(f"clip{i}", np.full(75, i % 3), list(OF_CLIPS))
        for task, label in clip_labels(i % 3).items():
            split = "train" if i < 3 or task == "mer" else "val"
            store.write_labels(task, f"clip{i}", split, label)
    return store


@pytest.fixture
def in_store(run_cli: Cli, store: FeatureStore, tmp_path: Path) -> Cli:
    """`abaw COMMAND ...` on the store, with runs in a fresh folder."""

    def call(command: str, *arguments: object) -> Result:
        common = ("--store", store.path, "--runs", tmp_path / "runs", "--device", "cpu")
        return run_cli(command, *arguments, *common)

    return call


def config_of(name: str) -> TrainConfig:
    return make_config(load_recipe(name).values)


# every recipe


@RECIPES
def test_recipe_trains_and_evaluates(in_store: Cli, tmp_path: Path, name: str) -> None:
    # two spectrograms of a clip instead of five: the CNN takes most of the time
    settings = ["epochs=1", *(["head.segments=2"] if "spectrogram" in config_of(name).features else [])]
    done = in_store("train", "--recipe", name, *(part for setting in settings for part in ("--set", setting)))
    assert done.exit_code == 0, done.output
    run = open_run(tmp_path / "runs" / f"{name}-1")
    config = make_config(load_recipe(name).values, settings)
    assert run.config == config.resolved()
    assert_strict_and_resolved(run.folder / "config.json", config)
    (epoch,) = (json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines())
    assert np.isfinite(epoch["loss"])
    found = in_store("eval", name + "-1", "--json", "--data", tmp_path / "none")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["official"]["score"] == pytest.approx(epoch["score"], abs=1e-4)
    assert np.isfinite(epoch["score"])


def assert_strict_and_resolved(file: Path, config: TrainConfig) -> None:
    """A config has every option, in JSON that other readers take, and no number that stands for a default."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    written = json.loads(file.read_text(), parse_constant=refuse)["config"]
    assert written.keys() == TrainConfig.model_fields.keys()
    assert written["head"].keys() == type(config.head).model_fields.keys()
    assert written["loss"].keys() == type(config.loss).model_fields.keys()
    window = config.window or TASKS[config.task].window
    assert (written["window"], written["stride"]) == (window, config.stride or max(1, window // 2))
    assert written["clip_norm"] == (None if config.clip_norm == float("inf") else config.clip_norm)


def test_recipe_of_compound_expressions_hands_in_without_training_on_them(in_store: Cli, tmp_path: Path) -> None:
    small = (part for setting in ("epochs=1", "head.layers=1") for part in ("--set", setting))
    assert in_store("train", "--recipe", "ce", *small).exit_code == 0
    header = TASKS["ce"].submission.images
    (tmp_path / "sample.txt").write_text(f"{header}\nval/00001.jpg,\nval/00120.jpg,\n")
    done = in_store("submit", "ce-1", "--sample", tmp_path / "sample.txt", "--out", tmp_path / "out.txt")
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert [line.rpartition(",")[0] for line in lines[1:]] == ["val/00001.jpg", "val/00120.jpg"]
    assert {line.rpartition(",")[2] for line in lines[1:]} <= set("0123456")


SMALL = ["head.layers=1", "head.feedforward=64", "head.dropout=0", "stride=20", "batch_size=4", "lr=0.001", "warmup=0"]
SMALL += ["clips_per_video=0"]


@pytest.mark.parametrize(
    ("name", "settings", "least"),
    [
        ("random-masking-expr", [*SMALL, "head.dim=64"], 0.5),
        ("v-naw", [*SMALL, "head.convs=64"], 0.5),
        ("masked-cotex", ["batch_size=16", "lr=0.002"], 0.5),
        ("emma", ["batch_size=16", "epochs=5"], 1.0),
    ],
)
def test_recipe_learns(in_store: Cli, name: str, settings: list[str], least: float) -> None:
    """Frames of a class lie close together: a few epochs at a higher rate tell the classes apart."""
    options = [part for setting in ("epochs=10", *settings) for part in ("--set", setting)]
    done = in_store("train", "--recipe", name, *options)
    assert done.exit_code == 0, done.output
    assert float(re.findall(r"score ([0-9.]+) at epoch", done.output)[-1]) > least


@pytest.mark.parametrize("name", recipe_names())
def test_header_says_what_was_published_and_what_is_other_here(name: str) -> None:
    lines = (FOLDER / f"{name}.toml").read_text().splitlines()
    header = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    assert "As published: " in header
    assert "Different here" in header or "Chosen here" in header
    assert max(map(len, lines)) <= 130


@RECIPES
def test_recipe_has_a_summary_and_says_how_its_features_are_made(run_cli: Cli, name: str) -> None:
    """Names by the form [NAME=]BACKBONE[:WEIGHTS], with the views that the command asks for."""
    recipe, config = load_recipe(name), config_of(name)
    assert recipe.summary
    assert not recipe.summary.endswith(".")
    made = set()
    for command in recipe.extract:
        words = shlex.split(command)
        if words[:3] == ["abaw", "store", "import"]:
            made.add(words[words.index("--feature") + 1])
            continue
        assert words[:2] == ["abaw", "extract"]
        options = list(zip(words[2::2], words[3::2], strict=True))
        assert {option for option, _ in options} <= {"--backbone", "--view", "--views"}
        n_views = int(dict(options).get("--views", 1))
        for backbone in (value for option, value in options if option == "--backbone"):
            feature = re.split("[=:]", backbone)[0]
            made.add(feature)
            for view in (value for option, value in options if option == "--view"):
                suffixes = [f".{i}" for i in range(n_views)] if view.startswith("mask") else [""]
                made |= {f"{feature}@{view}{suffix}" for suffix in suffixes}
    assert {*config.features, *config.training_features()} <= made
    shown = run_cli("list", "recipes").output
    assert name in shown


# the published numbers


def value_at(config: TrainConfig, place: str) -> Any:
    found: Any = config
    for key in place.split("."):
        found = getattr(found, key)
    return found


EMMA_LOGITS = (0.8, 0.8, 0.7, 0.5, 0.5, 0.5, 0.6, 0.8, 0.8, 0.8, 0.3, 0.7)  # thresholds
EMMA_THRESHOLDS = dict(zip(ACTION_UNITS, 1 / (1 + np.exp(-np.array(EMMA_LOGITS))), strict=True))
EMMA_WEIGHTS = (7.10, 15.64, 5.47, 2.80, 1.52, 1.89, 3.05, 34.05, 32.48, 36.77, 0.58, 11.16)
MASKING = {"features": ("vit-mean",), "head.name": "transformer", "views": ()}
UNCLIPPED = {"clip_norm": float("inf")}  # of these no clipping is published
NOT_ON_NORMS = {"decay_norms": False, "min_lr": 1e-6, "betas": (0.9, 0.999)}  # of EMMA and CoTEX
EMOTIW = {
    **UNCLIPPED,
    **{"task": "vgaf", "optimizer": "sgd", "momentum": 0.9, "lr": 1e-5, "batch_size": 4, "epochs": 100},
    **{"head.name": "cross-attention", "head.segments": 5, "head.pool": "mean", "length": 75},
    **{"schedule": "constant", "warmup": 0, "loss.name": "cross-entropy", "patience": 100},
}
EMOTIW_AUDIO = {
    **{"head.audio": "spectrogram", "head.heads": 1, "head.dim": 1024, "head.feedforward": 2048},
    **{"head.feedforward_dropout": 0.5, "head.audio_dropout": 0.2, "head.norm_eps": 1e-6},
}
PUBLISHED: dict[str, Mapping[str, Any]] = {
    "emma": {
        **{"task": "mtl", "features": ("mae-cls", "dan"), "length": 1, "epochs": 30, "batch_size": 100 * 4},
        **{"optimizer": "adamw", "lr": 5e-4 * 100 * 4 / 256, "weight_decay": 0.05, "clip_norm": 0.05},
        **{"warmup": pytest.approx(5 / 30, abs=1e-4), "schedule": "cosine", **NOT_ON_NORMS, "head.name": "emma"},
        **{"head.vit_hidden": 512, "head.va_hidden": 256, "loss.name": "emma", "loss.va": 1, "loss.expr": 1},
        **{"loss.au": 1, "loss.positive_weights": pytest.approx(EMMA_WEIGHTS, abs=0.006)},
        **{"postprocess.thresholds": pytest.approx(EMMA_THRESHOLDS, abs=5e-4)},
    },
    "emotiw-audio": {**EMOTIW, **EMOTIW_AUDIO, "features": ("spectrogram",)},
    "emotiw-video": {**EMOTIW, "features": ("clip-l14-laion2b",), "head.audio": ""},
    "emotiw-fusion": {
        **EMOTIW,
        **EMOTIW_AUDIO,
        "features": ("clip-l14-laion2b", "spectrogram"),
        "head.cross_dropout": 0.1,
    },
    "gated-av": {
        **{"task": "expr", "features": ("dinov2-l", "wav2vec2"), "head.name": "gated", "head.gate": "sigmoid"},
        **{"head.layers": 0, "head.mask_token": "learned", "postprocess.smoothing": {"expr": "box:101"}},
    },
    "raav": {"task": "va", "head.name": "anchored", "head.anchor": "emotieffnet-b2", "head.residual": "gated"},
    "ah-text": {"task": "ah", "head.anchor": "text", "loss.weights": "inverse"},
    "hsemotion": {
        **{"task": "expr", "features": ("emotieffnet-b0",), "head.name": "mlp", "loss.weights": "inverse"},
        **{"postprocess.prefer": "emotieffnet-b0-logits>0.8", "postprocess.fit_bias": "free"},
        "postprocess.smoothing": {"expr": "box:101"},
    },
    "ah": {"task": "ah", "head.name": "difference"},
    "emi": {"task": "emi", "loss.name": "ccc-mse"},
    "vd": {"task": "vd", "features": ("clip-l14-laion2b",)},
    "mer": {"task": "mer", "fold": "1/5"},
    "engagement": {"task": "engagement", "features": ("emotieffnet-b0",), "loss.name": "mse"},
    "ce": {"task": "expr"},
    "text-residual": {"head.name": "anchored", "head.anchor": "text", "head.residual": "gated"},
    "masked-cotex": {
        **{"task": "lsd", "features": ("mae-cls",), "views": ("mask0.75.0", "mask0.75.1"), "co_train": True},
        **{"epochs": 6, "batch_size": 256 / (1 - 0.75), "loss.name": "cotex", "loss.consistency": 100, "length": 1},
        **{"optimizer": "adamw", "lr": 5e-4, "weight_decay": 0.05, "clip_norm": 0.05, "schedule": "cosine"},
        **{"warmup": pytest.approx(5 / 6), **NOT_ON_NORMS},
    },
    "random-masking-va": {**MASKING, "task": "va", "loss.name": "ccc"},
    "random-masking-expr": {**MASKING, "task": "expr", "loss.name": "focal"},
    "random-masking-au": {**MASKING, "task": "au", "loss.name": "focal"},
    "situ-va": {
        **{"task": "va", "window": 250, "stride": 100, "epochs": 30, "batch_size": 64, "optimizer": "adam"},
        **{"lr": 3e-5, "weight_decay": 1e-5, "schedule": "constant", "head.name": "encoder"},
        **{"phase": "fixed", "eval_stride": 100, "standardise": "frame", "betas": (0.9, 0.999), "eval_every": 0.25},
        **{"head.convs": (1024, 512), "head.layers": 4, "head.heads": 4, "head.feedforward": 512},
        **{
            "head.dropout": 0.3,
            "head.input_dropout": 0,
            "head.positions": False,
            "head.output_hidden": 256,
            "loss.name": "ccc",
            "postprocess.smoothing": {"valence": "box:101", "arousal": "box:41"},
            **UNCLIPPED,
        },
    },
    "v-naw": {
        **{"task": "expr", "features": ("swin-t",), "views": ("", "hflip"), "co_train": False, "window": 100},
        **{"speed": (0.6, 1.4), "missing": "nearest", "epochs": 50, "batch_size": 24, "optimizer": "adamw", "lr": 1e-4},
        **{"schedule": "cyclic-cosine", "lr_per": "epoch", "lr_epochs": 2, "min_lr": 1e-5, "weight_decay": 0.01},
        **{"clips_per_video": 1, "warmup": 0, "head.name": "encoder", "head.convs": (512,), "head.layers": 4},
        **{"head.heads": 1, "head.feedforward": 512, "head.dropout": 0.6, "head.output_hidden": 0},
        **{"head.input_dropout": 0, "head.positions": False, "loss.through_weights": True},
        **{"loss.name": "v-naw", "loss.plain": 0.5, "loss.weighted": 0.5, "loss.consistency": 0.4, "loss.decay": 15},
        **{"loss.divergence": "logit-sum", "loss.weights": "equal", "invalid_as": "", **UNCLIPPED},
    },
}


@RECIPES
def test_recipe_has_the_published_numbers(name: str) -> None:
    config = config_of(name)
    wrong = {
        place: value_at(config, place) for place, value in PUBLISHED[name].items() if value_at(config, place) != value
    }
    assert wrong == {}


def test_situ_has_six_features_of_the_published_widths() -> None:
    features = config_of("situ-va").features
    assert sorted(SHAPES[name][0] for name in features) == sorted([512, 512, 130, 23, 128, 768])


# variants that the headers name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("situ-va", ["--loss", "ccc-bins", "--set", "loss.bins=22", "--set", "loss.assign=interval"]),
        ("v-naw", ["--set", "loss.weights=1,10.4,16.2,19.6,1.86,2.23,5.61,1.06", "--set", "invalid_as=Other"]),
        ("v-naw", ["--set", "views="]),
        (
            "emotiw-video",
            [
                "--loss",
                "focal",
                "--set",
                "loss.alpha=0.25",
                "--set",
                "head.pool=flatten",
                "--set",
                "head.video_frames=middle",
            ],
        ),
        ("random-masking-va", ["--head", "linear", "--feature", "mae-cls"]),
        ("random-masking-au", ["--fold", "1/2"]),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_variant_trains(in_store: Cli, name: str, options: list[str]) -> None:
    done = in_store("train", "--recipe", name, "--set", "epochs=1", *options)
    assert done.exit_code == 0, done.output


# options that are printed


@RECIPES
def test_printed_config_is_a_recipe_of_the_same_options(run_cli: Cli, write: Callable, name: str) -> None:
    """Without a store. Only what 0 stands for is written out; the file can be printed again."""
    printed = run_cli("train", "--recipe", name, "--print-config", "--store", "none.zarr")
    assert printed.exit_code == 0, printed.output
    file = write(printed.stdout)
    assert make_config(load_recipe(str(file)).values) == config_of(name).resolved()
    assert run_cli("train", "--recipe", file, "--print-config").stdout == printed.stdout


def test_printed_config_has_the_options_of_the_command(in_store: Cli, tmp_path: Path) -> None:
    options = ("--epochs", "3", "--batch-size", "5", "--lr", "2e-5", "--seed", "7", "--loss", "focal")
    printed = in_store("train", "--recipe", "v-naw", "--print-config", *options, "--set", "views=", "--fold", "2/5")
    found = make_config(tomllib.loads(printed.stdout))
    assert (found.epochs, found.batch_size, found.lr, found.seed) == (3, 5, 2e-5, 7)
    assert (found.loss.name, found.views, found.fold, found.clip_norm) == ("focal", (), "2/5", float("inf"))
    assert not (tmp_path / "runs").exists()
    assert_refused(in_store("train", "--task", "va", "--print-config"), 2, "Choose with --feature")


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_options_of_a_plug_in_are_toml() -> None:
    """A string with everything that TOML escapes, a table within a table, and an option that is None."""
    config = config_of("emma").model_copy(
        update={"features": ('a"\\\x7f\né',), "head": OptionsOfAPlugIn(inner={"a": 1, "b": [True]}, none=None)}
    )
    found = tomllib.loads(format_config(config))
    assert found["features"] == ['a"\\\x7f\né']
    assert found["head"] == {"name": "plug-in", "inner": {"a": 1, "b": [True]}}


class OptionsOfAPlugIn(HeadConfig):
    name: Literal["plug-in"] = "plug-in"
    inner: dict[str, Any]
    none: int | None


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        (("--dropout", "0.1"), "use --set head.dropout=0.1."),
        (("--weight-decay=0.2",), "use --set weight_decay=0.2."),
        (("--head", "tcn", "--kernel", "5"), "use --set head.kernel=5."),
        (("--loss=focal", "--gamma", "3"), "use --set loss.gamma=3."),
        (("--epoch", "3"), "use --epochs 3."),
        (("--learning-rate", "0.1"), "use --lr 0.1."),
        (("--haed", "ridge"), "use --head ridge."),
        (("--mask-rato", "0.5"), "use --set head.mask_ratio=0.5."),
        (("--dropout",), "use --set head.dropout=...."),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_option_that_is_a_setting_is_answered_with_it(run_cli: Cli, option: tuple[str, ...], remedy: str) -> None:
    assert_refused(run_cli("train", "--task", "va", *option), 2, "No such option --", remedy)


def test_option_that_is_no_setting_either_is_unknown(run_cli: Cli) -> None:
    for option in ("--kernel", "--gamma", "--xyzzy"):  # of another head, of another loss, of nothing
        found = run_cli("train", "--task", "va", option, "3")
        assert found.exit_code == 2
        assert f"Error: No such option '{option}'." in found.output


@pytest.mark.parametrize(
    ("option", "setting"),
    [
        (("--epochs", "3"), "epochs=5"),
        (("--batch-size", "3"), "batch_size = 5"),
        (("--lr", "0.1"), "lr=0.2"),
        (("--seed", "1"), "seed=x"),
        (("--head", "linear"), "head.name=gru"),
        (("--task", "va"), "task=au"),
    ],
    ids=lambda given: given if isinstance(given, str) else given[0],
)
def test_option_and_setting_that_contradict_each_other_are_refused(
    run_cli: Cli, option: tuple[str, str], setting: str
) -> None:
    written = f"{option[0]} {option[1]} and --set {setting} contradict each other. Leave out one of them."
    assert_refused(run_cli("train", *option, "--set", setting), 2, written)


def test_option_and_setting_of_one_value_agree(run_cli: Cli) -> None:
    printed = run_cli("train", "--recipe", "emma", "--lr", "1e-3", "--set", "lr=0.001", "--print-config")
    assert "lr = 0.001" in printed.stdout


# recipes of one's own

OWN = """
summary = "Mine"
task = "expr"
features = ["vit-mean"]
epochs = 1
window = 50

[head]
name = "linear"
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes a recipe file."""

    def write_file(content: str | bytes) -> Path:
        file = tmp_path / "mine.toml"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write_file


def test_own_file_is_a_recipe(in_store: Cli, write: Callable, tmp_path: Path) -> None:
    done = in_store("train", "--recipe", write(OWN), "--set", "lr=0.25")
    assert done.exit_code == 0, done.output
    config = open_run(tmp_path / "runs" / "mine-1").config
    assert (config.task, config.features, config.head.name, config.lr) == ("expr", ("vit-mean",), "linear", 0.25)


def test_own_file_is_read_from_its_folder(write: Callable) -> None:
    recipe = load_recipe(str(write(OWN)))
    assert (recipe.name, recipe.summary, recipe.extract) == ("mine", "Mine", ())
    assert "summary" not in recipe.values


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("epochs = 1", "epoch = 1"), ["Recipe mine.toml: Unknown option 'epoch'", "epochs"]),
        (("window = 50", "batchsize = 3"), ["Recipe mine.toml: Unknown option 'batchsize'", "batch_size"]),
        (('name = "linear"', 'name = "linear"\ndropuot = 0.1'), ["mine.toml: Unknown option 'head.dropuot'", "head.dropout"]),
        (('name = "linear"', 'name = "linera"'), ["mine.toml: Unknown head 'linera'", "Did you mean linear"]),
        (("[head]", '[loss]\nname = "bce"\n[head]'), ["mine.toml: loss bce does not fit task expr", "cross-entropy"]),
        (("[head]", "[loss]\nweight = 1\n[head]"), ["mine.toml: Unknown option 'loss.weight'", "loss.weights"]),
        (("epochs = 1", "epochs = 0"), ["mine.toml: epochs", "greater than or equal to 1", "found 0"]),
        (("epochs = 1", "speed = [1.4, 0.6]"), ["mine.toml: speed must be two factors"]),
        (('task = "expr"', 'task = "express"'), ["mine.toml: Unknown task 'express'", "va, expr, au"]),
        (('task = "expr"', ""), ["mine.toml: Option 'task' is missing", "va, expr, au"]),
        (('features = ["vit-mean"]', ""), ["mine.toml: Option 'features' is missing"]),
        (('features = ["vit-mean"]', 'features = "vit-mean"'), ["mine.toml: features", "found 'vit-mean'"]),
        (('summary = "Mine"', "summary = 3"), ["mine.toml: summary must be a string and extract a list of commands"]),
        (('summary = "Mine"', 'extract = "abaw"'), ["mine.toml: summary must be a string and extract a list of commands"]),
        (("window = 50", "window ="), ["mine.toml is not valid TOML", "line 6", "Correct the file"]),
        (("window = 50", "epochs = 2"), ["mine.toml is not valid TOML", "line 6"]),
        (("[head]", 'head = "linear"\n[other]'), ["mine.toml: head: choose one with head.name=...", "found 'linear'"]),
    ],
)  # fmt: skip
def test_fault_in_a_file_is_named(in_store: Cli, write: Callable, tmp_path: Path, change: tuple, words: list) -> None:
    assert change[0] in OWN
    assert_refused(in_store("train", "--recipe", write(OWN.replace(*change))), 2, *words)
    assert not (tmp_path / "runs").exists()


def test_file_that_cannot_be_read_is_named(write: Callable, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^Recipe .*mine\.toml is not valid TOML \(.*utf-8.*\)"):
        load_recipe(str(write(b"task = '\xff'")))
    with pytest.raises(UsageError, match=r"^No recipe file .*none\.toml\. Name another"):
        load_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UsageError, match=r"^Recipe .*folder\.toml cannot be read \(Is a directory\)"):
        load_recipe(str(tmp_path / "folder.toml"))


def test_unknown_recipe_names_the_near_ones_and_all() -> None:
    with pytest.raises(UsageError, match=r"^No recipe 'vnaw'\. Did you mean v-naw") as caught:
        load_recipe("vnaw")
    assert all(name in str(caught.value) for name in recipe_names())
    for outside in ("../recipes/v-naw", "", "."):
        with pytest.raises(UsageError, match=r"^No recipe "):
            load_recipe(outside)


# recipes and the rest of the command


@pytest.mark.parametrize("name", OF_PIXELS)
def test_recipe_of_pixels_is_for_another_command(run_cli: Cli, name: str) -> None:
    assert_refused(run_cli("train", "--recipe", name), 2, f"{name} is of pixels. Use `abaw finetune --recipe {name}`.")


def test_recipe_of_another_task_is_refused(in_store: Cli, tmp_path: Path) -> None:
    assert_refused(
        in_store("train", "--recipe", "v-naw", "--task", "va"),
        2,
        "Recipe v-naw is for task expr, not va. Leave out --task.",
    )
    assert not (tmp_path / "runs").exists()


def test_recipe_with_its_own_task_said_is_fine(in_store: Cli) -> None:
    assert in_store("train", "--recipe", "random-masking-va", "--task", "va", "--set", "epochs=1").exit_code == 0


@RECIPES
def test_missing_features_are_listed_with_the_commands_that_make_them(run_cli: Cli, tmp_path: Path, name: str) -> None:
    store, config = new_store(tmp_path / "s.zarr", {"hog": (3,)}), config_of(name)
    done = run_cli("train", "--recipe", name, "--store", store.path, "--runs", tmp_path / "runs", "--device", "cpu")
    wanted = [*config.features, *config.training_features()]
    assert_refused(done, 2, f"Recipe {name} needs ", *wanted, store.path, "or choose others with --feature")
    assert all(f"`{command}`" in done.output for command in load_recipe(name).extract)
    assert not (tmp_path / "runs").exists()


def test_missing_view_alone_is_listed_alone(run_cli: Cli, tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"swin-t": (768,)})
    done = run_cli("train", "--recipe", "v-naw", "--store", store.path, "--runs", tmp_path / "runs")
    assert_refused(done, 2, "Recipe v-naw needs swin-t@hflip, which", "`abaw extract --backbone swin-t --view hflip`")


def test_missing_features_of_an_own_file_are_said_without_its_commands(
    run_cli: Cli, write: Callable, tmp_path: Path
) -> None:
    store = new_store(tmp_path / "s.zarr", {"hog": (3,)})
    done = run_cli("train", "--recipe", write(OWN), "--store", store.path, "--runs", tmp_path / "runs")
    assert_refused(done, 2, "No feature 'vit-mean'", "it has: hog", "`abaw extract --backbone vit-mean`")
    assert not (tmp_path / "runs").exists()


def test_named_feature_takes_the_place_of_the_recipes(in_store: Cli, tmp_path: Path) -> None:
    assert_refused(
        in_store("train", "--recipe", "v-naw", "--feature", "vit-mean"),
        2,
        "No feature 'vit-mean@hflip'",
        "--view hflip",
    )
    assert_refused(
        in_store("train", "--recipe", "emma", "--feature", "dan"), 2, "Head 'emma' takes the features 'mae-cls'"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "masked-cotex", "--fold", "1/3"], ["lsd cannot be split into folds"]),
        (["--recipe", "masked-cotex", "--set", "views="], ["co_train needs two or more views, found 0"]),
        (["--recipe", "random-masking-va", "--set", "balance=class"], ["va has no classes to balance"]),
        (["--recipe", "emotiw-video", "--set", "synthetic=0.3"], ["no synthetic vgaf clips", "abaw synth"]),
        (["--recipe", "situ-va", "--set", "window=300"], ["longer than every training video; the longest has 260"]),
        (["--recipe", "v-naw", "--set", "loss.weights=1,2"], ["loss.weights has 2 numbers", "8 classes"]),
        (
            ["--recipe", "random-masking-va", "--head", "cross-attention", "--set", "head.audio="],
            ["needs one per frame"],
        ),
        (["--recipe", "random-masking-va", "--fold", "1/3"], ["3 folds need at least 3 groups of videos, found 2"]),
    ],
    ids=lambda given: " ".join(given),
)
def test_what_does_not_fit_leaves_no_run_behind(
    in_store: Cli, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    assert_refused(in_store("train", *options), 2, *words)
    assert not (tmp_path / "runs").exists()


def test_labels_that_no_feature_meets_leave_no_run_behind(run_cli: Cli, tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (3,)})
    for split in ("train", "val"):
        put_feature(store, "f", split, np.ones((120, 3)))
        store.write_labels("expr", split, split, np.full((120, 1), -1, dtype=np.int8))
    for head in ("transformer", "logistic"):
        done = run_cli("train", "--task", "expr", "--head", head, "--store", store.path, "--runs", tmp_path / "runs")
        assert_refused(
            done, 2, "None of the 1 training videos has a frame with both labels of expr and a feature", "abaw doctor"
        )
    assert not (tmp_path / "runs").exists()
