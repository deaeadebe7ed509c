"""What the aggregator wants done in a masked round, step by step: facts in, actions out."""

from datetime import timedelta

import pytest
from aggregator_story import NOW, RUN, declined
from masked_story import CONTENTS, STEP, UNLESS_FAILED, WHOSE, MaskedStory, keyed, lapsed, masked, sum_folded

from fedplane.aggregator.exchange import keyholder
from fedplane.privacy.pairing import question
from fedplane.runtime.ports import Fence, Recorded
from fedplane.runtime.replica import Action, Offer, Perform, Remind, State
from fedplane.schemas.facts import (
    Aggregated,
    Bound,
    Cancelled,
    Closed,
    Entrusted,
    Expired,
    Fact,
    Invited,
    Lapsed,
    Paired,
    Rejected,
    RoundFailed,
)
from fedplane.schemas.subjects import work_on


def failed(story: MaskedStory, reason: str, message: str, unless: type[Fact]) -> list[Action]:
    return [State(RoundFailed(**WHOSE, at=story.now, reason=reason, message=message), Fence(unless.pattern(run=RUN, round=1)))]


def test_those_who_have_said_their_keys_are_paired_when_everyone_has_answered() -> None:
    story = MaskedStory()
    story.initialize()
    story.key("c", 2)
    story.key("ab")
    assert [type(action) for action in story.said()] == [Remind]
    story.tell(declined(1, "d"))
    asked = {question(fact) for fact in story.log if isinstance(fact, Invited) and fact.round == 1}
    assert len(asked) == 1, "four clusters are asked the same"
    assert story.current.opened.model is not None
    paired = Paired(
        **WHOSE, at=story.now + timedelta(seconds=1), question=asked.pop(),
        members=tuple(keyholder(keyed(1, c, 2 if c == "c" else 1)) for c in "abc"),
        degree=2, threshold=2, weight_scale=2, deadline=story.now + timedelta(seconds=61), reason="everyone answered",
    )  # fmt: skip

    assert story.said()[-1] == State(paired, UNLESS_FAILED)


@pytest.mark.parametrize(
    ("spec", "told", "reason"),
    [({"rounds": {"closeAt": 3}}, [], "3 clusters have said their keys"), ({}, [Expired(**WHOSE, at=NOW)], "the deadline passed")],
)
def test_the_wait_for_keys_ends_as_that_for_contributions_does(spec, told, reason) -> None:
    story = MaskedStory(spec=spec)
    story.initialize()
    story.key("abc")
    story.tell(*told)
    (paired,) = story.stated()

    assert isinstance(paired, Paired)
    assert (paired.reason, [member.cluster for member in paired.members]) == (reason, ["a", "b", "c"])


def test_hidden_weights_are_divided_by_the_largest_that_may_count() -> None:
    story = MaskedStory(secure={"weights": "hidden"}, spec={"rounds": {"weightMax": 5000}})
    story.initialize()
    story.key("abcd")
    (paired,) = story.stated()

    assert isinstance(paired, Paired) and paired.weight_scale == 5000


def test_who_has_said_its_keys_and_then_declines_is_not_paired() -> None:
    story = MaskedStory(spec={"rounds": {"closeAt": 3}})
    story.initialize()
    story.key("abc")
    story.tell(declined(1, "b"))
    assert [type(action) for action in story.said()] == [Remind]
    story.key("d")
    (paired,) = story.stated()

    assert isinstance(paired, Paired) and [member.cluster for member in paired.members] == ["a", "c", "d"]


def test_two_clusters_do_not_mask_with_each_other() -> None:
    story = MaskedStory()
    story.initialize()
    story.key("ab")
    story.tell(declined(1, "c"), Expired(**WHOSE, at=NOW))

    message = "2 of 4 clusters have said their keys, 3 are needed; c declined (app-raised): it raised; d did not answer by the deadline"
    assert story.said() == failed(story, "too-few", message, Paired)


