"""A look at a server and its streams, for `fedplane doctor`: it asks what can be asked, changes nothing, and waits for bounded times.

Whether we may publish is found out by trying with a fence that cannot be kept: the server refuses to store it, and does so only if we may.
Who lives is read off the consumers: each reader's name is in its consumer's metadata, and the server forgets requests of the dead.
What the look finds is data of `fedplane.runtime.observed`; what to think of it is not said here.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from fedplane.runtime.errors import BusError, Denied, Unreachable
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, Patience, close, connect, door, greeting
from fedplane.runtime.nats.credentials import Credentials
from fedplane.runtime.nats.letters import LETTERS
from fedplane.runtime.nats.log import recorded
from fedplane.runtime.nats.pull import READER, pull
from fedplane.runtime.nats.streams import (
    ACCESS,
    ACCESS_SUBJECTS,
    FACT_STREAMS,
    FLEET,
    FOLDS_CONSUMER,
    LOG,
    STATED,
    STREAMS,
    TIMERS,
    TIMERS_CONSUMER,
    WORK,
    drift,
)
from fedplane.runtime.nats.subscriptions import OWNER
from fedplane.runtime.observed import (
    Access,
    BusSeen,
    LettersSeen,
    QueueSeen,
    ReaderSeen,
    Stamp,
    StreamSeen,
    SubscriptionSeen,
    Trial,
)
from fedplane.runtime.ports import Recorded
from fedplane.schemas import envelope
from fedplane.schemas.facts import EVERYTHING, Advertised, Expired, Granted, Lapsed, Submitted, all_facts_of
from fedplane.schemas.subjects import dead_letters, given_piece, update_piece, work_on

__all__ = ["TRIALS", "look"]

T = TypeVar("T")

CONNECT_SECONDS = 3.0
"""A person waits; see the command line's own patience."""

ANSWER_SECONDS = 2.0
"""For one answer. A server that is up answers in milliseconds, across continents in a fraction of a second."""

COMPLAINT_SECONDS = 0.05
"""How often to look whether the server has complained instead of answering."""

PART_SECONDS = 8.0
"""For one part of the look, which may take several answers: a thousand clusters' advertisements are four of them."""

FACTS_LOOKED_AT = 500
"""How many of the last facts are looked at for the clocks of those who stated them: some rounds of ten clusters."""

CLUSTERS_MAX = 10_000
READERS_MAX = 10_000
"""Beyond that a look stops: ten times as many as we are made for."""

NOBODY = "fedplane-doctor"
"""The run and the cluster of whatever is tried. Nothing is stored under it."""

NEVER = str(2**53 - 1)
"""The place that a trial's fence names: no stream gets there."""

FENCE_REFUSED = 10071
"""JetStream's code for: wrong last sequence. Whoever hears it was allowed to publish, and the stream keeps fences."""

TRIALS: Mapping[str, str] = {
    "state facts of runs": STATED + Submitted.pattern(run=NOBODY),
    "say who may use the bus": STATED + Granted.pattern(role=NOBODY, name=NOBODY),
    "advertise clusters": STATED + Advertised.pattern(cluster=NOBODY),
    "set timers": f"timer.{Expired.pattern(run=NOBODY, round=0)}",
    "offer work": work_on("fold", NOBODY, 0, 0),
    "store models to begin with": f"{given_piece(NOBODY, NOBODY, 0)}.0",
    "store updates": f"{update_piece(NOBODY, 0, NOBODY, NOBODY, 0)}.0",
    "show runs": f"$KV.runs.{NOBODY}",
}
"""What roles publish, each by a subject that nobody uses: what is tried, in words that continue "may"."""

HEARING = "hear what is announced"
"""The one trial that is a subscription."""


async def look(url: str, credentials: Credentials | None = None) -> BusSeen:
    """What the server, its streams and those who use them show. Raises Unreachable or Denied when there is no connection."""
    complaints: list[str] = []
    patience = Patience(connect_seconds=CONNECT_SECONDS)
    connection = await connect(url, "fedplane doctor", CONTROL_PENDING_BYTES, patience, complaints.append, credentials=credentials)
    try:
        return await _Look(connection, complaints).seen()
    finally:
        await close(connection)


