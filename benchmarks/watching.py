"""What processes hold at most, found out by looking at them and all that they start, again and again while something else is measured.

The kernel keeps each process's peak, so a look now and then misses only what a process took in its very last moments.
Needs Linux, as `measuring` does.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from measuring import usage

__all__ = ["Peaks", "descendants", "watched"]

LOOK_SECONDS = 0.1

Peaks = dict[str, float]
"""Megabytes by role: the largest process of that role."""


def descendants(pid: int) -> list[int]:
    """A process and all that it started, and all that those started."""
    children: dict[int, list[int]] = defaultdict(list)
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
                children[int((each / "stat").read_text().rpartition(")")[2].split()[1])].append(int(each.name))
    found = [pid]
    for parent in found:
        found.extend(children[parent])
    return found


@contextmanager
def watched(roots: Callable[[], Mapping[str, int]], role_of: Callable[[str, str], str]) -> Iterator[Peaks]:
    """The peaks of everything below some processes, which are known by name. `role_of` makes a role of that name and a command line."""
    peaks: Peaks = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            for name, root in roots().items():
                for pid in descendants(root):
                    try:
                        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        peak = usage(pid).peak_megabytes
                    except (FileNotFoundError, ProcessLookupError, KeyError):
                        continue  # it has ended since, or is about to: then it has no memory any more
                    role = role_of(name, command)
                    peaks[role] = max(peaks.get(role, 0.0), peak)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield peaks
    finally:
        over.set()
        looking.join()
