"""What is worth a line in each fact and in a row of metrics, for whoever shows them to people: the command line and the page.

It is said once, here, so that the two do not tell the same thing in different words.
What comes from apps and clusters stays as it is: taking out what a terminal would obey is the terminal's business, and so on.
"""

from collections.abc import Callable, Iterable
from typing import Any

from fedplane.schemas import facts
from fedplane.schemas.models import Metrics
from fedplane.schemas.privacy_terms import Spent

__all__ = ["METRICS_FIRST", "METRICS_SHOWN_MAX", "detail", "metrics_line", "privacy_line", "shown"]

METRICS_SHOWN_MAX = 4
"""How many metrics have a place of their own: an app may measure hundreds, and a line has room for about so many."""

METRICS_FIRST = ("accuracy", "loss")
"""What most apps measure and most people look for."""


def shown(names: Iterable[str]) -> list[str]:
    """The names for which there is room, the ones that people look for first."""

    def rank(name: str) -> tuple[int, str]:
        return (METRICS_FIRST.index(name) if name in METRICS_FIRST else len(METRICS_FIRST)), name

    return sorted(names, key=rank)[:METRICS_SHOWN_MAX]


def metrics_line(metrics: Metrics) -> str:
    """The metrics that people look at first, on one line."""
    return " ".join(f"{name}={metrics[name]:.4g}" for name in shown(metrics))


def privacy_line(spent: Spent | None) -> str:
    """What noise has cost, if there is any."""
    return "" if spent is None else f"epsilon={spent.epsilon:.4g} delta={spent.delta:.4g}"


def detail(fact: facts.Fact) -> str:
    """The little that tells the fact from others of its kind; nothing where its subject says it all."""
    return DETAILS[type(fact)](fact) if type(fact) in DETAILS else ""


DETAILS: dict[type[facts.Fact], Callable[[Any], str]] = {
    facts.Submitted: lambda fact: f"{fact.resource.spec.framework}, {fact.resource.spec.server.rounds} training rounds",
    facts.Waiting: lambda fact: fact.message,
    facts.Scheduled: lambda fact: ", ".join(chosen.cluster for chosen in fact.participants),
    facts.Started: lambda fact: f"{fact.strategy}, {fact.training_rounds} training rounds",
    facts.Exposed: lambda fact: "; ".join(
        [*(listener.address for listener in fact.listeners), *(f"{name}: {why}" for name, why in fact.pending.items())]
    ),
    facts.Asked: lambda fact: (
        f"{', '.join(sorted({each.kind for each in fact.instructions}))}: {', '.join(each.cluster for each in fact.instructions)}"
    ),
    facts.Opened: lambda fact: f"{fact.task}, training round {fact.training_round}: {', '.join(fact.clusters)}",
    facts.Invited: lambda fact: f"{fact.task}, training round {fact.training_round}",
    facts.Contributed: lambda fact: (
        f"weight={fact.weight:g} bytes={sum(shard.bytes for shard in fact.shards)} {metrics_line(fact.metrics)}"
    ),
    facts.Evaluated: lambda fact: f"weight={fact.weight:g} {metrics_line(fact.metrics)}",
    facts.Declined: lambda fact: f"{fact.reason}: {fact.message}",
    facts.Rejected: lambda fact: f"{fact.reason}: {fact.message}",
    facts.Closed: lambda fact: fact.reason,
    facts.Folded: lambda fact: f"bytes={fact.piece.bytes} members={len(fact.members)}",
    facts.Aggregated: lambda fact: (
        f"{fact.task}, training round {fact.training_round}: {metrics_line(fact.metrics)} {privacy_line(fact.privacy)}".rstrip()
    ),
    facts.RoundFailed: lambda fact: f"{fact.reason}: {fact.message}",
    facts.Completed: lambda fact: metrics_line(fact.metrics),
    facts.Failed: lambda fact: f"{fact.reason}: {fact.message}",
    facts.Cancelled: lambda fact: fact.message,
    facts.Kept: lambda fact: fact.location,
    facts.Archived: lambda fact: f"{fact.facts} facts in {fact.piece.bytes} bytes",
    facts.Granted: lambda fact: ", ".join(fact.patterns),
    facts.Revoked: lambda fact: fact.message,
}
"""What is worth a line in each fact, beside its subject."""
