"""A process says over HTTP whether it is well, to anybody who asks as a kubelet does."""

import asyncio
import contextlib
import re
import socket

import pytest
from apiserver import free_port

from fedplane.runtime.errors import Unavailable
from fedplane.runtime.health import QUESTION_BYTES, Health, answering


async def ask(port: int, question: str) -> str:
    """All that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(question.encode())
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def status_of(port: int, path: str) -> int:
    answer = await ask(port, f"GET {path} HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nUser-Agent: kube-probe/1.33\r\nAccept: */*\r\n\r\n")
    head, _, words = answer.partition("\r\n\r\n")
    assert f"Content-Length: {len(words)}" in head
    return int(head.split()[1])


async def test_a_process_that_waits_for_its_bus_is_live_and_not_ready() -> None:
    port, health = free_port(), Health()

    async with answering(port, health):
        waiting = {path: await status_of(port, path) for path in ("/live", "/ready", "/metrics")}
        health.is_ready = lambda: True
        connected = {path: await status_of(port, path) for path in ("/live", "/ready")}

    with pytest.raises(ConnectionRefusedError):
        await ask(port, "GET /live")
    assert waiting == {"/live": 200, "/ready": 503, "/metrics": 404}
    assert connected == {"/live": 200, "/ready": 200}


async def test_a_process_has_started_when_what_it_works_on_is_open_whether_it_is_ready_or_not() -> None:
    port, health = free_port(), Health()

    async with answering(port, health, "127.0.0.1"):
        starting = await status_of(port, "/started")
        health.has_started = True
        started = {path: await status_of(port, path) for path in ("/started", "/ready")}

    assert (starting, started) == (503, {"/started": 200, "/ready": 503})


async def test_nothing_listens_unless_a_port_is_set() -> None:
    async with answering(None, Health()):
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(Unavailable, match=re.escape(f"health on port {port}: ")):
            async with answering(port, Health()):
                raise AssertionError("it listens all the same")


@pytest.mark.parametrize(
    "question", ["nonsense\r\n\r\n", "GET /live HTTP/1.1\r\n" + "x" * 2 * QUESTION_BYTES, "\r\n\r\n"], ids=["no HTTP", "too long", "empty"]
)
async def test_whoever_does_not_speak_http_is_cut_off_and_the_next_one_answered(question: str) -> None:
    port = free_port()

    async with answering(port, Health()):
        with contextlib.suppress(ConnectionResetError):  # a cut, said more rudely
            assert await ask(port, question) == ""
        assert await status_of(port, "/live") == 200


async def test_whoever_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedplane.runtime.health.QUESTION_SECONDS", 0.05)
    port = free_port()

    async with answering(port, Health()):
        assert await ask(port, "GET /live") == ""
