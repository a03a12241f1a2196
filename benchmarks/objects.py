"""A store on a local S3 server that counts requests and makes each of them wait, as object storage does."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.many import write_labels, write_videos
from benchmarks.measure import Report
from benchmarks.nothing_family import NOTHING, register_nothing

LATENCY_S = 0.02  # of S3 from a machine in the same region
FEW, MANY = 8, 32  # videos; a store reads eight at a time
N_FRAMES = 300
BUCKET = "affect"
METHOD = [
    f"Requests are those that a local S3 server (moto) receives from one process, {1000 * LATENCY_S:.0f} ms late each: "
    f"of {MANY} videos of {N_FRAMES} frames minus of {FEW}, by video.",
]


class Counting:
    """A WSGI application around another one."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self.seen: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Count a request, wait, and hand it on."""
        kind = environ["REQUEST_METHOD"]
        if kind == "GET" and "list-type" in environ.get("QUERY_STRING", ""):
            kind = "LIST"
        self.seen[kind] += 1  # the name alone tells what is paid for; moto's threads hold the lock of the interpreter
        time.sleep(LATENCY_S)
        return self._application(environ, start_response)


@contextmanager
def s3_server() -> Iterator[Counting]:
    """A new S3 server that the environment points to, with one empty bucket."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:
            """Nothing."""

    counting = Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        place = {"LocationConstraint": "eu-west-1"}
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        yield counting
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        server.shutdown()
        thread.join()


def count_requests(root: Path, report: Report) -> None:
    """Requests and time by video of an extraction, of another one when all is there, of verifying and of loading."""
    from abaw.store import FeatureStore

    register_nothing(16)
    with s3_server() as counting:
        FeatureStore.create(f"s3://{BUCKET}/first.zarr")  # the first connection of a process takes longer
        few, many = (_stages(root / str(n_videos), n_videos, counting) for n_videos in (FEW, MANY))
    for stage, (seen, seconds) in many.items():
        seen_of_few, seconds_of_few = few[stage]
        by_video = {kind: (seen[kind] - seen_of_few[kind]) / (MANY - FEW) for kind in sorted(seen)}
        for kind, n in by_video.items():
            report.medians[f"S3, {stage}, {kind} by video"] = n
        report.medians[f"S3, {stage}, requests that do not depend on the videos"] = (
            sum(seen.values()) - sum(by_video.values()) * MANY
        )
        per_video_s = (seconds - seconds_of_few) / (MANY - FEW)
        report.medians[f"S3, {stage}, ms by video"] = 1000 * per_video_s


def _stages(root: Path, n_videos: int, counting: Counting) -> dict[str, tuple[Counter[str], float]]:
    """By stage, requests and seconds; a labelled video has labels of all three tasks."""
    from abaw.core.progress import Silent
    from abaw.pipeline import ExtractOptions, extract
    from abaw.store import FeatureStore
    from abaw.store.audit import verify_store
    from abaw.train.config import make_config
    from abaw.train.new_run import load_tables

    data, place = write_videos(root, n_videos, N_FRAMES, 16), f"s3://{BUCKET}/{n_videos}.zarr"
    unlabelled = ExtractOptions(data, place, (NOTHING,), device="cpu")
    found: dict[str, tuple[Counter[str], float]] = {}

    def measure(stage: str, action: Callable[[], object]) -> None:
        before, began = Counter(counting.seen), time.perf_counter()
        action()
        found[stage] = (counting.seen - before, time.perf_counter() - began)

    def run(n_done: int) -> None:
        summary = extract(unlabelled)
        assert summary.ok and len(summary.done) == n_done, summary

    measure("extract, without labels", lambda: run(n_videos))
    write_labels(data, N_FRAMES, labelled=1.0)
    measure("labels of three tasks, written", lambda: run(0))
    measure("extract again, nothing to do, three labels each", lambda: run(0))
    store = FeatureStore.open(place)
    measure("list of complete videos", lambda: store.videos(NOTHING))
    measure("verify, three labels each", lambda: verify_store(store, Silent()))
    config = make_config({"task": "va", "features": (NOTHING,)})
    measure("table of training", lambda: load_tables(config, store))
    return found
