"""What the page is told of a run: documents that are compared whole, made of the same facts as the view."""

from collections import Counter

import pytest
from status_story import CLUSTERS, NO_DATA, Story, viewed

from fedplane.schemas.models import Task
from fedplane.schemas.views import RunView
from fedplane.status.page.pictures import overview, placement, round_picture, summary

S = Story()


def no_trace(round_: int | None) -> str:
    return ""


def trace(round_: int | None) -> str:
    return f"http://traces/{'run' if round_ is None else round_}"


def at(second: float) -> str:
    return S.at(second).isoformat()


def cluster(
    name: str, outcome: str, seconds: float | None = None, reason: str = "", message: str = "", carries: int | None = None
) -> object:
    return {"cluster": name, "outcome": outcome, "seconds": seconds, "reason": reason, "message": message, "carries": carries}


def outcomes_of(view: RunView, round_: int) -> list[object]:
    picture = round_picture(view, round_, no_trace)
    assert picture is not None
    return [(each["cluster"], each["outcome"]) for each in picture["clusters"]]


def test_a_line_of_a_run_says_how_far_it_is_and_what_was_measured_last() -> None:
    assert summary(viewed(*S.whole())) == {
        "run": S.run, "name": "mnist", "namespace": "research", "phase": "Completed", "message": "2 training rounds done.",
        "submitted_at": at(0), "ended_at": at(20), "rounds": 2, "rounds_done": 2, "chosen": 2, "refused": 1,
        "metrics": {"accuracy": 0.9}, "sequence": 16,
    }  # fmt: skip


def test_a_cancelled_run_is_told_from_one_that_failed_by_itself() -> None:
    line = summary(viewed(S.submitted(), S.cancelled()))

    assert (line["phase"], line["message"]) == ("Failed", f"Cancelled: {S.cancelled().message}")


def test_a_line_has_the_two_metrics_that_people_look_for_of_all_there_are() -> None:
    many = viewed(*S.whole()[:-1]).model_copy(update={"rounds": ()})
    of = viewed(*S.whole()).rounds[0].model_copy(update={"metrics": {"a": 1.0, "b": 2.0, "loss": 0.5, "accuracy": 0.75}})

    assert summary(many.model_copy(update={"rounds": (of,)}))["metrics"] == {"accuracy": 0.75, "loss": 0.5}


def test_a_run_has_a_line_for_each_of_its_rounds() -> None:
    view = viewed(*S.whole())
    shown = overview(view, trace)

    assert {name: shown[name] for name in summary(view)} == summary(view)
    assert (shown["phases"], shown["trace"]) == ({"Waiting": at(0), "Running": at(3), "Completed": at(20)}, "http://traces/run")
    assert shown["model"] == {"round": 2, "training_round": 2, "bytes": 8, "digest": "blake3:" + "1" * 64}
    assert shown["rounds_held"] == [
        {
            "round": 1, "task": "train", "training_round": 1, "state": "Aggregated", "message": "everyone answered",
            "opened_at": at(4), "deadline": at(64), "closed_at": at(6), "ended_at": at(7), "invited": 2,
            "outcomes": {"answered": 1, "rejected": 1}, "metrics": {"loss": 0.5}, "epsilon": None, "trace": "http://traces/1",
        },
        {
            "round": 2, "task": "train", "training_round": 2, "state": "Aggregated", "message": "everyone answered",
            "opened_at": at(8), "deadline": at(68), "closed_at": at(10), "ended_at": at(11), "invited": 2,
            "outcomes": {"answered": 1, "declined": 1}, "metrics": {"loss": 0.25}, "epsilon": None, "trace": "http://traces/2",
        },
    ]  # fmt: skip


def test_a_round_says_of_each_cluster_what_became_of_it_when_and_why() -> None:
    picture = round_picture(viewed(*S.whole()), 1, no_trace)

    assert picture is not None
    assert (picture["run"], picture["round"], picture["left_out"]) == (S.run, 1, {})
    assert picture["clusters"] == [
        cluster("hospital-a", "answered", 1.0),
        cluster("hospital-b", "rejected", 1.0, "unacceptable", "has 8 bytes"),
    ]


def test_who_has_not_answered_works_until_the_round_is_closed_and_is_late_then() -> None:
    begun = [S.submitted(), S.scheduled(), S.started(), S.opened(4, 1, 1), S.contributed(5, 1, "hospital-b")]

    assert outcomes_of(viewed(*begun), 1) == [("hospital-a", "working"), ("hospital-b", "answered")]
    assert outcomes_of(viewed(*begun, S.closed(6, 1)), 1) == [("hospital-a", "late"), ("hospital-b", "answered")]


def test_nobody_is_late_for_a_round_that_ended_with_its_run_unless_it_was_closed_before() -> None:
    begun = [S.submitted(), S.scheduled(), S.started(), S.opened(4, 1, 1)]

    assert outcomes_of(viewed(*begun, S.cancelled()), 1) == [(each, "abandoned") for each in CLUSTERS]
    assert outcomes_of(viewed(*begun, S.closed(6, 1), S.cancelled()), 1) == [(each, "late") for each in CLUSTERS]


def test_a_round_names_whom_it_carries_and_whom_it_did_not_ask() -> None:
    opened = S.opened(4, 2, 1).model_copy(update={"carried": {"hospital-b": 1}, "left_out": {"hospital-c": "refused in 3 rounds"}})
    picture = round_picture(viewed(S.submitted(), opened), 2, no_trace)

    assert picture is not None
    assert picture["clusters"] == [cluster("hospital-a", "working"), cluster("hospital-b", "working", carries=1)]
    assert picture["left_out"] == {"hospital-c": "refused in 3 rounds"}


def test_a_view_of_an_earlier_version_has_answers_without_times() -> None:
    view = viewed(*S.whole())
    older = view.rounds[0].model_copy(update={"answered_seconds": ()})
    picture = round_picture(view.model_copy(update={"rounds": (older,)}), 1, no_trace)

    assert picture is not None
    assert [each["seconds"] for each in picture["clusters"]] == [None, None]


def test_a_placement_has_every_term_of_every_score_and_every_refusal() -> None:
    terms = [{"criterion": "cpu", "score": 0.5, "weight": 2}]

    assert placement(viewed(S.submitted(), S.waiting(), S.scheduled())) == {
        "run": S.run, "wanted": 2, "eligible": 1,
        "clusters": [
            *({"cluster": name, "chosen": True, "score": 1, "terms": terms, "reason": "", "message": ""} for name in CLUSTERS),
            {
                "cluster": "hospital-c", "chosen": False, "score": None, "terms": [], "reason": NO_DATA.reason, "message": NO_DATA.message,
            },
        ],
    }  # fmt: skip


@pytest.mark.parametrize("end", range(5, len(S.whole()) + 1))
def test_the_line_of_a_round_counts_what_its_picture_shows(end: int) -> None:
    view = viewed(*S.whole()[:end])

    for line in overview(view, no_trace)["rounds_held"]:
        picture = round_picture(view, line["round"], no_trace)
        assert picture is not None
        assert line["outcomes"] == Counter(cluster["outcome"] for cluster in picture["clusters"])


def test_a_round_that_is_not_there_has_no_picture() -> None:
    view = viewed(S.submitted(), S.opened(4, 1, 1, Task.EVALUATE))

    assert (round_picture(view, 0, no_trace), round_picture(view, 2, no_trace)) == (None, None)
