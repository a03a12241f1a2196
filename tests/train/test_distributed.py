"""Two real processes, joined by gloo, train what one process trains; torchrun starts those of the command line."""

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from abaw import pipeline
from abaw.core.errors import UsageError
from abaw.core.tasks import EXPRESSIONS
from abaw.evaluate.trained import TrainedRun
from abaw.tests.support.processes import Started
from abaw.tests.support.trainings import StopAfter
from abaw.train import multi_process
from abaw.train.config import make_config
from abaw.train.runs import open_run

pytestmark = pytest.mark.usefixtures("one_thread")

# every window of 4 videos: three batches of 41, and one window that is left for two processes
COMMON = ("window=90", "stride=1", "batch_size=41", "lr=0.03", "epochs=3")
N_WINDOWS = 4 * (120 - 90 + 1)
SMALL = ("head.dim=16", "head.layers=1", "head.heads=2", "head.feedforward=32", "head.dropout=0", "head.mask_ratio=0")


def config(task, *settings):
    """Options on the feature `f`, without dropout, whose masks would differ between processes."""
    return make_config({"task": task, "features": ["f"]}, [*COMMON, *settings])


CASES = {
    "va": config("va", *SMALL, "speed=0.8,1.2"),
    "v-naw": config("expr", "head.name=linear", "loss.name=v-naw", "views=,hflip", "ema=0.5", "eval_share=0.5"),
    "cotex": config(
        *("expr", "head.name=linear", "loss.name=cotex", "views=,hflip", "co_train=true"),
        *("missing=nearest", "optimizer=sgd"),
    ),
    "ridge": make_config({"task": "va", "features": ["f"], "head": {"name": "ridge"}}),
}
# encoders on pixels; the last batch is one window, so that one of two processes has no image
ON_PIXELS = ("window=5", "batch_size=2", "epochs=3", "lr=1e-3", "views=,hflip", "loss.name=v-naw", "augment=none")
PIXELS = {
    "pixels-chunk": ("timm/test_vit@32-mean", "chunk=3", "accumulate=2"),
    "pixels-batchnorm": ("timm/test_resnet@32", "batchnorm=train", "checkpoint=true", "optimizer=sgd", "lr=0.03"),
}
NORMALISED = config(
    *("va", "head.name=encoder", "head.convs=16", "head.layers=1", "head.heads=1", "head.feedforward=16"),
    *("head.output_hidden=16", "head.dropout=0", "epochs=1"),
)
# several trainings one after another, for processes take longer to start than to train
SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from abaw import pipeline
from abaw.core.errors import AbawError
from abaw.train import multi_process
from abaw.train.config import make_config
from abaw.train.runs import open_run

folder = Path(sys.argv[1])
os.dup2(os.open(folder / f"printed-{os.environ['RANK']}", os.O_WRONLY | os.O_CREAT), 1)
store, runs = pipeline.FeatureStore.open(Path(sys.argv[2])), folder / "together"
said = {}
with multi_process.processes(torch.device("cpu")):
    for step in json.loads((folder / "steps.json").read_text()):
        try:
            if "data" in step:
                configs = [make_config(config) for config in step["configs"]]
                place = (Path(step["data"]), runs)
                trained = pipeline.finetune_seeds(configs, *place, untrained=True, name=step["name"], device="cpu")
                results = [found for _, found in trained]
            elif "resume" in step:
                run = open_run(runs / step["resume"])
                results = [pipeline.train(run, store, device="cpu")]
            else:
                configs = [make_config(config) for config in step["configs"]]
                results = [found for _, found in pipeline.train_seeds(configs, store, runs, step["name"], device="cpu")]
            said[step["name"]] = [found.best_score for found in results]
        except AbawError as error:
            said[step["name"]] = str(error)
