"""Whose certificates count: the authorities in two files, read anew when somebody has replaced them.

An authority that is about to end has a successor beside it in the file for a while, so a file may have several.
A file that is half-written at that moment, or gone, is told of, and what was read before goes on to count.
"""

from pathlib import Path

import structlog

from fedplane.authorizer.certificates import parse_all
from fedplane.authorizer.identity import Trust
from fedplane.runtime.errors import BadInput

__all__ = ["Trusting"]


class _Authorities:
    """The fingerprints in one file. Raises BadInput if it cannot be read at first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = self._seen()
        self.fingerprints = _fingerprints(path)

    def look(self) -> frozenset[str]:
        """The fingerprints of now. Of a file that is as it was only the times are read."""
        if (seen := self._seen()) != self._read:
            self._read = seen
            try:
                self.fingerprints = _fingerprints(self._path)
            except BadInput as error:
                structlog.get_logger().warning("going on with the authorities that were read before", why=str(error))
            else:
                structlog.get_logger().info("read authorities anew", file=str(self._path), authorities=len(self.fingerprints))
        return self.fingerprints

    def _seen(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


class Trusting:
    """Whose certificates count at the moment, each time that somebody asks."""

    def __init__(self, addon: str, *, clusters: Path, services: Path) -> None:
        """Raises BadInput when a file cannot be read."""
        self._addon, self._clusters, self._services = addon, _Authorities(clusters), _Authorities(services)

    def __call__(self) -> Trust:
        """The authorities of now."""
        return Trust(self._addon, self._clusters.look(), self._services.look())


def _fingerprints(path: Path) -> frozenset[str]:
    try:
        return frozenset(each.fingerprint for each in parse_all(path.read_bytes()))
    except (OSError, BadInput) as error:
        raise BadInput(f"{path} has no authority's certificate: {error}") from error
