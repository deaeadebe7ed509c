"""Writes the tables of metrics and spans into `docs/how-to/watch-the-services.md`, from the tables that the services use themselves.

    python docs/draw_telemetry.py            writes the page
    python docs/draw_telemetry.py --check    fails if the committed page is not what would be written

The words around the tables stand in the page, and stay as they are.
"""

from collections.abc import Iterator
from pathlib import Path

from fedplane.runtime.metrics import METRICS, OTHER, Attribute, prometheus_names
from fedplane.runtime.spans import SPANS
from fedplane.schemas.generate import keep

PAGE = Path(__file__).parent / "how-to" / "watch-the-services.md"

LISTED_MAX = 8
"""How many values of an attribute are listed. Who wants all of the facts' types finds them in `events.md`."""


def metrics() -> Iterator[str]:
    """The table of metrics, and the one of their attributes."""
    yield "| metric | kind, unit | in Prometheus | said by | what it is | attributes |"
    yield "|---|---|---|---|---|---|"
    for metric in METRICS:
        names = next(prometheus_names(metric))
        attributes = ", ".join(f"`{attribute.name}`" for attribute in metric.attributes)
        kind = f"{metric.kind}, {metric.unit.strip('{}')}" if metric.unit else metric.kind
        yield f"| `{metric.name}` | {kind} | `{names}` | {metric.said_by} | {metric.description} | {attributes} |"


def attributes() -> Iterator[str]:
    """What values attributes have, by metric where that differs."""
    yield "| attribute | values | of |"
    yield "|---|---|---|"
    told: dict[tuple[str, str], list[str]] = {}
    for metric in METRICS:
        for attribute in metric.attributes:
            told.setdefault((attribute.name, _values(attribute)), []).append(metric.name.removeprefix("fedplane."))
    for (name, values), where in sorted(told.items()):
        yield f"| `{name}` | {values} | {', '.join(where)} |"


def _values(attribute: Attribute) -> str:
    if not attribute.values:
        return f"{attribute.at_most} at most, and `{OTHER}` for the rest"
    if len(attribute.values) <= LISTED_MAX:
        return ", ".join(f"`{value}`" for value in attribute.values)
    return f"{len(attribute.values)} words, such as `{attribute.values[0]}`"


def spans() -> Iterator[str]:
    """The table of spans."""
    yield "| span | where | said by | what it is | attributes | events |"
    yield "|---|---|---|---|---|---|"
    for line in SPANS:
        names, attributes, events = (
            ", ".join(f"`{each}`" for each in names) for names in (line.name.split(", "), line.attributes, line.events)
        )
        yield f"| {names} | {line.branch} | {line.said_by} | {line.tells} | {attributes} | {events} |"


def page(text: str) -> str:
    """The page with its tables written anew. Raises ValueError if a place for one is missing."""
    for name, table in (("metrics", metrics), ("attributes", attributes), ("spans", spans)):
        begin, end = f"<!-- {name}: written by `python docs/draw_telemetry.py` -->\n", f"<!-- end of {name} -->\n"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"{PAGE.name} has no place for the table of {name}: {begin.strip()} ... {end.strip()}")
        text = before + begin + "".join(f"{line}\n" for line in table()) + end + after
    return text


def main() -> None:
    """See the module's description."""
    keep("docs/draw_telemetry.py", "Write the tables of metrics and spans into their page.", {PAGE: page(PAGE.read_text())})


if __name__ == "__main__":
    main()
