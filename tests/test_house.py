"""The rules of the house: what is packaged, who may import whom, who prints and exits, how long a file is."""

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

import pytest

import abaw
from abaw.tests.support.paths import CHECKOUT

ROOT = CHECKOUT
OUTSIDE = {"tests", "benchmarks", "docs", "examples", "build", "dist", "recipes"}  # no part of the package
MAX_LINES = 300
COMMANDS = ("cli", "cli_data", "cli_scores", "cli_submit", "cli_video")
JOINING = ("pipeline", "video_pipeline", "video_predictor")  # the only ones that know both stages


def is_outside(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return parts[0] in OUTSIDE or any(part.startswith(".") or part.endswith(".egg-info") for part in parts)


MODULES = sorted(path for path in ROOT.rglob("*.py") if not is_outside(path))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in MODULES}


def imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names of what is imported anywhere in a module, but for what only type checkers read."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_in(*places: str) -> list[str]:
    return [name for name in TREES if any(name == f"{place}.py" or name.startswith(f"{place}/") for place in places)]


def test_packages_in_setup_cfg_are_the_folders():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["packages"].split()
    folders = [path.parent.relative_to(ROOT) for path in MODULES if path.name == "__init__.py"]
    assert sorted(listed) == sorted(".".join(("abaw", *folder.parts)) for folder in folders)
    assert len(set(listed)) == len(listed)


def test_every_folder_with_modules_is_a_package():
    assert [path for path in MODULES if not (path.parent / "__init__.py").exists()] == []


def test_tests_import_this_checkout():
    assert Path(abaw.__file__).resolve() == ROOT / "__init__.py"
    from abaw.datasets import affwild2

    assert Path(affwild2.__file__).resolve() == ROOT / "datasets" / "affwild2.py"


@pytest.mark.parametrize(
    ("places", "forbidden"),
    [
        (("train", "evaluate"), ("extract", *JOINING, *COMMANDS, "console", "tables")),
        (("tasks", "store", "writer", "errors", "reporting"), ("extract", "train", "evaluate", *JOINING, *COMMANDS)),
        (("datasets",), ("extract", "train", "evaluate", *JOINING, *COMMANDS)),
        (("exchange",), ("train", "evaluate", *JOINING, *COMMANDS, "console", "tables")),
        (("extract",), ("train", "evaluate", *JOINING, *COMMANDS, "console", "tables")),
        (JOINING, (*COMMANDS, "console", "tables")),
    ],
    ids=lambda names: "+".join(names),
)
def test_imports_point_one_way(places, forbidden):
    names = modules_in(*places)
    assert names
    wrong = [
        f"{name} imports {imported}"
        for name in names
        for imported in imports(TREES[name])
        if any(imported == f"abaw.{bad}" or imported.startswith(f"abaw.{bad}.") for bad in forbidden)
    ]
    assert wrong == []


def test_modules_are_imported_by_their_full_names():
    own = {path.stem if path.parent == ROOT else path.relative_to(ROOT).parts[0] for path in MODULES} - {"__init__"}
    wrong = [
        f"{name} imports {imported}"
        for name, tree in TREES.items()
        for imported in imports(tree)
        if imported.split(".")[0] in own
    ]
    assert wrong == []


def calls(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize(
    ("called", "allowed"),
    [
        (
            ("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"),
            (*COMMANDS, "console", "tables"),
        ),
        (("sys.exit", "exit", "quit", "os._exit"), COMMANDS),
    ],
    ids=["print", "exit"],
)
def test_only_the_command_line_prints_and_exits(called, allowed):
    wrong = [
        f"{name} calls {call}"
        for name, tree in TREES.items()
        for call in calls(tree)
        if call in called and name not in modules_in(*allowed)
    ]
    assert wrong == []


def test_only_the_command_line_imports_click_and_rich():
    wrong = [
        f"{name} imports {imported}"
        for name, tree in TREES.items()
        for imported in imports(tree)
        if imported.split(".")[0] in ("click", "rich") and name not in modules_in(*COMMANDS, "console", "tables")
    ]
    assert wrong == []


def test_files_are_short():
    long = {file.name: n for file in MODULES if (n := len(file.read_text().splitlines())) > MAX_LINES}
    assert long == {}


def test_every_module_function_and_class_that_is_public_has_a_docstring():
    missing = [name for name, tree in TREES.items() if not ast.get_docstring(tree)]
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                missing += [] if ast.get_docstring(node) else [f"{name}: {node.name}"]
    assert missing == []
