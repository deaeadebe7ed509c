"""A federation on one machine that asks everybody for a certificate: real processes, and what happens to those who have none."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from machine_story import Machine, machine, settle_environment

from fedplane.cli.credentials import keep_secret, render_bundle
from fedplane.cli.keys import Keys
from fedplane.runtime.certificates import Authority, of_client
from fedplane.schemas.facts import Completed, Contributed, Opened
from fedplane.schemas.models import Task
from fedplane.schemas.roles import Role

pytestmark = [pytest.mark.app, pytest.mark.asyncio(loop_scope="module")]

BAD_INPUT, BUS = 2, 3
PATIENCE_SECONDS = 150
"""A command takes a second, and three until it gives up; on a machine that does much else all of it takes longer."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machine]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle_environment(monkeypatch)
        monkeypatch.delenv("FEDPLANE_INSECURE", raising=False)
        async with machine(tmp_path_factory.mktemp("machine"), insecure=False) as it:
            yield it


@pytest.fixture
def keys(it: Machine) -> Keys:
    return Keys(it.directory / "state/keys")


async def fedplane(it: Machine, *arguments: str) -> tuple[int, str]:
    command = (sys.executable, "-m", "fedplane.cli.main", *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=it.directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_run_completes_though_the_authorizer_is_killed_in_the_midst_of_it(it: Machine) -> None:
    names, killed = frozenset(it.up.pids), it.up.pid_of("authorizer")
    run = await it.submit(config={"seconds": 0.3})
    await it.until(run, lambda record: isinstance(record.fact, Opened) and record.fact.task is Task.TRAIN)

    it.up.kill("authorizer")
    completed = await it.end_of(run)

    assert isinstance(completed, Completed), completed
    contributed = {record.fact.cluster for record in it.log if isinstance(record.fact, Contributed) and record.fact.round == 1}
    assert contributed == {"alpha", "beta", "gamma"}
    await it.whole(names)
    assert it.up.pid_of("authorizer") != killed


async def test_a_client_without_a_certificate_is_refused_whatever_it_speaks(it: Machine, keys: Keys) -> None:
    knows_the_server = ssl.create_default_context(cafile=keys.authorities)
    plain = it.up.nats_url.replace("tls://", "nats://")

    for url, tls in ((plain, None), (plain, knows_the_server), (it.up.nats_url, knows_the_server)):
        with pytest.raises((OSError, nats.errors.Error)):
            await nats.connect(url, tls=tls, allow_reconnect=False, connect_timeout=20)


async def test_a_command_that_is_not_let_in_says_why_and_what_to_do(it: Machine, keys: Keys, tmp_path: Path) -> None:
    plain, now = it.up.nats_url.replace("tls://", "nats://"), datetime.now(UTC)
    services = Authority.read(keys.authority("services").read_text(), keys.authority("services").with_suffix(".key").read_text())
    strange = Authority.new("strange", now)
    bundles = {"ended": (services, now - timedelta(days=2)), "strange": (strange, now)}
    for name, (authority, at) in bundles.items():
        issued = authority.issue(of_client(Role.OPERATOR, name), at, timedelta(days=1))
        text = render_bundle(Role.OPERATOR, name, key=issued.key, certificate=issued.certificate, authority=services.certificate)
        keep_secret(tmp_path / f"{name}.pem", text)

    def with_bundle(name: str) -> tuple[str, ...]:
        return "get", "--url", it.up.nats_url, "--credentials", str(tmp_path / f"{name}.pem")

    named = ("get", "--url", plain)
    ways = (named, (*named, "--insecure"), with_bundle("ended"), with_bundle("strange"), with_bundle("absent"))
    plainly, insecurely, ended, stranger, absent = await asyncio.gather(*(fedplane(it, *words) for words in ways))

    assert [code for code, _ in (plainly, insecurely, ended, stranger, absent)] == [BAD_INPUT, BUS, BAD_INPUT, BUS, BAD_INPUT]
    assert "--insecure says that it is meant so" in plainly[1]
    assert "--credentials FILE names the bundle that has yours" in insecurely[1]
    assert "ended.pem ended on" in ended[1]
    assert "does not take our certificate" in stranger[1]
    assert "there is no bundle" in absent[1]


async def test_the_command_line_of_the_same_user_is_let_in_without_a_word(it: Machine) -> None:
    assert await fedplane(it, "clusters", "--state", "state") == (0, "")


async def test_a_page_of_ones_own_reads_the_log_as_an_operator_and_as_nobody_else(it: Machine, keys: Keys) -> None:
    words = ("ui", "--no-open", "--url", it.up.nats_url, "--page-port", "0", "--credentials")
    serving = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fedplane.cli.main", *words, str(keys.bundle(Role.OPERATOR)), stdout=subprocess.PIPE
    )
    assert serving.stdout is not None
    address = await serving.stdout.readline()
    serving.terminate()
    await serving.wait()

    assert address.startswith(b"http://127.0.0.1:")
    assert "is the bundle of a status" in (await fedplane(it, *words, str(keys.bundle(Role.STATUS))))[1]
