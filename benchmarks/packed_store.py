"""A packed store against one with files for each video: loading, windows, listing a million videos, requests to S3.

python -m benchmarks.packed_store
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from abaw.core.files import Place
from abaw.core.progress import Silent
from abaw.store import FeatureStore
from abaw.store.audit import describe_label_rows, describe_store, verify_store
from abaw.store.pack_index import PackedVideo
from abaw.store.packing import pack_store
from abaw.train.new_run import load_split
from benchmarks.beyond_memory import CONFIG, draw, nothing_left
from benchmarks.measure import Report, Requirement, in_turns, median_ratio
from benchmarks.objects import BUCKET, LATENCY_S, Counting, s3_server
from benchmarks.tables import FEATURE, random_store

WIDTH, N_FRAMES = 768, 128
N_VIDEOS, N_FAR_VIDEOS = 1_000, 64
N_LISTED, N_PARTS = 1_000_000, 8
N_SHORT = 4_000
N_BATCHES = 20
METHOD = [
    f"{N_VIDEOS:,} videos of {N_FRAMES} frames x {WIDTH} float16 with labels, files in the page cache; the same, packed, in turns.",
    f"Windows: {N_BATCHES} batches of {CONFIG.batch_size} x {CONFIG.length} frames at random from tables that stay in the store.",
    f"Short videos: {N_SHORT:,} of one frame each, with labels; figures are for 10,000.",
    f"Listing: an index of {N_LISTED:,} videos in {N_PARTS} parts, each video with nine attributes and a quarter with missing frames; a new "
    "`FeatureStore` each time.",
    f"S3: {N_FAR_VIDEOS} of the videos on a local S3 server (moto) that makes each request wait {1000 * LATENCY_S:.0f} ms; "
    "a new `FeatureStore` lists them and reads all, a thread alone.",
]


def read_all(place: Place) -> None:
    """Open a store, list its videos and read all of them."""
    store = FeatureStore.open(place)
    for video in store.videos(FEATURE):
        store.read(FEATURE, video)


def measure_folder(root: Path, report: Report) -> None:
    """Both kinds of a local store."""
    places = {"plain": root / "plain.zarr", "packed": root / "packed.zarr"}
    random_store(places["plain"], N_VIDEOS, N_FRAMES, WIDTH)
    shutil.copytree(places["plain"], places["packed"])
    began = time.perf_counter()
    summary = pack_store(FeatureStore.create(places["packed"]), Silent())
    report.medians["packing, MB/s"] = summary.n_bytes / 1e6 / (time.perf_counter() - began)
    for name, place in places.items():
        report.medians[f"files, {name}"] = sum(file.is_file() for file in place.rglob("*"))

    def reading(place: Path) -> Callable[[], None]:
        return lambda: read_all(place)

    loaded = in_turns({name: reading(place) for name, place in places.items()}, rounds=5)
    ratio = median_ratio(loaded["plain"].wall_s, loaded["packed"].wall_s)
    report.requirements.append(Requirement("speed of loading a packed store against a plain one", ratio, 1.0))
    for name, timing in loaded.items():
        report.medians[f"loading all, {name}, ms by video"] = 1000 * timing.median_s / N_VIDEOS
    with nothing_left():
        tables = {name: load_split(CONFIG, FeatureStore.open(place), "train") for name, place in places.items()}
    drawn = in_turns({name: draw(table, N_BATCHES) for name, table in tables.items()}, rounds=5)
    report.ratios["windows from a packed store against a plain one"] = median_ratio(
        drawn["plain"].wall_s, drawn["packed"].wall_s
    )
    for name, timing in drawn.items():
        report.medians[f"windows/s, {name}"] = N_BATCHES * CONFIG.batch_size / timing.median_s


def measure_short(root: Path, report: Report) -> None:
    """Both kinds of a local store of videos of one frame."""
    places = {"plain": root / "short.zarr", "packed": root / "short-packed.zarr"}
    random_store(places["plain"], N_SHORT, 1, WIDTH)
    shutil.copytree(places["plain"], places["packed"])
    began = time.perf_counter()
    summary = pack_store(FeatureStore.create(places["packed"]), Silent())
    report.medians["packing short videos, MB/s"] = summary.n_bytes / 1e6 / (time.perf_counter() - began)
    for what, action in (
        ("labels", lambda store: store.labels("va")),
        ("table for training", lambda store: load_split(CONFIG, store, "train")),
        ("store info", lambda store: (describe_store(store), describe_label_rows(store))),
        ("store verify", lambda store: verify_store(store, Silent())),
    ):
        for name, place in places.items():
            began = time.perf_counter()
            action(FeatureStore.open(place))
            seconds = (time.perf_counter() - began) * 10_000 / N_SHORT
            report.medians[f"{what} of 10,000 videos of one frame, {name}, s"] = seconds


def measure_listing(root: Path, report: Report) -> None:
    """An index of many videos."""
    store = FeatureStore.create(root / "many.zarr")
    store.add_feature(FEATURE, {"shape": [WIDTH], "weights": "none"}, None, "random")
    present = np.arange(N_FRAMES) % 9 > 0
    for part in range(N_PARTS):
        numbers = range(part * N_LISTED // N_PARTS, (part + 1) * N_LISTED // N_PARTS)
        store.packs.put_part(
            f"features/{FEATURE}", [_listed(number, present) for number in numbers], {"float16-768": 1}
        )
    for what, action in (
        ("names of a million packed videos", lambda: list(FeatureStore.open(store.path).videos(FEATURE))),
        (
            "frames of a million packed videos, counted",
            lambda: sum(attrs["n_frames"] for attrs in FeatureStore.open(store.path).videos(FEATURE).values()),
        ),
    ):
        timing = in_turns({"": action}, rounds=2, n_warmups=0)[""]
        report.requirements.append(Requirement(what, timing.median_cpu_s, 10, "s", at_least=False))
    files = [file for file in (root / "many.zarr").rglob("*") if file.is_file()]
    report.medians["index of a million, MB"] = sum(file.stat().st_size for file in files) / 1e6


def _listed(number: int, present: np.ndarray) -> PackedVideo:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    mask = None if number % 4 else present
    attrs = {
        **{"fps": 25.0 if number % 3 else 29.97, "n_frames": N_FRAMES, "dtype": "float16", "abaw": "1.0"},
        **{"n_present": N_FRAMES if mask is None else int(mask.sum()), "precision": "bfloat16", "clock": "decoded"},
        **{"source": digest, "content": digest[::-1]},
    }
    return PackedVideo(
        f"speaker-{number % 977:03}-{number:07}", "float16-768", number * N_FRAMES, N_FRAMES, attrs, mask
    )


def measure_requests(report: Report) -> None:
    """Both kinds on S3."""
    with s3_server() as counting:
        place = f"s3://{BUCKET}/store.zarr"
        random_store(place, N_FAR_VIDEOS, N_FRAMES, WIDTH)
        _count("plain", place, counting, report)
        pack_store(FeatureStore.create(place), Silent())
        by_video = _count("packed", place, counting, report)
    report.requirements.append(Requirement("requests by packed video on S3", by_video, 1, "", at_least=False))


def _count(name: str, place: str, counting: Counting, report: Report) -> float:
    before, began = counting.seen.total(), time.perf_counter()
    read_all(place)
    by_video = (counting.seen.total() - before) / N_FAR_VIDEOS
    report.medians[f"S3, {name}, requests by video"] = by_video
    report.medians[f"S3, {name}, ms by video"] = 1000 * (time.perf_counter() - began) / N_FAR_VIDEOS
    return by_video


def main() -> None:
    """Measure and print."""
    report = Report("packed_store", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        measure_folder(Path(folder), report)
        measure_short(Path(folder), report)
        measure_listing(Path(folder), report)
    measure_requests(report)
    report.publish()


if __name__ == "__main__":
    main()
