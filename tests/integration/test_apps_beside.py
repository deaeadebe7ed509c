"""An app in a container beside the collaborator: who comes, who does not, who should not, and who is started again.

What an app may do is the same as for a child and tested with it; here are the two sides' comings and goings, in real processes.
"""

import asyncio
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import venv
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from runner_story import Home, ask, failure, home, is_running, keeper_of, pids_at_work, process, request, within

from fedplane.collaborator.apps import AppProcess, Limits
from fedplane.collaborator.beside import Meeting, meeting
from fedplane.collaborator.frameworks.keeping import keep
from fedplane.collaborator.installing import install
from fedplane.runtime.errors import AppFailed, Unavailable

CONTAINER_ENDED = "the app's container ended in the middle of its work; its state says why, which may be that it was out of memory"


@pytest.fixture
def here(tmp_path: Path) -> Home:
    return home(tmp_path, "beside")


@asynccontextmanager
async def listening(at: Home, **limits: float) -> AsyncIterator[tuple[AppProcess, Meeting]]:
    """A collaborator without a container beside it."""
    with meeting(at.socket) as place:
        app = AppProcess(place.welcome, at.log, limits=Limits(**limits))
        try:
            yield app, place
        finally:
            await app.close()


async def end(keeper: asyncio.subprocess.Process) -> None:
    """A container is killed, with all that is in it."""
    for pid in [keeper.pid, *children_of(keeper.pid)]:
        os.killpg(pid, signal.SIGKILL)
    await keeper.wait()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_what_an_app_prints_is_in_its_containers_log_as_well(here: Home) -> None:
    async with process(here) as app:
        await ask(app, here, "chatter")
        failed = await failure(app, here, "fail")

    assert failed.detail.startswith("Traceback") and failed.detail.endswith("ValueError: no digits here")
    assert here.shown.read_text() == here.log.read_text()
    assert here.shown.read_text().startswith("out\n\x1b[31merr\x1b[0m\nTraceback")


async def test_a_container_that_is_killed_is_said_to_be_and_the_next_one_answers(here: Home) -> None:
    keeper = await keeper_of(here)
    async with listening(here) as (app, place):
        asking = asyncio.create_task(failure(app, here, "sleep"))
        pids = await pids_at_work(here)
        await end(keeper)
        failed = await asking
        again = await keeper_of(here)
        answer = await ask(app, here, "work")
        place.dismiss()

    assert (failed.reason, str(failed)) == ("crashed", CONTAINER_ENDED)
    assert answer.weight == 2
    assert await within(again.wait()) == 0
    with suppress(ProcessLookupError):
        os.kill(pids[1], signal.SIGKILL)  # in a container it would be dead


async def test_a_container_that_was_killed_between_two_questions_does_not_matter(here: Home) -> None:
    keeper = await keeper_of(here)
    async with listening(here) as (app, place):
        await ask(app, here, "work")
        await end(keeper)
        again = await keeper_of(here)
        answer = await ask(app, here, "work")
        place.dismiss()

    assert answer.weight == 2
    assert await within(again.wait()) == 0


async def test_a_container_that_never_starts_is_said_so_when_there_is_no_time_left(here: Home) -> None:
    async with listening(here) as (app, _):
        failed = await failure(app, here, "work", deadline_seconds=0.3)

    assert failed.reason == "app-never-started"
    assert str(failed) == (
        "no app could be started within 0.3 s; look at the state and the log of its container, or wait for its environment to be made"
    )


async def test_a_container_may_start_long_before_or_after_the_collaborator(here: Home) -> None:
    early = await keeper_of(here)
    await asyncio.sleep(0.5)
    async with listening(here) as (app, _):
        first = await ask(app, here, "work")
        await end(early)
        asking = asyncio.create_task(ask(app, here, "work"))
        await asyncio.sleep(0.5)
        late = await keeper_of(here)
        second = await asking
        await end(late)

    assert first.weight == second.weight == 2


async def test_of_two_containers_one_is_listened_to_and_the_other_waits(here: Home) -> None:
    keepers = [await keeper_of(here), await keeper_of(here)]
    async with listening(here) as (app, place):
        answers = [await ask(app, here, "work") for _ in range(3)]
        at_work = [keeper for keeper in keepers if children_of(keeper.pid)]
        await end(at_work[0])
        after = await ask(app, here, "work")
        place.dismiss()

    assert len({answer.metrics["pid"] for answer in answers}) == len(at_work) == 1
    assert after.metrics != answers[0].metrics
    (left,) = set(keepers) - set(at_work)
    assert await within(left.wait()) == 0


