"""A Job's pod on this machine: what a Job controller and a kubelet would do with it, as processes, and nothing of them is left at its end.

Containers run with local Pythons, each with the command, arguments and variables that it was given, expanded as Kubernetes does.
Not played: users, limits, probes, security contexts, networks and file systems of containers.
A path below a mount is replaced by the volume's directory on this machine wherever an argument or a variable names it.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine_story import TINY_APP, app_python

from fedplane.runtime.objects import Object

Container = dict[str, Any]


@dataclass(frozen=True)
class Image:
    """What stands for an image: a Python, and the directory in which containers of it begin."""

    python: Path
    workdir: Path = Path("/")


def images() -> dict[str, Image]:
    """The collaborator's image, `ours:1`, and one of the tests' app, `tiny:1`. Without an environment for apps, skip or fail."""
    return {"ours:1": Image(Path(sys.executable)), "tiny:1": Image(app_python(), TINY_APP)}


@dataclass
class Pod:
    """The one pod of a Job. Its containers print into `directory`; what `numbers` has is reported.

    `disk` is where the volumes of claims are, which outlive the pod; each is made when it is first used.
    `files` are what Secrets and ConfigMaps have, by their names.
    """

    name: str
    job: Object
    directory: Path
    images: Mapping[str, Image]
    restart_seconds: float
    disk: Path
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
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
                for container in self.spec.get("initContainers", ()):
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
        mounts = {mount["mountPath"]: self._volume(mount["name"]) for mount in container.get("volumeMounts", ())}
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
        match volume:
            case {"hostPath": {"path": path, "type": "Directory"}}:
                return Path(path)
            case {"hostPath": {"path": path, "type": "DirectoryOrCreate"}}:
                found = Path(path)
            case {"persistentVolumeClaim": {"claimName": claim}}:
                found = self.disk / claim
            case _:
                found = self.directory / name
        found.mkdir(parents=True, exist_ok=True)
        held = volume.get("secret", {}).get("secretName") or volume.get("configMap", {}).get("name")
        for file, text in self.files[held].items() if held else ():
            (found / file).write_text(text)
        return found

    def _fail(self, reason: str, message: str) -> None:
        self._say(active=0, ready=0, failed=1, failedReason=reason, failedMessage=message)

    def _say(self, **numbers: int | str) -> None:
        self.numbers |= numbers
        self.changed.set()


class TooOften(Exception):
    """Containers failed as often as they may."""


def _variables(given: Any, pod: str) -> dict[str, str]:
    """A container's environment. Of references, only that to the pod's name is known here."""
    variables: dict[str, str] = {}
    for each in given:
        if "valueFrom" in each:
            assert each["valueFrom"].get("fieldRef", {}).get("fieldPath") == "metadata.name"
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
