"""When an object may be written next: at once after a rest, once a second under load, and later and later while it does not succeed.

Pure. What is written then is the newest there is, so what comes meanwhile costs nothing, and the last state is always written.
Times are seconds of any clock that does not run backwards.
"""

from dataclasses import dataclass, replace

__all__ = ["Pace"]

WRITE_SECONDS = 1.0
"""At most one write per object in that time: people look at it, and each write goes to everyone who watches the object."""

PAUSE_SECONDS_MAX = 30.0
"""The longest wait between two attempts, and so how late a status may be when the API server is back."""

GONE_SECONDS = 30.0
"""How long an object has to be missing before it counts as deleted. An API server that has just started knows no kinds for some seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What became of the last attempts at one object, as far as it matters for the next one."""

    write_seconds: float = WRITE_SECONDS
    gone_seconds: float = GONE_SECONDS
    next_at: float = 0.0
    pause_seconds: float = 0.0
    missing_since: float | None = None

    def wait_seconds(self, now: float) -> float:
        """How long to wait before the next attempt."""
        return max(0.0, self.next_at - now)

    def succeeded(self, now: float) -> "Pace":
        """The object is as it should be."""
        return Pace(self.write_seconds, self.gone_seconds, next_at=now + self.write_seconds)

    def failed(self, now: float) -> "Pace":
        """It could not be written, and may be later."""
        pause = min(PAUSE_SECONDS_MAX, 2 * self.pause_seconds or self.write_seconds)
        return replace(self, next_at=now + pause, pause_seconds=pause)

    def missed(self, now: float) -> "Pace":
        """It is not there."""
        return replace(self.failed(now), missing_since=now if self.missing_since is None else self.missing_since)

    def gone(self, now: float) -> bool:
        """Whether it has been missing for so long that it will not come back."""
        return self.missing_since is not None and now >= self.missing_since + self.gone_seconds
