"""`fedplane ui` shows the page of the federation that is up, or serves one for a federation elsewhere."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from apiserver import free_port
from conftest import NatsServer

from fedplane.cli import page
from fedplane.cli.connection import Where
from fedplane.cli.directory import Directory, Record
from fedplane.runtime.errors import BadInput, Unavailable, Unreachable
from fedplane.runtime.nats import Limits, open_bus


@contextmanager
def up(state: Path, page_url: str) -> Iterator[None]:
    """A federation that is up, as far as its directory says. Its record stays, as that of one that was killed does."""
    directory = Directory.at(state)
    with directory.held():
        directory.write_record(
            Record(pid=1, nats_url="nats://x", page_url=page_url, started_at=datetime.now(UTC), ready=True, processes={}),
        )
        yield


def test_the_page_of_the_federation_that_is_up_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: not opened.append(address) and len(opened) == 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = page.page_url(listener.getsockname()[1])
        with up(tmp_path, address):
            page.ui(open_browser=False, where=Where(state=tmp_path))
            assert (capsys.readouterr().out, opened) == (f"{address}\n", [])

            page.ui(open_browser=True, where=Where(state=tmp_path))
            assert (capsys.readouterr(), opened) == ((f"{address}\n", ""), [address])

            page.ui(open_browser=True, where=Where(state=tmp_path))
            assert "no browser could be opened here" in capsys.readouterr().err


def test_whoever_has_no_page_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable, match="no federation is up in "):
        page.ui(where=Where(state=tmp_path))

    with up(tmp_path, ""), pytest.raises(Unavailable, match=r"was started without a page; `fedplane down --state \S+`, and `up` again"):
        page.ui(where=Where(state=tmp_path))

    monkeypatch.setattr(page, "READY_SECONDS", 0.1)
    with (
        up(tmp_path, page.page_url(free_port())),
        pytest.raises(Unavailable, match=r"does not answer; \S+/logs/status.log says why"),
    ):
        page.ui(where=Where(state=tmp_path))

    with pytest.raises(Unreachable, match="no federation is up in "):
        page.ui(where=Where(state=tmp_path))

    with pytest.raises(BadInput, match="--page-port is for a page served here, with --url"):
        page.ui(port=1, where=Where(state=tmp_path))


def test_a_page_that_does_not_begin_in_time_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nats_server: NatsServer) -> None:
    asyncio.run(declared(nats_server.url))
    monkeypatch.setattr(page, "READY_SECONDS", 0.0)

    with pytest.raises(Unavailable, match="the page did not answer within 0 s"):
        page.ui(port=0, where=Where(url=nats_server.url, insecure=True))


def test_the_page_has_the_port_that_was_asked_for_or_its_usual_one_or_any(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        monkeypatch.setattr(page, "PAGE_PORT_DEFAULT", free)
        assert (page.choose_page_port(None), page.choose_page_port(free)) == (free, free)
        assert free not in {page.choose_page_port(None, any_free=True), page.choose_page_port(0)}
        with pytest.raises(
            Unavailable, match=f"port {taken} of this machine is in use by another program; choose another with `--page-port"
        ):
            page.choose_page_port(taken)
        monkeypatch.setattr(page, "PAGE_PORT_DEFAULT", taken)
        assert page.choose_page_port(None) != taken


async def declared(url: str) -> None:
    async with open_bus(url, name="test", source="/test", limits=Limits()):
        pass


def test_a_page_for_a_federation_elsewhere_is_served_until_ctrl_c(nats_server: NatsServer) -> None:
    asyncio.run(declared(nats_server.url))
    command = [sys.executable, "-m", "fedplane.cli.main", "ui", "--no-open", "--url", nats_server.url, "--page-port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as ui:
        assert ui.stdout is not None
        address = ui.stdout.readline().strip()
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert b"<title>fedplane</title>" in answer.read()
        os.killpg(ui.pid, signal.SIGINT)
        assert ui.wait(20) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=1)
