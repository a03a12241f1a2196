"""How torch's threads wait, which `abaw` sets before torch is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import abaw

UNSET = {key: value for key, value in os.environ.items() if key not in {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}}
SHOW = "import os, abaw; print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux")
def test_others_need_cores_if_more_run_than_are_left(tmp_path, monkeypatch):
    load = tmp_path / "loadavg"
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    found = {}
    for running in (1, 3, 4):
        load.write_text(f"0.10 0.20 0.30 {running}/210 4711\n")
        found[running] = abaw.others_need_cores(load)
    assert found == {1: False, 3: False, 4: True}
    load.write_text("of another system\n")
    assert not abaw.others_need_cores(load)
    assert not abaw.others_need_cores(tmp_path / "missing")


@pytest.mark.skipif(not Path("/proc/loadavg").exists(), reason="Linux")
def test_threads_sleep_at_once_beside_others_unless_the_user_has_set_it():
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() + 1)]
    try:
        shown = subprocess.run([sys.executable, "-c", SHOW], env=UNSET, capture_output=True, text=True, check=True)
        asked = {**UNSET, "OMP_WAIT_POLICY": "ACTIVE"}
        kept = subprocess.run([sys.executable, "-c", SHOW], env=asked, capture_output=True, text=True, check=True)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert (shown.stdout.split(), kept.stdout.split()) == (["PASSIVE", "0"], ["ACTIVE", "None"])
