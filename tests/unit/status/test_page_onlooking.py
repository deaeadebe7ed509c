"""What the page knows besides runs, and what of it somebody is told who has seen some of it already."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from log_story import knows, recorded
from status_story import Story

from fedplane.runtime.ports import Recorded
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.status.page import onlooking
from fedplane.status.page.onlooking import LINES_KEPT_MAX, Offered, Onlooker, Place, Seen, news, offer, place_of, within
from fedplane.status.page.pictures import summary
from fedplane.status.phases import Phases

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CORE, PHASES = Onlooker(), Phases(runs_kept_max=100)
S = Story()


def advertised(cluster: str, second: float = 0, **offered: Any) -> facts.Advertised:
    return facts.Advertised(at=NOON + timedelta(seconds=second), cluster=cluster, lease_seconds=15, **offered)


def seen(*records: Recorded, state: Seen | None = None) -> Seen:
    return knows(CORE, records, state)


def test_a_fact_is_a_line_with_what_people_filter_by() -> None:
    assert seen(*recorded([S.submitted(), S.rejected(6, 1, "hospital-b")])).lines == (
        {
            "sequence": 1, "at": S.at(0).isoformat(), "kind": "submitted", "run": S.run, "round": None, "cluster": "",
            "text": "other, 2 training rounds",
        },
        {
            "sequence": 2, "at": S.at(6).isoformat(), "kind": "rejected", "run": S.run, "round": 1, "cluster": "hospital-b",
            "text": "unacceptable: has 8 bytes",
        },
    )  # fmt: skip


def test_every_fact_about_a_run_has_a_line_but_those_that_services_say_to_each_other() -> None:
    shown = [fact for fact in EXAMPLES if seen(Recorded(fact, 1)).lines]

    inner = {facts.Invited, facts.Expired, facts.Measured, facts.Folded, facts.Advertised}
    assert [type(fact) for fact in shown] == [type(fact) for fact in EXAMPLES if type(fact) not in inner]


def test_only_the_last_lines_are_kept_and_one_that_is_read_again_is_not_kept_twice() -> None:
    closed = [Recorded(S.closed(1, number), number) for number in range(1, LINES_KEPT_MAX + 11)]

    lines = seen(*closed, closed[-1]).lines

    assert [line["sequence"] for line in lines] == list(range(11, LINES_KEPT_MAX + 11))


def test_a_cluster_that_says_the_same_again_was_heard_and_told_nothing_new() -> None:
    state = seen(*recorded([advertised("a", claims={"x": "1"}), advertised("a", 5, claims={"x": "1"})]))
    again = seen(Recorded(advertised("a", 10, claims={"x": "2"}), 3), state=state)
    late = seen(Recorded(advertised("a", 5), 2), state=again)

    assert state.fleet == {"a": Offered(offer(advertised("a", claims={"x": "1"})), told=1, heard=2, heard_at=NOON + timedelta(seconds=5))}
    assert again.fleet["a"].told == 3
    assert late == again


def test_a_cluster_too_many_takes_the_place_of_the_one_that_was_silent_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onlooking, "CLUSTERS_KEPT_MAX", 2)

    assert list(seen(*recorded([advertised("a"), advertised("b"), advertised("a", 5), advertised("c")])).fleet) == ["a", "c"]


def test_an_offer_is_shown_within_bounds() -> None:
    long = advertised(
        "a", claims={f"{number:03}": "x" * 1000 for number in range(100)}, frameworks=("f" * 1000,) * 100, unavailable="u" * 1000
    )

    shown = offer(long)

    assert list(shown["claims"]) == [f"{number:03}" for number in range(50)]
    assert {len(value) for value in (*shown["claims"].values(), *shown["frameworks"], shown["unavailable"])} == {300}
    assert len(shown["frameworks"]) == 50


def test_whoever_comes_is_told_everything_and_then_only_what_is_new() -> None:
    said = recorded([S.submitted(), S.scheduled(), advertised("a")])
    state, runs = seen(*said), phases(said)
    here = place_of(state, runs)
    more = [*said, Recorded(S.started(), 4), Recorded(advertised("a", 5), 5)]

    assert here == Place(runs=2, lines=2, fleet=3)
    assert news(state, runs, Place()) == {
        "runs": [summary(runs[S.run])], "lines": list(state.lines), "clusters": [offer(advertised("a"))], "heard": {"a": NOON.isoformat()},
    }  # fmt: skip
    assert news(state, runs, here) == {"runs": [], "lines": [], "clusters": [], "heard": {}}
    assert news(seen(*more), phases(more), here) == {
        "runs": [summary(phases(more)[S.run])], "lines": [seen(*more).lines[-1]], "clusters": [],
        "heard": {"a": (NOON + timedelta(seconds=5)).isoformat()},
    }  # fmt: skip


def test_whoever_saw_more_than_there_is_saw_another_log_and_is_told_everything() -> None:
    said = recorded([S.submitted(), advertised("a")])

    now = place_of(seen(*said), phases(said))
    assert [within(place, now) for place in (now, Place(1, 1, 1), Place(99, 1, 1), Place(1, 99, 1), Place(1, 1, 99))] == [
        now, Place(1, 1, 1), Place(), Place(), Place(),
    ]  # fmt: skip


def phases(records: Iterable[Recorded]) -> dict[str, Any]:
    runs = PHASES.initial()
    for record in records:
        runs = PHASES.evolve(runs, record)
    return dict(runs)


words = some.sampled_from(
    [*S.whole(), *(advertised(name, second) for name in "ab" for second in (0, 5)), advertised("a", claims={"x": "1"})]
)


@given(some.lists(words, max_size=40), some.data())
def test_a_browser_that_comes_back_at_any_place_knows_what_one_knows_that_was_always_there(said: list[Any], data: Any) -> None:
    records = recorded(said)
    away = records[: data.draw(some.integers(0, len(records)))]
    known: dict[str, Any] = {"runs": {}, "clusters": {}, "heard": {}, "lines": {}}

    for heard, since in ((away, Place()), (records, place_of(seen(*away), phases(away)))):
        told = news(seen(*heard), phases(heard), Place.read(str(since)))
        known["runs"] |= {run["run"]: run for run in told["runs"]}
        known["clusters"] |= {each["cluster"]: each for each in told["clusters"]}
        known["lines"] |= {line["sequence"]: line for line in told["lines"]}
        known["heard"] |= told["heard"]

    end, runs = seen(*records), phases(records)
    assert known == {
        "runs": {run: summary(view) for run, view in runs.items()},
        "clusters": {name: offered.offer for name, offered in end.fleet.items()},
        "heard": {name: offered.heard_at.isoformat() for name, offered in end.fleet.items()},
        "lines": {line["sequence"]: line for line in end.lines},
    }


@pytest.mark.parametrize("text", ["", "1-2", "1-2-x", "-1-2-3", "1-2-3-4", "٣-1-1", "9" * 30 + "-1-1", "<script>"])
def test_what_is_no_place_is_the_beginning(text: str) -> None:
    assert Place.read(text) == Place()
