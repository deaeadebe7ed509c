"""Whole runs on the memory bus whose updates are appended: what the models are, which of them stay, and who is left out."""

import asyncio
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from federation_story import Answer, NumpyApp, ended, federation, learning, model_bytes, submit
from safetensors.numpy import load, load_file, save_file

from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Aggregated, Completed, Contributed, Fact, Failed, Opened, RoundFailed
from fedplane.schemas.models import Task

ROUNDS = 4


@dataclass
class Growing(NumpyApp):
    """Grows bytes that follow from the whole model, its training round and its cluster; the model of round 2 is the best."""

    dtype: str = "uint8"
    first: str = "uint8"

    async def ask(self, directory: Path, deadline: datetime) -> Answer:
        asked = json.loads((directory / "invitation.json").read_text())
        if asked["task"] == "initialize":
            save_file({"trees": np.arange(8).astype(self.first)}, directory / "update.safetensors")
            return Answer(1, {})
        if asked["task"] == "evaluate":
            return Answer(1, {"good": -abs(asked["training_round"] - 2)})
        said = b"".join(tensor.tobytes() for _, tensor in sorted(load_file(directory / "model.safetensors").items()))
        drawn = hashlib.sha512(said + f"{asked['training_round']}/{asked['cluster']}".encode()).digest()
        grown = np.frombuffer(drawn, np.uint8)[: 20 + 7 * asked["position"]]
        save_file({"trees": grown.astype(self.dtype)}, directory / "update.safetensors")
        return Answer(1, {})


def growing(**rounds: Any) -> Any:
    policy = {"checkpoints": 2, "stop": {"metric": "good", "mode": "max", "target": 9}, **rounds}
    return learning(strategy={"name": "append"}, server={"rounds": ROUNDS, "minAvailableClients": 3}, rounds=policy)


async def run(
    bus: MemoryBus, tmp_path: Path, killing: bool = False, *, apps: dict[str, Growing] | None = None, **rounds: Any
) -> list[Fact]:
    async with federation(bus, tmp_path) as it:
        it.apps.update(apps or {cluster: Growing() for cluster in "abc"})
        name = await submit(bus, growing(**rounds))
        if killing:
            await restarted(bus, it, name)
        return await ended(bus, name)


async def restarted(bus: MemoryBus, it: Any, name: str) -> None:
    """Both aggregators are killed in the second training round, and another one that cuts otherwise goes on."""
    async for batch in bus.log.tail([Contributed.pattern(run=name, round=3, cluster="*")]):
        if batch.records:
            break
    for which in ("aggregator 1", "aggregator 2"):
        await it.kill(which)
    it.shard_bytes = 40
    it.start("aggregator 3")


async def last(bus: MemoryBus, facts: list[Fact]) -> bytes:
    assert isinstance(facts[-1], Completed), facts[-1]
    return await model_bytes(bus, facts[-1].model)


async def test_a_model_has_what_everyone_has_grown_in_every_round(tmp_path: Path) -> None:
    bus = MemoryBus()
    facts = await run(bus, tmp_path)
    model = load(await last(bus, facts))
    cut = {fact.round: len(fact.model.shards) for fact in facts if isinstance(fact, Aggregated) and fact.model}

    names = [f"{round_:06}/{cluster}/trees" for round_ in range(1, ROUNDS + 1) for cluster in "abc"]
    assert {name: tensor.size for name, tensor in model.items()} == {
        "trees": 8, **{name: size for name, size in zip(names, (20, 27, 34) * ROUNDS, strict=True)},
    }  # fmt: skip
    assert cut == {0: 1, 1: 2, 3: 3, 5: 4, 7: 6}, "8 bytes, and 81 more with every training, 64 a shard"


async def test_of_models_that_grow_the_last_ones_and_the_best_stay_and_no_update(tmp_path: Path) -> None:
    bus = MemoryBus()

    def stored() -> set[tuple[str, str]]:
        """Of which rounds something is stored, and what."""
        return {(said[4], said[5]) for said in (chunk.split(".") for chunk in bus.bulk.chunks)}

    async with federation(bus, tmp_path) as it:
        it.apps.update({cluster: Growing() for cluster in "abc"})
        facts = await ended(bus, await submit(bus, growing(keep="best")))
        rounds = {fact.training_round: str(fact.round) for fact in facts if isinstance(fact, Aggregated) and fact.model}
        kept = {(rounds[training_round], "model") for training_round in (2, ROUNDS - 1, ROUNDS)}
        async with asyncio.timeout(10):
            while stored() != kept:
                await asyncio.sleep(0.01)

    assert isinstance(facts[-1], Completed) and str(facts[-1].model.round) == rounds[2]


async def test_aggregators_that_are_killed_leave_a_run_that_ends_with_the_same_bytes(tmp_path: Path) -> None:
    calm, killed = MemoryBus(), MemoryBus()
    one = await last(calm, await run(calm, tmp_path / "one"))
    facts = await run(killed, tmp_path / "other", killing=True)

    assert await last(killed, facts) == one
    assert {fact.shard_bytes for fact in facts if isinstance(fact, Opened)} == {64, 40}


async def test_a_cluster_that_grows_no_bytes_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    bus = MemoryBus()
    facts = await run(bus, tmp_path, apps={"a": Growing(), "b": Growing(dtype="float32"), "c": Growing()}, quorum=2)
    failed = next(fact for fact in facts if isinstance(fact, RoundFailed))

    assert (failed.faulty, failed.message) == (
        ("b",), "the update of b cannot be used: its tensor 'trees' is F32, and only bytes (U8) can be appended",
    )  # fmt: skip
    assert {name for name in load(await last(bus, facts)) if "/b/" in name} == set()


async def test_a_first_model_that_is_none_of_bytes_is_refused_before_anybody_trains(tmp_path: Path) -> None:
    bus = MemoryBus()
    facts = await run(bus, tmp_path, apps={cluster: Growing(first="float32") for cluster in "abc"})

    assert isinstance(facts[-1], Failed)
    assert facts[-1].message.endswith(
        "append cannot append to the app's initial model: its tensor 'trees' is F32, and only bytes (U8) can be appended; "
        "choose another strategy"
    )
    assert not [fact for fact in facts if isinstance(fact, Opened) and fact.task is Task.TRAIN]
