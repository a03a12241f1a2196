"""Devices: names that are checked before torch is loaded, and why torch does not use the GPU of a machine."""

import re
import subprocess
import sys

import pytest
import torch

from abaw.core.devices import check_device, describe_device
from abaw.core.errors import UsageError
from abaw.core.nvidia import driver_version, has_nvidia_device, why_no_gpu
from abaw.tests.support.paths import CHECKOUT

OLD = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc 11\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n"
ANCIENT = OLD.replace("535.104.05", "470.57.02")


@pytest.fixture
def machine(tmp_path):
    """A root folder with a driver and devices."""

    def make(driver=OPEN, devices=1):
        for folder in ("dev", "proc/driver/nvidia"):
            (tmp_path / folder).mkdir(parents=True)
        if driver:
            (tmp_path / "proc/driver/nvidia/version").write_text(driver)
        for number in range(devices):
            (tmp_path / f"dev/nvidia{number}").touch()
        (tmp_path / "dev/nvidia-uvm").touch()
        return tmp_path

    return make


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:1"])
def test_names_of_devices(machine, name):
    check_device(name, machine(devices=2))


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "CPU", "cuda:-1", "cpu\n"])
def test_unknown_names(machine, name):
    with pytest.raises(UsageError, match=r"cannot be used: it is unknown. Choose cpu, cuda, cuda:N or mps\."):
        check_device(name, machine())


def test_gpus_of_apple_are_on_its_machines(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(
        UsageError, match=r"'mps' cannot be used: it is the GPU of Apple's machines\. Choose cpu, or cuda"
    ):
        check_device("mps", tmp_path)
    monkeypatch.setattr("sys.platform", "darwin")
    check_device("mps", tmp_path)
    with pytest.raises(UsageError, match=r"'mps' cannot be used: torch has no GPU of Apple here\. Choose cpu\."):
        describe_device("mps")


def test_numbers_that_are_too_high(machine):
    with pytest.raises(UsageError, match=r"'cuda:2' cannot be used: the GPUs are cuda:0 to cuda:1 here"):
        check_device("cuda:2", machine(devices=2))


def test_cuda_without_any_gpu(tmp_path):
    with pytest.raises(UsageError, match=r"'cuda' cannot be used: this machine has no GPU. Choose cpu\."):
        check_device("cuda", tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kfd").touch()  # AMD: torch knows
    check_device("cuda:3", tmp_path)


@pytest.mark.parametrize(("text", "version"), [(OLD, (535, 104, 5)), (OPEN, (580, 65, 6)), ("rubbish", ()), (None, ())])
def test_versions_of_drivers(machine, text, version):
    assert driver_version(machine(text)) == version


@pytest.mark.parametrize(
    ("driver", "devices", "cuda", "environ", "said", "expected"),
    [
        (OLD, 1, "12.8", {}, "", r"^See whether `nvidia-smi` works\.$"),
        (OLD, 1, "12.8", {}, "CUDA unknown error.", r"^torch says: CUDA unknown error\. See"),
        (OLD, 1, "13.2", {}, "", r"driver 535\.104\.05 is too old for CUDA 13\.2.* update .* 580\.65\.06 .*/whl/cu126$"),
        (ANCIENT, 1, "13.2", {}, "", r"driver 470\.57\.02 is too old .* update the driver to 580\.65\.06 or later\.$"),
        (OPEN, 1, "13.2", {}, "", r"^See whether"),
        (OPEN, 1, None, {}, "", r"torch has no CUDA: pip install --force-reinstall 'torch>=2\.8' torchvision$"),
        (OLD, 1, None, {}, "", r"torch has no CUDA: pip install .* torchvision --index-url .*/cu126$"),
        (OPEN, 1, "13.0", {"CUDA_VISIBLE_DEVICES": ""}, "", r"CUDA_VISIBLE_DEVICES='' hides it: unset"),
        (OPEN, 1, "13.0", {"CUDA_VISIBLE_DEVICES": "-1"}, "", r"CUDA_VISIBLE_DEVICES='-1' hides it"),
        (OPEN, 1, "13.0", {"CUDA_VISIBLE_DEVICES": "0"}, "", r"^See whether"),
        (OPEN, 0, "13.0", {}, "", r"^This container or job has none of /dev/nvidia0.*--gpus all.*--nv"),
        (None, 1, "13.0", {}, "", r"^See whether"),
        (None, 0, None, {}, "", r"^$"),
    ],
)  # fmt: skip
def test_why_torch_uses_no_gpu(machine, driver, devices, cuda, environ, said, expected):
    root = machine(driver, devices)
    assert has_nvidia_device(root) == (expected != "^$")
    assert re.search(expected, why_no_gpu(cuda, said, root, environ))


def test_the_first_line_of_commands():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    n = torch.get_num_threads()
    assert describe_device("cpu", "fp32")[0] == f"Device: cpu ({n} thread{'s' if n > 1 else ''}), fp32"


def test_names_are_checked_before_torch_is_loaded():
    code = (
        "import sys\nfrom abaw.cli import main\n"
        "try: main(['eval', '--device', 'gpu'])\nexcept SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(CHECKOUT / ".dev")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "2 False\n" and "Device 'gpu' cannot be used" in run.stderr
