"""What `watch` draws: of a small run everything, of a large one what one would look for, and quickly enough to draw it again and again."""

import time
from datetime import timedelta

import pytest
from view_story import NOON, RUN, crowd, round_view, shown, view_after

from fedplane.cli.picture import progress, sparkline
from fedplane.schemas import facts
from fedplane.schemas.models import Task
from fedplane.schemas.views import Decline, RoundState

REDRAW_SECONDS_MAX = 0.25
"""The time from one picture to the next; measured are 7 ms for a thousand clusters and fifty rounds."""


def test_a_running_run_shows_its_progress_and_what_each_cluster_does() -> None:
    view = view_after(facts.Contributed)

    assert [" ".join(line.split()) for line in shown(progress(view, NOON + timedelta(seconds=40))).splitlines()] == [
        f"{RUN} Running for 19s",
        "0 of 3 training rounds",
        "━━━━━━━━━━━━━━━━━━━━ 1 of 2 clusters have answered, 9m20s left",
        "Training round 1 of 3: 2 clusters invited.",
        "",
        "train, training round 1 of 3: open",
        "hospital-a answered after 7.0s",
        "hospital-b working for 16s",
    ]


def test_an_ended_run_shows_its_results_and_no_clocks() -> None:
    view = view_after(facts.Completed)

    assert shown(progress(view, NOON + timedelta(hours=1))) == (
        f"{RUN}  Completed\n"
        "━━━━━━━━━━━━━                            1 of 3 training rounds\n"
        "3 training rounds done.\n"
        "\n"
        "ROUND  CLUSTERS  SECONDS  TRAIN_LOSS  REMARK\n"
        "1      1/2       11.0     0.41\n"
        "\n"
        "final: accuracy=0.97"
    )


def test_the_results_of_a_training_round_are_those_of_all_its_rounds() -> None:
    rounds = (
        round_view(1, Task.TRAIN, 1, RoundState.FAILED, message="too-few: 0 of 1 answered"),
        round_view(2, Task.TRAIN, 1, metrics={"loss": 0.9, "train_loss": 0.8}),
        round_view(3, Task.EVALUATE, 1, metrics={"loss": 0.5, "accuracy": 0.75, "z1": 1, "z2": 2, "z3": 3}),
        round_view(4, Task.TRAIN, 2, metrics={"train_loss": 0.25}),
        round_view(5, Task.TRAIN, 2, RoundState.FAILED, message="too-few: 0 of 1 answered"),
    )
    view = view_after(facts.Completed).model_copy(update={"rounds": rounds, "metrics": {}})

    assert shown(progress(view, NOON)).splitlines()[4:] == [
        "ROUND  CLUSTERS  SECONDS  ACCURACY  LOSS  TRAIN_LOSS  Z1  REMARK",
        "1      1/2       7.5      0.75      0.5   0.8         1   failed once",
        "2      1/2       5.0                      0.25            failed once, at last: too-few: 0 of 1 answered",
        "",
        "train_loss  █▁  0.8 to 0.25",
    ]


def test_those_who_are_lost_are_told_with_the_reason() -> None:
    lost = (Decline(cluster="b", reason="app-failed", message="it raised\nValueError"),)
    rejected = (Decline(cluster="a", reason="unacceptable", message="not finite"),)
    of = round_view(1, Task.TRAIN, 1, RoundState.CLOSED, invited=("a", "b", "c"), declined=lost, rejected=rejected, ended_at=None)
    view = view_after(facts.Opened).model_copy(update={"rounds": (of,)})

    assert [" ".join(line.split()) for line in shown(progress(view, NOON)).splitlines()[4:]] == [
        "train, training round 1 of 3: closed",
        "a rejected: unacceptable: not finite",
        "b declined: app-failed: it raised ValueError",
        "c did not answer",
    ]


def test_of_a_large_round_it_shows_the_counts_the_lost_the_awaited_and_the_slowest() -> None:
    view = crowd(1000, rounds=3)

    said = shown(progress(view, NOON + timedelta(seconds=30))).splitlines()

    assert said[5:9] == [
        "train, training round 4 of 6: open",
        "1,000 clusters: 990 answered, 1 lost, 9 working; of interest:",
        "c0999  declined: crashed: the app ended",
        "c0000  working for 30s, missing in 3 of the last rounds",
    ]
    assert said[16:18] == ["c0998  working for 30s", "c0994  answered after 989.0s"]
    assert sum(line.startswith("c0") for line in said) == 20


def test_clusters_that_the_round_does_not_ask_are_named_beside_it() -> None:
    of = round_view(
        3, Task.TRAIN, 3, RoundState.OPEN, invited=("a",), answered=(), ended_at=None, carried={"b": 2},
        left_out={f"c{number}": "has left" for number in range(7)},
    )  # fmt: skip
    view = view_after(facts.Opened).model_copy(update={"rounds": (of,)})

    assert shown(progress(view, NOON)).splitlines()[-2:] == [
        "still at work: b on round 2",
        "not asked: c0 (has left), c1 (has left), c2 (has left), c3 (has left), c4 (has left) and 2 more",
    ]


def test_however_many_are_lost_those_who_are_awaited_are_seen_as_well() -> None:
    view = crowd(1000, rounds=1)
    lost = tuple(Decline(cluster=cluster, reason="hung", message="silent") for cluster in view.rounds[-1].invited[5:-5])
    view = view.model_copy(update={"rounds": (view.rounds[-1].model_copy(update={"answered": (), "declined": lost}),)})

    said = [line.split()[1] for line in shown(progress(view, NOON)).splitlines() if line.startswith("c0")]

    assert said == ["declined:"] * 10 + ["working"] * 10


def test_a_wide_picture_lists_every_cluster() -> None:
    said = shown(progress(crowd(1000, rounds=1), NOON, wide=True)).splitlines()

    assert sum(line.startswith("c0") for line in said) == 1000


def test_a_picture_of_a_thousand_clusters_and_many_rounds_is_drawn_before_the_next_is_due() -> None:
    view = crowd(1000, rounds=50)
    began = time.process_time()
    for _ in range(3):
        drawn = shown(progress(view, NOON))
    taken = (time.process_time() - began) / 3

    assert "1,000 clusters" in drawn
    assert taken < REDRAW_SECONDS_MAX


@pytest.mark.parametrize(
    ("values", "bars"), [([1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇█"), ([5, 5, 5], "▅▅▅"), ([0.9, 0.1], "█▁"), ([-1, 0, 1], "▁▅█")]
)
def test_a_sparkline_goes_from_the_least_to_the_greatest(values: list[float], bars: str) -> None:
    assert sparkline(values) == bars


def test_a_metric_that_was_measured_once_has_no_line() -> None:
    rounds = [round_view(number, Task.TRAIN, number, metrics={"loss": number, **({"once": 1} if number == 2 else {})}) for number in (1, 2)]
    view = view_after(facts.Completed).model_copy(update={"rounds": tuple(rounds), "metrics": {}})

    assert shown(progress(view, NOON)).splitlines()[-1] == "loss  ▁█  1 to 2"
