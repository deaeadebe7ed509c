"""A question about a connection that cannot be answered yet is held, and not lost: who asks too early would have to begin anew."""

import asyncio
from collections.abc import AsyncIterator

import nats
import nats.errors
import pytest
import pytest_asyncio
from conftest import NatsServer
from nats.aio.client import Client

from fedplane.runtime.nats import callouts
from fedplane.runtime.nats.callouts import QUESTIONS, answer_callouts


@pytest_asyncio.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Client]:
    connection = await nats.connect(nats_server.url)
    yield connection
    await connection.close()


async def test_it_is_answered_as_soon_as_there_is_an_answer_and_others_meanwhile(connection: Client) -> None:
    known: dict[bytes, bytes] = {b"at once": b"yes"}
    await answer_callouts(connection, lambda question: known.get(question, b""))

    early = asyncio.create_task(connection.request(QUESTIONS, b"too early", timeout=20))
    await asyncio.sleep(0.1)
    meanwhile = await connection.request(QUESTIONS, b"at once", timeout=20)
    assert (meanwhile.data, early.done()) == (b"yes", False)
    known[b"too early"] = b"no"

    assert (await early).data == b"no"


async def test_what_is_no_question_is_asked_about_once_and_what_stays_unanswered_for_a_while(
    connection: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callouts, "HELD_SECONDS", 0.5)
    asked: list[bytes] = []

    def answer(question: bytes) -> bytes | None:
        asked.append(question)
        return None if question == b"none" else b""

    await answer_callouts(connection, answer)
    for question in (b"none", b"early"):
        with pytest.raises(nats.errors.TimeoutError):
            await connection.request(QUESTIONS, question, timeout=2)
    times = asked.count(b"early")
    await asyncio.sleep(0.5)

    assert (asked.count(b"none"), times > 2, asked.count(b"early")) == (1, True, times)