def test_a_threshold_that_so_few_cannot_have_fails_the_round() -> None:
    story = MaskedStory(secure={"threshold": 4}, spec={"server": {"minAvailableClients": 5}}, clusters=tuple("abcde"))
    story.initialize()
    story.tell(RoundFailed(**WHOSE, at=NOW, reason="test", message="test"))
    story.tell(story.log[-2 - len("abcde")].model_copy(update={"round": 2, "minimum": 3}))  # as nobody of ours opens it
    story.key("abc")
    story.tell(Expired(run=RUN, round=2, at=NOW))
    *_, fact = story.stated()

    assert isinstance(fact, RoundFailed) and fact.reason == "too-few"
    assert fact.message.startswith("3 clusters cannot mask with one another: a threshold of 4 cannot be met by 2 neighbours")


def test_those_who_have_shared_their_secrets_are_bound_when_all_have() -> None:
    story = MaskedStory()
    story.go_on("sharing")
    paired = story.current.exchange.paired
    assert paired is not None
    assert story.said() == [Remind(Lapsed(**WHOSE, at=paired.deadline, step="sharing"), paired.deadline)]
    story.share("abcd")

    bound = Bound(**WHOSE, at=story.now + timedelta(seconds=1), members=tuple("abcd"), deadline=story.now + timedelta(seconds=61))
    assert story.said() == [State(bound, UNLESS_FAILED)]


@pytest.mark.parametrize("told", [lapsed("sharing"), declined(1, "d")])
def test_who_has_not_shared_is_left_behind_when_time_is_over_or_it_has_gone(told) -> None:
    story = MaskedStory()
    story.go_on("sharing")
    story.share("abc")
    story.tell(told)
    (bound,) = story.stated()

    assert isinstance(bound, Bound) and bound.members == ("a", "b", "c")


def test_who_declines_after_it_has_shared_is_not_bound() -> None:
    story = MaskedStory()
    story.go_on("sharing")
    story.share("abcd")
    story.tell(declined(1, "b"))
    (bound,) = story.stated()

    assert isinstance(bound, Bound) and bound.members == ("a", "c", "d")


def test_a_round_in_which_too_few_shared_has_failed_and_is_tried_again() -> None:
    story = MaskedStory()
    story.go_on("sharing")
    story.share("ab")
    story.tell(declined(1, "c"), lapsed("sharing"))
    message = (
        "0 of 4 clusters can mask, with shares of their secrets in enough hands, 3 are needed; "
        "c declined (app-raised): it raised; d did not share its secrets in time"
    )
    assert story.said() == failed(story, "too-few-shares", message, Bound)
    story.obey()

    assert (story.number, story.current.opened.training_round, story.current.opened.clusters) == (2, 1, tuple("abcd"))


def test_fewer_than_the_resource_asks_for_are_not_bound_though_they_could_mask() -> None:
    secure, server = {"neighbours": 2, "threshold": 2}, {"minAvailableClients": 5}
    story = MaskedStory(spec={"server": server}, clusters=tuple("abcde"), secure=secure)
    story.initialize()
    story.key("abcde")
    story.obey()
    story.share("abcd")
    story.tell(lapsed("sharing"))
    message = "4 of 5 clusters can mask, with shares of their secrets in enough hands, 5 are needed; e did not share its secrets in time"

    assert story.said() == failed(story, "too-few-shares", message, Bound)


def test_whose_shares_are_in_too_few_hands_is_not_bound_either() -> None:
    names = tuple("abcdefgh")
    story = MaskedStory(clusters=names, secure={"neighbours": 2, "threshold": 2})
    story.initialize()
    story.key("abcdefgh")
    story.obey()
    pairing = story.current.exchange.pairing
    assert pairing is not None
    alone = "a"
    silent = {*pairing.neighbours[alone]}
    story.share("".join(name for name in names if name not in silent))
    story.tell(lapsed("sharing"))
    (bound,) = story.stated()

    assert isinstance(bound, Bound)
    assert set(bound.members) <= set(names) - silent - {alone}
    assert all(sum(holder in bound.members for holder in pairing.holders(cluster)) >= 2 for cluster in bound.members)