HOSTILE = {
    "no line of the protocol": (b"epoch 1\n", "garbage", r"the app wrote to a pipe that is not its own: b'epoch 1\n'"),
    "a deeply nested line": (b"[" * 60_000 + b"\n", "garbage", "the app wrote to a pipe that is not its own: " + repr(b"[" * 80)),
    "an end without a number": (b'{"said": "ended", "code": "x"}\n', "garbage", "the app wrote to a pipe that is not its own: "),
    "an end with a strange number": (b'{"said": "ended", "code": -400}\n', "crashed", "the app's process was killed by signal 400"),
    "an answer without a question": (b'{"said": "ready"}\n{"said": "done"}\n', "garbage", "the app's process left no metrics.json"),
    "half a line": (b'{"said"', "hung", "the app's process gave no sign of life for 4 s and was stopped"),
}


@pytest.mark.parametrize(("line", "reason", "said"), HOSTILE.values(), ids=HOSTILE)
async def test_whatever_a_runner_says_is_an_answer(here: Home, line: bytes, reason: str, said: str) -> None:
    async with listening(here, silence_seconds=4) as (app, _):
        with socket.socket(socket.AF_UNIX) as hostile:
            hostile.connect(str(here.socket))
            hostile.sendall(line)
            leaving = asyncio.create_task(leave_when_dismissed(hostile))
            failed = await failure(app, here, "work")
            leaving.cancel()
        keeper = await keeper_of(here)
        answer = await ask(app, here, "work")
        await end(keeper)

    assert (failed.reason, str(failed)[: len(said)]) == (reason, said)
    assert answer.weight == 2


async def leave_when_dismissed(peer: socket.socket) -> None:
    peer.setblocking(False)
    while await asyncio.get_running_loop().sock_recv(peer, 1000):
        continue
    peer.close()


async def test_a_line_of_a_hundred_megabytes_is_not_held_in_memory(here: Home) -> None:
    async with listening(here) as (app, _):
        with socket.socket(socket.AF_UNIX) as hostile:
            hostile.connect(str(here.socket))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            flooding = asyncio.create_task(asyncio.to_thread(flood, hostile, 100))
            failed = await failure(app, here, "work")
        sent = await flooding
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert (failed.reason, str(failed)) == ("garbage", "the app wrote to a pipe that is not its own: b'... (too long a line)'")
    assert sent == 100, "what is said after that is heard to its end, and thrown away"
    assert grown < 20_000, f"{grown} kB"


def flood(peer: socket.socket, megabytes: int) -> int:
    for _ in range(megabytes):
        peer.sendall(b"x" * 1_000_000)
    peer.shutdown(socket.SHUT_WR)
    return megabytes


async def test_who_connects_and_leaves_is_passed_over(here: Home) -> None:
    async with listening(here) as (app, _):
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as passer_by:
                passer_by.connect(str(here.socket))
        keeper = await keeper_of(here)
        answer = await ask(app, here, "work")
        await end(keeper)

    assert answer.weight == 2


FIRST_PROCESS = """
import ctypes, runpy, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans below are its children, as they are a first process's
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


async def test_the_first_process_of_a_container_buries_what_an_app_leaves_behind(here: Home) -> None:
    install(here.path / "installed", here.files)
    keeper = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FIRST_PROCESS, here.path / "installed", "--framework=fake", "--app=.", f"--socket={here.socket}"),
        cwd=here.app, start_new_session=True,
    )  # fmt: skip
    async with listening(here) as (app, place):
        started = {name: int(pid) for name, pid in (await ask(app, here, "spawn")).metrics.items()}
        failed = await failure(app, here, "exit")
        left = children_of(keeper.pid)
        place.dismiss()

    assert (set(started), failed.reason, left) == ({"runner", "child", "forked"}, "crashed", [])
    assert await within(keeper.wait()) == 0


async def test_an_app_whose_directory_is_missing_cannot_be_loaded(here: Home) -> None:
    async with listening(here) as (app, _):
        keeper = await keeper_of(here, "--app=/gone")
        failed = await failure(app, here, "work")
        await end(keeper)

    assert (failed.reason, "/gone" in str(failed)) == ("load-failed", True)


async def test_a_python_that_has_nothing_installed_says_what_is_missing(here: Home, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    said = {}
    async with listening(here) as (app, _):
        for framework in ("fake", "flower", "xgboost", "jax"):
            keeper = await keeper_of(here, f"--framework={framework}", python=tmp_path / "bare/bin/python")
            failed = await failure(app, here, "work")
            said[framework] = (failed.reason, str(failed))
            await end(keeper)

    assert said == {
        "fake": ("load-failed", "fake cannot be imported in the app's environment: No module named 'numpy'; install the app again"),
        "flower": ("load-failed", "the app's environment has no flower; install flwr>=1.38,<1.42 in it"),
        "xgboost": ("load-failed", "the app's environment has no xgboost; install xgboost>=2.1,<4.0 or xgboost-cpu>=2.1,<4.0 in it"),
        "jax": (
            "not-supported",
            "apps of the framework 'jax' cannot be run here; those of flower, openfl, torch, sklearn, xgboost, other, fake can",
        ),
    }


def test_the_installed_files_need_nothing_but_the_interpreter(here: Home) -> None:
    subprocess.run([sys.executable, "-m", "fedplane.collaborator.installing", here.path / "put"], check=True)
    here.socket.with_name("app.sock.ended").touch()

    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", here.path / "put", "--framework=flower", "--app=.", f"--socket={here.socket}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_keeper_that_is_left_alone_gives_up(here: Home, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        code = keep(here.socket, here.app, (), patience_seconds=0.1)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert code == 1
    assert capsys.readouterr().err == f"nobody has listened at {here.socket} for 0.1 s; look at the collaborator beside this container\n"


def test_a_place_where_nobody_can_listen_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused, meeting(tmp_path / "gone/app.sock"):
        raise AssertionError("nobody can listen there")

    assert str(refused.value).endswith("let FEDPLANE_APP_SOCKET be in a directory that is there")


ASKER = """
import asyncio, sys
from pathlib import Path
from fedplane.collaborator.apps import AppProcess
from fedplane.collaborator.beside import meeting
from fedplane.collaborator.transfers import remove
here = Path(sys.argv[1])

