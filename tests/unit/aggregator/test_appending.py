"""Updates that are appended: what the next model is called and made of, what is due in such a round, and what is refused."""

from datetime import timedelta
from typing import Any

import pytest
from aggregator_story import CHUNK_BYTES, LAYOUT_DIGEST, NOW, RUN, Story, contributed, piece, resource, scheduled
from appended_story import MODELS_ROUND, ROUND, bytes_of, facts_of, next_model, told
from safetensors.numpy import load

from fedplane.aggregator.accepting import SHARDS_MAX
from fedplane.aggregator.appending import CannotAppend, joined, unappendable
from fedplane.aggregator.folding import Unusable, fold
from fedplane.aggregator.runs import Cut
from fedplane.aggregator.team import Team
from fedplane.runtime.errors import Corrupt
from fedplane.runtime.memory import MemoryBulk
from fedplane.runtime.ports import Fence
from fedplane.runtime.replica import Offer, State
from fedplane.schemas.facts import Aggregated, Closed, Contributed, Failed, Folded, Invited, Opened, Rejected, RoundFailed, Submitted
from fedplane.schemas.layout import HEADER_BYTES_MAX, Layout, Tensor, cut, parse_header
from fedplane.schemas.models import Model, Piece, Task, model_digest
from fedplane.schemas.subjects import chunks_of, model_piece, update_piece, work_on

APPEND = {"strategy": {"name": "append"}}
SIZES = Cut(16, 8)


def layout(*tensors: tuple[str, int]) -> Layout:
    begin, found = 0, []
    for name, size in tensors:
        found.append(Tensor(name, "U8", (size,), begin, begin + size))
        begin += size
    return Layout(tuple(found), tuple(name for name, _ in tensors))


def test_a_model_says_in_its_names_who_has_added_what_and_when() -> None:
    header = joined(layout(("trees", 3)), [("a", layout(("trees", 2), ("more", 5))), ("b", layout())], 7)

    assert len(header) % 8 == 0
    assert parse_header(header) == layout(("trees", 3), ("000007/a/trees", 2), ("000007/a/more", 5))


def test_the_order_in_which_an_app_has_its_tensors_is_kept() -> None:
    turned = Layout(layout(("x", 1), ("y", 1)).tensors, ("y", "x"))

    assert parse_header(joined(turned, [("a", turned)], 1)).order == ("y", "x", "000001/a/y", "000001/a/x")


FLOATS = Layout((Tensor("w", "F32", (2,), 0, 8),), ("w",))


