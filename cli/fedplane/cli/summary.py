"""What became of a demo: a table for people, a document for programs. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedplane.cli.display import plain
from fedplane.schemas.models import Chosen, Metrics, Refused, Task
from fedplane.schemas.views import RunView

__all__ = ["Judgement", "Outcome", "document", "picture"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the example's own program says of the model, on data that nobody trained on."""

    accuracy: float
    loss: float
    digits: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a demo has to tell. `judgement` is None if there is no model; `here` is where commands are typed."""

    view: RunView
    judgement: Judgement | None
    state: Path
    example: Path
    here: Path
    seconds: float

    @property
    def model(self) -> Path:
        """The model's file."""
        return self.state / "model.safetensors"


def document(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON has it."""
    view, judged = outcome.view, outcome.judgement
    return {
        "run": view.run,
        "phase": view.phase.value,
        "message": view.message,
        "rounds": view.training_rounds_done,
        "accuracy": judged.accuracy if judged else None,
        "loss": judged.loss if judged else None,
        "model": str(outcome.model) if judged else None,
        "participants": [chosen.cluster for chosen in view.participants],
        "refused": {refused.cluster: {"reason": refused.reason, "message": refused.message} for refused in view.refused},
        "seconds": round(outcome.seconds, 1),
    }


def picture(outcome: Outcome) -> RenderableType:
    """The outcome as a person reads it."""
    view, judged = outcome.view, outcome.judgement
    parts: list[RenderableType] = [
        _titled("Phases", _phases(view)),
        _titled("Why these clusters", _clusters(view)),
        _titled("Rounds", _rounds(view)),
    ]
    if judged:
        said = f"{judged.accuracy:.1%} of {judged.digits:,} digits that nobody trained on are recognised, loss {judged.loss:.3f}"
        parts.append(_titled("Result", Text(said, "bold green")))
    else:
        parts.append(_titled("Result", Text(f"{view.phase}: {plain(view.message)}", "bold red")))
    parts.append(_titled("Where", _places(outcome)))
    parts.append(_titled("Try next", _next(outcome)))
    return Group(*parts)


def _titled(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(), Text(title, "bold cyan"), body)


def _phases(view: RunView) -> Table:
    table = _table("PHASE", "AFTER")
    for phase, at in sorted(view.phases.items(), key=lambda entry: entry[1]):
        table.add_row(phase.value, f"{(at - view.submitted_at).total_seconds():.1f} s")
    return table


def _clusters(view: RunView) -> Table:
    """A line per cluster: each criterion's part in its score, or the reason why it was refused."""
    everyone: list[Chosen | Refused] = [*view.participants, *view.refused]
    criteria = list(dict.fromkeys(term.criterion for cluster in everyone for term in cluster.terms))
    table = _table("CLUSTER", *(name.upper().replace("_", " ") for name in criteria), "SCORE", "VERDICT")
    for cluster in everyone:
        points = {term.criterion: f"{term.score:.2f} x {term.weight:g}" for term in cluster.terms}
        verdict = Text("takes part", "green") if isinstance(cluster, Chosen) else Text(f"refused: {plain(cluster.message)}", "yellow")
        score = "" if cluster.score is None else f"{cluster.score:.2f}"
        table.add_row(cluster.cluster, *(points.get(name, "") for name in criteria), score, verdict)
    return table


def _rounds(view: RunView) -> Table:
    """A line per training round: who took part, and what was measured, on the digits that each cluster keeps for validation."""
    table = _table("ROUND", "PARTICIPANTS", "LOSS", "ACCURACY", "SECONDS")
    for number in range(1, view.training_rounds_done + 1):
        of = [it for it in view.rounds if it.training_round == number]
        trained = [it for it in of if it.task is Task.TRAIN]
        measured: Metrics = {}
        for it in sorted(of, key=lambda it: it.task is Task.EVALUATE):
            measured = {**measured, **it.metrics}
        seconds = sum((it.ended_at - it.opened_at).total_seconds() for it in of if it.ended_at)
        table.add_row(
            str(number), ", ".join(sorted(trained[-1].answered)) if trained else "",
            _number(measured, "loss"), _number(measured, "accuracy"), f"{seconds:.1f}",
        )  # fmt: skip
    return table


def _number(metrics: Metrics, name: str) -> str:
    """The metric that the app calls so, or something that ends so, like `eval_loss`."""
    found = [value for known, value in metrics.items() if known == name] or [v for k, v in metrics.items() if k.endswith(name)]
    return f"{found[0]:.3f}" if found else ""


def _places(outcome: Outcome) -> Table:
    table = Table.grid(padding=(0, 2))
    if outcome.judgement:
        table.add_row("model", str(outcome.model))
    table.add_row("summary", str(outcome.state / "summary.json"))
    table.add_row("logs", str(outcome.state / "logs"))
    return table


def _next(outcome: Outcome) -> Table:
    state, example = _from(outcome.here, outcome.state), _from(outcome.here, outcome.example)
    fedplane = ".venv/bin/fedplane"
    table = Table.grid(padding=(0, 2))
    table.add_row(f"{fedplane} up --detach --state {state}", "the same federation again; its log is still there")
    table.add_row(f"{fedplane} events {outcome.view.run} --from-start --state {state}", "every fact of this run, in order")
    table.add_row(f"{fedplane} submit {example}/federatedlearning.yaml --state {state}", "another run")
    return table


def _from(here: Path, path: Path) -> Path:
    return path.relative_to(here) if path.is_relative_to(here) else path


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
