"""Cuts the sleeps in which Flower's processes wait before they ask again: Python imports this by itself where this folder is on its path.

What is left of a round there is processes and bytes, so the comparison can say how much of the difference is mere waiting.
Shorter sleeps stay, since nothing waits for those, and so do longer ones: after these Flower kills what has not ended.
"""

import time

SHORTEST_SECONDS, LONGEST_SECONDS = 0.5, 3.0
"""flwr 1.41: replies are asked for every 3 s, messages every 3 s, what a ClientApp made every 0.5 s; a process has 5 s to end."""

CUT_SECONDS = 0.02

_sleep = time.sleep


def _sleep_less(seconds: float) -> None:
    _sleep(CUT_SECONDS if SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS else seconds)


time.sleep = _sleep_less  # type: ignore[assignment]  # Python's own takes whatever has an index, too; Flower gives it numbers
