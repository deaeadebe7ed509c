"""A training round of real bytes whose model gets noise, measured and folded as aggregators do it; and what such a run asks for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from aggregator_story import NOW, RUN, resource, scheduled
from carried_story import CHUNK_BYTES, SHARD_BYTES, SIZES, WHOSE, contribution, model_of
from fold_story import Tensors
from log_story import knows, recorded

from fedplane.aggregator.clipping import terms
from fedplane.aggregator.folding import fold, measure
from fedplane.aggregator.histories import Run
from fedplane.aggregator.runs import Cut, Runs
from fedplane.aggregator.team import Team
from fedplane.privacy.elements import DTYPES
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.facts import Aggregated, Closed, Fact, Folded, Opened, Submitted
from fedplane.schemas.layout import parse_header
from fedplane.schemas.models import Task

SECRET, ANOTHER = b"s" * 32, b"t" * 32


def central(**said: Any) -> dict[str, Any]:
    """`spec.privacy` with noise that aggregators add."""
    return {"differentialPrivacy": {"central": {"noiseMultiplier": 1.0, **said}}}


async def private_round(bulk: MemoryBulk, model: Tensors, updates: Mapping[str, Tensors], weight: float = 1.0, **said: Any) -> Run:
    """A run whose round 1 is measured, and is to be folded with noise. The first cluster's weight may be another than one."""
    present, names = await model_of(bulk, model, 0), tuple(sorted(updates))
    wanted = resource(privacy=central(**said))
    noise = terms(wanted.spec, Task.TRAIN, None, len(names))
    facts: list[Fact] = [
        Submitted(**WHOSE, resource=wanted), scheduled(*names),
        Opened(**WHOSE, **SIZES, round=0, task=Task.INITIALIZE, training_round=0, clusters=names[:1]),
        Closed(**WHOSE, round=0, reason="test"),
        Aggregated(**WHOSE, round=0, task=Task.INITIALIZE, training_round=0, members=(), weight=1, metrics={}, model=present),
        Opened(**WHOSE, **SIZES, round=1, task=Task.TRAIN, training_round=1, clusters=names, model=present, noise=noise),
        *[
            await contribution(bulk, cluster, updates[cluster], weight if cluster == names[0] else 1.0, None)
            for cluster in names
        ],
        Closed(**WHOSE, round=1, reason="test"),
    ]  # fmt: skip
    core = Runs(Cut(SHARD_BYTES, CHUNK_BYTES), has_secret=True)
    state = knows(core, recorded(facts))
    run = state[RUN]
    assert run.round is not None
    assert (run.round.opened.round, len(run.round.members)) == (1, len(updates)), run.round.unacceptable
    for shard in range(run.round.shards):
        fact = await measure(bulk, Team(1), state[RUN], run.round, shard, NOW)
        state = knows(core, recorded([fact], len(facts) + 1 + shard), state)
    return state[RUN]


async def folded_facts(bulk: MemoryBulk, run: Run, secret: bytes = SECRET) -> list[Folded]:
    assert run.round is not None
    return [await fold(bulk, Team(2), run, run.round, shard, NOW, secret) for shard in range(run.round.shards)]


async def next_model(bulk: MemoryBulk, run: Run, secret: bytes = SECRET) -> dict[str, np.ndarray]:
    facts = await folded_facts(bulk, run, secret)
    flat = b"".join([bytes(chunk) for fact in facts async for _, chunk in bulk.read(fact.piece)])
    assert facts[0].layout is not None
    layout = parse_header(b"".join([bytes(chunk) async for _, chunk in bulk.read(facts[0].layout)]))
    return {
        tensor.name: np.frombuffer(flat[tensor.begin : tensor.end], DTYPES[tensor.dtype]).reshape(tensor.shape) for tensor in layout.tensors
    }
