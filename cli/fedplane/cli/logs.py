"""The log files of a deployment's processes: each process appends to its own, and they are kept from growing for ever.

A process holds its file open, so the file is not renamed but copied and emptied; appending goes on at the new end.
What is written between the copy and the emptying is lost: a few lines at most, once in ten megabytes.
"""

import os
import shutil
from pathlib import Path
from typing import BinaryIO

__all__ = ["LOG_BYTES_MAX", "Logs"]

LOG_BYTES_MAX = 10_000_000
"""Of one file; the one before it is kept, too. A day of a service that says a line each second."""

LAST_LINES = 10
"""A traceback's end and what led to it."""

LAST_BYTES = 4096
"""Ten long lines."""


class Logs:
    """A folder with one `<name>.log` per process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where a process's lines are."""
        return self.folder / f"{name}.log"

    def open(self, name: str) -> BinaryIO:
        """The file to append to."""
        return self.path(name).open("ab")

    def last_lines(self, name: str, after: int = 0, count: int = LAST_LINES) -> str:
        """The last lines of a file, of those behind the byte `after`."""
        path = self.path(name)
        with path.open("rb") as lines:
            lines.seek(max(after, path.stat().st_size - LAST_BYTES))
            return "\n".join(lines.read().decode(errors="replace").strip().splitlines()[-count:])

    def shorten(self, bytes_max: int = LOG_BYTES_MAX) -> None:
        """Copy every file that is too large to `<name>.log.1`, and empty it."""
        for path in self.folder.glob("*.log"):
            if path.stat().st_size > bytes_max:
                shutil.copyfile(path, path.with_name(path.name + ".1"))
                os.truncate(path, 0)
