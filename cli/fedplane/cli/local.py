"""`fedplane up` and `fedplane down`: a federation on this machine that lasts.

`up` runs until it is ended: by Ctrl-C, by `down`, or because the terminal is closed.
Then everything is over but the state, and the next `up` goes on from there. With `--detach` it does the same in the background.
A second Ctrl-C, for those who cannot wait, kills what has not ended yet.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fedplane.cli.connection import StateOption
from fedplane.cli.deployment import AGGREGATORS_DEFAULT
from fedplane.cli.directory import DEFAULT, Directory
from fedplane.cli.federation import Up, federation
from fedplane.cli.logs import Logs
from fedplane.runtime.errors import BadInput, Unavailable
from fedplane.schemas import quantities

__all__ = ["down", "up"]

AGGREGATORS_MAX = 16
"""Each is a process of about 100 MB; more than a machine has cores gain nothing."""

CLUSTERS_SECONDS = 20.0
"""How long the clusters may take to say what they have: a collaborator starts in a second, and in ten on a machine that does much else.
Whoever takes longer is named, and the federation is up without them.
"""

DETACH_SECONDS = 80.0
"""How long a start in the background may take: what the server may take to become ready, twice, and then the clusters."""

DETACH_LINES = 100
"""How much of a failed start in the background is shown: all of it, in practice."""

DOWN_SECONDS = 45.0
"""How long an end may take: three stages, each with its grace and its killing, and some seconds to spare."""

POLL_SECONDS = 0.05
"""How often to look whether something has happened in another process."""

console = Console(soft_wrap=True, highlight=False, markup=False)


def up(
    state: StateOption = DEFAULT,
    clusters: Annotated[Path | None, typer.Option(metavar="FILE", help="Clusters to run; the last time's if not given.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the bus; 0 is any free one. The last time's, else 4222, if not given.")
    ] = None,
    aggregators: Annotated[int, typer.Option(min=1, max=AGGREGATORS_MAX, help="How many aggregators to run.")] = AGGREGATORS_DEFAULT,
    store_bytes: Annotated[
        str | None, typer.Option(metavar="BYTES", help="How much may be stored, like 20G. Fixed when the state is made; 5G if not given.")
    ] = None,
    page_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the page; 0 is any free one. 4280, unless it is taken, if not given.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Go without certificates: every program of this machine may then do everything.")
    ] = False,
) -> None:
    """Run a federation on this machine, until Ctrl-C or `fedplane down`.

    FILE lists the clusters, each with a name, the claims that say where its data is, what is allocatable, and labels:

    clusters: [{name: hospital-a, claims: {mnist.client-data: data/a}, allocatable: {cpu: 4, memory: 8Gi}, labels: {region: eu}}]

    Example: fedplane up --clusters clusters.yaml
    """
    directory = Directory.at(state)
    if detach:
        given = {
            "--clusters": clusters and clusters.absolute(),
            "--port": port,
            "--aggregators": aggregators,
            "--store-bytes": store_bytes,
            "--page-port": page_port,
        }
        _detach(directory, [*(f"{name}={value}" for name, value in given.items() if value is not None), *(["--insecure"] * insecure)])
    else:
        starting = federation(
            directory.path,
            clusters=clusters,
            port=port,
            aggregators=aggregators,
            store_bytes=_bytes(store_bytes),
            page_port=page_port,
            insecure=insecure,
            clusters_seconds=CLUSTERS_SECONDS,
            say=_say,
        )
        asyncio.run(_run(directory, starting))


def down(state: StateOption = DEFAULT) -> None:
    """End the federation that runs on this machine. Its state stays.

    Example: fedplane down
    """
    directory = Directory.at(state)
    pid = directory.holder()
    if pid is None:
        console.print(f"Nothing is up in {directory.path}.")
    else:
        _end(directory, pid)
        console.print(f"Ended, pid {pid}. The state stays in {directory.path}.")


def _end(directory: Directory, pid: int) -> None:
    """Ask the process that holds the directory to end, and wait until it has."""
    if pid == 0:
        raise Unavailable(f"the federation in {directory.path} is only just starting; try again in a moment")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it ended by itself in this moment
    except PermissionError as error:
        raise Unavailable(f"the federation in {directory.path} is another user's, pid {pid}") from error
    deadline = time.monotonic() + DOWN_SECONDS
    while directory.holder() == pid:
        if time.monotonic() > deadline:
            raise Unavailable(f"pid {pid} did not end within {DOWN_SECONDS:g} s; `kill -9 {pid}` ends it and its processes")
        time.sleep(POLL_SECONDS)


async def _run(directory: Directory, starting: AbstractAsyncContextManager[Up]) -> None:
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()  # by nohup
    for number in {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} - ignored:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async with starting as running:
            _greet(directory, running)
            await running.wait()
    except asyncio.CancelledError:  # somebody wants it to end; nobody else cancels this task
        console.print(f"Ended. The state stays in {directory.path}.")


def _detach(directory: Directory, arguments: list[str]) -> None:
    """Start `up` again as a background process, and wait until it is ready or has failed."""
    directory.make()
    logs = Logs(directory.logs)
    with logs.open("up") as log:
        begin = log.tell()
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedplane.cli.main", "up", f"--state={directory.path}", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_ready(directory, child)
    except BaseException:  # Ctrl-C included: what is not ready is not left running
        child.terminate()
        raise
    if child.returncode is not None:
        sys.stderr.write(logs.last_lines("up", after=begin, count=DETACH_LINES) + "\n")
        raise typer.Exit(child.returncode)
    record = directory.read_record()
    assert record is not None, "it is there when it says that it is ready"
    console.print(f"The bus is at {record.nats_url}; pid {child.pid}; logs in {directory.logs}.")
    console.print(f"Runs can be watched at {record.page_url}")
    _warn(record.insecure)
    console.print(f"`{directory.command('submit FILE')}` asks for a run; `{directory.command('down')}` ends the federation.")


def _wait_until_ready(directory: Directory, child: "subprocess.Popen[bytes]") -> None:
    """Return when the child is ready or has ended."""
    deadline = time.monotonic() + DETACH_SECONDS
    while child.poll() is None:
        record = directory.read_record()
        if record and record.pid == child.pid and record.ready:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"not ready within {DETACH_SECONDS:g} s; see {directory.logs}")
        time.sleep(POLL_SECONDS)


def _greet(directory: Directory, running: Up) -> None:
    clusters = ", ".join(cluster.name for cluster in running.clusters) or "none: services only; `--clusters FILE` adds some"
    console.print(f"The bus is at {running.nats_url}; logs in {directory.logs}.")
    console.print(f"Clusters: {clusters}.")
    console.print(f"Runs can be watched at {running.page_url}")
    _warn(running.credentials is None)
    console.print(f"`{directory.command('submit FILE')}` asks for a run; Ctrl-C ends the federation.")


def _warn(insecure: bool) -> None:
    if insecure:
        console.print("It asks for no certificates: every program of this machine may read, state and remove everything.", style="yellow")


def _say(name: str, said: str) -> None:
    console.print(f"{datetime.now():%H:%M:%S} {name}: {said}", style=None if said.startswith("started") else "yellow")


def _bytes(text: str | None) -> int | None:
    try:
        return None if text is None else int(quantities.parse(text))
    except ValueError as error:
        raise BadInput(f"--store-bytes: {error}") from error
