"""The command line: help, messages and exit codes, lists, store commands; nothing heavy is loaded for help."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import click
import pytest
from rich.console import Console

import abaw
from abaw.cli import main
from abaw.commands import console, interruption, shared_options
from abaw.core.errors import UsageError
from abaw.extract import extraction
from abaw.store import FeatureStore


def all_commands(command: click.Command = main, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command of the tree as words, groups included."""
    found = [path]
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            found += all_commands(child, (*path, name))
    return found


COMMANDS = all_commands()


def test_the_commands_of_the_first_stages_are_there():
    expected = {"demo", "list", "doctor", "extract", "train", "eval", "store", "store info", "store verify"}
    assert expected <= {" ".join(words) for words in COMMANDS}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_every_command(run_cli, words, flag):
    result = run_cli(*words, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert command.help and command.help.split("\n")[0][:40] in result.stdout


HELP_OF_ALL = """
import sys
from abaw.commands import console, interruption, shared_options
from abaw import pipeline
from abaw.cli import main
for words in {commands}:
    try:
        main([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0
heavy = {{"torch", "numpy", "zarr", "timm", "av", "sklearn"}} & set(sys.modules)
sys.exit(f"help imports {{heavy}}" if heavy else 0)
"""


def test_help_of_all_commands_imports_nothing_heavy(process_env):
    code = HELP_OF_ALL.format(commands=[list(words) for words in COMMANDS])
    result = subprocess.run([sys.executable, "-c", code], env=process_env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


ANSWER = """
import sys
from abaw import pipeline
from abaw.cli import main
try:
    main({words})
except SystemExit as end:
    print(end.code, *sorted({heavy} & set(sys.modules)))
"""
HEAVY = {"torch", "zarr", "matplotlib", "sklearn", "scipy.signal", "distributed", "dask", "tensorboard"}


MISTYPED: list[tuple[tuple[str, ...], int, str]] = [
    (("doctor", "--data", "nope"), 1, "No data folder nope."),
    (("eval", "nope", "--runs", "{runs}", "--store", "{store}"), 2, "No run 'nope' in {runs}; available: r1."),
    (("tune", "nope", "--runs", "{runs}", "--store", "{store}"), 2, "No run 'nope' in {runs}; available: r1."),
    (("predict", "nope", "video.mp4", "--runs", "{runs}"), 2, "No run 'nope' in {runs}; available: r1."),
    (("train", "--task", "nope", "--store", "{store}"), 2, "Unknown task 'nope'. Choose one of: va, "),
    (
        ("train", "--task", "va", "--feature", "nope", "--store", "{store}"),
        2,
        "No feature 'nope' in {store}; it has: hog.",
    ),
    (("compare", "r1", "r11", "--runs", "{runs}"), 2, "No run 'r11' in {runs}. Did you mean r1? `abaw list runs"),
    (("train", "--task", "va", "--head", "tnc", "--store", "{store}"), 2, "Unknown head 'tnc'. Did you mean tcn?"),
    (("train", "--task", "va", "--store", "nope"), 1, "No feature store at nope."),
    (("submit", "--sample", "nope", "--runs", "{runs}", "--store", "{store}"), 1, "nope cannot be read"),
    (("check-submission", "file", "--sample", "nope"), 1, "nope cannot be read"),
    (("prepare", "nope.mp4"), 2, "No video nope.mp4. Give video files"),
    (("train", "--task", "va", "--store", "{store}", "--device", "cuda:x"), 2, "Device 'cuda:x' cannot be used"),
]
# each in a fork of one process that has loaded what any command needs
MISTYPED_ANSWERS = """
import json, os, sys
from abaw import pipeline
from abaw.cli import main
for number, words in enumerate(json.loads(sys.argv[1])):
    if os.fork():
        os.wait()
        continue
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{{number}}.{{name}}", os.O_WRONLY | os.O_CREAT), stream)
    try:
        main(words)
    except SystemExit as end:
        print(end.code, *sorted({heavy} & set(sys.modules)), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def mistyped(process_env, tiny_store, tmp_path_factory):
    """The folder with what each of the commands printed, and the places in their words."""
    folder = tmp_path_factory.mktemp("mistyped")
    (folder / "runs" / "r1").mkdir(parents=True)
    (folder / "runs" / "r1" / "config.json").write_text("{}")
    places = {"runs": folder / "runs", "store": tiny_store}
    words = json.dumps([[word.format(**places) for word in words] for words, _, _ in MISTYPED])
    command = [sys.executable, "-c", MISTYPED_ANSWERS.format(heavy=HEAVY), words]
    subprocess.run(command, env=process_env, cwd=folder, timeout=120, check=True)
    return folder, places


@pytest.mark.parametrize("number", range(len(MISTYPED)), ids=[" ".join(words[:3]) for words, _, _ in MISTYPED])
def test_mistyped_names_are_answered_before_anything_heavy_is_loaded(mistyped, number):
    (folder, places), (_, exit_code, said) = mistyped, MISTYPED[number]
    assert (folder / f"{number}.out").read_text().split() == [str(exit_code)]
    assert (folder / f"{number}.err").read_text().splitlines()[-1].startswith(f"Error: {said.format(**places)}")


def test_mistyped_feature_reads_the_same_with_the_store_open(run_cli, tiny_store):
    """The check before zarr is loaded, and the store itself, say the same."""
    with pytest.raises(UsageError) as error:
        FeatureStore.open(tiny_store).feature_attrs("nope")
    result = run_cli("train", "--task", "va", "--feature", "nope", "--store", tiny_store)
    assert result.stderr == f"Error: {error.value}\n"


def test_scores_of_a_run_load_only_what_they_need(run_cli, process_env, tiny_store, tmp_path):
    """Each of these takes a second or so of start-up, and none of them does anything for scores."""
    places = ("--store", str(tiny_store), "--runs", str(tmp_path / "runs"), "--device", "cpu")
    settings = ("head.dim=8", "head.layers=1", "head.heads=2", "head.feedforward=8", "window=20", "epochs=1")
    options = [option for setting in settings for option in ("--set", setting)]
    assert run_cli("train", "--task", "va", "--run", "r1", *options, *places).exit_code == 0
    heavy = {"torch._dynamo", "sympy", "sklearn", "pandas", "scipy.signal", "scipy.stats", "tensorboard", "distributed"}
    code = ANSWER.format(words=["eval", "r1", *places], heavy=heavy | {"dask"})
    result = subprocess.run(
        [sys.executable, "-c", code], env=process_env, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert "r1 on val" in result.stdout and result.stdout.splitlines()[-1] == "0", result.stdout[-200:] + result.stderr


def test_python_m_abaw_is_the_command(run_process):
    result = run_process("--version")
    assert result.returncode == 0
    assert abaw.__version__ in result.stdout


# wrong use and missing input


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["extract"], "Missing option '--backbone'"),
        (["extract", "--backbone", "hog", "--precision", "fp8"], "'fp8' is not one of 'auto', 'fp32', 'bf16'"),
        (["extract", "--backbone", "hog", "--batch-size", "0"], "0 is not in the range"),
        (["extract", "--backbone", "hog", "--fps", "0"], "0"),
        (["doctor", "--fps", "-3"], "-3"),
        (["list", "colours"], "No such command 'colours'"),
        (["list", "backbonse"], "No such command 'backbonse'. Did you mean backbones?"),
        (["nonsense"], "No such command 'nonsense'"),
        (["trian"], "No such command 'trian'. Did you mean train?"),
        (["store", "nonsense"], "No such command 'nonsense'"),
        (["doctor", "--nonsense"], "No such option"),
    ],
)
def test_wrong_use_exits_with_2(run_cli, words, said):
    result = run_cli(*words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_wrong_values_of_our_own_exit_with_2(run_cli, make_data):
    data = make_data({"a": 1})
    for words, said in (
        (["--backbone", "hgo"], "Did you mean hog"),
        (["--backbone", "hog", "--view", "upside-down"], "upside-down"),
    ):
        result = run_cli("extract", "--data", data, *words)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: ") and said in result.stderr


@pytest.mark.parametrize("words", [["doctor"], ["extract", "--backbone", "hog"]], ids=" ".join)
def test_no_data_an_empty_folder_and_a_foreign_one(run_cli, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    for make, said in (
        (lambda: None, "No data folder data. Choose yours with --data"),
        ((tmp_path / "data").mkdir, "it is empty"),
        ((tmp_path / "data/music").mkdir, "it holds music"),
        ((tmp_path / "data/cropped_aligned").mkdir, "has no video folders"),
    ):
        make()
        result = run_cli(*words)
        assert result.exit_code == 1
        (error,) = [line for line in result.stderr.splitlines() if not line.startswith(("Not read: ", "Device: "))]
        assert error.startswith("Error: ") and said in error
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("words", [["store", "info"], ["store", "verify"], ["train", "--task", "va"]], ids=" ".join)
def test_no_store(run_cli, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    result = run_cli(*words)
    assert result.exit_code == 1
    assert "Error: No feature store at store.zarr. Make one with `abaw extract" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_resume(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_cli("train", "--resume")
    assert result.exit_code == 2 and "Error: No run in runs. Train one with `abaw train`" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_places_come_from_the_environment(run_cli, tiny_store, tiny_demo, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABAW_STORE", str(tiny_store))
    monkeypatch.setenv("ABAW_DATA", str(tiny_demo))
    assert run_cli("store", "verify").exit_code == 0
    assert run_cli("doctor").exit_code == 0
    monkeypatch.setenv("ABAW_STORE", str(tmp_path / "elsewhere.zarr"))
    assert "elsewhere.zarr" in run_cli("store", "info").stderr


# what is shown


def test_store_info_shows_features_and_labels(run_cli, tiny_store):
    result = run_cli("store", "info", tiny_store)
    assert result.exit_code == 0
    (line,) = (line for line in result.stdout.splitlines() if "hog" in line)
    cells = [cell.strip() for cell in line.replace("│", "|").split("|") if cell.strip()]
    assert cells[:4] == ["hog", "none", "1764", "7"]
    lines = [line.replace("│", " ").split() for line in result.stdout.splitlines()]
    for task in ("va", "expr", "au"):
        for split in ("train", "val"):
            rows = [video.rows for video in FeatureStore.open(tiny_store).labels(task, split).values()]
            assert [task, split, str(len(rows)), str(sum(map(len, rows)))] in lines


def test_store_verify_says_that_a_store_is_whole(run_cli, tiny_store):
    result = run_cli("store", "verify", tiny_store)
    assert result.exit_code == 0
    assert f"{tiny_store} is whole." in result.stdout


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("backbones", ["hog", "vit-mean", "vit-tiny-cls", "timm/<model>", "1764"]),
        ("heads", ["transformer", "linear", "gru", "encoder", "cross-attention", "emma", "ridge", "logistic"]),
        ("losses", ["ccc", "ccc-bins", "cross-entropy", "focal", "bce", "v-naw", "cotex", "emma"]),
        ("recipes", ["random-masking-va", "emma", "masked-cotex", "situ-va", "emotiw-fusion", "v-naw"]),
        ("tasks", ["va", "expr", "au", "mtl", "lsd", "vgaf", "valence", "AU26", "macro F1"]),
    ],
)
def test_lists(run_cli, what, words):
    result = run_cli("list", what)
    assert result.exit_code == 0
    for word in words:
        assert word in result.stdout, word


def test_extract_tells_what_it_did(run_cli, make_data, tmp_path):
    options = ("extract", "--backbone", "hog", "--data", make_data({"a": 2, "b": 3}), "--store", tmp_path / "s.zarr")
    first, second = run_cli(*options), run_cli(*options)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "done 2, skipped 0, failed 0 (5 frames into" in first.stdout
    assert "done 0, skipped 2, failed 0 (0 frames into" in second.stdout
    assert "30 fps assumed; set it with --fps" in first.stderr


def test_a_dry_run_shows_what_is_missing_and_writes_nothing(run_cli, tiny_demo, tmp_path):
    """Frames and sizes are counted by hand: crops on disk, 1764 float16 values each for hog and 88 for eGeMAPS."""
    options = (
        "extract",
        "--backbone",
        "hog",
        "--backbone",
        "egemaps",
        "--data",
        tiny_demo,
        "--store",
        tmp_path / "s.zarr",
    )
    crops = {folder.name: len(list(folder.glob("*.jpg"))) for folder in (tiny_demo / "cropped_aligned").iterdir()}
    n_crops = sum(crops.values())

    shown = run_cli(*options, "--view", "hflip", "--dry-run")
    assert (shown.exit_code, list(tmp_path.iterdir())) == (0, [])
    lines = [re.sub("[│┃|]", " ", line).split() for line in shown.stdout.splitlines()]
    hog = ["0", str(len(crops)), f"{n_crops:,}", f"{n_crops * 1764 * 2 / 1e6:.1f}", "MB", "needs", "none"]
    assert ["hog", *hog] in lines and ["hog@hflip", *hog] in lines
    assert f"To extract: {len(crops)} videos, {n_crops:,} frames" in shown.stdout
    typed = shlex.join(map(str, options))
    assert shown.stdout.splitlines()[-1] == f"Next: abaw {typed} --view hflip"

    assert run_cli(*options[:3], *options[5:], "--limit", 2).exit_code == 0
    first = FeatureStore.open(tmp_path / "s.zarr").videos("hog")
    assert len(first) == 2
    n_left = n_crops - sum(crops[video] for video in first)
    shown = run_cli(*options, "--dry-run")
    lines = [re.sub("[│┃|]", " ", line).split() for line in shown.stdout.splitlines()]
    assert ["hog", "2", str(len(crops) - 2), str(n_left)] in [line[:4] for line in lines]
    assert ["egemaps", "0", str(len(crops))] in [line[:3] for line in lines]
    parts = (
        run_cli(*options, "--dry-run", "--part", "1/2").stdout,
        run_cli(*options, "--dry-run", "--part", "2/2").stdout,
    )
    totals = [int(re.search(r"To extract: (\d+) videos", text).group(1)) for text in parts]
    assert sum(totals) == len(crops)

    missing = run_cli("extract", "--backbone", "vit-mean:no.pth", "--backbone", "dan", "--dry-run", *options[5:])
    assert missing.exit_code == 0
    assert "vit-mean needs weights that are not on this machine: no.pth is missing." in missing.stderr
    assert "dan needs weights that are not on this machine: by hand, from DAN's authors" in missing.stderr
    assert missing.stdout.splitlines()[-1].startswith("Next: abaw extract ")  # nothing that could be downloaded
    missing = run_cli("extract", "--backbone", "vit-mean", "--backbone", "hog", "--dry-run", *options[5:])
    assert missing.stdout.splitlines()[-1] == "Next: abaw weights get vit"


def test_a_limit_says_the_rate_and_how_long_the_rest_takes(run_cli, make_data, tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 100))  # each look at the clock is 100 s later
    monkeypatch.setattr(extraction, "monotonic", lambda: next(clock))
    options = (
        "extract",
        "--backbone",
        "hog",
        "--data",
        make_data({"a": 2, "b": 3, "c": 45}),
        "--store",
        tmp_path / "s.zarr",
    )
    first = run_cli(*options, "--limit=2")
    assert first.exit_code == 0 and "done 2, skipped 0" in first.stdout
    assert "0.1 frames/s; 1 videos (45 frames) are left, which takes 15.0 minutes at that rate." in first.stderr
    assert first.stdout.splitlines()[-1] == f"Next: abaw {shlex.join(map(str, options))}"
    again = run_cli(*options, "--limit", 7)
    assert "done 1, skipped 2" in again.stdout and "Nothing is left to extract." in again.stderr


def test_without_a_terminal_waiting_and_rates_are_lines(monkeypatch, capsys):
    monkeypatch.setattr(console, "FIRST_LINE_S", -1.0)  # at once
    monkeypatch.setattr(console, "SHORT_S", 0.0)
    reporter = console.ConsoleReporter()
    reporter.start("extract", 10, "frames")
    reporter.advance(0, "waiting for a worker")
    reporter.advance(4, "2 workers")
    reporter.finish()
    waiting, working, end = capsys.readouterr().err.splitlines()
    assert waiting == "extract: 0/10 frames, waiting for a worker"
    assert re.fullmatch(r"extract: 4/10 frames, [\d.]+ frames/s, 2 workers, \d+ s left", working)
    assert end.startswith("extract: 4 frames in ")


@pytest.mark.parametrize("words", ["--version", "--help", "train --help", "list tasks"])
def test_output_to_a_full_disk_and_to_a_closed_pipe(process_env, words):
    command = [sys.executable, "-m", "abaw", *words.split()]
    environment = {key: value for key, value in process_env.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: No space left to write ") and result.stderr.count("\n") == 1
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


# what comes next, and what an interruption says


@pytest.fixture
def sub_command():
    """Adds a command to the tree for a test, `sub_command(function, *options)`."""
    added = []

    def add(callback, *options):
        command = callback
        for option in reversed(options):
            command = option(command)
        command = click.command("try")(command)
        main.add_command(command)
        added.append(command)

    yield add
    for command in added:
        main.commands.pop(command.name, None)


@pytest.mark.parametrize(
    ("typed", "following", "said"),
    [
        ((), ("train", "--task", "va"), "abaw train --task va"),
        (("--store", "a b.zarr", "--data", "d"), ("train",), "abaw train --store 'a b.zarr'"),
        (("--data", "d", "--runs", "r"), ("eval", "va-1", "--runs", "x"), "abaw eval va-1 --runs x --data d"),
        (("--store", "s", "--data", "d"), ("store", "import", "SOURCE"), "abaw store import SOURCE --data d --store s"),
        (("--device", "cpu", "--store", "s"), ("report",), "abaw report"),
    ],
)
def test_the_next_command_gets_the_folders_that_were_typed(run_cli, sub_command, monkeypatch, typed, following, said):
    monkeypatch.setenv("ABAW_RUNS", "elsewhere")  # the next command reads it, too
    sub_command(
        lambda **values: console.say_next(*following),
        *(shared_options.DATA, shared_options.STORE, shared_options.RUNS, shared_options.DEVICE),
    )
    result = run_cli("try", *typed)
    assert (result.exit_code, result.stdout) == (0, f"Next: {said}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_names_the_one_that_continues(run_cli, sub_command, monkeypatch, number):
    def interrupted(**values):
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setitem(interruption.KEPT, "try", "Half of it is kept.")
    before = {one: signal.signal(one, signal.default_int_handler) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        sub_command(interrupted, shared_options.STORE)
        result = run_cli("try", "--store", "a b.zarr")
        monkeypatch.delitem(interruption.KEPT, "try")
        others = run_cli("try")
        monkeypatch.setitem(interruption.KEPT, "try", "Half of it is kept.")
        sub_command(lambda **values: (interruption.nothing_yet(), interrupted()))
        early = run_cli("try")
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert result.exit_code == others.exit_code == 130
    assert result.stderr == "Interrupted. Half of it is kept. Continue with: abaw try --store 'a b.zarr'\n"
    assert others.stderr == early.stderr == "Interrupted. Nothing was changed. Start again with: abaw try\n"


def test_what_interruptions_keep_is_said_of_commands_that_exist():
    assert {*interruption.KEPT, *interruption.WRITERS} <= {" ".join(words) for words in COMMANDS}


@pytest.mark.parametrize(("term", "width"), [("dumb", 80), ("xterm", 80), ("xterm", 120)])
def test_progress_keeps_words_whole_and_a_terminal_that_cannot_draw_gets_lines_alone(monkeypatch, term, width):
    terminal = io.StringIO()
    environment = {"TERM": term, "COLUMNS": str(width), "LINES": "20"}
    drawn = Console(file=terminal, force_terminal=True, color_system=None, _environ=environment)
    monkeypatch.setattr(console, "err", drawn)
    with console.ConsoleReporter() as reporter:
        reporter.start("train va-hog-transformer-1", 480, "steps")
        reporter.advance(30, "epoch 5/30, best va 0.538, validating 10 %")
        reporter.log("epoch 5/30: done")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    if term == "dumb":
        assert text == "epoch 5/30: done\n"
    else:
        assert "30/480" in text and "best va 0.538" in text and "…" not in text
        assert max(map(len, re.split(r"[\r\n]", text))) <= width


def test_rate_of_a_step_that_continues_counts_its_own_units_only(monkeypatch, capsys):
    """Of 100 frames 90 were done before; 5 more after 10 seconds are half a frame a second, and 10 seconds are left."""
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    reporter = console.ConsoleReporter()
    reporter.start("train", 100, "steps", 90)
    now[0] += 10
    reporter.advance(5)
    reporter.log("epoch 1/2: loss 0.1")
    now[0] += 10
    reporter.finish()
    assert capsys.readouterr().err.splitlines() == [
        "train: 95/100 steps, 0.5 steps/s, 10 s left",
        "epoch 1/2: loss 0.1",
        "train: 5 steps in 20.0 s (0.2 steps/s)",
    ]
