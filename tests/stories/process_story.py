"""Which processes there are on this machine, for tests that kill one of them or want none to be left."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def processes_of(what: object) -> list[str]:
    """The commands of all processes that have this in their command or their environment: a directory, say."""
    return [command for _, command, told in processes(_all()) if str(what) in told]


def process_of(word: str, variable: str = "") -> int:
    """The one process below this one with that word in its command and that variable in its environment."""
    return next(pid for pid, command, told in processes(descendants(os.getpid())) if word in command and variable in told)


def descendants(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(FileNotFoundError):  # a thread, or a process, that has ended meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (thread / "children").read_text().split()]
    return children + [below for child in children for below in descendants(child)]


def processes(pids: list[int]) -> Iterator[tuple[int, str, str]]:
    """Of each: its id, its command, and command and environment together."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended meanwhile, or is none of ours
            command, environment = (_text(Path(f"/proc/{pid}/{name}")) for name in ("cmdline", "environ"))
            yield pid, command, f"{command} {environment}"


def _all() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit() and int(each.name) != os.getpid()]


def _text(file: Path) -> str:
    return file.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
