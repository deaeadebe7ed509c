"""Facts for a person or a program that listens: which ones, from when, and until when.

They come from the log, of an archived run from its file, or from a durable subscription, whose place the bus remembers.
Nothing here prints; what is shown of a fact is said in `lines`.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from fedplane.cli import runs
from fedplane.cli.archives import archive_of, facts_in
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Begin, Bus, Handed, Recorded, Subscription
from fedplane.schemas.facts import FACTS, Archived, Cancelled, Completed, Fact, Failed, RunFact, all_facts_of
from fedplane.schemas.patterns import facts_named, facts_under

__all__ = ["Until", "Wanted", "checked_pattern", "facts", "heard", "kinds_of", "since_when", "subscribe"]

ENDINGS: tuple[type[Fact], ...] = (Completed, Failed, Cancelled, Archived)

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Until(Enum):
    """When a listener has heard enough."""

    NOW = "what there is now"
    ENDED = "the run's end"
    NEVER = "for ever"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which facts are wanted: of a run or of all, of some kinds or of all, or under a pattern. Without `begin`, the new ones."""

    run: str | None = None
    kinds: tuple[type[Fact], ...] = ()
    pattern: str = ""
    begin: Begin | None = None
    until: Until = Until.NEVER

    @property
    def patterns(self) -> tuple[str, ...]:
        """What to ask the bus for. The run's end is among it where it has to be noticed."""
        if self.pattern:
            return (self.pattern,)
        if not self.kinds:
            return (all_facts_of(self.run or "*"),)
        of_run = {"run": self.run} if self.run else {}
        noticed = ENDINGS if self.run and self.until is Until.ENDED else ()
        return tuple(kind.pattern(**of_run) for kind in dict.fromkeys((*self.kinds, *noticed)))

    def has(self, record: Recorded) -> bool:
        """Whether a fact that the bus has handed over is one of them."""
        return not self.kinds or isinstance(record.fact, self.kinds)


def kinds_of(words: Sequence[str], run: str | None) -> tuple[type[Fact], ...]:
    """The facts that are asked for by their types. Raises BadInput for a word that is none, and for facts of two streams."""
    found: dict[type[Fact], None] = {}
    for word in words:
        named = facts_named(word)
        if not named:
            known = ", ".join(_short(fact) for fact in FACTS)
            raise BadInput(f"there is no fact of the type {word!r}; there are {known}")
        found.update(dict.fromkeys(named))
    about = {fact.template.split(".")[2] for fact in found}
    if len(about) > 1:
        raise BadInput("facts of runs, of the fleet and of access are in streams of their own; ask for them one after the other")
    if run is not None and not all(issubclass(fact, RunFact) for fact in found):
        raise BadInput(f"facts of the fleet and of access are of no run; leave {run} away")
    return tuple(found)


def checked_pattern(pattern: str) -> str:
    """The pattern of subjects. Raises BadInput if no fact has such a subject."""
    if pattern and not facts_under(pattern):
        raise BadInput(
            f"no fact has a subject like {pattern!r}; docs/events.md lists them, as {Completed.pattern()} or {all_facts_of('RUN')}"
        )
    return pattern


def since_when(text: str, now: datetime) -> datetime:
    """The time that a person means by a time (local if it names no zone), or by how long ago. Raises BadInput if it is none, or to come."""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    try:
        at = now - timedelta(**{UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{text!r} is no time, as 2026-03-02T12:00:00Z, and no duration, as 90s, 15m, 2h or 7d") from error
    if at > now:
        raise BadInput(f"{text} is yet to come; what is said from now on comes without --since")
    return at


async def facts(bus: Bus, wanted: Wanted) -> AsyncGenerator[Recorded, None]:
    """Facts from the log, or from an archive what has left it."""
    archived = None if wanted.run is None else await archive_of(bus, wanted.run)
    if archived is not None and wanted.begin is not None:
        async for record in facts_in(bus, archived):
            if wanted.has(record) and (isinstance(wanted.begin, int) or record.fact.at >= wanted.begin):
                yield record
    ended = wanted.run is not None and await runs.end_of(bus, wanted.run) is not None
    live = False
    async for batch in bus.log.tail(wanted.patterns, wanted.begin):
        for record in batch.records:
            ended = ended or (wanted.run is not None and isinstance(record.fact, ENDINGS))
            if wanted.has(record):
                yield record
        live = live or batch.live
        if live and (wanted.until is Until.NOW or (ended and wanted.until is Until.ENDED)):
            return


async def subscribe(bus: Bus, wanted: Wanted, name: str, owner: str) -> bool:
    """Have the bus remember a reader of these facts; whether it did not before."""
    if wanted.run is not None and await archive_of(bus, wanted.run) is not None:
        raise BadInput(
            f"{wanted.run} is archived, and nothing more is said about it; without --durable its facts are read from the archive"
        )
    patterns = replace(wanted, until=Until.ENDED).patterns  # the same name may hear the end now, and wait for it another time
    return await bus.subscriptions.make(Subscription(name, patterns, owner, wanted.begin))


async def heard(bus: Bus, wanted: Wanted, name: str) -> AsyncGenerator[Handed, None]:
    """What the subscription of that name hands over, wanted facts only. Whoever is done with one has to say so."""
    ended = wanted.run is not None and await runs.end_of(bus, wanted.run) is not None
    async with aclosing(bus.subscriptions.read(name)) as subscription:
        async for handed in subscription:
            record = handed.record
            ended = ended or (wanted.run is not None and record is not None and isinstance(record.fact, ENDINGS))
            if record is not None and wanted.has(record):
                yield handed
            else:
                await handed.done()
            if handed.live and (wanted.until is Until.NOW or (ended and wanted.until is Until.ENDED)):
                return


def _short(fact: type[Fact]) -> str:
    return fact.type.split(".", 2)[2].rpartition(".")[0]
