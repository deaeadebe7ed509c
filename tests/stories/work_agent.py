"""A cluster in one process: what Open Cluster Management's agent, a Job controller and a kubelet would do with our works, as processes.

It watches the works of one cluster through our port and runs their Jobs' containers with local Pythons, each with the command, arguments
and variables that it was given, expanded as Kubernetes does; it reports as the agent reports, and leaves no process behind.
Not played: users, limits, probes, security contexts, networks and file systems of containers.
A path below a mount is replaced by the volume's directory on this machine wherever an argument or a variable names it.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from work_story import status

from fedplane.runtime.errors import NotFound
from fedplane.runtime.kinds import MANIFEST_WORK
from fedplane.runtime.objects import ChangeType, Object, Objects

FINALIZER = "cluster.open-cluster-management.io/manifest-work-cleanup"

Container = dict[str, Any]


@dataclass(frozen=True)
class Image:
    """What stands for an image: a Python, and the directory in which containers of it begin."""

    python: Path
    workdir: Path = Path("/")


@dataclass
class Pod:
    """The one pod of a Job. Its containers print into `directory`; what `numbers` has is reported."""

    name: str
    job: Object
    directory: Path
    images: Mapping[str, Image]
    restart_seconds: float
    numbers: dict[str, int | str] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0
    running: set[str] = field(default_factory=set)

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.job["spec"]["template"]["spec"]
        return found

    async def run(self) -> None:
        """As a Job does: until all containers have succeeded, or they have failed too often, or for too long."""
        self._say(active=1, ready=0)
        try:
            async with asyncio.timeout(self.job["spec"]["activeDeadlineSeconds"]):
                for container in self.spec["initContainers"]:
                    await self._keep(container, counts=False)
                async with asyncio.TaskGroup() as containers:
                    for container in self.spec["containers"]:
                        containers.create_task(self._keep(container))
        except* TimeoutError:
            self._fail("DeadlineExceeded", "Job was active longer than specified deadline")
        except* TooOften:
            self._fail("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        else:
            self._say(active=0, ready=0, succeeded=1)

    async def _keep(self, container: Container, *, counts: bool = True) -> None:
        """Run a container until it succeeds; one whose image is not to be had waits for it for ever."""
        if container["image"] not in self.images:
            await asyncio.Event().wait()
        while True:
            code = await self._once(container, counts)
            if code == 0:
                return
            self.restarts += 1
            if self.restarts >= self.job["spec"]["backoffLimit"]:
                raise TooOften
            await asyncio.sleep(self.restart_seconds)

    async def _once(self, container: Container, counts: bool) -> int:
        image = self.images[container["image"]]
        mounts = {mount["mountPath"]: self._volume(mount["name"]) for mount in container["volumeMounts"]}
        variables = _variables(container.get("env", ()), self.name)
        program, *arguments = [_expanded(each, variables) for each in (*container["command"], *container.get("args", ()))]
        assert program in {"python", "python3"}, "an image here is a Python"
        with (self.directory / f"{container['name']}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                image.python,
                *(_mounted(each, mounts) for each in arguments),
                env={"PATH": f"{image.python.parent}:{os.defpath}"} | {name: _mounted(value, mounts) for name, value in variables.items()},
                cwd=image.workdir,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            if counts:
                self.running.add(container["name"])
                self._say(ready=int(len(self.running) == len(self.spec["containers"])))
            return await process.wait()
        finally:
            self.running.discard(container["name"])
            self._say(ready=0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def _volume(self, name: str) -> Path:
        (volume,) = [each for each in self.spec["volumes"] if each["name"] == name]
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        path = self.directory / name  # an emptyDir; a Secret that is not there, and may be missing; a claim nobody has filled
        path.mkdir(exist_ok=True)
        return path

    def _fail(self, reason: str, message: str) -> None:
        self._say(active=0, ready=0, failed=1, failedReason=reason, failedMessage=message)

    def _say(self, **numbers: int | str) -> None:
        self.numbers |= numbers
        self.changed.set()


class TooOften(Exception):
    """Containers failed as often as they may."""


@dataclass
class WorkAgent:
    """The agent of one cluster. `without` names containers that are not started, as if they were not in the pod."""

    hub: Objects
    cluster: str
    directory: Path
    images: Mapping[str, Image]
    without: tuple[str, ...] = ()
    restart_seconds: float = 0.05
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
                    await self._end(name)
                    if not gone:
                        await self._touch(name, {"metadata": {"finalizers": None}})
                elif name not in self.running:
                    await self._touch(name, {"metadata": {"finalizers": [FINALIZER]}})
                    self.running[name] = asyncio.create_task(self._carry_out(name, change.object))
        finally:
            for name in list(self.running):
                await self._end(name)

    async def _carry_out(self, name: str, work: Object) -> None:
        """Run the work's Job, and report on it."""
        (job,) = work["spec"]["workload"]["manifests"]
        inside = job["spec"]["template"]["spec"]
        inside["containers"] = [each for each in inside["containers"] if each["name"] not in self.without]
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        pod = Pod(f"{name}-x7k2p", job, directory, self.images, self.restart_seconds)
        running = asyncio.create_task(pod.run())
        try:
            while True:
                pod.changed.clear()
                await self._touch(name, {"status": status(**pod.numbers)}, "status")
                await pod.changed.wait()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def _touch(self, name: str, patch: Object, subresource: Any = "") -> None:
        with contextlib.suppress(NotFound):  # it is gone already, and the watch will tell
            await self.hub.merge(MANIFEST_WORK, name, patch, self.cluster, subresource=subresource)

    async def _end(self, name: str) -> None:
        task = self.running.pop(name, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _variables(given: Any, pod: str) -> dict[str, str]:
    """A container's environment. Of references, only that to the pod's name is known here."""
    variables: dict[str, str] = {}
    for each in given:
        if "valueFrom" in each:
            assert each["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
            variables[each["name"]] = pod
        else:
            variables[each["name"]] = _expanded(each.get("value", ""), variables)
    return variables


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    """As a kubelet does: `$$` is a dollar, `$(NAME)` a variable if there is one, and stays as it is otherwise."""
    return re.sub(r"\$\$|\$\(([^)]*)\)", lambda found: "$" if found[1] is None else variables.get(found[1], found[0]), text)


def _mounted(text: str, mounts: Mapping[str, Path]) -> str:
    """The text with a mount's path, where one begins a value, replaced by where the volume is."""
    for mount, volume in mounts.items():
        text = re.sub(rf"\A([-a-z]*=|){re.escape(mount)}(?=/|\Z)", lambda found, volume=volume: f"{found[1]}{volume}", text)  # type: ignore[misc]
    return text


@asynccontextmanager
async def agent(it: WorkAgent) -> AsyncIterator[WorkAgent]:
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
