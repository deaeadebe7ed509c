"""What a watcher has seen of a list of objects, and hence what a new look at the list means: the pure half of a watch.

A watch is a list, and changes from there on. When the changes were lost, only another list helps, and it says nothing of what is gone.
So the watcher remembers what it handed over, and compares.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fedplane.runtime.objects import Change, ChangeType, Key, Object, key_of

__all__ = ["Mirror"]


@dataclass
class Mirror:
    """The objects that were handed over, as they were."""

    objects: dict[Key, Object] = field(default_factory=dict)

    def listed(self, bodies: Iterable[Object]) -> Iterator[Change]:
        """What differs between the whole list and what was handed over: deletions first, each part by key."""
        now = {key_of(body): body for body in bodies}
        for key in sorted(self.objects):
            if key not in now:
                yield Change(ChangeType.DELETED, self.objects.pop(key))
        for key in sorted(now):
            yield from self.stored(now[key])

    def stored(self, body: Object) -> Iterator[Change]:
        """The object is now this. Nothing follows from what was handed over already."""
        key = key_of(body)
        known = self.objects.get(key)
        self.objects[key] = body
        if known is None:
            yield Change(ChangeType.ADDED, body)
        elif known["metadata"].get("uid") != body["metadata"].get("uid"):
            yield Change(ChangeType.DELETED, known)
            yield Change(ChangeType.ADDED, body)
        elif known["metadata"].get("resourceVersion") != body["metadata"].get("resourceVersion"):
            yield Change(ChangeType.MODIFIED, body)

    def removed(self, body: Object) -> Iterator[Change]:
        """The object is gone, or is no longer one of those that are watched."""
        if self.objects.pop(key_of(body), None) is not None:
            yield Change(ChangeType.DELETED, body)
