"""Two commands at once on one target: a sample of what `python -m fuzz.pairs` tries, and whether it would notice."""

import sys
from dataclasses import replace

import pytest

from abaw.fuzz import pairs
from abaw.fuzz.pairs import Pair, PairTrials, all_pairs, draw_pairs, run_pairs
from abaw.fuzz.trials import ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server waits for processes by pidfd")

N_PAIRS = 25
NAMES = [
    *[("prepare", "prepare"), ("prepare", "prepare-one-face"), ("import", "repair-store"), ("import", "import")],
    *[("repair", "repair"), ("train-ridge", "train-ridge"), ("export-npy", "export-npy"), ("synth-pt", "synth-pt")],
]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory, server: ForkServer) -> PairTrials:
    """The inputs of all commands."""
    return PairTrials(tmp_path_factory.mktemp("pairs"), server)


def test_a_sample_of_pairs(trials: PairTrials) -> None:
    assert set(NAMES) < set(all_pairs())
    tally = run_pairs(trials, draw_pairs(NAMES, N_PAIRS, seed=4))
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
