"""A store on object storage: the same arrays and the same guarantees as in a folder, against a local S3 server."""

import asyncio

import numpy as np
import pytest
from zarr.storage import FsspecStore

from abaw.core.read_ahead import map_ahead
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore
from abaw.tests.support.command_line import process_environment
from abaw.tests.support.processes import Started

boto3 = pytest.importorskip("boto3", reason="needs the packages of the extra `dev`")
pytest.importorskip("s3fs", reason="needs the packages of the extra `dev`")
moto_server = pytest.importorskip("moto.server", reason="needs the packages of the extra `dev`")

BUCKET, STORE = "affect", "s3://affect/store.zarr"


@pytest.fixture(scope="module")
def client():
    """A client of a new S3 server that the environment points to, with one empty bucket."""
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        found = boto3.client("s3")
        found.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield found
    server.stop()


def test_the_same_arrays_and_the_same_guarantees(tiny_demo, tiny_store, client, run_cli, tmp_path):
    for part in ("1/2", "2/2"):
        summary = extract(ExtractOptions(tiny_demo, STORE, ("hog",), device="cpu", part=part))
        assert summary.ok and summary.done
    remote, local = FeatureStore.open(STORE), FeatureStore.open(tiny_store)
    assert list(remote.videos("hog")) == list(local.videos("hog")) and remote.tasks() == local.tasks()
    for video in local.videos("hog"):
        assert np.array_equal(remote.read("hog", video).values, local.read("hog", video).values)
    trained = run_cli("train", "--task", "va", "--head", "ridge", "--store", STORE, "--runs", tmp_path / "runs")
    assert trained.exit_code == 0, trained.output

    flip_a_bit(client, "store.zarr/features/hog/demo-02/values/c/0/0")
    client.delete_object(Bucket=BUCKET, Key="store.zarr/features/hog/demo-03/zarr.json")
    found = run_cli("store", "verify", STORE)
    assert found.exit_code == 1 and "2 problems" in found.output
    assert "'demo-02' is damaged" in found.output and f"abaw store repair {STORE}" in found.output
    repaired = run_cli("store", "repair", STORE)
    assert repaired.exit_code == 0 and "2 dropped" in repaired.output
    again = extract(ExtractOptions(tiny_demo, STORE, ("hog",), device="cpu"))
    assert sorted(again.done) == ["demo-02", "demo-03"] and again.ok
    assert np.array_equal(FeatureStore.open(STORE).read("hog", "demo-02").values, local.read("hog", "demo-02").values)
    assert run_cli("store", "verify", STORE).exit_code == 0


def test_many_workers_write_one_store(tiny_demo, tiny_store, client, tmp_path):
    (tmp_path / "cluster.toml").write_text('[cluster]\nkind = "local"\nworkers = 2\n')
    place = f"s3://{BUCKET}/together.zarr"
    words = ("--data", tiny_demo, "--store", place, "--backbone", "hog", "--device", "cpu", "--cluster", "cluster.toml")
    with Started("abaw", "extract", *words, environment=process_environment(), folder=tmp_path) as driver:
        assert driver.end() == 0, driver.output
    remote, local = FeatureStore.open(place), FeatureStore.open(tiny_store)
    assert "done 7, skipped 0" in driver.output and remote.incomplete("hog") == []
    assert list(remote.videos("hog")) == list(local.videos("hog"))
    for video in local.videos("hog"):
        assert np.array_equal(remote.read("hog", video).values, local.read("hog", video).values)
    assert remote.notes.read() == {}, "no claim is left"


def test_writers_that_make_the_same_groups_at_once(client, monkeypatch):
    put = FsspecStore.set

    async def late(self, *arguments):
        await asyncio.sleep(0.05)  # as far away as object storage is
        await put(self, *arguments)

    monkeypatch.setattr(FsspecStore, "set", late)

    def write(number):
        store = FeatureStore.create(f"s3://{BUCKET}/race.zarr")
        return store.write_labels("va", f"video-{number}", "train", np.zeros((3, 2), np.float32))

    assert all(map_ahead(write, range(8), 8))
    assert len(FeatureStore.open(f"s3://{BUCKET}/race.zarr").labels("va")) == 8


def flip_a_bit(client, key):
    content = bytearray(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(Bucket=BUCKET, Key=key, Body=bytes(content))


def test_a_bucket_that_is_not_there(tiny_demo, client, run_cli):
    found = run_cli("store", "info", "s3://elsewhere/store.zarr")
    assert found.exit_code == 1 and "No feature store at s3://elsewhere/store.zarr" in found.output
    made = run_cli("extract", "--data", tiny_demo, "--store", "s3://elsewhere/store.zarr", "--backbone", "hog")
    assert made.exit_code == 1 and "Cannot create a feature store at s3://elsewhere/store.zarr" in made.output
