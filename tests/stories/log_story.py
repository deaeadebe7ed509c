"""A log that is a list, and what a core knows when it has read one. No bus, no service: facts in their order, and a fold."""

from collections.abc import Iterable
from typing import Any, TypeVar

from hypothesis import strategies as st

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Core
from fedplane.schemas.facts import Fact

S = TypeVar("S")


def recorded(facts: Iterable[Fact], first: int = 1) -> list[Recorded]:
    """The facts on a log, at the places from the first one on, each in a trace of its own."""
    return [Recorded(fact, sequence, traceparent=f"trace {sequence}") for sequence, fact in enumerate(facts, first)]


def knows(core: Core[S], records: Iterable[Recorded], state: S | None = None) -> S:
    """What the core knows when it has read the records, after what it knew before."""
    known = core.initial() if state is None else state
    for record in records:
        known = core.evolve(known, record)
    return known


@st.composite
def deliveries(draw: Any, records: list[Recorded]) -> list[Recorded]:
    """The records in the log's order, and after each of them any stretch of those that came before it once more."""
    delivered = []
    for reached, record in enumerate(records, start=1):
        begin = draw(st.integers(0, reached))
        delivered += [record, *records[begin : draw(st.integers(begin, reached))]]
    return delivered
