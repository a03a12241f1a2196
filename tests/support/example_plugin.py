"""The package of examples/plugin as pip would leave it in a folder of `sys.path`, without pip."""

import tomllib
from pathlib import Path

from abaw.tests.support.paths import CHECKOUT
from abaw.tests.support.plugins import write_distribution

EXAMPLE = CHECKOUT / "examples" / "plugin"


def install_example(folder: Path) -> str:
    """Write its metadata into a folder; what PYTHONPATH needs to find both."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    write_distribution(folder, project["name"], project["version"], project["entry-points"], {})
    return f"{folder}:{EXAMPLE}"
