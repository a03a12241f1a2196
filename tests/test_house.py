"""The rules of the house: what is packaged, which room imports which, who prints and exits, how long a function is."""

import ast
import configparser
import importlib
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

import abaw
from abaw.cli import main
from abaw.studies.house import components, imports_of, modules_of, room_of
from abaw.tests.support.paths import CHECKOUT

# from the ground up: a module imports only from its own room and from those before it
ROOMS = [
    *(
        "core",
        "media",
        "store",
        "backbones",
        "datasets",
        "train",
        "evaluate",
        "extract",
        "exchange",
        "predict",
        "workflow",
    ),
    *("pipeline", "commands", "cli", "__main__"),
]
FILES = modules_of(CHECKOUT)
# package -> the modules and rooms that alone may import it
OWNERS = {
    "zarr": ("abaw.store",),
    "distributed": ("abaw.extract.cluster",),
    "dask": ("abaw.extract.cluster", "abaw.store"),
    "click": ("abaw.cli", "abaw.commands"),
    "rich": ("abaw.cli", "abaw.commands"),
    "matplotlib": ("abaw.evaluate.report", "abaw.predict"),
    "timm": ("abaw.backbones",),
    "transformers": ("abaw.backbones",),
    "opensmile": ("abaw.backbones",),
}
# ways to decode a file that others made
DECODERS = ("av.open", "Image.open", "simplejpeg.decode_jpeg", "simplejpeg.decode_jpeg_header")
# room or module -> packages that importing it may not load, directly or through others
NOT_LOADED = {
    "abaw.core": ("torch", "zarr", "av", "h5py"),
    "abaw.store": ("torch", "av"),
    "abaw.datasets": ("torch", "zarr"),
    "abaw.train.config": ("av", "zarr"),
    "abaw.extract.forecast": ("torch", "matplotlib"),
    "abaw.evaluate.scores": ("torch", "av", "matplotlib"),
    "abaw.pipeline": ("torch", "zarr", "av", "h5py", "numpy", "matplotlib", "distributed"),
    "abaw.cli": ("torch", "zarr", "av", "h5py", "numpy", "matplotlib", "distributed", "rich"),
}
MAX_FUNCTION_LINES, MAX_PUBLIC_NAMES = 50, 12


@cache
def trees() -> dict[str, ast.Module]:
    """The code of each module. Read when a test asks for it, since each process of the tests imports this file."""
    return {name: ast.parse(path.read_text()) for name, path in FILES.items()}


@cache
def imports() -> dict[str, set[str]]:
    """The modules that each module imports."""
    return {name: imports_of(path, FILES) for name, path in FILES.items()}


