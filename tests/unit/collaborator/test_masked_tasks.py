"""What a collaborator decides to do in a masked round, given what the log says."""

from collections.abc import Hashable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from log_story import knows, recorded

from fedplane.collaborator.tasks import Collaborator, GiveUp, Inform, Question, Respond, Step
from fedplane.runtime.replica import Action, Perform
from fedplane.schemas.facts import (
    Cancelled,
    Closed,
    Contributed,
    Declined,
    Entrusted,
    Fact,
    Invited,
    Keyed,
    Paired,
    Revealed,
    RoundFailed,
)
from fedplane.schemas.models import Piece, Task
from fedplane.schemas.privacy_terms import Keyholder, MaskingTerms

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DEADLINE = NOW + timedelta(minutes=10)
CORE = Collaborator("c1")
KEY = "A" * 43 + "="
LAYOUT = Piece(subject="bulk.fed.v1.r1.2.update.c1.a.layout", bytes=0, chunk_bytes=8, digest="blake3:" + "0" * 64)


def about(round_: int, cluster: str = "") -> dict[str, Any]:
    return {"run": "r1", "round": round_, "at": NOW, **({"cluster": cluster} if cluster else {})}


def invited(round_: int = 2) -> Invited:
    return Invited(
        **about(round_, "c1"), task=Task.TRAIN, training_round=1, framework="other", app="", data="", configuration={},
        run_configuration={}, deadline=DEADLINE, shard_bytes=8, chunk_bytes=8,
        masking=MaskingTerms(clip=8, bits=32, weights="public", step_seconds=60),
    )  # fmt: skip


def keyed(cluster: str = "c1", round_: int = 2) -> Keyed:
    return Keyed(**about(round_, cluster), weight=1, metrics={}, mask_key=KEY, seal_key=KEY)


def paired(*clusters: str, round_: int = 2) -> Paired:
    members = tuple(Keyholder(cluster=cluster, mask_key=KEY, seal_key=KEY, weight=1) for cluster in clusters)
    return Paired(**about(round_), members=members, degree=2, threshold=2, weight_scale=1, deadline=DEADLINE, reason="everyone answered")


def entrusted(cluster: str = "c1") -> Entrusted:
    return Entrusted(**about(2, cluster), members=("c1", "c2", "c3"), sealed={}, commitments={}, deadline=DEADLINE)


def contributed() -> Contributed:
    return Contributed(**about(2, "c1"), attempt="a", weight=1, metrics={}, layout=LAYOUT, shards=())


def closed(*members: str) -> Closed:
    return Closed(**about(2), reason="everyone who masks has contributed", members=members or None)


def revealed() -> Revealed:
    return Revealed(**about(2, "c1"), seeds={}, keys={})


ALL = ("c1", "c2", "c3")
FAILED = RoundFailed(**about(2), reason="too-few-shares", message="")
DECLINED = Declined(**about(2, "c1"), reason="share-tampered", message="")


def decided(*facts: Fact, now: datetime = NOW) -> list[Action]:
    return CORE.decide(knows(CORE, recorded(facts)), now)


def nothing_before(round_: int) -> Perform:
    return Perform(("r1", "before", round_, None), GiveUp("r1", round_))


def going_on(*steps: Step) -> list[Action]:
    """The question is under way, and these steps of it are known."""
    asked = Perform(("r1", 2), Respond(invited(), "trace 1", is_keyed=True))
    return [nothing_before(2), asked, *(Perform(("r1", 2, type(step).__name__), Inform(step)) for step in steps)]


OVER = [nothing_before(3)]


def keys(actions: Iterable[Action]) -> list[Hashable]:
    return [action.key for action in actions if isinstance(action, Perform)]


def test_whoever_takes_part_is_told_of_each_step_once_and_goes_on_when_its_update_is_sent():
    story = (invited(), keyed(), paired(*ALL), entrusted(), contributed(), closed(*ALL))

    assert decided(*story[:2]) == going_on()
    assert decided(*story[:3]) == going_on(paired(*ALL))
    assert decided(*story[:4]) == decided(*story[:5]) == going_on(paired(*ALL), entrusted())
    assert decided(*story) == going_on(paired(*ALL), entrusted(), closed(*ALL))


def test_a_log_that_is_read_a_second_time_from_its_beginning_says_nothing_new():
    story = (invited(), keyed(), paired(*ALL), entrusted(), contributed(), closed(*ALL))

    assert keys(decided(*story, *story)) == keys(decided(*story))
    assert decided(*story, revealed(), *story) == OVER


def test_the_first_word_of_each_step_counts():
    later = closed("c1", "c3").model_copy(update={"reason": "said by somebody else"})

    assert decided(invited(), keyed(), closed(*ALL), later) == going_on(closed(*ALL))


@pytest.mark.parametrize(
    "end",
    [revealed(), DECLINED, FAILED, paired("c2", "c3"), closed("c2", "c3"), closed()],
    ids=["our last word", "declined", "the round failed", "paired without us", "closed without us", "cancelled"],
)
def test_a_masked_round_is_over_for_this_cluster_when_nothing_more_is_wanted_of_it(end: Fact):
    assert decided(invited(), keyed(), end) == OVER
    assert decided(invited(), keyed(), end, invited(), closed(*ALL)) == OVER


def test_what_is_remembered_of_a_masked_round_that_is_over_is_its_number():
    story = (invited(), keyed(), paired(*ALL), entrusted(), contributed(), closed(*ALL), revealed())

    assert knows(CORE, recorded(story)).runs == {"r1": Question(2, settled=True, asked=2, answered=2)}


def test_a_round_in_which_this_cluster_has_no_keys_goes_on_without_it():
    assert decided(invited(), paired(*ALL)) == decided(invited(), closed(*ALL)) == OVER


def test_the_deadline_of_training_is_not_that_of_the_steps_that_follow():
    assert decided(invited(), keyed(), now=DEADLINE + timedelta(seconds=1)) == going_on()


def test_another_clusters_facts_are_no_part_of_it():
    assert decided(invited(), keyed("c2")) == decided(invited())
    assert decided(invited(), keyed(), entrusted("c2")) == going_on()


def test_a_later_round_makes_the_steps_of_an_earlier_one_history():
    later = [nothing_before(3), Perform(("r1", 3), Respond(invited(3), "trace 4"))]

    assert decided(invited(), keyed(), paired(*ALL), invited(3)) == later
    assert decided(invited(), keyed(), paired(*ALL), invited(3), closed(*ALL), entrusted()) == later


def test_a_run_that_has_ended_has_no_steps():
    ended = Cancelled(run="r1", at=NOW)

    assert keys(decided(invited(), keyed(), paired(*ALL), ended, closed(*ALL))) == [("r1", "ended")]
