"""Certificates that are replaced while a process is connected, by which a server that checks them knows who it is."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from authority_story import Authority, Known
from conftest import NatsServer
from guarded_story import tls_of
from line_story import line
from structlog.testing import capture_logs

from fedplane.runtime.errors import BadInput, Denied
from fedplane.runtime.nats import Credentials, Limits, NatsBus, Patience, open_bus
from fedplane.schemas.facts import Advertised
from fedplane.schemas.roles import Role, inbox_of

WITHIN_SECONDS = 30.0
REFUSED_FOR_SECONDS = 0.7
"""In which a client of ours tries three times."""

EXPIRED = timedelta(days=-1)


class Guarded:
    """A server that lets in those whom `trusted` has signed, and one client's bundle."""

    def __init__(self, directory: Path) -> None:
        self.old, self.new = Authority(directory, "old"), Authority(directory, "new")
        self.bundle = directory / "scheduler.pem"
        self.directory = directory
        self.server = NatsServer(directory / "bus", further=tls_of(directory, self.old, self.old.file))
        self.put(self.old.sign("fedplane:scheduler:scheduler"))
        self.server.start()

    def put(self, known: Known) -> None:
        self.bundle.write_text("# fedplane:scheduler:scheduler\n" + known.key.read_text() + known.pem + self.old.file.read_text())

    def trust(self, authority: Authority) -> None:
        """From the next start on."""
        self.server.further = tls_of(self.directory, self.old, authority.file)

    async def restart(self, bus: NatsBus) -> None:
        self.server.kill()
        await until(lambda: not bus.is_connected())
        self.server.start()

    def open(self, **options: Patience) -> AbstractAsyncContextManager[NatsBus]:
        credentials = Credentials(self.bundle, self.bundle, self.bundle, inbox_of(Role.SCHEDULER, "scheduler"))
        url = f"tls://localhost:{self.server.port}"
        return open_bus(url, name="test", source="/test", limits=Limits(), credentials=credentials, **options)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    it = Guarded(tmp_path)
    yield it
    it.server.kill()


