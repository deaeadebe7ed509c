"""Secrets turn up nowhere else than where they belong: whatever leaves a federation is searched for them.

Some are planted where an operator puts them. Others are chance that clusters draw to mask their updates, written down as it is drawn.
Two runs go through every process, one with noise of the aggregators and one with masks and noise of the clusters.
An app tries to give away what it sees, a webhook and a server are not there, and a person asks.
What is searched: the store with its facts, views and dead letters, every log, spans and metrics, command lines, and what commands say.
A resource's status on a hub, and an archive, are made of nothing but facts and views.
"""

import asyncio
import base64
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from machine_story import Machine, machine
from process_story import descendants, processes

from fedplane.cli.deployment import Deployment, roles
from fedplane.cli.supervisor import Stages
from fedplane.privacy.participant import SECRETS_BYTES
from fedplane.schemas.facts import Completed, Declined, Revealed

CLUSTERS = ("alpha", "beta", "gamma", "delta")
BUS, TELEMETRY, PATH, HEADER = "planted-of-the-bus", "planted-of-telemetry", "planted-in-a-path", "planted-in-a-header"
BEGIN_KEY = "-----BEGIN PRIVATE KEY-----"

MASKED = {"secureAggregation": {"weights": "public"}, "differentialPrivacy": {"distributed": {"noiseMultiplier": 1}}}

NOISED = {"differentialPrivacy": {"central": {"noiseMultiplier": 1}}}

PROGRAM = f"""#!{sys.executable} -P
import json, os, shutil, sys
task, directory, data = sys.argv[1:]
if task == "train" and data.endswith("alpha"):
    told = {{name: value for name, value in os.environ.items() if name.split("_")[0] in ("FEDPLANE", "NATS", "OTEL") or "planted" in value}}
    sys.exit(f"seen by the app: {{told}}")
if task == "initialize":
    header = json.dumps({{"w": {{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}}}).encode()
    open(f"{{directory}}/update.safetensors", "wb").write(len(header).to_bytes(8, "little") + header + bytes(8))
elif task == "train":
    shutil.copyfile(f"{{directory}}/model.safetensors", f"{{directory}}/update.safetensors")
json.dump({{"weight": 1, "metrics": {{"loss": 0.5}}}}, open(f"{{directory}}/metrics.json", "w"))
"""


CHANCE = """
import os, sys
if "fedplane.collaborator.main" in sys.orig_argv:
    draw = os.urandom
    def urandom(size):
        drawn = draw(size)
        if size >= 32:
            with open(os.path.join({directory!r}, str(os.getpid())), "a") as written:
                print(drawn.hex(), file=written)
        return drawn
    os.urandom = urandom
"""
"""What a collaborator's Python runs before anything else: it writes down whatever chance could be a key."""


@dataclass
class Left:
    """What has left a federation, by where it was found, the secrets that it was told, and those that clusters have drawn."""

    secrets: dict[str, str]
    found: dict[str, bytes] = field(default_factory=dict)
    drawn: dict[str, bytes] = field(default_factory=dict)

    def leaks(self) -> list[str]:
        forms = {f"{name}, as text": [secret.encode()] for name, secret in self.secrets.items()}
        forms |= {name: list(written(secret)) for name, secret in self.drawn.items()}
        return [f"{name} in {where}" for where, said in self.found.items() for name, every in forms.items() if any(map(said.count, every))]


def written(secret: bytes) -> Iterator[bytes]:
    """How bytes may have been written down: as they are, in hexadecimal, or in base64 of either kind, alone or behind others."""
    yield from (secret, secret.hex().encode())
    for before in range(3):
        inner = slice((8 * before + 5) // 6, 8 * (before + len(secret)) // 6)
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + secret)[inner]


