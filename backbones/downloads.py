"""Downloads of public weights into the weights folder: complete and as published, or not at all."""

import http.client
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from abaw import __version__
from abaw.backbones.published import FamilyWeights, KnownWeights, is_as_published
from abaw.backbones.published_files import TOKENIZER_FILES
from abaw.backbones.weights import file_sha256
from abaw.backbones.weights_folder import weights_folder
from abaw.core.claim_files import claimed
from abaw.core.errors import CheckpointError, disk_trouble, first_line
from abaw.core.progress import Reporter, Silent

PARTIAL = ".partial"  # after the name of an incomplete file or folder
CHUNK = 2**20
TIMEOUT_S = 30.0
TRIES = 4  # in a row without progress
PAUSE_S = 1.0
MEGA = 10**6
CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that exists


class Cut(Exception):
    """A connection ended before the file was complete."""


def get_weights(weights: FamilyWeights, reporter: Reporter | None = None) -> list[Path]:
    """Download the published weights of a family that are missing; returns all of its files.

    Raises:
        CheckpointError: there is no network, file or space, or a file differs from the published one.
    """
    reporter = reporter or Silent()
    folder, files = weights_folder(), []
    for published_file in weights.sources:
        target = folder / published_file.target if published_file.saved_as or weights.file is None else weights.file
        if not target.exists():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with claimed(target):
                    if not target.exists():  # else another process got it meanwhile
                        _get(published_file, target, reporter)
            except OSError as error:
                trouble = disk_trouble(error, f"{published_file.name} into {folder}") or first_line(error)
                raise CheckpointError(
                    f"{published_file.name} could not be downloaded: {trouble}. {_way_out(published_file)}"
                ) from error
        files.append(target)
    return files


def _get(published_file: KnownWeights, target: Path, reporter: Reporter) -> None:
    if published_file.hub:
        get_from_hub(published_file, target, reporter)
        return
    partial = target.with_name(target.name + PARTIAL)
    fetch(published_file.url, partial, reporter, _way_out(published_file))
    if not is_as_published(partial, published_file):
        partial.unlink()
        digits = f"md5 {published_file.md5}" if published_file.md5 else f"sha256 {published_file.sha256}"
        raise CheckpointError(
            f"The file received is not {published_file.name} as published ({digits}...), and was deleted. {_way_out(published_file)}"
        )
    partial.replace(target)


def _way_out(published_file: KnownWeights) -> str:
    """A sentence on what to do when a download fails."""
    target = weights_folder() / published_file.target
    url = f"{published_file.url or published_file.source}"
    put = (
        f"put its {CONFIGS[0]}, {CONFIGS[1]} and weights into {target}"
        if published_file.is_folder
        else f"save it as {target}"
    )
    return f"Run the same command again with a network, or download {url} elsewhere and {put}."


