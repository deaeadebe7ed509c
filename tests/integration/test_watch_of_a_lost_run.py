"""What a watch says when the server comes back without the run, and when it comes back with it."""

import asyncio
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import NatsServer

from fedplane.cli import runs
from fedplane.runtime.errors import BadInput
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.runtime.ports import Viewed
from fedplane.schemas.views import Phase, RunView

RUN = "mnist-5f3a9c1e"
LOOK_SECONDS = 0.1
LOST = f"the bus has the run {RUN} no longer: its store was deleted, or the run was forgotten; `fedplane get` lists those that are there"


async def show(bus: NatsBus, phase: Phase, sequence: int) -> None:
    at = datetime(2026, 3, 2, 12, tzinfo=UTC)
    view = RunView(
        run=RUN,
        name="mnist",
        namespace="default",
        phase=phase,
        message="",
        sequence=sequence,
        submitted_at=at,
        phases={},
        training_rounds=1,
    )
    await bus.views.put(Viewed(RUN, view.model_dump_json().encode(), sequence))


def delete_the_store(directory: Path) -> None:
    shutil.rmtree(directory / "store")


def leave_the_store(directory: Path) -> None:
    pass


async def phases_seen(server: NatsServer, meanwhile: Callable[[Path], None]) -> list[Phase]:
    """What a watch sees of a run that goes on when the server is back, if its store has been left alone."""
    seen = []
    async with open_bus(server.url, name="watch", source="/test", limits=Limits()) as bus, asyncio.timeout(30):
        await show(bus, Phase.RUNNING, 1)
        async for view in runs.follow(bus, RUN, look_seconds=LOOK_SECONDS):
            seen.append(view.phase)
            if view.phase is Phase.RUNNING:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(meanwhile, server.directory)
                await asyncio.to_thread(server.start)
                await go_on(server)
    return seen


async def go_on(server: NatsServer) -> None:
    async with open_bus(server.url, name="status", source="/test", limits=Limits()) as bus:
        if await bus.views.get(RUN):
            await show(bus, Phase.COMPLETED, 2)


async def test_a_watch_ends_with_a_sentence_when_the_store_was_deleted(nats_server: NatsServer) -> None:
    with pytest.raises(BadInput) as raised:
        await phases_seen(nats_server, delete_the_store)

    assert str(raised.value) == LOST


async def test_a_watch_goes_on_when_the_server_is_back_with_its_store(nats_server: NatsServer) -> None:
    assert await phases_seen(nats_server, leave_the_store) == [Phase.RUNNING, Phase.COMPLETED]


async def test_a_watch_that_is_given_up_can_be_closed(nats_server: NatsServer) -> None:
    async with open_bus(nats_server.url, name="watch", source="/test", limits=Limits()) as bus:
        await show(bus, Phase.RUNNING, 1)
        views = runs.follow(bus, RUN, look_seconds=LOOK_SECONDS)
        await anext(views)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(views), 3 * LOOK_SECONDS)

        assert await anext(views, None) is None
