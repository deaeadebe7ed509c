"""An app's own server as a process: what it asks is attended to, and however it ends, nothing of it is left."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from runner_story import SOON_SECONDS, Home, home, keeper_of, until_gone, within

from fedplane.collaborator.apps import Answer, AppProcess, Limits
from fedplane.collaborator.beside import meeting
from fedplane.collaborator.children import App, child_of
from fedplane.runtime.errors import AppFailed, Corrupt

SERVER = """
import os, subprocess, threading, time
from .answers import Answer
from .asking import Question
from .records import Record

def open_server(directory):
    return Server()

class Server:
    def run(self, drive, asking):
        return getattr(self, drive["run"])(asking)
    def asks(self, asking):
        print("asking")
        replies = [asking.ask([Question(0, "train", "", 1, [Record("m", "metrics", {"n": n})])], None) for n in range(2)]
        return Answer(1, {"sum": sum(reply.content[0].values["n"] for reply, in replies)}, {})
    def returns(self, asking): return Answer(1, {"pid": os.getpid()}, {})
    def raises(self, asking): raise ValueError("no plan")
    def dies_while_it_waits(self, asking):
        threading.Timer(0.3, os._exit, [5]).start()
        self.asks(asking)
    def broods(self, asking):
        open("pids", "w").write(f"{os.getpid()} {subprocess.Popen(['sleep', '3600']).pid}")
        self.asks(asking)
"""


def with_server(path: Path) -> Home:
    at = home(path)
    (at.files / "fakeserver.py").write_text(SERVER)
    with (at.files / "__init__.py").open("a") as table:
        table.write('FRAMEWORKS["fake"] = Framework("fake", "fakeserver")\n')
    return at


def server(at: Home) -> AppProcess:
    app = App(at.app, "fake", Path(sys.executable), drives=True)
    return AppProcess(child_of(app, at.path / "work", os.environ, runner=at.files), at.log, limits=Limits(silence_seconds=SOON_SECONDS))


async def driven(
    at: Home, what: str, attend: Callable[[int], Coroutine[None, None, None]] | None = None, it: AppProcess | None = None
) -> Answer:
    directory = at.path / "server"
    directory.mkdir(exist_ok=True)
    (directory / "drive.json").write_text(json.dumps({"run": what}))

    async def repeat(number: int) -> None:
        """Give back what was sent."""
        here = directory / f"asked-{number}"
        (here / "replies.json").write_text('{"replies": [{"instruction": 0, "content": "content-0.safetensors"}]}')

    return await within((it or server(at)).drive(directory, attend or repeat))


async def test_what_a_server_asks_is_attended_to_and_what_it_leaves_is_returned(tmp_path: Path) -> None:
    assert await driven(with_server(tmp_path), "asks") == Answer(weight=1, metrics={"sum": 1})
    assert (tmp_path / "server" / "update.safetensors").exists()


async def test_a_server_may_run_in_a_container_beside(tmp_path: Path) -> None:
    at = with_server(tmp_path)
    keeper = await keeper_of(at, "--drive")
    with meeting(at.socket) as place:
        answer = await driven(at, "asks", it=AppProcess(place.welcome, at.log))
        place.dismiss()

    assert answer == Answer(weight=1, metrics={"sum": 1})
    assert "asking" in at.shown.read_text()
    assert await within(keeper.wait()) == 0


async def test_a_server_that_has_returned_is_gone(tmp_path: Path) -> None:
    answer = await driven(with_server(tmp_path), "returns")

    assert await until_gone(int(answer.metrics["pid"])) == []


@pytest.mark.parametrize(
    ("what", "reason", "message", "words"),
    [
        ("raises", "app-raised", "ValueError: no plan", "ValueError: no plan"),
        ("dies_while_it_waits", "crashed", "the app's process exited by itself with code 5 in the middle of its work", "asking"),
    ],
)
async def test_a_server_that_fails_says_how_with_its_last_words(tmp_path: Path, what: str, reason: str, message: str, words: str) -> None:
    async def never(number: int) -> None:
        await asyncio.sleep(3600)

    with pytest.raises(AppFailed) as failed:
        await driven(with_server(tmp_path), what, never)

    assert (failed.value.reason, str(failed.value)) == (reason, message)
    assert failed.value.detail.endswith(words)


async def test_what_fails_while_it_is_attended_to_ends_the_server(tmp_path: Path) -> None:
    async def fail(number: int) -> None:
        raise Corrupt("a chunk is missing")

    at = with_server(tmp_path)
    with pytest.raises(Corrupt, match="a chunk is missing"):
        await driven(at, "broods", fail)

    assert await until_gone(*map(int, (at.app / "pids").read_text().split())) == []


async def test_a_server_that_is_cancelled_while_it_waits_is_gone_with_all_that_it_started(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def wait(number: int) -> None:
        asked.set()
        await asyncio.sleep(3600)

    at = with_server(tmp_path)
    driving = asyncio.create_task(driven(at, "broods", wait))
    await within(asked.wait())
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving

    assert await until_gone(*map(int, (at.app / "pids").read_text().split())) == []


async def test_a_framework_without_servers_says_so(tmp_path: Path) -> None:
    at = with_server(tmp_path)
    it = server(at)
    with (at.files / "__init__.py").open("a") as table:
        table.write('FRAMEWORKS["fake"] = Framework("fake")\n')

    with pytest.raises(AppFailed, match="only apps of flower have a server that can be run here; name a strategy other than app"):
        await within(it.drive(tmp_path, it.drive))
