"""A round of real bytes in which some updates were trained from an earlier model, folded and measured as the aggregator does it."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from aggregator_story import NOW, RUN, resource, scheduled
from fold_story import Tensors, split
from log_story import knows, recorded

from fedplane.aggregator.folding import fold, measure
from fedplane.aggregator.histories import Run
from fedplane.aggregator.runs import Cut, Runs
from fedplane.aggregator.team import Team
from fedplane.privacy.elements import DTYPES
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.digests import digest_of_digests
from fedplane.schemas.facts import Aggregated, Closed, Contributed, Invited, Opened, RoundFact, RunFact, Submitted
from fedplane.schemas.layout import cut, parse_header
from fedplane.schemas.models import Model, Piece, Task
from fedplane.schemas.subjects import model_piece, update_piece

SHARD_BYTES, CHUNK_BYTES = 40, 16
WHOSE: dict[str, Any] = {"run": RUN, "at": NOW}
SIZES: dict[str, Any] = {"minimum": 1, "deadline": NOW + timedelta(minutes=10), "shard_bytes": SHARD_BYTES, "chunk_bytes": CHUNK_BYTES}


async def stored(bulk: MemoryBulk, tensors: Tensors, place: Any) -> tuple[Piece, tuple[Piece, ...]]:
    header, flat = split(tensors)
    layout = await bulk.write(place("layout"), memoryview(header), CHUNK_BYTES)
    ranges = cut(len(flat), SHARD_BYTES)
    return layout, tuple([await bulk.write(place(n), memoryview(flat)[b:e], CHUNK_BYTES) for n, (b, e) in enumerate(ranges)])


async def model_of(bulk: MemoryBulk, tensors: Tensors, round_: int) -> Model:
    layout, shards = await stored(bulk, tensors, lambda what: model_piece(RUN, round_, "m", what))
    digests = [piece.digest for piece in (layout, *shards)]
    return Model(
        run=RUN, round=round_, layout=layout, shards=shards, bytes=sum(piece.bytes for piece in shards), digest=digest_of_digests(digests)
    )


async def contribution(bulk: MemoryBulk, cluster: str, update: Tensors, weight: float, origin: int | None, round_: int = 1) -> Contributed:
    layout, shards = await stored(bulk, update, lambda what: update_piece(RUN, round_, cluster, "x", what))
    return Contributed(
        **WHOSE, round=round_, cluster=cluster, attempt="x", weight=weight, metrics={}, layout=layout, shards=shards, origin=origin
    )


def invited(round_: int, cluster: str, training_round: int) -> Invited:
    return Invited(
        **WHOSE, round=round_, cluster=cluster, task=Task.TRAIN, training_round=training_round, framework="", app="", data="",
        configuration={}, run_configuration={}, deadline=NOW, shard_bytes=SHARD_BYTES, chunk_bytes=CHUNK_BYTES,
    )  # fmt: skip


async def late_round(
    bulk: MemoryBulk, strategy: Mapping[str, Any], base: Tensors, model: Tensors, updates: Sequence[tuple[str, Tensors, float, bool]],
    *, behind: int = 1,
) -> Run:  # fmt: skip
    """A run whose round 1 is to be folded; of each member its name, its update, its weight, and whether it is an answer to round 0.

    Round 0 was about the base and round 1 is about the model, `behind` training rounds later.
    """
    names = tuple(sorted(cluster for cluster, *_ in updates))
    late = {cluster: 0 for cluster, _, _, is_late in updates if is_late}
    begun, present = await model_of(bulk, base, 9), await model_of(bulk, model, 0)
    first = Opened(**WHOSE, **SIZES, round=0, task=Task.TRAIN, training_round=1, clusters=names, model=begun)
    facts: list[RunFact | RoundFact] = [
        Submitted(**WHOSE, resource=resource(strategy=strategy, rounds={"carry": behind, "quorum": 1})), scheduled(*names), first,
        *(invited(0, cluster, 1) for cluster in names),
        Closed(**WHOSE, round=0, reason="test"),
        Aggregated(**WHOSE, round=0, task=Task.TRAIN, training_round=1, members=(), weight=1, metrics={}, model=present),
        Opened(
            **WHOSE, **SIZES, round=1, task=Task.TRAIN, training_round=1 + behind, clusters=names, model=present, carried=late,
        ),
        *[await contribution(bulk, cluster, update, weight, 0 if is_late else None) for cluster, update, weight, is_late in updates],
        Closed(**WHOSE, round=1, reason="test"),
    ]  # fmt: skip
    run = knows(Runs(Cut(SHARD_BYTES, CHUNK_BYTES)), recorded(facts))[RUN]
    assert run.round is not None
    assert (run.round.opened.round, len(run.round.members)) == (1, len(updates)), run.round.unacceptable
    return run


async def measured(bulk: MemoryBulk, run: Run) -> np.ndarray:
    """The members' inner products, added over all shards: the upper triangle."""
    assert run.round is not None
    facts = [await measure(bulk, Team(1), run, run.round, shard, NOW) for shard in range(run.round.shards)]
    return np.sum([fact.products for fact in facts], axis=0)


async def folded(bulk: MemoryBulk, run: Run) -> dict[str, np.ndarray]:
    """The next model."""
    assert run.round is not None
    facts = await asyncio.gather(*(fold(bulk, Team(2), run, run.round, shard, NOW) for shard in range(run.round.shards)))
    flat = b"".join([bytes(chunk) for fact in facts async for _, chunk in bulk.read(fact.piece)])
    assert facts[0].layout is not None
    layout = parse_header(b"".join([bytes(chunk) async for _, chunk in bulk.read(facts[0].layout)]))
    return {
        tensor.name: np.frombuffer(flat[tensor.begin : tensor.end], DTYPES[tensor.dtype]).reshape(tensor.shape) for tensor in layout.tensors
    }
