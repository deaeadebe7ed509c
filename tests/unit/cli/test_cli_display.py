"""What a person sees of a run, as text. The views are folded from the vocabulary's own example of a run."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console, RenderableType

from fedplane.cli import display, lines
from fedplane.runtime.ports import Recorded
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.models import Chosen, Refused, Task, Term
from fedplane.schemas.views import Decline, Phase, RoundState, RoundView, RunView
from fedplane.status.phases import Phases

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RUN = "mnist-5f3a9c1e"
FACT = {type(fact): fact for fact in EXAMPLES}
WAITING, SCHEDULED, FAILED = FACT[facts.Waiting], FACT[facts.Scheduled], FACT[facts.Failed]
assert isinstance(WAITING, facts.Waiting)
assert isinstance(SCHEDULED, facts.Scheduled)
assert isinstance(FAILED, facts.Failed)
NO_DATA = WAITING.refused[0].message


def view_after(kind: type[facts.Fact]) -> RunView:
    """The view of the example run up to the first fact of that kind."""
    core, story = Phases(runs_kept_max=1), [type(fact) for fact in EXAMPLES]
    state = core.initial()
    for sequence, fact in enumerate(EXAMPLES[: story.index(kind) + 1], 1):
        state = core.evolve(state, Recorded(fact, sequence))
    return state[RUN]


def round_view(number: int, task: Task, training_round: int, state: RoundState = RoundState.AGGREGATED, **more: object) -> RoundView:
    return RoundView.model_validate(
        {
            "round": number, "task": task, "training_round": training_round, "state": state, "opened_at": NOON, "deadline": NOON,
            "ended_at": NOON + timedelta(seconds=2.5), "invited": ("a", "b"), "answered": ("a",), **more,
        }
    )  # fmt: skip


def shown(renderable: RenderableType) -> str:
    text = StringIO()
    Console(file=text, width=120, markup=False, emoji=False, highlight=False).print(renderable)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def test_a_running_run_shows_its_progress_and_what_each_cluster_does() -> None:
    view = view_after(facts.Contributed)

    assert shown(display.progress(view, NOON + timedelta(seconds=40))) == (
        f"{RUN}  Running for 19s\n"
        "                                         0 of 3 training rounds\n"
        "Training round 1 of 3: 2 clusters invited.\n"
        "\n"
        "train, training round 1 of 3: open, 9m20s left\n"
        "hospital-a                                      answered\n"
        "hospital-b                                      working"
    )


def test_an_ended_run_shows_its_results_and_no_clocks() -> None:
    view = view_after(facts.Completed)

    assert shown(display.progress(view, NOON + timedelta(hours=1))) == (
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

    assert shown(display.progress(view, NOON)).splitlines()[4:] == [
        "ROUND  CLUSTERS  SECONDS  ACCURACY  LOSS  TRAIN_LOSS  Z1  REMARK",
        "1      1/2       7.5      0.75      0.5   0.8         1   failed once",
        "2      1/2       5.0                      0.25            failed once, at last: too-few: 0 of 1 answered",
    ]


def test_a_large_round_shows_the_lost_clusters_and_counts_those_beyond_a_screen() -> None:
    clusters = tuple(f"c{number:02}" for number in range(25))
    lost = (Decline(cluster="c01", reason="app-failed", message="it raised\nValueError"),)
    of = round_view(1, Task.TRAIN, 1, RoundState.CLOSED, invited=clusters, answered=("c00", "c02"), declined=lost, ended_at=None)
    view = view_after(facts.Opened).model_copy(update={"rounds": (of,)})
    rejected = of.model_copy(update={"rejected": (Decline(cluster="c02", reason="unacceptable", message="not finite"),)})

    text = shown(display.progress(view.model_copy(update={"rounds": (rejected,)}), NOON)).splitlines()

    assert [" ".join(line.split()) for line in text[4:9]] == [
        "train, training round 1 of 3: closed",
        "c00 answered",
        "c01 declined: app-failed: it raised ValueError",
        "c02 rejected: unacceptable: not finite",
        "c03 did not answer",
    ]
    assert " ".join(text[-1].split()) == "and 5 more 2 of 25 answered"


def test_an_explanation_has_every_term_of_every_score_and_every_refusal() -> None:
    terms = (Term(criterion="data", score=0.5, weight=2), Term(criterion="cpu", score=1, weight=-1))
    view = view_after(facts.Submitted).model_copy(
        update={
            "participants": (Chosen(cluster="a", score=0, terms=terms),),
            "refused": (
                Refused(cluster="c", reason="data", message="does not advertise the claim x"),
                Refused(cluster="b", reason="outscored", message="is number 2 by score", score=-1, terms=terms[1:]),
            ),
        }
    )

    assert shown(display.explanation(view)) == (
        "CLUSTER  VERDICT             CRITERION  SCORE  WEIGHT  POINTS\n"
        "a        chosen              data       0.500  2       1.000\n"
        "                             cpu        1.000  -1      -1.000\n"
        "                             total                     0.000\n"
        "b        refused: outscored  cpu        1.000  -1      -1.000\n"
        "                             total                     -1.000\n"
        "c        refused: data\n"
        "b is number 2 by score\n"
        "c does not advertise the claim x"
    )
    assert shown(display.explanation(view_after(facts.Submitted))) == "The scheduler has not looked at any cluster for this run yet."


def test_a_table_has_one_run_a_line() -> None:
    view = view_after(facts.Aggregated)

    assert shown(display.run_table([view], NOON + timedelta(seconds=90))) == (
        "RUN             PHASE    ROUNDS  CLUSTERS  AGE    MESSAGE\n"
        f"{RUN}  Running  1/3     2         1m30s  Training round 1 of 3: done by 1 cluster."
    )


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
        shown(display.progress(view, NOON)),
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
    said = type(fact) in lines.DETAILS

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


def test_phases_all_have_a_colour() -> None:
    assert set(display.STYLES) == set(Phase)
