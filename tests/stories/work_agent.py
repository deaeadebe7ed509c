"""A hub's clusters in one process: what Open Cluster Management's agents do with our works, and the hub itself with its Jobs.

They watch through our port, run what they see as pods of this machine (`pod_story`), and report as the real ones do.
Like them, they go on with what is under way while the hub is away, and tell it when it is back.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pod_story import Image, Pod
from work_story import status

from fedplane.runtime.errors import ApiDenied, ApiUnreachable, NotFound
from fedplane.runtime.kinds import JOB, MANIFEST_WORK
from fedplane.runtime.objects import ChangeType, Kind, Object, Objects

FINALIZER = "cluster.open-cluster-management.io/manifest-work-cleanup"
AGAIN_SECONDS = 0.2
"""Between two attempts to write to a hub that is away."""


@dataclass
class WorkAgent:
    """The agent of one cluster. `without` names containers that are not started, as if they were not in the pod.

    `files` are those of the Secrets that are there without us, by their names.
    """

    hub: Objects
    cluster: str
    directory: Path
    images: Mapping[str, Image]
    without: tuple[str, ...] = ()
    restart_seconds: float = 0.05
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        """Do what the works say until cancelled."""
        try:
            async for change in self.hub.watch(MANIFEST_WORK, self.cluster):
                if change.type is ChangeType.SYNCED:
                    continue
                name = change.object["metadata"]["name"]
                gone = change.type is ChangeType.DELETED
                if gone or "deletionTimestamp" in change.object["metadata"]:
                    await end(self.running, name)
                    if not gone:
                        await self._touch(name, {"metadata": {"finalizers": None}})
                elif name not in self.running:
                    await self._touch(name, {"metadata": {"finalizers": [FINALIZER]}})
                    self.running[name] = asyncio.create_task(self._carry_out(name, change.object))
        finally:
            for name in list(self.running):
                await end(self.running, name)

    async def _carry_out(self, name: str, work: Object) -> None:
        """Run the work's Job, and report on it."""
        job, *maps = work["spec"]["workload"]["manifests"]
        files = {**self.files, **{each["metadata"]["name"]: each["data"] for each in maps}}
        inside = job["spec"]["template"]["spec"]
        inside["containers"] = [each for each in inside["containers"] if each["name"] not in self.without]
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        pod = Pod(f"{name}-x7k2p", job, directory, self.images, self.restart_seconds, self.directory, files)
        await carry_out(pod, lambda numbers: self._touch(name, {"status": status(**numbers)}, "status"))

    async def _touch(self, name: str, patch: Object, subresource: Any = "") -> None:
        await touch(self.hub, MANIFEST_WORK, name, patch, self.cluster, subresource)


@dataclass
class JobAgent:
    """The hub's own Job controller and nodes, for one namespace. `disk` is where the volumes of claims are, `files` what Secrets have."""

    hub: Objects
    namespace: str
    directory: Path
    images: Mapping[str, Image]
    disk: Path
    restart_seconds: float = 0.05
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        """Run the Jobs that appear until cancelled."""
        try:
            async for change in self.hub.watch(JOB, self.namespace):
                name = change.object["metadata"]["name"] if change.object else ""
                if change.type is ChangeType.DELETED:
                    await end(self.running, name)
                elif name and name not in self.running:
                    self.running[name] = asyncio.create_task(self._carry_out(name, change.object))
        finally:
            for name in list(self.running):
                await end(self.running, name)

    async def _carry_out(self, name: str, job: Object) -> None:
        directory = self.directory / f"{name}-{job['metadata']['uid']}"  # another Job of that name has another pod, with nothing in it
        directory.mkdir(exist_ok=True)
        pod = Pod(f"{name}-m4c9z", job, directory, self.images, self.restart_seconds, self.disk, self.files)

        async def report(numbers: Mapping[str, Any]) -> None:
            told = {each: numbers.get(each, 0) for each in ("active", "ready", "succeeded", "failed")}
            await touch(self.hub, JOB, name, {"status": told}, self.namespace, "status")

        await carry_out(pod, report)


async def carry_out(pod: Pod, report: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
    """Run the pod and report its numbers whenever they have changed, until cancelled."""
    running = asyncio.create_task(pod.run())
    try:
        while True:
            pod.changed.clear()
            await report(pod.numbers)
            await pod.changed.wait()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def end(running: dict[str, asyncio.Task[None]], name: str) -> None:
    """End what is run under the name, if anything is."""
    task = running.pop(name, None)
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def touch(hub: Objects, kind: Kind, name: str, patch: Object, namespace: str, subresource: Any = "") -> None:
    """Change the object as soon as the hub lets us, unless it is gone by then, of which the watch will tell."""
    while True:
        with contextlib.suppress(ApiUnreachable, ApiDenied, NotFound):  # a server that has just started knows neither roles nor kinds
            if name in {body["metadata"]["name"] for body in await hub.all(kind, namespace)}:
                await hub.merge(kind, name, patch, namespace, subresource=subresource)
            return
        await asyncio.sleep(AGAIN_SECONDS)


A = TypeVar("A", WorkAgent, JobAgent)


@asynccontextmanager
async def agent(it: A) -> AsyncIterator[A]:
    """The agent, while the block runs; whatever it dies of is raised."""
    it.directory.mkdir(parents=True, exist_ok=True)
    task = asyncio.create_task(it.run())
    try:
        yield it
        died = [each for each in (task, *it.running.values()) if each.done()]
        for each in died:
            each.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
