"""What tests stand on: a real nats-server on loopback, with its own store, as a user's would be."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

READY_SECONDS = 10

settings.register_profile("patient", deadline=None)  # a busy machine makes an example slow, not wrong
if "CI" not in os.environ:  # there, hypothesis has a profile of its own: the same examples every time
    settings.load_profile("patient")


@dataclass
class NatsServer:
    """A nats-server process that can be killed and started again on the same port and store."""

    directory: Path
    port: int = -1
    process: subprocess.Popen[bytes] | None = None
    options: str = ""

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
            f'jetstream {{ store_dir: "{self.directory / "store"}" {self.options} }}\n'
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
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()
