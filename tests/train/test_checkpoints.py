"""Which models of a run are kept: the best of all validations, the best of each part, and those of some epochs."""

import json
import re

import pytest
import torch

from abaw.core.errors import UsageError
from abaw.core.progress import Silent
from abaw.tests.support.trainings import StopAfter
from abaw.train.checkpoint import Progress, load_tensors
from abaw.train.config import make_config
from abaw.train.model import best_model
from abaw.train.run_files import checkpoint_files
from abaw.train.runs import find_run, open_run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_best_of_each_part_by_hand() -> None:
    progress, bests = Progress(), []
    scores = [(0.5, 0.3, 0.2), (0.4, 0.4, 0.2), (0.6, float("nan"), 0.1), (0.6, 0.4, 0.5)]
    for number, (score, va, au) in enumerate(scores, start=1):
        progress = progress.scored(number, score, {"va": va, "au": au}).after(number, score)
        bests.append([epoch for _, epoch in progress.bests().values()])
    assert bests == [[1, 1, 1], [1, 2, 1], [3, 2, 1], [3, 2, 4]]
    assert progress.bests() == {"best": (0.6, 3), "best-va": (0.4, 2), "best-au": (0.5, 4)}
    assert Progress.from_json(progress.as_json()) == progress


@pytest.fixture(scope="module")
def multi_task_run(lab, tmp_path_factory):
    """Six epochs at a rate so high that the parts are best in different ones; every model is kept."""
    folder = tmp_path_factory.mktemp("parts")
    store = lab.make_store(folder / "s.zarr", ())
    rng = torch.Generator().manual_seed(1)
    for i in range(6):
        va = torch.rand(lab.n_frames, 2, generator=rng) * 2 - 1
        expr = torch.randint(8, (lab.n_frames, 1), generator=rng)
        au = torch.randint(2, (lab.n_frames, 12), generator=rng)
        store.write_labels(
            "mtl", f"v{i}", "train" if i < 4 else "val", torch.cat([va, expr, au], dim=1).float().numpy()
        )
    settings = ("lr=0.1", "epochs=6", "eval_every=0.5", "save_every=0.5", "batch_size=4")
    run = lab.start(store, folder / "runs", lab.config("mtl", *settings, head="linear"))
    lab.train(run, store)
    return run, store


def test_each_part_of_a_task_keeps_its_best_model(lab, multi_task_run) -> None:
    """The model of the epoch, or half epoch, whose score of that part is the highest in metrics.jsonl or in its file."""
    run, _ = multi_task_run
    files = checkpoint_files(run.folder)
    assert list(files) == [
        *("best", "best-au", "best-expr", "best-va"),
        *("epoch-0.5", "epoch-1", "epoch-1.5", "epoch-2", "epoch-2.5", "epoch-3"),
        *("epoch-3.5", "epoch-4", "epoch-4.5", "epoch-5", "epoch-5.5", "epoch-6"),
    ]
    rows, epochs = lab.metrics(run.folder), {}
    scores = {"best": [max(row["score"], row["score at 0.5"]) for row in rows]}
    for name in ("best", "best-va", "best-expr", "best-au"):
        tensors, metadata = load_tensors(files[name])
        at = int(metadata["epoch"]) - 1 + float(metadata.get("share", 1))
        epochs[name] = at
        kept, _ = load_tensors(files[f"epoch-{at:g}"])
        state = best_model(find_run(run.folder.parent, f"{run.name}@{name}"), torch.device("cpu")).state_dict()
        assert all(torch.equal(kept[key], value) and torch.equal(state[key], value) for key, value in tensors.items())
        if name == "best":
            assert float(metadata["score"]) == max(scores["best"])
            assert scores["best"].index(max(scores["best"])) == int(metadata["epoch"]) - 1
        else:
            whole = [row[f"score {name.removeprefix('best-')}"] for row in rows]
            assert float(metadata["score"]) >= max(whole)
            assert at % 1 or float(metadata["score"]) == whole[int(at) - 1]
    assert len(set(epochs.values())) > 1, "else this test cannot tell them apart"
    kept = find_run(run.folder.parent, f"{run.name}@epoch-2.5")
    assert kept.checkpoint == run.folder / "checkpoints" / "epoch-2.5" / "weights.safetensors"


