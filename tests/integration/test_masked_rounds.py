"""Masked rounds from submission to the last model: the same model as without masks, whoever dies in whatever step."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accounts_story import GuardedServer, Processes
from federation_story import TINY, Federation, ended, federation, learning, model_bytes, submit
from safetensors.numpy import load

from fedplane.privacy.fixed import Fixed
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.runtime.ports import Bus, Fence, Log, Stated
from fedplane.schemas.facts import (
    Aggregated,
    Bound,
    Closed,
    Completed,
    Contributed,
    Declined,
    Entrusted,
    Evaluated,
    Fact,
    Failed,
    Folded,
    Keyed,
    Opened,
    Paired,
    Revealed,
    RoundFailed,
    Shared,
    all_facts_of,
)
from fedplane.schemas.models import Task
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import listen

CLUSTERS = "abcd"
MASKED: dict[str, Any] = {"privacy": {"secureAggregation": {"stepSeconds": 1}}}
HIDDEN: dict[str, Any] = {"privacy": {"secureAggregation": {"weights": "hidden"}}, "rounds": {"weightMax": 40}}
ONE_ROUND: dict[str, Any] = {"server": {"rounds": 1, "minAvailableClients": 3}}


class Deaf:
    """A log to which facts of some kinds do not get, each kind so many times: whoever states one waits for ever, as good as dead.

    `silenced` has what it was about to say.
    """

    def __init__(self, log: Log, kinds: Sequence[type[Fact]], times: int) -> None:
        self._log, self._left = log, dict.fromkeys(kinds, times)
        self.silenced: asyncio.Queue[Fact] = asyncio.Queue()

    async def state(self, fact: Fact, *, fence: Fence | None = None, traceparent: str | None = None) -> Stated:
        if self._left.get(type(fact), 0) > 0 and getattr(fact, "round", 0) > 0:
            self._left[type(fact)] -= 1
            self.silenced.put_nowait(fact)
            await asyncio.Event().wait()
        return await self._log.state(fact, fence=fence, traceparent=traceparent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class Dying:
    """The bus of a process that dies when it is about to state a fact of such a kind."""

    def __init__(self, bus: Bus, *kinds: type[Fact], times: int = 1_000) -> None:
        self._bus = bus
        self.log: Any = Deaf(bus.log, kinds, times)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)


@dataclass
class Outcome:
    """All that was said, and the last model."""

    facts: list[Fact]
    model: bytes

    def of(self, kind: type[Fact]) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def members(self) -> list[tuple[str, ...]]:
        """Of each training round that has come to something."""
        return [fact.members for fact in self.of(Aggregated) if fact.task is Task.TRAIN]

    @property
    def tensors(self) -> np.ndarray[Any, Any]:
        return np.concatenate([values.ravel() for _, values in sorted(load(self.model).items())])


async def outcome_of(it: Federation, spec: dict[str, Any], seconds: float = 30) -> Outcome:
    run = await submit(it.bus, learning(**spec))
    return await outcome_at_end(it, run, seconds)


async def outcome_at_end(it: Federation, run: str, seconds: float = 30) -> Outcome:
    facts = await ended(it.bus, run, seconds)
    it.check()
    assert isinstance(facts[-1], Completed), [fact for fact in facts if isinstance(fact, Failed | RoundFailed | Declined)]
    return Outcome(facts, await model_bytes(it.bus, facts[-1].model))


async def on_memory(
    tmp_path: Path, spec: dict[str, Any], *, dies: dict[str, tuple[type[Fact], int]] | None = None, **trouble: str
) -> Outcome:
    bus = MemoryBus()
    buses: dict[str, Bus] = {f"collaborator {cluster}": Dying(bus, kind, times=times) for cluster, (kind, times) in (dies or {}).items()}  # type: ignore[misc]
    async with federation(bus, tmp_path, CLUSTERS, buses=buses, **trouble) as it:
        return await outcome_of(it, spec)


def assert_same_but_for_rounding(masked: Outcome, plain: Outcome, rounds: int, members: int = 4) -> None:
    """Each round the mean is off by the error that `Fixed` states, and by what a float32 rounds."""
    weights = [10.0 * (number + 1) for number in range(members)]
    bound = rounds * (Fixed(32.0, 32, members).error(sum(weights) / max(weights)) + 4 * float(np.spacing(np.float32(4))))
    assert 0 < np.abs(plain.tensors).max() < 4
    assert np.abs(masked.tensors - plain.tensors).max() <= bound


@pytest.mark.parametrize("strategy", [{}, {"strategy": {"name": "fedadam"}}], ids=["fedavg", "fedadam"])
async def test_the_model_of_masked_rounds_is_that_of_plain_ones(tmp_path: Path, strategy: dict[str, Any]) -> None:
    plain, masked, hidden = [
        await on_memory(tmp_path / name, {**strategy, **spec}) for name, spec in {"plain": {}, "masked": MASKED, "hidden": HIDDEN}.items()
    ]

    assert plain.members == masked.members == hidden.members == [tuple(CLUSTERS)] * 2
    if not strategy:
        assert_same_but_for_rounding(masked, plain, rounds=2)
    assert np.abs(hidden.tensors - masked.tensors).max() < 1e-3 and np.abs(masked.tensors - plain.tensors).max() < 1e-3
    told = {fact.weight for kind in (Keyed, Contributed, Evaluated) for fact in hidden.of(kind) if fact.round > 0}
    assert told == {1.0}, "with hidden weights nothing on the log says who has how many examples"


async def test_a_masked_run_on_a_real_bus_has_the_very_model_that_it_has_in_memory(bus: Bus, tmp_path: Path) -> None:
    async with federation(bus, tmp_path / "here", CLUSTERS) as it:
        here = await outcome_of(it, MASKED)

    assert here.model == (await on_memory(tmp_path / "there", MASKED)).model
    sizes = {sum(shard.bytes for shard in fact.shards) for fact in here.of(Contributed) if fact.round > 0}
    assert sizes == {38 * 4}, "one integer of 32 bits for each of the model's floats"


@pytest.mark.parametrize("bits", [32, 64])
async def test_with_noise_of_the_clusters_the_model_is_off_by_that_noise_and_all_count_the_same(tmp_path: Path, bits: int) -> None:
    noise = {"distributed": {"noiseMultiplier": 0.01, "clip": 10.0}}

    noised = await on_memory(tmp_path, {**ONE_ROUND, "privacy": {"secureAggregation": {"bits": bits}, "differentialPrivacy": noise}})

    (terms,) = {fact.masking for fact in noised.of(Opened) if fact.masking}
    random = np.random.default_rng(0)
    first = {name: random.standard_normal(shape) for name, shape in TINY.items()}  # what the app begins with
    begun = np.concatenate([first[name].ravel() for name in sorted(first)])
    off = noised.tensors - (begun - 0.5 / 3 * (begun - np.mean([1, 2, 3, 4])))
    deviation = terms.deviation / np.sqrt(len(CLUSTERS))
    assert 0.5 * deviation < float(np.std(off)) < 2 * deviation
    assert [fact.privacy.rounds for fact in noised.of(Aggregated) if fact.privacy] == [1]


@pytest.mark.parametrize("kind", [Keyed, Shared, Contributed])
async def test_a_cluster_that_dies_before_its_update_is_sent_is_left_out_of_the_mean(tmp_path: Path, kind: type[Fact]) -> None:
    spec = {**ONE_ROUND, "rounds": {"deadlineSeconds": 2}}

    died = await on_memory(tmp_path / "died", {**spec, **MASKED}, dies={"d": (kind, 1_000)})
    plain = await on_memory(tmp_path / "plain", spec, d="raises")

    assert died.members == plain.members == [("a", "b", "c")]
    assert_same_but_for_rounding(died, plain, rounds=1, members=3)


async def test_a_cluster_that_dies_when_its_update_is_sent_counts_all_the_same(tmp_path: Path) -> None:
    died = await on_memory(tmp_path / "died", {**ONE_ROUND, **MASKED}, dies={"d": (Revealed, 1_000)})

    assert died.members == [tuple(CLUSTERS)]
    assert died.model == (await on_memory(tmp_path / "all", {**ONE_ROUND, **MASKED})).model


async def test_a_round_whose_masks_nobody_can_take_off_fails_and_is_tried_again_with_new_keys(tmp_path: Path) -> None:
    failed = await on_memory(tmp_path / "failed", {**ONE_ROUND, **MASKED}, dies={"c": (Revealed, 1), "d": (Revealed, 1)})

    (failure,) = failed.of(RoundFailed)
    assert (failure.reason, failure.round, failed.members) == ("too-few-shares", 1, [tuple(CLUSTERS)])
    keys = [fact.mask_key for fact in failed.of(Keyed)]
    assert len(keys) == len(set(keys)) == 8


async def test_a_collaborator_that_is_restarted_in_the_middle_says_so_and_the_others_do_not_wait_for_it(tmp_path: Path) -> None:
    bus, lasting = MemoryBus(), {"privacy": {"secureAggregation": {"stepSeconds": 3_000}}}
    dying = {"collaborator d": Dying(bus, Shared)}
    async with federation(bus, tmp_path, CLUSTERS, buses=dying) as it:  # type: ignore[arg-type]
        run = await submit(bus, learning(**{**ONE_ROUND, **lasting}))
        await seen(bus, run, Paired)
        await it.kill("collaborator d")
        it.start("collaborator d")
        outcome = await outcome_at_end(it, run)

    assert [(fact.cluster, fact.reason) for fact in outcome.of(Declined)] == [("d", "secrets-lost")]
    assert outcome.members == [("a", "b", "c")]


async def seen(bus: Bus, run: str, kind: type[Fact]) -> None:
    async with asyncio.timeout(20):
        async for batch in bus.log.tail([all_facts_of(run)]):
            if any(isinstance(record.fact, kind) for record in batch.records):
                return


async def test_all_aggregators_may_die_in_every_step_and_no_bit_of_the_model_changes(bus: Bus, tmp_path: Path) -> None:
    kinds = (Paired, Bound, Entrusted, Closed, Folded, Aggregated)
    dying = Dying(bus, *kinds, times=1)
    replicas = dict.fromkeys(("aggregator 1", "aggregator 2"), dying)
    async with federation(bus, tmp_path / "here", CLUSTERS, buses=replicas) as it:  # type: ignore[arg-type]
        run = await submit(bus, learning(**{**ONE_ROUND, "privacy": {"secureAggregation": {}}}))
        for kind in kinds:
            async with asyncio.timeout(20):
                assert isinstance(await dying.log.silenced.get(), kind)
            for replica in replicas:
                await it.kill(replica)
                it.start(replica)
        outcome = await outcome_at_end(it, run)

    assert (outcome.members, outcome.of(RoundFailed)) == ([tuple(CLUSTERS)], [])
    assert outcome.model == (await on_memory(tmp_path / "there", {**ONE_ROUND, **MASKED})).model


@asynccontextmanager
async def guarded(directory: Path) -> AsyncIterator[tuple[GuardedServer, Federation]]:
    """A federation on a server that lets in whom an authorizer lets in, everybody with a certificate and rights of its own."""
    it = GuardedServer(directory / "server")
    it.server.start()
    try:
        async with Processes(directory) as processes, AsyncExitStack() as stack:
            await processes.start("authorizer", "fedplane.authorizer.main", it.told(Role.AUTHORIZER))

            async def bus_of(role: Role, name: str, listening: str = "", limits: Limits | None = None) -> NatsBus:
                credentials = it.credentials(role, name, listening)
                return await stack.enter_async_context(
                    open_bus(it.url, name=name, source=f"/{name}", credentials=credentials, limits=limits)
                )

            aggregator = await bus_of(Role.AGGREGATOR, "aggregator", limits=Limits())
            buses: dict[str, Bus] = {"aggregator 1": aggregator, "aggregator 2": aggregator}
            buses["scheduler"] = await bus_of(Role.SCHEDULER, "scheduler")
            buses["status"] = await bus_of(Role.STATUS, "status")
            papers = {}
            for cluster in CLUSTERS:
                buses[f"collaborator {cluster}"] = await bus_of(Role.COLLABORATOR, cluster, listen(Role.COLLABORATOR, cluster))
                known = it.known(Role.COLLABORATOR, cluster)
                papers[cluster] = {"tls_certificate": known.certificate, "tls_key": known.key, "peers_authority": it.ocm.file}
            operator = await bus_of(Role.OPERATOR, "ann")
            async with federation(operator, directory / "work", CLUSTERS, buses=buses, papers=papers) as up:
                yield it, up
    finally:
        it.server.stop()


async def test_clusters_with_certificates_mask_on_a_bus_that_lets_each_do_what_it_has_to_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    async with guarded(tmp_path) as (it, up):
        outcome = await outcome_of(up, {**ONE_ROUND, **MASKED}, seconds=90)

    keyed = outcome.of(Keyed)
    assert [bool(fact.certificate and fact.signature) for fact in keyed] == [True] * 4
    assert outcome.members == [tuple(CLUSTERS)]
    assert outcome.model == (await on_memory(tmp_path / "there", {**ONE_ROUND, **MASKED})).model
    assert [line for line in it.log.splitlines() if "violation" in line.casefold()] == []
