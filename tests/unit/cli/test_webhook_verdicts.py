"""What becomes of a fact after each answer of a webhook, and after none."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplane.cli.verdicts import RETRY_AFTER_SECONDS_MAX, Again, Answered, Dead, Delivered, Outcome, Patience, Unanswered, Verdict, judge

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PATIENCE = Patience(attempts_max=5, first_seconds=1, longest_seconds=6)


def verdict(outcome: Outcome, attempts: int = 1, chance: float = 1.0) -> Verdict:
    return judge(outcome, attempts, NOW, chance, PATIENCE)


def again(seconds: float, reason: str, *, for_all: bool = False) -> Again:
    return Again(NOW + timedelta(seconds=seconds), for_all, reason)


TABLE: dict[str, tuple[Outcome, Verdict]] = {
    "any 2xx is delivered": (Answered(299), Delivered()),
    "a redirect is not followed": (
        Answered(307), Dead("answered 307 (redirects are not followed; give the address that it names)"),
    ),
    "what the receiver does not understand is dead": (Answered(415, said="no JSON"), Dead("answered 415: no JSON")),
    "what the receiver does not allow is dead": (Answered(403), Dead("answered 403")),
    "a receiver that is gone gets nothing": (Answered(410), Dead("answered 410")),
    "a request that came too slowly is tried again": (Answered(408), again(1, "answered 408")),
    "a request that came too early is tried again": (Answered(425), again(1, "answered 425")),
    "a receiver that is overrun is tried again": (Answered(429), again(1, "answered 429")),
    "a broken receiver is tried again": (Answered(500), again(1, "answered 500")),
    "an answer that HTTP does not know is tried again": (Answered(999), again(1, "answered 999")),
    "silence is tried again": (Unanswered("no answer within 10 s"), again(1, "no answer within 10 s")),
    "an overrun receiver says how long all have to wait": (Answered(429, "30"), again(30, "answered 429", for_all=True)),
    "a receiver under maintenance says until when": (
        Answered(503, "Mon, 02 Mar 2026 12:01:00 GMT"), again(60, "answered 503", for_all=True),
    ),
    "a wait that is asked for may be shorter than ours": (Answered(503, "0"), again(1, "answered 503", for_all=True)),
    "a wait that is over is none": (Answered(503, "Mon, 02 Mar 2026 11:00:00 GMT"), again(1, "answered 503", for_all=True)),
    "another error's wait is that fact's alone": (Answered(500, "30"), again(30, "answered 500")),
    "a wait that nobody understands is not heeded": (Answered(429, "soon"), again(1, "answered 429")),
    "a date that no calendar has is not heeded": (Answered(429, f"Mon, 02 Mar {'9' * 20} 12:00:00 GMT"), again(1, "answered 429")),
    "a wait of a year is a mistake": (
        Answered(429, "31536000"), again(RETRY_AFTER_SECONDS_MAX, "answered 429", for_all=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_an_answer_has_a_verdict(case: str) -> None:
    outcome, expected = TABLE[case]

    assert verdict(outcome) == expected


def test_waits_double_up_to_the_longest_and_then_the_fact_is_dead() -> None:
    verdicts = [verdict(Answered(500), attempts) for attempts in (1, 2, 3, 4, 5)]

    assert verdicts == [*(again(seconds, "answered 500") for seconds in (1, 2, 4, 6)), Dead("answered 500; tried 5 times")]


def test_an_old_fact_is_dead_at_once_if_the_receiver_refuses_it() -> None:
    assert verdict(Answered(400), 4) == Dead("answered 400")


@given(st.integers(100, 999), st.integers(1, 2000), st.floats(0, 1, exclude_max=True), st.text(max_size=40))
def test_whatever_is_answered_ends_some_day(status: int, attempts: int, chance: float, retry_after: str) -> None:
    said = judge(Answered(status, retry_after), attempts, NOW, chance, PATIENCE)

    if isinstance(said, Again):
        assert attempts < PATIENCE.attempts_max
        assert NOW + timedelta(seconds=0.5) <= said.at <= NOW + timedelta(seconds=RETRY_AFTER_SECONDS_MAX)
    else:
        assert isinstance(said, Delivered) == (200 <= status < 300)
