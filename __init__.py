"""Affect in video: face crops and sound become per-frame features, and features become predictions and scores.

A store connects the two halves: `abaw extract` writes features into it, and `abaw train` and `abaw eval` read nothing
else. `abaw.pipeline` has the same stages as Python functions. Importing this module loads nothing heavy.
"""

import os
import time
from pathlib import Path

SAMPLES, SAMPLE_S = 3, 0.003


def others_need_cores(load: Path = Path("/proc/loadavg")) -> bool:
    """Whether processes of others take cores that torch's threads would use, all the time of a few samples.

    Args:
        load: with the number of processes that run, this one included, as Linux gives it. Without it: False.
    """
    free = (os.cpu_count() or 1) - len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    for sample in range(SAMPLES):
        if sample:
            time.sleep(SAMPLE_S)
        try:
            n_running = int(load.read_text().split()[3].split("/")[0])
        except (OSError, ValueError, IndexError):
            return False
        if n_running - 1 <= free:
            return False
    return True


# By default, torch's threads on a CPU wait for each other in a busy loop, which takes most of the time from all other
# work on these cores, and from their own. Where others are at work they sleep at once; else after about a tenth
# of a millisecond, which bridges the gaps between operations, where waking up would take longer. Torch reads this when it is
# loaded; the user's own setting stays.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    # rounds of the loop, in GNU's OpenMP, which PyPI's torch has
    os.environ["GOMP_SPINCOUNT"] = "0" if others_need_cores() else "4000"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # others sleep at once; GNU's prefers the former

# Numpy asks for huge pages for large arrays. Where memory is in use, the kernel moves other pages to make them: filling
# the table of a training took twice the time. The user's own setting stays.
os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")

__version__ = "0.1.0"
