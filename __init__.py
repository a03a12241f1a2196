"""Affect in video: face crops and sound become per-frame features, and features become predictions and scores.

A store connects the two halves: `abaw extract` writes features into it, and `abaw train` and `abaw eval` read nothing
else. `abaw.pipeline` has the same stages as Python functions. Importing this module loads nothing heavy.
"""

import os

# By default, torch's threads on a CPU wait for each other in a busy loop, which takes most of the time from all other
# work on these cores. Here they sleep after about a tenth of a millisecond: that bridges the gaps between operations,
# where waking up would take longer. Torch reads this when it is loaded; the user's own setting stays.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ["GOMP_SPINCOUNT"] = "4000"  # rounds of the loop, in GNU's OpenMP, which PyPI's torch has
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # others sleep at once; GNU's prefers the former

__version__ = "0.1.0"