async def until(becomes: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while not becomes():
            await asyncio.sleep(0.02)


async def states(bus: NatsBus, cluster: str) -> bool:
    await until(bus.is_connected)
    return (await bus.log.state(Advertised(at=datetime(2026, 1, 2, tzinfo=UTC), cluster=cluster, lease_seconds=15))).mine


async def test_a_connection_that_is_made_anew_shows_the_certificate_that_is_there_then(guarded: Guarded) -> None:
    async with guarded.open() as bus:
        assert await states(bus, "a")
        guarded.put(guarded.new.sign("fedplane:scheduler:scheduler"))
        guarded.trust(guarded.new)
        await guarded.restart(bus)

        assert await states(bus, "b")


async def test_who_shows_an_expired_certificate_is_let_in_again_with_the_next_one(guarded: Guarded) -> None:
    with capture_logs() as lines:
        async with guarded.open() as bus:
            guarded.put(guarded.old.sign("fedplane:scheduler:scheduler", lasts=EXPIRED))
            await guarded.restart(bus)
            await asyncio.sleep(REFUSED_FOR_SECONDS)
            assert not bus.is_connected()
            guarded.put(guarded.old.sign("fedplane:scheduler:scheduler"))

            assert await states(bus, "a")

    (told,) = [line for line in lines if line["event"] == "not let in by the bus"]
    assert told["log_level"] == "warning"
    assert re.match("the server does not take our certificate, or we not its: .*certificate expired", told["why"])


@pytest.mark.parametrize("left", ["nothing", "half", "another's key"])
async def test_files_that_do_not_fit_are_told_of_once_and_those_of_before_are_shown(guarded: Guarded, left: str) -> None:
    whole = guarded.bundle.read_text()
    with capture_logs() as lines:
        async with guarded.open() as bus:
            if left == "nothing":
                guarded.bundle.unlink()
            else:
                other = guarded.old.sign("another").key.read_text()
                guarded.bundle.write_text(whole[: len(whole) // 2] if left == "half" else other + whole[whole.index("-----BEGIN CERT") :])
            await guarded.restart(bus)
            assert await states(bus, "a")
            await guarded.restart(bus)
            assert await states(bus, "b")

    told = [line for line in lines if line["event"] == "going on with the credentials that were read before"]
    assert [(line["log_level"], str(guarded.bundle) in line["why"]) for line in told] == [("warning", True)]


async def test_rights_that_have_expired_are_no_end_of_a_connection(guarded: Guarded) -> None:
    """A server says so, and ends the connection; here somebody on the way says it, since a server says it after an hour."""
    plain = NatsServer(guarded.directory / "plain")
    plain.start()
    with capture_logs() as lines:
        async with line(plain.port) as between, open_bus(between.url, name="test", source="/test", limits=Limits()) as bus:
            for times, said in enumerate(
                (b"User Authentication Expired", b"Account Authentication Expired", b"User Authentication Revoked"), 1
            ):
                between.say(b"-ERR '" + said + b"'\r\n")
                await until(lambda times=times: [line["event"] for line in lines].count("connected to the bus again") == times)

            assert await states(bus, "a")
    plain.stop()


async def test_a_certificate_is_shown_to_no_server_without_tls(guarded: Guarded) -> None:
    credentials = Credentials(guarded.bundle, guarded.bundle, guarded.bundle, "_INBOX")
    for url in ("nats://localhost:4222", "tls://localhost:4222,nats://user:secret@localhost:4223"):
        with pytest.raises(BadInput, match=r"addresses begin with tls://, and this is [^@]*$"):
            async with open_bus(url, name="test", source="/test", credentials=credentials):
                pass


async def test_files_that_cannot_be_used_at_first_are_said(guarded: Guarded) -> None:
    guarded.bundle.write_text("nothing")

    with pytest.raises(BadInput, match=r"scheduler\.pem are no certificate, its key and an authority"):
        async with guarded.open():
            pass


async def test_who_is_not_let_in_at_first_hears_why(guarded: Guarded) -> None:
    guarded.put(guarded.new.sign("fedplane:scheduler:scheduler"))

    with pytest.raises(Denied, match=r"does not take our certificate, or we not its: .*unknown ca"):
        async with guarded.open(patience=Patience(connect_seconds=REFUSED_FOR_SECONDS)):
            pass


STARTS = """
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from fedplane.runtime.service import serve_on
from fedplane.runtime.settings import ServiceSettings, read

@asynccontextmanager
async def opened(credentials):
    print(credentials)
    yield SimpleNamespace(is_connected=lambda: True)

async def body(opened):
    pass

serve_on(opened, "scheduler", read(ServiceSettings), body)
"""


@pytest.mark.parametrize(
    ("told", "code", "out", "said"),
    [
        ({}, 2, "", ["level=error", "FEDPLANE_TLS_CERTIFICATE", "FEDPLANE_INSECURE=true"]),
        ({"FEDPLANE_INSECURE": "true"}, 0, "None", ["level=warning", "without a certificate", "FEDPLANE_INSECURE is set"]),
    ],
)
def test_a_service_goes_without_a_certificate_only_if_it_was_told_to(told: dict[str, str], code: int, out: str, said: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEDPLANE_")} | told
    done = subprocess.run([sys.executable, "-c", STARTS], env=environment, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.strip(), [each in done.stderr for each in said]) == (code, out, [True] * len(said))


async def test_a_service_is_known_by_its_certificate(guarded: Guarded) -> None:
    told = {"FEDPLANE_NATS_URL": f"tls://localhost:{guarded.server.port}", "FEDPLANE_TLS_CERTIFICATE": str(guarded.bundle)}
    log = guarded.directory / "scheduler.log"
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "fedplane.scheduler.main", env=os.environ | told, stderr=said)
    await until(lambda: "event=ready" in log.read_text() or process.returncode is not None)
    process.terminate()

    assert (await process.wait(), "level=warning" in log.read_text()) == (0, False)
