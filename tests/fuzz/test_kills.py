"""Commands that are killed at a change of the file system continue, and leave what an undisturbed run leaves.

`python -m fuzz.kills` tries all changes of all commands.
"""

import json
import signal
import sys
from pathlib import Path

import pytest

from abaw.fuzz.changes import Fault
from abaw.fuzz.command_table import COMMANDS, SLOW
from abaw.fuzz.errors import ErrorMatrix, run_errors
from abaw.fuzz.kills import KillMatrix, differences, read_tree, run_kills
from abaw.fuzz.trials import ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server waits for processes by pidfd")

N_TRIES, N_KILLS, N_ERRORS = 76, 200, 40
N_FURTHER = 3  # kills of a command as it continues: each costs less than another try
QUICK = ("export-h5", "export-npy", "import", "repair", "synth-pt", "train-ridge", "tune", "submit")


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
