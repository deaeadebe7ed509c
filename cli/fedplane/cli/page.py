"""The page on which people watch runs: where that of a federation on this machine is, and `fedplane ui`, which opens it.

The page is served by the status service that `up` starts.
For a federation elsewhere `ui` starts a process that serves it here, reads that federation's log, and writes nothing.
"""

import os
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

import typer

from fedplane.cli.connection import HERE, Server, Where, call
from fedplane.cli.credentials import owner_of
from fedplane.cli.directory import Directory
from fedplane.cli.orphans import die_with_parent
from fedplane.cli.server import HOST, free_port, refusal
from fedplane.runtime.errors import BadInput, Unavailable, Unreachable
from fedplane.runtime.ports import Bus
from fedplane.schemas.roles import Role

__all__ = ["PAGE_PORT_DEFAULT", "choose_page_port", "page_url", "ui"]

PAGE_PORT_DEFAULT = 4280
"""Beside the bus's 4222, and nobody's by custom: a page that stays where it was can be bookmarked."""

READY_SECONDS = 30.0
"""How long the page may take to answer: the time to start Python, and more on a machine that is busy."""

END_SECONDS = 10.0
POLL_SECONDS = 0.05

PortOption = Annotated[int | None, typer.Option("--page-port", min=0, max=65535, help="With --url: port of the page; 0 is any free one.")]


def page_url(port: int) -> str:
    """What a person types into a browser."""
    return f"http://{HOST}:{port}/"


def choose_page_port(asked: int | None, *, any_free: bool = False) -> int:
    """The port that was asked for; else the usual one, or any if that is taken or `any_free` will do. Raises Unavailable if it is taken."""
    if asked:
        if refusal(asked) is not None:
            raise Unavailable(f"port {asked} of this machine is in use by another program; choose another with `--page-port N`")
        return asked
    return free_port() if asked == 0 or any_free or refusal(PAGE_PORT_DEFAULT) is not None else PAGE_PORT_DEFAULT


def ui(
    port: PortOption = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser, or only say where it is.")] = True,
    where: Where = HERE,
) -> None:
    """Open the page on which runs can be watched.

    That of `fedplane up`; or, with --url, one that is served here until Ctrl-C.

    Example: fedplane ui

    Example: fedplane ui --url tls://hub.example.org:4222 --credentials ann.pem
    """
    if where.url is None:
        if port is not None:
            raise BadInput("--page-port is for a page served here, with --url; that of `fedplane up` is where `up --page-port` said")
        _show_running(Directory.at(where.state), open_browser)
    else:
        call(where, _reached)
        _serve(where.server, choose_page_port(port), open_browser)


def _show_running(directory: Directory, open_browser: bool) -> None:
    record = directory.read_record()
    if record is None or directory.holder() is None:  # one that was killed has left its record
        raise Unreachable(f"no federation is up in {directory.path}")
    if not record.page_url:
        raise Unavailable(f"the federation in {directory.path} was started without a page; `{directory.command('down')}`, and `up` again")
    if not _answers(record.page_url, lambda: False):
        raise Unavailable(f"the page at {record.page_url} does not answer; {directory.logs / 'status.log'} says why")
    _show(record.page_url, open_browser)


async def _reached(bus: Bus) -> None:
    """Whoever cannot be reached is better told now than by another process's log."""


def _show(address: str, open_browser: bool) -> None:
    typer.echo(address)
    if open_browser and not webbrowser.open(address):
        typer.echo("no browser could be opened here; open that address in one", err=True)


def _serve(server: Server, port: int, open_browser: bool) -> None:
    """Serve the page in a process of its own until somebody ends this one."""
    if find_spec("h11") is None:
        raise Unavailable("serving the page needs a library that is not installed; `pip install 'fedplane[status]'` brings it")
    settings = {
        "FEDPLANE_NATS_URL": server.url,
        "FEDPLANE_PAGE_PORT": str(port),
        "FEDPLANE_PAGE_HOST": HOST,
        "FEDPLANE_LOG_LEVEL": "warning",
    }
    settings |= _identity(server)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "fedplane.status.page.main"],
        env={**os.environ, **settings},
        preexec_fn=die_with_parent(),  # noqa: PLW1509 -- there are no threads: the loop that asked for the bus has ended
    ) as child:
        try:
            answered = _answers(page_url(port), lambda: child.poll() is not None)
            if not answered and child.poll() is None:
                raise Unavailable(f"the page did not answer within {READY_SECONDS:g} s; try again when this machine has less to do")
            if answered:
                _show(page_url(port), open_browser)
                typer.echo("Ctrl-C ends it.", err=True)
                child.wait()
        except KeyboardInterrupt:
            return  # the person is done
        finally:
            child.terminate()
            child.wait(END_SECONDS)
    if child.returncode:
        raise Unavailable(f"the page ended with {child.returncode}; what it said stands above")


def _identity(server: Server) -> dict[str, str]:
    """As whom the page reads the log: as whoever starts it."""
    if server.credentials is None:
        return {"FEDPLANE_INSECURE": "true"}
    bundle = server.credentials.certificate.absolute()
    role, name = owner_of(bundle)
    if role is not Role.OPERATOR:
        raise BadInput(
            f"the page shows everything, and {bundle} is the bundle of a {role}; `fedplane ui` wants one of a person, {Role.OPERATOR}"
        )
    return {
        "FEDPLANE_TLS_CERTIFICATE": str(bundle), "FEDPLANE_TLS_KEY": str(bundle), "FEDPLANE_TLS_AUTHORITY": str(bundle),
        "FEDPLANE_TLS_NAME": name,
    }  # fmt: skip


def _answers(address: str, ended: Callable[[], bool]) -> bool:
    """Whether somebody listens there before it has ended, or taken too long."""
    deadline = time.monotonic() + READY_SECONDS
    port = urlsplit(address).port
    while port is None or refusal(port) is None:
        if ended() or time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
