"""Who may connect: servers ask (auth callout), and are told which connections to end. Questions and answers are messages.

Each question goes to one of those who answer, so any number of replicas share them, and one that died costs the client one more try.
What is asked and answered is the caller's business: bytes in, bytes out.

Whoever answers has three connections, as nobody may do everything: one to hear questions, one to end connections, and one to the bus.
The first two are those of users that the server's configuration names; the third is let in by the answer to a question like any other.
So questions have to be answered before the bus is there.
Source: ADR-26 of the NATS architecture repository.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, Patience, close, connect, door
from fedplane.runtime.nats.credentials import Credentials
from fedplane.runtime.nats.log import NatsLog
from fedplane.runtime.nats.pull import forget
from fedplane.runtime.nats.readers import NatsReaders
from fedplane.runtime.nats.sizes import NatsSizes

__all__ = ["AUTHORIZER", "QUESTIONS", "SYSTEM", "Gate", "answer_callouts", "end_connections", "open_gate"]

QUESTIONS = "$SYS.REQ.USER.AUTH"
"""Where servers ask, in the account that their configuration names."""

AUTHORIZER, SYSTEM = "authorizer", "system"
"""The users of the two accounts, as the server's configuration names them."""

INBOX = "_INBOX"
"""Where answers to them come: nobody else is in their accounts."""

REPLICAS = "fedplane-authorizer"
"""The queue group in which replicas share the questions."""

PENDING_MAX = 10_000
"""Questions that wait for an answer. A server waits two seconds for it, in which thousands are answered."""

HELD_SECONDS = 1.8
HELD_AGAIN_SECONDS = 0.05
"""How long a question is held that cannot be answered yet, and how often it is asked again. A client waits two seconds."""

SERVERS_SECONDS = 0.25
"""How long to wait for one more server to tell who is connected. Those of a cluster answer within milliseconds of each other."""

ANSWER_SECONDS = 2.0

PAGE_CONNECTIONS = 1024
"""How many connections a server tells of at a time; its own default."""

PATIENCE = Patience(again_seconds=0.02)
"""When a server has come back, whoever answers it should be there before those about whom it asks: who asks too early loses two seconds."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What whoever decides about connections has: the log, readers that it makes for others, sizes, and a say in which connections end."""

    log: NatsLog
    readers: NatsReaders
    sizes: NatsSizes
    system: Client
    is_connected: Callable[[], bool]

    async def end(self, is_overtaken: Callable[[str], bool]) -> int:
        """See `end_connections`."""
        return await end_connections(self.system, is_overtaken)


@asynccontextmanager
async def open_gate(
    url: str,
    *,
    name: str,
    source: str,
    credentials: Credentials,
    passwords: tuple[str, str],
    answer: Callable[[bytes], bytes | None],
) -> AsyncIterator[Gate]:
    """Answer servers as long as the block lasts; the block begins when the bus has let us in as well.

    `passwords` are those of the users `AUTHORIZER` and `SYSTEM`. Raises what `connect` raises.
    """
    async with AsyncExitStack() as ends:

        async def connected(role: str, known: Credentials) -> Client:
            connection = await connect(url, f"{name}{role}", CONTROL_PENDING_BYTES, PATIENCE, credentials=known)
            ends.push_async_callback(close, connection)
            return connection

        asked = await connected(" callouts", replace(credentials, inbox=INBOX, user=AUTHORIZER, password=passwords[0]))
        await answer_callouts(asked, answer)
        system = await connected(" system", replace(credentials, inbox=INBOX, user=SYSTEM, password=passwords[1]))
        bus = await connected("", credentials)
        every = (asked, system, bus)
        yield Gate(NatsLog(bus, source), NatsReaders(bus), NatsSizes(bus), system, lambda: all(each.is_connected for each in every))


async def answer_callouts(connection: Client, answer: Callable[[bytes], bytes | None]) -> Subscription:
    """Answer from now on, until the subscription ends. None is no answer, and an empty one is none yet: then it is asked again for a while.

    A client that gets no answer has to begin anew after three seconds, so whoever is about to know lets it wait.
    An answer is published and not sent as a response of the library's, which would repeat the question's headers.
    """
    held: set[asyncio.Task[None]] = set()

    async def answered(message: Msg) -> bool:
        said = answer(message.data)
        if said:
            with door("answer who may connect"):
                await connection.publish(message.reply, said)
        return said != b""

    async def hold(message: Msg) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(HELD_SECONDS):
                while not await answered(message):
                    await asyncio.sleep(HELD_AGAIN_SECONDS)

    async def asked(message: Msg) -> None:
        if not await answered(message) and len(held) < PENDING_MAX:
            task = asyncio.create_task(hold(message))
            held.add(task)
            task.add_done_callback(held.discard)

    with door(f"listen on {QUESTIONS}"):
        subscription: Subscription = await connection.subscribe(QUESTIONS, REPLICAS, asked, pending_msgs_limit=PENDING_MAX)
        await connection.flush()
    return subscription


async def end_connections(system: Client, is_overtaken: Callable[[str], bool]) -> int:
    """End the connections of users of whose names this is true, and say how many. Who is cut off connects again, and is asked about again.

    `system` is a connection in the system account, which alone may do so. Raises BusError when a server does not answer.
    """
    ended = 0
    with door("end connections whose rights have changed"):
        async for server, connections in _connections(system):
            for connection in connections:
                if is_overtaken(str(connection.get("authorized_user", ""))):
                    kick = json.dumps({"cid": connection["cid"]}).encode()
                    await system.request(f"$SYS.REQ.SERVER.{server}.KICK", kick, ANSWER_SECONDS)
                    ended += 1
    return ended


async def _connections(system: Client) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Each server's id and all of its connections. Servers answer side by side, and each by pages.

    A page says after how many connections it begins, so nobody may end one of a server's before the last of its pages was read.
    """
    asked = {"auth": True, "limit": PAGE_CONNECTIONS}
    async for page in _from_all(system, "$SYS.REQ.SERVER.PING.CONNZ", asked):
        server, found = page["server"]["id"], page["data"].get("connections") or []
        every: list[dict[str, Any]] = []
        while found:
            every += found
            if len(found) < PAGE_CONNECTIONS:
                break
            more = json.dumps({**asked, "offset": len(every)}).encode()
            answer = await system.request(f"$SYS.REQ.SERVER.{server}.CONNZ", more, ANSWER_SECONDS)
            found = json.loads(answer.data)["data"].get("connections") or []
        yield server, every


async def _from_all(system: Client, subject: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """What each server answers, as soon as it does. Raises TimeoutError when none does."""
    inbox = system.new_inbox()
    subscription = await system.subscribe(inbox)
    answers = 0
    try:
        await system.publish(subject, json.dumps(body).encode(), reply=inbox)
        while True:
            yield json.loads((await subscription.next_msg(timeout=SERVERS_SECONDS if answers else ANSWER_SECONDS)).data)
            answers += 1
    except nats.errors.TimeoutError:
        if not answers:
            raise
    finally:
        await forget(system, subscription)