(folder / f"said-{os.environ['RANK']}.json").write_text(json.dumps(said))
"""


@dataclass(frozen=True)
class Pair:
    """What one process (`alone`) and two (`together`) left behind.

    Attributes:
        first: torchrun, which trained `va` by the command line.
        printed: what both processes that went through the other steps wrote to standard output.
        errors: what else they wrote.
        said: by each of them, the scores or the error of every step.
    """

    alone: Path
    together: Path
    first: subprocess.CompletedProcess[str]
    printed: str
    errors: str
    said: list[dict[str, list[float] | str]]


@pytest.fixture(scope="module")
def pair(lab, linear_store, tmp_path_factory, process_env):
    folder = tmp_path_factory.mktemp("pair")
    alone, together = folder / "alone", folder / "together"
    for name, case in CASES.items():
        assert [*pipeline.train_seeds([case], linear_store, alone, name, device="cpu")]
    make_stopped(lab, linear_store, alone / "va", together / "stopped")
    settings = [f"--set={setting}" for setting in (*COMMON, *SMALL, "speed=0.8,1.2")]
    places = ("--store", str(linear_store.path), "--runs", str(together), "--device", "cpu")
    command = ("train", "--task", "va", "--feature", "f", "--run", "va", *settings, *places)
    first = torchrun("-m", "--", "abaw", *command, env=process_env)
    others = {name: [case] for name, case in CASES.items() if name != "va"} | {"normalised": [NORMALISED]}
    others["many"] = [CASES["ridge"], CASES["ridge"].model_copy(update={"seed": 1})]
    others["wrong"] = [config("va", *SMALL, "lr=1e37", "warmup=0")]
    steps = [{"name": name, "configs": [one.model_dump() for one in cases]} for name, cases in others.items()]
    make_crops(folder / "data")
    for name, (backbone, *settings) in PIXELS.items():
        (one,) = pipeline.make_finetune_configs("expr", [backbone], {}, [*ON_PIXELS, "drop_path=0", *settings])
        pipeline.finetune_seeds([one], folder / "data", alone, untrained=True, name=name, device="cpu")
        steps.append({"name": name, "data": str(folder / "data"), "configs": [one.model_dump()]})
    steps += [{"name": f"resumed {name}", "resume": name} for name in ("stopped", "va")]
    steps.append({"name": "va", "configs": [CASES["va"].model_dump()]})
    (folder / "steps.json").write_text(json.dumps(steps))
    (folder / "script.py").write_text(SCRIPT)
    errors = run_two("script", folder, linear_store.path, folder=folder, env=process_env)
    said, printed = zip(*(read_process(folder, rank) for rank in range(2)), strict=True)
    return Pair(alone, together, first, "".join(printed), errors, list(said))


def make_crops(root):
    """Seven crops of each of four videos, in colours of their own."""
    rng = np.random.default_rng(0)
    for number, split in enumerate(("Train", "Train", "Train", "Validation")):
        crops, labels = root / "cropped_aligned" / f"v{number}", root / "labels" / "EXPR_Recognition_Challenge"
        crops.mkdir(parents=True)
        for frame in range(1, 8):
            picture = rng.integers(0, 64, (32, 32, 3)) + rng.integers(0, 190, 3)
            Image.fromarray(picture.astype(np.uint8)).save(crops / f"{frame:05d}.jpg")
        (labels / f"{split}_Set").mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{number}\n" for number in rng.integers(0, 8, 7))
        (labels / f"{split}_Set" / f"v{number}.txt").write_text(f"{','.join(EXPRESSIONS)}\n{rows}")


def read_process(folder, rank):
    return json.loads((folder / f"said-{rank}.json").read_text()), (folder / f"printed-{rank}").read_text()


def make_stopped(lab, store, source, folder):
    """The run `source`, stopped by one process after its first epoch."""
    folder.mkdir(parents=True)
    shutil.copy(source / "config.json", folder)
    with pytest.raises(KeyboardInterrupt):
        lab.train(open_run(folder), store, StopAfter(1))


def torchrun(*arguments, env):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.run(
        command, env={**env, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False
    )


def run_two(module, *arguments, folder, env):
    """Run a module of a folder in two processes, as torchrun does but for the time that each takes to start; their output."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = os.pathsep.join([str(folder), env["PYTHONPATH"]])
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        started = []
        for rank in ("0", "1"):
            environment = {**env, **both, "RANK": rank, "LOCAL_RANK": rank}
            process = Started(module, *arguments, environment=environment, folder=folder / f"process-{rank}")
            started.append(stack.enter_context(process))
        codes = [process.end() for process in started]
        output = "".join(process.output for process in started)
    assert codes == [0, 0], output
    return output


