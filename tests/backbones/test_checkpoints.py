"""Where in a checkpoint the weights are found, what is opened beside them, and what is said of files that are none."""

import argparse
import collections
import datetime
import decimal
import io
import json
import pickle
import shlex
import tarfile
import types
import uuid
import zipfile
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from abaw.backbones.averaged_weights import averaging
from abaw.backbones.backbone import create_backbone
from abaw.backbones.checkpoints import Checkpoint, read_checkpoint
from abaw.backbones.registry import Built
from abaw.backbones.spec import BackboneSpec
from abaw.backbones.weights import file_sha256, identify, load_network, read_tensors
from abaw.core.errors import CheckpointError
from abaw.store import FeatureStore
from abaw.tests.support.paths import DATA

SPEC = BackboneSpec("small", "small", "out", "vision", (5,), "a small network", weights="file")


class Small(nn.Module):
    """A network with what matters to a checkpoint: layers in layers, equal shapes, batch norms, and a head."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3), "bn": nn.BatchNorm2d(4)}) for _ in range(3)]
        self.stem, self.blocks, self.norm = nn.Conv2d(3, 4, 3), nn.ModuleList(blocks), nn.LayerNorm(4)


def build(specs, file):
    return Small()


def load(file: Path | str) -> Built:
    return load_network(build, [SPEC], Path(file))


def values(seed: int) -> dict[str, Tensor]:
    """A state dict of `Small` with values of its own."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in Small().state_dict().items()
    }


STATE, OTHER = values(1), values(2)


