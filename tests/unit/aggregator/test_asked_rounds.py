"""Rounds that the app's own server asks for: opened as it says, and left to it."""

from datetime import timedelta
from typing import Any

import pytest
from aggregator_story import CHUNK_BYTES, NOW, RUN, SHARD_BYTES, Story, asked, content, contributed, declined, folded, scheduled

from fedplane.aggregator.runs import Discard
from fedplane.runtime.replica import Offer, Perform
from fedplane.schemas.facts import (
    Aggregated,
    Asked,
    Cancelled,
    Closed,
    Completed,
    Expired,
    Fact,
    Failed,
    Invited,
    Opened,
    Rejected,
    RoundFailed,
)
from fedplane.schemas.models import Instruction, Task
from fedplane.schemas.subjects import bulk_of_round, work_on


def story(**spec: Any) -> Story:
    """A run that has started, and whose server has asked nothing yet."""
    it = Story(spec={"strategy": {"name": "app"}, **spec})
    it.tell(scheduled("a", "b", "c"))
    it.obey()
    return it


def last(story: Story) -> list[str]:
    """What the last facts are about."""
    return [fact.subject.split(".", 4)[-1] for fact in story.log[-3:]]


def discarded(story: Story) -> set[str]:
    effects = [action.effect for action in story.due() if isinstance(action, Perform)]
    return {pattern for effect in effects if isinstance(effect, Discard) for pattern in effect.patterns}


def test_nothing_is_due_until_the_server_asks() -> None:
    assert story().said() == []


def test_a_round_is_opened_as_it_is_asked_for_and_each_cluster_is_sent_its_own_content() -> None:
    it = story(rounds={"deadlineSeconds": 60})
    it.tell(asked(0, "b", "a", timeout_seconds=9))

    said = it.obey()

    opened = Opened(
        run=RUN, round=0, at=said[0].at, task=Task.REPLY, training_round=1, clusters=("a", "b"), minimum=1,
        deadline=said[0].at + timedelta(seconds=9), shard_bytes=SHARD_BYTES, chunk_bytes=CHUNK_BYTES,
    )  # fmt: skip
    assert said[0] == opened
    assert [(fact.cluster, fact.model, fact.instruction, fact.fold) for fact in said[1:] if isinstance(fact, Invited)] == [
        ("a", content(0, 1), Instruction(cluster="a", kind="train", group="1", content=1), False),
        ("b", content(0, 0), Instruction(cluster="b", kind="train", group="1", content=0), False),
    ]


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 60), (3600, 60), (5, 5)])
def test_a_round_lasts_as_long_as_the_server_waits_but_no_longer_than_the_resource_says(timeout: float | None, seconds: int) -> None:
    it = story(rounds={"deadlineSeconds": 60})
    it.tell(asked(0, "a", timeout_seconds=timeout))

    opened = it.obey()[0]

    assert isinstance(opened, Opened)
    assert opened.deadline - opened.at == timedelta(seconds=seconds)


def test_replies_of_any_layout_are_members_and_nothing_is_folded() -> None:
    it = story()
    it.tell(asked(0, "a", "b", "c"))
    it.obey()
    it.tell(contributed(0, "b", 3, layout="blake3:" + "c" * 64, size=40), contributed(0, "a", 1), declined(0, "c"))

    said = it.obey()

    assert not [action for action in it.due() if isinstance(action, Offer)]
    assert said == [
        Closed(run=RUN, round=0, at=said[0].at, reason="everyone answered"),
        Aggregated(
            run=RUN, round=0, at=said[1].at, task=Task.REPLY, training_round=1, members=("a", "b"), weight=4, metrics={"loss": 2.5},
        ),
    ]  # fmt: skip
    assert it.run.model is None


def test_the_next_round_is_the_next_that_is_asked_for_also_when_nobody_replied() -> None:
    it = story()
    it.tell(asked(0, "a", "b"))
    it.obey()
    it.tell(declined(0, "a"), Expired(run=RUN, round=0, at=NOW))
    failed = it.obey()[-1]
    assert isinstance(failed, RoundFailed)
    assert it.said() == []

    it.tell(asked(1, "b"))

    assert [type(fact) for fact in it.obey()] == [Opened, Invited]


