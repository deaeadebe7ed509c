"""An app's own server on a hub: an object is applied, the ServerApp decides in a Job beside our driver, and nothing of it is left.

An API server before 1.24 does not tell that a pod is not ready; what comes of one that never is, is in `test_drivers_of_a_hub`.
"""

import pytest
from apiserver import Server
from conftest import NatsServer
from hub_federation import hub_federation

from fedplane.runtime.kinds import JOB
from fedplane.scheduler.drivers import DRIVER_LABELS
from fedplane.scheduler.works import RUN_LABEL
from fedplane.schemas.facts import Aggregated, Asked, Completed, Contributed

pytestmark = pytest.mark.app

A, B = "hospital-a", "hospital-b"
CLUSTERS = {cluster: {"data": f"/data/{cluster}"} for cluster in (A, B)}


async def test_an_apps_own_server_leads_its_run_from_the_object_to_the_model(hub_server: Server, nats_server: NatsServer) -> None:
    async with hub_federation(hub_server, nats_server, CLUSTERS) as it:
        run = await it.apply(strategy={"name": "app"}, server={"minAvailableClients": 2})
        await it.happened(run, lambda fact: isinstance(fact, Asked) and fact.round == 1)
        beside = [body["metadata"]["name"] for body in await it.hub.all(JOB, it.space)]
        await it.until_phase("tiny", "Completed")
        facts = await it.facts(run)
        await it.kubectl("delete", "federatedlearning", "tiny", "--timeout=60s")
        await it.until_nothing_is_left(run)

    assert beside == [f"driver-{run}"]
    assert it.never_went_back("tiny"), it.phases
    # Two rounds of FedAvg, and it evaluates after each.
    assert [fact.instructions[0].kind for fact in facts if isinstance(fact, Asked)] == ["train", "evaluate"] * 2
    assert {(fact.round, fact.cluster) for fact in facts if isinstance(fact, Contributed)} >= {(0, A), (0, B), (2, A), (2, B)}
    assert [fact.reason for fact in facts if isinstance(fact, Completed)] == ["the app's server has returned"]


async def test_a_driver_that_is_deleted_is_made_anew_and_nothing_is_asked_twice(hub_server: Server, nats_server: NatsServer) -> None:
    async with hub_federation(hub_server, nats_server, CLUSTERS) as it:
        run = await it.apply(strategy={"name": "app"}, server={"minAvailableClients": 2}, config={"seconds": 0.5})
        await it.happened(run, lambda fact: isinstance(fact, Aggregated) and fact.round == 0)
        (before,) = await it.hub.all(JOB, it.space)
        await it.kubectl("delete", "job", f"driver-{run}", "--timeout=60s")
        await it.until_phase("tiny", "Completed")
        facts = await it.facts(run)
        log = (it.directory / "scheduler.log").read_text()

    assert before["metadata"]["labels"].items() >= {**DRIVER_LABELS, RUN_LABEL: run}.items()
    assert log.count("driver launched") == 2
    assert [fact.instructions[0].kind for fact in facts if isinstance(fact, Asked)] == ["train", "evaluate"] * 2