def under(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def save(content: object, file: Path, **options: object) -> Path:
    torch.save(content, file, **options)
    return file


def assert_loaded(built: Built, wanted: dict[str, Tensor] = STATE) -> None:
    found = built.network.state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


# places


PREFIXES = (
    *("_orig_mod.", "model.", "net.", "student.", "module.", "backbone.", "model.visual.", "anything.at_all."),
    *("_orig_mod.module.", "module._orig_mod.", "model.module._orig_mod.backbone.", "a.0.b.1."),
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("container", ["", "state_dict"])
def test_any_prefix(prefix, container, tmp_path):
    state = under(prefix)
    built = load(save({container: state} if container else state, tmp_path / "w.pth"))
    assert_loaded(built)
    assert built.notes == () and built.weights_sha256 == file_sha256(tmp_path / "w.pth")


def test_prefix_that_only_the_wanted_keys_have(tmp_path):
    others = {"head.weight": torch.zeros(2, 4), "temporal.stem.weight": torch.zeros(9), "loss.center": torch.zeros(3)}
    file = save({"state_dict": {**under("model.net."), **others}}, tmp_path / "w.pth")
    built = load(file)
    assert_loaded(built)
    assert built.notes == (f"Dropped head.weight, temporal.stem.weight, loss.center of {file}.",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("blocks.", "blocks._orig_mod."),
        ("blocks.", "blocks.module."),
        ("blocks.1.", "blocks.1._orig_mod."),
        ("conv.", "conv.wrapped."),
        ("blocks.0.", "blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module."),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model._orig_mod."])
def test_words_in_the_middle(old, new, prefix, tmp_path):
    state = {prefix + key.replace(old, new): value for key, value in STATE.items()}
    assert_loaded(load(save(state, tmp_path / "w.pth")))


def test_a_word_is_left_where_keys_are_there_with_it_and_without(tmp_path):
    state = {**STATE, **{key.replace("blocks.", "blocks.adapter."): value for key, value in OTHER.items()}}
    del state["blocks.2.conv.weight"]  # what another module has of that name is not it
    with pytest.raises(
        CheckpointError, match=r"1 missing \(blocks\.2\.conv\.weight\); 21 unexpected \(blocks\.adapter"
    ):
        load(save(state, tmp_path / "w.pth"))


CONTAINERS = ("teacher", "state_dict_ema", "ema", "module", "weights", "model_state", "network", "params", "whatever")


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_by_what_is_in_them(container, tmp_path):
    optimizer = {"state": {0: {"exp_avg": torch.zeros(4), "step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}
    content = {"epoch": torch.tensor(3), container: under("module."), "optimizer": optimizer, "other": {"a": 1}}
    assert_loaded(load(save(content, tmp_path / "w.pth")))
    assert read_tensors(tmp_path / "w.pth").keys() == under("module.").keys()


@pytest.mark.parametrize("content", [{"a": {"b": {"c": STATE}}}, {"a": [{"b": STATE}]}, [STATE], (1, {"x": STATE})])
def test_containers_in_containers(content, tmp_path):
    built = load(save(content, tmp_path / "w.pth"))
    assert_loaded(built)
    assert built.notes == ()


def test_what_an_optimizer_keeps_of_each_weight_is_no_copy(tmp_path):
    content = {"optimizer": {"exp_avg": OTHER}, "model": STATE, "exp_avg_sq": OTHER}
    built = load(save(content, tmp_path / "w.pth"))
    assert_loaded(built)
    assert built.notes == ()


@pytest.mark.parametrize(
    ("content", "taken", "other"),
    [
        ({"model": STATE, "ema": OTHER}, "ema", "model"),
        ({"state_dict": STATE, "state_dict_ema": OTHER}, "state_dict_ema", "state_dict"),
        ({"teacher": under("module.", OTHER), "student": under("module.")}, "teacher.module", "student"),
        ({**under("student."), **under("teacher.", OTHER)}, "teacher", "student"),
        ({"teacher": STATE, "modelEMA": OTHER}, "modelEMA", "teacher"),
        ({"teacher": {**under("net."), **under("net_ema.", OTHER)}}, "teacher.net_ema", "net"),
        ({"swa_model": OTHER, "net": STATE}, "swa_model", "net"),
    ],
)
def test_averages_go_first_and_others_can_be_chosen(content, taken, other, tmp_path):
    file = save(content, tmp_path / "w.pth")
    built = load(file)
    assert_loaded(built, OTHER)
    note = built.notes[0]
    assert note.startswith(f"Took {taken} of {file}, where 2 copies fit: averages (EMA, SWA, then a teacher) go first")
    assert note.endswith(f"; {file}#{other} takes {other}.")

    chosen = load(f"{file}#{other}")
    assert_loaded(chosen)
    assert not any(note.startswith("Took") for note in chosen.notes)
    assert built.weights_sha256 == f"{file_sha256(file)}#{taken}" != chosen.weights_sha256
    assert load(f"{file}#{taken}").weights_sha256 == built.weights_sha256


def test_an_average_alone_is_said(tmp_path):
    file = save({"state_dict_ema": STATE}, tmp_path / "w.pth")
    assert load(file).notes == (f"Took state_dict_ema of {file}.",)


@pytest.mark.parametrize(("words", "rank"), [("schema", 0), ("ModelEMA", 3), ("ema_2", 3), ("optimized_net", 0)])
def test_words_that_tell_averages(words, rank):
    assert averaging([words]) == rank


def test_lists_with_an_index(tmp_path):
    file = save({"state_dicts": [STATE, OTHER, STATE], "epoch": 3}, tmp_path / "w.pth")
    first = load(file)
    assert_loaded(first)
    assert first.notes[0].startswith(f"Took state_dicts.0 of {file}, where 3 copies fit")
    assert first.weights_sha256 == load(f"{file}#0").weights_sha256
    second = load(f"{file}#1")
    assert_loaded(second, OTHER)
    assert second.weights_sha256 != first.weights_sha256
    for choice in ("3", "nothing"):
        with pytest.raises(CheckpointError, match=rf"nothing called {choice}.*state_dicts\.0, state_dicts\.1"):
            load(f"{file}#{choice}")
    with pytest.raises(CheckpointError, match="does not fit small: 22 missing"):
        load(f"{file}#blocks")


def test_an_index_goes_with_a_backbone_and_its_fingerprint(tmp_path):
    states = [create_backbone("vit-tiny-cls", untrained=True)._network.model.state_dict() for _ in range(2)]
    states[1] = {key: value + 1 for key, value in states[1].items()}
    file = save(states, tmp_path / "w.pth")
    one, two = (create_backbone("vit-tiny-cls", f"{file}#{index}") for index in (0, 1))
    assert torch.equal(one._network.model.norm.weight + 1, two._network.model.norm.weight)
    assert one.fingerprint(one.spec) != two.fingerprint(two.spec)


def test_a_file_whose_name_has_a_hash(tmp_path):
    assert_loaded(load(save(STATE, tmp_path / "run#1")))


def test_a_copy_within_the_network_is_dropped(tmp_path):
    file = save({**STATE, **under("momentum_encoder.", OTHER)}, tmp_path / "w.pth")
    built = load(file)
    assert_loaded(built)
    assert "Dropped momentum_encoder.stem.weight" in built.notes[1]


def test_shapes_tell_copies_apart(tmp_path):
    larger = {key: torch.zeros(2, *value.shape) for key, value in STATE.items()}
    assert_loaded(load(save({"ema": larger, "model": STATE}, tmp_path / "w.pth")))


# what is no weights


def test_buffers_that_are_no_weights_are_dropped_with_a_note(tmp_path):
    extra = {
        "total_ops": torch.zeros(1, dtype=torch.float64),
        "blocks.0.total_params": torch.zeros(1, dtype=torch.float64),
        "norm.num_batches_tracked": torch.tensor(3),
        "n_averaged": torch.tensor(7),
        "decay": torch.tensor(0.999),
        "embeddings.position_ids": torch.arange(5)[None],
        "blocks.1.relative_position_index": torch.zeros(4, 4, dtype=torch.int64),
        "blocks.1.attn_mask": torch.zeros(4, 4),
        "optimizer.exp_avg": torch.zeros(3),
    }
    file = save({**STATE, **extra}, tmp_path / "w.pth")
    built = load(file)
    assert_loaded(built)
    assert built.notes == (f"Dropped total_ops, blocks.0.total_params, norm.num_batches_tracked and 6 more of {file}.",)


@pytest.mark.parametrize("extra", ["norm_pre.weight", "blocks.3.conv.weight", "blocks.0.gamma"])
def test_weights_that_the_network_does_not_have_are_an_error(extra, tmp_path):
    with pytest.raises(CheckpointError, match=rf"1 unexpected \({extra}\)"):
        load(save({**STATE, extra: torch.zeros(4)}, tmp_path / "w.pth"))


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_no_numbers_are_refused_by_name(wrong, dtype, tmp_path):
    state = {key: value.clone().to(dtype) if value.is_floating_point() else value for key, value in STATE.items()}
    state["norm.weight"][2] = state["blocks.1.bn.running_var"][0] = wrong
    file = save(under("module.", state), tmp_path / "w.pth")
    words = r"not finite \(NaN or infinite\): blocks\.1\.bn\.running_var, norm\.weight\. .*an earlier checkpoint"
    with pytest.raises(CheckpointError, match=words):
        load(file)


def test_numbers_elsewhere_in_the_file_do_not_matter(tmp_path):
    diverged = {key: value * torch.nan for key, value in STATE.items()}
    assert_loaded(load(save({"model": diverged, "ema": STATE}, tmp_path / "w.pth")))


def test_parts_are_not_told_apart_from_the_whole(tmp_path):
    """The DAN in an EMMA can be taken out, but the file is an EMMA's."""
    layout = json.loads((DATA / "reference" / "emma.json").read_text())["layout"]
    state = {key: torch.zeros(1).expand(shape) if shape else torch.tensor(0) for key, shape in layout.items()}
    file = save(state, tmp_path / "w.pth")
    assert identify(file)[0] == "emma" and "dan" not in identify(file)
    assert "Dropped vit." in create_backbone("dan", file).notes[0]


# what is saved beside weights


class CfgNode(dict):
    """As training code defines its own; it is not there where weights are opened."""


class Unknown:
    """As well."""


def beside() -> dict[str, object]:
    """What training scripts save."""
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(2))])
    return {
        "namespace": argparse.Namespace(lr=1, out=PosixPath("out")),
        "paths": [PosixPath("a"), PurePosixPath("b"), PureWindowsPath("c"), {PosixPath("key"): 1}],
        "scalars": [np.dtype(code).type(1) for code in "?bBhHiIlLqQefdFD"] + [np.str_("a"), np.bytes_(b"b")],
        "times": [np.datetime64("2024-01-01"), datetime.datetime(2024, 1, 1), datetime.timedelta(3)],
        "arrays": [np.ones(8), np.array(["a"]), np.array([1, "x"], object), np.zeros(2, [("a", "i4"), ("b", "f8")])],
        "random": [np.random.RandomState(0).get_state(), np.random.default_rng(0)],
        "mappings": [collections.defaultdict(list, {"a": [1]}), collections.Counter("aa"), CfgNode(a=CfgNode(b=1))],
        "lists": [collections.deque([1, 2], 3), {1, 2}, frozenset([3])],
        "torch": [torch.Size([3]), torch.device("cpu"), torch.float16],
        "numbers": [decimal.Decimal("1.1"), uuid.UUID(int=3), complex(1, 2)],
        "simple": types.SimpleNamespace(a=1),
        "classes": [np.float32, dict, list],
        "schedule": torch.optim.lr_scheduler.StepLR(optimizer, 3),
    }


@pytest.mark.parametrize("name", list(beside()))
def test_objects_beside_weights(name, tmp_path):
    assert_loaded(load(save({"model": STATE, name: beside()[name]}, tmp_path / "w.pth")))
    old = save({"model": STATE, name: beside()[name]}, tmp_path / "o.pth", _use_new_zipfile_serialization=False)
    assert_loaded(load(old))


def with_an_object(module: str, name: str, state: dict[str, object] | None, file: Path) -> Path:
    """A file of torch's with an object of a class that this machine does not have: a mapping, or one with a state."""
    kind = type("Standing", (dict,) if state is None else (), {"__module__": __name__})
    globals()["Standing"] = kind
    thing = kind({"a": 1}) if state is None else kind()
    thing.__dict__.update(state or {})
    made = io.BytesIO()
    torch.save({"model": STATE, "config": thing}, made)
    archive = zipfile.ZipFile(made)
    with zipfile.ZipFile(file, "w") as out:
        for member in archive.namelist():
            content = archive.read(member)
            if member.endswith("data.pkl"):
                old = f"c{__name__}\nStanding\n".encode()
                assert old in content
                content = content.replace(old, f"c{module}\n{name}\n".encode())
            out.writestr(member, content)
    return file


@pytest.mark.parametrize(
    ("module", "name", "state"),
    [
        ("yacs.config", "CfgNode", None),
        ("easydict", "EasyDict", None),
        ("mmengine.config.config", "ConfigDict", None),
        ("omegaconf.dictconfig", "DictConfig", {"_content": {"a": 1}, "_parent": None}),
        ("pathlib", "WindowsPath", {"_parts": ["a"]}),
        ("pathlib._local", "PosixPath", {"_parts": ["a"]}),
        ("my.training", "TrainConfig", {"lr": 1}),
        ("__main__", "Args", {"lr": 1}),
    ],
)
def test_objects_of_packages_that_are_not_here(module, name, state, tmp_path):
    assert_loaded(load(with_an_object(module, name, state, tmp_path / "w.pth")))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_numpy_arrays(protocol, tmp_path):
    arrays = {key: value.numpy() for key, value in STATE.items()}
    arrays["stem.weight"] = np.asfortranarray(arrays["stem.weight"])
    arrays["norm.weight"] = arrays["norm.weight"].astype(">f4")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(arrays, protocol=protocol))
    assert_loaded(load(tmp_path / "w.pkl"))


def test_a_pickle_of_python_2(tmp_path):
    """Byte strings for keys and values, and old names of modules, as those of 2017 are."""
    values = np.arange(100, dtype="<f4")
    raw = values.tobytes()
    content = (
        b"\x80\x02}q\x00U\x06weightq\x01cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01Kd\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tbs."
    )
    (tmp_path / "w.pkl").write_bytes(content)
    assert np.array_equal(read_tensors(tmp_path / "w.pkl")["weight"].numpy(), values)


@pytest.mark.parametrize("suffix", [".bin", ".pth", ".safetensors"])
def test_formats_are_told_by_their_content(suffix, tmp_path):
    save_file(STATE, tmp_path / f"w{suffix}")
    assert_loaded(load(tmp_path / f"w{suffix}"))
    assert_loaded(load(save(STATE, tmp_path / f"v{suffix}")))


# what is refused, with a way out that works


def convert(message: str) -> Path:
    """Run the command of an error, in this process to save time; gives the file that it says to pass."""
    command = message.partition("`")[2].rpartition("`")[0]
    program, option, code = shlex.split(command)
    assert (program, option) == ("python", "-c")
    exec(code, {})
    return Path(message.rpartition("pass ")[2].removesuffix("."))


def refusal(file: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        load(file)
    return str(raised.value)


def whole() -> nn.Module:
    """A network of torch's own classes."""
    network = nn.Sequential(collections.OrderedDict(stem=nn.Conv2d(3, 4, 3), norm=nn.LayerNorm(4)))
    network.load_state_dict({key: value for key, value in STATE.items() if key in network.state_dict()})
    return network


@pytest.mark.parametrize("content", [whole(), {"epoch": 1, "model": whole()}, {"model": whole(), "ema": whole()}])
@pytest.mark.parametrize("old", [False, True])
def test_whole_networks_are_refused_with_the_way_to_convert_them(content, old, tmp_path):
    file = save(content, tmp_path / "it's whole.pth", _use_new_zipfile_serialization=not old)
    message = refusal(file)
    assert message.startswith(
        f"{file} is a whole pickled network (torch.nn.modules.container.Sequential); opening it could"
    )
    state = read_tensors(convert(message))
    assert state.keys() == whole().state_dict().keys() and torch.equal(state["stem.weight"], STATE["stem.weight"])


def test_torchscript_is_refused_with_the_way_to_convert_it(tmp_path):
    torch.jit.save(torch.jit.trace(whole()[:1], torch.zeros(1, 3, 5, 5)), tmp_path / "w.pt")
    message = refusal(tmp_path / "w.pt")
    assert "is a TorchScript archive" in message and "torch.jit.load" in message
    assert torch.equal(read_tensors(convert(message))["stem.weight"], STATE["stem.weight"])


def test_npz_is_refused_with_the_way_to_convert_it(tmp_path):
    np.savez(tmp_path / "w.npz", **{key: value.numpy() for key, value in STATE.items()})
    assert_loaded(load(convert(refusal(tmp_path / "w.npz"))))


@pytest.mark.parametrize("options", [{"pickle_protocol": 4}, {}])
def test_what_needs_code_is_refused_with_the_way_to_take_the_weights_out(options, tmp_path):
    extra = {} if options else {"extra": re_made()}
    file = save({"model": STATE, "ema": OTHER, **extra}, tmp_path / "w.pth", **options)
    message = refusal(file)
    assert "holds more than tensors" in message and "so it was not opened" in message and '["ema"]' in message
    assert_loaded(load(convert(message)), OTHER)


def re_made() -> object:
    """An object of the standard library that a pickle makes by a call."""
    import re

    return re.compile("a")


def test_an_own_class_is_refused_by_name(tmp_path):
    assert "test_checkpoints.Unknown" in refusal(save({"model": STATE, "x": Unknown()}, tmp_path / "w.pth"))


def tar_of(names: list[str], file: Path) -> None:
    with tarfile.open(file, "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))


def zip_of(names: list[str], file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


def hdf5(file: Path) -> None:
    with h5py.File(file, "w") as content:
        content["a"] = np.zeros(3)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("w.h5", hdf5, "is an HDF5 file, as Keras"),
        ("w.pth", hdf5, "is an HDF5 file, as Keras"),
        ("w.onnx", lambda file: file.write_bytes(b"\x08\x08\x12\x07pytorch"), "is a network of ONNX"),
        ("w.bin", lambda file: file.write_bytes(b"\x08\x08\x12\x07pytorch"), "is a network of ONNX"),
        ("m.data-00000-of-00001", lambda file: file.write_bytes(b"\0" * 99), "is of TensorFlow"),
        ("m.ckpt.index", lambda file: file.write_bytes(b"\0" * 99), "is of TensorFlow"),
        ("w.npy", lambda file: np.save(file, np.zeros(3)), "is a single NumPy array"),
        ("w.pth", lambda file: file.write_bytes(b"\n<!DOCTYPE html><html>"), "is a web page.*in a browser"),
        ("w.pth", lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        ("w.pth", lambda file: file.write_bytes(b""), "is empty"),
        ("w.gz", lambda file: file.write_bytes(b"\x1f\x8b" + bytes(20)), "is a compressed archive. Unpack it"),
        ("w.zip", lambda file: zip_of(["a.pth", "b.txt"], file), r"is a zip archive of a\.pth, b\.txt. Unpack it"),
        ("w.keras", lambda file: zip_of(["config.json", "model.weights.h5"], file), "is of Keras"),
        ("w.pt2", lambda file: zip_of(["m/models/model.json", "m/archive_format"], file), "torch.export.load"),
        ("w.tar", lambda file: tar_of(["a.pth"], file), r"is an archive of a\.pth. Unpack it"),
        ("w.pth", lambda file: tar_of(["sys_info", "pickle", "storages", "tensors"], file), "torch before 2017"),
        ("w.gguf", lambda file: file.write_bytes(b"GGUF" + bytes(20)), "is a GGUF file"),
        ("w.json", lambda file: file.write_text('{"a": 1}'), "is a text in JSON"),
        ("model.safetensors.index.json", lambda file: file.write_text('{"weight_map": {}}'), "checkpoint in several"),
    ],
)
def test_files_of_other_kinds_are_told_by_their_content(name, make, words, tmp_path):
    make(tmp_path / name)
    message = refusal(tmp_path / name)
    assert message.startswith(str(tmp_path / name)) and "download it again" not in message
    with pytest.raises(CheckpointError, match=words):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["config.json", "model.safetensors"], r"is a folder, not a file of weights\. Pass .*/f/model\.safet"),
        (["notes.txt"], r"is a folder that holds notes\.txt\. Pass one file of weights, a \.safetensors file"),
        ([], "is a folder that holds nothing"),
        (["saved_model.pb"], "is a folder of TensorFlow"),
        ([".metadata", "__0_0.distcp"], "dcp_to_torch"),
        (["zero_to_fp32.py", "latest"], "is a folder of DeepSpeed.*zero_to_fp32"),
        (["data.pkl", "data"], "is an unpacked file of torch"),
    ],
)
def test_folders(names, words, tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=words):
        load(folder)
    with pytest.raises(CheckpointError, match=words):
        create_backbone("iresnet50", folder)


def test_a_folder_of_parts_is_told_how_to_become_one(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    half = len(STATE) // 2
    for number, keys in enumerate((list(STATE)[:half], list(STATE)[half:])):
        save_file({key: STATE[key] for key in keys}, folder / f"model-{number + 1:05}-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    assert_loaded(load(convert(refusal(folder))))


def test_a_checkpoint_of_tensorflow_by_its_stem(tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is a checkpoint of TensorFlow"):
        load(tmp_path / "model.ckpt")


def test_reading_without_a_network_takes_the_largest_state_dict(tmp_path):
    file = save({"small": {"a": torch.zeros(1)}, "model": STATE, "model_ema": OTHER}, tmp_path / "w.pth")
    assert torch.equal(read_tensors(file)["stem.weight"], OTHER["stem.weight"])
    assert torch.equal(read_tensors(Path(f"{file}#model"))["stem.weight"], STATE["stem.weight"])
    assert len(read_checkpoint(file).tensors) == 2 * len(STATE) + 1
    assert Checkpoint.of({}).main() == {}


# several backbones in one call


def test_an_error_in_one_backbone_does_not_cost_the_others(tiny_demo, tmp_path, run_cli):
    bad = save({**STATE}, tmp_path / "bad.pth")
    arguments = ["extract", "--data", tiny_demo, "--store", tmp_path / "s.zarr", "--backbone", f"a=vit-tiny-cls:{bad}"]
    found = run_cli(*arguments, "--backbone", "hog", "--backbone", "dan")
    assert found.exit_code == 1
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert list(store.features()) == ["hog"] and store.videos("hog")
    assert "2 failed backbones:" in found.output and f"a: {bad} does not fit vit-tiny-cls" in found.output
    assert "dan: Backbone dan needs a weights file" in found.output


def test_an_error_in_all_backbones_ends_the_call(tiny_demo, tmp_path, run_cli):
    arguments = ["extract", "--data", tiny_demo, "--store", tmp_path / "s.zarr"]
    found = run_cli(*arguments, "--backbone", "dan", "--backbone", "emma")
    assert found.exit_code == 1 and "Error: Backbone dan needs" in found.output
    assert not (tmp_path / "s.zarr").exists()


def test_a_feature_that_is_made_otherwise_does_not_cost_the_others(tiny_demo, tmp_path, run_cli):
    arguments = ["extract", "--data", tiny_demo, "--store", tmp_path / "s.zarr", "--device", "cpu"]
    assert run_cli(*arguments, "--backbone", "x=hog").exit_code == 0
    found = run_cli(*arguments, "--untrained", "--backbone", "x=vit-tiny-cls", "--backbone", "y=hog")
    assert found.exit_code == 1 and "x: Feature 'x' in" in found.output
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert set(store.features()) == {"x", "y"} and store.videos("y").keys() == store.videos("x").keys()


def test_wrong_use_ends_the_call_before_any_work(tiny_demo, tmp_path, run_cli):
    arguments = [
        "extract",
        "--data",
        tiny_demo,
        "--store",
        tmp_path / "s.zarr",
        "--backbone",
        "hog",
        "--backbone",
        "hogg",
    ]
    found = run_cli(*arguments)
    assert found.exit_code == 2 and "Unknown backbone 'hogg'" in found.output and not (tmp_path / "s.zarr").exists()