def test_each_member_is_handed_what_the_others_have_sealed_for_it() -> None:
    story = MaskedStory()
    story.go_on("sharing")
    story.share("abc")
    story.tell(lapsed("sharing"))
    story.tell(*story.stated())
    bound = story.current.exchange.bound
    assert bound is not None

    assert story.said() == [
        *(
            State(
                Entrusted(
                    **WHOSE, at=story.now, cluster=cluster, members=bound.members, deadline=bound.deadline,
                    sealed={other: story.sharings[other].sealed[cluster] for other in "abc" if other != cluster},
                    commitments={other: story.sharings[other].commitments[cluster] for other in "abc" if other != cluster},
                )
            )
            for cluster in "abc"
        ),
        Remind(Lapsed(**WHOSE, at=bound.deadline, step="masking"), bound.deadline),
    ]  # fmt: skip


def test_the_round_is_closed_with_those_who_masked_when_all_have() -> None:
    story = MaskedStory()
    story.go_on("masking")
    story.contribute("abcd")

    closed = Closed(
        **WHOSE, at=story.now + timedelta(seconds=1), reason="everyone who masks has contributed or gone", members=tuple("abcd")
    )
    assert story.said() == [State(closed, UNLESS_FAILED)]


def test_who_was_bound_and_drops_out_is_not_among_those_that_count() -> None:
    story = MaskedStory()
    story.go_on("masking")
    story.contribute("abc")
    story.tell(lapsed("masking"))
    (closed,) = story.stated()
    story.tell(closed, masked(1, "d"))

    assert isinstance(closed, Closed) and (closed.reason, closed.members) == ("1 did not mask in time", ("a", "b", "c"))
    assert [member.cluster for member in story.current.members] == ["a", "b", "c"]


def test_what_reaches_the_log_before_closed_but_is_not_named_there_does_not_count() -> None:
    story = MaskedStory()
    story.go_on("masking")
    story.contribute("abc")
    story.tell(lapsed("masking"))
    (closed,) = story.stated()
    story.contribute("d")
    story.tell(closed)

    assert [member.cluster for member in story.current.members] == ["a", "b", "c"]


def test_a_round_in_which_too_few_masked_has_failed() -> None:
    story = MaskedStory()
    story.go_on("masking")
    story.contribute("ab")
    story.tell(lapsed("masking"))

    message = "2 of 4 clusters sent their masked update, 3 are needed; c did not send its masked update in time"
    assert story.said() == failed(story, "too-few", f"{message}; d did not send its masked update in time", Closed)


def test_a_round_whose_masks_nobody_could_take_off_has_failed_before_anybody_reveals() -> None:
    names = "abcdefgh"
    story = MaskedStory(clusters=tuple(names), secure={"neighbours": 2, "threshold": 2})
    story.initialize()
    story.key(names)
    story.obey()
    story.share(names)
    story.obey()
    pairing = story.current.exchange.pairing
    assert pairing is not None
    story.contribute("".join(name for name in names if name not in pairing.neighbours["a"]))
    story.tell(lapsed("masking"))
    (fact,) = story.stated()
    first, second = pairing.neighbours["a"]

    assert isinstance(fact, RoundFailed)
    assert (fact.reason, fact.message) == (
        "too-few-shares",
        "of the 6 clusters that sent their masked update fewer than 2 have shares of the secrets of a, so nobody can take the masks off; "
        f"{first} did not send its masked update in time; {second} did not send its masked update in time",
    )


def test_shares_are_waited_for_until_the_masks_can_be_taken_off_and_then_shards_are_folded() -> None:
    story = MaskedStory()
    story.go_on("revealing", contributed="abd")
    closed = story.current.closed
    assert closed is not None
    assert story.said() == [Remind(Lapsed(**WHOSE, at=closed.at + STEP, step="revealing"), closed.at + STEP)]
    story.reveal("a")
    assert [type(action) for action in story.said()] == [Remind]
    story.reveal("bd")

    assert story.said() == [Offer(work_on("fold", RUN, 1, shard)) for shard in range(3)]


