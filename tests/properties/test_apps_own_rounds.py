"""Rounds that an app's own server asks for, whatever is on the log and however often it is read."""

from collections import Counter

from aggregator_story import NOW, RUN, Story, asked, contributed, declined, scheduled
from asked_story import wanted
from hypothesis import given
from hypothesis import strategies as st
from log_story import deliveries, knows, recorded

from fedplane.aggregator.runs import Cut, Runs
from fedplane.collaborator.driver.replay import Driver, answers, plan
from fedplane.schemas.facts import Asked, Cancelled, Closed, Expired, Fact, Opened, RoundFailed
from fedplane.schemas.models import Task

CLUSTERS = ("a", "b", "c")


@st.composite
def logs(draw: st.DrawFn) -> list[Fact]:
    """A log as the write-once registers allow it: a driver that asks, clusters that answer or do not, and somebody who meddles."""
    story = Story(spec={"strategy": {"name": "app"}, "fold": draw(st.booleans())})
    story.tell(scheduled(*CLUSTERS))
    for _ in range(draw(st.integers(0, 12))):
        story.obey()
        number = story.run.round.opened.round if story.run.round else -1
        cluster = draw(st.sampled_from((*CLUSTERS, "mallory")))
        some = draw(st.lists(st.sampled_from(CLUSTERS), min_size=1, max_size=3, unique=True))
        fact = draw(
            st.sampled_from(
                [
                    asked(number + 1, *some, kind=draw(st.sampled_from(("train", "query.x")))),
                    asked(draw(st.integers(0, number + 2)), *some),
                    contributed(max(number, 0), cluster, layout=draw(st.sampled_from(("blake3:" + "a" * 64, "blake3:" + "c" * 64)))),
                    contributed(max(number, 0), cluster),
                    declined(max(number, 0), cluster),
                    Expired(run=RUN, round=max(number, 0), at=NOW),
                    Closed(run=RUN, round=max(number, 0), at=NOW, reason="test"),
                    RoundFailed(run=RUN, round=max(number, 0), at=NOW, reason="test", message="test"),
                ]
            )
        )
        if fact.subject not in {old.subject for old in story.log}:
            story.tell(fact)
    if draw(st.booleans()):
        story.tell(Cancelled(run=RUN, at=NOW))
    return story.log


@given(logs(), st.data())
def test_any_repetition_and_replay_of_a_log_gives_the_same_state(log, data) -> None:
    records = recorded(log)
    delivered = data.draw(deliveries(records))

    for core in (Runs(Cut(80, 16)), Driver()):
        assert knows(core, delivered) == knows(core, delivered + records) == knows(core, records)


@given(logs())
def test_the_aggregator_and_the_driver_agree_on_what_was_asked(log) -> None:
    records = recorded(log)
    run, driven = knows(Runs(Cut(80, 16)), records)[RUN], knows(Driver(), records).runs.get(RUN)
    if run.ended:
        assert driven is None
        return

    assert [of.asked.round for of in driven.rounds][-1:] == ([] if run.asked is None else [run.asked.round])
    if run.round is not None:
        assert run.round.opened.task is Task.REPLY
        assert (driven.rounds[run.round.opened.round].result is not None) == run.round.ended


@given(logs())
def test_a_server_that_asks_again_is_answered_from_the_log_until_it_comes_to_what_is_new(log) -> None:
    records = recorded(log)
    driven = knows(Driver(), records).runs.get(RUN)
    if driven is None:
        return
    sent: Counter[str] = Counter()
    for number, of in enumerate(driven.rounds):
        planned = plan(driven, wanted(of.asked), sent)
        assert (set(planned.rounds.values()), planned.fresh, planned.differing) == ({number}, (), ())
        if of.result is not None:
            places = [answer.place for answer in answers(driven, wanted(of.asked), planned.rounds)]
            assert len(places) == len(set(places)) <= len(of.asked.instructions)
        sent.update(each.cluster for each in of.asked.instructions)

    again = wanted(asked(len(driven.rounds), "a", "b"))
    assert plan(driven, again, sent).fresh == (0, 1)


@given(logs())
def test_no_round_is_opened_that_was_not_asked_for(log) -> None:
    asked_for = [fact for fact in log if isinstance(fact, Asked)]

    for fact in log:
        if isinstance(fact, Opened):
            assert any(fact.round == each.round for each in asked_for)