class _Look:
    """One look by one connection; `unseen` collects what could not be looked at."""

    def __init__(self, connection: Client, complaints: list[str]) -> None:
        self._connection, self._complaints = connection, complaints
        self._unseen: dict[str, str] = {}

    async def seen(self) -> BusSeen:
        said = greeting(self._connection)
        server: dict[str, Any] = {
            "version": str(said.get("version", "")),
            "payload_bytes_max": int(said.get("max_payload", 0)),
            "servers": len(said.get("connect_urls") or ()) if said.get("cluster") else 1,
        }
        if not await self._part("jetstream", self._has_jetstream(), False):
            return BusSeen(**server, jetstream=False, unseen=self._unseen)
        streams = {name: await self._part(f"stream {name}", self._stream(name), None) for name in STREAMS}
        queues = {
            FOLDS_CONSUMER: await self._part(f"consumer {FOLDS_CONSUMER}", self._queue(WORK, FOLDS_CONSUMER), None),
            TIMERS_CONSUMER: await self._part(f"consumer {TIMERS_CONSUMER}", self._queue(TIMERS, TIMERS_CONSUMER), None),
        }
        trials = await self._part("permissions", self._trials(), ())
        there = streams[LOG] is not None and streams[FLEET] is not None
        readers = await self._part("readers", self._readers(), ()) if there else ()
        subscriptions = await self._part("subscriptions", self._subscriptions(), ()) if there else ()
        letters = await self._part("letters", self._letters(), None)
        advertised, of_clusters = await self._part("clusters", self._advertised(), ((), ())) if there else ((), ())
        access = await self._part("access", self._access(), ()) if there and streams[ACCESS] is not None else ()
        of_runs = await self._part("facts", self._stamps(), ()) if there else ()
        now, ahead, doubt = await self._part("clock", self._clock(), (None, 0.0, 0.0)) if there else (None, 0.0, 0.0)
        return BusSeen(
            **server, streams=streams, queues=queues, readers=readers, subscriptions=subscriptions, letters=letters, trials=trials,
            advertised=advertised, access=access, stamps=(*of_clusters, *of_runs), now=now, ahead_seconds=ahead, doubt_seconds=doubt,
            unseen=self._unseen,
        )  # fmt: skip

    async def _part(self, name: str, looking: Awaitable[T], otherwise: T) -> T:
        try:
            async with asyncio.timeout(PART_SECONDS):
                return await looking
        except TimeoutError:
            self._unseen[name] = f"no answer within {PART_SECONDS:g} s"
        except BusError as error:
            self._unseen[name] = str(error)
        return otherwise

    async def _has_jetstream(self) -> bool:
        try:
            await self._ask("INFO")
        except Unreachable as error:
            if isinstance(error.__cause__, nats.errors.NoRespondersError):
                return False
            raise
        return True

    async def _stream(self, name: str) -> StreamSeen | None:
        said = await self._ask(f"STREAM.INFO.{name}")
        if said is None:
            return None
        configuration, copies = said["config"], (said.get("cluster") or {}).get("replicas") or ()
        limit = configuration.get("max_bytes", -1)
        return StreamSeen(
            bytes=said["state"]["bytes"],
            bytes_max=limit if limit > 0 else None,
            copies=configuration.get("num_replicas", 1),
            behind=tuple(sorted(copy["name"] for copy in copies if copy.get("offline") or not copy.get("current"))),
            drift=drift(name, configuration),
        )

    async def _queue(self, stream: str, consumer: str) -> QueueSeen | None:
        said = await self._ask(f"CONSUMER.INFO.{stream}.{consumer}")
        return None if said is None else QueueSeen(said["num_waiting"], said["num_pending"], said["num_ack_pending"])

    async def _readers(self) -> tuple[ReaderSeen, ...]:
        found = [ReaderSeen(name, each["num_waiting"] > 0) async for each, name in self._consumers(LOG, READER)]
        return tuple(sorted(found, key=lambda reader: (reader.name, reader.asking)))

    async def _subscriptions(self) -> tuple[SubscriptionSeen, ...]:
        found = [
            SubscriptionSeen(each["name"], owner, each["num_pending"] + each["num_ack_pending"], each["num_waiting"] > 0)
            for stream in FACT_STREAMS
            async for each, owner in self._consumers(stream, OWNER)
        ]
        return tuple(sorted(found, key=lambda subscription: subscription.name))

    async def _consumers(self, stream: str, word: str) -> AsyncIterator[tuple[Mapping[str, Any], str]]:
        """The consumers of a stream that have this word in their metadata, and what it says."""
        begin = 0
        while begin < READERS_MAX:
            said = await self._ask(f"CONSUMER.LIST.{stream}", {"offset": begin}) or {}
            page = said.get("consumers") or ()
            for each in page:
                if told := (each["config"].get("metadata") or {}).get(word):
                    yield each, told
            begin += len(page)
            if not page or begin >= said["total"]:
                break

    async def _letters(self) -> LettersSeen | None:
        said = await self._ask(f"STREAM.INFO.{LETTERS}", {"subjects_filter": dead_letters()})
        if said is None:
            return None
        limit = said["config"].get("max_bytes", -1)
        readers = Counter(subject.split(".")[-2] for subject in said["state"].get("subjects") or ())
        return LettersSeen(said["state"]["bytes"], limit if limit > 0 else None, dict(sorted(readers.items())))

    async def _advertised(self) -> tuple[tuple[Advertised, ...], tuple[Stamp, ...]]:
        facts: dict[str, Advertised] = {}
        stamps: dict[str, Stamp] = {}
        async for message in self._messages(FLEET, Advertised.pattern(), 0, last_only=True):
            fact, source = _fact(message)
            if isinstance(fact, Advertised) and len(facts) < CLUSTERS_MAX:
                facts[fact.cluster], stamps[fact.cluster] = fact, Stamp(source, fact.at, message.metadata.timestamp)
        return tuple(facts[name] for name in sorted(facts)), tuple(stamps[name] for name in sorted(stamps))

    async def _access(self) -> tuple[Recorded, ...]:
        records = [recorded(message) async for message in self._messages(ACCESS, ACCESS_SUBJECTS, 0, last_only=True)]
        return tuple(record for record in records if record is not None)

    async def _stamps(self) -> tuple[Stamp, ...]:
        said = await self._ask(f"STREAM.INFO.{LOG}") or {}
        begin = max(0, said["state"]["last_seq"] - FACTS_LOOKED_AT)
        stamps = []
        async for message in self._messages(LOG, all_facts_of(), begin, last_only=False):
            fact, source = _fact(message)
            if fact is not None and not isinstance(fact, Expired | Lapsed):  # whose time is the deadline's, and nobody's clock
                stamps.append(Stamp(source, fact.at, message.metadata.timestamp))
        return tuple(stamps)

    async def _messages(self, stream: str, pattern: str, after: int, *, last_only: bool) -> AsyncIterator[Msg]:
        async with aclosing(pull(self._connection, stream, [STATED + pattern], after, last_only=last_only)) as reading:
            async for pulled in reading:
                for message in pulled.messages:
                    yield message
                if pulled.pending == 0:
                    return

    async def _clock(self) -> tuple[datetime, float, float]:
        sent = datetime.now(UTC)
        said = await self._ask(f"STREAM.INFO.{LOG}") or {}
        received = datetime.now(UTC)
        there = datetime.fromisoformat(said["ts"]).astimezone(UTC)
        return there, ((received - sent) / 2 + sent - there) / timedelta(seconds=1), (received - sent) / timedelta(seconds=2)

    async def _trials(self) -> tuple[Trial, ...]:
        published = await asyncio.gather(*(self._published(subject) for subject in TRIALS.values()))
        return (Trial(HEARING, await self._heard()), *(Trial(what, access) for what, access in zip(TRIALS, published, strict=True)))

    async def _published(self, subject: str) -> Access:
        headers = {"Nats-Expected-Last-Subject-Sequence": NEVER}
        try:
            answer = await self._request(subject, b"", headers)
        except nats.errors.NoRespondersError:
            return Access.NO_STREAM
        except nats.errors.TimeoutError:
            return Access.SILENT
        except Denied:
            return Access.DENIED
        said = json.loads(answer.data)
        if "error" not in said:
            return Access.STORED
        return Access.ALLOWED if said["error"].get("err_code") == FENCE_REFUSED else Access.SILENT

    async def _heard(self) -> Access:
        async with _subscribed(self._connection, EVERYTHING):
            for _ in range(2):  # the library may send the first one's ping before the subscription, but not the second one's
                await self._connection.flush()  # the server's complaint comes before its answer to a ping
        return Access.DENIED if self._complained_of(EVERYTHING) else Access.ALLOWED

    async def _request(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> Msg:
        """The answer. Raises Denied as soon as the server complains of the subject: then none will come."""
        asking = asyncio.create_task(self._connection.request(subject, body, ANSWER_SECONDS, headers=headers))
        try:
            while not (await asyncio.wait({asking}, timeout=COMPLAINT_SECONDS))[0]:
                if self._complained_of(subject):
                    raise Denied(f"the server does not allow to publish {subject}")
            return asking.result()
        finally:
            asking.cancel()

    def _complained_of(self, subject: str) -> bool:
        return any(f'"{subject}"'.casefold() in complaint.casefold() for complaint in self._complaints)

    async def _ask(self, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The answer of JetStream's API; None if there is no such thing. Raises BusError when it answers otherwise, or not at all."""
        subject = f"$JS.API.{what}"
        with door(f"ask for {what}"):
            answer = await self._request(subject, json.dumps(body or {}).encode())
        said: dict[str, Any] = json.loads(answer.data)
        failure = said.get("error")
        if failure is None:
            return said
        if failure.get("code") == 404:
            return None
        raise BusError(f"could not ask for {what}: {failure.get('description')} (JetStream error {failure.get('err_code')})")


@asynccontextmanager
async def _subscribed(connection: Client, subject: str) -> AsyncIterator[None]:
    with door(f"subscribe to {subject}"):
        subscription = await connection.subscribe(subject)
        try:
            yield
        finally:
            await subscription.unsubscribe()


def _fact(message: Msg) -> tuple[Any, str]:
    """The fact and its source; None for what cannot be read as one, which is every reader's business but this one's."""
    headers = message.headers or {}
    try:
        return envelope.read(message.subject.removeprefix(STATED), headers, message.data), headers.get("ce-source", "")
    except envelope.Unreadable:
        return None, ""
