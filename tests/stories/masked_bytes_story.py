"""A masked round of real bytes: clusters train, mask and store as ours do, some drop out, and the aggregator folds what is left."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
from aggregator_story import NOW, RUN, scheduled
from carried_story import CHUNK_BYTES, SHARD_BYTES, SIZES, WHOSE, model_of
from fold_story import Tensors, split
from masked_story import MaskedStory

from fedplane.aggregator.shards import contents
from fedplane.aggregator.team import Team
from fedplane.aggregator.terms import chosen
from fedplane.aggregator.unmasking import Unmasking
from fedplane.privacy.elements import DTYPES
from fedplane.privacy.masking import Masking, Noise, fixed_of, masked, shortened, tally
from fedplane.privacy.participant import counted
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.facts import Contributed, Folded, Lapsed, Opened
from fedplane.schemas.layout import cut, parse_header
from fedplane.schemas.models import Model, Task
from fedplane.schemas.subjects import update_piece

Updates = Mapping[str, tuple[Tensors, float]]
"""By cluster, what it has trained and how many examples it has."""


async def private_model(bulk: MemoryBulk, tensors: Tensors) -> Model:
    """A model of which it is known what masks depend on."""
    model, (header, flat) = await model_of(bulk, tensors, 9), split(tensors)
    layout = parse_header(header)
    return model.model_copy(
        update={"contents": tuple(contents(layout, (b, e), memoryview(flat)[b:e]) for b, e in cut(len(flat), SHARD_BYTES))}
    )


async def masked_round(
    bulk: MemoryBulk, model: Tensors, updates: Updates, *, gone: str = "", kind: type[MaskedStory] = MaskedStory, **spec: Any
) -> MaskedStory:
    """A run whose round 0 trains the model, up to where it can be folded. Those who are `gone` drop out when they are bound."""
    story, present = kind(clusters=tuple(sorted(updates)), **spec), await private_model(bulk, model)
    terms = chosen(story.run.submitted.resource.spec, present, Task.TRAIN, len(updates), 3)
    told: dict[str, Any] = {**SIZES, "minimum": 3, "clusters": tuple(sorted(updates)), "weight_max": terms.weight_max if terms else None}
    story.tell(
        scheduled(*sorted(updates)), Opened(**WHOSE, **told, round=0, task=Task.TRAIN, training_round=1, model=present, masking=terms)
    )
    for cluster, (_, weight) in updates.items():
        story.key(cluster, 1 if terms and terms.weights == "hidden" else weight)
    story.obey()
    story.share("".join(sorted(updates)))
    story.obey()
    for cluster, (update, weight) in updates.items():
        if cluster not in gone:
            story.tell(await contribution(bulk, story, cluster, model, update, weight))
    if gone:
        story.tell(Lapsed(**WHOSE, round=0, step="masking"))
    story.obey()
    assert story.current.closed is not None, "somebody's contribution was not accepted"
    story.reveal("".join(sorted(set(updates) - set(gone))))
    return story


async def contribution(bulk: MemoryBulk, story: MaskedStory, cluster: str, model: Tensors, update: Tensors, weight: float) -> Contributed:
    paired, terms = story.current.exchange.paired, story.current.opened.masking
    assert paired is not None and terms is not None
    (header, flat), (_, begun) = split(update), split(model)
    layout, fixed, counts, noise = parse_header(header), fixed_of(terms, paired), counted(terms, paired, weight), None
    if terms.norm_max is not None and terms.deviation is not None:
        factor = shortened(layout, memoryview(flat), memoryview(begun), terms.norm_max)
        noise = Noise(cluster.encode() * 32, terms.deviation / fixed.step, factor)
    how, pieces = Masking(fixed, counts, story.entrusted(cluster).masks, noise), []
    for shard, span in enumerate(cut(len(flat), SHARD_BYTES)):
        data = masked(layout, span, shard, memoryview(flat), memoryview(begun), how).data
        pieces.append(await bulk.write(update_piece(RUN, 0, cluster, "x", shard), data, CHUNK_BYTES))
    hidden = terms.weights == "hidden"
    return Contributed(
        **WHOSE, round=0, cluster=cluster, attempt="x", weight=1 if hidden else weight, metrics={}, shards=tuple(pieces),
        layout=await bulk.write(update_piece(RUN, 0, cluster, "x", "layout"), memoryview(header), CHUNK_BYTES),
        tally=tally(how, counts) if hidden else (),
    )  # fmt: skip


async def unmasked(bulk: MemoryBulk, story: MaskedStory) -> tuple[dict[str, np.ndarray], tuple[Folded, ...]]:
    """The next model, folded shard by shard by replicas of which each folds one, and what they said."""
    state = story.current
    facts = await asyncio.gather(*(Unmasking(bulk, Team(2)).fold(story.run, state, shard, NOW) for shard in range(state.shards)))
    flat = b"".join([bytes(chunk) for fact in facts async for _, chunk in bulk.read(fact.piece)])
    assert facts[0].layout is not None
    layout = parse_header(b"".join([bytes(chunk) async for _, chunk in bulk.read(facts[0].layout)]))
    tensors = {
        tensor.name: np.frombuffer(flat[tensor.begin : tensor.end], DTYPES[tensor.dtype]).reshape(tensor.shape) for tensor in layout.tensors
    }
    return tensors, tuple(facts)
