"""A whole federation on a bus that trusts nobody: every process and every command may do what it has to, and is denied nothing.

The server has no user but the authorizer's two. Everybody else, whoever declares the streams included, is let in by an authorizer.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from accounts_story import GuardedServer, Processes
from machine_story import resource_yaml, settle_environment
from safetensors.numpy import load_file
from typer.testing import CliRunner

from fedplane.cli.credentials import read_bundle, render_bundle
from fedplane.cli.main import app
from fedplane.runtime.nats import NatsBus, open_bus
from fedplane.schemas.facts import Advertised, Aggregated, Completed, Fact, all_facts_of
from fedplane.schemas.roles import Role

CLUSTERS = ("alpha", "beta")
SERVICES = {"scheduler": Role.SCHEDULER, "aggregator": Role.AGGREGATOR, "status": Role.STATUS, "collaborator.driver": Role.DRIVER}
SECONDS = 90


@dataclass
class Federation:
    """The processes, and a person with a certificate."""

    it: GuardedServer
    processes: Processes
    bus: NatsBus
    bundle: Path

    async def command(self, *arguments: str, code: int = 0) -> str:
        """What a command says on its standard output. It must end so."""
        environment = {"FEDPLANE_NATS_URL": self.it.url, "FEDPLANE_CREDENTIALS": str(self.bundle), "COLUMNS": "100"}
        async with asyncio.timeout(SECONDS):
            said = await asyncio.to_thread(CliRunner(env=environment).invoke, app, arguments)
        assert said.exit_code == code, (arguments, said.output)
        return said.stdout

    async def until(self, run: str, kind: type[Fact]) -> list[Fact]:
        """The facts of the run so far, as soon as there is one of this kind."""
        facts: list[Fact] = []
        async with asyncio.timeout(SECONDS):
            async for batch in self.bus.log.tail([all_facts_of(run)]):
                facts += [record.fact for record in batch.records]
                if any(isinstance(fact, kind) for fact in facts):
                    return facts
        raise AssertionError("the log ended")

    async def advertised(self, *clusters: str) -> None:
        missing = set(clusters)
        async with asyncio.timeout(SECONDS):
            async for batch in self.bus.log.tail([Advertised.pattern()]):
                missing -= {record.fact.cluster for record in batch.records if isinstance(record.fact, Advertised)}
                if not missing:
                    return


@asynccontextmanager
async def federation(directory: Path) -> AsyncIterator[Federation]:
    """A server, two authorizers, each service once, and a collaborator for each cluster."""
    it = GuardedServer(directory)
    it.server.start()
    known = it.known(Role.OPERATOR, "ann")
    bundle = directory / "ann.pem"
    bundle.write_text(
        render_bundle(Role.OPERATOR, "ann", key=known.key.read_text(), certificate=known.pem, authority=it.ours.file.read_text())
    )
    bundle.chmod(0o600)
    try:
        async with Processes(directory) as processes:
            for replica in ("0", "1"):
                await processes.start(
                    f"authorizer-{replica}", "fedplane.authorizer.main", it.told(Role.AUTHORIZER) | {"FEDPLANE_REPLICA": replica}
                )
            for name, role in SERVICES.items():
                await processes.start(name, f"fedplane.{name}.main", it.told(role) | {"FEDPLANE_WORKDIR": str(directory / name)})
            for cluster in CLUSTERS:
                about = {"CLUSTER": cluster, "CLAIMS": json.dumps({"data": "/data"}), "WORKDIR": str(directory / cluster)}
                told = it.told(Role.COLLABORATOR, cluster) | {f"FEDPLANE_{name}": value for name, value in about.items()}
                await processes.start(cluster, "fedplane.collaborator.main", told)
            async with open_bus(it.url, name="test", source="/test", credentials=read_bundle(bundle)) as bus:
                up = Federation(it, processes, bus, bundle)
                await up.advertised(*CLUSTERS)
                yield up
    finally:
        it.server.stop()


async def test_a_run_completes_though_an_authorizer_is_killed_and_nobody_is_denied_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_environment(monkeypatch)
    asked, model = tmp_path / "run.yaml", tmp_path / "model.safetensors"
    async with federation(tmp_path) as it:
        runs = []
        for spec in ({}, {"strategy": {"name": "app"}}, {"server": {"rounds": 9, "minAvailableClients": 2}}):
            asked.write_text(resource_yaml(**{"server": {"rounds": 2, "minAvailableClients": 2}, **spec}))
            said = await it.command("submit", str(asked))
            runs += [word for word in said.split() if word.startswith("tiny-")]
        averaged, driven, cancelled = runs
        await it.command("cancel", cancelled)
        await it.until(averaged, Aggregated)
        await it.processes.kill("authorizer-0")
        for run in (averaged, driven):
            await it.until(run, Completed)
        shown = await it.command("get")
        await it.command("watch", averaged)
        await it.command("explain", averaged)
        await it.command("model", averaged, "--output", str(model))
        await it.command("clusters")
        heard = [await it.command("events", "--durable", "audit", "--from-start", "--no-wait") for _ in range(2)]
        await it.command("events", "--forget", "audit")
        await it.command("access", "revoke", "cli", "nobody", "--message", "nobody is there")
        listed = await it.command("access", "list")

    ends = {line.split()[0]: line.split()[1] for line in shown.splitlines() if line.startswith("tiny-")}
    assert ends == {averaged: "Completed", driven: "Completed", cancelled: "Failed"}
    assert load_file(model)
    assert [f"{averaged}.completed" in each for each in heard] == [True, False]
    assert "nobody" in listed
    assert [line for line in it.it.log.splitlines() if "violation" in line.casefold()] == []