def test_replies_that_are_folded_become_a_mean_that_is_no_model_of_the_run() -> None:
    it = story(fold=True)
    it.tell(asked(0, "a", "b", "c", fold=True))
    invited = [fact for fact in it.obey() if isinstance(fact, Invited)]
    it.tell(contributed(0, "a", 1), contributed(0, "b", 3), contributed(0, "c", 9, layout="blake3:" + "c" * 64))
    said = it.obey()

    assert [fact.fold for fact in invited] == [True, True, True]
    assert [fact.message for fact in said if isinstance(fact, Rejected)] == [
        "its layout is not that of a: replies that are folded have the same records, tensors, shapes and dtypes"
    ]
    assert [action.subject for action in it.due() if isinstance(action, Offer)] == [work_on("fold", RUN, 0, shard) for shard in range(3)]

    it.tell(*(folded(0, shard, "a", "b") for shard in range(3)))
    result = it.obey()[-1]

    assert isinstance(result, Aggregated)
    assert (result.members, result.weight, result.metrics) == (("a", "b"), 4, {"loss": 2.5})
    assert result.model is not None
    assert (it.run.model, it.run.superseded) == (None, ())


@pytest.mark.parametrize(
    "odd",
    [
        asked(1, "a"),
        asked(0, "a", "a"),
        asked(0, "a", "b", contents=[content(0)]),
        asked(0, "a", "mallory"),
    ],
    ids=["not the next", "a cluster twice", "a content that is not there", "a cluster that takes no part"],
)
def test_what_no_driver_would_ask_opens_no_round(odd: Asked) -> None:
    it = story()
    it.tell(odd)

    it.obey()

    assert it.run.round is None


def test_a_run_by_another_strategy_cannot_be_asked_for_rounds() -> None:
    it = Story()
    it.tell(scheduled("a", "b", "c"), asked(0, "a"))

    assert [fact.task for fact in it.obey() if isinstance(fact, Opened)] == [Task.INITIALIZE]


def answered(it: Story, question: Asked) -> set[str]:
    """What is discarded when the round that is asked for is over."""
    it.tell(question)
    it.obey()
    it.tell(contributed(question.round, "a"))
    it.obey()
    return discarded(it)


def test_what_was_sent_stays_for_the_next_round_and_as_long_as_the_last_one_sends_it_again() -> None:
    it, sent = story(), content(0)
    again = sent.model_copy(update={"layout": content(1).layout})

    assert [answered(it, question) for question in (asked(0, "a"), asked(1, "a", contents=[again]), asked(2, "a"), asked(3, "a"))] == [
        set(),
        set(),
        {bulk_of_round(RUN, 0, "asked"), bulk_of_round(RUN, 1, "asked")},
        {bulk_of_round(RUN, 2, "asked")},
    ]


def test_of_a_round_that_failed_the_replies_go_and_what_was_sent_stays_for_the_next_one() -> None:
    it = story()
    it.tell(asked(0, "a"))
    it.obey()

    it.tell(RoundFailed(run=RUN, round=0, at=NOW, reason="too-few", message="none"))

    assert discarded(it) == {bulk_of_round(RUN, 0, "update"), bulk_of_round(RUN, 0, "reply")}


def test_everything_that_was_sent_and_replied_goes_with_the_run() -> None:
    it = story()
    answered(it, asked(0, "a"))

    it.tell(Completed(run=RUN, at=NOW, model=content(1), metrics={}))

    assert discarded(it) == {bulk_of_round(RUN, "*", kind) for kind in ("asked", "reply", "update")}
    assert it.run.model == content(1)


def test_a_run_that_ends_while_a_round_is_open_has_it_closed() -> None:
    it = story()
    it.tell(asked(0, "a"))
    it.obey()

    it.tell(Cancelled(run=RUN, at=NOW))

    assert [type(fact) for fact in it.stated()] == [Closed]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"rounds": {"stop": {"metric": "m", "mode": "max", "target": 1}}}, "spec.rounds.stop"),
        ({"rounds": {"keep": "best"}}, "spec.rounds.keep"),
        ({"rounds": {"closeAt": 2}}, "spec.rounds.closeAt"),
        ({"rounds": {"weightMax": 2}}, "spec.rounds.weightMax"),
        ({"server": {"initialModel": "other-01234567"}}, "spec.server.initialModel"),
        ({"strategy": {"name": "app", "parameters": {"eta": 1}}}, "spec.strategy.parameters: app has no 'eta'"),
        ({"strategy": {"name": "fedavg"}, "fold": True}, "spec.fold: fedavg is folded anyway"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_go_with_the_strategy_fails_the_run_and_says_which_field_it_is(spec: dict[str, Any], message: str) -> None:
    it = Story(spec={"strategy": {"name": "app"}, **spec})

    said: list[Fact] = it.obey()

    assert [type(fact) for fact in said] == [Failed]
    assert isinstance(said[0], Failed)
    assert said[0].message.startswith(message)
