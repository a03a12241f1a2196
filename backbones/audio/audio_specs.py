"""Shared parts of the catalogs of audio backbones: specs, and the packages of the extra. Loads no torch."""

from dataclasses import replace

from abaw.backbones.spec import BackboneSpec
from abaw.core.errors import UsageError

SECONDS = r"(\d+(?:\.\d+)?)s"  # in names


def audio_spec(
    name: str, family: str, output: str, shape: tuple[int, ...], architecture: str, **more: object
) -> BackboneSpec:
    """The spec of an audio backbone, without weights unless `more` says otherwise."""
    base = BackboneSpec(name, family, output, "audio", shape, architecture, weights="none")
    return replace(base, **more)  # type: ignore[arg-type]


def check_hop(name: str, text: str, default_s: float) -> float:
    """The hop in a name, in seconds.

    Raises:
        UsageError: it is not a multiple of 0.01 s.
    """
    hop_s = float(text)
    if hop_s < 0.01 or abs(hop_s * 100 - round(hop_s * 100)) > 1e-6:
        raise UsageError(f"The hop of {name} is a multiple of 0.01 s, found {text} s. Its default is {default_s:g} s.")
    return hop_s


def has_package(package: str) -> bool:
    """Whether a package is installed; does not load it."""
    from importlib.util import find_spec

    return find_spec(package) is not None


def need_package(package: str, name: str, extra: str = "audio") -> None:
    """Check that a backbone's package is installed.

    Args:
        extra: of abaw, that brings it.

    Raises:
        UsageError: it is not installed.
    """
    if not has_package(package):
        raise UsageError(
            f"Backbone {name} needs the package {package}. Install it with: pip install '.[{extra}]' in abaw's folder."
        )
