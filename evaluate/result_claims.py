"""Claims on the results in the folder of a run or ensemble: scores and predictions of a split, and post-processing."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from abaw.core.claim_files import claimed
from abaw.train.run_files import predictions_file, scores_file


@contextmanager
def claimed_in(folder: Path, target: Path, also: Iterable[Path] = ()) -> Iterator[None]:
    """Claim a file in a folder, which is made if it is missing, and deleted if it is empty at the end.

    The folder of a run's further checkpoint, such as `mtl-1@best-va`, is missing at first.

    Args:
        also: further files that are only written under this claim.

    Raises:
        BusyError: another process is writing the file.
    """
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        with claimed(target, also=also):
            yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty, or another process is at work in it
                folder.rmdir()


@contextmanager
def claimed_results(folder: Path, split: str) -> Iterator[None]:
    """Claim what an evaluation writes for a split."""
    also = [predictions_file(folder, split), folder / f"traces-{split}.png"]
    with claimed_in(folder, scores_file(folder, split), also):
        yield
