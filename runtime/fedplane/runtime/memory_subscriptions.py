"""Durable subscriptions on the bus in memory: a name, how far its reader has come, and what it was not done with on the way."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Begin, Handed, Log, Recorded, Subscription
from fedplane.runtime.subscribing import check_name, check_number, check_owner, check_same

__all__ = ["MemorySubscriptions"]


@dataclass
class _Remembered:
    subscription: Subscription
    place: Begin
    not_done: dict[int, Recorded] = field(default_factory=dict)
    read: bool = False


@dataclass
class _Handed:
    record: Recorded | None
    live: bool
    _remembered: _Remembered

    async def done(self) -> None:
        """See `Handed.done`."""
        if self.record is not None:
            self._remembered.not_done.pop(self.record.sequence, None)


class MemorySubscriptions:
    """See `Subscriptions`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._remembered: dict[str, _Remembered] = {}

    async def make(self, wanted: Subscription) -> bool:
        """See `Subscriptions.make`."""
        check_name(wanted.name)
        if wanted.name in self._remembered:
            check_same(self._remembered[wanted.name].subscription, wanted)
            return False
        check_number(len(self._remembered))
        begin = await self._end(wanted) if wanted.begin is None else wanted.begin
        self._remembered[wanted.name] = _Remembered(wanted, begin)
        return True

    async def read(self, name: str) -> AsyncGenerator[Handed, None]:
        """See `Subscriptions.read`."""
        remembered = self._known(name)
        if remembered.read:
            raise BadInput(f"the durable subscription {name} is read by another process")
        remembered.read = True
        try:
            for _, record in sorted(remembered.not_done.items()):
                yield _Handed(record, False, remembered)
            async for batch in self._log.tail(remembered.subscription.patterns, remembered.place):
                for record in batch.records:
                    remembered.place = record.sequence
                    remembered.not_done[record.sequence] = record
                    yield _Handed(record, batch.live and record is batch.records[-1], remembered)
                if batch.live and not batch.records:
                    yield _Handed(None, True, remembered)
        finally:
            remembered.read = False

    async def forget(self, name: str, owner: str) -> None:
        """See `Subscriptions.forget`."""
        check_owner(self._known(name).subscription, owner)
        del self._remembered[name]

    async def every(self) -> list[Subscription]:
        """See `Subscriptions.every`."""
        return [self._remembered[name].subscription for name in sorted(self._remembered)]

    def _known(self, name: str) -> _Remembered:
        if name not in self._remembered:
            raise BadInput(f"there is no durable subscription {name!r}; there are: {', '.join(sorted(self._remembered)) or 'none'}")
        return self._remembered[name]

    async def _end(self, wanted: Subscription) -> int:
        last = 0
        async for batch in self._log.tail(wanted.patterns):
            last = max(last, batch.sequence)
            if batch.live:
                break
        return last
