"""Measures of the house: rooms, floors, arrows, circles, sizes, function lengths, and what each command loads.

    python -m studies.house [--commands] [FOLDER]

prints a table for a checkout (this one if no folder is given). A room is a folder at the root, or a module there. An arrow
is an import from one room into another, wherever in a module it stands; those under TYPE_CHECKING do not count. The floor
of a room is the longest way down from it; rooms that import each other share a floor and are a circle.
"""

import argparse
import ast
import os
import statistics
import subprocess
import sys
from pathlib import Path

OUTSIDE = {"tests", "benchmarks", "docs", "examples", "build", "dist", "recipes", "studies", "fuzz"}
COMMANDS = {
    "abaw --help": ["--help"],
    "abaw doctor, folder missing": ["doctor", "--data", "missing"],
    "abaw eval, run missing": ["eval", "missing"],
    "abaw train, store missing": ["train", "--task", "va", "--feature", "missing"],
    "abaw compare, runs missing": ["compare", "missing", "missing-too"],
    "abaw list backbones": ["list", "backbones"],
}
LOADED = (
    "import atexit, sys\n"
    "atexit.register(lambda: print('MODULES', len(sys.modules), file=sys.stderr))\n"
    "sys.argv[0] = 'abaw'\n"
    "from abaw.cli import main\n"
    "main()\n"
)


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in OUTSIDE or any(part.startswith(".") for part in parts):
            continue
        found[".".join(("abaw", *parts)).removesuffix(".__init__")] = path
    return found


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of the package that a module imports, function-level imports included."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in modules}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "abaw":
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else str(node.module) for name in full}
    # Python runs the packages around a module first
    return found | {".".join(name.split(".")[:n]) for name in found for n in range(2, name.count(".") + 1)}


def room_of(module: str) -> str:
    """The room of a module: its first folder, or itself at the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components of a graph, those without a way down first (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = set()
            while node not in part:
                part.add(stack.pop())
            result.append(part)

    sys.setrecursionlimit(10_000)
    for node in sorted(graph):
        if node not in index:
            visit(node)
    return result


def floors_of(graph: dict[str, set[str]]) -> dict[str, int]:
    """Floor of each room, the ground being 1."""
    floor: dict[str, int] = {}
    for part in components(graph):
        below = [floor[other] for node in part for other in graph[node] if other not in part]
        for node in part:
            floor[node] = 1 + max(below, default=0)
    return floor


def lines_in(folder: Path) -> int:
    """Lines of all Python files below a folder."""
    files = [path for path in folder.rglob("*.py") if not any(part.startswith(".") for part in path.parts[1:])]
    return sum(len(path.read_text().splitlines()) for path in files)


def measure(root: Path) -> dict[str, str]:
    """The measures of a checkout, by name."""
    modules = modules_of(root)
    edges = {
        name: {other for other in imports_of(path, modules) if not f"{name}.".startswith(f"{other}.")}
        for name, path in modules.items()
    }
    rooms: dict[str, set[str]] = {room_of(name): set() for name in modules}
    for name, imported in edges.items():
        rooms[room_of(name)] |= {room_of(other) for other in imported} - {room_of(name)}
    lengths = sorted(
        int(node.end_lineno or 0) - node.lineno + 1
        for path in modules.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    source = sum(len(path.read_text().splitlines()) for path in modules.values())
    return {
        "rooms": str(len(rooms)),
        "floors": str(max(floors_of(rooms).values())),
        "arrows between rooms": str(sum(map(len, rooms.values()))),
        "circles of rooms": str(sum(len(part) > 1 for part in components(rooms))),
        "circles of modules": str(sum(len(part) > 1 for part in components(edges))),
        "modules": str(len(modules)),
        "modules at the root": str(sum(name.count(".") < 2 and path.parent == root for name, path in modules.items())),
        "lines of source": f"{source:,}",
        "lines of tests": f"{lines_in(root / 'tests'):,}",
        "lines of benchmarks": f"{lines_in(root / 'benchmarks'):,}",
        "lines of studies and fuzz": f"{lines_in(root / 'studies') + lines_in(root / 'fuzz'):,}",
        "length of functions, median and 90 %": f"{statistics.median(lengths):.0f}, {lengths[len(lengths) * 9 // 10]}",
    }


def modules_loaded(root: Path, arguments: list[str]) -> str:
    """How many modules a command has loaded at its end, in a folder without data."""
    environment = {**os.environ, "PYTHONPATH": str(root / ".dev")}
    run = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return next((line.split()[1] for line in run.stderr.splitlines() if line.startswith("MODULES")), "failed")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measures of the house.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--commands", action="store_true", help="Also run commands and count the modules they load.")
    arguments = parser.parse_args()
    rows = measure(arguments.folder.resolve())
    if arguments.commands:
        rows |= {f"modules loaded by `{name}`": modules_loaded(arguments.folder, a) for name, a in COMMANDS.items()}
    for name, value in rows.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
