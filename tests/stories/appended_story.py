"""A training round of real bytes whose updates are appended, folded as the aggregator does it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from aggregator_story import NOW, RUN, resource, scheduled
from fold_story import Tensors, split

from fedplane.aggregator.folding import fold
from fedplane.aggregator.histories import Run
from fedplane.aggregator.runs import Cut, Runs
from fedplane.aggregator.team import Team
from fedplane.runtime.memory import MemoryBulk
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Closed, Contributed, Opened, RunFact, Submitted
from fedplane.schemas.layout import cut
from fedplane.schemas.models import Model, Piece, Task, model_digest
from fedplane.schemas.subjects import model_piece, update_piece

WHOSE: dict[str, Any] = {"run": RUN, "at": NOW}
ROUND, MODELS_ROUND, TRAINING_ROUND = 0, 9, 1


def bytes_of(**tensors: bytes) -> Tensors:
    """Tensors of bytes."""
    return {name: np.frombuffer(content, np.uint8) for name, content in tensors.items()}


async def stored(bulk: MemoryBulk, tensors: Tensors, place: Callable[[int | str], str], sizes: Cut) -> tuple[Piece, tuple[Piece, ...]]:
    header, flat = split(tensors)
    layout = await bulk.write(place("layout"), memoryview(header), sizes.chunk_bytes)
    ranges = enumerate(cut(len(flat), sizes.shard_bytes))
    return layout, tuple([await bulk.write(place(n), memoryview(flat)[b:e], sizes.chunk_bytes) for n, (b, e) in ranges])


async def facts_of(bulk: MemoryBulk, model: Tensors, updates: Mapping[str, Tensors], sizes: Cut) -> list[RunFact]:
    """A run's facts until its first training round is opened, then the contributions, by name, and `closed`."""
    layout, shards = await stored(bulk, model, lambda what: model_piece(RUN, MODELS_ROUND, "m", what), sizes)
    size = sum(piece.bytes for piece in shards)
    begun = Model(run=RUN, round=MODELS_ROUND, bytes=size, layout=layout, shards=shards, digest=model_digest(layout, shards))
    facts: list[RunFact] = [
        Submitted(**WHOSE, resource=resource(strategy={"name": "append"})), scheduled(*sorted(updates)),
        Opened(
            **WHOSE, round=ROUND, task=Task.TRAIN, training_round=TRAINING_ROUND, clusters=tuple(sorted(updates)), minimum=1,
            deadline=NOW + timedelta(minutes=10), shard_bytes=sizes.shard_bytes, chunk_bytes=sizes.chunk_bytes, model=begun, appends=True,
        ),
    ]  # fmt: skip
    for cluster in sorted(updates):
        layout, shards = await stored(bulk, updates[cluster], lambda what, of=cluster: update_piece(RUN, ROUND, of, "x", what), sizes)
        facts.append(Contributed(**WHOSE, round=ROUND, cluster=cluster, attempt="x", weight=1, metrics={}, layout=layout, shards=shards))
    return [*facts, Closed(**WHOSE, round=ROUND, reason="test")]


def told(facts: Sequence[RunFact], sizes: Cut) -> Run:
    """The run after the facts. Each has one place in the log, however often it is told."""
    core, places = Runs(sizes), dict[str, int]()
    state = core.initial()
    for fact in facts:
        state = core.evolve(state, Recorded(fact, places.setdefault(fact.subject, len(places) + 1)))
    return state[RUN]


async def next_model(bulk: MemoryBulk, run: Run) -> bytes:
    """The file of the next model."""
    assert run.round is not None
    folded = [await fold(bulk, Team(1), run, run.round, shard, NOW) for shard in range(run.round.shards)]
    assert folded[0].layout is not None
    assert [fact.piece.bytes for fact in folded[:-1]] == [run.round.opened.shard_bytes] * (len(folded) - 1)
    pieces = (folded[0].layout, *(fact.piece for fact in folded))
    return b"".join([bytes(chunk) for piece in pieces async for _, chunk in bulk.read(piece)])
