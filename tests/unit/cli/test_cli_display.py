"""What a person sees of a run, as text. The views are folded from the vocabulary's own example of a run."""

from datetime import timedelta

import pytest
from rich.console import Console
from view_story import NOON, RUN, shown, view_after

from fedplane.cli import display, lines
from fedplane.cli.picture import progress
from fedplane.runtime.ports import Recorded
from fedplane.schemas import facts
from fedplane.schemas.details import detail
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.models import Refused
from fedplane.schemas.views import Phase

FACT = {type(fact): fact for fact in EXAMPLES}
WAITING, SCHEDULED, FAILED = FACT[facts.Waiting], FACT[facts.Scheduled], FACT[facts.Failed]
assert isinstance(WAITING, facts.Waiting)
assert isinstance(SCHEDULED, facts.Scheduled)
assert isinstance(FAILED, facts.Failed)
NO_DATA = WAITING.refused[0].message


def test_a_table_has_one_run_a_line() -> None:
    view = view_after(facts.Aggregated)

    assert shown(display.run_table([view], NOON + timedelta(seconds=90))) == (
        "RUN             PHASE    ROUNDS  CLUSTERS  AGE    MESSAGE\n"
        f"{RUN}  Running  1/3     2         1m30s  Training round 1 of 3: done by 1 cluster."
    )


def test_a_wide_table_has_where_a_run_came_from_what_it_measured_and_how_long_it_took() -> None:
    view = view_after(facts.Completed)

    assert shown(display.run_table([view], NOON + timedelta(hours=1), wide=True), width=200) == (
        "RUN             PHASE      ROUNDS  CLUSTERS  AGE    NAMESPACE  METRICS        SUBMITTED            TOOK   MESSAGE\n"
        f"{RUN}  Completed  1/3     2         1h00m  default    accuracy=0.97  2026-03-02 12:00:00  1m10s  3 training rounds done."
    )


def test_clusters_have_a_line_each_with_what_they_said_last() -> None:
    told = [
        facts.Advertised(
            cluster="a", at=NOON, lease_seconds=15, claims={"data": "/data"}, allocatable={"cpu": "4", "memory": "8Gi"},
            frameworks=("flower",), labels={"zone": "eu"},
        ),
        facts.Advertised(cluster="b", at=NOON - timedelta(minutes=2), lease_seconds=15),
        facts.Advertised(cluster="c", at=NOON, lease_seconds=15, unavailable="has left the hub"),
    ]  # fmt: skip

    lines_, wide = (shown(display.cluster_table(told, NOON, wide=each), width=200).splitlines() for each in (False, True))

    assert lines_ == [
        "CLUSTER  STATE                      SAID       CPU  MEMORY  FRAMEWORKS  CLAIMS",
        "a        ready                      0s ago     4    8Gi     flower      data",
        "b        silent                     2m00s ago               any",
        "c        not now: has left the hub  0s ago                  any",
    ]
    assert wide[1] == "a        ready                      0s ago     4    8Gi     flower      zone=eu  15s    data=/data"


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86400, "1d00h"), (9e6, "104d04h")]
)
def test_a_duration_has_at_most_two_units(seconds: float, said: str) -> None:
    assert display.span(seconds) == said


def test_what_clusters_say_cannot_command_the_terminal() -> None:
    evil = "\x1b[2J[bold]no[/bold] :smile:\r\nsecond"
    view = view_after(facts.Submitted).model_copy(update={"message": evil})
    fact = facts.Cancelled(run=RUN, at=NOON, message=evil)

    for text in (
        shown(display.run_table([view], NOON)),
        shown(progress(view, NOON)),
        lines.fact_line(Recorded(fact, 1)),
        *lines.progress_lines(None, view, NOON),
    ):
        assert " [2J[bold]no[/bold] :smile:  second" in text