def test_a_threshold_of_members_is_enough_to_reveal() -> None:
    story = MaskedStory()
    story.go_on("revealing")
    story.reveal("acd")
    story.tell(lapsed("revealing"))

    assert story.current.exchange.pairing is not None and story.current.exchange.pairing.threshold == 3
    assert [type(action) for action in story.said()] == [Offer, Offer, Offer]


@pytest.mark.parametrize("told", [[lapsed("revealing")], [declined(1, "c"), declined(1, "d")]])
def test_a_round_whose_masks_stay_on_has_failed(told) -> None:
    story = MaskedStory()
    story.go_on("revealing")
    story.reveal("ab")
    story.tell(*told)
    (fact,) = story.stated()

    assert isinstance(fact, RoundFailed) and fact.reason == "too-few-shares"
    assert fact.message.startswith("2 of 4 members have revealed shares, and of each secret 3 are needed; c d")


def test_a_false_share_does_not_count_and_who_sent_it_is_refused() -> None:
    story = MaskedStory()
    story.go_on("revealing", contributed="abd")
    honest = story.revealed("b")
    story.tell(honest.model_copy(update={"seeds": {**honest.seeds, "a": honest.seeds["b"]}, "keys": {"c": "AAAA"}}))
    story.reveal("ad")
    why = "what it revealed of the secrets of a, c is not what these had entrusted to it"
    said = story.said()

    assert said[0] == State(Rejected(**WHOSE, at=story.now, cluster="b", reason="unacceptable", message=why))
    assert isinstance(said[1], State) and isinstance(said[1].fact, RoundFailed)
    assert said[1].fact.message == f"3 of 3 members have revealed shares, and of each secret 3 are needed; b was rejected: {why}"
    story.tell(*story.stated())
    assert story.run.refusals == {"b": 1}


def test_shares_of_the_secret_that_is_not_wanted_are_not_kept() -> None:
    story = MaskedStory()
    story.go_on("revealing", contributed="abd")
    honest, trustee = story.revealed("b"), story.sharings
    both = {"seeds": {**honest.seeds, "c": honest.keys["c"]}, "keys": {**honest.keys, "a": honest.seeds["a"]}}
    story.tell(honest.model_copy(update=both))

    assert trustee.keys() == {*"abcd"} and story.current.exchange.revealed == {"b": honest}
    assert story.current.unacceptable == {}


def test_the_result_names_those_whose_updates_are_in_it_and_what_the_next_round_s_masks_depend_on() -> None:
    story = MaskedStory()
    story.go_on("revealing", contributed="abd")
    story.reveal("abd")
    story.tell(*(sum_folded(1, shard, "a", "b", "d") for shard in range(3)))
    (result,) = story.stated()

    assert isinstance(result, Aggregated) and result.model is not None
    assert (result.members, result.weight, result.metrics, result.model.contents) == (("a", "b", "d"), 3, {"loss": 1}, CONTENTS)


@pytest.mark.parametrize("phase", ["collecting", "sharing", "masking", "revealing"])
def test_a_run_that_is_cancelled_closes_its_masked_round_whatever_it_waits_for(phase) -> None:
    story = MaskedStory()
    if phase == "collecting":
        story.initialize()
    else:
        story.go_on(phase)
    story.tell(Cancelled(run=RUN, at=NOW))
    said = story.said()
    closed = State(Closed(**WHOSE, at=story.now, reason="the run was cancelled"))

    assert said == ([] if phase == "revealing" else [closed])
    assert any(isinstance(action, Perform) for action in story.due())


def test_a_replica_that_takes_over_at_any_time_wants_the_same_done() -> None:
    story = MaskedStory()
    story.go_on("revealing", contributed="abd")
    story.reveal("abd")
    records = [Recorded(fact, sequence) for sequence, fact in enumerate(story.log, 1)]
    once = story.core.initial()
    for end, record in enumerate(records, 1):
        once, again = story.core.evolve(once, record), story.core.initial()
        for known in (*records[: end // 2], *records[:end], *records[:end]):
            again = story.core.evolve(again, known)

        assert again == once
        assert story.core.decide(again, NOW) == story.core.decide(once, NOW)
