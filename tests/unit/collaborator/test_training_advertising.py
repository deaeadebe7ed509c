"""How a cluster says what it offers, and is told what it is."""

import asyncio
import itertools
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from collaborator_story import Apps, collaborating, train, until
from pydantic import ValidationError

from fedplane.collaborator.advertising import advertise
from fedplane.collaborator.settings import CollaboratorSettings
from fedplane.runtime.errors import BadInput, Unreachable
from fedplane.runtime.memory import MemoryBus, MemoryLog
from fedplane.runtime.ports import Fence, Stated
from fedplane.schemas import quantities
from fedplane.schemas.facts import Advertised, Fact

NOW = datetime(2026, 5, 1, tzinfo=UTC)
OFFERED = Advertised(cluster="c1", at=NOW, lease_seconds=0.01, claims={"digits.client-data": "/data"}, frameworks=("flower",))


class FalteringLog(MemoryLog):
    """Answers from the second time on."""

    answers = False

    async def state(self, fact: Fact, *, fence: Fence | None = None, traceparent: str | None = None) -> Stated:
        if not self.answers:
            self.answers = True
            raise Unreachable("no server answers")
        return await super().state(fact, fence=fence, traceparent=traceparent)


async def test_an_offer_is_stated_again_as_of_now_even_if_the_bus_was_away():
    log = FalteringLog("/test")
    seconds = itertools.count()
    advertising = asyncio.create_task(advertise(log, OFFERED, lambda: NOW + timedelta(seconds=next(seconds))))
    async with asyncio.timeout(5):
        while len(log.records) < 2:
            await asyncio.sleep(0.001)
    advertising.cancel()

    assert [record.fact for record in log.records[:2]] == [
        OFFERED.model_copy(update={"at": NOW + timedelta(seconds=second)}) for second in (1, 2)
    ]


async def test_an_offer_that_no_advertisement_has_room_for_ends_the_collaborator():
    claims = {"digits": "x" * Advertised.bytes_max}

    with pytest.raises(BadInput, match=r"cannot be advertised with these claims and labels: .* such a fact may have 250000"):
        await advertise(MemoryLog("/test"), OFFERED.model_copy(update={"claims": claims}))


async def test_a_collaborator_advertises_what_it_was_told_and_what_it_can_run(tmp_path: Path):
    bus = MemoryBus()

    async with collaborating(bus, Apps(train), tmp_path, claims={"digits": "/data"}, labels={"region": "eu"}, cpu="2", memory="1Gi"):
        await until(lambda: bus.log.records)

    advertised = bus.log.records[0].fact
    assert advertised == Advertised(
        cluster="c1", at=advertised.at, lease_seconds=15, claims={"digits": "/data"}, labels={"region": "eu"},
        allocatable={"cpu": "2", "memory": "1Gi"}, frameworks=("flower", "openfl", "torch", "sklearn", "xgboost", "other"),
    )  # fmt: skip


async def test_a_collaborator_that_was_told_no_resources_advertises_those_of_its_machine(tmp_path: Path):
    bus = MemoryBus()

    async with collaborating(bus, Apps(train), tmp_path):
        await until(lambda: bus.log.records)

    allocatable = bus.log.records[0].fact.allocatable
    assert quantities.parse(allocatable["cpu"]) == os.cpu_count()
    assert quantities.parse(allocatable["memory"]) > 2**20


def test_claims_and_labels_are_json_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    given = {"CLUSTER": "c1", "CLAIMS": '{"digits.client-data": "/data"}', "LABELS": '{"region": "eu"}', "CPU": "500m", "APP": "/app"}
    for name, value in given.items():
        monkeypatch.setenv(f"FEDPLANE_{name}", value)

    settings = CollaboratorSettings()

    assert (settings.cluster, settings.claims, settings.labels) == ("c1", {"digits.client-data": "/data"}, {"region": "eu"})
    assert (settings.cpu, settings.memory, settings.app, settings.python) == ("500m", None, Path("/app"), None)


def test_a_cluster_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FEDPLANE_CLUSTER", raising=False)

    with pytest.raises(ValidationError, match="cluster"):
        CollaboratorSettings()
