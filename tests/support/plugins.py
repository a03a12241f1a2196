"""Small distributions of plug-ins, as pip would leave them in a folder of `sys.path`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from abaw.tests.support.processes import Ended, run_code

COMMANDS = """
import json, sys
from abaw.cli import main
if __name__ == "__main__":  # workers of a cluster import it
    for words in json.loads(sys.argv[1]):
        try:
            main(words, standalone_mode=False)
        except SystemExit as end:
            if end.code:
                raise
"""


def write_distribution(
    folder: Path, name: str, version: str, entries: Mapping[str, Mapping[str, str]], modules: Mapping[str, str]
) -> None:
    """Write modules and the metadata that lists them.

    Args:
        folder: to be put on `sys.path` or PYTHONPATH.
        name, version: of the distribution.
        entries: group -> name -> `module:object`.
        modules: name -> source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    groups = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in entries.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")


def run_commands(commands: Iterable[Sequence[object]], environment: Mapping[str, str], folder: Path) -> Ended:
    """Run commands of abaw one after another, in one process that finds the distributions of its PYTHONPATH.

    Args:
        commands: the words of each.
        folder: in which they are called.
    """
    words = json.dumps([[*map(str, command)] for command in commands])
    return run_code(COMMANDS, words, environment=environment, folder=folder)