def test_without_a_terminal_each_change_is_a_line() -> None:
    at = NOON + timedelta(seconds=40)
    said: list[str] = []
    before = None
    for kind in (facts.Submitted, facts.Waiting, facts.Scheduled, facts.Opened, facts.Declined, facts.Aggregated, facts.Completed):
        after = view_after(kind)
        said += lines.progress_lines(before, after, at)
        before = after

    assert said == [
        "12:00:40 Waiting: Waiting for the scheduler.",
        f"12:00:40 Waiting: 1 of 2 clusters is eligible. hospital-c {NO_DATA}",
        "12:00:40 Waiting: 2 clusters chosen: hospital-a, hospital-b.",
        "12:00:40 Running: Training round 1 of 3: 2 clusters invited.",
        "12:00:40 train, training round 1 of 3: 2 invited",
        "12:00:40 train, training round 1 of 3: hospital-b declined: app-failed: the app raised ValueError",
        "12:00:40 train, training round 1 of 3: aggregated, 1 of 2 answered train_loss=0.41",
        "12:00:40 Completed: 3 training rounds done. accuracy=0.97",
    ]


def test_a_view_that_skipped_some_changes_still_tells_all_of_them() -> None:
    after = view_after(facts.Completed)

    assert list(lines.progress_lines(None, after, NOON)) == [
        "12:00:00 train, training round 1 of 3: 2 invited",
        "12:00:00 train, training round 1 of 3: hospital-b declined: app-failed: the app raised ValueError",
        "12:00:00 train, training round 1 of 3: aggregated, 1 of 2 answered train_loss=0.41",
        "12:00:00 Completed: 3 training rounds done. accuracy=0.97",
    ]
    assert list(lines.progress_lines(after, after, NOON)) == []


@pytest.mark.parametrize("fact", EXAMPLES, ids=lambda fact: type(fact).__name__)
def test_every_fact_has_a_line_that_begins_with_its_time_and_subject(fact: facts.Fact) -> None:
    line = lines.fact_line(Recorded(fact, 1))
    said = detail(fact) != ""

    assert line.startswith(f"{fact.at:%H:%M:%S} {fact.subject.split('.', 3)[3]}")
    assert ("  " in line) == said
    assert line.isprintable()


def test_a_line_about_listeners_has_their_addresses_and_why_others_have_none() -> None:
    line = lines.fact_line(Recorded(FACT[facts.Exposed], 1))

    assert line.endswith("exposed.1  172.18.0.2:31531; listener-loadbalancer-4222: the load balancer has no address yet")


def test_the_schedulers_first_word_names_every_cluster() -> None:
    assert list(lines.word_lines(WAITING)) == ["waiting: 1 of 2 clusters is eligible", f"  hospital-c {NO_DATA}"]
    assert list(lines.word_lines(SCHEDULED)) == ["scheduled on hospital-a, hospital-b", f"  hospital-c {NO_DATA}"]
    assert list(lines.word_lines(FAILED)) == [f"failed: {FAILED.reason}: {FAILED.message}"]


def test_of_many_refused_clusters_only_some_are_named() -> None:
    crowd = WAITING.model_copy(update={"refused": tuple(Refused(cluster=f"c-{n}", reason="data", message="has none") for n in range(1000))})

    *_, last, more = lines.word_lines(crowd)
    assert (last, more) == ("  c-106 has none", f"  and 990 more; `fedplane explain {crowd.run}` sums them up")


def test_on_a_narrow_terminal_the_name_of_a_run_stays_whole() -> None:
    screen = Console(width=40)
    with screen.capture() as drawn:
        screen.print(display.run_table([view_after(facts.Started)], NOON))

    assert view_after(facts.Started).run in drawn.get()


def test_a_cancelled_run_is_told_from_one_that_failed_by_itself() -> None:
    view = view_after(facts.Started).model_copy(update={"phase": Phase.FAILED, "failure_reason": "Cancelled", "message": "wrong data"})

    assert "Cancelled: wrong data" in shown(display.run_table([view], NOON))
    assert "Cancelled: wrong data" in shown(progress(view, NOON))
    assert list(lines.progress_lines(None, view, NOON))[-1].endswith("Failed: Cancelled: wrong data")


def test_phases_all_have_a_colour() -> None:
    assert set(display.STYLES) == set(Phase)
