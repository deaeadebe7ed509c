"""The page on forwarding: its commands are typed in their order, to a receiver that refuses something at first."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import NatsServer
from page_story import filled_in, text, typed
from typer.testing import CliRunner, Result
from webhook_story import Answer, Receiver, receiver

from fedplane.cli.main import app
from fedplane.cli.verdicts import RETRY_AFTER_SECONDS_MAX, Patience
from fedplane.runtime.nats import Limits, open_bus
from fedplane.schemas.facts import Failed

PAGE = "docs/how-to/forward-events.md"


async def says(command: str) -> Result:
    words = command.removeprefix("fedplane ").split()
    return await asyncio.to_thread(CliRunner().invoke, app, words)


def lines(result: Result) -> list[str]:
    """What it wrote to standard output; in this process, what is logged goes there, too."""
    return [line for line in result.stdout.splitlines() if "[info" not in line]


@pytest.fixture
def desk(nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NatsServer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPLANE_NATS_URL", nats_server.url)
    (tmp_path / "token.txt").write_text("Bearer t0ken\n")
    return nats_server


async def test_the_commands_of_the_page_forward_list_and_send_again(desk: NatsServer) -> None:
    start, secret, dead, again, forget = (command for command in typed(PAGE) if command.startswith("fedplane ") and "access" not in command)
    facts = [Failed(run=run, at=datetime.now(UTC), reason="test", message=run) for run in ("a", "b")]
    picky = Receiver(decides=lambda request: Answer(422, body="who is b?") if b'"b"' in request.body else Answer())
    async with open_bus(desk.url, name="test", source="/test", limits=Limits()) as bus, receiver(picky) as to:
        for fact in facts:
            await bus.log.state(fact)
        places = {"https://registry.example.org/hook": to.url}
        forwarded = await says(filled_in(start, places) + " --from-start --once")
        listed = await says(dead)
        still = await says(filled_in(again, places))
        picky.decides = lambda request: Answer()
        delivered = await says(filled_in(again, places))
        none = await says(dead)
        with_token = await says(filled_in(secret, places).replace("run.completed", "run.failed") + " --from-start --once")
        forgotten = await says(forget)
        names = [each.name for each in await bus.subscriptions.every()]

    assert lines(forwarded) == ["1 fed.v1.run.a.failed delivered"]
    assert [re.sub(r" \d\S+ \d\S+ ", " ", line) for line in lines(listed)] == ["2 fed.v1.run.b.failed answered 422: who is b?"]
    assert [result.exit_code for result in (forwarded, listed, still, delivered, none, with_token, forgotten)] == [0, 0, 1, 0, 0, 0, 0]
    assert (lines(delivered), lines(none)) == (["2 fed.v1.run.b.failed delivered"], [])
    sent = [subject.split(".")[3] for subject in to.subjects]
    assert (sorted(sent[:2]), sent[2:4], sorted(sent[4:])) == (["a", "b"], ["b", "b"], ["a", "b"])
    assert [request.headers.get("authorization") for request in to.requests] == [None] * 4 + ["Bearer t0ken"] * 2
    assert names == ["registry-two"]
    (shown,) = re.findall(r"^```http\n(.*?)^\n", text(PAGE), re.MULTILINE | re.DOTALL)
    assert {line.partition(":")[0] for line in shown.splitlines()[1:]} <= to.requests[0].headers.keys()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("forward", "say where facts are posted to"),
        ("forward https://localhost/hook", "--name NAME"),
        ("forward https://localhost/hook --name Two", "'Two' is no name"),
        ("forward ftp://localhost --name a", "begins with https://"),
        ("forward https://localhost --name a --header-env X=FEDPLANE_NO_SUCH", "which is not set"),
        ("forward https://localhost --name a --type run.done", "there is no fact of the type 'run.done'"),
        ("forward https://localhost --name a --run nobody", "there is no run 'nobody'"),
    ],
)
async def test_what_cannot_be_used_is_said(desk: NatsServer, command: str, said: str) -> None:
    async with open_bus(desk.url, name="test", source="/test", limits=Limits()):
        result = await says(command)

    assert said in str(result.exception)


def test_the_page_has_the_numbers_of_the_program() -> None:
    patience = Patience()
    longest, cap = f"{patience.longest_seconds / 60:g}", f"{RETRY_AFTER_SECONDS_MAX / 3600:g}"

    assert (patience.attempts_max, patience.first_seconds, longest, cap) == (20, 1, "5", "1")
    assert all(words in text(PAGE) for words in ("`--attempts 20`", "after 1, 2, 4 seconds", "five minutes at most", "an hour at most"))
