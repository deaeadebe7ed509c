"""The streams: which facts, timers, tasks and bytes the server keeps, and how.

| stream | holds | what makes it right |
|---|---|---|
| LOG | facts of runs | one message per subject and a second one refused: each subject is a write-once register |
| FLEET | what clusters advertise | the last message per subject, of a bounded size; drops the oldest when full, which is said again soon |
| ACCESS | who may use the bus | the last message per subject; refuses new ones when full, so that no revocation is ever dropped |
| TIMERS | facts for later, and those that are due | message schedules; the server fires them though we be dead |
| WORK | tasks | a work queue: a task is gone when it was acknowledged |
| BULK | chunks of updates and models | one message per chunk; refuses new ones when full instead of dropping old ones |
| KV_runs | views | a NATS key-value bucket, so that `nats kv get runs RUN` works |

LETTERS is no part of this: it has the dead letters of webhooks, and is made when there is one; see `letters`.
LOG and FLEET republish what they store, without the `log.` prefix: that is what subscribers hear, and nobody hears what was not stored.
ACCESS is not republished: subscribers need not know of each other. It is apart from FLEET, because clusters write there:
if they could fill what a revocation is kept in, whoever was thrown out would be let in again.
Schedules need a stream of their own because a stream that refuses new messages may not have them.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RePublish, RetentionPolicy, StorageType, StreamConfig

from fedplane.runtime.errors import BusError, Unreachable
from fedplane.runtime.nats.connection import NO_ROOM, Patience, door
from fedplane.runtime.observed import Difference
from fedplane.schemas.facts import Advertised

__all__ = [
    "ACCESS", "ACCESS_SUBJECTS", "BULK", "FACT_STREAMS", "FLEET", "FOLDS_CONSUMER", "LOG", "STATED", "STREAMS", "TIMERS", "TIMERS_CONSUMER",
    "VIEWS", "WORK", "Limits", "declare", "declared", "drift", "stream_of",
]  # fmt: skip

LOG, FLEET, ACCESS, TIMERS, WORK, BULK, VIEWS = "LOG", "FLEET", "ACCESS", "TIMERS", "WORK", "BULK", "KV_runs"
STREAMS = (LOG, FLEET, ACCESS, TIMERS, WORK, BULK, VIEWS)
FACT_STREAMS = (LOG, FLEET, ACCESS)
"""Those that keep facts; each fact is in one of them, see `stream_of`."""

BEING_MADE_SECONDS = (0.05, 0.2, 1.0)
"""How long to wait each time for a stream that another process may be making: a server with a slow disk needs a second."""

STATED = "log."
"""The prefix under which a fact is published to be stored; the server announces it without."""

RUNS_SUBJECTS = "fed.v1.run.>"
FLEET_SUBJECTS = "fed.v1.fleet.>"
ACCESS_SUBJECTS = "fed.v1.access.>"

FLEET_MESSAGE_BYTES_MAX = Advertised.bytes_max + 12_144
"""An advertisement and its headers: 256 KiB."""

FLEET_BYTES_MAX = 64_000_000
"""Ten thousand clusters that say 6 KB each. It takes 244 that say as much as they can to drop anybody's advertisement,
and whoever is dropped says it again before its lease is over.
"""

ACCESS_BYTES_MAX = 16_000_000
"""There are two facts at most about one name, of less than 1 KB each: 8,000 names. Operators and authorizers state them, and no cluster."""

TIMERS_CONSUMER = "timers"
FOLDS_CONSUMER = "folds"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the streams may hold, and how long a lease lasts. The defaults fit one machine."""

    log_bytes: int = 256_000_000
    """A fact has about 1 KB: a quarter of a million of them."""

    bulk_bytes: int = 4_000_000_000
    """Updates of one round and two models, for ten clusters and 300 MB each."""

    timers_age_seconds: float = 30 * 24 * 3600
    """Longer than the longest deadline that a resource may ask for, which is a week."""

    lease_seconds: float = 10.0
    """How long a task stays with a process that says nothing. Short, since a lapse costs repeated work and nothing else."""

    replicas: int = 1
    """Copies of each stream; 3 on a cluster of servers."""


