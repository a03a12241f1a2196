"""Why a run ended early: code decides by the reason, people read the sentence."""

import errno
import os

import pytest

from abaw.core.progress import Stop, Summary


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_errors_of_a_disk_stop_a_run(number):
    stop = Stop.of_disk(OSError(number, os.strerror(number)), "a into store.zarr")
    assert stop and stop.reason == "disk"
    assert "a into store.zarr" in stop.sentence and os.strerror(number) in stop.sentence


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EIO])
def test_errors_of_one_file_do_not(number):
    assert Stop.of_disk(OSError(number, os.strerror(number)), "a into store.zarr") is None


def test_the_first_reason_counts():
    summary = Summary()
    assert summary.ok and not summary.device_failed
    summary.add(Summary(stopped=Stop.interrupted()))
    summary.add(Summary(stopped=Stop.of_device(RuntimeError("no such kernel\nin line 3"))))
    assert summary.stopped == Stop.interrupted() and not (summary.ok or summary.device_failed)


def test_a_device_that_failed():
    summary = Summary()
    summary.add(Summary(stopped=Stop.of_device(RuntimeError("no such kernel\nin line 3"))))
    assert summary.device_failed and not summary.ok
    assert summary.stopped and "(no such kernel)" in summary.stopped.sentence
