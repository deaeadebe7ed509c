"""A server whose store is full: the run says so and what to do, and everything that was accepted stays."""

from dataclasses import replace

import pytest
from machine_story import machine, settle_environment

from fedplane.cli.deployment import Deployment, roles
from fedplane.cli.supervisor import Stages
from fedplane.schemas.facts import Declined, Failed, Submitted

pytestmark = pytest.mark.app

BULK_BYTES = 1_300_000
"""The initial model has a megabyte and fits; folding it takes another one, and so does each update."""


def small(deployment: Deployment) -> Stages:
    """The usual processes, with a bulk stream that is too small for the run."""
    return tuple(
        tuple(replace(process, environment={**process.environment, "FEDPLANE_BULK_BYTES": str(BULK_BYTES)}) for process in stage)
        for stage in roles(deployment)
    )


async def test_a_run_that_finds_the_bus_full_fails_with_the_mend_and_loses_nothing(tmp_path, monkeypatch) -> None:
    settle_environment(monkeypatch)
    async with machine(tmp_path, table=small) as it:
        run = await it.submit(rounds={"attempts": 1, "deadlineSeconds": 20})
        end = await it.end_of(run)
        declined = [record.fact for record in it.log if isinstance(record.fact, Declined)]

        assert isinstance(end, Failed), end
        said = end.message + " ".join(fact.message for fact in declined)
        assert "no room" in said or "resource" in said or "maximum bytes" in said
        assert isinstance(it.log[0].fact, Submitted)
        assert [record.sequence for record in it.log] == sorted({record.sequence for record in it.log})
