"""Models leave the bus and come back by the commands that people type: to a folder, and to a bucket on a server of its own."""

import asyncio
import gc
import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from conftest import NatsServer
from federation_story import ended, federation, model_bytes
from kept_story import RUN, completed, file_of
from moto.server import ThreadedMotoServer
from safetensors.numpy import load_file
from test_cli_commands import Shell

from fedplane.cli.folders import BLOCK_BYTES, locate
from fedplane.cli.keeping import Outcome, keep
from fedplane.cli.manifest import origin
from fedplane.runtime.errors import BadInput, Corrupt, Unavailable
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats import Limits, open_bus
from fedplane.schemas.facts import Aggregated, Completed, Kept

BUCKET = "models"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    """A bucket on loopback. Its address and keys are in the environment, where Amazon's tools look for them."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    fsspec.filesystem("s3").clear_instance_cache()
    files().mkdir(BUCKET)
    yield server
    server.stop()
    fsspec.filesystem("s3").clear_instance_cache()


def files() -> fsspec.AbstractFileSystem:
    return fsspec.filesystem("s3", use_listings_cache=False)


def content() -> dict[str, bytes]:
    return {path.removeprefix(f"{BUCKET}/"): files().cat(path) for path in files().find(BUCKET)}


@pytest.fixture
def shell(tmp_path: Path, nats_server: NatsServer, bucket: ThreadedMotoServer) -> Shell:
    (tmp_path / "here").mkdir()
    return Shell(tmp_path / "here", nats_server.url)


async def test_a_model_goes_into_a_bucket_and_the_next_run_starts_from_there(
    bucket: ThreadedMotoServer, shell: Shell, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus, federation(bus, tmp_path / "work"):
        file = shell.write(server={"rounds": 1, "minAvailableClients": 3}, rounds={"checkpoints": 2})
        first = (await shell.run("submit", file, "--no-wait")).out.strip()
        await ended(bus, first)

        kept = await shell.run("keep", first, "--to", f"s3://{BUCKET}/tiny", "--known-as", f"s3://{BUCKET}/tiny/")
        again = await shell.run("keep", first, "--to", f"s3://{BUCKET}/tiny")
        local = await shell.run("keep", first, "--to", "models")
        downloaded = await shell.run("model", first, "-o", "model.safetensors")
        second = (await shell.run("submit", file, "--no-wait", "--from", f"s3://{BUCKET}/tiny")).out.strip()
        facts = await ended(bus, second)
        known = await bus.log.read(Kept.pattern(run=first, round=1))
        begun = await model_bytes(bus, next(fact.model for fact in facts if isinstance(fact, Aggregated) and fact.model))
        refused = await shell.run("submit", file, "--from", f"s3://{BUCKET}/nothing")

    here = tmp_path / "here"
    inside = await asyncio.to_thread(content)
    assert [said.code for said in (kept, again, local, downloaded)] == [0, 0, 0, 0], (kept, again, local)
    assert f"s3://{BUCKET}/tiny/model.safetensors: the model of training round 1 of {first} kept" in kept.err
    assert "was kept before" in again.err
    assert known is not None and isinstance(known.fact, Kept)
    assert (known.fact.round, known.fact.location) == (1, f"s3://{BUCKET}/tiny/model.safetensors")
    assert isinstance(facts[-1], Completed)
    assert inside == {f"tiny/{file.name}": file.read_bytes() for file in sorted((here / "models").iterdir())}
    assert inside["tiny/model.safetensors"] == begun == (here / "model.safetensors").read_bytes()
    assert json.loads(inside["tiny/manifest.json"])["origin"]["run"] == first
    assert sorted(load_file(here / "model.safetensors")) == ["b", "w"]
    assert (refused.code, "there is no such file" in refused.err) == (2, True)


async def test_an_upload_that_fails_leaves_the_old_model_in_the_bucket(bucket: ThreadedMotoServer) -> None:
    bus = MemoryBus()
    await keep(bus.bulk, *origin(await completed(bus), None), f"s3://{BUCKET}")
    before = await asyncio.to_thread(content)
    model, source = origin(await completed(bus, "next-1", 2), None)
    bus.bulk.chunks[f"{model.shards[1].subject}.0"] = bytes(16)

    with pytest.raises(Corrupt):
        await keep(bus.bulk, model, source, f"s3://{BUCKET}")

    assert await asyncio.to_thread(content) == before == {**before, "model.safetensors": file_of(2)}


def test_what_was_discarded_is_not_uploaded_after_all_when_it_is_collected(bucket: ThreadedMotoServer) -> None:
    upload = locate(f"s3://{BUCKET}")[0].begin("model.safetensors")
    upload.write(bytes(BLOCK_BYTES + 1))

    upload.discard()
    del upload
    gc.collect()

    assert (content(), files().list_multipart_uploads(BUCKET)) == ({}, [])


KILLED = """
import os, signal
from fedplane.cli.folders import BLOCK_BYTES, locate
upload = locate("s3://models")[0].begin("model.safetensors")
for _ in range(30):
    upload.write(bytes(1_000_000))
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_a_command_that_is_killed_while_parts_are_uploaded_leaves_the_old_model(bucket: ThreadedMotoServer) -> None:
    bus = MemoryBus()
    model, source = origin(await completed(bus), None)
    await keep(bus.bulk, model, source, f"s3://{BUCKET}")
    before = await asyncio.to_thread(content)

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED)

    assert await process.wait() == -9
    assert await asyncio.to_thread(content) == before
    assert await keep(bus.bulk, model, source, f"s3://{BUCKET}") == (Outcome.THERE, f"s3://{BUCKET}/model.safetensors")


def test_a_model_of_many_parts_comes_back_as_it_was(bucket: ThreadedMotoServer) -> None:
    folder, name = locate(f"s3://{BUCKET}/deep/large.safetensors")
    part = bytes(range(250)) * 4_000
    upload = folder.begin(name)
    for _ in range(25):
        upload.write(part)
    unseen = content()
    upload.commit()

    assert (unseen, name) == ({}, "large.safetensors")
    assert b"".join(folder.read(name)) == part * 25


async def test_a_bucket_that_is_not_there_and_a_server_that_is_away_are_told_apart(bucket: ThreadedMotoServer) -> None:
    bus = MemoryBus()
    model, source = origin(await completed(bus), None)

    with pytest.raises(BadInput, match="is there such a bucket"):
        await keep(bus.bulk, model, source, "s3://nobodys/models")
    bucket.stop()
    with pytest.raises(Unavailable, match="could not be read or written"):
        await keep(bus.bulk, model, source, f"s3://{BUCKET}")
    assert source.run == RUN
