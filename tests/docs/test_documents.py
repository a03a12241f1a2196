"""README and docs/: every command is run here or marked with what it needs, and no option, name or link is misspelled."""

import ast
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from abaw.cli import main
from abaw.core.task_files import read_task_file
from abaw.core.tasks import TASKS
from abaw.extract.cluster.cluster import read_cluster_file
from abaw.extract.request import Request
from abaw.studies import settings
from abaw.tests.support.documents import FENCE, PAGES, Block, blocks, inline_commands
from abaw.tests.support.paths import CHECKOUT
from abaw.train.config import make_config
from abaw.train.head_options import HEADS
from abaw.train.loss_options import LOSSES
from abaw.train.recipes import load_recipe

BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.language == "sh"]
LINES = [(block, words) for block in SHELL for words in block.commands()]
RUN = {"day", "day with hog", "demo", "formats", "python"}  # by a test of this folder
NEEDS = {
    "archive",
    "clips",
    "cluster",
    "data",
    "features",
    "gpu",
    "icechunk",
    "images",
    "network",
    "runs",
    "shell",
    "tensors",
    "videos",
    "weights",
    "xarray",
}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
NAME = re.compile(r'"([A-Z][A-Z0-9_]{3,})"')
CONSTANT = re.compile(r'^([A-Z]+) = "([A-Z][A-Z0-9_]{3,})"', re.MULTILINE)


