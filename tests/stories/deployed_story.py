"""The bus as deploy/ starts it: real servers and real authorizers, with the configuration, files and variables of the manifests.

What a kubelet does is done here: volumes become directories, at the same paths below a directory of the pod, and where text names one of
these paths it gets the one below. Secrets are what `fedplane access init` and deploy/keys make. Addresses and ports are this machine's.
"""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from apiserver import free_port
from manifest_story import DEPLOY, KUBECTL, Manifest, built, container, containers, named, settings_class

from fedplane.cli.access import init
from fedplane.runtime.nats import Credentials, Limits
from fedplane.runtime.service import credentials_of
from fedplane.runtime.settings import ServiceSettings
from fedplane.schemas.roles import Role

READY_SECONDS = 30
RELOAD_SECONDS = "0.1"
HOSTS = ["localhost", "127.0.0.1"]

Files = Mapping[str, Mapping[str, bytes]]
"""Files by the name of the ConfigMap or Secret that has them."""


def keys(directory: Path) -> Path:
    """A directory with the keys of a bus that is reached on this machine."""
    init(directory, HOSTS, "90d")
    shutil.copy(DEPLOY / "keys/kustomization.yaml", directory)
    return directory


def given(directory: Path) -> list[Manifest]:
    """What a hub is given of it."""
    said = subprocess.run([KUBECTL, "kustomize", directory], capture_output=True, text=True, check=True).stdout
    return list(yaml.safe_load_all(said))


def secrets(directory: Path) -> dict[str, dict[str, bytes]]:
    """The files that pods find there."""
    return {each["metadata"]["name"]: _data(each) for each in given(directory)}


def _data(manifest: Manifest) -> dict[str, bytes]:
    secret = manifest["kind"] == "Secret"
    return {name: base64.b64decode(text) if secret else text.encode() for name, text in manifest["data"].items()}


@dataclass
class Pod:
    """A workload's pod, below a directory."""

    root: Path
    workload: Manifest
    files: Files
    variables: Mapping[str, str] = field(default_factory=dict)
    routed: Callable[[str], str] = str

    @property
    def spec(self) -> Manifest:
        found: Manifest = self.workload["spec"]["template"]["spec"]
        return found

    def mount(self) -> None:
        """Write all volumes, as often as their Secrets change."""
        volumes = {each["name"]: each for each in self.spec["volumes"]}
        for each in containers(self.workload):
            for mount in each["volumeMounts"]:
                place = self.root / mount["mountPath"].removeprefix("/")
                place.mkdir(parents=True, exist_ok=True)
                for name, content in self._volume(volumes.get(mount["name"], {})).items():
                    (place / name).write_bytes(self.edited(content.decode()).encode() if mount["mountPath"] == "/etc/nats" else content)

    def _volume(self, volume: Manifest) -> dict[str, bytes]:
        """A volume's files. That of a claim, and an emptyDir, have none to begin with."""
        files: dict[str, bytes] = {}
        for source in volume.get("projected", {}).get("sources", [volume]):
            for kind, key in (("configMap", "name"), ("secret", "secretName")):
                if kind in source:
                    held = self.files[source[kind].get(key) or source[kind]["name"]]
                    items = source[kind].get("items", [{"key": name, "path": name} for name in held])
                    files |= {item["path"]: held[item["key"]] for item in items}
        return files

    def edited(self, text: str) -> str:
        """A server's configuration for this machine."""
        return self.routed(self.here(text))

    def here(self, text: str) -> str:
        """The text, with paths of the containers turned into paths of this machine."""
        mounts = sorted({mount["mountPath"] for each in containers(self.workload) for mount in each["volumeMounts"]}, key=len, reverse=True)
        return re.sub(rf"(?<![\w.])({'|'.join(map(re.escape, mounts))})(?=[/\s]|$)", lambda found: f"{self.root}{found[1]}", text)

    def told(self, name: str = "") -> dict[str, str]:
        """The variables of a container: the one that the workload is named after, if no other is named. A pod's own name is `pod-0`."""
        itself = next(each for each in containers(self.workload) if each["name"] == (name or self.workload["metadata"]["name"]))
        maps = [self.files[each["configMapRef"]["name"]] for each in itself.get("envFrom", ())]
        said = {name: value.decode() for each in maps for name, value in each.items()}
        said |= {each["name"]: each.get("value", "pod-0") for each in itself.get("env", ())}
        return {name: self.here(value) for name, value in said.items()} | dict(self.variables)