def is_in(name: str, *places: str) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def packages_imported(tree: ast.Module) -> set[str]:
    """Top-level names of what is imported anywhere in a module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found.add((node.module or "").split(".")[0])
    return found


def calls(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def public(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [node for node in nodes if not node.name.startswith("_")]


def test_packages_in_setup_cfg_are_the_folders():
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg")
    listed = config["options"]["packages"].split()
    assert sorted(listed) == sorted(name for name, path in FILES.items() if path.name == "__init__.py")
    assert len(set(listed)) == len(listed)


def test_every_folder_with_modules_is_a_package():
    assert [path for path in FILES.values() if not (path.parent / "__init__.py").exists()] == []


def test_tests_import_this_checkout():
    assert Path(abaw.__file__).resolve() == CHECKOUT / "__init__.py"
    from abaw.datasets import affwild2

    assert Path(affwild2.__file__).resolve() == CHECKOUT / "datasets" / "affwild2.py"


def test_root_has_four_modules():
    assert {path.name for path in CHECKOUT.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py", "pipeline.py"}


def test_rooms_import_only_from_rooms_below():
    assert {room_of(name) for name in FILES} - {"__init__"} == set(ROOMS)
    floor = {room: i for i, room in enumerate(ROOMS)}
    wrong = [
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in others
        if other != "abaw" and floor[room_of(other)] > floor[room_of(name)]
    ]
    assert wrong == []


def test_no_modules_import_each_other():
    graph = {name: {other for other in others if not is_in(name, other)} for name, others in imports().items()}
    assert [sorted(part) for part in components(graph) if len(part) > 1] == []


def test_packages_have_owners():
    wrong = [
        f"{name} imports {package}"
        for name, tree in trees().items()
        for package in packages_imported(tree) & OWNERS.keys()
        if not is_in(name, *OWNERS[package])
    ]
    assert wrong == []


def test_only_media_decodes_files_of_others():
    wrong = [
        f"{name} calls {call}"
        for name, tree in trees().items()
        for call in calls(tree)
        if call in DECODERS and not is_in(name, "abaw.media")
    ]
    # what these write is their own: `av.open` for writing
    assert set(wrong) <= {
        f"{name} calls av.open" for name in ("abaw.datasets.demo.voice", "abaw.datasets.synth.clips_writer")
    }


@pytest.mark.parametrize("place", NOT_LOADED)
def test_importing_a_room_does_not_load(place):
    names = [name for name in FILES if is_in(name, place)]
    code = f"import sys, importlib\nfor name in {names}: importlib.import_module(name)\n"
    code += f"print(*[name for name in {NOT_LOADED[place]} if name in sys.modules])"
    environment = {"PYTHONPATH": str(CHECKOUT / ".dev")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_training_heads_needs_no_libraries_of_pictures():
    """timm and torchvision load torch's compiler: a second of the processor before the first step."""
    seen, waiting = set(), ["abaw.train.train_runs", "abaw.evaluate.inference"]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        at_once = ast.Module([node for node in trees()[name].body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        assert not packages_imported(at_once) & {"timm", "torchvision", "transformers"}, name
        names = {f"{node.module}.{one.name}" for node in at_once.body for one in node.names if hasattr(node, "module")}
        waiting += {one if one in FILES else one.rpartition(".")[0] for one in names} & FILES.keys() - seen
    assert len(seen) > 50, "else this test saw too little"


def test_extraction_loads_no_libraries_that_load_compilers():
    """They are imported by the functions that need them, see `abaw.extract.faces.suppression`."""
    for name in FILES:
        if is_in(name, "extract"):
            at_once = ast.Module(
                [one for one in trees()[name].body if isinstance(one, ast.Import | ast.ImportFrom)], []
            )
            assert not packages_imported(at_once) & {"timm", "torchvision", "transformers"}, name


def runtime_imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports anywhere in a module but under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from runtime_imports(node)


def test_commands_call_stages_through_the_pipeline():
    """Work is done by `abaw.pipeline`, which has the types of options, too; other rooms are there for annotations."""
    wrong = []
    for name, tree in trees().items():
        for node in runtime_imports(tree) if is_in(name, "abaw.commands", "abaw.cli") else ():
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            for module in modules:
                is_below = is_in(module, "abaw") and not is_in(module, "abaw.commands", "abaw.core", "abaw.pipeline")
                if is_below and not (module == "abaw" and node.names[0].name in ("pipeline", "__version__")):
                    wrong.append(f"{name}: {ast.unparse(node)}")
    assert wrong == []


def all_commands(group: click.Group, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


# commands whose stage has another name
STAGE_OF = {
    "run": "run_recipe",
    "eval": "evaluate",
    "ensemble": "create_ensemble",
    "predict": "predict_videos",
    "export": "export_run",
    "store info": "describe_store",
    "store verify": "verify_store",
    "store repair": "repair_store",
    "store pack": "pack_store",
    "store import": "import_features",
    "store export": "export_feature",
    "weights list": "list_weights",
    "weights get": "get_weights",
    "weights check": "check_weights",
    "list runs": "list_runs",
    "list backbones": "list_backbones",
    "list detectors": "list_detectors",
    "list layouts": "list_layouts",
    "list heads": "list_heads",
    "list losses": "list_losses",
    "list tasks": "list_tasks",
    "list recipes": "list_recipes",
    "list published": "list_published",
}


def test_every_command_has_its_stage_in_the_pipeline():
    stages = {node.name: node for node in public(trees()["abaw.pipeline"]) if isinstance(node, ast.FunctionDef)}
    commands = list(all_commands(main))
    assert STAGE_OF.keys() <= set(commands)
    wanted = {STAGE_OF.get(name, name.replace("-", "_")) for name in commands}
    assert wanted - stages.keys() == set()
    # and the commands call them
    called = {
        call.removeprefix("pipeline.") for name, tree in trees().items() if "commands" in name for call in calls(tree)
    }
    assert wanted - called == set()


def test_stages_are_typed_and_work_when_they_are_called():
    for node in public(trees()["abaw.pipeline"]):
        assert isinstance(node, ast.FunctionDef), node.name
        arguments = [*node.args.args, *node.args.kwonlyargs]
        assert all(argument.annotation is not None for argument in arguments) and node.returns is not None, node.name
        assert not any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node)), node.name
        assert "Iterator" not in ast.unparse(node.returns), node.name


def test_types_of_the_pipeline_are_those_that_type_checkers_see():
    (block,) = [node for node in trees()["abaw.pipeline"].body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    modules = {alias.name: node.module for node in imports for alias in node.names}
    pipeline = importlib.import_module("abaw.pipeline")
    assert pipeline.TYPES.items() <= modules.items()
    assert [getattr(pipeline, name).__name__ for name in pipeline.TYPES] == list(pipeline.TYPES)


def test_no_two_modules_share_a_name():
    names = Counter(name.rpartition(".")[2] for name, path in FILES.items() if path.name != "__init__.py")
    assert {name for name, n in names.items() if n > 1} <= {"catalog"}


def test_no_two_public_classes_share_a_name():
    owners = defaultdict(list)
    for name, tree in trees().items():
        for node in public(tree):
            if isinstance(node, ast.ClassDef):
                owners[node.name].append(name)
    assert {name: modules for name, modules in owners.items() if len(modules) > 1} == {}


@pytest.mark.parametrize(
    ("called", "allowed"),
    [
        (("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"), ("abaw.cli", "abaw.commands")),
        (("sys.exit", "exit", "quit", "os._exit"), ("abaw.cli", "abaw.commands")),
    ],
    ids=["print", "exit"],
)
def test_only_the_command_line_prints_and_exits(called, allowed):
    wrong = [
        f"{name} calls {call}"
        for name, tree in trees().items()
        for call in calls(tree)
        if call in called and not is_in(name, *allowed)
    ]
    assert wrong == []


def test_modules_are_imported_by_their_full_names():
    own = {name.split(".")[1] for name in FILES if "." in name}
    wrong = [f"{name} imports {package}" for name, tree in trees().items() for package in packages_imported(tree) & own]
    assert wrong == []


def test_functions_are_short():
    long = {
        f"{name}.{node.name}": n
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (n := int(node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_modules_have_few_public_names():
    counts = {
        name: len(public(tree)) for name, tree in trees().items() if name != "abaw.pipeline"
    }  # it has every stage
    assert {name: n for name, n in counts.items() if n > MAX_PUBLIC_NAMES} == {}


def test_public_functions_are_used_by_more_than_tests():
    sources = [*FILES.values(), *CHECKOUT.glob("benchmarks/*.py"), *CHECKOUT.glob("studies/*.py")]
    texts = Counter()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name):
                texts[node.id] += 1
            elif isinstance(node, ast.Attribute):
                texts[node.attr] += 1
            elif isinstance(node, ast.alias):
                texts[node.name.rpartition(".")[2]] += 1
    unused = [
        f"{name}.{node.name}"
        for name, tree in trees().items()
        if name != "abaw.pipeline"  # for notebooks, too
        for node in public(tree)
        if isinstance(node, ast.FunctionDef) and not node.decorator_list and not texts[node.name]
    ]
    assert unused == []


def test_every_module_function_and_class_that_is_public_has_a_docstring():
    missing = [name for name, tree in trees().items() if not ast.get_docstring(tree)]
    missing += [
        f"{name}: {node.name}" for name, tree in trees().items() for node in public(tree) if not ast.get_docstring(node)
    ]
    assert missing == []
