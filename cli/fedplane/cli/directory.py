"""The directory of a local deployment: where everything is, whose it is, and what is remembered in it.

    .fedplane/
      nats/             the server's stores: the deployment's whole state
      logs/             what every process writes
      work/             the collaborators' working directories
      servers/          the driver's working directory
      keys/             who is let in, and by what: see `keys`
      nats-server.conf  what the server was told the last time
      clusters.yaml     the clusters of the last time, claims resolved
      up.json           what runs now, for people and programs; gone when nothing does
      up.lock           held by the process that keeps it all running, with its pid inside

Who keeps a deployment running is decided by the lock and not by `up.json`.
The kernel gives a lock back however its holder ends, so it never lies, whereas a pid in a file may by now be somebody else's.
"""

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ValidationError

from fedplane.runtime.errors import Unavailable

__all__ = ["DEFAULT", "Directory", "Record"]

DEFAULT = Path(".fedplane")
"""Beside the user's own files, as `.git` and `.venv` are: a project has its federation."""

PRIVATE = 0o700
"""Of the folders: what runs and clusters leave there, as logs, models and the files of apps, is not for others on this machine."""


class Record(BaseModel):
    """What runs now: `up.json`. `page_url` is where runs can be watched in a browser; empty in the record of an earlier version.

    `ready` is whether every process was started and the server accepts connections.
    `credentials` is the bundle by which the command line is let in; there is none if everybody is, which `insecure` says.
    """

    pid: int
    nats_url: str
    page_url: str = ""
    credentials: Path | None = None
    insecure: bool = False
    started_at: AwareDatetime
    ready: bool
    processes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Directory:
    """The paths, and what can be done with them."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> "Directory":
        """The directory by its absolute path: processes that run elsewhere are given parts of it."""
        return cls(path.absolute())

    @property
    def store(self) -> Path:
        return self.path / "nats"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def servers(self) -> Path:
        return self.path / "servers"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def configuration(self) -> Path:
        return self.path / "nats-server.conf"

    @property
    def clusters(self) -> Path:
        return self.path / "clusters.yaml"

    @property
    def record(self) -> Path:
        return self.path / "up.json"

    def command(self, words: str) -> str:
        """What a person types to have `fedplane WORDS` mean this directory."""
        return f"fedplane {words}" + ("" if self.path == DEFAULT.absolute() else f" --state {shlex.quote(str(self.path))}")

    def make(self) -> None:
        """Make the folders that are missing. Raises Unavailable when they cannot be made or written to."""
        try:
            for folder in (self.store, self.logs, self.work, self.servers):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(PRIVATE)
            self._lock.touch()
        except OSError as error:
            raise Unavailable(f"cannot write to {self.path}: {error.strerror}; choose another directory with --state") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the directory, which is made if need be, to this process until the block ends.

        Raises Unavailable when another process holds it.
        """
        self.make()
        with self._lock.open("a+", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Unavailable(self._already_up()) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                lock.truncate(0)

    def holder(self) -> int | None:
        """The pid of the process that holds the directory; 0 in the instant in which it has not said so yet; None if there is none."""
        try:
            lock = self._lock.open(encoding="ascii")
        except FileNotFoundError:
            return None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0)
        return None

    def read_record(self) -> Record | None:
        """What `up.json` says. None if there is none; one that nobody can read says nothing either."""
        try:
            return Record.model_validate_json(self.record.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write_record(self, record: Record) -> None:
        """Replace `up.json` at once: a reader sees the old one or the new one."""
        self.write(self.record, record.model_dump_json(indent=2) + "\n")

    def write(self, path: Path, text: str) -> None:
        """Replace one of the files. Raises Unavailable when that cannot be done."""
        new = path.with_name(path.name + ".new")
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(path)
        except OSError as error:
            raise Unavailable(f"cannot write {path}: {error.strerror}") from error

    @property
    def _lock(self) -> Path:
        return self.path / "up.lock"

    def _already_up(self) -> str:
        record = self.read_record()
        at = f", at {record.nats_url}" if record else ""
        return f"already up, pid {self.holder()}{at}; `{self.command('down')}` ends it"
