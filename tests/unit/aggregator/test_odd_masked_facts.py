"""What the aggregator makes of answers that cannot be masked, and of facts about a masked round that nobody of ours states."""

import pytest
from aggregator_story import NOW, SHARD_BYTES, Story, contributed, evaluated
from masked_story import WHOSE, MaskedStory, keyed, lapsed, masked, sum_folded

from fedplane.aggregator.deciding import shard_work
from fedplane.aggregator.exchange import keyholder
from fedplane.aggregator.rounds import Phase
from fedplane.aggregator.runs import Cut, Runs
from fedplane.schemas.facts import (
    Bound,
    Closed,
    Paired,
    Rejected,
    Revealed,
    RoundFailed,
)
from fedplane.schemas.privacy_terms import MaskingTerms


@pytest.mark.parametrize(
    ("answer", "secure", "message"),
    [
        (contributed(1, "a"), {}, "its update is not masked, and the round's updates are; is its collaborator older than the aggregator?"),
        (keyed(1, "a", 9), {}, "its weight is 9, and spec.rounds.weightMax is 5"),
        (
            keyed(1, "a", 2), {"weights": "hidden"},
            "it says that it has 2 examples, and the run hides such numbers: its collaborator has to say 1",
        ),
        (
            keyed(1, "a", mask_key="A" * 43 + "="), {},
            "nobody can agree on a mask with it: a public key is none that any private key has; its owner must make new keys",
        ),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_masked_does_not_count(answer, secure, message) -> None:
    story = MaskedStory(secure=secure, spec={"rounds": {"weightMax": 5}})
    story.initialize()
    story.tell(answer)
    (rejected,) = story.stated()

    assert rejected == Rejected(**WHOSE, at=story.now, cluster="a", reason="unacceptable", message=message)
    assert "a" not in story.current.unanswered


def test_who_says_the_mask_key_of_another_does_not_count() -> None:
    story = MaskedStory()
    story.initialize()
    story.tell(keyed(1, "b"), keyed(1, "a", mask_key=keyed(1, "b").mask_key))

    said = "its mask key is that of b, so with both of them others would put on masks that may cancel"
    assert story.current.unacceptable == {"a": said}


def test_a_round_whose_members_are_said_to_be_none_has_nothing_to_fold() -> None:
    story = MaskedStory()
    story.go_on("masking")
    story.contribute("abcd")
    story.tell(Closed(**WHOSE, at=NOW, reason="test", members=()))

    assert list(shard_work(story.current, story.run.submitted.resource.spec.strategy)) == []
    assert [fact.reason for fact in story.stated() if isinstance(fact, RoundFailed)] == ["too-few"]


@pytest.mark.parametrize("told", [8, 80, 8_000])
def test_updates_are_cut_as_the_model_is_whatever_aggregators_are_told_since(told) -> None:
    story = MaskedStory()
    story.initialize()
    story.tell(RoundFailed(**WHOSE, at=NOW, reason="test", message="test"))
    story.core = Runs(Cut(told, 16), has_secret=True)
    story.obey()

    assert (story.number, story.current.opened.shard_bytes) == (2, SHARD_BYTES)


def test_keys_in_a_round_that_is_not_masked_do_not_count() -> None:
    story = Story()
    story.initialize()
    story.tell(keyed(1, "a"))

    assert story.run.round is not None
    assert story.run.round.unacceptable == {"a": "it says its keys, and the round's updates are not masked"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": 2}, "its weight is 2, and with its keys it said 1"),
        ({"tally": (1,)}, "its tally is not 0 numbers of 32 bits"),
        ({"bits": 64}, "its shards do not have 32 bits for each number of the model's"),
        ({"layout": masked(1, "b").layout}, "its layout is not this cluster's own"),
        ({"layout": masked(1, "a").layout.model_copy(update={"digest": "blake3:" + "c" * 64})},
         "its layout is not the model's: another set of tensors, names, shapes or dtypes"),
        ({"origin": 0}, "it answers the question of round 0, which this round does not carry for its cluster"),
    ],
)  # fmt: skip
def test_a_masked_update_that_does_not_go_with_what_was_agreed_does_not_count(changed, message) -> None:
    story = MaskedStory()
    story.go_on("masking")
    story.contribute("a", **changed)
    (rejected,) = story.stated()

    assert rejected == Rejected(**WHOSE, at=story.now, cluster="a", reason="unacceptable", message=message)
    story.contribute("bcd")
    (closed,) = (fact for fact in story.stated() if isinstance(fact, Closed))
    assert closed.members == ("b", "c", "d")


@pytest.mark.parametrize("tally", [(), (1, 2), (2**32,)])
def test_a_hidden_weight_is_one_number_of_the_ring(tally) -> None:
    story = MaskedStory(secure={"weights": "hidden"}, spec={"rounds": {"weightMax": 5}})
    story.go_on("masking")
    story.contribute("a", tally=tally)
    story.contribute("b", tally=(2**32 - 1,))

    assert story.current.unacceptable == {"a": "its tally is not 1 numbers of 32 bits"}


def test_who_does_not_share_with_all_of_its_neighbours_is_refused() -> None:
    story = MaskedStory()
    story.go_on("sharing")
    story.share("abc")
    whole = story.shared("d")
    story.tell(whole.model_copy(update={"sealed": {name: sealed for name, sealed in whole.sealed.items() if name != "b"}}))
    rejected, bound = story.stated()

    assert isinstance(rejected, Rejected) and isinstance(bound, Bound)
    assert rejected.message == "its shares are not one for each of its 3 neighbours and itself: see b"
    assert bound.members == ("a", "b", "c")


@pytest.mark.parametrize(
    ("phase", "odd"),
    [
        ("collecting", lambda story: [Bound(**WHOSE, at=NOW, members=("a", "b", "c"), deadline=NOW)]),
        ("collecting", lambda story: [Closed(**WHOSE, at=NOW, reason="test", members=("a",))]),
        ("collecting", lambda story: [lapsed("sharing"), masked(1, "mallory"), keyed(1, "mallory")]),
        ("sharing", lambda story: [keyed(1, "a", 7), keyed(1, "d"), evaluated(1, "a", 1, 0.5), lapsed("masking")]),
        ("sharing", lambda story: [Bound(**WHOSE, at=NOW, members=("a", "b", "c"), deadline=NOW)]),
        ("sharing", lambda story: [story.shared("a").model_copy(update={"cluster": "mallory"})]),
        ("masking", lambda story: [masked(1, "mallory"), story.shared("a"), lapsed("sharing")]),
        ("masking", lambda story: [Closed(**WHOSE, at=NOW, reason="test", members=("a", "b", "c"))]),
        ("revealing", lambda story: [sum_folded(1, 0, *"abcd"), masked(1, "a"), lapsed("masking")]),
        ("revealing", lambda story: [Revealed(**WHOSE, at=NOW, cluster="mallory", seeds={}, keys={})]),
    ],
)
def test_what_nobody_of_ours_would_state_changes_nothing(phase, odd) -> None:
    story = MaskedStory()
    if phase == "collecting":
        story.initialize()
    else:
        story.go_on(phase)
    before = story.current
    story.tell(*odd(story))

    assert story.current == before and before.phase == phase


def test_paired_with_other_keys_than_were_said_changes_nothing() -> None:
    story = MaskedStory()
    story.initialize()
    story.key("abcd")
    (paired,) = story.stated()
    assert isinstance(paired, Paired)
    for members in (
        paired.members[::-1], paired.members[:1] * 2, (), (*paired.members, keyholder(keyed(1, "mallory"))),
        (paired.members[0].model_copy(update={"mask_key": paired.members[1].mask_key}), *paired.members[1:]),
    ):  # fmt: skip
        story.tell(paired.model_copy(update={"members": members}))

        assert story.current.phase is Phase.COLLECTING


@pytest.mark.parametrize(
    "odd", [{"masking": None}, {"masking": MaskingTerms(clip=8, bits=32, weights="public", step_seconds=1e300)}, {"model": None}]
)
def test_a_round_that_is_not_masked_as_the_resource_wants_is_opened_by_nobody_of_ours(odd) -> None:
    story = MaskedStory()
    story.initialize()
    story.tell(RoundFailed(**WHOSE, at=NOW, reason="test", message="test"))
    story.tell(story.current.opened.model_copy(update={"round": 2, **odd}))

    assert story.number == 1
