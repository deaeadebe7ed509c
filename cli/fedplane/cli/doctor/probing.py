"""The looks of `fedplane doctor`: at this machine, at the bus, at a hub. Whatever cannot be looked at is a finding, too."""

import asyncio
import importlib.util
import shutil
import sys
from collections.abc import Awaitable
from datetime import UTC, datetime

from fedplane.cli.access_log import folded
from fedplane.cli.connection import Server, explained
from fedplane.cli.credentials import owner_of
from fedplane.cli.directory import Directory
from fedplane.cli.doctor import access, hub, machine, roles, server
from fedplane.cli.doctor.access import AccessSeen, BundleSeen
from fedplane.cli.doctor.findings import Finding, Level, judge
from fedplane.cli.doctor.machine import EXTRAS, MachineSeen
from fedplane.cli.orphans import is_ours
from fedplane.cli.server import PORT_DEFAULT, STORE_BYTES_DEFAULT, Configuration, find_server, refusal
from fedplane.runtime.certificates import valid_until
from fedplane.runtime.errors import ApiError, BadInput, BusError, Denied, FedplaneError, Unavailable
from fedplane.runtime.hub import look_at_hub
from fedplane.runtime.nats import look, without_secrets
from fedplane.runtime.observed import HubSeen
from fedplane.schemas.crd import CRD_NAME

__all__ = ["bus_findings", "hub_findings", "machine_findings"]

LISTEN_NAMESPACE = "fedplane"
"""Where deploy/ has the bus, and so the objects of listeners."""

HUB_SECONDS = 60.0
"""Some sixty questions, each of which may take five seconds, eight at a time; a server that is up has answered all within one."""


def machine_findings(directory: Directory, *, local: bool) -> list[Finding]:
    """What this machine shows and, if the federation in question is `local`, the directory of that federation."""
    return judge("machine", {**machine.CHECKS, **(machine.FEDERATION_CHECKS if local else {})}, _machine(directory))


def bus_findings(
    where: Server, start: str = "start the server, or name the right one with --url; look for a firewall between", *, local: bool = False
) -> list[Finding]:
    """What the bus shows, and who lives on it. `start` says what to do if there is none; a `local` one keeps its own keys."""
    try:
        ours = judge("access", access.BUNDLE_CHECKS, _bundle(where, local))
    except BadInput as error:
        return [_failed("access", "certificate", error, "name another bundle with --credentials, or have this one made anew")]
    return [*ours, *_on_the_bus(where, start)]


def _bundle(where: Server, local: bool) -> BundleSeen:
    now = datetime.now(UTC)
    if where.credentials is None:
        return BundleSeen(now)
    path = where.credentials.certificate
    return BundleSeen(now, str(path), *owner_of(path), until=valid_until(path.read_text()), renewed=local)


def _on_the_bus(where: Server, start: str) -> list[Finding]:
    try:
        with explained(where):
            seen = asyncio.run(look(where.url, where.credentials))
    except (Denied, BadInput) as error:
        return [_failed("bus", "reachable", error, "name another bundle with --credentials; the log of the bus's authorizer says why")]
    except BusError as error:
        return [_failed("bus", "reachable", error, start)]
    reached = Finding(Level.OK, f"a server answers at {without_secrets(where.url)}", "", "bus", "reachable")
    findings = [reached, *judge("bus", server.CHECKS, seen)]
    if not seen.jetstream or "jetstream" in seen.unseen:
        return findings
    said = AccessSeen(seen.now or datetime.now(UTC), tuple(folded(seen.access)), seen.unseen.get("access", ""))
    return [*findings, *judge("access", access.CHECKS, said), *judge("roles", roles.CHECKS, seen)]


def hub_findings(kubeconfig: str, context: str, namespace: str) -> list[Finding]:
    """What a hub shows. With a namespace, rights are those of the service accounts in it."""
    rights = hub.needed(namespace or LISTEN_NAMESPACE)

    async def bounded(looking: Awaitable[HubSeen]) -> HubSeen:
        async with asyncio.timeout(HUB_SECONDS):
            return await looking

    try:
        seen = asyncio.run(bounded(look_at_hub(kubeconfig, context, hub.KINDS, CRD_NAME, rights, namespace)))
    except (BadInput, Unavailable) as error:
        return [
            _failed("hub", "reachable", error, "name a kubeconfig that kubectl can use with --kubeconfig, and its context with --context")
        ]
    except TimeoutError:
        late = Unavailable(f"the API server had not answered everything after {HUB_SECONDS:g} s")
        return [_failed("hub", "reachable", late, "try again when it has less to do")]
    except ApiError as error:
        return [_failed("hub", "reachable", error, "`kubectl version` with the same kubeconfig tells whether the server is there")]
    return judge("hub", hub.CHECKS, seen)


def _failed(area: str, check: str, error: FedplaneError, mend: str) -> Finding:
    return Finding(Level.PROBLEM, str(error), mend, area, check)


def _machine(directory: Directory) -> MachineSeen:
    record, pid = directory.read_record(), directory.holder()
    running = {} if record is None else {name: is_ours(of, directory.path) for name, of in record.processes.items()}
    configuration = Configuration.read(directory.configuration)
    port = configuration.port if configuration else PORT_DEFAULT
    place = next(path for path in (directory.store, *directory.store.parents) if path.exists())
    stored = sum(path.stat().st_size for path in directory.store.rglob("*") if path.is_file()) if directory.store.exists() else 0
    disk = shutil.disk_usage(place)
    return MachineSeen(
        python=sys.version_info[:3],
        directory=str(directory.path),
        up=directory.command("up"),
        server=_server(),
        venv=_has("ensurepip") and _has("venv"),
        absent=frozenset(package for package in EXTRAS if not _has(package)),
        up_pid=pid,
        ready=record is not None and record.ready,
        left={name: record.processes[name] for name, runs in running.items() if runs} if record and pid is None else {},
        dead=tuple(sorted(name for name, runs in running.items() if not runs)) if pid is not None else (),
        port=port,
        port_refusal=None if pid is not None else refusal(port),
        store_bytes=configuration.store_bytes if configuration else STORE_BYTES_DEFAULT,
        stored_bytes=stored,
        free_bytes=disk.free,
        disk_bytes=disk.total,
    )


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _server() -> str:
    try:
        return str(find_server())
    except Unavailable:
        return ""  # a finding, not a failure
