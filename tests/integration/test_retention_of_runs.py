"""What becomes of ended runs on a real server: archived, purged, forgotten, whatever is killed; and a log that is nearly full."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import yaml
from conftest import NatsServer
from federation_story import ended, federation, learning, model_bytes, submit
from line_story import line
from sources import ROOT

from fedplane.cli.archives import archive_of, facts_in
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Archived, Completed, Declined, all_facts_of
from fedplane.schemas.subjects import bulk_of_round, bulk_of_run
from fedplane.schemas.views import Phase, RunView

LOG_BYTES = 2_000_000
"""A fifth of it is enough for the run, whose shards of 64 bytes make its facts large."""


async def start(server: str, *command: str, **settings: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "FEDPLANE_NATS_URL": server, "FEDPLANE_INSECURE": "true", **settings}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-m", *command, env=environment, stdout=pipe, stderr=pipe)


async def fedplane(server: NatsServer, *arguments: str) -> tuple[int | None, str, str]:
    """How a command ended and what it said."""
    command = await start(server.url, "fedplane.cli.main", *arguments)
    async with asyncio.timeout(30):
        out, err = await command.communicate()
    return command.returncode, out.decode(), err.decode()


async def by_the_page(server: NatsServer, run: str, directory: Path) -> list[object]:
    """What the program in the how-to prints: the facts in the archive."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/keep-the-log-small.md").read_text(), re.DOTALL)
    (directory / "read_archive.py").write_text(program)
    reading = await asyncio.create_subprocess_exec(
        sys.executable, directory / "read_archive.py", server.url, run, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(reading.communicate(), 30)
    return [json.loads(line)["data"] for line in out.splitlines()]


@asynccontextmanager
async def status(url: str, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A status service of its own process that archives a second after the end."""
    process = await start(url, "fedplane.status.main", **{"FEDPLANE_RETENTION_SECONDS": "1", **settings})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def log_of(bus: NatsBus, run: str) -> list[Recorded]:
    """What the log says of the run now. A run of which nothing is left has no last fact to wait for, so another reader is asked."""
    records: list[Recorded] = []
    async with asyncio.timeout(10):
        async for batch in bus.log.tail([all_facts_of(run)]):
            records += batch.records
            if batch.live:
                break
    return records


async def until(happened: Callable[[list[Recorded]], bool], bus: NatsBus, run: str) -> list[Recorded]:
    async with asyncio.timeout(30):
        while not happened(records := await log_of(bus, run)):
            await asyncio.sleep(0.1)
    return records


def is_purged(records: list[Recorded]) -> bool:
    return [type(record.fact) for record in records] == [Archived]


async def archive(bus: NatsBus, run: str) -> list[Recorded]:
    archived = await archive_of(bus, run)
    assert archived is not None
    return [record async for record in facts_in(bus, archived)]


async def completed(bus: NatsBus, directory: Path, checkpoints: int = 1) -> str:
    """The id of a run in a federation that archives nothing. It has completed, is shown so, and has left its last models only."""
    async with federation(bus, directory):
        run = await submit(bus, learning(rounds={"checkpoints": checkpoints}))
        assert isinstance((await ended(bus, run))[-1], Completed)
        async with asyncio.timeout(30):
            while not await is_shown_completed(bus, run):
                await asyncio.sleep(0.05)
            while await models_beside(bus, run, checkpoints) or await bus.bulk.stored(bulk_of_round(run, "*", "update")):
                await asyncio.sleep(0.05)
    return run


async def is_shown_completed(bus: NatsBus, run: str) -> bool:
    viewed = await bus.views.get(run)
    return viewed is not None and RunView.model_validate_json(viewed.body).phase is Phase.COMPLETED


async def models_beside(bus: NatsBus, run: str, checkpoints: int) -> set[str]:
    """The rounds whose models are stored, but for the last ones."""
    rounds = {subject.split(".")[4] for subject in await bus.bulk.stored(bulk_of_round(run, "*", "model"))}
    return set(sorted(rounds, key=int)[:-checkpoints])


async def test_an_ended_run_leaves_the_log_and_its_facts_and_models_can_still_be_had(nats_server: NatsServer, tmp_path: Path) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        run = await completed(bus, tmp_path / "work", checkpoints=2)
        facts, full = await log_of(bus, run), await bus.log.usage()
        said = await fedplane(nats_server, "events", run, "--from-start", "--structured")
        last = await fedplane(nats_server, "model", run, "-o", str(tmp_path / "before"))
        async with status(nats_server.url):
            await until(is_purged, bus, run)

            less = await bus.log.usage()
            assert less.bytes < full.bytes / 20
            assert await archive(bus, run) == facts
            again = await fedplane(nats_server, "events", run, "--from-start", "--structured")
            assert (said[0], again[0]) == (0, 0)
            *lines, archived = again[1].splitlines()
            assert lines == said[1].splitlines()
            assert "io.fedplane.run.archived.v1" in archived
            assert await by_the_page(nats_server, run, tmp_path) == [json.loads(line)["data"] for line in lines]
            assert last[0] == (await fedplane(nats_server, "model", run, "-o", str(tmp_path / "after")))[0] == 0
            assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()
            older = await fedplane(nats_server, "model", run, "--round", "1", "-o", str(tmp_path / "older"))
            assert (older[0], (tmp_path / "older").stat().st_size) == (0, (tmp_path / "after").stat().st_size)
            gone = await fedplane(nats_server, "model", run, "--round", "0", "-o", str(tmp_path / "oldest"))
            assert (gone[0], f"training round 0 of {run} is not stored; those of 1, 2 are" in gone[2]) == (2, True)
            assert "Completed" in (await fedplane(nats_server, "get", run))[1]


async def test_replicas_that_start_on_a_purged_log_run_the_next_run_and_not_the_old_one(nats_server: NatsServer, tmp_path: Path) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        run = await completed(bus, tmp_path / "work")
        async with status(nats_server.url):
            await until(is_purged, bus, run)
        left = await log_of(bus, run)
        async with federation(bus, tmp_path / "work"):
            other = learning(name="next")
            facts = await ended(bus, await submit(bus, other))

        assert isinstance(facts[-1], Completed)
        assert await log_of(bus, run) == left


async def test_a_status_service_that_is_killed_between_archive_and_purge_is_followed_by_one_that_purges(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    killed: list[int] = []
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        run = await completed(bus, tmp_path / "work")
        facts = await log_of(bus, run)

        def passes(said: bytes) -> bool:
            """Kill whoever wants to purge the log, before the server hears of it."""
            if b"STREAM.PURGE.LOG" not in said:
                return True
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)
            return False

        async with line(nats_server.port, passes) as wire, status(wire.url) as victim:
            assert await asyncio.wait_for(victim.wait(), 30) == -signal.SIGKILL
        between = await log_of(bus, run)
        assert killed
        assert between[:-1] == facts
        assert isinstance(between[-1].fact, Archived)

        async with status(nats_server.url):
            left = await until(is_purged, bus, run)
        assert left == between[-1:]
        assert await archive(bus, run) == facts


async def test_in_the_end_nothing_is_left_of_a_run(nats_server: NatsServer, tmp_path: Path) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        run = await completed(bus, tmp_path / "work")
        async with (
            status(nats_server.url, FEDPLANE_ARCHIVE_RETENTION_SECONDS="1"),
            status(nats_server.url, FEDPLANE_ARCHIVE_RETENTION_SECONDS="1", FEDPLANE_REPLICA="1"),
        ):
            await until(lambda records: not records, bus, run)

        assert await bus.bulk.stored(bulk_of_run(run)) == frozenset()
        assert await bus.views.all() == []
        assert (await bus.log.usage()).bytes == 0


async def test_a_nearly_full_log_refuses_a_new_run_and_the_running_one_completes(nats_server: NatsServer, tmp_path: Path) -> None:
    async with (
        open_bus(nats_server.url, name="test", source="/test", limits=Limits(log_bytes=LOG_BYTES)) as bus,
        federation(bus, tmp_path / "work"),
    ):
        run = await submit(bus, learning(server={"rounds": 3, "minAvailableClients": 3}))
        number = 0
        while (await bus.log.usage()).bytes < LOG_BYTES * 0.8:
            number += 1
            filler = Declined(
                run="filler-1", round=1, cluster=f"c-{number}", at=datetime.now(UTC), reason="x", message="", detail="x" * 50_000
            )  # fmt: skip
            await bus.log.state(filler)
        (tmp_path / "pyproject.toml").touch()
        document = {**learning(name="late").model_dump(mode="json", by_alias=True), "metadata": {"name": "late"}}
        (tmp_path / "late.yaml").write_text(yaml.safe_dump(document))
        code, _, said = await fedplane(nats_server, "submit", str(tmp_path / "late.yaml"))
        facts = await ended(bus, run)

        assert code == 3
        assert "was not taken" in said
        assert "raise the limit of the stream LOG, or shorten FEDPLANE_RETENTION_SECONDS" in said
        end = facts[-1]
        assert isinstance(end, Completed)
        assert len(await model_bytes(bus, end.model)) > 0
        await bus.log.purge(Declined.pattern(run="filler-1"))
        assert (await fedplane(nats_server, "submit", str(tmp_path / "late.yaml")))[0] == 0
