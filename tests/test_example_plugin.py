"""The package of examples/plugin, from its data to a score, without a change of abaw's source."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from safetensors.numpy import save_file

from abaw.store import FeatureStore
from abaw.tests.support.example_plugin import install_example
from abaw.tests.support.plugins import run_commands
from abaw.tests.support.processes import Ended

Run = Callable[..., Ended]


@pytest.fixture
def run(process_env: dict[str, str], tmp_path: Path) -> Run:
    """Runs commands of abaw, one after another in one process that finds the package."""
    installed = install_example(tmp_path / "site")

    def run(*commands: str) -> Ended:
        environment = {**process_env, "PYTHONPATH": f"{installed}:{process_env['PYTHONPATH']}"}
        return run_commands([command.split() for command in commands], environment, tmp_path)

    return run


def make_pain(root: Path) -> None:
    """Four videos whose brightness is the pain."""
    rng = np.random.default_rng(0)
    for split, video in (("train", "a"), ("train", "b"), ("train", "c"), ("val", "d")):
        pain = rng.uniform(0, 1, 40).round(3)
        folder = root / "pain" / split / video
        folder.mkdir(parents=True)
        for number, value in enumerate(pain, 1):
            picture = np.full((16, 16, 3), round(255 * value), np.uint8)
            (folder / f"{number:05}.jpg").write_bytes(simplejpeg.encode_jpeg(picture))
        folder.with_suffix(".txt").write_text("\n".join(map(str, pain)) + "\n")


def test_a_package_of_ones_own_goes_from_its_data_to_a_score(run: Run, tmp_path: Path) -> None:
    make_pain(tmp_path / "data")
    settings = "--set head.share=0 --set epochs=12 --set window=20 --set lr=0.1 --set loss.factor=2"
    done = run(
        *(f"list {kind}" for kind in ("heads", "losses", "tasks", "detectors", "layouts", "backbones")),
        "extract --data data --store s.zarr --device cpu --backbone tint",
        f"train --store s.zarr --runs runs --device cpu --task pain --run mine --head blend --loss absolute {settings}",
    )
    assert done.code == 0, done.output
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    for name in ("blend", "absolute", "pain", "tint"):
        assert f"{name}: from abaw-example 1.0." in lines
    assert {"whole abaw-example 1.0", "pain abaw-example 1.0"} <= set(lines)
    assert not any(line.startswith("mlp: from") for line in lines), "abaw's own have no note"
    epochs = (tmp_path / "runs" / "mine" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(epoch)["score"] for epoch in epochs) > 0.5, "pain is drawn for each frame: by chance it is 0"
    content = json.loads((tmp_path / "runs" / "mine" / "config.json").read_text())
    assert content["plugins"] == dict.fromkeys(("heads", "losses", "tasks"), "abaw-example 1.0")
    feature = json.loads((tmp_path / "s.zarr" / "features" / "tint" / "zarr.json").read_text())["attributes"]["spec"]
    assert feature["source"] == "abaw-example 1.0"


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", "well", "no", "yes"]
WIDTH = 4


def save_encoder(folder: Path) -> np.ndarray:
    """A BERT of one layer, none of whose matrices adds anything to its words; returns their vectors, (words, 4)."""
    words = np.random.default_rng(1).normal(0, 1, (len(WORDS), WIDTH)).astype(np.float32)
    square = {"weight": (WIDTH, WIDTH), "bias": (WIDTH,)}
    layer = "encoder.layer.0"
    linear = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
    linear += [f"{layer}.{name}" for name in ("attention.output.dense", "intermediate.dense", "output.dense")]
    norms = ["embeddings", f"{layer}.attention.output", f"{layer}.output"]
    tensors = {f"{name}.{key}": np.zeros(shape, np.float32) for name in linear for key, shape in square.items()}
    for name in norms:
        tensors |= {f"{name}.LayerNorm.{key}": np.full(WIDTH, key == "weight", np.float32) for key in square}
    for name, n in (("word", len(WORDS)), ("position", 64), ("token_type", 2)):
        tensors[f"embeddings.{name}_embeddings.weight"] = np.zeros((n, WIDTH), np.float32)
    tensors["embeddings.word_embeddings.weight"] = words
    sizes = {"vocab_size": len(WORDS), "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = {"model_type": "bert", "intermediate_size": WIDTH, "max_position_embeddings": 64, **sizes}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    return words


def normed(rows: np.ndarray) -> np.ndarray:
    """Layer normalisation with BERT's epsilon."""
    rows = rows - rows.mean(-1, keepdims=True)
    return rows / np.sqrt(rows.var(-1, keepdims=True) + 1e-12)


