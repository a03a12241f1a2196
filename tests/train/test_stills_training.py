"""Fine-tuning on sets of still images: joined sets, aligned faces, soft labels, and images that are mixed."""

import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from abaw import pipeline
from abaw.core.errors import AbawError, DataError, UsageError
from abaw.core.progress import Silent
from abaw.core.tasks import ACTION_UNITS, AU, EXPR
from abaw.datasets.demo.demo_stills import WRITERS, _draw_set
from abaw.datasets.stills.aligned_stills import AlignedStills
from abaw.datasets.stills.still_layouts import open_still_set
from abaw.extract.faces.alignment import TEMPLATE, align
from abaw.extract.faces.detector import create_detector
from abaw.extract.faces.still_alignment import align_stills
from abaw.media.images import read_image
from abaw.train.checkpoint import load_tensors
from abaw.train.config import make_config
from abaw.train.data.windows import SoftLabels, Targets
from abaw.train.finetune.mixing import MIXING, Mixing, draw_mixing, pairs_of
from abaw.train.finetune.still_table import StillFolders, load_still_tables, parse_sets
from abaw.train.loss_options import CrossEntropyConfig
from abaw.train.losses import create_loss
from abaw.train.recipes import load_recipe

BACKBONE = "tiny=timm/test_vit@32-mean"
SETTINGS = ("epochs=2", "batch_size=8", "lr=1e-3", "warmup=0")


class Warnings(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


def configs(*settings: str, task: str = "expr"):
    return pipeline.make_finetune_configs(task, [BACKBONE], {}, [*SETTINGS, "aligned=true", *settings])


def finetune(runs: Path, images: list[str], *settings: str, reporter=None, task="expr", **options):
    made = configs(*settings, task=task)
    return pipeline.finetune_seeds(
        made, Path("none"), runs, untrained=True, images=images, reporter=reporter, **options
    )[0]


def faces(root: Path, splits: dict[str, list[tuple[str, int]]]) -> Path:
    """A folder by class of flat pictures: by split, class and grey level."""
    for split, pictures in splits.items():
        for number, (name, level) in enumerate(pictures):
            file = root / split / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 20, 3), level, dtype=np.uint8)).save(file)
    return root


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[Path, Path]:
    """Bright pictures are happy, dark ones sad, in two sets; one picture is broken."""
    root, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)

    def pictures(n: int) -> list[tuple[str, int]]:
        bright = rng.permutation(np.arange(140, 250))[:n]
        dark = rng.permutation(np.arange(5, 110))[:n]
        return [("happy", int(level)) for level in bright] + [("sad", int(level)) for level in dark]

    first = faces(root / "first", {"train": pictures(12), "val": pictures(5)})
    second = faces(root / "second", {"train": pictures(6)})
    (second / "train/sad/99.png").write_bytes(b"not an image")
    return first, second


def test_joined_sets_are_learnt_and_scored_from_their_validation_images(sets, tmp_path):
    reporter, images = Warnings(), [f"a={sets[0]}", f"b={sets[1]}"]
    run, result = finetune(tmp_path, images, "epochs=8", "augment=none", "lr=3e-3", reporter=reporter, name="run")
    assert result.best_score == pytest.approx(0.25)  # two of eight classes, all of their images right
    assert any("1 images cannot be read" in sentence and "99.png" in sentence for sentence in reporter.warnings)
    evaluation = pipeline.evaluate(pipeline.find_predictor(tmp_path, "run"), None, "val", Path("none"))
    assert evaluation.official.score == pytest.approx(result.best_score) and set(evaluation.predictions) == {"a-val"}
    train = pipeline.evaluate(pipeline.find_predictor(tmp_path, "run"), None, "train", Path("none"))
    assert set(train.predictions) == {"a-train", "b-train"}
    _, metadata = load_tensors(run.folder / "encoder.safetensors")
    assert metadata["data"] == f'"{sets[0]}, {sets[1]}"' and metadata["videos"] == '["a-train", "b-train"]'
    sets[1].rename(sets[1].with_name("moved"))
    try:
        with pytest.raises(UsageError, match="predicts from images of b, and there is no"):
            pipeline.evaluate(pipeline.find_predictor(tmp_path, "run"), None, "train", Path("none"))
    finally:
        sets[1].with_name("moved").rename(sets[1])