def fetch(url: str, partial: Path, reporter: Reporter, way_out: str) -> None:
    """Download a file, continuing where an earlier attempt ended.

    Args:
        url: http or https.
        partial: what earlier attempts left; complete at the end.
        reporter: gets megabytes.
        way_out: a sentence for errors, on what to do.

    Raises:
        CheckpointError: the download failed; what has arrived is kept.
    """
    n_failures = 0
    while True:
        before = _size(partial)
        try:
            _fetch_rest(url, partial, reporter)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise CheckpointError(f"The file could not be downloaded (HTTP {error.code}). {way_out}") from error
            reason = f"HTTP {error.code}"
        except (Cut, urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            reason = first_line(cause) if isinstance(cause, Exception) else str(cause)
            if isinstance(cause, socket.gaierror):  # no network, or no such host
                n_failures = TRIES
        finally:
            reporter.finish()
        n_failures = 1 if _size(partial) > before else n_failures + 1
        if n_failures >= TRIES:
            kept_part = f"{_size(partial) / MEGA:.1f} MB of it were kept. " if _size(partial) else ""
            raise CheckpointError(f"The file could not be downloaded ({reason}). {kept_part}{way_out}")
        time.sleep(PAUSE_S * (n_failures - 1))


def _fetch_rest(url: str, partial: Path, reporter: Reporter) -> None:
    start = _size(partial)
    headers = {"User-Agent": f"abaw/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{start}"):
            return  # it was complete
        partial.unlink()  # the file on the server has changed
        raise Cut("the server has no such part") from error
    with response:
        begins = f"bytes {start}-"
        is_continued = response.status == 206 and response.headers.get("Content-Range", begins).startswith(begins)
        if response.status == 206 and not is_continued:
            raise Cut("the server sent another part")
        start = start if is_continued else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else 0
        reporter.start(f"download {partial.name.removesuffix(PARTIAL)}", total // MEGA, "MB")
        _receive(response, partial, "ab" if is_continued else "wb", reporter.advance)
    if total and _size(partial) < total:
        raise Cut("the connection was cut")


def _receive(response: Any, partial: Path, mode: str, advance: Callable[[int], None]) -> None:
    n_bytes = n_reported = 0
    with partial.open(mode) as stream:
        while chunk := response.read1(CHUNK):
            stream.write(chunk)
            n_bytes += len(chunk)
            if n_bytes // MEGA > n_reported:
                advance(n_bytes // MEGA - n_reported)
                n_reported = n_bytes // MEGA


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


def get_from_hub(published_file: KnownWeights, target: Path, reporter: Reporter) -> None:
    """Download a file, or the folder of a model, from Hugging Face; each file of weights is verified.

    Raises:
        CheckpointError: the download failed.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError

    endpoint = constants.ENDPOINT
    partial = target.with_name(target.name + PARTIAL)  # a folder, where the hub's client keeps incomplete files
    try:
        info = huggingface_hub.HfApi(endpoint=endpoint).model_info(
            published_file.hub, files_metadata=True, timeout=TIMEOUT_S
        )
        files = _needed(published_file, {file.rfilename: file for file in info.siblings or ()})
        reporter.start(f"download {published_file.hub}", len(files), "files")
        for name, file in files.items():
            received = Path(huggingface_hub.hf_hub_download(published_file.hub, name, local_dir=partial, endpoint=endpoint,
                                                       revision=info.sha))  # fmt: skip
            sha256 = file.lfs.sha256 if file.lfs else None
            if sha256 and file_sha256(received) != sha256:
                received.unlink()
                raise CheckpointError(
                    f"{name} of {published_file.hub} arrived damaged, and was deleted. {_way_out(published_file)}"
                )
            reporter.advance(1, name)
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"{published_file.source} requires you to accept its licence first. Do so there, log in with `hf auth login`, and run "
            "the same command again."
        ) from error
    except Exception as error:  # errors of the network, the hub or its client
        raise CheckpointError(
            f"{published_file.hub} could not be downloaded from {endpoint} ({first_line(error)}). {_way_out(published_file)}"
        ) from error
    finally:
        reporter.finish()
    if published_file.is_folder:
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        partial.replace(target)
    else:
        (partial / next(iter(files))).replace(target)
        shutil.rmtree(partial, ignore_errors=True)


def _needed(published_file: KnownWeights, files: dict[str, Any]) -> dict[str, Any]:
    """The files of a repository that are needed."""
    if not published_file.is_folder:
        names = [published_file.name] if published_file.name in files else []
    else:
        weights = [name for name in WEIGHTS if name in files][:1] or [
            name for name in files if name.startswith("model-") and name.endswith(".safetensors")
        ]
        weights += ["model.safetensors.index.json"] if len(weights) > 1 or "-of-" in "".join(weights) else []
        configs = (*CONFIGS, *(TOKENIZER_FILES if published_file.family == "text" else ()))
        names = [*(name for name in configs if name in files), *weights] if weights else []
    if not names:
        raise CheckpointError(
            f"{published_file.source} has no {published_file.name if not published_file.is_folder else WEIGHTS[0]}."
        )
    return {name: files[name] for name in names}