def find_command(words: list[str]) -> tuple[click.Context, list[str]]:
    """The context of the command that words name, and the words after it."""
    context = click.Context(main, info_name="abaw", **main.context_settings)
    while isinstance(context.command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in context.command.commands, f"no command {' '.join(words)!r}"
        context = click.Context(context.command.commands[words[0]], parent=context, info_name=words[0])
        words = words[1:]
    return context, words


def all_commands(group: click.Group = main, above: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        yield " ".join((*above, name))
        if isinstance(command, click.Group):
            yield from all_commands(command, (*above, name))


def test_every_command_block_is_run_or_says_what_it_needs():
    known = {"test command"} | {f"run: {name}" for name in RUN}

    def fits(mark: str) -> bool:
        return mark in known or (mark.startswith("needs: ") and set(mark[7:].split(", ")) <= NEEDS)

    code = [block for block in BLOCKS if block.language in ("sh", "python")]
    assert len(code) > 40
    assert [f"{block}: {block.mark!r}" for block in code if not fits(block.mark)] == []
    # commands in other blocks, or indented as markdown's older form of code, would escape the tests
    hidden = re.compile(r"^ *(\$ )?(abaw|pip|python|torchrun|sbatch) ", re.MULTILINE)
    assert [str(block) for block in BLOCKS if block.language in ("", "text") and hidden.search(block.text)] == []
    indented = re.compile(r"^    +(abaw|pip|python|torchrun|sbatch) ", re.MULTILINE)
    assert [page.name for page in PAGES if indented.search(FENCE.sub("", page.read_text()))] == []


@pytest.mark.parametrize("block", [block for block in SHELL if block.commands()], ids=str)
def test_options_of_every_command_are_accepted(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (text,) = [one.text for one in BLOCKS if one.language == "toml" and "kind" in tomllib.loads(one.text)]
    Path("mine.toml").write_text(text)  # the task file of the page
    monkeypatch.setattr(TASKS, "_added", {})
    for words in block.commands():
        context, rest = find_command(words)
        command = context.command
        if isinstance(command, click.Group) and not command.invoke_without_command:
            assert set(rest) <= {"--help", "-h", "--version"}, words
            continue
        try:
            context = command.make_context(command.name, list(rest), context.parent)
        except click.exceptions.Exit:  # of --help
            continue
        except click.ClickException as error:
            raise AssertionError(f"{block}: abaw {' '.join(words)}: {error.format_message()}") from None
        check_names(context)


def check_names(context: click.Context) -> None:
    """Backbones, recipes and options of training are known."""
    given = context.params
    if context.command.name == "extract":
        for text in given["backbones"]:
            if "timm/" not in text:  # asking timm takes seconds
                Request.parse(text)
    if context.command.name == "train" and not given["resume"]:
        recipe = given["recipe"]
        values = load_recipe(recipe).values if recipe and not recipe.endswith(".toml") else {"features": ("any",)}
        values |= {key: given[key] for key in ("task", "fold") if given[key]}
        values |= {key: {"name": given[key]} for key in ("head", "loss") if given[key]}
        make_config({"task": "va", **values}, given["settings"])


def test_commands_within_sentences_exist_with_their_options():
    for page in PAGES:
        for words in inline_commands(page):
            if words[0].isupper():
                continue
            context, rest = find_command(words)
            options = {
                option
                for parameter in context.command.params
                for option in (*parameter.opts, *parameter.secondary_opts)
            }
            named = {word.partition("=")[0].rstrip(",.;") for word in rest if word.startswith("--") and word != "--"}
            assert named <= options | {"--help"}, f"{page.name}: abaw {' '.join(words)}"


def test_every_command_is_documented():
    text = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in all_commands() if f"abaw {name}" not in text] == []


def test_recipes_and_cluster_files_in_the_pages_can_be_read(tmp_path: Path):
    files = [block for block in BLOCKS if block.language == "toml"]
    for block in files:
        file = tmp_path / "block.toml"
        file.write_text(block.text)
        if "cluster" in tomllib.loads(block.text):
            read_cluster_file(file)
        elif "kind" in tomllib.loads(block.text):
            read_task_file(file)
        else:
            load_recipe(str(file))
    assert len(files) >= 2


def test_what_python_examples_import_exists():
    for block in BLOCKS:
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text, str(block))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("abaw"):
                    for name in node.names:
                        assert pkgutil.resolve_name(f"{node.module}:{name.name}"), f"{block}: {name.name}"


def test_links_lead_to_files():
    for page in PAGES:
        targets = [target for target in LINK.findall(FENCE.sub("", page.read_text())) if "://" not in target]
        assert [target for target in targets if not (page.parent / target).exists()] == [], page.name
        if page.parent.name == "docs":  # the site has nothing else
            assert [target for target in targets if target.startswith("..")] == [], page.name


def test_every_page_is_in_the_menu_of_the_site():
    menu = (CHECKOUT / "mkdocs.yml").read_text()
    pages = {path.name for path in (CHECKOUT / "docs").iterdir() if path.suffix in (".md", ".ipynb")}
    assert set(re.findall(r": ([\w-]+\.(?:md|ipynb))$", menu, re.MULTILINE)) == pages


def test_every_environment_variable_is_in_the_table():
    rooms = {module.name for module in pkgutil.iter_modules([str(CHECKOUT)])}
    skipped = {"tests", "benchmarks", "studies", "fuzz"}
    sources = [path for room in rooms - skipped for path in (CHECKOUT / room).rglob("*.py")]
    sources += CHECKOUT.glob("*.py")
    texts = [path.read_text() for path in sources]
    constants = {name: value for text in texts for name, value in CONSTANT.findall(text)}
    lines = [line for text in texts for line in text.splitlines() if "environ" in line or "envvar=" in line]
    used = {name for line in lines for name in NAME.findall(line)}
    used |= {constants[word] for line in lines for word in re.findall(r"[A-Z]{3,}", line) if word in constants}
    table = (CHECKOUT / "docs" / "environment.md").read_text()
    assert used > {"ABAW_DATA", "ABAW_CACHE", "ABAW_WEIGHTS", "CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "XDG_CACHE_HOME"}
    assert sorted(name for name in used if f"`{name}`" not in table) == []
    ours = set(re.findall(r"^\| `(ABAW_\w+)`", table, re.MULTILINE))
    assert ours == {name for name in used if name.startswith("ABAW_")}


def test_the_page_of_settings_is_current():
    page = (CHECKOUT / "docs" / "settings.md").read_text()
    assert page == settings.as_markdown(), "run `python -m studies.settings`"
    assert "| `lr` | `0.001` | > 0 | learning rate after the warm-up. |" in page  # written by hand here
    options = {f"{prefix}{name}" for prefix, known in (("head.", HEADS), ("loss.", LOSSES)) for one in known.values()
               for name in one.model_fields if name != "name"}  # fmt: skip
    assert {option for option in options if f"| `{option}` |" not in page} == set()
    assert not re.search(r"\| *\|$", page, re.MULTILINE), "an option has no meaning in its docstring"


def test_the_api_page_names_what_exists():
    names = re.findall(r"^::: (\S+)$", (CHECKOUT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert "abaw.pipeline" in names
    for name in names:
        assert pkgutil.resolve_name(name).__doc__
