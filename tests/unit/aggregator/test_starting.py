"""A run that starts from a model: which one it is, why it cannot be, and where its bytes are."""

from dataclasses import replace

import pytest
from aggregator_story import LAYOUT_DIGEST, NOW, RUN, Story, contributed, folded, piece, resource, scheduled
from hypothesis import given, strategies

from fedplane.aggregator.runs import Discard, Runs
from fedplane.aggregator.starting import difference, parts
from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Perform
from fedplane.schemas.facts import Archived, Cancelled, Completed, Failed, Opened, Submitted
from fedplane.schemas.layout import Layout, Tensor
from fedplane.schemas.models import Model, model_digest
from fedplane.schemas.subjects import given_models, given_piece

OTHER = "older-76543210"


def model(run: str = OTHER, size: int = 200) -> Model:
    layout = piece(given_piece(run, "g", "layout"), 64, LAYOUT_DIGEST)
    shards = (piece(given_piece(run, "g", 0), size),)
    return Model(run=run, round=4, bytes=size, layout=layout, shards=shards, digest=model_digest(layout, shards))


def started_from(given_model: Model | None, **server: str) -> Story:
    story = Story()
    spec = {"server": {"rounds": 1, "minAvailableClients": 2, **server}}
    story.log.clear()
    story.state = story.core.initial()
    story.tell(Submitted(run=RUN, at=NOW, resource=resource(**spec), model=given_model))
    return story


def test_the_model_comes_with_the_request_and_round_0_still_asks_a_cluster_what_it_trains() -> None:
    story = started_from(model())
    story.tell(scheduled("a", "b"))
    story.obey()

    (opened,) = [fact for fact in story.log if isinstance(fact, Opened)]
    assert story.run.given == model()
    assert (opened.round, opened.task, opened.clusters, opened.model) == (0, "initialize", ("a",), None)


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_a_resource_names_the_ended_run_whose_model_is_meant(end: str) -> None:
    core, older = Runs(Story().core.cut), resource()
    ends = {
        "completed": Completed(run=OTHER, at=NOW, model=model(), metrics={}),
        "failed": Failed(run=OTHER, at=NOW, reason="x", message="y"),
        "cancelled": Cancelled(run=OTHER, at=NOW),
    }
    state = core.evolve(core.initial(), Recorded(Submitted(run=OTHER, at=NOW, resource=older), 1))
    state = {OTHER: replace(state[OTHER], model=model())}
    asked = Submitted(run=RUN, at=NOW, resource=resource(server={"initialModel": OTHER}))

    before = core.evolve(state, Recorded(asked, 2))
    after = core.evolve(core.evolve(state, Recorded(ends[end], 2)), Recorded(asked, 3))

    assert (before[RUN].given, after[RUN].given) == (None, model()), "a run that goes on will discard its model"


@pytest.mark.parametrize(
    ("given_model", "server", "why"),
    [
        (
            None,
            {"initialModel": OTHER},
            "spec.server.initialModel is 'older-76543210', and the log has no ended run of that id with a model",
        ),
        (model().model_copy(update={"bytes": 8}), {}, "not what its own digest and size say"),
        (model().model_copy(update={"digest": LAYOUT_DIGEST}), {}, "not what its own digest and size say"),
    ],
)
def test_a_model_that_cannot_be_started_from_fails_the_run_before_anybody_works(given_model, server, why) -> None:
    (failed,) = started_from(given_model, **server).stated()

    assert isinstance(failed, Failed)
    assert (failed.reason, why in failed.message) == ("BadRequest", True), failed.message


def discarded(story: Story) -> set[str]:
    return {pattern for action in story.due() if isinstance(action, Perform) for pattern in action.effect.patterns}


@pytest.mark.parametrize(("whose", "gone"), [(RUN, True), (OTHER, False)])
def test_what_was_stored_with_the_request_goes_when_it_is_copied_and_another_runs_model_stays(whose: str, gone: bool) -> None:
    story = started_from(model(whose))
    story.tell(scheduled("a", "b"))
    story.obey()
    early = discarded(story)
    story.tell(contributed(0, "a"))
    story.obey()
    story.tell(*(folded(0, shard, "a") for shard in range(3)))
    aggregated = [fact for fact in story.stated() if fact.subject.endswith("aggregated")]
    story.tell(*aggregated)

    assert given_models(RUN) not in early
    assert (given_models(RUN) in discarded(story), given_models(OTHER) in discarded(story)) == (gone, False)


def test_what_was_stored_with_a_request_goes_with_a_run_that_never_began() -> None:
    story = started_from(model(RUN))
    story.tell(Cancelled(run=RUN, at=NOW))

    (effect,) = [action.effect for action in story.due() if isinstance(action, Perform)]
    assert isinstance(effect, Discard)
    assert given_models(RUN) in effect.patterns


def test_an_archived_run_is_no_source() -> None:
    story = started_from(None)
    story.tell(Cancelled(run=RUN, at=NOW), Archived(run=RUN, at=NOW, facts=2, piece=piece("x", 8)))
    story.tell(Submitted(run="next-1", at=NOW, resource=resource(server={"initialModel": RUN})))

    assert story.state["next-1"].given is None


@given(strategies.lists(strategies.integers(0, 50), max_size=8), strategies.integers(0, 400), strategies.integers(0, 400))
def test_parts_are_the_range_and_nothing_else_however_the_model_is_cut(sizes: list[int], begin: int, length: int) -> None:
    flat = bytes(index % 251 for index in range(sum(sizes)))
    pieces, at = {}, 0
    for number, size in enumerate(sizes):
        pieces[str(number)] = flat[at : at + size]
        at += size

    found = parts(tuple(piece(name, len(data)) for name, data in pieces.items()), begin, begin + length)

    assert b"".join(pieces[of.subject][low:high] for of, low, high in found) == flat[begin : begin + length]


def layout(*tensors: tuple[str, str, tuple[int, ...], int]) -> Layout:
    return Layout(tuple(Tensor(name, dtype, shape, at, at + 8) for name, dtype, shape, at in tensors), ())


W, B = ("w", "F32", (2,), 0), ("b", "F32", (2,), 8)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ((W, B), None),
        ((W,), "it has no tensor 'b', which the app has"),
        ((W, B, ("c", "F32", (2,), 16)), "it has a tensor 'c', which the app has not"),
        ((W, ("b", "F64", (1,), 8)), "its tensor 'b' is F64 of shape [1], and the app's is F32 of shape [2]"),
        (
            (("b", "F32", (2,), 0), ("w", "F32", (2,), 8)),
            "its tensor 'w' begins at byte 8, and the app's at 0; order tensors by item size, then by name",
        ),
    ],
)
def test_a_difference_is_told_by_the_first_tensor_that_differs(other, said: str | None) -> None:
    assert difference(layout(W, B), layout(*other)) == said
