"""Apps that misbehave in every way we could think of, in real processes: each misdeed is a result, and nothing is left running.

The runner is the real one; the framework that it adapts is made here, and does what an invitation's configuration says.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fedplane.collaborator.apps import Answer, App, AppProcess, Limits
from fedplane.collaborator.children import RUNNER
from fedplane.runtime.errors import AppFailed

SOON_SECONDS = 20
"""For what takes milliseconds on an idle machine."""

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
    for descriptor in range(3, 20):
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

COLLABORATOR = """
import asyncio, os, sys
from pathlib import Path
from fedplane.collaborator.apps import App, AppProcess
here = Path(sys.argv[1])
app = App(here / "app", "fake", Path(sys.executable))
asyncio.run(AppProcess(app, here / "work", here / "app.log", os.environ, runner=here / "runner").ask(here / "request", 3600))
"""


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    shutil.copytree(RUNNER, tmp_path / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "runner/fake.py").write_text(FRAMEWORK)
    with (tmp_path / "runner/__init__.py").open("a") as table:
        table.write('FRAMEWORKS["fake"] = Framework("fake")\n')
    (tmp_path / "app").mkdir()
    return tmp_path / "runner"


@asynccontextmanager
async def process(tmp_path: Path, runner: Path, silence_seconds: float = SOON_SECONDS) -> AsyncIterator[AppProcess]:
    app = App(tmp_path / "app", "fake", Path(sys.executable))
    limits = Limits(silence_seconds=silence_seconds)
    held = AppProcess(app, tmp_path / "work", tmp_path / "app.log", os.environ, limits=limits, runner=runner)
    try:
        yield held
    finally:
        await held.close()


def request(tmp_path: Path, do: str) -> Path:
    directory = tmp_path / "request"
    directory.mkdir(exist_ok=True)
    (directory / "invitation.json").write_text(json.dumps({"task": "initialize", "configuration": {"do": do}}))
    return directory


async def ask(app: AppProcess, tmp_path: Path, do: str, deadline_seconds: float = SOON_SECONDS) -> Answer:
    return await app.ask(request(tmp_path, do), deadline_seconds)


async def failure(app: AppProcess, tmp_path: Path, do: str, deadline_seconds: float = SOON_SECONDS) -> AppFailed:
    with pytest.raises(AppFailed) as failed:
        await ask(app, tmp_path, do, deadline_seconds)
    return failed.value


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


async def until_gone(*pids: int) -> list[int]:
    give_up = time.monotonic() + SOON_SECONDS
    while (left := [pid for pid in pids if is_running(pid)]) and time.monotonic() < give_up:
        await asyncio.sleep(0.01)
    return left


async def test_an_app_is_loaded_once_and_stays_warm(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        first, second = await ask(app, tmp_path, "work"), await ask(app, tmp_path, "work")

    assert first == second == Answer(weight=2, metrics={"pid": first.metrics["pid"]}, configuration={})
    assert (tmp_path / "app/loaded").read_text() == "x"


async def test_what_an_app_prints_goes_to_its_log_and_not_into_the_protocol(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        await ask(app, tmp_path, "chatter")

    assert (tmp_path / "app.log").read_text() == "out\n\x1b[31merr\x1b[0m\n"


async def test_a_log_that_has_grown_too_long_begins_anew(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        await ask(app, tmp_path, "flood")
        await ask(app, tmp_path, "chatter")

    assert (tmp_path / "app.log").read_text() == "out\n\x1b[31merr\x1b[0m\n"


@pytest.mark.parametrize(
    ("do", "message"), [("fail", "ValueError: no digits here"), ("leave", "SystemExit: enough")], ids=["an exception", "sys.exit"]
)
async def test_an_app_that_raises_says_where_and_stays_warm(tmp_path: Path, runner: Path, do: str, message: str) -> None:
    async with process(tmp_path, runner) as app:
        before = await ask(app, tmp_path, "work")
        await ask(app, tmp_path, "chatter")
        failed = await failure(app, tmp_path, do)
        after = await ask(app, tmp_path, "work")

    assert (failed.reason, str(failed), after) == ("app-raised", message, before)
    assert failed.detail.startswith("Traceback") and failed.detail.endswith(message)


@pytest.mark.parametrize(
    ("do", "reason", "message"),
    [
        ("exit", "crashed", "the app's process exited by itself with code 3 in the middle of its work"),
        ("die", "crashed", "the app's process was killed by SIGKILL; the machine may have been out of memory"),
        ("crash", "crashed", "the app's process was killed by SIGSEGV"),
        ("babble", "garbage", r"the app wrote to a pipe that is not its own: b'epoch 1\n'"),
        ("rave", "garbage", "the app wrote to a pipe that is not its own: b'... (too long a line)'"),
    ],
)
async def test_an_app_that_breaks_its_process_gets_a_fresh_one(tmp_path: Path, runner: Path, do: str, reason: str, message: str) -> None:
    async with process(tmp_path, runner) as app:
        before = await ask(app, tmp_path, "work")
        failed = await failure(app, tmp_path, do)
        after = await ask(app, tmp_path, "work")

    assert (failed.reason, str(failed)) == (reason, message)
    assert after.metrics != before.metrics
    assert await until_gone(int(before.metrics["pid"])) == []


async def test_a_segmentation_fault_leaves_a_traceback(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        failed = await failure(app, tmp_path, "crash")

    assert "Segmentation fault" in failed.detail and "in crash" in failed.detail


async def test_an_app_that_misses_its_deadline_is_stopped(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        before = await ask(app, tmp_path, "work")
        failed = await failure(app, tmp_path, "sleep", deadline_seconds=0.2)
        left = await until_gone(int(before.metrics["pid"]))
        after = await ask(app, tmp_path, "work")

    assert (failed.reason, left) == ("timed-out", [])
    assert str(failed) == "the app did not answer within 0.2 s and was stopped; give its rounds more time, or less work"
    assert after.metrics != before.metrics


async def test_an_app_that_holds_the_interpreter_is_noticed_before_its_deadline(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner, silence_seconds=1.5) as app:
        before = await ask(app, tmp_path, "work")
        failed = await failure(app, tmp_path, "block")

    message = "the app's process gave no sign of life for 1.5 s and was stopped; does its code block the interpreter?"
    assert (failed.reason, str(failed)) == ("hung", message)
    assert await until_gone(int(before.metrics["pid"])) == []


async def test_an_app_at_work_gives_signs_of_life(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner, silence_seconds=1.5) as app:
        failed = await failure(app, tmp_path, "sleep", deadline_seconds=2)

    assert failed.reason == "timed-out"


async def test_cancelling_a_question_stops_the_app(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        before = await ask(app, tmp_path, "work")
        asking = asyncio.create_task(ask(app, tmp_path, "sleep"))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        left = await until_gone(int(before.metrics["pid"]))
        after = await ask(app, tmp_path, "work")

    assert left == []
    assert after.metrics != before.metrics


async def test_an_app_that_died_between_two_questions_answers_the_second(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        before = await ask(app, tmp_path, "work")
        os.kill(int(before.metrics["pid"]), signal.SIGKILL)
        await until_gone(int(before.metrics["pid"]))
        after = await ask(app, tmp_path, "work")

    assert after.metrics != before.metrics


async def test_closing_an_app_ends_everything_that_it_started(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        started = {name: int(pid) for name, pid in (await ask(app, tmp_path, "spawn")).metrics.items()}
        running = {name for name, pid in started.items() if is_running(pid)}

    assert running == {"runner", "child", "forked"}
    assert await until_gone(*started.values()) == []


async def test_an_app_that_crashes_leaves_nothing_behind(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        started = {name: int(pid) for name, pid in (await ask(app, tmp_path, "spawn")).metrics.items()}
        failed = await failure(app, tmp_path, "exit")
        left = await until_gone(*started.values())

    assert (failed.reason, left) == ("crashed", [])


@pytest.mark.parametrize("do", ["sleep", "block"])
async def test_a_killed_collaborator_leaves_no_app_behind(tmp_path: Path, runner: Path, do: str) -> None:
    (tmp_path / "collaborator.py").write_text(COLLABORATOR)
    request(tmp_path, do)
    written = tmp_path / "app/pids"
    collaborator = await asyncio.create_subprocess_exec(sys.executable, tmp_path / "collaborator.py", tmp_path)
    pids: list[int] = []
    async with asyncio.timeout(SOON_SECONDS):
        while len(pids) < 2:
            await asyncio.sleep(0.01)
            pids = [int(pid) for pid in written.read_text().split()] if written.exists() else []
    running = [pid for pid in pids if is_running(pid)]

    collaborator.kill()
    await collaborator.wait()

    assert running == pids
    assert await until_gone(*pids) == []


async def test_an_app_that_cannot_be_loaded_is_loaded_afresh_when_asked_again(tmp_path: Path, runner: Path) -> None:
    (tmp_path / "app/broken").touch()
    async with process(tmp_path, runner) as app:
        failed = await failure(app, tmp_path, "work")
        (tmp_path / "app/broken").unlink()
        mended = await ask(app, tmp_path, "work")

    said = "fake cannot be imported in the app's environment: no module named magic; install the app again"
    assert (failed.reason, str(failed), mended.weight) == ("load-failed", said, 2)


async def test_a_framework_that_nobody_adapted_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    app = AppProcess(App(tmp_path / "app", "jax", Path(sys.executable)), tmp_path / "work", tmp_path / "app.log", os.environ)

    failed = await failure(app, tmp_path, "work")

    assert (failed.reason, str(failed)) == ("not-supported", "apps of the framework 'jax' cannot be run here; those of flower can")


async def test_an_app_whose_path_cannot_be_one_is_refused(tmp_path: Path, runner: Path) -> None:
    app = AppProcess(App(Path("/app\0"), "fake", Path(sys.executable)), tmp_path / "work", tmp_path / "app.log", os.environ, runner=runner)

    failed = await failure(app, tmp_path, "work")

    assert (failed.reason, str(failed).split(";")[0]) == ("load-failed", "the app's Python cannot be started: embedded null byte")


async def test_a_python_that_is_missing_is_named(tmp_path: Path, runner: Path) -> None:
    app = AppProcess(App(tmp_path / "app", "fake", tmp_path / "gone"), tmp_path / "work", tmp_path / "app.log", os.environ, runner=runner)

    failed = await failure(app, tmp_path, "work")

    assert (failed.reason, str(failed).split(":")[0]) == ("load-failed", "the app's Python cannot be started")


async def test_an_answer_that_no_fact_could_carry_is_refused(tmp_path: Path, runner: Path) -> None:
    async with process(tmp_path, runner) as app:
        failed = await failure(app, tmp_path, "nest")

    assert failed.reason == "garbage"
    assert str(failed).startswith("the app's process left no metrics.json that can be used:")
