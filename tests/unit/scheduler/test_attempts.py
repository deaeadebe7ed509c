"""When it is time to try again, and how much is remembered of attempts."""

from datetime import UTC, datetime, timedelta

from fedplane.scheduler.attempts import TRIED_MAX, Tried, is_due, note, pause_seconds

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_pauses_double_and_are_bounded() -> None:
    assert [pause_seconds(failures) for failures in (0, 1, 2, 5, 6, 10_000)] == [1, 2, 4, 32, 60, 60]


def test_what_was_never_tried_is_due_and_what_failed_is_after_its_pause() -> None:
    failed = Tried(NOON, failures=3)

    assert [is_due(None, NOON), is_due(failed, NOON + timedelta(seconds=7.9)), is_due(failed, NOON + timedelta(seconds=8))] == [
        True, False, True,
    ]  # fmt: skip


def test_of_too_many_attempts_those_that_are_longest_ago_are_forgotten() -> None:
    tried = {number: Tried(NOON) for number in range(TRIED_MAX)}

    note(tried, 0, Tried(NOON, failures=1))
    note(tried, -1, Tried(NOON))

    assert (len(tried), 1 in tried, tried[0], tried[-1]) == (TRIED_MAX, False, Tried(NOON, failures=1), Tried(NOON))