def assert_alike(lab, folder, wanted, tolerance=1e-5):
    """The same but for the order in which numbers were added up."""
    rows, expected = lab.metrics(folder), lab.metrics(wanted)
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in expected] == [1, 2, 3]
    for key in ("loss", "score", "lr"):
        assert [row[key] for row in rows] == pytest.approx([row[key] for row in expected], abs=tolerance), key
    for name in ("best.safetensors", "last.safetensors"):
        # no closer look: Adam makes much of the noise in a bias that changes nothing
        assert lab.tensors(folder / name)[0].keys() == lab.tensors(wanted / name)[0].keys()


# training


def test_the_last_batch_is_smaller_than_the_number_of_processes():
    assert N_WINDOWS % 41 == 1


@pytest.mark.parametrize("name", [name for name in (*CASES, *PIXELS) if name != "ridge"])
def test_two_processes_train_what_one_does(lab, pair, name):
    # batch normalisation of few values makes rounding large; by the statistics of each process losses differ by 1e-3
    tolerance = 2e-4 if name == "pixels-batchnorm" else 1e-5
    assert_alike(lab, pair.together / name, pair.alone / name, tolerance)


def test_training_learned_something(lab, pair):
    """Else curves could agree for want of any steps."""
    for name in ("va", "v-naw", "cotex", *PIXELS):
        losses = [row["loss"] for row in lab.metrics(pair.together / name)]
        assert losses[2] < 0.9 * losses[0], name


def test_probe_is_fitted_once(pair):
    """The bytes are equal: nothing about a probe depends on the number of processes."""
    found, wanted = (load_file(place / "ridge" / "best.safetensors") for place in (pair.together, pair.alone))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_run_stopped_by_one_process_is_finished_by_two(lab, pair):
    assert_alike(lab, pair.together / "stopped", pair.alone / "va")


def test_score_is_that_of_the_checkpoint(lab, linear_store, pair):
    """Running statistics of batch normalisation differ between processes: only the first one's are kept."""
    rows = lab.metrics(pair.together / "normalised")
    found = pipeline.evaluate(
        TrainedRun.open(open_run(pair.together / "normalised"), "cpu"), linear_store, "val"
    ).official.score
    assert found == pytest.approx(max(row["score"] for row in rows), abs=1e-5)


# what is written and said


def test_one_process_writes_and_speaks(pair):
    assert pair.first.returncode == 0, pair.first.stderr
    folder = pair.together / "va"
    assert len(pair.first.stdout.splitlines()) == 1
    assert f"{folder}: best va score" in pair.first.stdout
    assert pair.first.stderr.count("epoch 3/3: loss ") == 1
    assert "Traceback" not in pair.first.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in (pair.alone / "va").iterdir())
    assert len(list((folder / "tensorboard").iterdir())) == 2, "one of each time that it was trained or resumed"


def test_every_run_has_one_folder(pair):
    names = ["cotex", "many-seed0", "many-seed1", "normalised", "ridge", "stopped", "v-naw", "va", "wrong"]
    assert sorted(path.name for path in pair.together.iterdir()) == sorted([*names, *PIXELS])


def test_processes_agree_on_scores_and_errors(pair):
    """Errors of the first process alone, too: a run's folder is there already."""
    first, second = pair.said
    assert first == second
    assert first["va"] == f"Run {pair.together}/va already exists. Continue it with --resume, or choose another --run."
    assert first["wrong"].startswith("The loss is not finite at step 2 of epoch 1, with windows of v")
    assert all(isinstance(found, list) for name, found in first.items() if name not in ("va", "wrong"))
    assert "Traceback" not in pair.errors
    assert pair.printed == ""


def test_resuming_a_finished_run_adds_nothing(lab, pair):
    rows = lab.metrics(pair.together / "va")
    assert len(rows) == 3
    assert pair.said[0]["resumed va"] == [max(row["score"] for row in rows)]


# without torchrun


def test_one_process_joins_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with multi_process.processes(torch.device("cpu")):
        assert (multi_process.n_ranks(), multi_process.rank()) == (1, 0)
        assert multi_process.from_first(lambda: "mine") == "mine"


@pytest.mark.skipif(torch.cuda.device_count() > 63, reason="as many GPUs as the test asks for in vain")
def test_more_processes_than_gpus_are_refused(monkeypatch):
    for name, value in (("WORLD_SIZE", "64"), ("LOCAL_WORLD_SIZE", "64"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(UsageError, match=r"64 processes need a GPU each, found \d+\. Use --nproc-per-node"),
        multi_process.processes(torch.device("cuda")),
    ):
        pass
