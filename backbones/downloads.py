"""Public weights, downloaded into the weights folder: whole and as published, or not at all."""

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
from abaw.backbones.weights import file_sha256
from abaw.backbones.weights_folder import weights_folder
from abaw.core.errors import CheckpointError, disk_trouble, first_line
from abaw.core.progress import Reporter, Silent

PARTIAL = ".partial"  # after the name of what is not whole yet
CHUNK = 2**20
TIMEOUT_S = 30.0
TRIES = 4  # in a row that bring nothing new
PAUSE_S = 1.0
MEGA = 10**6
CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there


class Cut(Exception):
    """A connection ended before the file did."""


def get_weights(weights: FamilyWeights, reporter: Reporter | None = None) -> list[Path]:
    """Download what is published for a family and not there yet; gives all of it.

    Raises:
        CheckpointError: no network, no such file, no space, or something else than what was published.
    """
    reporter = reporter or Silent()
    folder, files = weights_folder(), []
    for known in weights.sources:
        target = folder / known.target if known.saved_as or weights.found is None else weights.found
        if not target.exists():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _get(known, target, reporter)
            except OSError as error:
                trouble = disk_trouble(error, f"{known.name} into {folder}") or first_line(error)
                raise CheckpointError(f"{known.name} could not be downloaded: {trouble}. {_way_out(known)}") from error
        files.append(target)
    return files


def _get(known: KnownWeights, target: Path, reporter: Reporter) -> None:
    if known.hub:
        get_from_hub(known, target, reporter)
        return
    partial = target.with_name(target.name + PARTIAL)
    fetch(known.url, partial, reporter, _way_out(known))
    if not is_as_published(partial, known):
        partial.unlink()
        digits = f"md5 {known.md5}" if known.md5 else f"sha256 {known.sha256}"
        raise CheckpointError(
            f"What came is not {known.name} as published ({digits}...), and was dropped. {_way_out(known)}"
        )
    partial.replace(target)


def _way_out(known: KnownWeights) -> str:
    """What to do where a download fails."""
    target = weights_folder() / known.target
    what = f"{known.url or known.source}"
    put = f"put its {CONFIGS[0]}, {CONFIGS[1]} and weights into {target}" if known.is_folder else f"save it as {target}"
    return f"Run the same command again where there is a network, or fetch {what} elsewhere and {put}."


def fetch(url: str, partial: Path, reporter: Reporter, way_out: str) -> None:
    """Download a file, going on where an earlier try ended.

    Args:
        url: http or https.
        partial: what is there of it; whole at the end.
        reporter: told of megabytes.
        way_out: a sentence for errors.

    Raises:
        CheckpointError: it cannot be had; what came of it is kept.
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
            if isinstance(cause, socket.gaierror):  # there is no network, or no such host
                n_failures = TRIES
        finally:
            reporter.finish()
        n_failures = 1 if _size(partial) > before else n_failures + 1
        if n_failures >= TRIES:
            kept = f"{_size(partial) / MEGA:.1f} MB of it are kept. " if _size(partial) else ""
            raise CheckpointError(f"The file could not be downloaded ({reason}). {kept}{way_out}")
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
            return  # it was whole already
        partial.unlink()  # it is another file by now, or of another size
        raise Cut("the server has no such part") from error
    with response:
        begins = f"bytes {start}-"
        goes_on = response.status == 206 and response.headers.get("Content-Range", begins).startswith(begins)
        if response.status == 206 and not goes_on:
            raise Cut("the server gave another part")
        start = start if goes_on else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else 0
        reporter.start(f"download {partial.name.removesuffix(PARTIAL)}", total // MEGA, "MB")
        _receive(response, partial, "ab" if goes_on else "wb", reporter.advance)
    if total and _size(partial) < total:
        raise Cut("the connection was cut")


def _receive(response: Any, partial: Path, mode: str, advance: Callable[[int], None]) -> None:
    n_bytes = n_said = 0
    with partial.open(mode) as stream:
        while chunk := response.read1(CHUNK):
            stream.write(chunk)
            n_bytes += len(chunk)
            if n_bytes // MEGA > n_said:
                advance(n_bytes // MEGA - n_said)
                n_said = n_bytes // MEGA


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


def get_from_hub(known: KnownWeights, target: Path, reporter: Reporter) -> None:
    """Download a file, or the folder of a model, from Hugging Face; each file of weights is verified.

    Raises:
        CheckpointError: it cannot be had.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError

    endpoint = constants.ENDPOINT
    partial = target.with_name(target.name + PARTIAL)  # a folder, in which the hub's client keeps what is not whole
    try:
        info = huggingface_hub.HfApi(endpoint=endpoint).model_info(known.hub, files_metadata=True, timeout=TIMEOUT_S)
        files = _wanted(known, {file.rfilename: file for file in info.siblings or ()})
        reporter.start(f"download {known.hub}", len(files), "files")
        for name, file in files.items():
            got = Path(huggingface_hub.hf_hub_download(known.hub, name, local_dir=partial, endpoint=endpoint,
                                                       revision=info.sha))  # fmt: skip
            wanted = file.lfs.sha256 if file.lfs else None
            if wanted and file_sha256(got) != wanted:
                got.unlink()
                raise CheckpointError(f"{name} of {known.hub} came damaged, and was dropped. {_way_out(known)}")
            reporter.advance(1, name)
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"{known.source} wants its licence to be accepted first. Do so there, log in with `hf auth login`, and run "
            "the same command again."
        ) from error
    except Exception as error:  # of the network, the hub and its client, of many kinds
        raise CheckpointError(
            f"{known.hub} could not be downloaded from {endpoint} ({first_line(error)}). {_way_out(known)}"
        ) from error
    finally:
        reporter.finish()
    if known.is_folder:
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        partial.replace(target)
    else:
        (partial / next(iter(files))).replace(target)
        shutil.rmtree(partial, ignore_errors=True)


def _wanted(known: KnownWeights, files: dict[str, Any]) -> dict[str, Any]:
    """Of the files of a repository those that are needed."""
    if not known.is_folder:
        names = [known.name] if known.name in files else []
    else:
        weights = [name for name in WEIGHTS if name in files][:1] or [
            name for name in files if name.startswith("model-") and name.endswith(".safetensors")
        ]
        weights += ["model.safetensors.index.json"] if len(weights) > 1 or "-of-" in "".join(weights) else []
        names = [*(name for name in CONFIGS if name in files), *weights] if weights else []
    if not names:
        raise CheckpointError(f"{known.source} has no {known.name if not known.is_folder else WEIGHTS[0]}.")
    return {name: files[name] for name in names}
