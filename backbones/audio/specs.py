"""What the catalogs of audio backbones share: the spec of one, and the packages of the extra; loads no torch."""

from dataclasses import replace

from abaw.backbones.spec import BackboneSpec
from abaw.core.errors import UsageError


def audio_spec(
    name: str, family: str, output: str, shape: tuple[int, ...], architecture: str, **more: object
) -> BackboneSpec:
    """The spec of an audio backbone, one without weights unless `more` says otherwise."""
    base = BackboneSpec(name, family, output, "audio", shape, architecture, weights="none")
    return replace(base, **more)  # type: ignore[arg-type]


def has_package(package: str) -> bool:
    """Whether a package is installed; it is not loaded."""
    from importlib.util import find_spec

    return find_spec(package) is not None


def need_package(package: str, name: str) -> None:
    """Stop where a backbone's package is not installed.

    Raises:
        UsageError: it is not.
    """
    if not has_package(package):
        raise UsageError(
            f"Backbone {name} needs the package {package}. Install it with: pip install '.[audio]' in abaw's folder."
        )
