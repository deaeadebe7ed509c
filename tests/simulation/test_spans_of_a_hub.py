"""What happens on a hub and beside an app's own server is part of its run's trace, and what is refused says so."""

from pathlib import Path

from federation_story import ended, federation, submit
from federation_story import learning as tiny
from hub_story import ask, enlist, make_set, once, tending
from telemetry_story import kept
from work_story import begin, join, scheduler, until, until_works

from fedplane.runtime.errors import ApiDenied
from fedplane.runtime.kinds import JOB, MANIFEST_WORK
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.objects import Kind, Object
from fedplane.runtime.spans import round_traceparent, run_traceparent
from fedplane.schemas.facts import Asked, Completed, Scheduled

APP = {"name": "app"}


async def test_each_work_that_is_sent_is_a_span_of_its_run() -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a", "b")
    with kept() as told:
        async with scheduler(bus.log, hub):
            await begin(bus.log, "r-1", "a", "b")
            await until_works(hub, ("a", "r-1"), ("b", "r-1"))

    sent = sorted(told.named("send work"), key=lambda span: str(span[1]["fedplane.cluster"]))
    assert sent == [
        (run_traceparent("r-1"), {"fedplane.run": "r-1", "fedplane.cluster": cluster, "k8s.namespace.name": cluster}) for cluster in "ab"
    ]


async def test_a_work_that_the_hub_refuses_is_a_span_that_failed() -> None:
    class Refusing(MemoryCluster):
        refusals = 0

        async def apply(self, kind: Kind, body: Object, *arguments: object, **options: object) -> Object:
            if kind is MANIFEST_WORK:
                self.refusals += 1
                raise ApiDenied("no right to patch manifestworks")
            return await super().apply(kind, body, *arguments, **options)

    bus, hub = MemoryBus(), Refusing()
    await join(hub, "a")

    async def refused() -> bool:
        return hub.refusals > 0

    with kept() as told:
        async with scheduler(bus.log, hub):
            await begin(bus.log, "r-1", "a")
            await until(refused, True)

    assert set(told.failed) == {"send work"}


async def test_the_launch_of_a_driver_is_a_span_of_its_run() -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await make_set(hub)
    await enlist(hub, "a")
    with kept() as told:
        async with tending(bus.log, hub):
            run = await ask(hub, strategy=APP)
            await once(bus.log, run, Scheduled)
            await until(lambda: _jobs(hub), [f"driver-{run}"])

    job = {"fedplane.run": run, "k8s.job.name": f"driver-{run}", "k8s.namespace.name": "default"}
    assert told.named("launch driver") == [(run_traceparent(run), job)]


async def test_a_driver_tells_of_its_server_and_of_each_round_that_it_asks_for(tmp_path: Path) -> None:
    bus = MemoryBus()
    with kept() as told:
        async with federation(bus, tmp_path) as it:
            it.start("driver 1")
            facts = await ended(bus, await submit(bus, tiny(strategy=APP)))

    assert isinstance(facts[-1], Completed)
    run = facts[-1].run
    rounds = [fact.round for fact in facts if isinstance(fact, Asked)]
    assert told.named("run server") == [(run_traceparent(run), {"fedplane.run": run})]
    for name in ("ask clusters", "answer server"):
        assert [parent for parent, _ in told.named(name)] == [round_traceparent(run, number) for number in rounds], name
        assert {attributes["fedplane.clusters"] for _, attributes in told.named(name)} == {3}
    roots = [span.name for span in told.ended if span.name.startswith("round ")]
    assert roots == ["round reply"] * len(rounds)


async def _jobs(hub: MemoryCluster) -> list[str]:
    return [body["metadata"]["name"] for body in await hub.all(JOB)]
