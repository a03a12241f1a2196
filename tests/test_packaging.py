"""What a wheel holds, and that building one leaves the checkout alone."""

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from abaw.studies.house import modules_of
from abaw.tests.support.paths import CHECKOUT

NOT_PACKAGED = (
    "tests",
    "docs",
    "studies",
    "benchmarks",
    "fuzz",
    "examples",
    ".git*",
    ".venv",
    ".*_cache",
    "__pycache__",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of this checkout in which a module that is long gone was built before."""
    folder = tmp_path_factory.mktemp("checkout") / "abaw"
    shutil.copytree(CHECKOUT, folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_PACKAGED, "build"))
    (folder / "build/lib/abaw").mkdir(parents=True)
    (folder / "build/lib/abaw/stale.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    code = f"import build_backend as b; b.get_requires_for_build_wheel(); b.build_wheel({str(out)!r})"
    environment = {**os.environ, "PYTHONPATH": ".dev"}
    subprocess.run([sys.executable, "-c", code], cwd=checkout, env=environment, check=True, capture_output=True)
    (file,) = out.iterdir()
    with zipfile.ZipFile(file) as archive:
        yield archive


def test_a_wheel_holds_every_module_and_no_other(wheel):
    names = {name for name in wheel.namelist() if name.endswith(".py")}
    assert names == {f"abaw/{path.relative_to(CHECKOUT)}" for path in modules_of(CHECKOUT).values()}


def test_a_wheel_holds_the_data_of_its_packages(wheel):
    names = set(wheel.namelist())
    data = [path for path in CHECKOUT.rglob("*") if path.suffix in (".toml", ".safetensors", ".css", ".html", ".js")]
    folders = {path.parent for path in modules_of(CHECKOUT).values()} | {CHECKOUT / "recipes", CHECKOUT / "tasks"}
    wanted = {f"abaw/{path.relative_to(CHECKOUT)}" for path in data if path.parent in folders - {CHECKOUT}}
    assert wanted and wanted - names == set()


def test_building_writes_nothing_into_the_checkout(wheel, checkout):
    assert [path.name for path in (checkout / "build/lib/abaw").iterdir()] == ["stale.py"]
    assert not list(checkout.glob("*.egg-info"))


def test_metadata(wheel):
    (file,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    metadata = message_from_bytes(wheel.read(file))
    assert metadata["License-Expression"] == "MIT" and metadata["Author"] and metadata["Project-URL"]
    assert metadata["License-File"] == "LICENSE" and Path(CHECKOUT / "LICENSE").exists()
