"""Weights from the network: a server on this machine that cuts connections, ignores ranges and sends something else."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from abaw.backbones import downloads, published
from abaw.backbones.backbone import create_backbone
from abaw.backbones.downloads import get_weights
from abaw.backbones.published import KNOWN, find_weights
from abaw.backbones.registry import get_spec
from abaw.backbones.weights import default_weights
from abaw.backbones.weights_folder import weights_folder
from abaw.core.errors import CheckpointError, UsageError

CONTENT = bytes(range(256)) * 9000  # 2.3 MB
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Files by path, as a plain host and as Hugging Face's hub has them; remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.models: dict[str, dict[str, bytes]] = {}
        self.lies: dict[str, str] = {}  # sha256 that the hub gives instead of the true one
        self.ranges: list[str] = []
        self.cut_after: list[int] = []  # bytes that the next answers send of all they promise
        self.with_ranges = True
        self.status = 200

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers for `Server`."""

    server: Server

    def do_GET(self) -> None:
        """A file, or what the hub tells of a model."""
        model = re.match(r"/api/models/([^/]+/[^/?]+)", self.path)
        if self.server.status != 200:
            self.send_error(self.server.status)
        elif model:
            self._tell(model[1])
        else:
            self._send(*self._find())

    def do_HEAD(self) -> None:
        """As GET, without the content."""
        self.do_GET()

    def _find(self) -> tuple[bytes | None, str]:
        hub = re.match(r"/([^/]+/[^/]+)/resolve/[^/]+/([^?]+)", self.path)
        if hub:
            content = self.server.models.get(hub[1], {}).get(hub[2])
            return content, hashlib.sha256(content or b"").hexdigest()
        return self.server.files.get(self.path), ""

    def _tell(self, model: str) -> None:
        files = self.server.models.get(model)
        if files is None:
            self.send_error(404)
            return
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "lfs": {
                    "sha256": self.server.lies.get(name, hashlib.sha256(content).hexdigest()),
                    "size": len(content),
                    "pointerSize": 134,
                }
                if name.endswith((".bin", ".safetensors"))
                else None,
            }
            for name, content in files.items()
        ]
        body = json.dumps({"_id": "1", "id": model, "sha": COMMIT, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(self, content: bytes | None, etag: str) -> None:
        if content is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        start = 0
        if self.command == "GET":
            self.server.ranges.append(asked or "")
        if asked and self.server.with_ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if etag:
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            cut = self.server.cut_after.pop(0) if self.server.cut_after else len(content)
            self.wfile.write(content[start : start + cut])
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """The server, whose hub is the hub, and an empty weights folder."""
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("ABAW_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", running.url)
    template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(downloads, "PAUSE_S", 0.0)
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def publish(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the weights of `mae` a file of the server's."""

    def make(content: bytes = CONTENT, **digits: str) -> None:
        server.files["/mae.pth"] = content
        digits = digits or {"md5": hashlib.md5(content).hexdigest()[:6]}
        (mae,) = (one for one in KNOWN if one.family == "mae")
        mae = replace(mae, **{"md5": "", "url": f"{server.url}/mae.pth", **digits})
        monkeypatch.setattr(published, "KNOWN", (mae, *(one for one in KNOWN if one.family != "mae")))

    return make


def test_a_file_is_downloaded_verified_and_taken_by_default(server, publish, tmp_path):
    publish()
    files = get_weights(find_weights("mae-mean"))
    assert files == [tmp_path / "weights" / "mae.pth"] and files[0].read_bytes() == CONTENT
    assert default_weights(get_spec("mae-cls")) == files[0]
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["mae.pth"]
    assert find_weights("mae").state == "have" and find_weights("mae").agrees is True
    assert get_weights(find_weights("mae")) == files and server.ranges == [""], "what is there is not fetched again"


def test_cut_connections_are_taken_up_where_they_ended(server, publish):
    publish()
    server.cut_after = [1_000_000, 700_000]
    assert get_weights(find_weights("mae"))[0].read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=1000000-", "bytes=1700000-"]


def test_a_run_goes_on_with_what_an_earlier_one_kept(server, publish, tmp_path):
    publish()
    server.cut_after = [500_000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(
        CheckpointError, match=r"could not be downloaded \(.*0\.5 MB of it were kept\. Run the same command"
    ):
        get_weights(find_weights("mae"))
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["mae.pth.partial"]
    server.cut_after = []
    server.ranges.clear()
    assert get_weights(find_weights("mae"))[0].read_bytes() == CONTENT
    assert server.ranges == ["bytes=500000-"]


def test_a_server_without_ranges_begins_anew(server, publish, tmp_path):
    publish()
    server.with_ranges = False
    server.cut_after = [1_000_000]
    assert get_weights(find_weights("mae"))[0].read_bytes() == CONTENT


@pytest.mark.parametrize("n_more", [0, 10])
def test_a_part_that_is_whole_or_too_long(server, publish, tmp_path, n_more):
    publish()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mae.pth.partial").write_bytes(CONTENT + bytes(n_more))
    assert get_weights(find_weights("mae"))[0].read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + n_more}-"] + [""] * bool(n_more)


@pytest.mark.parametrize("digits", [{"md5": "123456"}, {"sha256": "12345678"}])
def test_another_file_than_the_published_one_is_dropped(server, publish, tmp_path, digits):
    publish(**digits)
    with pytest.raises(CheckpointError, match=r"is not mae_pretrain_vit_base\.pth as published \((md5|sha256) 12345"):
        get_weights(find_weights("mae"))
    assert not list((tmp_path / "weights").iterdir())


@pytest.mark.parametrize("status", [403, 404, 503])
def test_errors_of_the_server_are_a_sentence_with_a_way_out(server, publish, tmp_path, status):
    publish()
    server.status = status
    words = (
        rf"\(HTTP {status}\).* download {server.url}/mae\.pth elsewhere and save it as {tmp_path}/weights/mae\.pth\."
    )
    with pytest.raises(CheckpointError, match=words):
        get_weights(find_weights("mae"))


def test_no_network(server, publish, run_cli):
    publish()
    server.shutdown()
    server.server_close()
    found = run_cli("weights", "get", "mae")
    assert found.exit_code == 1 and "could not be downloaded" in found.output and "Connection refused" in found.output


def test_a_model_of_timm_comes_from_the_hub(server, tmp_path):
    state = create_backbone("vit-tiny-mean", untrained=True)._network.model.state_dict()
    model = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    server.models[model] = {"config.json": b"{}", "model.safetensors": save(state), "README.md": b"-"}
    (file,) = get_weights(find_weights("vit-tiny"))
    assert file == tmp_path / "weights" / "vit-tiny.safetensors"
    assert file.read_bytes() == server.models[model]["model.safetensors"]
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    backbone = create_backbone("vit-tiny-mean")
    assert backbone.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert torch.equal(backbone._network.model.state_dict()["norm.weight"], state["norm.weight"])


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_transformers_comes_from_the_hub(server, weights, tmp_path):
    files = {"config.json": b'{"a": 1}', "preprocessor_config.json": b"{}", weights: CONTENT, "vocab.json": b"{}"}
    server.models["facebook/hubert-base-ls960"] = {**files, "tf_model.h5": b"-"}
    (folder,) = get_weights(find_weights("hubert"))
    assert folder == tmp_path / "weights" / "hubert" and find_weights("hubert").state == "have"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: content for name, content in files.items() if name != "vocab.json"
    }


def test_a_model_of_text_comes_with_its_tokenizer(server, tmp_path):
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
    server.models["FacebookAI/roberta-base"] = {**dict.fromkeys(names, CONTENT), "flax_model.msgpack": b"-"}
    (folder,) = get_weights(find_weights("text"))
    assert folder == tmp_path / "weights" / "text" and {path.name for path in folder.iterdir()} == {*names}


def test_damaged_files_of_the_hub_are_dropped(server, tmp_path):
    server.models["facebook/hubert-base-ls960"] = {"config.json": b"{}", "model.safetensors": CONTENT}
    server.lies["model.safetensors"] = "0" * 64
    with pytest.raises(CheckpointError, match=r"model\.safetensors of facebook/hubert-base-ls960 arrived damaged"):
        get_weights(find_weights("hubert"))
    assert find_weights("hubert").state == "get"
    server.lies.clear()
    assert get_weights(find_weights("hubert"))[0].is_dir()


def test_a_model_that_the_hub_does_not_have(server):
    with pytest.raises(
        CheckpointError, match=r"openai/whisper-base could not be downloaded .* download https://huggingface"
    ):
        get_weights(find_weights("whisper"))


def test_command_prints_folder_and_licence_first(server, publish, run_cli, tmp_path):
    publish()
    found = run_cli("weights", "get", "mae")
    assert found.exit_code == 0
    lines = found.output.splitlines()
    assert lines[0] == f"Weights are in {tmp_path}/weights (ABAW_WEIGHTS)."
    assert lines[1] == "mae, licence: CC-BY-NC 4.0 (MAE): not for commercial use"
    assert lines[-2:] == [f"mae is in {tmp_path}/weights/mae.pth", "Next: abaw extract --backbone mae-mean"]


def test_what_is_to_be_had_by_hand_does_not_cost_the_others(server, publish, run_cli):
    publish()
    found = run_cli("weights", "get", "dan", "mae")
    assert found.exit_code == 1 and "mae is in " in found.output
    assert "by hand, from DAN's authors (https://github.com/yaoing/DAN). Put the file into" in found.output


@pytest.mark.parametrize("name", ["maee", "hog"])
def test_wrong_names_end_the_command_before_any_work(server, publish, run_cli, name):
    publish()
    assert run_cli("weights", "get", "mae", name).exit_code == 2 and not server.ranges
    with pytest.raises(UsageError):
        find_weights(name)


@pytest.mark.parametrize("arguments", [("weights",), ("weights", "list")])
def test_list_has_a_line_of_at_most_100_columns_for_each_family(run_cli, arguments, monkeypatch, tmp_path):
    monkeypatch.setenv("ABAW_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "dan.pth").write_bytes(b"x")
    (tmp_path / "mae.pth").write_bytes(b"x")
    lines = run_cli(*arguments).output.splitlines()
    table = [line.rstrip() for line in lines[2 : lines.index("")]]
    assert {line.split()[0] for line in table} == {one.family for one in published.weights_at_hand()}
    assert len({line.split()[0] for line in table}) == len(table) and max(map(len, table)) <= 100
    by_name = {line.split()[0]: line for line in table}
    assert "have it: dan.pth" in by_name["dan"] and by_name["dan"].endswith("MIT")
    assert "have it: mae.pth, not the published file" in by_name["mae"]
    assert "can get it: abaw weights get vggish" in by_name["vggish"]
    assert "by hand, from EMMA's authors" in by_name["emma"]
    pages = [line for line in lines if line.startswith("https://")]
    assert "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch" in pages
    assert f"Weights are in {tmp_path} (ABAW_WEIGHTS)." in lines


def test_list_as_json(run_cli):
    content = json.loads(run_cli("weights", "list", "--json").output)
    assert content["folder"] == str(weights_folder())
    rows = {row["family"]: row for row in content["weights"]}
    assert rows["mae"]["state"] == "get" and rows["mae"]["get"] == "abaw weights get mae"
    assert rows["fer"]["state"] == "have" and rows["emma"]["state"] == "by hand"
    assert rows["dan"]["backbones"] == ["dan", "dan-head", "dan-map"]
    assert rows["dan"]["sources"][0]["url"] == "https://github.com/yaoing/DAN"


def test_default_folder(monkeypatch, tmp_path, run_cli):
    monkeypatch.delenv("ABAW_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights_folder() == tmp_path / "abaw" / "weights"
    weights_folder().mkdir(parents=True)
    (weights_folder() / "dan.pth").write_bytes(b"x")
    assert default_weights(get_spec("dan")) == weights_folder() / "dan.pth"
    with pytest.raises(
        CheckpointError, match=rf"`abaw weights get mae`.*{weights_folder()}.*ABAW_WEIGHTS.*as mae\.safe"
    ):
        default_weights(get_spec("mae-mean"))
    assert "(the default; ABAW_WEIGHTS names another folder)" in run_cli("weights").output
