"""Environments are made once, kept within bounds, and lent. Where pip is not the point, a script stands in for Python and is quick."""

import asyncio
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from runner_story import is_running

from fedplane.collaborator.environments import Bounds, Environments
from fedplane.runtime.errors import AppFailed

QUICK = """#!/bin/sh
say_pid() { echo $$ > "$MADE.pid.half"; mv "$MADE.pid.half" "$MADE.pid"; }
case "$1 $2" in
"-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
"-m pip")
    for asked; do :; done
    echo made >> "$MADE"
    grep -q missing "$asked" && { echo "ERROR: no such package"; exit 1; }
    grep -q slow "$asked" && { echo "downloading"; say_pid; sleep 0.3; }
    grep -q endless "$asked" && { say_pid; sleep 3600; }
    head -c 100000 /dev/zero > "$(dirname "$0")/../package"
    ;;
*) echo "3.11.7 cpython somewhere" ;;
esac
"""


class Place:
    """Apps, the environments that are made for them, and how often one was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "environments"
        self.python = path / "python"
        self.python.write_text(QUICK)
        self.python.chmod(0o755)

    def environments(self, number: int = 9, bytes_max: int = 10**9, seconds: float = 20.0) -> Environments:
        given = {**os.environ, "MADE": str(self.path / "made")}
        return Environments(self.root, self.python, given, Bounds(number, bytes_max, seconds))

    def app(self, *requirements: str) -> Path:
        app = self.path / "-".join(("app", *requirements))
        app.mkdir(exist_ok=True)
        (app / "requirements.txt").write_text("\n".join(requirements))
        return app

    @property
    def times_made(self) -> int:
        made = self.path / "made"
        return len(made.read_text().splitlines()) if made.exists() else 0

    @property
    def kept(self) -> list[str]:
        """What was asked for of each environment that is there."""
        return sorted(path.read_text().strip() for path in self.root.glob("*/requirements.txt"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def lend(environments: Environments, app: Path) -> Path:
    async with environments.lent(app, "quick", ()) as (python, _):
        assert python.exists()
        return python


async def failure(environments: Environments, app: Path) -> AppFailed:
    with pytest.raises(AppFailed) as failed:
        await lend(environments, app)
    assert failed.value.reason == "no-environment"
    return failed.value


async def output(*command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    return said.decode()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def test_an_app_gets_what_it_asks_for_from_a_directory_of_wheels_and_no_network(tmp_path: Path) -> None:
    app = Place(tmp_path).app("greeting==1.0")
    with zipfile.ZipFile(tmp_path / "greeting-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", "words = 'good morning'")
        wheel.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("greeting-1.0.dist-info/RECORD", "")
    given = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PYTHONPATH": "/ours"}
    environments = Environments(tmp_path / "made here", Path(sys.executable), given, Bounds(1, 10**9, 60))

    python = await lend(environments, app)

    assert await output(python, "-c", "import greeting; print(greeting.words)") == "good morning\n"


async def test_an_environment_is_made_once_for_all_who_ask_for_the_same(place: Place) -> None:
    app, other = place.app("slow"), place.app("slow ", "")
    here, there = place.environments(), place.environments()  # two collaborators

    pythons = await asyncio.gather(lend(here, app), lend(here, other), lend(there, app))
    again = await lend(place.environments(), app)

    assert {*pythons, again} == {pythons[0]}
    assert place.times_made == 1


async def test_who_waited_for_an_environment_gets_it_while_its_maker_uses_it(place: Place) -> None:
    app, enough = place.app("slow"), asyncio.Event()

    async def use() -> None:
        async with place.environments().lent(app, "quick", ()):
            await enough.wait()

    using = asyncio.create_task(use())
    await until((place.path / "made.pid").exists)
    async with asyncio.timeout(20):
        await lend(place.environments(), app)
    assert not using.done()
    enough.set()
    await using
    assert place.times_made == 1


async def test_an_environment_that_cannot_be_made_leaves_the_installers_words_and_nothing_else(place: Place) -> None:
    failed = await failure(place.environments(), place.app("missing"))

    assert str(failed) == "no environment can be made of what the app asks for (missing): -m pip install failed with code 1"
    assert failed.detail == "ERROR: no such package"
    assert place.kept == []


async def test_a_python_that_is_none_is_named(place: Place) -> None:
    place.python.write_text("#!/bin/sh\necho not me\nexit 1\n")
    failed = await failure(place.environments(), place.app())

    assert str(failed).startswith(f"environments cannot be made with {place.python}: ")
    assert failed.detail == "not me\n"


async def test_making_one_is_given_up_after_a_while(place: Place) -> None:
    failed = await failure(place.environments(seconds=2), place.app("endless"))

    assert str(failed) == "no environment can be made of what the app asks for (endless): it takes longer than 2 s"
    assert not is_running(int((place.path / "made.pid").read_text()))
    assert place.kept == []


async def test_making_one_goes_on_when_the_round_that_wanted_it_is_over(place: Place) -> None:
    environments, app = place.environments(), place.app("slow")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await lend(environments, app)

    await lend(environments, app)

    assert place.times_made == 1


async def test_making_one_ends_with_the_collaborator(place: Place) -> None:
    environments = place.environments()
    waiting = asyncio.create_task(lend(environments, place.app("endless")))
    await until((place.path / "made.pid").exists)
    await environments.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not is_running(int((place.path / "made.pid").read_text()))
    assert place.kept == []


async def test_what_a_killed_collaborator_left_half_made_is_made_anew(place: Place) -> None:
    python = await lend(place.environments(), place.app("one"))
    (python.parents[1] / "fedplane.json").unlink()

    assert await lend(place.environments(), place.app("one")) == python
    assert place.times_made == 2


async def test_the_one_unused_longest_makes_room(place: Place) -> None:
    environments = place.environments(number=2)
    for name in ("one", "two", "one", "three"):
        await lend(environments, place.app(name))
        await asyncio.sleep(0.01)  # times of files are coarse

    assert place.kept == ["one", "three"]


async def test_environments_take_no_more_bytes_than_they_may(place: Place) -> None:
    environments = place.environments(bytes_max=150_000)
    for name in ("one", "two"):
        await lend(environments, place.app(name))
    small = await failure(place.environments(bytes_max=50_000), place.app("three"))

    assert place.kept == []
    assert "there would be 10" in str(small) and str(small).endswith("there may be 50000; raise FEDPLANE_ENVIRONMENTS_BYTES_MAX")


async def test_an_environment_stays_as_long_as_a_process_has_its_lock(place: Place) -> None:
    environments = place.environments(number=1)
    async with environments.lent(place.app("one"), "quick", ()) as (_, lock):
        user = await asyncio.create_subprocess_exec("sleep", "60", pass_fds=(lock,))
    failed = await failure(environments, place.app("two"))
    user.kill()
    await user.wait()
    await lend(environments, place.app("two"))

    assert str(failed).endswith("1 others are in use, and there may be 1; raise FEDPLANE_ENVIRONMENTS_MAX")
    assert place.kept == ["two"]
