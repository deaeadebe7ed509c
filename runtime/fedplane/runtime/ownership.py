"""Who holds which fields of an object, and what applying or patching does to it: the pure half of a Kubernetes API server's writes.

Server-side apply: a manager says all the fields that it wants; what it wanted before and says no more goes away, unless another holds it.
A field that another manager holds with a different value is a conflict, unless the manager takes it over by force.
Who creates or patches takes what it changes from everyone.

A field is a path of names to what is no object. A list is one field; servers know lists that are merged by a key, and we apply none.
Source: the Kubernetes documentation, Server-Side Apply; RFC 7386, JSON Merge Patch.
"""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Owners", "Path", "applied", "conflicts", "fields", "merged", "taken"]

Path = tuple[str, ...]

Owners = Mapping[str, frozenset[Path]]
"""The fields that each manager holds."""


def fields(body: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field with its value; an empty object is a field."""
    for name, value in body.items():
        if isinstance(value, dict) and value:
            yield from fields(value, (*above, name))
        else:
            yield (*above, name), value


def conflicts(live: Mapping[str, Any], owners: Owners, manager: str, wanted: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """Who holds which of the wanted fields with a different value."""
    held = dict(fields(live))
    differing = {path for path, value in fields(wanted) if path in held and held[path] != value}
    return sorted((other, path) for other, paths in owners.items() if other != manager for path in paths & differing)


def applied(live: dict[str, Any], owners: Owners, manager: str, wanted: dict[str, Any]) -> tuple[dict[str, Any], Owners]:
    """The object and its owners after a manager applied what it wants, by force where need be."""
    asked = dict(fields(wanted))
    others = {other: paths for other, paths in owners.items() if other != manager}
    held = frozenset(path for paths in others.values() for path in paths)
    body = live
    for path in sorted(owners.get(manager, frozenset()) - asked.keys() - held):
        body = _without(body, path)
    lost = {path for _, path in conflicts(live, owners, manager, wanted)}
    return merged(body, wanted, drop_nulls=False), {other: paths - lost for other, paths in others.items()} | {manager: frozenset(asked)}


def taken(before: Mapping[str, Any], after: Mapping[str, Any], owners: Owners, manager: str) -> Owners:
    """The owners after a manager changed an object otherwise than by applying: what it changed is its own."""
    old, new = dict(fields(before)), dict(fields(after))
    changed = frozenset(path for path, value in new.items() if path not in old or old[path] != value)
    gone = old.keys() - new.keys()
    return {other: paths - changed - gone for other, paths in owners.items()} | {
        manager: (owners.get(manager, frozenset()) | changed) - gone
    }


def merged(body: dict[str, Any], patch: Mapping[str, Any], *, drop_nulls: bool = True) -> dict[str, Any]:
    """A merge patch: objects are merged, null removes, anything else replaces."""
    result = dict(body)
    for name, value in patch.items():
        if value is None and drop_nulls:
            result.pop(name, None)
        elif isinstance(value, dict):
            below = result.get(name)
            result[name] = merged(below if isinstance(below, dict) else {}, value, drop_nulls=drop_nulls)
        else:
            result[name] = value
    return result


def _without(body: dict[str, Any], path: Path) -> dict[str, Any]:
    """The object without a field, and without the objects that were only there to hold it."""
    name, rest = path[0], path[1:]
    if name not in body:
        return body
    below = body[name]
    kept = _without(below, rest) if rest and isinstance(below, dict) else None
    return {key: value for key, value in body.items() if key != name} | ({name: kept} if kept else {})
