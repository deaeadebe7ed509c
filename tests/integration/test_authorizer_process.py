"""The authorizer as a process: any number of them answer, secrets and authorities are files, and who is ready says so."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from accounts_story import GuardedServer, Processes
from apiserver import free_port
from authority_story import Authority

from fedplane.runtime.errors import BusError
from fedplane.runtime.nats import Limits, Patience, open_bus
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, close, connect
from fedplane.schemas.roles import Role

MODULE = "fedplane.authorizer.main"
IMPATIENT = Patience(connect_seconds=1.5)


@pytest_asyncio.fixture
async def it(tmp_path: Path) -> AsyncIterator[GuardedServer]:
    it = GuardedServer(tmp_path / "guarded")
    it.server.start()
    yield it
    it.server.stop()


async def is_let_in(it: GuardedServer, role: Role, name: str, patience: Patience = IMPATIENT) -> bool:
    credentials = it.credentials(role, name)
    try:
        await close(await connect(it.url, name, CONTROL_PENDING_BYTES, patience, credentials=credentials))
    except BusError:
        return False
    return True


async def status(port: int) -> int | None:
    def ask() -> int | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    return await asyncio.to_thread(ask)


async def until_status(port: int, wanted: int) -> None:
    async with asyncio.timeout(30):
        while await status(port) != wanted:
            await asyncio.sleep(0.05)


async def test_services_are_let_in_before_there_is_a_log_and_others_when_it_was_read(it: GuardedServer, tmp_path: Path) -> None:
    port = free_port()
    async with Processes(tmp_path) as processes:
        await processes.start("authorizer", MODULE, it.told(Role.AUTHORIZER) | {"FEDPLANE_HEALTH_PORT": str(port)})
        await until_status(port, 503)
        service = await is_let_in(it, Role.STATUS, "status", Patience())
        early = await is_let_in(it, Role.COLLABORATOR, "amsterdam"), await status(port)
        scheduler = it.credentials(Role.SCHEDULER, "scheduler")
        async with open_bus(it.url, name="scheduler", source="/test", limits=Limits(), credentials=scheduler):
            await until_status(port, 200)
        late = await is_let_in(it, Role.COLLABORATOR, "amsterdam", Patience())

    assert (service, early, late) == (True, (False, 503), True)
    assert processes.running["authorizer"].returncode == 0


async def test_whoever_connects_while_one_of_two_is_killed_is_let_in(it: GuardedServer, tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        for name in ("first", "second"):
            await processes.start(name, MODULE, it.told(Role.AUTHORIZER))
        for name in ("first", "second"):
            await processes.until_said(name, "event=ready")
        connecting = [asyncio.create_task(is_let_in(it, Role.OPERATOR, f"ann-{number}", Patience())) for number in range(20)]
        await asyncio.wait(connecting, return_when=asyncio.FIRST_COMPLETED)
        await processes.kill("first")
        connecting += [asyncio.create_task(is_let_in(it, Role.OPERATOR, f"bob-{number}", Patience())) for number in range(20)]
        let_in = await asyncio.gather(*connecting)

    assert let_in == [True] * 40


async def test_authorities_are_read_anew_when_their_file_changes(it: GuardedServer, tmp_path: Path) -> None:
    file = tmp_path / "clusters"
    file.write_text(Authority(tmp_path, "another").file.read_text())
    told = it.told(Role.AUTHORIZER) | {"FEDPLANE_CLUSTERS_AUTHORITY": str(file)}
    scheduler = it.credentials(Role.SCHEDULER, "scheduler")
    async with Processes(tmp_path) as processes:
        await processes.start("authorizer", MODULE, told)
        async with open_bus(it.url, name="scheduler", source="/test", limits=Limits(), credentials=scheduler):
            await processes.until_said("authorizer", "event=ready")
        before = await is_let_in(it, Role.COLLABORATOR, "amsterdam")
        file.write_text("half a certificate")
        during = await is_let_in(it, Role.COLLABORATOR, "amsterdam")
        file.write_text("".join(each.file.read_text() for each in (Authority(tmp_path, "further"), it.ocm)))
        after = await is_let_in(it, Role.COLLABORATOR, "amsterdam", Patience())
        said = processes.said("authorizer")

    assert (before, during, after) == (False, False, True)
    assert "kind=authority" in said
    assert "going on with the authorities that were read before" in said


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("FEDPLANE_CALLOUT_SEED", "cannot be read: FileNotFoundError"),
        ("FEDPLANE_CLUSTERS_AUTHORITY", "has no authority's certificate"),
        ("FEDPLANE_TLS_CERTIFICATE", "are no certificate, its key and an authority"),
    ],
)
async def test_what_cannot_be_used_ends_it_with_a_sentence(it: GuardedServer, tmp_path: Path, setting: str, sentence: str) -> None:
    async with Processes(tmp_path) as processes:
        process = await processes.start("authorizer", MODULE, it.told(Role.AUTHORIZER) | {setting: str(tmp_path / "nothing")})
        code = await process.wait()

    assert (code, sentence in processes.said("authorizer")) == (2, True), processes.said("authorizer")
