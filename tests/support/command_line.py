"""The command line: errors that it prints, and the environment of its processes."""

import os

from click.testing import Result

from abaw.tests.support.paths import CHECKOUT

VARIABLES = ("ABAW_DATA", "ABAW_STORE", "ABAW_RUNS", "ABAW_WEIGHTS")
# for a process that forks: memory in large pages, of which a copy takes 20 ms, of small ones 45
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONMALLOC": "malloc"}


def process_environment() -> dict[str, str]:
    """The environment of a process that imports this checkout, without the caller's own folders."""
    others = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    return {**others, "PYTHONPATH": str(CHECKOUT / ".dev"), "COLUMNS": "400"}


def assert_refused(result: Result, exit_code: int, *words: str) -> None:
    """The command ended on purpose, with one sentence that has these words."""
    assert result.exit_code == exit_code, result.output
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert [word for word in words if word not in last] == [], last
