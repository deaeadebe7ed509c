"""What holds for every set of updates that are appended."""

import asyncio

from appended_story import bytes_of, facts_of, next_model, told
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from fedplane.aggregator.runs import Cut
from fedplane.runtime.memory import MemoryBulk

NAMES = st.sampled_from(("trees", "more", "even more"))
TENSORS = st.dictionaries(NAMES, st.binary(max_size=70), max_size=3).map(lambda tensors: bytes_of(**tensors))
UPDATES = st.dictionaries(st.sampled_from(("a", "b", "c", "d-1", "d-10")), TENSORS, min_size=1)
SIZES = st.builds(Cut, st.integers(1, 12).map(lambda n: 8 * n), st.integers(1, 5).map(lambda n: 8 * n))


async def model_after(model, updates, sizes: Cut, data: st.DataObject | None = None) -> bytes:
    """The next model, of facts that are told in their order, or in any order and any number of times that the log allows."""
    bulk = MemoryBulk()
    facts = await facts_of(bulk, model, updates, sizes)
    if data is not None:
        before, members, closed = facts[:3], facts[3:-1], facts[-1]
        repeated = st.lists(st.sampled_from(facts), max_size=4)
        facts = [*before, *data.draw(st.permutations(members)), *data.draw(repeated), closed, *data.draw(repeated)]
    return await next_model(bulk, told(facts, sizes))


@settings(max_examples=40)
@given(TENSORS, UPDATES, SIZES, st.data())
def test_any_order_and_repetition_of_facts_gives_the_same_bytes(model, updates, sizes, data) -> None:
    once, again = (asyncio.run(model_after(model, updates, sizes, how)) for how in (None, data))

    assert again == once


@settings(max_examples=40)
@given(TENSORS, UPDATES, SIZES, SIZES)
def test_shards_of_any_size_join_to_the_model_and_every_update_in_the_order_of_names(model, updates, sizes, others) -> None:
    one, other = (asyncio.run(model_after(model, updates, cut)) for cut in (sizes, others))
    named = {f"000001/{cluster}/{name}": tensor for cluster in sorted(updates) for name, tensor in updates[cluster].items()}

    assert one == other
    assert {name: tensor.tobytes() for name, tensor in load(one).items()} == {
        name: tensor.tobytes() for name, tensor in {**model, **named}.items()
    }
