"""How a command says that a change of the file system failed; the tries themselves are in `test_matrices`."""

import errno

import pytest

from abaw.fuzz.changes import Fault
from abaw.fuzz.errors import judge_words
from abaw.fuzz.trials import Outcome


@pytest.mark.parametrize(
    ("exit_code", "errors", "words"),
    [
        (0, "", ""),
        (1, "Error: new/a.h5 cannot be written (Permission denied). Choose another place.", ""),
        (1, "Traceback (most recent call last): new/a.h5 (Permission denied). Choose another place.", "a traceback"),
        (-11, "new/a.h5 (Permission denied). Choose another place.", "exit code -11"),
        (1, "Error: a.h5 cannot be written. Choose another place.", "without the cause"),
        (1, "Error: it cannot be written (Permission denied). Choose another place.", "without the file"),
        (1, "Error: a.h5 cannot be written (Permission denied).", "without a remedy"),
    ],
)
def test_sentences_are_judged(exit_code, errors, words):
    outcome = Outcome(exit_code, "", errors, ["1 open 'new/.a.h5.claim'"], False, 0.1, 0.1)
    found = judge_words(outcome, Fault(1, "error", errno.EACCES))
    assert found == [] if not words else found[0].startswith(words)
