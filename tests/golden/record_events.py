"""Writes one fact of each kind as real services stated it, a CloudEvent in JSON per line: golden events, which later versions have to read.

Run with fedplane's own Python; the output is kept beside this file, under the next number, and no older file is ever written again:

    .venv/bin/python tests/golden/record_events.py > tests/golden/events-N.jsonl

A federation of processes on this machine runs a Flower app: a run that completes although a cluster fails, one by a strategy that compares
updates, one that waits and is cancelled, one that fails since a weight is too great, one whose own server decides, and one that masks.
What only a hub's scheduler states comes from one on a hub in memory, with a real server.
Run ids are given; upload attempts, which are random, are numbered, and folders have other names than here.
`docs/events.md` shows the newest line of each kind.
"""

import asyncio
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "stories")]

from conftest import NatsServer  # noqa: E402 -- the path has to be set first
from hub_story import ask, edit, enlist, make_set, once, tending  # noqa: E402
from machine_story import REPOSITORY, TINY_APP, Machine, app_python, machine, resource_yaml  # noqa: E402

from fedplane.cli import requests, runs  # noqa: E402
from fedplane.runtime.archive import structured_line  # noqa: E402
from fedplane.runtime.kinds import NODE  # noqa: E402
from fedplane.runtime.memory_cluster import MemoryCluster  # noqa: E402
from fedplane.runtime.nats import Limits, open_bus  # noqa: E402
from fedplane.runtime.ports import Bus, Recorded  # noqa: E402
from fedplane.runtime.service import configure_logs  # noqa: E402
from fedplane.schemas.envelope import read, write  # noqa: E402
from fedplane.schemas.facts import FACTS, Advertised, Archived, EditRefused, Exposed, Fact, Granted, Revoked, Waiting, all_facts_of  # noqa: E402

__all__ = ["main"]

CLUSTERS = ("amsterdam", "berlin", "copenhagen")
RETENTION_SECONDS = 45
"""Long enough for everything to be said and read, so short that one waits for the archive."""

RUNS: dict[str, dict[str, Any]] = {
    "5f3a9c1e": {
        "name": "mnist", "config": {"trouble": "raise at copenhagen"}, "server": {"rounds": 2, "minAvailableClients": 3},
        "rounds": {"deadlineSeconds": 15, "quorum": 2},
    },
    "7c20b8d4": {
        "name": "robust", "strategy": {"name": "krum", "parameters": {"byzantine": 0}}, "server": {"rounds": 1, "minAvailableClients": 3},
    },
    "1d9e6a02": {"name": "crowded", "server": {"rounds": 1, "minAvailableClients": 9}},
    "e4471b3f": {"name": "strict", "rounds": {"attempts": 1, "weightMax": 25}},
    "90ab52c6": {"name": "ours", "strategy": {"name": "app"}},
    "2b77d01c": {
        "name": "masked", "privacy": {"secureAggregation": {"stepSeconds": 5}}, "server": {"rounds": 1, "minAvailableClients": 3},
        "rounds": {"evaluate": False},
    },
}  # fmt: skip
"""The runs by the beginning of their uids."""


async def submit(it: Machine, uid: str) -> str:
    file = it.directory / "run.yaml"
    file.write_text(resource_yaml(**RUNS[uid]))
    resource = requests.read(file)
    metadata = resource.metadata.model_copy(update={"uid": f"{uid}-20d4-4c3e-9d35-0c5d7c1b7a11"})
    run, _ = await runs.submit(it.bus, resource.model_copy(update={"metadata": metadata}), datetime.now(UTC))
    return run


async def of_processes(directory: Path) -> list[Recorded]:
    os.environ |= {
        "FEDPLANE_INSECURE": "true",
        "FEDPLANE_PYTHON": str(app_python()), "FEDPLANE_SHARD_BYTES": "800000", "FEDPLANE_CHUNK_BYTES": "400000",
        "FEDPLANE_RETENTION_SECONDS": str(RETENTION_SECONDS),
    }  # fmt: skip
    async with machine(directory, CLUSTERS) as it:
        told = [record async for record in now(it.bus, Advertised.pattern())]
        told += await of_access(it)
        for uid in RUNS:
            run = await submit(it, uid)
            if RUNS[uid]["name"] == "crowded":
                await it.until(run, lambda record: isinstance(record.fact, Waiting))
                await runs.cancel(it.bus, run, datetime.now(UTC), "wrong data")
            await it.end_of(run)
            if RUNS[uid]["name"] == "mnist":
                first = run
                keep = [sys.executable, "-m", "fedplane.cli.main", "keep", run, "--url", it.up.nats_url]
                keep += ["--to", str(directory / "kept"), "--known-as", "pvc://models"]
                await asyncio.to_thread(subprocess.run, keep, check=True, capture_output=True)
        await asyncio.sleep(15)  # deadlines pass
        told += [record async for record in now(it.bus, all_facts_of())]
        told.append(await it.until(first, lambda record: isinstance(record.fact, Archived)))
    return told