@dataclass
class Deployed:
    """Servers and authorizers that run as a kustomization says."""

    name: str
    directory: Path
    files: dict[str, dict[str, bytes]]
    ports: tuple[int, ...]
    monitoring: tuple[int, ...]
    routes: tuple[int, ...]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    servers: list[Pod] = field(default_factory=list)
    authorizers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return ",".join(f"tls://localhost:{port}" for port in self.ports)

    def ask(self, server: int, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitoring[server]}{path}", timeout=20) as response:
                return json.load(response)
        except (urllib.error.URLError, OSError) as error:
            return {"status": repr(error)}

    def probe(self, server: int, probe: str) -> str:
        said: str = self.ask(server, container(named(self.name, "StatefulSet", "nats"))[probe]["httpGet"]["path"])["status"]
        return said

    def pod(self, role: str, **variables: str) -> Pod:
        """A pod of a service, with its files."""
        made = Pod(self.directory / f"{role}-{len(list(self.directory.iterdir()))}", named(self.name, "Deployment", role), self.files)
        made.variables = {"FEDPLANE_NATS_URL": self.url, **variables}
        made.mount()
        return made

    def settings(self, role: str, **changed: str) -> ServiceSettings:
        """What a service of that role has read."""
        told = self.pod(role).told() | changed
        return settings_class(role)(**{key.removeprefix("FEDPLANE_").lower(): value for key, value in told.items()})

    def limits(self, **changed: str) -> Limits:
        settings = self.settings("scheduler", **changed)
        return Limits(log_bytes=settings.log_bytes, bulk_bytes=settings.bulk_bytes, replicas=settings.stream_replicas)

    def credentials(self, role: str) -> Credentials | None:
        return credentials_of(self.settings(role), Role(role))

    def start(self, pod: Pod, log: str, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a process of a pod, until the end."""
        with (self.directory / f"{log}.log").open("ab") as written:
            words = [str(each) for each in command]
            self.processes.append(subprocess.Popen(words, stderr=written, stdout=written, env=os.environ | pod.told()))
        return self.processes[-1]

    def start_authorizer(self) -> None:
        """Start an authorizer, again if it ends as its Deployment does, and wait until it answers servers."""
        port = free_port()
        pod, give_up = self.pod("authorizer", FEDPLANE_HEALTH_PORT=str(port)), time.monotonic() + READY_SECONDS
        while not has_started(port):
            if not (self.authorizers and self.authorizers[-1].poll() is None):
                self.authorizers.append(self.start(pod, "authorizer", sys.executable, "-m", "fedplane.authorizer.main"))
            assert time.monotonic() < give_up, (self.directory / "authorizer.log").read_text()[-2000:]
            time.sleep(0.1)

    def start_server(self, number: int, certificate: str = "fedplane-nats-tls") -> None:
        """Start a server, and what has it read its files anew. One with another certificate is an intruder."""
        port, monitoring = (self.ports[number], self.monitoring[number]) if number < len(self.ports) else (free_port(), free_port())
        files = self.files | {"fedplane-nats-tls": self.files[certificate]}
        told = {"RELOAD_SECONDS": RELOAD_SECONDS, "POD_NAME": f"nats-{number}"}
        pod = Pod(self.directory / f"nats-{number}", named(self.name, "StatefulSet", "nats"), files, told)
        listen = f"listen: 127.0.0.1:{[*self.routes, free_port()][number]}"

        def routed(text: str) -> str:
            return re.sub(
                r"nats-(\d)\.nats-servers:6222",
                lambda found: f"localhost:{self.routes[int(found[1])]}",
                text.replace("port: 6222", listen),
            )

        pod.routed = routed
        pod.mount()
        server, reloader, *_ = containers(pod.workload)
        _, *options = (pod.here(each) for each in server["command"])
        at = ["-a", "127.0.0.1", "-p", str(port), "-m", str(monitoring)]
        self.start(pod, f"nats-{number}", Path(sys.executable).parent / "nats-server", *options, *at)
        self.start(pod, f"reloader-{number}", *(pod.here(each) for each in (*reloader["command"], *reloader["args"])))
        self.servers.append(pod)


def has_started(port: int) -> bool:
    """Whether a process says on its health port that it does what others wait for."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/started", timeout=20) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def deployed(name: str, directory: Path) -> Iterator[Deployed]:
    """The servers of a kustomization, and one of its authorizers."""
    count = named(name, "StatefulSet", "nats")["spec"]["replicas"]
    files = {each["metadata"]["name"]: _data(each) for each in built(name) if each["kind"] == "ConfigMap"}
    ports = (tuple(free_port() for _ in range(count)) for _ in range(3))
    it = Deployed(name, directory, files | secrets(keys(directory / "keys")), *ports)
    try:
        for number in range(count):
            it.start_server(number)
        give_up = time.monotonic() + READY_SECONDS
        while {it.probe(server, "readinessProbe") for server in range(count)} != {"ok"}:
            alive = all(process.poll() is None for process in it.processes)
            assert alive and time.monotonic() < give_up, (directory / "nats-0.log").read_text()[-2000:]
            time.sleep(0.05)
        it.start_authorizer()
        yield it
    finally:
        for process in it.processes:
            process.terminate()
            process.wait()