def test_resuming_takes_the_same_steps_with_mixed_images(sets, tmp_path):
    class Stops(Silent):
        def advance(self, n=1, note=""):
            if "epoch 2" in note:
                raise KeyboardInterrupt

    images, settings = [f"a={sets[0]}"], ("mixup=0.4", "cutmix=1", "loss.weights=inverse")
    finetune(tmp_path / "whole", images, *settings, name="run")
    with pytest.raises(KeyboardInterrupt):
        finetune(tmp_path / "stopped", images, *settings, name="run", reporter=Stops())
    run = pipeline.find_run(tmp_path / "stopped", "run")
    pipeline.finetune(run, Path("none"))
    expected, found = (load_file(tmp_path / name / "run/last.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def load(images: dict[str, Path], *settings: str, splits=("train",), task="expr", reporter=None):
    return load_still_tables(configs(*settings, task=task)[0], StillFolders(images), splits, reporter or Silent())


def test_contradicting_and_shared_images_are_left_out(tmp_path):
    first = faces(tmp_path / "a", {"train": [("happy", 1), ("sad", 2), ("sad", 3)], "val": [("happy", 4), ("sad", 5)]})
    second = faces(tmp_path / "b", {"train": [("happy", 2), ("happy", 4), ("sad", 3), ("happy", 6)]})
    reporter = Warnings()
    train, val = load({"a": first, "b": second}, splits=("train", "val"), reporter=reporter)
    # 2 is sad and happy; 3 is in both with one label; 4 is in training and validation
    levels = [table.inputs(np.arange(len(table.labels))[:, None], np.ones((len(table.labels), 1), bool))[0]["images"]
              for table in (train, val)]  # fmt: skip
    assert [sorted(level[:, 0, 0, 0, 0].tolist()) for level in levels] == [[1, 3, 6], [4, 5]]
    (contradiction,) = [sentence for sentence in reporter.warnings if "contradict" in sentence]
    assert (
        contradiction.startswith("1 images are in two sets with labels that contradict")
        and "b/train/happy/0.png" in contradiction
    )


def table_of(root: Path, rows: list[str], header: str) -> Path:
    for number in range(len(rows)):
        root.mkdir(exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), number, dtype=np.uint8)).save(root / f"{number}.png")
    (root / "faces.csv").write_text("\n".join([header, *(f"{number}.png,{row}" for number, row in enumerate(rows))]))
    return root


def test_folds_are_of_people_and_refused_without_them(sets, tmp_path):
    rows = [f"{number % 2},p{number // 3}" for number in range(18)]
    root = table_of(tmp_path / "t", rows, "image,label,subject")
    people = []
    for number in (1, 2, 3):
        train, val = load({"t": root}, f"fold={number}/3", splits=("train", "val"))
        assert set(train.videos).isdisjoint(val.videos) and len(train.labels) + len(val.labels) == 18
        people += val.videos
    assert sorted(people) == [f"t-p{number}" for number in range(6)]
    with pytest.raises(UsageError, match="does not say who is in its images"):
        load({"t": root, "a": sets[0]}, "fold=1/3")
    for subject, words in (
        ("b-train", "Two sets have images called a-b-train"),
        ("x/y", "cannot be the name of a subject"),
    ):
        other = table_of(tmp_path / "other", [f"1,{subject}"], "image,label,subject")
        with pytest.raises(AbawError, match=words):
            load({"a": other, "a-b": sets[1]})
    with pytest.raises(UsageError, match="Deal the people into folds"):
        load({"t": root}, splits=("val",))
    with pytest.raises(UsageError, match=r"b \(folders by class\) has no images of the split val"):
        load({"b": sets[1]}, splits=("val",))


def test_what_does_not_fit_is_refused(sets, tmp_path):
    images = {"a": sets[0]}
    with pytest.raises(
        UsageError, match=r"a \(folders by class\) has labels of expr, not of va. Leave out --images a="
    ):
        load(images, task="va")
    with pytest.raises(UsageError, match="still images have no time axis"):
        load(images, "head.name=tcn")
    with pytest.raises(UsageError, match="votes=soft is for tasks of classes"):
        load(images, "votes=soft", task="au")
    with pytest.raises(UsageError, match="mixup needs loss cross-entropy or bce, found ccc"):
        load(images, "mixup=0.2", task="va")
    with pytest.raises(UsageError, match=r"images of .* have no aligned faces"):
        load(images, "aligned=false")
    with pytest.raises(DataError, match="There is no folder"):
        load({"none": tmp_path / "none"})
    for texts, words in ((["rafdb"], "takes NAME=FOLDER"), (["a=b", "a=c"], "two sets called a")):
        with pytest.raises(UsageError, match=words):
            parse_sets(texts)