SMILE = """
name = "smile"
level = "clip"
kind = "regression"
outputs = ["smile"]
range = [0, 1]
measure = "pearson"
also = ["mse"]
loss = "absolute"

[labels]
table = "labels.csv"
clip = "recording"
split = "part"
person = "patient"
target = ["smile"]

[submission]
rows = "clips"
header = "recording,smile"
columns = ["clip", "label"]
"""


def make_smiles(root: Path) -> list[str]:
    """Clips of ten patients, the brighter the more they smile; two to predict, whose names are returned."""
    rng = np.random.default_rng(0)
    rows = ["recording,part,patient,smile"]
    for number in range(22):
        smile = rng.uniform(0, 1)
        folder = root / "crops" / f"r{number:02}"
        folder.mkdir(parents=True)
        for frame in range(1, 5):
            picture = np.full((16, 16, 3), round(255 * smile), np.uint8)
            (folder / f"{frame:05}.jpg").write_bytes(simplejpeg.encode_jpeg(picture))
        said = root / "transcripts" / f"r{number:02}.srt"
        said.parent.mkdir(exist_ok=True)
        said.write_text(f"1\n00:00:00,000 --> 00:00:00,1{number:02}\nWell, {'yes, ' * number}no.\n")
        if number < 20:
            rows.append(f"r{number:02}.mp4,{'train' if number < 12 else 'val'},p{number // 2},{smile:.3f}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return ["r20", "r21"]


def test_labels_an_encoder_and_transcripts_of_ones_own_go_from_a_folder_to_a_report(run: Run, tmp_path: Path) -> None:
    """A table, a task file and the package are all that is added; workers of a cluster load the package, too."""
    names, words = make_smiles(tmp_path / "data"), save_encoder(tmp_path / "encoder")
    (tmp_path / "smile.toml").write_text(SMILE)
    (tmp_path / "here.toml").write_text('[cluster]\nkind = "local"\nworkers = 1\n')
    (tmp_path / "sample.csv").write_text("\n".join(["recording", *names]) + "\n")
    places = "--store s.zarr --runs runs"
    train = f"train {places} --task smile.toml --device cpu --feature tint --set epochs=10 --set lr=0.1 --set window=4"
    done = run(
        "doctor --task smile.toml",
        "extract --task smile.toml --store s.zarr --backbone tint --backbone speech-timing --device cpu --cluster here.toml",
        "store info s.zarr",
        "extract --task smile.toml --store s.zarr --backbone said=text:encoder --device cpu",
        *(f"{train} --head blend --run blend", f"{train} --feature speech-timing --feature said --head mlp --run mlp"),
        *(f"eval {name} {places} --device cpu" for name in ("blend", "mlp")),
        *("compare blend mlp --runs runs", "report blend mlp --runs runs --out r.html"),
        f"submit blend {places} --task smile.toml --sample sample.csv --out answers.csv --device cpu",
        "check-submission answers.csv --task smile.toml --sample sample.csv",
    )
    assert done.code == 0, done.output
    text = " ".join(done.output.split())
    assert (
        "10 people" in text
        and "smile │ train │ 12 │ 6 │ 12" in text
        and "answers.csv: 2 rows, 2 videos, no problems." in text
    )
    assert "With 4 labelled people the intervals are rough" in " ".join(done.output.split())
    scores = json.loads((tmp_path / "runs" / "blend" / "scores-val.json").read_text())
    assert scores["official"]["score"] > 0.9 and scores["intervals"]["score"][0] is not None
    config = json.loads((tmp_path / "runs" / "blend" / "config.json").read_text())
    assert config["config"]["task_record"]["labels"]["person"] == "patient", "a run needs no file of its task"
    assert "smile" in (tmp_path / "r.html").read_text()
    counts = (tmp_path / "s.zarr" / "features" / "speech-timing").glob("r*/zarr.json")
    assert [json.loads(path.read_text())["attributes"]["n_present"] for path in counts] == [4] * 22
    said = FeatureStore.open(tmp_path / "s.zarr").read("said", "r02")  # 4 frames of 1/30 s, the text lasts .102 s
    spoken = ["[CLS]", "well", ",", "yes", ",", "yes", ",", "no", ".", "[SEP]"]
    wanted = normed(words[[WORDS.index(word) for word in spoken]]).mean(0)
    assert said.present.all() and np.allclose(said.values, wanted, atol=1e-3)  # float16


def test_a_run_whose_package_is_gone_names_it(run: Run, run_cli: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    config = {"task": "va", "features": ["tint"], "head": {"name": "blend"}, "loss": {"name": "ccc"}}
    content = {"config": config, "features": {}, "created": "", "plugins": {"heads": "abaw-example 1.0"}}
    (folder / "config.json").write_text(json.dumps(content))
    done = run_cli("eval", "mine", "--runs", tmp_path / "runs")
    assert done.exit_code == 1
    assert "Unknown head 'blend'" in done.stderr and "It was made with abaw-example 1.0: install that." in done.stderr
