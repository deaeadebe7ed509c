"""Which models of a run stay stored: while it goes on, when it has ended, and when it is archived."""

from typing import Any

import pytest
from aggregator_story import NOW, RUN, Story, contributed, folded, piece
from pydantic import ValidationError

from fedplane.aggregator.runs import Discard
from fedplane.runtime.replica import Perform
from fedplane.schemas.facts import Archived, Cancelled, Closed, Completed, Failed, RoundFailed
from fedplane.schemas.resources import RoundPolicy
from fedplane.schemas.subjects import archive_piece, bulk_of_round

ROUNDS = 6
BEST = {"metric": "m", "mode": "max", "target": 100}
VALUES = (0.5, 0.9, 0.6, 0.7, 0.1, 0.2)
"""What each training round reports: the second one is the best."""


def trained(times: int, **policy: Any) -> tuple[Story, set[int]]:
    """A run after so many training rounds, without evaluations, and the rounds whose models are gone."""
    story = Story(spec={"server": {"rounds": ROUNDS, "minAvailableClients": 2}, "rounds": {"evaluate": False, **policy}})
    story.initialize()
    gone: set[int] = set()
    for number in range(1, times + 1):
        story.tell(*(contributed(number, cluster, metrics={"m": VALUES[number - 1]}) for cluster in "abc"))
        story.obey()
        story.tell(*(folded(number, shard, *"abc") for shard in range(3)))
        story.tell(*story.stated())
        gone |= discarded(story)
        story.obey()
    return story, gone | discarded(story)


def discarded(story: Story) -> set[int]:
    patterns = [pattern for action in story.due() if isinstance(action, Perform) for pattern in action.effect.patterns]
    return {number for number in range(ROUNDS + 2) if bulk_of_round(RUN, number, "model") in patterns}


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ({}, {6}),
        ({"checkpoints": 3}, {4, 5, 6}),
        ({"checkpoints": 100}, set(range(7))),
        ({"stop": BEST}, {2, 6}),
        ({"checkpoints": 2, "stop": BEST}, {2, 5, 6}),
        ({"checkpoints": 5, "stop": BEST, "keep": "best"}, {2, 3, 4, 5, 6}),
    ],
    ids=["the last", "the last three", "all", "the last and the best", "the last two and the best", "the best among the last"],
)
def test_of_an_ended_run_the_last_models_and_the_best_one_stay(policy: dict[str, Any], kept: set[int]) -> None:
    story, gone = trained(ROUNDS, **policy)

    assert isinstance(story.log[-1], Completed)
    assert set(range(ROUNDS + 1)) - gone == kept


def test_what_a_round_left_is_discarded_in_the_next_one_if_whoever_should_have_done_it_died() -> None:
    story, _ = trained(2)
    fresh = [action for action in story.due() if isinstance(action, Perform)]

    assert story.run.round is not None
    assert not story.run.round.ended
    assert fresh == [Perform(("discard", RUN, 2), Discard((bulk_of_round(RUN, 2, "update"), bulk_of_round(RUN, 0, "model"))))]


def test_a_run_that_fails_leaves_nothing_of_its_last_round() -> None:
    story, _ = trained(2, attempts=1)
    story.tell(RoundFailed(run=RUN, round=3, at=NOW, reason="test", message="half of it was folded"))
    story.obey()
    last = [action.effect.patterns for action in story.due() if isinstance(action, Perform)][-1]

    assert isinstance(story.log[-1], Failed)
    assert set(last) == {bulk_of_round(RUN, "*", "update"), *(bulk_of_round(RUN, number, "model") for number in (1, 3))}


@pytest.mark.parametrize(("checkpoints", "kept"), [(1, {3, 4}), (2, {3, 4}), (3, {2, 3, 4})])
def test_while_a_run_goes_on_the_model_before_the_last_stays_in_any_case(checkpoints: int, kept: set[int]) -> None:
    _, gone = trained(4, checkpoints=checkpoints)

    assert set(range(5)) - gone == kept


def test_a_run_that_was_cancelled_keeps_as_many() -> None:
    story, gone = trained(4, checkpoints=2, stop=BEST)
    story.tell(Cancelled(run=RUN, at=NOW))

    assert set(range(5)) - (gone | discarded(story)) == {2, 3, 4}


def test_nothing_is_remembered_or_done_about_an_archived_run() -> None:
    story, _ = trained(ROUNDS)
    ended = story.due()
    story.tell(Archived(run=RUN, at=NOW, facts=9, piece=piece(archive_piece(RUN, "a"), 9)))
    story.tell(Closed(run=RUN, round=7, at=NOW, reason="from somebody who was asleep"))

    assert [type(action.effect) for action in ended if isinstance(action, Perform)] == [Discard]
    assert (story.state, story.due()) == ({}, [])


def test_a_run_whose_facts_are_being_purged_while_they_are_read_is_not_taken_up() -> None:
    story = Story()
    story.tell(Archived(run=RUN, at=NOW, facts=9, piece=piece(archive_piece(RUN, "a"), 9)))

    assert (story.state, story.due()) == ({}, [])


@pytest.mark.parametrize("checkpoints", [0, 101, -1])
def test_no_run_keeps_no_model_or_more_than_a_hundred(checkpoints: int) -> None:
    with pytest.raises(ValidationError, match="checkpoints"):
        RoundPolicy(checkpoints=checkpoints)