def test_contempt_is_dropped_or_other_and_votes_are_shares(tmp_path):
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    rows = ["Training,0.png,6,2,0,0,0,0,0,2,0,0", "Training,1.png,0,0,3,0,0,0,0,7,0,0"]
    table_of(tmp_path / "FER2013Train", ["", ""], "")
    (tmp_path / "fer2013new.csv").write_text("\n".join([header, *rows]))
    reporter = Warnings()
    (table,) = load({"f": tmp_path}, reporter=reporter)
    assert table.labels.tolist() == [[0]] and table.shares is None
    assert "contempt among them (contempt=other makes it Other)" in reporter.warnings[0]
    (table,) = load({"f": tmp_path}, "contempt=other", "votes=soft")
    assert table.labels.tolist() == [[0], [7]]
    np.testing.assert_allclose(table.shares, [[0.6, 0, 0, 0, 0.2, 0, 0, 0.2], [0, 0, 0, 0, 0, 0, 0.3, 0.7]], atol=1e-6)


def test_soft_labels_in_the_cross_entropy():
    outputs, shares = torch.randn(5, 1, 8, dtype=torch.float64), torch.rand(5, 1, 8).softmax(dim=-1).double()
    valid = torch.tensor([True, True, False, True, True]).view(5, 1, 1)
    loss = create_loss(CrossEntropyConfig(), EXPR, np.zeros((1, 1), np.float32), np.ones((1, 1), bool))
    kept = valid[:, 0, 0]
    expected = torch.nn.functional.cross_entropy(outputs[kept, 0], shares[kept, 0])
    torch.testing.assert_close(loss(outputs, shares, valid, 0.0), expected)
    hard = torch.tensor([0, 3, 5, 7, 1]).view(5, 1, 1)
    one_hot = torch.nn.functional.one_hot(hard[..., 0], 8).double()
    torch.testing.assert_close(loss(outputs, one_hot, valid, 0.0), loss(outputs, hard.float(), valid, 0.0))


def test_labels_are_mixed_like_images_and_count_where_both_have_one():
    mixing = Mixing(0.75)
    labels, valid = (
        torch.tensor([0.0, 3.0, 2.0, 5.0]).view(4, 1, 1),
        torch.tensor([True, True, False, True]).view(4, 1, 1),
    )
    soft = mixing.targets(Targets(labels, valid, None), EXPR, 1).soft
    assert soft is not None and soft.valid.flatten().tolist() == [True, False, False, True]
    assert soft.labels[0, 0].tolist() == [0.75, 0, 0, 0, 0, 0.25, 0, 0]
    # two processes, each with its own half; the second one is padded
    soft = mixing.targets(Targets(labels[:3], torch.ones(3, 1, 1, dtype=torch.bool), None), EXPR, 2).soft
    assert soft is not None and soft.valid.flatten().tolist() == [True, True, False]
    assert soft.labels[1, 0].tolist() == [0.25, 0, 0, 0.75, 0, 0, 0, 0]
    units = torch.full((2, 1, len(ACTION_UNITS)), -1.0)
    units[:, 0, :2] = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    units[0, 0, 2] = 1
    soft = mixing.targets(Targets(units, units >= 0, None), AU, 1).soft
    assert soft is not None and soft.valid[0, 0, :3].tolist() == [True, True, False]
    assert soft.labels[:, 0, 0].tolist() == [0.75, 0.25]
    shares = SoftLabels(torch.eye(8)[:4, None] / 2 + 1 / 16, torch.ones(4, 1, 1, dtype=torch.bool))
    mixed = mixing.targets(Targets(labels, valid, None, shares), EXPR, 1).soft
    assert mixed is not None
    torch.testing.assert_close(mixed.labels[1], 0.75 * shares.labels[1] + 0.25 * shares.labels[2])


def test_images_are_mixed_with_those_from_the_other_end():
    shown = torch.tensor([True, True, False, True]).view(4, 1)
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 32, 32)
    pairs = pairs_of(Mixing(0.75).as_input(torch.device("cpu")), shown)
    assert pairs is not None
    assert pairs.mix(images)[:, 0, 0, 0].tolist() == [0.5, 1.0, 1.5]  # the partner of the second cannot be read
    pairs = pairs_of(Mixing(0.5, (0.0, 0.5, 0.25, 0.5)).as_input(torch.device("cpu")), shown)
    assert pairs is not None
    mixed = pairs.mix(images)[0, 0]
    assert mixed[:16, 8:16].unique().tolist() == [2.0] and mixed.sum() == 16 * 8 * 2
    assert pairs_of({}, shown) is None and MIXING in Mixing(0.5).as_input(torch.device("cpu"))


def test_mixing_is_drawn_from_seed_epoch_and_step():
    (config,) = configs("mixup=0.4", "cutmix=1")
    drawn = [draw_mixing(config, (0, 1, step, 0)) for step in range(400)]
    assert drawn[7] == draw_mixing(config, (0, 1, 7, 0)) and drawn[7] != drawn[8]
    cut = [mixing for mixing in drawn if mixing is not None and mixing.box]
    assert 160 < len(cut) < 240
    for mixing in cut:
        assert mixing.box is not None
        top, bottom, left, right = mixing.box
        assert mixing.share == pytest.approx(1 - (bottom - top) * (right - left)) and 0 <= top <= bottom <= 1
    assert np.mean([mixing.share for mixing in drawn if mixing is not None and not mixing.box]) == pytest.approx(
        0.5, abs=0.1
    )
    assert draw_mixing(configs()[0], (0, 1, 0, 0)) is None