def _configurations(limits: Limits) -> list[StreamConfig]:
    kept: dict[str, Any] = {"storage": StorageType.FILE, "num_replicas": limits.replicas, "allow_direct": True}
    return [
        StreamConfig(
            name=LOG, subjects=[STATED + RUNS_SUBJECTS], max_msgs_per_subject=1, discard=DiscardPolicy.NEW, discard_new_per_subject=True,
            deny_delete=True, max_bytes=limits.log_bytes, republish=RePublish(src=STATED + RUNS_SUBJECTS, dest=RUNS_SUBJECTS), **kept,
        ),
        StreamConfig(
            name=FLEET, subjects=[STATED + FLEET_SUBJECTS], max_msgs_per_subject=1, max_bytes=FLEET_BYTES_MAX,
            max_msg_size=FLEET_MESSAGE_BYTES_MAX, republish=RePublish(src=STATED + FLEET_SUBJECTS, dest=FLEET_SUBJECTS), **kept,
        ),
        StreamConfig(
            name=ACCESS, subjects=[STATED + ACCESS_SUBJECTS], max_msgs_per_subject=1, discard=DiscardPolicy.NEW, deny_delete=True,
            max_bytes=ACCESS_BYTES_MAX, **kept,
        ),
        StreamConfig(
            name=TIMERS, subjects=["timer.fed.v1.>", "due.fed.v1.>"], max_msgs_per_subject=1, allow_msg_schedules=True,
            max_age=limits.timers_age_seconds, max_bytes=64_000_000, **kept,
        ),
        StreamConfig(
            name=WORK, subjects=["work.fed.v1.>"], retention=RetentionPolicy.WORK_QUEUE, max_msgs_per_subject=1, discard=DiscardPolicy.NEW,
            discard_new_per_subject=True, max_bytes=16_000_000, **kept,
        ),
        StreamConfig(
            name=BULK, subjects=["bulk.fed.v1.>"], max_msgs_per_subject=1, discard=DiscardPolicy.NEW, max_bytes=limits.bulk_bytes, **kept,
        ),
        StreamConfig(
            name=VIEWS, subjects=["$KV.runs.>"], max_msgs_per_subject=1, discard=DiscardPolicy.NEW, max_bytes=64_000_000, deny_delete=True,
            allow_rollup_hdrs=True, **kept,
        ),
    ]  # fmt: skip


CHOSEN_BY_OPERATORS = frozenset({"max_bytes", "num_replicas"})
"""What of a stream may differ from what we would declare: how much it holds, and on how many servers."""

UNDECLARED: Mapping[str, Any] = {
    "max_msgs": -1, "max_msg_size": -1, "max_consumers": -1, "max_age": 0, "sealed": False, "deny_purge": False, "no_ack": False,
    "mirror": None, "sources": None, "subject_transform": None,
}  # fmt: skip
"""What a stream has when we declare nothing, as the server says it; anything else would lose facts, or refuse them."""


def drift(stream: str, found: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Each field in which a stream's configuration, as the API's JSON has it, differs from what this version declares.

    What the server says of its own, and what operators choose, is left alone; a field that is not said is off.
    """
    (ours,) = (each for each in _configurations(Limits()) if each.name == stream)
    plain = json.loads(json.dumps(ours.as_dict()))
    wanted = {**UNDECLARED, **{name: value for name, value in plain.items() if value}}
    differing = (name for name in wanted if name not in CHOSEN_BY_OPERATORS and (found.get(name) or None) != (wanted[name] or None))
    return tuple(Difference(name, found.get(name), wanted[name]) for name in sorted(differing))


async def declare(jetstream: JetStreamContext, limits: Limits) -> None:
    """Make the streams and consumers that are missing. Those that are there stay as they are: changing limits is an operator's decision."""
    for configuration in _configurations(limits):
        with door(f"declare stream {configuration.name}"):
            await _stream(jetstream, configuration)
    lease = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=limits.lease_seconds, max_deliver=-1)
    await _consumer(jetstream, WORK, lease.evolve(durable_name=FOLDS_CONSUMER))
    await _consumer(jetstream, TIMERS, lease.evolve(durable_name=TIMERS_CONSUMER, filter_subject="due.fed.v1.>"))


async def _stream(jetstream: JetStreamContext, configuration: StreamConfig) -> None:
    """Make the stream if it is missing.

    Services start together. A server that makes the stream for one of them counts it a second time for the others before it sees that they
    ask for the same, so whoever is told that there is no room for it looks whether it is there.
    """
    waits = [*BEING_MADE_SECONDS]
    while True:
        try:
            await jetstream.stream_info(str(configuration.name))
        except nats.js.errors.NotFoundError:
            if await _was_made(jetstream, configuration, insist=not waits):
                return
            await asyncio.sleep(waits.pop(0))
        else:
            return


async def _was_made(jetstream: JetStreamContext, configuration: StreamConfig, *, insist: bool) -> bool:
    """Whether we have made it now. That there is no room is an error only if we `insist`."""
    try:
        await jetstream.add_stream(configuration)
    except nats.js.errors.APIError as error:
        if insist or error.err_code not in NO_ROOM:
            raise
        return False
    return True


async def _consumer(jetstream: JetStreamContext, stream: str, configuration: ConsumerConfig) -> None:
    with door(f"declare consumer {configuration.durable_name}"):
        try:
            await jetstream.consumer_info(stream, str(configuration.durable_name))
        except nats.js.errors.NotFoundError:
            await jetstream.add_consumer(stream, configuration)


async def declared(jetstream: JetStreamContext, patience: Patience) -> None:
    """Wait until somebody has declared the streams. Raises Unreachable when nobody does within the patience."""
    try:
        async with asyncio.timeout(patience.connect_seconds):
            while not await _is_declared(jetstream):
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise Unreachable(f"the server has no stream {LOG} after {patience.connect_seconds:g} s; is a scheduler running?") from error


async def _is_declared(jetstream: JetStreamContext) -> bool:
    try:
        with door("look for the streams"):
            await jetstream.stream_info(VIEWS)  # the last one to be made
    except BusError:
        return False  # not yet, or the server is not ready; the caller's patience bounds this
    return True


def stream_of(pattern: str) -> str:
    """The stream that keeps facts of this pattern."""
    if pattern.startswith(FLEET_SUBJECTS[:-1]):
        return FLEET
    return ACCESS if pattern.startswith(ACCESS_SUBJECTS[:-1]) else LOG
