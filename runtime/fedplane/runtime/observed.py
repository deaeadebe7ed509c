"""What a look at a bus, or at a Kubernetes hub, has shown: plain data, for whoever judges it.

Looking and judging are apart, so that a judgement is a pure function with a test, and a look is a thin shell that asks and waits.
Who looks is `fedplane.runtime.nats.looking` and `fedplane.runtime.kubernetes.looking`; what it means is the business of `fedplane doctor`.
What could not be looked at is named in `unseen`, with the reason, and is None or empty in its own place: not seen is not absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Advertised

__all__ = [
    "Access",
    "BusSeen",
    "Difference",
    "HubSeen",
    "LettersSeen",
    "QueueSeen",
    "ReaderSeen",
    "Right",
    "Stamp",
    "StreamSeen",
    "SubscriptionSeen",
    "Trial",
]


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of a stream's configuration that is not as this version declares it. Both values are as JSON has them."""

    field: str
    found: Any
    wanted: Any


@dataclass(frozen=True, slots=True)
class StreamSeen:
    """A stream: how full it is, how many copies it has, which of them are `behind`, and what of its configuration differs."""

    bytes: int
    bytes_max: int | None
    copies: int = 1
    behind: tuple[str, ...] = ()
    drift: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A queue of tasks: how many processes wait for one, how many tasks wait, and how many are being done."""

    idle: int
    waiting: int
    under_way: int


@dataclass(frozen=True, slots=True)
class ReaderSeen:
    """Who reads the log, as the process calls itself (`scheduler 0`), and whether it is asking for more at this moment."""

    name: str
    asking: bool


@dataclass(frozen=True, slots=True)
class SubscriptionSeen:
    """A durable subscription: whose it is, how many facts it has still to hear, and whether somebody asks for more at this moment."""

    name: str
    owner: str
    behind: int
    asking: bool


@dataclass(frozen=True, slots=True)
class LettersSeen:
    """The stream of dead letters: how full it is, and how many there are of each reader."""

    bytes: int
    bytes_max: int | None
    by_reader: Mapping[str, int]


class Access(StrEnum):
    """What became of publishing something that the server must refuse by its fence: the harmless way to learn whether we may."""

    ALLOWED = "allowed"
    DENIED = "denied"
    NO_STREAM = "no stream takes it"
    SILENT = "no answer"
    STORED = "stored"


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried, in words that continue "may", and what became of it."""

    what: str
    access: Access


@dataclass(frozen=True, slots=True)
class Stamp:
    """Two clocks' word on one fact: when its `source` says that it was stated, and when the server stored it."""

    source: str
    at: datetime
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class BusSeen:
    """A server with its streams. `version` is what it says of itself.

    `servers` is how many its cluster has, as far as it tells. `ahead_seconds` is how far this machine's clock is ahead of the server's,
    `doubt_seconds` how wrong that may be: half of the way there and back.
    """

    version: str
    payload_bytes_max: int
    servers: int = 1
    jetstream: bool = True
    streams: Mapping[str, StreamSeen | None] = field(default_factory=dict)
    queues: Mapping[str, QueueSeen | None] = field(default_factory=dict)
    readers: tuple[ReaderSeen, ...] = ()
    subscriptions: tuple[SubscriptionSeen, ...] = ()
    letters: LettersSeen | None = None
    trials: tuple[Trial, ...] = ()
    advertised: tuple[Advertised, ...] = ()
    access: tuple[Recorded, ...] = ()
    stamps: tuple[Stamp, ...] = ()
    now: datetime | None = None
    ahead_seconds: float = 0.0
    doubt_seconds: float = 0.0
    unseen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Right:
    """Something that an API server may allow: a verb on a resource, perhaps one of its subresources, in a namespace or in all of them."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""

    @property
    def spoken(self) -> str:
        """As a role's rules have it."""
        name = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {name}{f'.{self.group}' if self.group else ''}"


@dataclass(frozen=True, slots=True)
class HubSeen:
    """An API server: its version, which plurals it serves of a group and version, our definition, and who may do what.

    `rights` has, for each service and each right that it needs, whether it has it.
    """

    version: str
    served: Mapping[str, frozenset[str]] = field(default_factory=dict)
    definition: Mapping[str, Any] | None = None
    rights: Mapping[tuple[str, Right], bool] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
