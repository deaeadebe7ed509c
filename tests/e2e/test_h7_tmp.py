"""A temporary look. It goes."""
from pathlib import Path
import pytest
from apiserver import Server
from deployed_story import deployed
from hub_federation import hub_federation
from fedplane.schemas.facts import Completed, Revealed, Declined
pytestmark = pytest.mark.app
CLUSTERS = {c: {"data": f"/data/{c}"} for c in ("hospital-a", "hospital-b", "hospital-c")}
async def test_masks(hub_server: Server, tmp_path: Path, monkeypatch) -> None:
    with deployed("base", tmp_path) as bus:
        monkeypatch.setenv("FEDPLANE_CLUSTERS_AUTHORITY", str(tmp_path / "keys/clusters.crt"))
        print(list(tmp_path.iterdir()), list((tmp_path/"keys").iterdir()))
        async with hub_federation(hub_server, bus, CLUSTERS) as it:
            run = await it.apply(privacy={"secureAggregation": {}}, server={"rounds": 1, "minAvailableClients": 3}, rounds={"evaluate": False})
            try:
                await it.until_phase("tiny", "Completed")
            finally:
                facts = await it.facts(run)
                for f in facts: print(type(f).__name__, getattr(f, "message", "")[:300])
    assert len([f for f in facts if isinstance(f, Revealed)]) == 3
