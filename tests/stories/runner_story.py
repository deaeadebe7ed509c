"""A runner of the real files with a framework that is made here, whose apps do what an invitation's configuration says.

It is had in both ways: as a child of the process that asks, and in a container beside it, which here is a process as well.
"""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedplane.collaborator.apps import Answer, AppProcess, Limits
from fedplane.collaborator.beside import meeting
from fedplane.collaborator.children import RUNNER, App, child_of
from fedplane.collaborator.installing import install
from fedplane.runtime.errors import AppFailed

SOON_SECONDS = 20
"""For what takes milliseconds on an idle machine."""

WAYS = ("child", "beside")

FRAMEWORK = """
import ctypes, os, re, subprocess, sys, time
from pathlib import Path
from .answers import Answer

Path("loaded").open("a").write("x")
if Path("broken").exists():
    raise ImportError("no module named magic")

def open_app(directory):
    return Fake()

def everywhere(line):
    for descriptor in range(3, 256):  # its numbers are those of whoever started it, which may have many open
        try:
            os.write(descriptor, line)
        except OSError:
            pass

def brood():
    child = subprocess.Popen(["sleep", "3600"]).pid
    Path("pids").write_text(f"{os.getpid()} {child}")

class Fake:
    def initialize(self, invitation):
        return getattr(self, invitation["configuration"]["do"])() or Answer(2, {"pid": os.getpid()})

    def work(self): pass
    def fail(self): raise ValueError("no digits here")
    def leave(self): sys.exit("enough")
    def exit(self): os._exit(3)
    def die(self): os.kill(os.getpid(), 9)
    def crash(self): ctypes.string_at(0)
    def sleep(self): brood(), time.sleep(3600)
    def block(self): brood(), re.match(r"(a+)+$", "a" * 60 + "b")
    def babble(self): everywhere(b"epoch 1\\n")
    def rave(self): everywhere(b"x" * 70_000)
    def chatter(self): print("out"), print("\\x1b[31merr\\x1b[0m", file=sys.stderr)
    def flood(self): print("x" * 11_000_000)
    def nest(self): return Answer(2, {}, None, {"nested": {"a": 1}})
    def spawn(self):
        child = subprocess.Popen(["sleep", "3600"]).pid
        forked = os.fork()
        if not forked:
            time.sleep(3600)
        return Answer(1, {"runner": os.getpid(), "child": child, "forked": forked})
"""


@dataclass(frozen=True)
class Home:
    """A directory with an app, the runner's files, and the way in which they are used."""

    path: Path
    way: str = "child"

    @property
    def files(self) -> Path:
        return self.path / "runner"

    @property
    def app(self) -> Path:
        return self.path / "app"

    @property
    def socket(self) -> Path:
        return self.path / "app.sock"

    @property
    def log(self) -> Path:
        return self.path / "app.log"

    @property
    def shown(self) -> Path:
        """What the container beside has printed."""
        return self.path / "container.log"


def home(path: Path, way: str = "child") -> Home:
    shutil.copytree(RUNNER, path / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    (path / "runner/fake.py").write_text(FRAMEWORK)
    with (path / "runner/__init__.py").open("a") as table:
        table.write('FRAMEWORKS["fake"] = Framework("fake")\n')
    (path / "app").mkdir()
    return Home(path, way)


@asynccontextmanager
async def process(at: Home, silence_seconds: float = SOON_SECONDS) -> AsyncIterator[AppProcess]:
    """The app, in the way of its home. In a container beside, its end is that of a run."""
    limits = Limits(silence_seconds=silence_seconds)
    if at.way == "child":
        held = AppProcess(
            child_of(App(at.app, "fake", Path(sys.executable)), at.path / "work", os.environ, runner=at.files), at.log, limits=limits
        )
        try:
            yield held
        finally:
            await held.close()
        return
    keeper = await keeper_of(at)
    with meeting(at.socket) as place:
        held = AppProcess(place.welcome, at.log, limits=limits)
        try:
            yield held
        finally:
            await held.close()
            place.dismiss()
    assert await within(keeper.wait()) == 0


async def keeper_of(at: Home, *options: str, python: str | Path = sys.executable) -> asyncio.subprocess.Process:
    """What the container beside runs. It leads a group of its own, as a container's processes can be killed together."""
    install(at.path / "installed", at.files)
    with at.shown.open("ab") as shown:
        return await asyncio.create_subprocess_exec(
            *(python, at.path / "installed", "--framework=fake", "--app=.", f"--socket={at.socket}", *options),
            cwd=at.app, stdout=shown, stderr=shown, start_new_session=True,
        )  # fmt: skip


async def within(waiting, seconds: float = SOON_SECONDS):
    async with asyncio.timeout(seconds):
        return await waiting


def request(at: Home, do: str, **said: object) -> Path:
    directory = at.path / "request"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)
    (directory / "invitation.json").write_text(json.dumps({"task": "initialize", "configuration": {"do": do}, **said}))
    return directory


async def ask(app: AppProcess, at: Home, do: str, deadline_seconds: float = SOON_SECONDS) -> Answer:
    return await app.ask(request(at, do), deadline_seconds)


async def failure(app: AppProcess, at: Home, do: str, deadline_seconds: float = SOON_SECONDS) -> AppFailed:
    with pytest.raises(AppFailed) as failed:
        await ask(app, at, do, deadline_seconds)
    return failed.value


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def until_gone(*pids: int) -> list[int]:
    give_up = time.monotonic() + SOON_SECONDS
    while (left := [pid for pid in pids if is_running(pid)]) and time.monotonic() < give_up:
        await asyncio.sleep(0.01)
    return left


async def pids_at_work(at: Home) -> list[int]:
    """The app's process and its child, once the app is in the middle of `sleep` or `block`."""
    pids: list[int] = []
    async with asyncio.timeout(SOON_SECONDS):
        while len(pids) < 2:
            await asyncio.sleep(0.01)
            pids = [int(pid) for pid in (at.app / "pids").read_text().split()] if (at.app / "pids").exists() else []
    return pids
