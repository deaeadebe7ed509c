"""The example on a hub, as its user has it: an object is applied, three clusters learn digits, and a notebook judges the kept model."""

import asyncio
import re
import subprocess
from pathlib import Path

import notebook_story
import pytest
import yaml
from apiserver import Server
from conftest import NatsServer
from hub_federation import hub_federation
from machine_story import REPOSITORY, app_python
from pod_story import Image

from fedplane.schemas.facts import Contributed, Declined

pytestmark = pytest.mark.app

EXAMPLE = REPOSITORY / "examples/01-mnist"
CLUSTERS = ("amsterdam", "berlin", "copenhagen")
CLAIM = "mnist.client-data"
FILE = EXAMPLE / "on-a-hub.yaml"
IMAGE = yaml.safe_load(FILE.read_text())["spec"]["client"]["image"]


def deal(directory: Path) -> dict[str, dict[str, str]]:
    """Each cluster's shard on a disk of its own, and what the cluster claims.

    The example's own directory is not the place for them: a demo that another test interrupts may be writing there.
    """
    subprocess.run([app_python(), EXAMPLE / "shards.py", directory / "data"], check=True, capture_output=True)
    for cluster in CLUSTERS:
        (directory / cluster).mkdir()
        (directory / cluster / "shard.npz").symlink_to(directory / f"data/{cluster}.npz")
    return {**{cluster: {CLAIM: str(directory / cluster)} for cluster in CLUSTERS}, "dublin": {}}


async def test_an_object_becomes_a_model_that_knows_digits_and_leaves_nothing_else(
    hub_server: Server, nats_server: NatsServer, tmp_path: Path
) -> None:
    notebook_story.notebook_python()
    at_hand = {IMAGE: Image(app_python(), EXAMPLE)}
    async with hub_federation(hub_server, nats_server, deal(tmp_path), further=at_hand) as it:
        await it.kubectl("apply", "--filename", str(FILE))
        run = await it.run_of("mnist")
        await it.until_phase("mnist", "Completed")
        await it.kubectl("wait", "federatedlearning/mnist", "--for=condition=Kept", "--timeout=60s")
        seen, events, facts = await it.seen("mnist"), await it.events("mnist"), await it.facts(run)
        kept = it.directory / "disk/models"
        given = {"MODEL": str(kept / "mnist.safetensors"), "DIGITS": str(tmp_path / "data/heldout.npz")}
        judged = await asyncio.to_thread(notebook_story.executed, tmp_path, **given)

        await it.kubectl("delete", "federatedlearning", "mnist")
        await it.until_nothing_is_left(run)
        stays = await it.kubectl("get", "jobs,persistentvolumeclaims", "--output", "name")
        there = sorted(file.name for file in kept.iterdir())

    told = seen["status"]
    assert it.never_went_back("mnist"), it.phases
    assert told["model"]["location"] == "pvc://models/mnist.safetensors"
    assert [each["cluster"] for each in told["participants"]] == list(CLUSTERS)
    assert [(each["cluster"], each["reason"]) for each in told["refused"]] == [("dublin", "data")]
    assert {each["type"]: each["status"] for each in told["conditions"]} == {
        "Scheduled": "True", "Running": "False", "Completed": "True", "Kept": "True",
    }  # fmt: skip
    assert events == {
        "Scheduled": (1, "3 clusters chosen: amsterdam, berlin, copenhagen."),
        "Started": (1, "6 training rounds with 3 clusters."),
        "RoundAggregated": (6, "Training round 6 of 6: 3 of 3 clusters contributed."),
        "Completed": (1, "6 training rounds done."),
    }
    assert [fact for fact in facts if isinstance(fact, Declined)] == []
    assert {(fact.round, fact.cluster) for fact in facts if isinstance(fact, Contributed)} >= {(1, cluster) for cluster in CLUSTERS}
    assert f"run  {run}" in judged.said[0]
    (recognised,) = re.findall(r"([\d.]+)% of 1,000 digits are recognised", judged.said[2])
    assert float(recognised) >= 95
    assert stays.split() == [f"job.batch/{run}", "persistentvolumeclaim/models"]
    assert there == ["mnist.manifest.json", "mnist.safetensors"]
