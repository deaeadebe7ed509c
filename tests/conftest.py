"""What tests stand on: a real nats-server and a real Kubernetes API server on loopback, with stores of their own, as a user's would be."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from apiserver import ApiServer, Server
from hypothesis import settings
from sources import ROOT
from xdist.scheduler import LoadFileScheduling

from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats import Limits, open_bus
from fedplane.runtime.ports import Bus
from fedplane.schemas.crd import CRD_NAME

READY_SECONDS = 10

CLEARED = (
    "/apis/federation-ai.open-cluster-management.io/v1alpha1/federatedlearnings",
    "/apis/work.open-cluster-management.io/v1/manifestworks",
    "/apis/cluster.open-cluster-management.io/v1/managedclusters",
    "/apis/cluster.open-cluster-management.io/v1beta2/managedclustersets",
    "/apis/cluster.open-cluster-management.io/v1beta2/managedclustersetbindings",
    "/apis/cluster.open-cluster-management.io/v1beta1/placements",
    "/apis/cluster.open-cluster-management.io/v1beta1/placementdecisions",
)
"""What a file may leave on the API server, which a worker has for all its files, and what schedulers of later files would act on.

With it gone a file does not depend on which others the worker was given before. Namespaces stay: nobody behind the server removes them.
"""

ASKS_FOR_AN_API_SERVER = re.compile(r"\b(?:api|hub|kubernetes)_server\b")
API_SERVERS_MAX = 2
"""How many workers start one: it takes five seconds of a core to begin, and a fiftieth of a core for as long as the worker lives."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs in its background so, and our processes would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("patient", deadline=None)  # a busy machine makes an example slow, not wrong
if "CI" not in os.environ:  # there, hypothesis has a profile of its own: the same examples every time
    settings.load_profile("patient")


class Files(LoadFileScheduling):
    """Each file goes to one worker, and those that need an API server to a few: a worker starts one for all its files."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._scopes: dict[str, str] = {}
        self._on_servers = 0

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        if file not in self._scopes:
            asks = ASKS_FOR_AN_API_SERVER.search((ROOT / file).read_text()) is not None
            self._scopes[file] = f"API server {self._on_servers % API_SERVERS_MAX}" if asks else file
            self._on_servers += asks
        return self._scopes[file]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Whatever `--dist` says, files stay whole: most of their fixtures are for a file."""
    return Files(config, log)


@dataclass
class NatsServer:
    """A nats-server process that can be killed and started again on the same port and store."""

    directory: Path
    port: int = -1
    process: subprocess.Popen[bytes] | None = None
    options: str = ""
    further: str = ""

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        ports = self.directory / "ports"
        ports.mkdir(parents=True, exist_ok=True)
        for old in ports.iterdir():
            old.unlink()
        configuration = self.directory / "nats.conf"
        configuration.write_text(
            f'host: 127.0.0.1\nport: {self.port}\nports_file_dir: "{ports}"\n'
            f'jetstream {{ store_dir: "{self.directory / "store"}" {self.options} }}\n{self.further}\n'
        )
        server = Path(sys.executable).parent / "nats-server"
        self.process = subprocess.Popen([server, "-c", configuration], stderr=(self.directory / "nats.log").open("ab"))
        self.port = self._port(ports)

    def _port(self, ports: Path) -> int:
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            for file in ports.iterdir():
                try:
                    return int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
                except (ValueError, KeyError):
                    pass  # the server is still writing the file
            time.sleep(0.01)
        raise AssertionError(f"nats-server is not ready after {READY_SECONDS} s: {(self.directory / 'nats.log').read_text()[-2000:]}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


@pytest.fixture
def nats_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NatsServer]:
    """A server that lets everybody in; the processes that a test starts are told that it is meant so."""
    monkeypatch.setenv("FEDPLANE_INSECURE", "true")
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for sockets, whose paths have a hundred characters at most."""
    with tempfile.TemporaryDirectory(prefix="fp") as name:
        yield Path(name)


def missing(said: str) -> NoReturn:
    """What a test stands on is not there: on a laptop it is left out, in CI that is a failure."""
    (pytest.fail if "CI" in os.environ else pytest.skip)(said)


@pytest.fixture(scope="session")
def ocm_crds() -> dict[str, dict[str, Any]]:
    """Open Cluster Management's own CustomResourceDefinitions, by name."""
    if not os.environ.get("OCM_CRDS"):
        missing("OCM_CRDS does not name a folder with Open Cluster Management's CRDs; see CONTRIBUTING.md")
    found = [yaml.safe_load(path.read_text()) for path in sorted(Path(os.environ["OCM_CRDS"]).glob("*.yaml"))]
    return {definition["metadata"]["name"]: definition for definition in found}


@pytest.fixture(scope="session")
def started_api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server of our own, which knows our CRD."""
    if not os.environ.get("KUBEBUILDER_ASSETS"):
        missing("KUBEBUILDER_ASSETS does not name a folder with etcd and kube-apiserver; see CONTRIBUTING.md")
    server = ApiServer(tmp_path_factory.mktemp("kubernetes"), Path(os.environ["KUBEBUILDER_ASSETS"]))
    try:
        server.start()
        server.install(our_crd())
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def api_server(started_api_server: ApiServer) -> Iterator[ApiServer]:
    """That server, as the next file wants to find it. It can be killed, so a test that does so starts it again."""
    yield started_api_server
    if "kube-apiserver" not in started_api_server.processes:  # a test has failed before it could
        started_api_server.start()
    started_api_server.clear(CLEARED)


@pytest.fixture(scope="session")
def started_k3s(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """K3s in a container, with our CRD."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        missing("there are neither KUBEBUILDER_ASSETS nor Docker to run an API server with; see CONTRIBUTING.md")
    from testcontainers.community.k3s import K3SContainer

    with K3SContainer() as container:
        server = Server(tmp_path_factory.mktemp("kubernetes"))
        server.kubeconfig.write_text(container.config_yaml())
        server.install(our_crd())
        yield server


@pytest.fixture(scope="module")
def kubernetes_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """An API server that knows our CRD, and need not be ours: one that is there, or K3s in a container."""
    if os.environ.get("KUBEBUILDER_ASSETS"):
        yield request.getfixturevalue("api_server")
    else:
        server: Server = request.getfixturevalue("started_k3s")
        yield server
        server.clear(CLEARED)


@pytest.fixture(scope="module")
def hub_server(kubernetes_server: Server, ocm_crds: dict[str, dict[str, Any]]) -> Server:
    """The same, with Open Cluster Management's kinds: what a hub serves."""
    kubernetes_server.install({name: definition for name, definition in ocm_crds.items() if name != CRD_NAME})
    return kubernetes_server


@pytest.fixture(params=["memory", "nats"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """Each bus that there is, for what has to be true of every one."""
    if request.param == "memory":
        yield MemoryBus()
    else:
        server = request.getfixturevalue("nats_server")
        async with open_bus(server.url, name="test", source="/test", limits=Limits(lease_seconds=1)) as opened:
            yield opened


def our_crd() -> dict[str, dict[str, Any]]:
    return {CRD_NAME: yaml.safe_load((ROOT / f"deploy/crds/{CRD_NAME}.yaml").read_text())}
