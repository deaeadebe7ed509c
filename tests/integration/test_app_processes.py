"""Apps that misbehave in every way we could think of, in real processes: each misdeed is a result, and nothing is left running.

All of it is the same for an app that is a child of the collaborator's process and for one that is in a container beside it.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from runner_story import WAYS, Home, ask, failure, home, is_running, keeper_of, pids_at_work, process, request, until_gone, within

from fedplane.collaborator.apps import Answer, AppProcess
from fedplane.collaborator.children import App, child_of

CHILD = """
import asyncio, os, sys
from pathlib import Path
from fedplane.collaborator.apps import AppProcess
from fedplane.collaborator.children import App, child_of
here = Path(sys.argv[1])
app = App(here / "app", "fake", Path(sys.executable))
asyncio.run(AppProcess(child_of(app, here / "work", os.environ, runner=here / "runner"), here / "app.log").ask(here / "request", 3600))
"""

BESIDE = """
import asyncio, sys
from pathlib import Path
from fedplane.collaborator.apps import AppProcess
from fedplane.collaborator.beside import meeting
here = Path(sys.argv[1])
with meeting(here / "app.sock") as place:
    asyncio.run(AppProcess(place.welcome, here / "app.log").ask(here / "request", 3600))
"""

COLLABORATORS = {"child": CHILD, "beside": BESIDE}


@pytest.fixture(params=WAYS)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return home(tmp_path, request.param)


async def test_an_app_is_loaded_once_and_stays_warm(here: Home) -> None:
    async with process(here) as app:
        first, second = await ask(app, here, "work"), await ask(app, here, "work")

    assert first == second == Answer(weight=2, metrics={"pid": first.metrics["pid"]}, configuration={})
    assert (here.app / "loaded").read_text() == "x"


async def test_what_an_app_prints_goes_to_its_log_and_not_into_the_protocol(here: Home) -> None:
    async with process(here) as app:
        await ask(app, here, "chatter")

    assert here.log.read_text() == "out\n\x1b[31merr\x1b[0m\n"


async def test_a_log_that_has_grown_too_long_begins_anew(here: Home) -> None:
    async with process(here) as app:
        await ask(app, here, "flood")
        await ask(app, here, "chatter")

    assert here.log.read_text() == "out\n\x1b[31merr\x1b[0m\n"


@pytest.mark.parametrize(
    ("do", "message"), [("fail", "ValueError: no digits here"), ("leave", "SystemExit: enough")], ids=["an exception", "sys.exit"]
)
async def test_an_app_that_raises_says_where_and_stays_warm(here: Home, do: str, message: str) -> None:
    async with process(here) as app:
        before = await ask(app, here, "work")
        await ask(app, here, "chatter")
        failed = await failure(app, here, do)
        after = await ask(app, here, "work")

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
async def test_an_app_that_breaks_its_process_gets_a_fresh_one(here: Home, do: str, reason: str, message: str) -> None:
    async with process(here) as app:
        before = await ask(app, here, "work")
        failed = await failure(app, here, do)
        after = await ask(app, here, "work")

    assert (failed.reason, str(failed)) == (reason, message)
    assert after.metrics != before.metrics
    assert await until_gone(int(before.metrics["pid"])) == []


async def test_a_segmentation_fault_leaves_a_traceback(here: Home) -> None:
    async with process(here) as app:
        failed = await failure(app, here, "crash")

    assert "Segmentation fault" in failed.detail and "in crash" in failed.detail


async def test_an_app_that_misses_its_deadline_is_stopped(here: Home) -> None:
    async with process(here) as app:
        before = await ask(app, here, "work")
        failed = await failure(app, here, "sleep", deadline_seconds=0.2)
        left = await until_gone(int(before.metrics["pid"]))
        after = await ask(app, here, "work")

    assert (failed.reason, left) == ("timed-out", [])
    assert str(failed) == "the app did not answer within 0.2 s and was stopped; give its rounds more time, or less work"
    assert after.metrics != before.metrics


async def test_an_app_that_holds_the_interpreter_is_noticed_before_its_deadline(here: Home) -> None:
    async with process(here, silence_seconds=4) as app:
        before = await ask(app, here, "work")
        failed = await failure(app, here, "block")

    message = "the app's process gave no sign of life for 4 s and was stopped; does its code block the interpreter?"
    assert (failed.reason, str(failed)) == ("hung", message)
    assert await until_gone(int(before.metrics["pid"])) == []


async def test_an_app_at_work_gives_signs_of_life(here: Home) -> None:
    async with process(here, silence_seconds=4) as app:
        failed = await failure(app, here, "sleep", deadline_seconds=5)

    assert failed.reason == "timed-out"


async def test_cancelling_a_question_stops_the_app(here: Home) -> None:
    async with process(here) as app:
        before = await ask(app, here, "work")
        asking = asyncio.create_task(ask(app, here, "sleep"))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        left = await until_gone(int(before.metrics["pid"]))
        after = await ask(app, here, "work")

    assert left == []
    assert after.metrics != before.metrics


async def test_an_app_that_died_between_two_questions_answers_the_second(here: Home) -> None:
    async with process(here) as app:
        before = await ask(app, here, "work")
        os.kill(int(before.metrics["pid"]), signal.SIGKILL)
        await until_gone(int(before.metrics["pid"]))
        after = await ask(app, here, "work")

    assert after.metrics != before.metrics


async def test_closing_an_app_ends_everything_that_it_started(here: Home) -> None:
    async with process(here) as app:
        started = {name: int(pid) for name, pid in (await ask(app, here, "spawn")).metrics.items()}
        running = {name for name, pid in started.items() if is_running(pid)}

    assert running == {"runner", "child", "forked"}
    assert await until_gone(*started.values()) == []


async def test_an_app_that_crashes_leaves_nothing_behind(here: Home) -> None:
    async with process(here) as app:
        started = {name: int(pid) for name, pid in (await ask(app, here, "spawn")).metrics.items()}
        failed = await failure(app, here, "exit")
        left = await until_gone(*started.values())

    assert (failed.reason, left) == ("crashed", [])


@pytest.mark.parametrize("do", ["sleep", "block"])
async def test_a_killed_collaborator_leaves_no_app_behind(here: Home, do: str) -> None:
    (here.path / "collaborator.py").write_text(COLLABORATORS[here.way])
    request(here, do)
    keeper = await keeper_of(here) if here.way == "beside" else None
    collaborator = await asyncio.create_subprocess_exec(sys.executable, here.path / "collaborator.py", here.path)
    pids = await pids_at_work(here)
    running = [pid for pid in pids if is_running(pid)]

    collaborator.kill()
    await collaborator.wait()

    assert running == pids
    assert await until_gone(*pids) == []
    if keeper:
        keeper.terminate()
        assert await within(keeper.wait()) == 128 + signal.SIGTERM


async def test_an_app_that_cannot_be_loaded_is_loaded_afresh_when_asked_again(here: Home) -> None:
    (here.app / "broken").touch()
    async with process(here) as app:
        failed = await failure(app, here, "work")
        (here.app / "broken").unlink()
        mended = await ask(app, here, "work")

    said = "fake cannot be imported in the app's environment: no module named magic; install the app again"
    assert (failed.reason, str(failed), mended.weight) == ("load-failed", said, 2)


async def test_a_framework_that_nobody_adapted_is_refused_by_name(tmp_path: Path) -> None:
    at = home(tmp_path)
    app = AppProcess(child_of(App(at.app, "jax", Path(sys.executable)), tmp_path / "work", os.environ), at.log)

    failed = await failure(app, at, "work")

    assert (failed.reason, str(failed)) == (
        "not-supported",
        "apps of the framework 'jax' cannot be run here; those of flower, openfl, torch, sklearn, xgboost, other can",
    )


async def test_an_app_whose_path_cannot_be_one_is_refused(tmp_path: Path) -> None:
    at = home(tmp_path)
    app = AppProcess(child_of(App(Path("/app\0"), "fake", Path(sys.executable)), tmp_path / "work", os.environ, runner=at.files), at.log)

    failed = await failure(app, at, "work")

    assert (failed.reason, str(failed).split(";")[0]) == ("load-failed", "the app's Python cannot be started: embedded null byte")


async def test_a_python_that_is_missing_is_named(tmp_path: Path) -> None:
    at = home(tmp_path)
    app = AppProcess(child_of(App(at.app, "fake", tmp_path / "gone"), tmp_path / "work", os.environ, runner=at.files), at.log)

    failed = await failure(app, at, "work")

    assert (failed.reason, str(failed).split(":")[0]) == ("load-failed", "the app's Python cannot be started")


async def test_an_answer_that_no_fact_could_carry_is_refused(here: Home) -> None:
    async with process(here) as app:
        failed = await failure(app, here, "nest")

    assert failed.reason == "garbage"
    assert str(failed).startswith("the app's process left no metrics.json that can be used:")