@pytest.mark.parametrize(
    ("model", "update", "whose", "why"),
    [
        (FLOATS, layout(), None, "the model cannot be appended to: its tensor 'w' is F32, and only bytes (U8) can be appended"),
        (layout(), FLOATS, "a", "its tensor 'w' is F32, and only bytes (U8) can be appended"),
        (layout(("000001/a/w", 1)), layout(("w", 1)), "a", "which the model has already"),
        (layout(), layout(("w" * (HEADER_BYTES_MAX // 2), 0)), None, f"a safetensors header may have {HEADER_BYTES_MAX}"),
    ],
    ids=["a model of floats", "an update of floats", "a name that is there", "a header that is too large"],
)
def test_what_cannot_be_appended_is_refused_with_whose_it_is(model: Layout, update: Layout, whose: str | None, why: str) -> None:
    with pytest.raises(CannotAppend) as refused:
        joined(model, [("a", update)], 1)

    assert (refused.value.cluster, why in str(refused.value)) == (whose, True), str(refused.value)[:500]


def test_tensors_of_bytes_can_be_appended_whatever_their_shape() -> None:
    assert unappendable(layout(("trees", 3), ("none", 0))) is None


def append_story(**spec: Any) -> Story:
    story = Story(spec={**APPEND, **spec})
    story.initialize()
    return story


def shards_due(story: Story) -> list[str]:
    return [action.subject for action in story.due() if isinstance(action, Offer)]


def appended(round_: int, sizes: dict[str, int], model_bytes: int = 200) -> list[Folded]:
    """The facts of the result's shards."""
    return [
        Folded(
            run=RUN, round=round_, shard=shard, at=NOW, members=tuple(sorted(sizes)),
            piece=piece(model_piece(RUN, round_, "y", shard), e - b),
            layout=piece(model_piece(RUN, round_, "y", "layout"), 64, LAYOUT_DIGEST) if shard == 0 else None,
        )
        for shard, (b, e) in enumerate(cut(model_bytes + sum(sizes.values()), 80))
    ]  # fmt: skip


def test_a_round_appends_updates_of_any_size_and_its_result_has_as_many_shards_as_all_of_them_need() -> None:
    story = append_story()
    opened = story.run.round.opened
    sizes = {"a": 90, "b": 0, "c": 40}
    story.tell(*(contributed(1, cluster, size=size, layout="blake3:" + cluster * 64) for cluster, size in sizes.items()))
    story.obey()
    due = shards_due(story)
    story.tell(*appended(1, sizes))
    (aggregated,) = story.stated()

    assert (opened.appends, {fact.appends for fact in story.log if isinstance(fact, Invited)}) == (True, {True})
    assert due == [work_on("fold", RUN, 1, shard) for shard in range(5)], "200 of the model and 130 of updates, 80 a shard"
    layout, *shards = [appended(1, sizes)[0].layout, *(fact.piece for fact in appended(1, sizes))]
    assert aggregated == Aggregated(
        run=RUN, round=1, at=story.now, task=Task.TRAIN, training_round=1, members=("a", "b", "c"), weight=3, metrics={"loss": 1},
        model=Model(run=RUN, round=1, bytes=330, layout=layout, shards=tuple(shards), digest=model_digest(layout, tuple(shards))),
    )  # fmt: skip


def test_the_evaluation_and_the_next_training_are_about_the_model_that_has_grown() -> None:
    story = append_story(server={"rounds": 2, "minAvailableClients": 2})
    story.tell(*(contributed(1, cluster, size=8) for cluster in "abc"))
    story.obey()
    story.tell(*appended(1, dict.fromkeys("abc", 8)))
    story.obey()
    evaluation = story.run.round.opened
    story.tell(*(Closed(run=RUN, round=2, at=NOW, reason="test"), RoundFailed(run=RUN, round=2, at=NOW, reason="x", message="y")))
    story.obey()
    training = story.run.round.opened

    assert (evaluation.task, evaluation.model.bytes, evaluation.appends) == (Task.EVALUATE, 224, True)
    assert (training.task, training.model.bytes, training.appends) == (Task.TRAIN, 224, True)


@pytest.mark.parametrize(
    ("shards", "why"),
    [
        ((piece(update_piece(RUN, 1, "b", "x", 0), 40),), "not this cluster's own"),
        (contributed(1, "a", size=40).shards * 2, "it is not cut into shards of 80 bytes"),
        ((piece("x", 40).model_copy(update={"chunk_bytes": 8}),), "it is not cut into chunks of 16 bytes"),
    ],
    ids=["another cluster's bytes", "cut otherwise", "other chunks"],
)
def test_all_other_checks_of_an_update_stay(shards: tuple[Piece, ...], why: str) -> None:
    story = append_story()
    story.tell(contributed(1, "a").model_copy(update={"shards": shards}))

    (rejected,) = [fact for fact in story.stated() if isinstance(fact, Rejected)]
    assert why in rejected.message, rejected.message


def grown(shards: int, layout_bytes: int = 64) -> Story:
    """A training round about a model of so many shards, to which a and b have contributed 80 bytes each."""
    pieces = tuple(piece(model_piece(RUN, 0, "y", shard), 80) for shard in range(shards))
    head = piece(model_piece(RUN, 0, "y", "layout"), layout_bytes)
    model = Model(run=RUN, round=0, bytes=80 * shards, layout=head, shards=pieces, digest=model_digest(head, pieces))
    story = Story(spec=APPEND, clusters=("a", "b"))
    story.tell(scheduled("a", "b"))
    story.obey()
    opened = Opened(
        run=RUN, round=1, at=NOW, task=Task.TRAIN, training_round=1, clusters=("a", "b"), minimum=2,
        shard_bytes=80, chunk_bytes=CHUNK_BYTES, deadline=NOW + timedelta(minutes=10), model=model, appends=True,
    )  # fmt: skip
    story.tell(opened, *(contributed(1, cluster, size=80) for cluster in "ab"), Closed(run=RUN, round=1, at=NOW, reason="test"))
    return story


@pytest.mark.parametrize(
    ("shards", "layout_bytes", "why"),
    [
        (SHARDS_MAX - 2, 64, None),
        (SHARDS_MAX - 1, 64, f"with the updates appended the model has {SHARDS_MAX + 1} shards, and a fact has room for {SHARDS_MAX}"),
        (1, HEADER_BYTES_MAX - 127, f"the layouts of the model and of the updates have {HEADER_BYTES_MAX + 1} bytes together"),
    ],
)
def test_a_model_that_grows_too_large_fails_the_round_before_a_shard_is_offered(shards: int, layout_bytes: int, why: str | None) -> None:
    story = grown(shards, layout_bytes)
    due = story.said()

    if why is None:
        assert len(due) == SHARDS_MAX and all(isinstance(action, Offer) for action in due)
        return
    (action,) = due
    assert isinstance(action, State) and isinstance(action.fact, RoundFailed)
    assert (action.fact.reason, action.fact.message.startswith(why)) == ("too-large", True), action.fact.message
    assert action.fence == Fence(Aggregated.pattern(run=RUN, round=1))


OTHERS = Model(run="older-76543210", round=4, bytes=80, layout=piece("x", 64), shards=(piece("y", 80),), digest="blake3:" + "0" * 64)


@pytest.mark.parametrize(
    ("spec", "given", "why"),
    [
        ({**APPEND, "rounds": {"carry": 1}}, None, "spec.rounds.carry: append counts no update that is late"),
        ({**APPEND, "server": {"initialModel": "older-76543210"}}, None, "with append a run cannot go on from another model yet"),
        (APPEND, OTHERS, "with append a run cannot go on from another model yet"),
        ({"framework": "xgboost"}, None, "the trees of xgboost cannot go by fedavg; name the strategy append"),
        ({"framework": "xgboost", "strategy": {"name": "app"}}, None, "the trees of xgboost cannot go by app; name the strategy append"),
        ({"strategy": {"name": "append", "parameters": {"eta": 1}}}, None, "append has no 'eta'; it has none"),
    ],
)
def test_what_cannot_be_had_together_fails_the_run_at_once(spec: dict[str, Any], given: Model | None, why: str) -> None:
    story = Story()
    story.log.clear()
    story.state = story.core.initial()
    story.tell(Submitted(run=RUN, at=NOW, resource=resource(**{"server": {"minAvailableClients": 2}, **spec}), model=given))
    (failed,) = story.stated()

    assert isinstance(failed, Failed)
    assert (failed.reason, why in failed.message) == ("BadRequest", True), failed.message


@pytest.mark.parametrize(("strategy", "appends"), [("append", False), ("fedavg", True)])
def test_a_round_that_appends_where_the_strategy_does_not_is_none_of_ours(strategy: str, appends: bool) -> None:
    story = Story(spec={"strategy": {"name": strategy}})
    story.initialize()
    ours = story.run.round.opened
    story.tell(RoundFailed(run=RUN, round=1, at=NOW, reason="x", message="y"), ours.model_copy(update={"round": 2, "appends": appends}))

    assert story.run.round.opened == ours


async def round_of(bulk: MemoryBulk, **updates: Any) -> Any:
    return told(await facts_of(bulk, bytes_of(trees=b"0123456789"), updates, SIZES), SIZES)


async def test_the_next_model_is_the_last_one_and_after_it_the_updates_by_name() -> None:
    bulk = MemoryBulk()
    run = await round_of(bulk, b=bytes_of(trees=b"of b"), a=bytes_of(trees=b"of a, and more than a shard"))

    tensors = load(await next_model(bulk, run))
    assert {name: tensor.tobytes() for name, tensor in tensors.items()} == {
        "trees": b"0123456789", "000001/a/trees": b"of a, and more than a shard", "000001/b/trees": b"of b",
    }  # fmt: skip


@pytest.mark.parametrize("what", [0, "layout"])
async def test_whose_bytes_are_gone_is_named(what: int | str) -> None:
    bulk = MemoryBulk()
    run = await round_of(bulk, a=bytes_of(trees=b"of a"), b=bytes_of(trees=b"of b"))
    await bulk.purge(chunks_of(update_piece(RUN, ROUND, "b", "x", what)))

    with pytest.raises(Unusable) as refused:
        await fold(bulk, Team(1), run, run.round, 0, NOW)
    assert refused.value.cluster == "b"


async def test_bytes_of_the_model_that_cannot_be_read_are_nobodys_fault_and_tried_again() -> None:
    bulk = MemoryBulk()
    run = await round_of(bulk, a=bytes_of(trees=b"of a"), b=bytes_of(trees=b"of b"))
    await bulk.purge(chunks_of(model_piece(RUN, MODELS_ROUND, "m", 0)))

    with pytest.raises(Corrupt):
        await fold(bulk, Team(1), run, run.round, 0, NOW)


async def test_a_layout_that_does_not_describe_the_update_is_refused_with_whose_it_is() -> None:
    bulk = MemoryBulk()
    facts = await facts_of(bulk, bytes_of(trees=b"0"), {"a": bytes_of(trees=b"of a"), "b": bytes_of(trees=b"more of b")}, SIZES)
    said = next(fact for fact in facts if isinstance(fact, Contributed) and fact.cluster == "b")
    own = await bulk.write(update_piece(RUN, ROUND, "b", "x", 0), memoryview(b"of b"), SIZES.chunk_bytes)
    facts[facts.index(said)] = said.model_copy(update={"shards": (own,)})
    run = told(facts, SIZES)

    with pytest.raises(Unusable, match="its layout describes 9 bytes and it has 4") as refused:
        await fold(bulk, Team(1), run, run.round, 0, NOW)
    assert refused.value.cluster == "b"