def test_faces_are_aligned_once_by_landmarks_or_a_detector(tmp_path):
    root, drawn = tmp_path / "demo", list(islice(_draw_set("tiny", (5, 0)), 10))
    WRITERS["affectnet"](root / "affectnet", drawn)
    found = open_still_set(root / "affectnet")

    def never():
        raise AssertionError("the set has landmarks")

    align_stills(found, never, Silent())
    aligned, still = AlignedStills(found.root), found.stills[3]
    assert aligned.folder == root / "affectnet-aligned" and not aligned.missing(found.stills)
    expected = align(read_image(found.root / still.file), np.array(still.landmarks).reshape(5, 2))
    assert np.abs(read_image(aligned.file_of(still)).astype(int) - expected).mean() < 3
    aligned.file_of(still).unlink()
    (found.root / found.stills[0].file).write_bytes(b"broken")
    assert {one.name for one in aligned.missing(found.stills)} == {still.name, found.stills[0].name}
    align_stills(found, never, Silent())
    assert AlignedStills(found.root).seen[found.stills[0].name] == "unreadable" and aligned.file_of(still).is_file()

    small = root / "own"  # a face that is small, turned and off the centre of a larger picture
    picture = Image.new("RGB", (300, 200), (90, 120, 90))
    picture.paste(Image.fromarray(drawn[0].image).rotate(10, fillcolor=(90, 120, 90)), (150, 60))
    (small / "val/sad").mkdir(parents=True)
    (small / "train/happy").mkdir(parents=True)
    picture.save(small / "train/happy/a.png")
    Image.new("RGB", (60, 40)).save(small / "val/sad/b.png")
    found = open_still_set(small)
    align_stills(found, create_detector, Silent())
    aligned = AlignedStills(small)
    assert aligned.seen == {"train/happy/a.png": "face", "val/sad/b.png": "none"}
    (faces_found,) = create_detector().detect(read_image(aligned.file_of(found.stills[0]))[None])
    assert len(faces_found) == 1 and np.abs(faces_found.landmarks[0] - TEMPLATE).max() < 12
    with pytest.raises(UsageError, match="has no images of the split val"):
        finetune(tmp_path / "runs", [f"own={small}"], "aligned=false")
    shutil.rmtree(aligned.folder)


SITU = {"augment": "situ", "batchnorm": "eval", "contempt": "drop", "votes": "majority", "mixup": 0.0, "length": 1}
ADAPT = {"augment": "light", "contempt": "drop", "votes": "soft", "mixup": 0.2, "layer_decay": 1.0, "length": 1}


@pytest.mark.parametrize(
    ("recipe", "options", "feature", "backbone"),
    [
        ("situ-expr", SITU, "iresnet100-expr=timm/test_resnet@32", "iresnet100"),
        ("adapt-vit", ADAPT, "vit-expr=timm/test_vit@32-mean", "vit-mean"),
    ],
)
def test_recipes_run_on_sets_as_typed(run_cli, sets, tmp_path, recipe, options, feature, backbone):
    config = make_config(load_recipe(recipe).values)
    assert {name: getattr(config, name) for name in options} == options and config.backbones == (backbone,)
    assert config.lora.rank == (8 if recipe == "adapt-vit" else 0)
    images = ("--images", f"a={sets[0]}", "--images", f"b={sets[1]}", "--aligned")
    words = (
        "--recipe",
        recipe,
        "--backbone",
        feature,
        "--untrained",
        "--epochs",
        1,
        "--runs",
        tmp_path,
        "--device",
        "cpu",
    )
    done = run_cli("finetune", *words, *images)
    assert done.exit_code == 0 and "best expr score" in done.output, done.output
    folder = tmp_path / f"{recipe}-1"
    keys = load_file(folder / "encoder.safetensors").keys()
    assert keys and not any(key.endswith((".up", ".down")) for key in keys)
    scores = run_cli("eval", folder, "--json", "--device", "cpu", "--data", tmp_path, "--runs", tmp_path)
    (line,) = (folder / "metrics.jsonl").read_text().splitlines()
    assert scores.exit_code == 0, scores.output
    assert json.loads(scores.stdout)["official"]["score"] == pytest.approx(json.loads(line)["score"], abs=1e-6)
    refused = run_cli("finetune", "--resume", "--run", recipe, *images, "--runs", tmp_path)
    assert refused.exit_code == 2 and "--resume continues the run with its own options" in refused.output
