"""A real Kubernetes API server for tests: etcd and kube-apiserver on loopback, or K3s in a container.

`KUBEBUILDER_ASSETS` names the folder with the two programs, as for everyone who tests against an API server (envtest's convention).
There is no controller, scheduler or kubelet behind it: nothing happens to an object unless a test does it.
"""

import base64
import json
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

READY_SECONDS = 60
ADMIN, NOBODY = "token-of-the-admin", "token-of-nobody"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def free_port() -> int:
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Server:
    """An API server that a kubeconfig leads to, asked by the standard library: what the product's client is compared with."""

    directory: Path

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    def request(self, method: str, path: str, body: Any = None, accept: str = "application/json", **further: str) -> Any:
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        if "client-key-data" in user:
            with tempfile.NamedTemporaryFile() as pair:
                pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
                pair.flush()
                trust.load_cert_chain(pair.name)
        headers = {"Authorization": f"Bearer {user.get('token', '')}", "Accept": accept, "Content-Type": "application/json"}
        headers |= {name.replace("_", "-"): said for name, said in further.items()}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(cluster["server"] + path, data, headers, method=method)
        with urllib.request.urlopen(asked, context=trust, timeout=10) as response:
            text = response.read().decode()
        return json.loads(text) if text.startswith("{") else text

    def install(self, definitions: Mapping[str, dict[str, Any]]) -> None:
        """Make kinds known that are not, and wait until all are served."""
        known = {each["metadata"]["name"] for each in self.request("GET", DEFINITIONS)["items"]}
        for name in definitions.keys() - known:
            self.request("POST", DEFINITIONS, definitions[name])
        give_up = time.monotonic() + READY_SECONDS
        while not all(established(self.request("GET", f"{DEFINITIONS}/{name}")) for name in definitions):
            assert time.monotonic() < give_up, f"not all of {', '.join(definitions)} are established after {READY_SECONDS} s"
            time.sleep(0.05)

    def clear(self, kinds: Iterable[str]) -> None:
        """Remove all objects of these kinds, each named by its path; finalizers are not waited for, since nobody here takes them away."""
        for group, plural in (kind.rsplit("/", 1) for kind in kinds):
            for head in (body["metadata"] for body in self._all(f"{group}/{plural}")):
                space = f"/namespaces/{head['namespace']}" if "namespace" in head else ""
                path = f"{group}{space}/{plural}/{head['name']}"
                if "deletionTimestamp" not in head:
                    self.request("DELETE", path, {"propagationPolicy": "Background"})
                if head.get("finalizers"):
                    self.request("PATCH", path, {"metadata": {"finalizers": None}}, Content_Type="application/merge-patch+json")

    def _all(self, path: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self.request("GET", path)["items"]
        except urllib.error.HTTPError as error:
            if error.code == 404:  # a kind that nobody has installed yet
                return []
            raise
        return found


def established(definition: dict[str, Any]) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()  # null at first
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)


@dataclass
class ApiServer(Server):
    """Two processes of our own. The API server can be killed and started again on the same port and store."""

    assets: Path
    port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        key = self.directory / "service-account.key"
        if not key.exists():
            private = rsa.generate_private_key(65537, 2048)
            form = serialization.PrivateFormat.TraditionalOpenSSL
            key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
            (self.directory / "tokens.csv").write_text(f'{ADMIN},admin,admin,"system:masters"\n{NOBODY},nobody,nobody\n')
        if "etcd" not in self.processes:
            self._run("etcd", self._etcd_options())
        self._run("kube-apiserver", self._apiserver_options(key))
        self._await_ready()

    def _run(self, program: str, options: list[str]) -> None:
        with (self.directory / f"{program}.log").open("ab") as log:
            self.processes[program] = subprocess.Popen([self.assets / program, *options], stdout=log, stderr=log)

    def _etcd_options(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{free_port()}"
        return [
            "--name=test", f"--data-dir={self.directory / 'etcd'}", "--unsafe-no-fsync",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=test={peer}",
        ]  # fmt: skip

    def _apiserver_options(self, key: Path) -> list[str]:
        return [
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", f"--cert-dir={self.directory}",
            "--bind-address=127.0.0.1", f"--secure-port={self.port}", "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC", f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--service-account-issuer=https://127.0.0.1", f"--service-account-signing-key-file={key}", f"--service-account-key-file={key}",
            "--disable-admission-plugins=ServiceAccount", "--profiling=false",
        ]  # fmt: skip

    def _await_ready(self) -> None:
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            try:
                self.write_kubeconfig(self.kubeconfig, ADMIN, self.port)  # with the certificate that the server makes for itself
                self.request("GET", "/readyz")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"no API server after {READY_SECONDS} s: {(self.directory / 'kube-apiserver.log').read_text()[-2000:]}")

    def write_kubeconfig(self, path: Path, token: str, port: int) -> None:
        trusted = base64.b64encode((self.directory / "apiserver.crt").read_bytes()).decode()
        path.write_text(
            yaml.safe_dump({
                "apiVersion": "v1", "kind": "Config", "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": trusted}}],
                "users": [{"name": "test", "user": {"token": token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            })
        )  # fmt: skip

    def forget_history(self) -> None:
        """Have the store compacted, so that no watch can go on from what has been."""
        path = f"http://127.0.0.1:{self.etcd_port}/v3/"
        with urllib.request.urlopen(path + "kv/range", json.dumps({"key": "AA=="}).encode(), timeout=10) as response:
            revision = json.load(response)["header"]["revision"]
        with urllib.request.urlopen(path + "kv/compaction", json.dumps({"revision": revision}).encode(), timeout=10):
            pass

    def kill(self) -> None:
        process = self.processes.pop("kube-apiserver")
        process.kill()
        process.wait()

    def stop(self) -> None:
        for program in ("kube-apiserver", "etcd"):  # the API server first: without its store it would not end
            process = self.processes.pop(program, None)
            if process is not None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
