"""abaw: affect in video, from face crops and sound to per-frame features, and from those to scores.

Two stages with one store between them: `abaw extract` writes per-frame features of faces and sound into a
Zarr store, `abaw train` and `abaw eval` work from that store alone. `abaw.pipeline` holds the same stages
as Python functions. Importing this module loads nothing heavy.
"""

import os

# Threads of torch that wait for each other on a CPU do so in a loop by default, which costs whatever else is at work there,
# them included, most of its time. Asleep, they wait as well. It is read when torch is loaded; what the user has set stays.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

__version__ = "0.1.0"
