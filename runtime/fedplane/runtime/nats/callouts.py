"""Who may connect: servers ask (auth callout), and are told which connections to end. Questions and answers are messages.

Each question goes to one of those who answer, so any number of replicas share them, and one that died costs the client one more try.
What is asked and answered is the caller's business: bytes in, bytes out.
Source: ADR-26 of the NATS architecture repository.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from fedplane.runtime.nats.connection import door
from fedplane.runtime.nats.pull import forget

__all__ = ["QUESTIONS", "answer_callouts", "end_connections"]

QUESTIONS = "$SYS.REQ.USER.AUTH"
"""Where servers ask, in the account that their configuration names."""

REPLICAS = "fedplane-authorizer"
"""The queue group in which replicas share the questions."""

PENDING_MAX = 10_000
"""Questions that wait for an answer. A server waits two seconds for it, in which thousands are answered."""


async def answer_callouts(connection: Client, answer: Callable[[bytes], bytes | None]) -> Subscription:
    """Answer from now on, until the subscription ends; None is no answer.

    An answer is published and not sent as a response of the library's, which would repeat the question's headers.
    """

    async def asked(message: Msg) -> None:
        said = answer(message.data)
        if said is not None:
            with door("answer who may connect"):
                await connection.publish(message.reply, said)

    with door(f"listen on {QUESTIONS}"):
        subscription: Subscription = await connection.subscribe(QUESTIONS, REPLICAS, asked, pending_msgs_limit=PENDING_MAX)
        await connection.flush()
    return subscription


SERVERS_SECONDS = 0.25
"""How long to wait for one more server to tell who is connected. Those of a cluster answer within milliseconds of each other."""

ANSWER_SECONDS = 2.0

PAGE_CONNECTIONS = 1024
"""How many connections a server tells of at a time; its own default."""


async def end_connections(system: Client, account: str, names: frozenset[str]) -> int:
    """End the connections of users of these names, and say how many. Who is cut off connects again, and is asked about again.

    `system` is a connection in the system account, which alone may do so. Raises BusError when a server does not answer.
    """
    ended = 0
    with door(f"end connections of {', '.join(sorted(names))}"):
        async for server, connection in _connections(system, account):
            if connection.get("authorized_user") in names:
                kick = json.dumps({"cid": connection["cid"]}).encode()
                await system.request(f"$SYS.REQ.SERVER.{server}.KICK", kick, ANSWER_SECONDS)
                ended += 1
    return ended


async def _connections(system: Client, account: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Every connection of an account, each with the id of its server. Servers answer side by side, and each by pages."""
    asked = {"auth": True, "acc": account, "limit": PAGE_CONNECTIONS}
    for page in await _from_all(system, "$SYS.REQ.SERVER.PING.CONNZ", asked):
        server, offset = page["server"]["id"], 0
        while found := page["data"].get("connections"):
            for connection in found:
                yield server, connection
            offset += len(found)
            if len(found) < PAGE_CONNECTIONS:
                break
            more = json.dumps({**asked, "offset": offset}).encode()
            page = json.loads((await system.request(f"$SYS.REQ.SERVER.{server}.CONNZ", more, ANSWER_SECONDS)).data)  # noqa: PLW2901


async def _from_all(system: Client, subject: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    inbox = system.new_inbox()
    subscription = await system.subscribe(inbox)
    answers: list[dict[str, Any]] = []
    try:
        await system.publish(subject, json.dumps(body).encode(), reply=inbox)
        while True:
            waits = SERVERS_SECONDS if answers else ANSWER_SECONDS
            answers.append(json.loads((await subscription.next_msg(timeout=waits)).data))
    except nats.errors.TimeoutError:
        if not answers:
            raise
        return answers
    finally:
        await forget(system, subscription)
