"""What tests of faults on clusters share."""

from abaw.tests.support.processes import assert_equal_stores

SETTINGS = ("--backbone", "hog", "--device", "cpu", "--batch-size", "8")
N_VIDEOS = 20


def complete(data, store, wanted, run_cli):
    """Run again in one process: afterwards the store is whole, and equal to that of an undisturbed run."""
    found = run_cli("extract", *SETTINGS, "--data", data, "--store", store)
    assert found.exit_code == 0, found.output
    assert_equal_stores(store, wanted)
    verified = run_cli("store", "verify", store)
    assert verified.exit_code == 0, verified.output
