"""Secrets that are planted where an operator puts them turn up nowhere else: whatever leaves a federation is searched for them.

One run goes through every process. An app tries to give away what it sees, a webhook and a server are not there, and a person asks.
What is searched: the store with its facts, views and dead letters, every log, spans and metrics, command lines, and what commands say.
A resource's status on a hub, and an archive, are made of nothing but facts and views.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from machine_story import Machine, machine
from process_story import descendants, processes

from fedplane.cli.deployment import Deployment, roles
from fedplane.cli.supervisor import Stages
from fedplane.schemas.facts import Completed, Declined

CLUSTERS = ("alpha", "beta")
BUS, TELEMETRY, PATH, HEADER = "planted-of-the-bus", "planted-of-telemetry", "planted-in-a-path", "planted-in-a-header"
BEGIN_KEY = "-----BEGIN PRIVATE KEY-----"

PROGRAM = f"""#!{sys.executable} -P
import json, os, shutil, sys
task, directory, data = sys.argv[1:]
if task == "train" and data.endswith("alpha"):
    told = {{name: value for name, value in os.environ.items() if name.split("_")[0] in ("FEDPLANE", "NATS", "OTEL") or "planted" in value}}
    sys.exit(f"seen by the app: {{told}}")
if task == "initialize":
    header = json.dumps({{"w": {{"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}}}).encode()
    open(f"{{directory}}/update.safetensors", "wb").write(len(header).to_bytes(8, "little") + header + bytes(8))
elif task == "train":
    shutil.copyfile(f"{{directory}}/model.safetensors", f"{{directory}}/update.safetensors")
json.dump({{"weight": 1, "metrics": {{"loss": 0.5}}}}, open(f"{{directory}}/metrics.json", "w"))
"""


@dataclass
class Left:
    """What has left a federation, by where it was found, and the secrets that it was told."""

    secrets: dict[str, str]
    found: dict[str, bytes] = field(default_factory=dict)

    def leaks(self) -> list[str]:
        return [
            f"{name} in {where}" for where, said in self.found.items() for name, secret in self.secrets.items() if secret.encode() in said
        ]


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Where telemetry is sent, and the bodies that were."""
    bodies: list[bytes] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """It says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        server.server_close()


def with_password(url: str) -> str:
    scheme, _, address = url.partition("://")
    return f"{scheme}://fedplane:{BUS}@{address}"


def told_a_password(deployment: Deployment) -> Stages:
    """The usual processes, each with a password in the bus's address."""
    told = {"FEDPLANE_NATS_URL": with_password(deployment.nats_url)}
    return [[replace(process, environment={**process.environment, **told}) for process in stage] for stage in roles(deployment)]


async def said_by(*arguments: str, environment: Mapping[str, str]) -> bytes:
    command = [sys.executable, "-m", "fedplane.cli.main", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **environment}
    )
    said, _ = await process.communicate()
    return said


async def asked_by_a_person(it: Machine, run: str, directory: Path, credentials: Mapping[str, str]) -> dict[str, bytes]:
    """What the commands say that meet a secret, first of all those that fail."""
    url, nowhere = with_password(it.up.nats_url), with_password(it.up.nats_url.partition("://")[0] + "://127.0.0.1:1")
    header = directory / "header"
    header.write_text(f"Bearer {HEADER}")
    address = f"http://someone:{PATH}@127.0.0.1:9/{PATH}?token={PATH}"
    forward = ("forward", address, "--name", "planted", "--header-file", f"Authorization-Of={header}")
    commands = {
        "doctor": ("doctor", "--url", url),
        "events": ("events", run, "--url", url),
        "get, and nobody answers": ("get", run, "--url", nowhere),
        "forward, and nobody answers": (
            *forward,
            "--url",
            url,
            "--run",
            run,
            "--from-start",
            "--once",
            "--attempts",
            "1",
            "--name",
            "planted",
        ),
    }
    return {name: await said_by(*arguments, environment=credentials) for name, arguments in commands.items()}


def files_in(state: Path) -> dict[str, bytes]:
    """What is on disk, but for what only its owner may read and which has secrets because it is meant to."""
    meant = {*(state / "keys").iterdir(), *state.glob("nats-server.conf")}
    files = [file for file in state.rglob("*") if file.is_file()]
    return {str(file.relative_to(state)): file.read_bytes() for file in files if file not in meant or file.stat().st_mode & 0o077}


def secrets_in(keys: Path) -> dict[str, str]:
    """What stands in the files of a federation that asks for certificates: passwords, a seed, and a line of each private key."""
    files = {file.name: file.read_text() for file in keys.iterdir()} if keys.exists() else {}
    lines = {name: text.partition(BEGIN_KEY)[2].splitlines()[2] for name, text in files.items() if BEGIN_KEY in text}
    return {**{name: text.strip() for name, text in files.items() if "-----" not in text}, **lines}


async def lived_through(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Left:
    state, app = directory / "state", directory / "app"
    app.mkdir(parents=True)
    (app / "federate").write_text(PROGRAM)
    (app / "federate").chmod(0o755)
    with collector() as (endpoint, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization={TELEMETRY}")
        async with machine(directory, CLUSTERS, insecure=False, table=told_a_password) as it:
            run = await it.submit(app=app, framework="other", server={"rounds": 1, "minAvailableClients": 2}, rounds={"quorum": 1})
            ended = await it.end_of(run)
            credentials = {"FEDPLANE_CREDENTIALS": str(state / "keys" / "cli.pem")}
            left = Left({"password": BUS, "telemetry": TELEMETRY, "path": PATH, "header": HEADER, **secrets_in(state / "keys")})
            left.found["command lines"] = "\n".join(command for _, command, _ in processes(descendants(os.getpid()))).encode()
            left.found |= await asked_by_a_person(it, run, directory, credentials)
            view = await it.view_at_end(run)
        left.found["telemetry"] = b"".join(bodies)
    left.found["view"] = view.model_dump_json().encode()
    left.found["facts"] = "\n".join(record.fact.model_dump_json() for record in it.log).encode()
    declined = [record.fact for record in it.log if isinstance(record.fact, Declined)]
    assert isinstance(ended, Completed), ended
    assert [(fact.cluster, "seen by the app" in str(fact)) for fact in declined] == [("alpha", True)]
    left.found |= files_in(state)
    return left


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield asyncio.run(lived_through(tmp_path_factory.mktemp("planted"), monkeypatch))


def test_everything_that_leaves_a_federation_was_searched(left: Left) -> None:
    secrets, places = {*left.secrets}, {*left.found}

    assert {"password", "telemetry", "path", "header", "callout.seed", "callout.password", "system.password", "scheduler.pem"} <= secrets
    assert {"telemetry", "facts", "view", "command lines", "doctor", "forward, and nobody answers", "logs/scheduler.log"} <= places
    assert [name for name, secret in left.secrets.items() if len(secret) < 10] == [], "a short one is found by chance"
    assert [name for name, said in left.found.items() if name in ("telemetry", "facts") and len(said) < 2_000] == []
    assert [name for name in places if name.endswith(".blk")], "the server's store is where facts, views and dead letters are"
    assert b"127.0.0.1:9" in left.found["forward, and nobody answers"]


def test_no_secret_leaves_a_federation(left: Left) -> None:
    assert left.leaks() == []


def test_a_secret_that_leaves_is_found() -> None:
    assert Left({"password": BUS}, {"a log": f"nats://fedplane:{BUS}@127.0.0.1".encode(), "another": b""}).leaks() == ["password in a log"]
