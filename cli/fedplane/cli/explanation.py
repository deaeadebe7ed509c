"""Why each cluster takes part in a run, or does not: every filter that was asked, and every term of every score. Pure.

Up to a screen of clusters each has its lines. A fleet of hundreds is summed up by reasons, since nobody reads a thousand lines;
`--all` shows them all the same. A wide table has one line for each cluster, and a column for each filter and criterion.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedplane.cli.display import Cell, columns, plain
from fedplane.cli.runs import Judged
from fedplane.schemas.models import FILTERS, OUTSCORED, Chosen, Refused, Term

__all__ = ["CLUSTERS_SHOWN_MAX", "document", "explanation"]

CLUSTERS_SHOWN_MAX = 40
"""Each has a line or several: two screens, and who wants more says so."""

NAMES_SHOWN_MAX = 3
"""How many clusters a summary names for each reason."""

NOTHING = Text("The scheduler has not looked at any cluster for this run yet.")


def explanation(everyone: Sequence[Judged], *, wide: bool = False, every: bool = False) -> RenderableType:
    """The explanation as a person reads it; `every` cluster, or a summary if they are too many."""
    if not everyone:
        return NOTHING
    if len(everyone) > CLUSTERS_SHOWN_MAX and not every:
        return _summary(everyone)
    return _matrix(everyone) if wide else _terms(everyone)


def document(run: str, everyone: Sequence[Judged]) -> dict[str, Any]:
    """The explanation as a program reads it: for each cluster the filters that it passed and the one that it did not, terms and total."""
    return {"run": run, "clusters": [_judged(cluster) for cluster in everyone]}


def _judged(cluster: Judged) -> dict[str, Any]:
    reason, message = (cluster.reason, cluster.message) if isinstance(cluster, Refused) else ("", "")
    return {
        "cluster": cluster.cluster,
        "chosen": isinstance(cluster, Chosen),
        "reason": reason,
        "message": message,
        "filters": _filters(cluster),
        "score": cluster.score,
        "terms": [{**term.model_dump(), "points": term.score * term.weight} for term in cluster.terms],
    }


def _filters(cluster: Judged) -> dict[str, str]:
    """What each filter said: they are asked in order, and none after the one that refuses."""
    refusing = cluster.reason if isinstance(cluster, Refused) and cluster.reason != OUTSCORED else ""
    if refusing and refusing not in FILTERS:
        return {refusing: "refused"}  # another version's filter: what was asked before it is not known here
    asked = FILTERS.index(refusing) if refusing else len(FILTERS)
    said = ["passed" if number < asked else "refused" if number == asked else "not asked" for number in range(len(FILTERS))]
    return dict(zip(FILTERS, said, strict=True))


def _verdict(cluster: Judged) -> Cell:
    if isinstance(cluster, Chosen):
        return "chosen", "green"
    return f"refused: {plain(cluster.reason)}", "yellow"


def _terms(everyone: Sequence[Judged]) -> RenderableType:
    rows: list[tuple[Cell, ...]] = []
    for cluster in everyone:
        points = () if cluster.score is None else ((*_points(cluster.terms), ("total", "", "", f"{cluster.score:.3f}")))
        first, *rest = points or (("", "", "", ""),)
        rows += [(cluster.cluster, _verdict(cluster), _passed(cluster), *first), *(("", "", "", *line) for line in rest)]
    head = ("CLUSTER", "VERDICT", "FILTERS", "CRITERION", "SCORE", "WEIGHT", "POINTS")
    order = Text(f"filters, in the order in which they are asked: {', '.join(FILTERS)}", "dim")
    messages = [Text(f"{refused.cluster} {plain(refused.message)}") for refused in everyone if isinstance(refused, Refused)]
    return Group(columns(rows, head), *messages, order)


def _passed(cluster: Judged) -> str:
    said = _filters(cluster)
    return f"passed {sum(word == 'passed' for word in said.values())} of {len(said)}"


def _matrix(everyone: Sequence[Judged]) -> Text:
    criteria = list(dict.fromkeys(term.criterion for cluster in everyone for term in cluster.terms))
    words: Mapping[str, Cell] = {"passed": ("yes", "green"), "refused": ("no", "yellow"), "not asked": ("-", "dim")}
    rows = []
    for cluster in everyone:
        said, terms = _filters(cluster), {term.criterion: f"{term.score:.3f} x {term.weight:g}" for term in cluster.terms}
        rows.append(
            (
                cluster.cluster,
                _verdict(cluster),
                *(words[said[name]] if name in said else "?" for name in FILTERS),
                *(terms.get(name, "") for name in criteria),
                "" if cluster.score is None else f"{cluster.score:.3f}",
                plain(cluster.message) if isinstance(cluster, Refused) else "",
            )
        )
    filters_, scores = (f"{name.upper()}?" for name in FILTERS), (name.upper() for name in criteria)
    return columns(rows, ("CLUSTER", "VERDICT", *filters_, *scores, "TOTAL", "WHY"))


def _summary(everyone: Sequence[Judged]) -> RenderableType:
    """How many were chosen and how many each filter refused, with the scores or the message of some."""
    rows: list[tuple[Cell, ...]] = []
    chosen = [cluster for cluster in everyone if isinstance(cluster, Chosen)]
    if chosen:
        names = ", ".join(cluster.cluster for cluster in chosen[:NAMES_SHOWN_MAX])
        rows.append((_verdict(chosen[0]), f"{len(chosen):,}", _range(chosen), names))
    refused = [cluster for cluster in everyone if isinstance(cluster, Refused)]
    order = [*FILTERS, OUTSCORED]
    for reason in sorted({each.reason for each in refused}, key=lambda name: (order.index(name) if name in order else len(order), name)):
        of = [cluster for cluster in refused if cluster.reason == reason]
        rows.append((_verdict(of[0]), f"{len(of):,}", _range(of), plain(f"{of[0].cluster} {of[0].message}")))
    said = f"{len(everyone):,} clusters, summed up by what became of them; --all shows each, -o wide in a line, -o json for programs"
    return Group(columns(rows, ("VERDICT", "CLUSTERS", "SCORES", "FOR EXAMPLE")), Text(said, "dim"))


def _range(clusters: Iterable[Judged]) -> str:
    scores = [cluster.score for cluster in clusters if cluster.score is not None]
    return f"{min(scores):.3f} to {max(scores):.3f}" if scores else ""


def _points(terms: Iterable[Term]) -> list[tuple[str, str, str, str]]:
    return [(term.criterion, f"{term.score:.3f}", f"{term.weight:g}", f"{term.score * term.weight:.3f}") for term in terms]
