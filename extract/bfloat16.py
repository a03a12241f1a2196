"""Whether a network is worth computing in bfloat16 on this processor: a short trial against float32."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.extractor import Backbone
from abaw.core.errors import first_line
from abaw.extract.precision import BFLOAT16

if TYPE_CHECKING:
    import torch

FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # of a processor with instructions for bfloat16; the last one is Arm's
# values of oneDNN's variable that leave such instructions out
WITHOUT = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
LEAST_SPEEDUP, LEAST_COSINE = 1.2, 0.999
N_ROUNDS, MOST_IMAGES, PASS_S, TRIAL_S = 3, 8, 0.05, 0.5


@dataclass(frozen=True)
class Trial:
    """A network in bfloat16 against itself in float32.

    Attributes:
        speedup: processor time in float32 by that in bfloat16; other work on the machine changes it little.
        cosine: the lowest of any output and image.
        error: why it cannot be computed in bfloat16; empty if it can.
    """

    speedup: float
    cosine: float
    error: str = ""

    @property
    def is_won(self) -> bool:
        """True if bfloat16 is clearly faster and its features are almost the same."""
        return self.speedup >= LEAST_SPEEDUP and self.cosine >= LEAST_COSINE

    def __str__(self) -> str:
        if self.error:
            return f"not possible, {self.error}"
        return f"{self.speedup:.1f} times as fast as in float32 here, cosine {self.cosine:.4f}"


@cache
def has_bfloat16(root: Path = Path("/"), limit: str | None = None) -> bool:
    """True if the processor has instructions for bfloat16 that PyTorch may use.

    Args:
        root: where `proc` is.
        limit: of the instructions, as in `ONEDNN_MAX_CPU_ISA`; None takes that variable.
    """
    limit = _limit(os.environ) if limit is None else limit
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next(
        (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), []
    )
    return limit.upper() not in WITHOUT and not set(FLAGS).isdisjoint(flags)


def _limit(environ: Mapping[str, str]) -> str:
    return environ.get("ONEDNN_MAX_CPU_ISA", "")


_trials: dict[tuple[object, ...], Trial] = {}


def try_bfloat16(backbone: Backbone) -> Trial:
    """Run a network for images on made images, in float32 and in bfloat16; the first result is kept for the process.

    It takes about half a second, and more for networks that need that long for a few images.

    Args:
        backbone: in float32 on the CPU, not compiled.
    """
    import torch

    spec = backbone.spec
    outputs = tuple(one.output for one in backbone.specs)
    key = (spec.family, spec.options, spec.image, outputs, backbone.weights_sha256, torch.get_num_threads())
    if key not in _trials:
        try:
            _trials[key] = _try(backbone)
        except RuntimeError as error:  # a layer that PyTorch has in float32 alone
            _trials[key] = Trial(0.0, -1.0, first_line(error))
    return _trials[key]


def _try(backbone: Backbone) -> Trial:
    import torch

    networks = (backbone, backbone.in_precision(BFLOAT16))
    for network in networks:
        _timed(network, 1)  # the first pass prepares weights and loads libraries
    pass_s = _timed(backbone, 1)[0]
    n_images, end = max(1, min(MOST_IMAGES, int(PASS_S / pass_s))), time.monotonic() + TRIAL_S
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < N_ROUNDS and not (times[0] and time.monotonic() > end):
        (seconds, exact), (rounded_s, rounded) = (_timed(network, n_images) for network in networks)
        times[0].append(seconds)
        times[1].append(rounded_s)
    cosines = torch.cat([
        torch.nn.functional.cosine_similarity(one.float().flatten(1), other.float().flatten(1))
        for one, other in zip(exact, rounded, strict=True)
    ])  # fmt: skip
    return Trial(min(times[0]) / min(times[1]), cosines.nan_to_num(-1.0).min().item())


def _timed(backbone: Backbone, n_images: int) -> "tuple[float, list[torch.Tensor]]":
    """Processor seconds of a pass, and its outputs."""
    inputs = backbone.preprocess(_draw_images(n_images))
    begin = time.process_time()
    outputs = backbone(inputs)
    seconds = time.process_time() - begin
    return seconds, list(outputs.values()) if isinstance(outputs, dict) else [outputs]


def _draw_images(n_images: int) -> "torch.Tensor":
    """Images of soft patches with some noise, (n, 112, 112, 3) uint8."""
    import torch

    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(n_images, 3, 7, 7, generator=generator)
    soft = torch.nn.functional.interpolate(patches, size=(112, 112), mode="bicubic")
    noisy = soft + 0.03 * torch.randn(soft.shape, generator=generator)
    return (noisy.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).contiguous()
