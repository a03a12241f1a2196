"""The blocks of README and docs/ that are marked as run, run: the page Aff-Wild2 in a day, examples on the demo, Python."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import matplotlib.pyplot as pyplot
import numpy as np
import pytest
from click.testing import Result

from abaw import pipeline
from abaw.store import FeatureStore
from abaw.tests.support.archives import unpack_archives
from abaw.tests.support.documents import PAGES, Block, blocks
from abaw.tests.support.paths import CHECKOUT
from abaw.train.config import make_config

TEST_VIDEO = "demo-06"
BLOCKS = [block for page in PAGES for block in blocks(page)]


def marked(mark: str, *pages: str) -> list[Block]:
    """The blocks with a mark, of these pages in their order, or of all."""
    chosen = [block for block in BLOCKS if block.mark == f"run: {mark}"]
    return [block for page in pages for block in chosen if block.page == page] if pages else chosen


@pytest.fixture(scope="module")
def day(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archives unpacked in data/, where one video has no labels, and the sample that asks for it."""
    root = tmp_path_factory.mktemp("day")
    unpack_archives(tiny_demo, root / "data")
    n_frames = 0
    for file in (root / "data").glob(f"*/*_Challenge/*/{TEST_VIDEO}.txt"):
        n_frames = len(file.read_text().split()) - 1
        file.unlink()
    assert n_frames > 0
    images = [f"{TEST_VIDEO}/{frame:05}.jpg,," for frame in range(1, n_frames + 1)]
    (root / "sample.txt").write_text("\n".join(["image_location,valence,arousal", *images]) + "\n")
    return root


@pytest.fixture
def run_block(run_cli: Callable[..., Result]) -> Callable[[Block], list[str]]:
    """Runs the commands of a block here, and gives what each printed."""

    def run(block: Block) -> list[str]:
        printed = []
        assert len(block.commands()) == len(block.lines()), f"{block}: only `abaw` runs here"
        for words in block.commands():
            result = run_cli(*words)
            assert result.exit_code == 0, f"{block}: abaw {' '.join(words)}\n{result.output}"
            printed.append(result.stdout)
        return printed

    return run


def test_aff_wild2_in_a_day(day: Path, run_block: Callable[[Block], list[str]], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(day)
    pages = marked("day", "day.md")
    commands = [words[0] for block in pages for words in block.commands()]
    assert {"doctor", "extract", "train", "eval", "submit", "check-submission"} <= set(commands)
    for block in pages:
        run_block(block)
    rows = [line.split(",") for line in (day / "predictions.txt").read_text().splitlines()[1:]]
    sample = (day / "sample.txt").read_text().splitlines()[1:]
    assert [row[0] for row in rows] == [line.partition(",")[0] for line in sample]
    values = np.array([row[1:] for row in rows], dtype=float)
    assert values.shape == (len(sample), 2) and (np.abs(values) <= 1).all() and (values.std(axis=0) > 0).all()
    run = next((day / "runs").glob("va-*"))
    scores = json.loads((run / "scores-val.json").read_text())
    assert scores["official"]["n_frames"] > 0 and np.isfinite(scores["official"]["score"])
    assert TEST_VIDEO not in FeatureStore.open("store.zarr").label_names("va")

    run_block(Block("day.md", 0, "sh", "", "abaw train --task va --head ridge --seeds 2"))  # runs 2 and 3
    for block in marked("day with hog"):  # with networks in the page
        text = block.text.replace("--feature vit-mean", "--feature hog --head ridge")
        run_block(replace(block, text=text.replace("vit-mean-transformer", "hog-ridge")))
    assert len((day / "together.txt").read_text().splitlines()) == len(sample) + 1
    fitted = json.loads((day / "runs" / "va-hog-ridge-1" / "postprocess.json").read_text())
    assert [run["name"] for run in fitted["runs"]] == ["fold-1", "fold-2", "fold-3"]

    (day / "predictions.txt").unlink()
    for block in marked("day", "README.md"):  # the same road in six commands, in the same folder: it continues
        run_block(block)


@pytest.fixture(scope="module")
def demo(tiny_demo: Path, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of `abaw demo`, with the runs that the examples name; most of them are ridge regressions."""
    root = tmp_path_factory.mktemp("demo")
    (root / "data").symlink_to(tiny_demo)
    shutil.copytree(tiny_store, root / "store.zarr")
    store = pipeline.open_store(root / "store.zarr")
    for seed, name in enumerate(("va-hog-tcn-1", "va-hog-transformer-2", "va-hog-transformer-1")):
        config = make_config({"task": "va", "features": ("hog",), "head": {"name": "ridge"}, "seed": seed})
        pipeline.train_seeds([config], store, root / "runs", name, device="cpu")
        pipeline.evaluate(pipeline.find_predictor(root / "runs", name, "cpu"), store, "val", root / "data")
    return root


@pytest.mark.parametrize("block", marked("demo"), ids=str)
def test_examples_on_the_demo(
    block: Block, demo: Path, run_block: Callable[[Block], list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(demo)
    run_block(block)


@pytest.mark.parametrize("block", marked("python"), ids=str)
def test_python_examples(block: Block, demo: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(demo)
    exec(compile(block.text, str(block), "exec"), {})


def test_a_head_in_plain_torch_predicts_the_same(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store.zarr").symlink_to(tiny_store)
    store = pipeline.open_store(tiny_store)
    head = {"name": "transformer", "dim": 16, "layers": 2, "heads": 2, "feedforward": 16}
    config = make_config({"task": "va", "features": ("hog",), "head": head, "window": 20, "epochs": 1})
    pipeline.train_seeds([config], store, Path("runs"), "va-hog-transformer-1", device="cpu")
    pipeline.evaluate(pipeline.find_predictor(Path("runs"), device="cpu", raw=True), store)
    (block,) = marked("formats")
    exec(compile(block.text, str(block), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(store.labels("va", "val")) > 0
    assert all(float(line.rpartition(" ")[2]) < 1e-6 for line in printed)


def test_the_notebook_runs_and_stays_small(demo: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pandas")
    file = CHECKOUT / "docs" / "notebook.ipynb"
    assert file.stat().st_size <= 200_000
    code = [cell for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    monkeypatch.chdir(demo)
    names: dict[str, object] = {}
    for cell in code:
        exec("".join(cell["source"]), names)
    predictions = names["predictions"]
    with h5py.File(next(iter((demo / "runs").glob("va-*/predictions-val.h5")))) as saved:
        assert len(predictions) == sum(len(video["outputs"]) for video in saved.values())
    pyplot.close("all")
