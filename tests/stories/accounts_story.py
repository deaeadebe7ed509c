"""A server with a federation's accounts that lets in whom the authorizer lets in, and all that it takes to be let in.

The accounts are those of `fedplane up` and of deploy/base, so that what is tried here is what holds there.
"""

import asyncio
import os
import signal
import ssl
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from authority_story import ADDON, Authority, Known
from conftest import NatsServer
from nats.aio.client import Client

from fedplane.authorizer.tokens import Signer
from fedplane.runtime.nats import Credentials
from fedplane.runtime.nats.connection import close
from fedplane.schemas.roles import Role

__all__ = ["ADMIN_PASSWORD", "CALLOUT_PASSWORD", "SEED", "SYSTEM_PASSWORD", "GuardedServer", "Processes"]

SEED = "SAAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYMHI"
"""Of the 32 bytes 0, 1, 2 ... 31."""

CALLOUT_PASSWORD, SYSTEM_PASSWORD, ADMIN_PASSWORD = "callout", "connections", "streams"

CONFIGURATION = """
tls {{ cert_file: "{server.certificate}", key_file: "{server.key}", ca_file: "{authorities}", verify: true, handshake_first: 500ms }}
accounts {{
  SYS {{
    users: [ {{
      user: system, password: {system}
      permissions: {{
        publish: ["$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.CONNZ", "$SYS.REQ.SERVER.*.KICK"], subscribe: ["_INBOX.>"]
      }}
    }} ]
  }}
  AUTH {{
    users: [ {{
      user: authorizer, password: {callout}
      permissions: {{ publish: ["$SYS._INBOX.>", "_INBOX.>"], subscribe: ["$SYS.REQ.USER.AUTH"] }}
    }} ]
  }}
  BUS {{
    jetstream: enabled
    users: [ {admin} ]
    exports: [
      {{ service: "log.fed.v1.>" }}, {{ service: "bulk.fed.v1.>" }}, {{ service: "listen.fed.v1.>" }}
      {{ service: "$JS.API.DIRECT.GET.>" }}, {{ service: "$JS.API.CONSUMER.MSG.NEXT.>", response_type: stream }}
      {{ stream: "fed.v1.>" }}
    ]
  }}
  CLUSTERS {{
    imports: [
      {{ service: {{ account: BUS, subject: "log.fed.v1.>" }} }}, {{ service: {{ account: BUS, subject: "bulk.fed.v1.>" }} }}
      {{ service: {{ account: BUS, subject: "listen.fed.v1.>" }} }}, {{ service: {{ account: BUS, subject: "$JS.API.DIRECT.GET.>" }} }}
      {{ service: {{ account: BUS, subject: "$JS.API.CONSUMER.MSG.NEXT.>" }} }}
    ]
  }}
  SUBSCRIBERS {{ imports: [ {{ stream: {{ account: BUS, subject: "fed.v1.>" }} }} ] }}
}}
authorization {{ auth_callout {{ issuer: {issuer}, account: AUTH, auth_users: [ authorizer, system{others} ] }} }}
system_account: SYS
"""


class GuardedServer:
    """The server, the authorities that it knows, and the files that an authorizer is told of.

    `admin` is whether there is a user that may do everything with the streams, which no federation has: for what a test looks at itself.
    """

    def __init__(self, directory: Path, *, admin: bool = False) -> None:
        directory.mkdir(exist_ok=True)
        self.directory, self.ocm, self.ours = directory, Authority(directory, "ocm"), Authority(directory, "ours")
        self.signer = Signer(SEED)
        authorities = directory / "authorities"
        authorities.write_text(self.ocm.file.read_text() + self.ours.file.read_text())
        further = CONFIGURATION.format(
            server=self.ours.sign("nats", host="localhost"), authorities=authorities, issuer=self.signer.public,
            system=SYSTEM_PASSWORD, callout=CALLOUT_PASSWORD, others=", admin" if admin else "",
            admin=f"{{ user: admin, password: {ADMIN_PASSWORD} }}" if admin else "",
        )  # fmt: skip
        self.server = NatsServer(directory / "bus", further=further)
        self.secrets = {name: directory / name for name in ("callout_seed", "callout_password", "system_password")}
        for path, secret in zip(self.secrets.values(), (SEED, CALLOUT_PASSWORD, SYSTEM_PASSWORD), strict=True):
            path.write_text(secret + "\n")

    @property
    def url(self) -> str:
        return f"tls://localhost:{self.server.port}"

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return (self.server.directory / "nats.log").read_text()

    def known(self, role: Role, name: str) -> Known:
        return self.ocm.agent(name) if role is Role.COLLABORATOR else self.ours.sign(f"fedplane:{role}:{name}")

    def credentials(self, role: Role, name: str, listening: str = "") -> Credentials:
        return self.known(role, name).credentials(self.ours.file, role, name, listening)

    @asynccontextmanager
    async def user(self, name: str, password: str) -> AsyncIterator[Client]:
        """A connection of one of the users whom the configuration names."""
        known = self.ours.sign("operators")
        tls = ssl.create_default_context(cafile=self.ours.file)
        tls.load_cert_chain(known.certificate, known.key)
        connection = await nats.connect(self.url, user=name, password=password, tls=tls, tls_handshake_first=True)
        try:
            yield connection
        finally:
            await close(connection)

    def told(self, role: Role, name: str = "") -> dict[str, str]:
        """What a process of that role is told of the server and of itself."""
        known = self.known(role, name or role)
        settings = {
            "NATS_URL": self.url, "TLS_CERTIFICATE": known.certificate, "TLS_KEY": known.key, "TLS_AUTHORITY": self.ours.file,
            "TLS_NAME": name,
        }  # fmt: skip
        if role is Role.AUTHORIZER:
            settings |= {each.upper(): path for each, path in self.secrets.items()}
            settings |= {"SERVICES_AUTHORITY": self.ours.file, "CLUSTERS_AUTHORITY": self.ocm.file, "ADDON": ADDON}
        return {f"FEDPLANE_{each}": str(value) for each, value in settings.items()}


class Processes:
    """Processes of ours, each with a log of its own. At the end of the block they are told to end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: dict[str, Process] = {}

    async def start(self, name: str, module: str, environment: Mapping[str, str]) -> Process:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, env={**os.environ, **environment}, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.running[name] = process
        return process

    async def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        await process.wait()

    def said(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    async def until_said(self, name: str, words: str, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while words not in self.said(name):
                assert self.running[name].returncode is None, self.said(name)
                await asyncio.sleep(0.02)

    async def __aenter__(self) -> "Processes":
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.running.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                async with asyncio.timeout(15):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
