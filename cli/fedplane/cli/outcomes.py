"""What came of a command that asks for something, as a document: what a program would otherwise cut out of a sentence. Pure.

`commands` says the sentence, to a person. Both are made of the same facts, and the exit code says whether it went well.
"""

from pathlib import Path
from typing import Any

from rich.table import Table

from fedplane.cli.display import plain, table
from fedplane.cli.download import size
from fedplane.cli.keeping import Outcome
from fedplane.cli.manifest import Origin
from fedplane.schemas.facts import Cancelled, Failed, Scheduled, Waiting
from fedplane.schemas.models import Model

__all__ = ["cancelled", "downloaded", "kept", "row", "submitted"]

WORDS = {Waiting: "waiting", Scheduled: "scheduled", Failed: "failed"}


def submitted(run: str, word: Waiting | Scheduled | Failed | None) -> dict[str, Any]:
    """A run that was asked for, and the first word about it; none, if nothing was said or nobody waited for it."""
    return {
        "run": run,
        "word": None if word is None else WORDS[type(word)],
        "message": "" if word is None or isinstance(word, Scheduled) else word.message,
        "clusters": [chosen.cluster for chosen in word.participants] if isinstance(word, Scheduled) else [],
        "refused": {} if word is None or isinstance(word, Failed) else {refused.cluster: refused.message for refused in word.refused},
    }


def cancelled(run: str, ended: Cancelled, ours: bool) -> dict[str, Any]:
    """A run that is cancelled: by this command, or before."""
    return {"run": run, "cancelled_at": ended.at.isoformat(), "message": ended.message, "before": not ours}


def downloaded(run: str, model: Model, training_round: int | None, file: Path) -> dict[str, Any]:
    """A model that was written to a file; without a training round the run's last one."""
    return {"run": run, "training_round": training_round, "file": str(file), "bytes": size(model), "digest": model.digest}


def kept(place: str, outcome: Outcome, origin: Origin, model: Model) -> dict[str, Any]:
    """A model that is kept, or was, or was not because a later run's is there."""
    return {
        "run": origin.run,
        "training_round": origin.training_round,
        "place": place,
        "outcome": outcome.name.lower(),
        "bytes": size(model),
        "digest": model.digest,
    }


def row(found: dict[str, Any]) -> Table:
    """Such a document as a table with one line."""
    shown = table(*(name.replace("_", " ").upper() for name in found))
    shown.add_row(*(plain(_cell(value)) for value in found.values()))
    return shown


def _cell(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{name}: {said}" for name, said in value.items())
        case list():
            return ", ".join(value)
        case bool():
            return "yes" if value else "no"
    return "" if value is None else str(value)