def test_a_stop_changes_nothing_where_epochs_are_validated_twice(lab, multi_task_run, tmp_path) -> None:
    whole, store = multi_task_run
    run = lab.start(store, tmp_path, whole.config)
    with pytest.raises(KeyboardInterrupt):
        lab.train(run, store, StopAfter(2))
    lab.train(open_run(run.folder), store)
    lab.assert_same(run.folder, whole.folder)
    for name, path in checkpoint_files(whole.folder).items():
        assert path.read_bytes() == checkpoint_files(run.folder)[name].read_bytes(), name


def test_line_of_an_epoch_counts_the_validation_within_it(lab, multi_task_run, tmp_path) -> None:
    class Lines(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def log(self, line: str) -> None:
            self.lines.append(line)

    whole, store = multi_task_run
    kept = Lines()
    lab.train(lab.start(store, tmp_path, whole.config), store, kept)
    best, kinds = (float("-inf"), 0), set()
    for line, row in zip(kept.lines, lab.metrics(whole.folder), strict=True):
        within = row["score at 0.5"] > best[0]
        best = max(best, (row["score at 0.5"], row["epoch"]), key=lambda one: one[0])
        is_best = row["score"] > best[0]
        kinds.add((within, is_best))
        assert ("(the best so far)" if is_best else f"(best {best[0]:.3f} at {best[1]:g})") in line
        best = max(best, (row["score"], row["epoch"]), key=lambda one: one[0])
    assert (True, False) in kinds, "else this test cannot tell them apart"


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([(0.1, 0.2), (0.9, 0.3), (0.1, 0.4)], False),
        ([(0.1, 0.2), (0.9, 0.3), (0.1, 0.4), (0.1, 0.5)], True),
        ([(0.1, 0.2), (0.2, 0.3), (0.3, 0.3)], False),
        ([(0.1, 0.4), (0.2, 0.4), (0.3, 0.4)], True),
        ([(0.0, number / 10) for number in range(6)], True),
        ([], False),
    ],
)
def test_run_is_trained_once_patience_has_ended_after_the_best_of_all_validations(
    lab, linear_store, tmp_path, rows, wanted
) -> None:
    run = lab.start(linear_store, tmp_path, lab.config("va", "epochs=6", "patience=2", "eval_every=0.5"))
    lines = [json.dumps({"score": score, "score at 0.5": within}) for within, score in rows]
    (run.folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert run.is_trained == wanted


def test_checkpoints_are_kept_every_so_many_epochs(lab, linear_store, tmp_path) -> None:
    run = lab.start(linear_store, tmp_path, lab.config("va", "epochs=5", "save_every=2", head="linear"))
    lab.train(run, linear_store)
    assert list(checkpoint_files(run.folder)) == [
        *("best", "best-arousal", "best-valence"),
        *("epoch-2", "epoch-4"),
    ]
    kept = run.folder / "checkpoints" / "epoch-2"
    assert sorted(path.name for path in kept.iterdir()) == [
        *("best-arousal.safetensors", "best-valence.safetensors", "best.safetensors"),
        *("last.safetensors", "weights.safetensors"),
    ]
    assert load_tensors(kept / "best.safetensors")[1]["epoch"] in ("1", "2")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (("eval_every=0.3",), "eval_every must be 1, 1/2, 1/3, 1/4 and so on of an epoch, found 0.3"),
        (("save_every=0.5",), "save_every must be a whole number of epochs, or eval_every (1), found 0.5"),
        (("save_every=1.5", "eval_every=0.5"), "save_every must be a whole number of epochs, or eval_every (0.5)"),
    ],
)
def test_irregular_intervals_are_refused(settings, wanted) -> None:
    with pytest.raises(UsageError, match=re.escape(wanted)):
        make_config({"task": "va", "features": ("f",)}, settings)