async def of_access(it: Machine) -> list[Recorded]:
    """A subscriber is let in, and a cluster that nobody has is thrown out, by the command; this bus heeds neither."""
    keys = str(it.directory / "keys")
    for words in (
        ("init", keys),
        (
            "grant",
            "dashboard",
            "--subscribe",
            "fed.v1.run.*.completed",
            "--namespace",
            "team-a",
            "--authority",
            keys,
            "--url",
            it.up.nats_url,
        ),
        ("revoke", "collaborator", "dublin", "--message", "its disk was stolen", "--url", it.up.nats_url),
    ):
        command = [sys.executable, "-m", "fedplane.cli.main", "access", *words]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, cwd=it.directory)
    return [*[record async for record in now(it.bus, Granted.pattern())], *[record async for record in now(it.bus, Revoked.pattern())]]


async def of_a_hub(directory: Path) -> list[Recorded]:
    server, hub = NatsServer(directory), MemoryCluster()
    server.start()
    await make_set(hub)
    await enlist(hub, *CLUSTERS[:2])
    await hub.create(NODE, {"metadata": {"name": "node-1"}})
    status = {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "172.18.0.2"}]}
    await hub.merge(NODE, "node-1", {"status": status}, subresource="status")
    async with open_bus(server.url, name="scheduler", source="/fedplane/scheduler/0", limits=Limits()) as bus:
        async with tending(bus.log, hub, bus="fedplane"):
            listeners = [{"name": "server-listener", "port": 31531, "type": "NodePort"}, {"port": 8080, "type": "LoadBalancer"}]
            run = await ask(hub, "mnist", server={"rounds": 3, "listeners": listeners})
            await once(bus.log, run, Exposed)
            await edit(hub, "mnist", server={"rounds": 9, "listeners": listeners})
            await once(bus.log, run, EditRefused)
        told = [record async for record in now(bus, all_facts_of(run))]
    server.stop()
    return told


async def now(bus: Bus, pattern: str) -> AsyncIterator[Recorded]:
    async for batch in bus.log.tail([pattern]):
        for record in batch.records:
            yield record
        if batch.live:
            return


def made_stable(records: list[Recorded], directory: Path) -> list[Recorded]:
    """The same with other names for what is random or of this machine, and with the ids that follow."""
    text = json.dumps([[record.body.decode(), record.source] for record in records])
    attempts = dict.fromkeys(
        re.findall(r'\\"attempt\\": ?\\"([a-z0-9]+)\\"|\.(?:update\.[a-z]+|model|asked|reply|archive)\.([a-z0-9]{6,})', text)
    )
    names = {name: f"a{number}" for number, name in enumerate(dict.fromkeys("".join(each) for each in attempts), 1)}
    for old, new in {
        str(TINY_APP): "/apps/mnist",
        str(REPOSITORY): "/src",
        str(directory): "/data",
        "/test": "/fedplane/cli",
        **names,
    }.items():
        text = re.sub(rf"(?<![a-z0-9]){re.escape(old)}(?![a-z0-9])", new, text)
    return [rewritten(record, body, source) for record, (body, source) in zip(records, json.loads(text), strict=True)]


def rewritten(record: Recorded, body: str, source: str) -> Recorded:
    kind = type(record.fact)
    fact = kind.model_validate_json(body)
    wire = write(fact, source)
    assert read(wire.subject, wire.headers, wire.body) == fact
    return dataclasses.replace(record, fact=fact, id=wire.id, source=source, body=wire.body)


def one_of_each(records: list[Recorded]) -> list[Recorded]:
    """The first of each kind, in the order of the vocabulary; of an aggregation the one that has metrics."""
    found: dict[type[Fact], Recorded] = {}
    for record in records:
        held = found.get(type(record.fact))
        if held is None or not (getattr(held.fact, "metrics", True) or held.fact.type.endswith("evaluated.v1")):
            found[type(record.fact)] = record
    return [found[kind] for kind in FACTS if kind in found]


@asynccontextmanager
async def folder() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


async def main() -> None:
    """See the module's description."""
    configure_logs("warning")
    async with folder() as directory:
        hub = await of_a_hub(directory / "nats")
        processes = await of_processes(directory)
        for record in one_of_each(made_stable([*processes, *hub], directory)):
            sys.stdout.write(structured_line(record).decode() + "\n")


if __name__ == "__main__":
    asyncio.run(main())
