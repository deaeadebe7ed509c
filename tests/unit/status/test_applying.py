"""How statuses and Events get to a hub, whatever its API server does meanwhile: a bus and an API server in memory."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from status_story import Story, viewed

from fedplane.runtime.errors import ApiDenied, Invalid
from fedplane.runtime.kinds import EVENT, FEDERATED_LEARNING
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.objects import Kind, Object, Subresource
from fedplane.runtime.replica import Replica
from fedplane.schemas import facts
from fedplane.schemas.names import run_id
from fedplane.schemas.views import RunView
from fedplane.status.kube import Applying
from fedplane.status.outward import status_of
from fedplane.status.pacing import Pace
from fedplane.status.phases import Phases, ShowRun

QUICK = Pace(write_seconds=0.05, gone_seconds=0.2)
OBJECT = {"metadata": {"name": "mnist", "namespace": "research"}, "spec": {}}


class Hub(MemoryCluster):
    """An API server that keeps account of what is asked of it, and may refuse some of it."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up = 0
        self.knows_kinds = True
        self.statuses: list[dict[str, Any]] = []
        self.events: list[str] = []
        self.refusing: dict[Kind, Exception] = {}
        self.takes_seconds = 0.0

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """See `Objects.get`."""
        self.looked_up += 1
        return await super().get(kind, name, namespace) if self.knows_kinds else None

    async def apply(self, kind: Kind, body: Object, manager: str, *, subresource: Subresource = "", force: bool = False) -> Object:
        """See `Objects.apply`."""
        await asyncio.sleep(self.takes_seconds)
        if kind in self.refusing:
            raise self.refusing[kind]
        applied = await super().apply(kind, body, manager, subresource=subresource, force=force)
        if kind is EVENT:
            self.events.append(body["reason"])
        else:
            self.statuses.append(body["status"])
        return applied


@dataclass
class Asked:
    """A run that an object asks for, on a bus that says nothing of it yet."""

    bus: MemoryBus
    hub: Hub
    story: Story

    async def say(self, *said: facts.Fact) -> None:
        for fact in said:
            await self.bus.log.state(fact)

    async def status(self) -> dict[str, Any]:
        live = await MemoryCluster.get(self.hub, FEDERATED_LEARNING, "mnist", "research")
        assert live is not None
        told: dict[str, Any] = live.get("status", {})
        return told

    async def until(self, view: RunView) -> None:
        async with asyncio.timeout(5):
            while await self.status() != status_of(view):
                await asyncio.sleep(0.005)


@pytest.fixture
async def run() -> Asked:
    hub = Hub()
    made = await hub.create(FEDERATED_LEARNING, OBJECT)
    uid = made["metadata"]["uid"]
    return Asked(MemoryBus(), hub, Story(run_id("mnist", uid), uid))


@asynccontextmanager
async def service(run: Asked, pace: Pace = QUICK) -> AsyncIterator[Applying]:
    """A replica of the service. Its clock stands still a little after the run."""
    applying = Applying(run.hub, pace, clock=lambda: run.story.at(30))
    replica = asyncio.create_task(Replica(Phases(100), run.bus.log, perform=applying).run())
    yield applying
    replica.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replica


async def test_a_whole_run_is_seen_on_its_object_with_its_events(run: Asked) -> None:
    whole = run.story.whole()
    async with service(run):
        for number, fact in enumerate(whole, 1):
            await run.say(fact)
            await run.until(viewed(*whole[:number]))

    phases = [status["phase"] for status in run.hub.statuses]
    assert (phases.count("Waiting"), phases.count("Running"), phases.count("Completed")) == (3, 12, 1)
    assert run.hub.events == [
        "NotEnoughClusters", "Scheduled", "Started", "RoundAggregated", "ContributionRefused", "RoundAggregated", "ClusterDeclined",
        "Completed",
    ]  # fmt: skip
    assert len(await run.hub.all(EVENT, "research")) == 7


