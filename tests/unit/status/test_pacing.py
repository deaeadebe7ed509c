"""When an object may be written next."""

from fedplane.status.pacing import GONE_SECONDS, Pace


def test_the_first_write_is_due_at_once_and_the_next_one_a_second_later() -> None:
    pace = Pace(write_seconds=1)

    assert pace.wait_seconds(100) == 0
    assert [pace.succeeded(100).wait_seconds(now) for now in (100, 100.75, 101, 200)] == [1, 0.25, 0, 0]


def test_pauses_double_while_nothing_succeeds_up_to_half_a_minute() -> None:
    pace, pauses = Pace(write_seconds=1), []
    for _ in range(8):
        pace = pace.failed(0)
        pauses.append(pace.wait_seconds(0))

    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert pace.succeeded(0).failed(5).wait_seconds(5) == 1


def test_what_is_missing_for_half_a_minute_is_gone() -> None:
    pace = Pace().missed(100).missed(105)

    assert [pace.gone(now) for now in (105, 100 + GONE_SECONDS - 0.1, 100 + GONE_SECONDS)] == [False, False, True]
    assert not pace.succeeded(110).gone(200)
