"""A hub's federation on the bus as deploy/ starts it: everybody has a certificate, and the authorizer lets him in, or not.

An app's own server leads the run, and its model is kept on the hub: so every kind of pod connects that there is.
"""

import json
from pathlib import Path

import pytest
from apiserver import Server
from deployed_story import deployed
from hub_federation import hub_federation
from work_story import until

from fedplane.schemas.facts import Completed, Contributed

pytestmark = pytest.mark.app

A, B = "hospital-a", "hospital-b"
CLUSTERS = {cluster: {"data": f"/data/{cluster}"} for cluster in (A, B)}
STORAGE = {"type": "PersistentVolumeClaim", "name": "models", "size": "1Gi", "path": "/models"}


async def test_a_run_goes_from_the_object_to_the_kept_model_on_a_bus_that_trusts_nobody(hub_server: Server, tmp_path: Path) -> None:
    with deployed("base", tmp_path) as bus:
        async with hub_federation(hub_server, bus, CLUSTERS) as it:
            run = await it.apply(strategy={"name": "app"}, server={"minAvailableClients": 2, "storage": STORAGE})
            await it.until_phase("tiny", "Completed")
            facts, manifest = await it.facts(run), it.directory / "disk/models/manifest.json"

            async def kept() -> bool:
                return manifest.exists()

            await until(kept, True)
            origin = json.loads(manifest.read_text())["origin"]
        log = (tmp_path / "authorizer.log").read_text()

    assert {(fact.round, fact.cluster) for fact in facts if isinstance(fact, Contributed)} >= {(0, A), (0, B), (2, A), (2, B)}
    assert [fact.reason for fact in facts if isinstance(fact, Completed)] == ["the app's server has returned"]
    assert origin["run"] == run
    assert "refused" not in log
