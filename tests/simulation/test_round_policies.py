"""Whole runs under `spec.rounds`, with every service in one process: what people get for the policies that they ask for."""

from pathlib import Path

from federation_story import ended, federation, learning, model_bytes, submit
from safetensors.numpy import load

from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Aggregated, Closed, Completed, Contributed, Fact, Opened
from fedplane.schemas.models import Task


async def run_to_end(tmp_path: Path, rounds: int, policy: dict, **trouble: str) -> tuple[MemoryBus, list[Fact], Completed]:
    bus = MemoryBus()
    spec = {"server": {"rounds": rounds, "minAvailableClients": 2}, "rounds": policy}
    async with federation(bus, tmp_path, **trouble) as it:
        facts = await ended(bus, await submit(bus, learning(**spec)))
        it.check()
    completed = facts[-1]
    assert isinstance(completed, Completed)
    return bus, facts, completed


async def test_a_round_that_asked_more_than_it_needs_does_not_wait_for_the_one_that_hangs(tmp_path) -> None:
    policy = {"closeAt": 2, "evaluate": False, "deadlineSeconds": 3600}
    _, facts, _ = await run_to_end(tmp_path, 2, policy, b="hangs")  # and is over within seconds

    training = {f.round for f in facts if isinstance(f, Opened) and f.task is Task.TRAIN}
    assert [f.reason for f in facts if isinstance(f, Closed) and f.round in training] == ["2 contributions are in"] * 2
    assert [f.members for f in facts if isinstance(f, Aggregated) and f.round in training] == [("a", "c")] * 2
    assert {f.cluster for f in facts if isinstance(f, Contributed) and f.round in training} == {"a", "c"}


async def test_only_those_who_were_drawn_take_part(tmp_path) -> None:
    _, facts, _ = await run_to_end(tmp_path, 6, {"invite": 2, "evaluate": False})
    drawn = [f.clusters for f in facts if isinstance(f, Opened) and f.task is Task.TRAIN]

    assert [f.members for f in facts if isinstance(f, Aggregated) and f.task is Task.TRAIN] == drawn
    assert ({len(clusters) for clusters in drawn}, {cluster for clusters in drawn for cluster in clusters}) == ({2}, {"a", "b", "c"})


async def test_a_run_stops_before_its_last_round_when_the_loss_is_low_enough(tmp_path) -> None:
    _, facts, completed = await run_to_end(tmp_path, 50, {"stop": {"metric": "loss", "mode": "min", "target": 50}})
    losses = [f.metrics["loss"] for f in facts if isinstance(f, Aggregated) and f.task is Task.EVALUATE]

    assert completed.reason == "loss reached 50"
    assert (len(losses) > 1, losses[-2] > 50 >= losses[-1]) == (True, True), losses


async def test_the_model_of_a_run_that_keeps_the_best_is_that_of_its_best_round(tmp_path) -> None:
    stop = {"metric": "loss", "mode": "max", "patience": 3}  # the loss falls from the first round on, so the first one is the best
    bus, facts, completed = await run_to_end(tmp_path / "best", 50, {"keep": "best", "stop": stop})
    other, _, first = await run_to_end(tmp_path / "first", 1, {})
    made = [f.model for f in facts if isinstance(f, Aggregated) and f.model]

    assert (completed.reason, len(made)) == ("loss has not improved for 3 rounds", 5)
    assert (completed.model, completed.metrics) == (made[1], first.metrics)
    assert await model_bytes(bus, completed.model) == await model_bytes(other, first.model)
    assert set(load(await model_bytes(bus, made[-1]))) == {"w", "b"}, "the last model is kept as well"
