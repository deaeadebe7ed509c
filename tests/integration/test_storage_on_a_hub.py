"""What keeps models is taken by a real API server as it is, and a second time nothing changes."""

from typing import Any

import pytest
from apiserver import Server
from work_story import learning

from fedplane.runtime.errors import Conflict
from fedplane.runtime.kinds import JOB, PERSISTENT_VOLUME_CLAIM
from fedplane.runtime.kubernetes import open_cluster
from fedplane.scheduler.storage import Keeper, claim, job

STORAGE: dict[str, dict[str, Any]] = {
    "claim": {"type": "PersistentVolumeClaim", "name": "models", "size": "1Gi", "path": "/models/m.safetensors"},
    "node": {"type": "HostPath", "path": "/srv/models"},
    "bucket": {"type": "S3Bucket", "name": "secret", "s3": {"bucketName": "models", "region": "eu-west-1", "prefix": "a/b"}},
}


@pytest.mark.parametrize(("name", "storage"), STORAGE.items(), ids=STORAGE)
async def test_a_server_takes_the_job_and_its_claim_and_has_them_once(
    kubernetes_server: Server, name: str, storage: dict[str, Any]
) -> None:
    resource = learning(server={"storage": storage})
    body, volume = job(f"keeps-{name}", resource, Keeper("cli:1", "nats://nats.fedplane:4222")), claim(resource)
    async with open_cluster(str(kubernetes_server.kubeconfig)) as hub:
        made = await hub.create(JOB, body)
        with pytest.raises(Conflict):
            await hub.create(JOB, body)
        if volume is not None:
            bound = await hub.create(PERSISTENT_VOLUME_CLAIM, volume)
            with pytest.raises(Conflict):
                await hub.create(PERSISTENT_VOLUME_CLAIM, volume)
            assert bound["spec"]["resources"] == volume["spec"]["resources"]

    (container,) = made["spec"]["template"]["spec"]["containers"]
    (wanted,) = body["spec"]["template"]["spec"]["containers"]
    assert {key: container[key] for key in ("command", "env", "securityContext")} == {
        key: wanted[key] for key in ("command", "env", "securityContext")
    }
    assert made["metadata"]["labels"].items() >= body["metadata"]["labels"].items()
