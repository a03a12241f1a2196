"""A sample of what `python -m fuzz.kills`, `fuzz.errors` and `fuzz.pairs` try, and whether they would notice a fault.

Commands that are killed at a change of the file system continue, and leave what an undisturbed run leaves. All are in
one file, since the process that forks for them takes seconds to start.
"""

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from abaw.fuzz import pairs
from abaw.fuzz.changes import Fault
from abaw.fuzz.command_table import COMMANDS, SLOW
from abaw.fuzz.errors import ErrorMatrix, run_errors
from abaw.fuzz.kills import KillMatrix, differences, read_tree, run_kills
from abaw.fuzz.pairs import Pair, PairTrials, all_pairs, draw_pairs, run_pairs
from abaw.fuzz.trials import ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server waits for processes by pidfd")

N_TRIES, N_KILLS, N_ERRORS, N_PAIRS = 52, 200, 25, 15
N_FURTHER = 8  # kills of a command as it continues: each costs less than another try
QUICK = ("export-h5", "export-npy", "import", "repair", "synth-pt", "train-ridge", "tune", "submit")
PAIRED = [
    *[("prepare", "prepare"), ("prepare", "prepare-one-face"), ("import", "repair-store"), ("import", "import")],
    *[("repair", "repair"), ("train-ridge", "train-ridge"), ("export-npy", "export-npy"), ("synth-pt", "synth-pt")],
]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory, server: ForkServer) -> ErrorMatrix:
    """The inputs of all commands."""
    return ErrorMatrix(tmp_path_factory.mktemp("kills"), server)


def test_killed_commands_continue(matrix: KillMatrix) -> None:
    names = [name for name in COMMANDS if name not in SLOW]
    tallies = run_kills(matrix, names, N_TRIES, n_further=N_FURTHER)
    assert [sentence for tally in tallies.values() for sentence in (*tally.lost, *tally.wrong)] == []
    assert sum(tally.n_kills for tally in tallies.values()) >= N_KILLS
    assert min(tally.n_tried for name, tally in tallies.items() if tally.n_changes) > 0


def test_commands_survive_errors_of_the_system(matrix: ErrorMatrix) -> None:
    """They say so in a sentence, and go well afterwards. `python -m fuzz.errors` tries all changes of all commands."""
    judgements = run_errors(matrix, QUICK, N_ERRORS)
    assert [sentence for judgement in judgements.values() for sentence in judgement.wrong] == []
    assert sum(judgement.n_tried for judgement in judgements.values()) == N_ERRORS
    assert min(judgement.n_tried - judgement.n_passed for judgement in judgements.values()) > 0, "each fails sometimes"


def test_a_torn_file_has_half_of_what_was_written(matrix: KillMatrix, server: ForkServer, tmp_path: Path) -> None:
    """The text of the label file is known: the first line, and a line for the clip."""
    (tmp_path / "cutouts").symlink_to(matrix.inputs / "cutouts")
    words = COMMANDS["synth-pt"].words
    whole = server.run(words, tmp_path)
    (number,) = [n for n, change in enumerate(whole.changes, 1) if "open" in change and "Positive_labels" in change]
    text = (tmp_path / "clips" / "Positive_labels.txt").read_text()
    assert text.splitlines()[0] == "Vid_name Label"
    (tmp_path / "clips").rename(tmp_path / "whole")
    torn = server.run(words, tmp_path, Fault(number, "torn"))
    assert torn.exit_code == -signal.SIGKILL and len(torn.changes) == number
    (left,) = (tmp_path / "clips").rglob("*Positive_labels*")
    assert left.read_text() == text[: len(text) // 2]


def test_differences_of_trees_leave_out_times_alone(tmp_path: Path) -> None:
    for name, created, task in (("a", "1", "va"), ("b", "2", "va"), ("c", "1", "au")):
        (tmp_path / name / "tensorboard").mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(json.dumps({"created": created, "config": {"task": task}}))
        (tmp_path / name / "tensorboard" / f"events.{name}").write_text(name)
    one, other, third = (read_tree(tmp_path / name) for name in "abc")
    assert differences(one, other) == []
    assert differences(one, third) == ["changed config.json"]
    (tmp_path / "b" / "x.partial").touch()
    assert differences(read_tree(tmp_path / "b"), one) == ["stray x.partial"]
    assert differences(one, read_tree(tmp_path / "b")) == ["missing x.partial"]
    for root, name in ((root, name) for root in "de" for name in ("demo", "new.zarr")):
        (tmp_path / root / name).mkdir(parents=True)
        attributes = {"fps": 5, "content": f"time of {root}", "checksum": root}
        (tmp_path / root / name / "zarr.json").write_text(json.dumps({"attributes": attributes}))
    # a demo makes the images whose times its store has
    assert differences(read_tree(tmp_path / "d"), read_tree(tmp_path / "e")) == ["changed new.zarr/zarr.json"]
    (tmp_path / "e" / "demo" / "zarr.json").write_text(json.dumps({"attributes": {"fps": 6}}))
    assert "changed demo/zarr.json" in differences(read_tree(tmp_path / "d"), read_tree(tmp_path / "e"))


# two commands at once


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory, server: ForkServer, matrix: KillMatrix) -> PairTrials:
    """Pairs on the same inputs."""
    return PairTrials(tmp_path_factory.mktemp("pairs"), server, matrix.inputs)


def test_a_sample_of_pairs(trials: PairTrials) -> None:
    assert set(PAIRED) < set(all_pairs())
    tally = run_pairs(trials, draw_pairs(PAIRED, N_PAIRS, seed=4))
    assert (tally.lost, tally.wrong) == ([], [])
    assert tally.n_tried == N_PAIRS and tally.n_refused > 4


def test_every_command_that_writes_is_in_a_pair_with_itself() -> None:
    """Those left out are variants of others."""
    assert {name for name, other in all_pairs() if name == other} >= pairs.TABLE.keys() - {
        "train-logistic",
        "resume-from",
    }


def test_what_is_left_by_no_order_of_the_two_is_noticed(trials: PairTrials) -> None:
    pair = Pair("export-npy", "submit-videos", 0.5, True)
    assert trials.try_pair(pair) == (False, "", "")
    alone = trials.alone(pair, pair.first, pair.second)
    changed = replace(alone, tree={**alone.tree, "f/a.npy": "other"})
    for order in (1, -1):
        trials._alone[(pair.first, pair.second, "|", *(pair.first, pair.second)[::order])] = changed
    _, lost, wrong = trials.try_pair(pair)
    assert not lost and "changed f/a.npy" in wrong
