"""All ideas, and the processes that measure them. Not in `__main__`, which new processes cannot import."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.measure import say
from studies import (
    anchor,
    balance,
    bins,
    clips,
    colour_casts,
    conflict,
    copies,
    cotraining,
    frozen,
    fusion,
    gating,
    hidden_patches,
    instances,
    layer_decay,
    lora,
    masking,
    memory,
    missing,
    noise,
    positions,
    rates,
    selection,
    smoothing,
    speed,
    standardising,
)
from studies.study import Scores

MODULES = (
    masking,
    noise,
    cotraining,
    fusion,
    smoothing,
    speed,
    balance,
    bins,
    positions,
    standardising,
    rates,
    selection,
    frozen,
    layer_decay,
    hidden_patches,
    copies,
    clips,
    colour_casts,
    lora,
    gating,
    missing,
    anchor,
    conflict,
    instances,
    memory,
)
IDEAS = {module.IDEA.name: module.IDEA for module in MODULES}
N_PROCESSES = 2


def measure(name: str, seed: int) -> Scores:
    """One idea on one seed, with one thread."""
    import torch

    torch.set_num_threads(1)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        scores = IDEAS[name].measure(seed, Path(folder))
    say(f"{name}, seed {seed}: {time.perf_counter() - begin:.0f} s")
    return scores


def measure_all(names: Sequence[str], n_seeds: int) -> dict[str, list[Scores]]:
    """Scores of the named ideas, seed by seed, from two processes."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for the new processes, before they load numpy
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(N_PROCESSES, mp_context=fresh) as pool:
        waiting = {name: [pool.submit(measure, name, seed) for seed in range(n_seeds)] for name in names}
        return {name: [future.result() for future in futures] for name, futures in waiting.items()}