def keys_in(directory: Path) -> dict[str, bytes]:
    """What collaborators have drawn, in pieces as long as a key: some of it is a key, and some is half of a share's coefficient."""
    lines = [(file.name, number, line) for file in directory.iterdir() for number, line in enumerate(file.read_text().splitlines())]
    drawn = {(process, number): bytes.fromhex(line) for process, number, line in lines}
    return {
        f"{process}.{number}.{at}": all_[at : at + 32] for (process, number), all_ in drawn.items() for at in range(0, len(all_) - 31, 32)
    }


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
    (chance := directory / "chance").mkdir()
    (startup := directory / "startup").mkdir()
    (startup / "sitecustomize.py").write_text(CHANCE.format(directory=str(chance)))
    monkeypatch.setenv("PYTHONPATH", str(startup))
    with collector() as (endpoint, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization={TELEMETRY}")
        async with machine(directory, CLUSTERS, insecure=False, table=told_a_password) as it:
            asked: dict[str, Any] = {"framework": "other", "server": {"rounds": 1, "minAvailableClients": 4}, "rounds": {"quorum": 3}}
            noised = await it.end_of(await it.submit(app=app, **asked, privacy=NOISED))
            run = await it.submit(app=app, **asked, privacy=MASKED)
            ended = await it.end_of(run)
            credentials = {"FEDPLANE_CREDENTIALS": str(state / "keys" / "cli.pem")}
            left = Left(
                drawn=keys_in(chance),
                secrets={"password": BUS, "telemetry": TELEMETRY, "path": PATH, "header": HEADER, **secrets_in(state / "keys")},
            )
            left.found["command lines"] = "\n".join(command for _, command, _ in processes(descendants(os.getpid()))).encode()
            left.found |= await asked_by_a_person(it, run, directory, credentials)
            view = await it.view_at_end(run)
        left.found["telemetry"] = b"".join(bodies)
    left.found["view"] = view.model_dump_json().encode()
    left.found["facts"] = "\n".join(record.fact.model_dump_json() for record in it.log).encode()
    declined = [record.fact for record in it.log if isinstance(record.fact, Declined)]
    assert isinstance(noised, Completed) and isinstance(ended, Completed), (noised, ended)
    assert [(fact.cluster, "seen by the app" in str(fact)) for fact in declined] == [("alpha", True)]
    assert sorted(record.fact.cluster for record in it.log if isinstance(record.fact, Revealed)) == ["beta", "delta", "gamma"]
    left.found |= files_in(state)
    return left


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield asyncio.run(lived_through(tmp_path_factory.mktemp("planted"), monkeypatch))


def test_everything_that_leaves_a_federation_was_searched(left: Left) -> None:
    secrets, places = {*left.secrets}, {*left.found}

    assert {
        "password",
        "telemetry",
        "path",
        "header",
        "callout.seed",
        "callout.password",
        "system.password",
        "scheduler.pem",
        "noise.secret",
    } <= secrets
    assert {"telemetry", "facts", "view", "command lines", "doctor", "forward, and nobody answers", "logs/scheduler.log"} <= places
    assert [name for name, secret in left.secrets.items() if len(secret) < 10] == [], "a short one is found by chance"
    assert [name for name, said in left.found.items() if name in ("telemetry", "facts") and len(said) < 2_000] == []
    assert [name for name in places if name.endswith(".blk")], "the server's store is where facts, views and dead letters are"
    assert b"127.0.0.1:9" in left.found["forward, and nobody answers"]
    assert len({name.partition(".")[0] for name in left.drawn}) == 3, "those who train have drawn secrets"
    assert len(left.drawn) >= 3 * (SECRETS_BYTES // 32 + 1), "for masks and for noise"


def test_no_secret_leaves_a_federation(left: Left) -> None:
    assert left.leaks() == []


def test_a_secret_that_leaves_is_found() -> None:
    key = bytes(range(200, 232))
    found = {
        "a log": f"nats://fedplane:{BUS}@127.0.0.1".encode(),
        "a fact": base64.urlsafe_b64encode(b"share" + key + b"!"),
        "another": b"",
    }

    assert Left({"password": BUS}, found, {"key": key}).leaks() == ["password, as text in a log", "key in a fact"]
