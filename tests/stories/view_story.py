"""Views of runs as tests show them: folded from the vocabulary's own example, or as large as a fleet; and the text of a picture."""

from datetime import UTC, datetime, timedelta
from io import StringIO

from log_story import knows, recorded
from rich.console import Console, RenderableType

from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.models import Chosen, Refused, Task, Term
from fedplane.schemas.views import Decline, RoundState, RoundView, RunView
from fedplane.status.phases import Phases

__all__ = ["NOON", "RUN", "crowd", "round_view", "shown", "view_after"]

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RUN = "mnist-5f3a9c1e"


def view_after(kind: type[facts.Fact]) -> RunView:
    """The view of the example run up to the first fact of that kind."""
    story = [type(fact) for fact in EXAMPLES]
    return knows(Phases(runs_kept_max=1), recorded(EXAMPLES[: story.index(kind) + 1]))[RUN]


def round_view(number: int, task: Task, training_round: int, state: RoundState = RoundState.AGGREGATED, **more: object) -> RoundView:
    """A round of two clusters, of which one answered, unless `more` says otherwise."""
    return RoundView.model_validate(
        {
            "round": number, "task": task, "training_round": training_round, "state": state, "opened_at": NOON, "deadline": NOON,
            "ended_at": NOON + timedelta(seconds=2.5), "invited": ("a", "b"), "answered": ("a",), **more,
        }
    )  # fmt: skip


def crowd(clusters: int, rounds: int) -> RunView:
    """A run on so many clusters, in a round in which most have answered, after so many rounds of which each missed some."""
    names = tuple(f"c{number:04}" for number in range(clusters))
    terms = (Term(criterion="data", score=0.5, weight=2), Term(criterion="cpu", score=1, weight=1))
    metrics = [{"loss": 1 / number, "accuracy": 1 - 1 / number} for number in range(1, rounds + 2)]
    past = [
        round_view(number, Task.TRAIN, number, invited=names, answered=names[number % 7 :], metrics=metrics[number])
        for number in range(1, rounds + 1)
    ]
    lost = (Decline(cluster=names[-1], reason="crashed", message="the app ended"),)
    answered = names[5:-5]
    now = round_view(
        rounds + 1, Task.TRAIN, rounds + 1, RoundState.OPEN, invited=names, answered=answered, declined=lost, ended_at=None,
        answered_seconds=tuple(float(number) for number in range(len(answered))), deadline=NOON + timedelta(minutes=5),
    )  # fmt: skip
    return view_after(facts.Opened).model_copy(
        update={
            "rounds": (*past, now),
            "training_rounds": rounds * 2,
            "training_rounds_done": rounds,
            "participants": tuple(Chosen(cluster=name, score=2, terms=terms) for name in names),
            "refused": tuple(Refused(cluster=f"d{name}", reason="data", message="has none") for name in names),
        }
    )


def shown(renderable: RenderableType, width: int = 120) -> str:
    """What a person sees, without colours and without blanks at the ends of lines."""
    text = StringIO()
    Console(file=text, width=width, markup=False, emoji=False, highlight=False).print(renderable)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