async def test_a_burst_of_two_hundred_facts_costs_few_writes_and_the_last_state_is_written(run: Asked) -> None:
    s = run.story
    burst = [s.submitted(rounds=100), s.started()]
    burst += [fact for number in range(1, 100) for fact in (s.opened(4, number, number), s.aggregated(5, number, number))]
    began = asyncio.get_running_loop().time()
    async with service(run, Pace(write_seconds=0.5)):
        for fact in burst:
            await run.say(fact)
            await asyncio.sleep(0.002)
        await run.until(viewed(*burst))
    seconds = asyncio.get_running_loop().time() - began

    assert len(burst) == 200
    assert len(run.hub.statuses) <= 1 + seconds / 0.5, "one at once, and then one each half second"
    assert len(run.hub.events) <= 2 + len(run.hub.statuses)


async def test_another_manager_s_fields_stay_as_they_are(run: Asked) -> None:
    theirs = {"metadata": OBJECT["metadata"], "status": {"audit": {"by": "somebody"}}}
    await run.hub.apply(FEDERATED_LEARNING, theirs, "auditor", subresource="status")
    async with service(run):
        await run.say(run.story.submitted(), run.story.scheduled())
        async with asyncio.timeout(5):
            while (await run.status()).get("sequence") != 2:
                await asyncio.sleep(0.005)
        moved = {"by": "somebody else"}
        await run.hub.apply(FEDERATED_LEARNING, {**theirs, "status": {"audit": moved}}, "auditor", subresource="status")
        await run.say(run.story.started())
        async with asyncio.timeout(5):
            while (await run.status()).get("sequence") != 3:
                await asyncio.sleep(0.005)

    assert await run.status() == {
        **status_of(viewed(run.story.submitted(), run.story.scheduled(), run.story.started())),
        "audit": moved,
    }


async def test_what_somebody_else_said_of_the_phase_and_of_listeners_is_taken_over(run: Asked) -> None:
    theirs = {"metadata": OBJECT["metadata"], "status": {"phase": "Failed", "message": "x", "listeners": [{"address": "10.0.0.1:1"}]}}
    exposed = run.story.exposed(1, 1, "172.18.0.2:31531")
    await run.hub.apply(FEDERATED_LEARNING, theirs, "upstream", subresource="status")
    async with service(run):
        await run.say(run.story.submitted(), exposed)
        await run.until(viewed(run.story.submitted(), exposed))

    assert len(run.hub.statuses) == 2


async def test_a_second_and_a_fresh_replica_write_nothing_that_is_written(run: Asked) -> None:
    whole = run.story.whole()
    await run.say(*whole)
    async with service(run):
        await run.until(viewed(*whole))
        async with service(run), service(run):
            async with asyncio.timeout(5):
                while run.hub.looked_up < 3:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)

    assert [status["phase"] for status in run.hub.statuses] == ["Completed"]
    assert len(await run.hub.all(EVENT, "research")) == 6


async def test_who_knows_less_does_not_take_back_what_is_told(run: Asked) -> None:
    whole = run.story.whole()
    ahead, behind = Applying(run.hub, QUICK), Applying(run.hub, QUICK)

    await ahead(ShowRun(viewed(*whole)))
    await behind(ShowRun(viewed(*whole[:3])))

    assert await run.status() == status_of(viewed(*whole))


async def test_what_comes_while_a_write_is_under_way_is_written_next_and_by_one_task(run: Asked) -> None:
    whole = run.story.whole()
    run.hub.takes_seconds = 0.05
    applying = Applying(run.hub, QUICK)

    first = asyncio.create_task(applying(ShowRun(viewed(*whole[:1]))))
    await asyncio.sleep(0.02)
    await asyncio.wait_for(asyncio.gather(*(applying(ShowRun(viewed(*whole[:number]))) for number in (5, 3, 9, 7))), 0.02)
    await first

    assert [status["sequence"] for status in run.hub.statuses] == [1, 9]


async def test_while_the_server_is_away_nothing_is_lost_and_only_the_newest_state_is_written(run: Asked) -> None:
    whole = run.story.whole()
    async with service(run):
        await run.say(*whole[:3])
        await run.until(viewed(*whole[:3]))
        await run.hub.reach(False)
        for fact in whole[3:]:
            await run.say(fact)
            await asyncio.sleep(0.01)
        before = len(run.hub.statuses)
        await run.hub.reach(True)
        await run.until(viewed(*whole))
        async with asyncio.timeout(5):
            while "Completed" not in run.hub.events:  # they follow the status
                await asyncio.sleep(0.005)

    assert len(run.hub.statuses) == before + 1