async def main(place):
    app = AppProcess(place.welcome, here / "shared/app.log")
    request = here / "shared/request"
    request.mkdir()
    (request / "invitation.json").write_text((here / "invitation.json").read_text())
    print((await app.ask(request, 20)).model_dump_json())
    await app.close()
    place.dismiss()
    remove(request)
    print(sorted(path.name for path in (here / "shared").iterdir()))

with meeting(here / "shared/app.sock") as place:
    asyncio.run(main(place))
"""


@pytest.fixture
def open_home() -> Iterator[Home]:
    """A home that every user can reach, with a directory that every user can write to, as an emptyDir is."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    (directory / "shared").mkdir()
    (directory / "shared").chmod(0o777)
    yield home(directory, "beside")
    shutil.rmtree(directory)


def python_of_everyone() -> str:
    """A Python that any user may run, with this one's libraries. Without one, or without the right to become another user, skip."""
    if os.geteuid() != 0:
        pytest.skip("only root can start processes of other users")
    for python in filter(None, (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin"))):
        try:
            subprocess.run([python, "-c", "import numpy, pydantic"], user=1000, env=PATHS, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):  # it is in a home, or too old for these libraries
            continue
        return python
    pytest.skip("no Python here can be run by another user")


PATHS = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


async def test_the_two_containers_may_be_different_users(open_home: Home) -> None:
    python, at = python_of_everyone(), open_home
    request(at, "chatter").joinpath("invitation.json").rename(at.path / "invitation.json")
    (at.path / "asker.py").write_text(ASKER)
    at.app.chmod(0o777)  # the framework that is made here writes there
    files = at.path / "installed"
    install(files, at.files)

    asker = await asyncio.create_subprocess_exec(
        python, at.path / "asker.py", at.path, user=10001, group=10001, extra_groups=[], env=PATHS, stdout=asyncio.subprocess.PIPE
    )
    keeper = await asyncio.create_subprocess_exec(
        *(python, files, "--framework=fake", "--app=.", f"--socket={at.path / 'shared/app.sock'}"),
        cwd=at.app, user=1000, group=1000, extra_groups=[], umask=0o077, env=PATHS, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    answered, shown = await within(asyncio.gather(asker.communicate(), keeper.communicate()))

    answer, left = answered[0].decode().splitlines()
    assert json.loads(answer)["weight"] == 2
    assert left == "['app.log', 'app.sock', 'app.sock.ended']"
    assert shown[0] == b"out\n\x1b[31merr\x1b[0m\n"
    assert (asker.returncode, keeper.returncode) == (0, 0)


async def test_an_app_that_is_stopped_is_gone_before_the_next_is_asked(here: Home) -> None:
    keeper = await keeper_of(here)
    async with listening(here) as (app, _):
        with pytest.raises(AppFailed, match="did not answer within"):
            await ask(app, here, "sleep", deadline_seconds=5)
        left = [pid for pid in await pids_at_work(here) if is_running(pid)]
        answer = await ask(app, here, "work")
        await end(keeper)

    assert left == []
    assert answer.weight == 2
