"""`fedplane access` as a person uses it, on a federation of real processes: who is let in hears what was granted, who is revoked is out."""

import asyncio
import json
import os
import ssl
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import nats
import nats.errors
from conftest import NatsServer
from nats.aio.client import Client

from fedplane.cli.connection import Server
from fedplane.cli.deployment import Deployment, roles
from fedplane.cli.directory import Directory
from fedplane.cli.doctor.findings import Level
from fedplane.cli.doctor.probing import bus_findings
from fedplane.cli.federation import federation
from fedplane.cli.supervisor import Stages
from fedplane.runtime.nats import Limits, open_bus
from fedplane.schemas.facts import EVERYTHING, Advertised, Granted, Revoked

HEARD = Advertised.pattern()
SECONDS = 30


def some(deployment: Deployment) -> Stages:
    """Whoever declares the streams, and collaborators; the rest of a federation has no part in this."""
    services, others = roles(deployment)
    return services[:1], tuple(each for each in others if each.name.startswith("collaborator"))


@asynccontextmanager
async def subscriber(bundle: Path, url: str, *subjects: str) -> AsyncIterator[tuple[list[str], list[str], Client]]:
    """What somebody with this bundle hears, of what the server complains to him, and his connection; made with the library alone."""
    tls = ssl.create_default_context(cafile=str(bundle))
    tls.load_cert_chain(bundle)
    heard: list[str] = []
    complaints: list[str] = []

    async def complained(error: Exception) -> None:
        complaints.append(str(error))

    async def hear(message: nats.aio.msg.Msg) -> None:
        heard.append(message.subject)

    client = await nats.connect(url, tls=tls, error_cb=complained, reconnect_time_wait=0.1, max_reconnect_attempts=-1)
    try:
        for subject in subjects:
            await client.subscribe(subject, cb=hear)
        await client.flush()
        yield heard, complaints, client
    finally:
        await client.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


class Person:
    """Types commands beside a federation."""

    def __init__(self, state: Path) -> None:
        self._state = state

    async def types(self, *words: str) -> tuple[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FEDPLANE_")}
        command = (sys.executable, "-m", "fedplane.cli.main", "access", *words, "--state", str(self._state))
        process = await create_subprocess_exec(*command, cwd=self._state.parent, env=environment, stdout=PIPE, stderr=PIPE)
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode(), err.decode()


async def test_who_is_granted_something_hears_that_and_who_is_thrown_out_is_out_until_let_in_again(tmp_path: Path) -> None:
    state, person = tmp_path / "state", Person(tmp_path / "state")
    (tmp_path / "clusters.yaml").write_text("clusters: [{name: amsterdam}]")
    log = Directory.at(state).logs / "authorizer.log"

    def said(event: str, *words: str) -> int:
        return sum(event in line and all(word in line for word in words) for line in log.read_text().splitlines())

    async with federation(state, clusters=tmp_path / "clusters.yaml", port=0, table=some, clusters_seconds=SECONDS) as up:
        out, err = await person.types("grant", "dashboard", "--subscribe", HEARD, "--expires", "2h")
        first = tmp_path / "first.pem"
        first.write_bytes((tmp_path / out.strip()).read_bytes())
        async with subscriber(first, up.nats_url, HEARD, EVERYTHING) as (heard, complaints, client):
            await until(lambda: heard)
            assert set(heard) == {"fed.v1.fleet.amsterdam.advertised"}
            assert complaints == [f'nats: permissions violation for subscription to "{EVERYTHING}"']

            await person.types("revoke", "collaborator", "amsterdam", "--message", "stolen")
            await until(lambda: said("refused a connection", "collaborator amsterdam", "kind=revoked"))
            before = said("let a connection in", "role=collaborator", "name=amsterdam")
            await person.types("restore", "collaborator", "amsterdam")
            await until(lambda: said("let a connection in", "role=collaborator", "name=amsterdam") > before)

            await person.types("grant", "dashboard", "--subscribe", HEARD)
            await until(lambda: said("refused a connection", "subscriber dashboard", "kind=not-granted"))
            assert not client.is_connected
        async with subscriber(tmp_path / "dashboard.pem", up.nats_url, HEARD) as (heard, complaints, _):
            await until(lambda: heard)
            listed, _ = await person.types("list", "-o", "json")
            looked = await asyncio.to_thread(bus_findings, Server(up.nats_url, up.credentials), local=True)

    assert f"dashboard hears {HEARD} until " in err
    assert f"nats --server {up.nats_url} --tlscert dashboard.pem" in err
    assert complaints == []
    assert [found.what for found in looked if found.level is not Level.OK and found.area != "roles"] == []
    assert [found.what for found in looked if found.check in ("granted", "revoked")] == ["subscribers: dashboard", "nobody was thrown out"]
    assert [(each["role"], each["name"], each["standing"], each["patterns"]) for each in json.loads(listed)] == [
        ("collaborator", "amsterdam", "granted", []), ("subscriber", "dashboard", "granted", [HEARD]),
    ]  # fmt: skip


async def test_of_access_nobody_hears_and_everybody_who_may_read_the_log_reads(nats_server: NatsServer) -> None:
    now, heard = datetime.now(UTC), list[str]()
    facts = (Granted(role="cli", name="anna", at=now), Revoked(role="cli", name="anna", at=now))
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        client = await nats.connect(nats_server.url)
        subscription = await client.subscribe(EVERYTHING)
        for fact in (*facts, Advertised(cluster="a", at=now, lease_seconds=9)):
            await bus.log.state(fact)
        heard.append((await subscription.next_msg(5)).subject)
        await client.close()
        held = [await bus.log.read(fact.subject) for fact in facts]

    assert heard == ["fed.v1.fleet.a.advertised"]
    assert [record and record.fact for record in held] == list(facts)
