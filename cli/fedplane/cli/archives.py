"""The facts of runs that left the log: finding a run's archive, and reading it as if it were the log."""

from collections.abc import AsyncGenerator

from fedplane.runtime.archive import Unpacker
from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Bus, Recorded
from fedplane.schemas.facts import Archived

__all__ = ["archive_of", "facts_in"]


async def archive_of(bus: Bus, run: str) -> Archived | None:
    """What the log says of the run's archive; None if the run is not archived."""
    held = await bus.log.read(Archived.pattern(run=run))
    return held.fact if held is not None and isinstance(held.fact, Archived) else None


async def facts_in(bus: Bus, archived: Archived) -> AsyncGenerator[Recorded, None]:
    """The archive's facts, as the log had them. Raises Corrupt when it is not what was stored, perhaps only after the last fact."""
    unpacker, facts = Unpacker(), 0
    async for _, part in bus.bulk.read(archived.piece):
        for record in unpacker.take(part):
            facts += 1
            yield record
    unpacker.end()
    if facts != archived.facts:
        raise Corrupt(f"the archive of {archived.run} has {facts} facts, and it was made of {archived.facts}")
