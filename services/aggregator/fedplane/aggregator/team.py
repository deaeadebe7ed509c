"""A few threads for the arithmetic of folds: they share the jobs of one step, and a step ends when all of its jobs are done.

One core reads memory, hashes and adds at a fraction of what two can do.
Arithmetic and hashing leave Python's lock to others, so threads are enough, and they work on the same memory.
Jobs of one step may be done in any order: which thread does which decides nothing but the time.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["Job", "Team", "threads_here"]

Job = Callable[[], None]

THREADS_MAX = 8
"""More of them wait for memory: two to four cores read as fast as memory delivers."""

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Where a container on Linux reads its CPU limit (cgroup v2): microseconds in each period, or `max`."""


class Team:
    """Threads that help whoever has jobs. Several callers share them."""

    def __init__(self, threads: int) -> None:
        self._helpers = threads - 1  # the caller is one of the threads
        self._pool = ThreadPoolExecutor(self._helpers, thread_name_prefix="fold") if self._helpers else None

    def do(self, jobs: Sequence[Job]) -> None:
        """Do them all, and return then. If some fail, raises what the first of them in the sequence raised."""
        left, failed = deque(enumerate(jobs)), dict[int, Exception]()
        helping = [self._pool.submit(_work, left, failed) for _ in range(min(self._helpers, len(jobs) - 1))] if self._pool else []
        _work(left, failed)
        for help_ in helping:
            if not help_.cancel():  # a helper that is busy with another caller's jobs is not waited for
                help_.result()
        if failed:
            raise failed[min(failed)]


def _work(left: deque[tuple[int, Job]], failed: dict[int, Exception]) -> None:
    while True:
        try:
            number, job = left.popleft()
        except IndexError:  # nothing is left
            return
        try:
            job()
        except Exception as error:  # noqa: BLE001 -- the caller raises it
            failed[number] = error


def threads_here() -> int:
    """As many as there are cores that this process may use, up to `THREADS_MAX`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _limit(), THREADS_MAX))


def _limit() -> int:
    """The container's CPU limit in whole cores, rounded up, so that half a core more is used."""
    try:
        quota, period = CPU_LIMIT.read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no container, or no limit
        return THREADS_MAX