@pytest.mark.parametrize("uid", ["", "ffffffff-20d4-4c3e-9d35-0c5d7c1b7a11"])
async def test_an_object_of_the_same_name_that_did_not_ask_for_the_run_gets_nothing(run: Asked, uid: str) -> None:
    stranger = Story(uid=uid)
    async with service(run):
        await run.say(stranger.submitted(), stranger.scheduled())
        await asyncio.sleep(0.1)
        looked_up = run.hub.looked_up
        await run.say(stranger.started())
        await asyncio.sleep(0.1)

    assert (run.hub.statuses, run.hub.events) == ([], [])
    assert looked_up == run.hub.looked_up == (1 if uid else 0)


async def test_an_object_that_was_deleted_is_looked_for_a_while_and_then_never_again(
    run: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    async with service(run) as applying:
        await run.say(run.story.submitted())
        await run.until(viewed(run.story.submitted()))
        await run.hub.delete(FEDERATED_LEARNING, "mnist", "research")
        await run.say(run.story.scheduled())
        await asyncio.sleep(0.5)
        looked_up = run.hub.looked_up
        await applying(ShowRun(viewed(*run.story.whole())))

    assert 3 <= looked_up <= 6
    assert run.hub.looked_up == looked_up
    assert len(run.hub.statuses) == 1
    assert "nothing is written any more" in capsys.readouterr().out


async def test_a_server_that_has_just_started_and_does_not_know_the_object_yet_is_asked_again(run: Asked) -> None:
    run.hub.knows_kinds = False
    async with service(run):
        await run.say(run.story.submitted())
        await asyncio.sleep(0.05)
        run.hub.knows_kinds = True
        await run.until(viewed(run.story.submitted()))

    assert len(run.hub.statuses) == 1


async def test_a_missing_permission_is_named_once_and_asked_for_again(run: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    run.hub.refusing = {FEDERATED_LEARNING: ApiDenied("User status cannot patch resource federatedlearnings/status")}
    async with service(run):
        await run.say(run.story.submitted())
        await asyncio.sleep(0.2)
        await run.say(run.story.scheduled())
        await asyncio.sleep(0.1)
        run.hub.refusing = {}
        await run.until(viewed(run.story.submitted(), run.story.scheduled()))

    said = capsys.readouterr().out
    assert (
        len(re.findall("no permission to write status; grant get on federatedlearnings and patch on federatedlearnings/status", said)) == 1
    )
    assert "cannot patch resource" in said


async def test_events_that_are_refused_do_not_hold_up_the_status(run: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    run.hub.refusing = {EVENT: ApiDenied("no")}
    async with service(run):
        await run.say(*run.story.whole())
        await run.until(viewed(*run.story.whole()))
        await asyncio.sleep(0.02)

    assert len(re.findall("grant create and patch on events", capsys.readouterr().out)) == 1


async def test_a_status_that_the_schema_refuses_is_not_tried_again_but_the_next_one_is(
    run: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    run.hub.refusing = {FEDERATED_LEARNING: Invalid("status.phase: Unsupported value")}
    async with service(run):
        await run.say(run.story.submitted())
        await asyncio.sleep(0.3)
        run.hub.refusing = {}
        await run.say(run.story.scheduled())
        await run.until(viewed(run.story.submitted(), run.story.scheduled()))

    assert len(re.findall("can never be written", capsys.readouterr().out)) == 1


async def test_runs_do_not_wait_for_one_that_is_missing(run: Asked) -> None:
    missing = [Story(f"other-{number}", f"{number:08}-0", name=f"other-{number}") for number in range(20)]
    async with service(run):
        await run.say(*(story.submitted() for story in missing), run.story.submitted())
        async with asyncio.timeout(5):
            while (await run.status()).get("phase") != "Waiting":
                await asyncio.sleep(0.005)

    assert len(run.hub.statuses) == 1
