"""One suite for both implementations of the port to Kubernetes objects: the memory cluster and a real API server behave alike."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from apiserver import Server

from fedplane.runtime.errors import Conflict, Invalid, NotFound
from fedplane.runtime.kinds import CONFIG_MAP, FEDERATED_LEARNING, NAMESPACE
from fedplane.runtime.kubernetes import Patience, open_cluster
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.objects import Change, Kind, Object, Objects

RUN = FEDERATED_LEARNING
RESYNC_SECONDS = 1.0

Named = Callable[..., Object]


@pytest.fixture(params=["memory", "server"])
async def objects(request: pytest.FixtureRequest) -> AsyncIterator[Objects]:
    if request.param == "memory":
        yield MemoryCluster(resync_seconds=RESYNC_SECONDS)
    else:
        server: Server = request.getfixturevalue("kubernetes_server")
        async with open_cluster(str(server.kubeconfig), patience=Patience(resync_seconds=RESYNC_SECONDS)) as cluster:
            yield cluster


@pytest.fixture
async def space(objects: Objects) -> str:
    """A namespace of the test's own."""
    made = await objects.create(NAMESPACE, {"metadata": {"name": f"test-{uuid.uuid4().hex[:8]}"}})
    name: str = made["metadata"]["name"]
    return name


@pytest.fixture
def run(space: str) -> Named:
    """The body of an object of our kind."""

    def body(name: str = "mnist", labels: dict[str, str] | None = None, finalizers: list[str] | None = None, **parts: Any) -> Object:
        metadata: dict[str, Any] = {"name": name, "namespace": space}
        metadata |= {"labels": labels} if labels is not None else {}
        metadata |= {"finalizers": finalizers} if finalizers is not None else {}
        return {"metadata": metadata, **parts}

    return body


def spec(**weights: int) -> dict[str, Any]:
    """Parts in which no server sets a default."""
    return {"framework": "other", "weights": {"cpu": 1, **weights}}


def asked(body: Object | None) -> tuple[dict[str, Any], Any]:
    """What stands in an object because somebody wrote it there, and its generation."""
    assert body is not None
    labels = {"labels": body["metadata"]["labels"]} if body["metadata"].get("labels") else {}
    return labels | {part: body[part] for part in ("spec", "status") if part in body}, body["metadata"].get("generation")


def version(body: Object) -> str:
    said: str = body["metadata"]["resourceVersion"]
    return said


class Watcher:
    """What a watch says, in short: the type of each change and the name of its object."""

    def __init__(self, changes: AsyncIterator[Change]) -> None:
        self._changes = changes

    async def hear(self, number: int) -> list[tuple[str, str]]:
        return [self._short(await asyncio.wait_for(anext(self._changes), 20)) for _ in range(number)]

    async def hear_changes(self, number: int) -> list[tuple[str, str]]:
        """The same without the moments in which everything is compared again."""
        heard: list[tuple[str, str]] = []
        while len(heard) < number:
            heard += [change for change in await self.hear(1) if change[0] != "SYNCED"]
        return heard

    @staticmethod
    def _short(change: Change) -> tuple[str, str]:
        return change.type.value, change.object["metadata"]["name"] if change.object else ""


async def test_what_was_created_is_there_with_an_identity_of_its_own(objects: Objects, run: Named, space: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)

    made = await objects.create(RUN, run(labels={"a": "b"}, spec=spec(memory=60)))

    metadata = made["metadata"]
    assert (made["apiVersion"], made["kind"], metadata["name"], metadata["namespace"]) == (RUN.api_version, RUN.kind, "mnist", space)
    assert asked(made) == ({"labels": {"a": "b"}, "spec": spec(memory=60)}, 1)
    assert uuid.UUID(metadata["uid"])
    assert before <= datetime.fromisoformat(metadata["creationTimestamp"]) <= datetime.now(UTC)
    assert "managedFields" not in metadata
    assert await objects.get(RUN, "mnist", space) == made


async def test_a_name_is_taken_once(objects: Objects, run: Named, space: str) -> None:
    first = await objects.create(RUN, run())
    with pytest.raises(Conflict, match="mnist"):
        await objects.create(RUN, run())

    body = {"metadata": {"generateName": "run-", "namespace": space}}
    names = {(await objects.create(RUN, body))["metadata"]["name"] for _ in range(3)}

    assert await objects.get(RUN, "mnist", space) == first
    assert len(names) == 3
    assert all(name.startswith("run-") for name in names)


async def test_what_is_not_there_cannot_be_written_and_need_not_be_deleted(objects: Objects, run: Named, space: str) -> None:
    assert await objects.get(RUN, "nothing", space) is None
    assert await objects.delete(RUN, "nothing", space) is False
    with pytest.raises(NotFound):
        await objects.merge(RUN, "nothing", {"spec": {}}, space)
    with pytest.raises(NotFound):
        await objects.apply(RUN, run("nothing", status={"message": "x"}), "status", subresource="status")


async def test_what_has_no_name_or_no_namespace_is_refused_before_it_means_everything(objects: Objects, space: str) -> None:
    with pytest.raises(Invalid, match="no namespace"):
        await objects.get(RUN, "mnist")
    with pytest.raises(Invalid, match="without a name"):
        await objects.delete(RUN, "", space)
    with pytest.raises(Invalid, match="without a name"):
        await objects.apply(RUN, {"metadata": {"namespace": space}}, "tester")


async def test_all_objects_come_by_key_and_labels_choose_among_them(objects: Objects, run: Named, space: str) -> None:
    for name, labels in (("c", {"app": "x"}), ("a", {"app": "x", "tier": "1"}), ("b", {"app": "y"}), ("d", {})):
        await objects.create(RUN, run(name, labels))

    def names(found: list[Object]) -> list[str]:
        return [body["metadata"]["name"] for body in found if body["metadata"]["namespace"] == space]

    assert names(await objects.all(RUN, space)) == ["a", "b", "c", "d"]
    assert names(await objects.all(RUN)) == ["a", "b", "c", "d"]
    assert names(await objects.all(RUN, space, {"app": "x"})) == ["a", "c"]
    assert names(await objects.all(RUN, space, {"app": "x", "tier": "1"})) == ["a"]


async def test_kubernetes_own_kinds_are_objects_like_ours(objects: Objects, space: str) -> None:
    body = {"metadata": {"name": "site", "namespace": space, "labels": {"a": "b"}}, "data": {"key": "value"}}

    await objects.create(CONFIG_MAP, body)
    changed = await objects.apply(CONFIG_MAP, {"metadata": body["metadata"], "data": {"more": "x"}}, "tester")
    (listed,) = await objects.all(CONFIG_MAP, space, {"a": "b"})

    assert (listed["apiVersion"], listed["kind"], listed["data"]) == ("v1", "ConfigMap", {"key": "value", "more": "x"})
    assert listed == changed
    assert "generation" not in listed["metadata"]


async def test_applying_makes_an_object_changes_it_and_takes_back_what_is_left_out(objects: Objects, run: Named) -> None:
    made = await objects.apply(RUN, run(labels={"a": "1", "b": "2"}, spec=spec(invite=3, quorum=2)), "tester")
    changed = await objects.apply(RUN, run(labels={"b": "3"}, spec=spec(invite=4)), "tester")

    assert asked(made) == ({"labels": {"a": "1", "b": "2"}, "spec": spec(invite=3, quorum=2)}, 1)
    assert asked(changed) == ({"labels": {"b": "3"}, "spec": spec(invite=4)}, 2)


async def test_applying_the_same_again_changes_nothing(objects: Objects, run: Named) -> None:
    first = await objects.apply(RUN, run(spec=spec(invite=3)), "tester")

    assert await objects.apply(RUN, run(spec=spec(invite=3)), "tester") == first


async def test_managers_hold_what_they_applied_until_somebody_takes_it_by_force(objects: Objects, run: Named, space: str) -> None:
    await objects.apply(RUN, run(spec=spec(invite=3)), "first")
    both = await objects.apply(RUN, run(labels={"a": "b"}, spec={"weights": {"quorum": 2}}), "second")
    assert asked(both) == ({"labels": {"a": "b"}, "spec": spec(invite=3, quorum=2)}, 2)

    with pytest.raises(Conflict, match=r"first[\s\S]*invite|invite[\s\S]*first"):
        await objects.apply(RUN, run(labels={"a": "b"}, spec={"weights": {"quorum": 2, "invite": 5}}), "second")
    assert await objects.get(RUN, "mnist", space) == both

    taken = await objects.apply(RUN, run(labels={"a": "b"}, spec={"weights": {"quorum": 2, "invite": 5}}), "second", force=True)
    assert asked(taken) == ({"labels": {"a": "b"}, "spec": spec(invite=5, quorum=2)}, 3)
    with pytest.raises(Conflict, match="second"):
        await objects.apply(RUN, run(spec=spec(invite=3)), "first")


async def test_what_two_managers_agree_on_stays_until_both_leave_it_out(objects: Objects, run: Named) -> None:
    await objects.apply(RUN, run(labels={"a": "1"}), "first")
    await objects.apply(RUN, run(labels={"a": "1"}), "second")

    one_left = await objects.apply(RUN, run(labels={}), "first")
    none_left = await objects.apply(RUN, run(labels={}), "second")

    assert one_left["metadata"]["labels"] == {"a": "1"}
    assert not none_left["metadata"].get("labels")


async def test_whoever_patches_takes_a_field_from_the_one_who_applied_it(objects: Objects, run: Named, space: str) -> None:
    await objects.apply(RUN, run(spec=spec(invite=3)), "tester")
    await objects.merge(RUN, "mnist", {"spec": {"weights": {"invite": 4}}}, space)

    with pytest.raises(Conflict, match="invite"):
        await objects.apply(RUN, run(spec=spec(invite=3)), "tester")


async def test_a_status_and_its_object_are_written_apart(objects: Objects, run: Named, space: str) -> None:
    made = await objects.apply(RUN, run(spec=spec(), status={"phase": "Failed"}), "tester")
    shown = await objects.apply(RUN, run(spec=spec(invite=9), status={"phase": "Running", "round": 1}), "status", subresource="status")
    changed = await objects.apply(RUN, run(spec=spec(invite=2)), "tester")
    ended = await objects.merge(
        RUN, "mnist", {"status": {"phase": "Completed"}, "spec": {"framework": "flower"}}, space, subresource="status"
    )

    assert asked(made) == ({"spec": spec()}, 1)
    assert asked(shown) == ({"spec": spec(), "status": {"phase": "Running", "round": 1}}, 1)
    assert asked(changed) == ({"spec": spec(invite=2), "status": {"phase": "Running", "round": 1}}, 2)
    assert asked(ended) == ({"spec": spec(invite=2), "status": {"phase": "Completed", "round": 1}}, 2)


async def test_a_patch_merges_objects_replaces_lists_and_removes_what_is_null(objects: Objects, run: Named, space: str) -> None:
    await objects.create(RUN, run(labels={"a": "1", "b": "2"}, spec={**spec(invite=3), "data": {"requiredClaims": ["x", "y"]}}))

    patch = {"metadata": {"labels": {"a": None}}, "spec": {"weights": {"invite": None, "quorum": 2}, "data": {"requiredClaims": ["z"]}}}
    patched = await objects.merge(RUN, "mnist", patch, space)

    assert asked(patched) == ({"labels": {"b": "2"}, "spec": {**spec(quorum=2), "data": {"requiredClaims": ["z"]}}}, 2)


async def test_a_patch_of_a_version_that_has_passed_is_a_conflict(objects: Objects, run: Named, space: str) -> None:
    old = version(await objects.create(RUN, run()))
    new = version(await objects.merge(RUN, "mnist", {"metadata": {"resourceVersion": old, "labels": {"a": "b"}}}, space))

    with pytest.raises(Conflict, match="mnist"):
        await objects.merge(RUN, "mnist", {"metadata": {"resourceVersion": old, "labels": {"a": "c"}}}, space)
    assert old != new


async def test_an_object_with_finalizers_goes_when_the_last_of_them_is_gone(objects: Objects, run: Named, space: str) -> None:
    await objects.create(RUN, run(finalizers=["test.io/one", "test.io/two"]))

    assert await objects.delete(RUN, "mnist", space)
    marked = await objects.get(RUN, "mnist", space)
    assert marked is not None
    assert datetime.fromisoformat(marked["metadata"]["deletionTimestamp"])
    assert marked["metadata"]["generation"] == 2
    assert await objects.delete(RUN, "mnist", space)
    assert await objects.get(RUN, "mnist", space) == marked, "it is marked once"

    with pytest.raises(Invalid, match="mnist"):
        await objects.merge(RUN, "mnist", {"metadata": {"finalizers": ["test.io/one", "test.io/three"]}}, space)
    await objects.merge(RUN, "mnist", {"metadata": {"finalizers": ["test.io/two"]}}, space)
    assert await objects.get(RUN, "mnist", space) is not None
    await objects.merge(RUN, "mnist", {"metadata": {"finalizers": None}}, space)
    assert await objects.get(RUN, "mnist", space) is None


async def test_only_the_object_that_is_meant_is_deleted(objects: Objects, run: Named, space: str) -> None:
    made = await objects.create(RUN, run())
    changed = await objects.merge(RUN, "mnist", {"metadata": {"labels": {"a": "b"}}}, space)

    with pytest.raises(Conflict):
        await objects.delete(RUN, "mnist", space, uid=str(uuid.uuid4()))
    with pytest.raises(Conflict):
        await objects.delete(RUN, "mnist", space, version=version(made))
    assert await objects.delete(RUN, "mnist", space, uid=made["metadata"]["uid"], version=version(changed))
    assert await objects.get(RUN, "mnist", space) is None


async def test_a_watch_says_what_there_is_then_that_this_was_all_then_what_changes(objects: Objects, run: Named, space: str) -> None:
    for name in ("b", "a"):
        await objects.create(RUN, run(name))
    watcher = Watcher(objects.watch(RUN, space))
    assert await watcher.hear(3) == [("ADDED", "a"), ("ADDED", "b"), ("SYNCED", "")]

    await objects.create(RUN, run("c"))
    await objects.merge(RUN, "a", {"metadata": {"labels": {"a": "b"}}}, space)
    await objects.apply(RUN, run("a", status={"round": 1}), "status", subresource="status")
    await objects.apply(RUN, run("a", status={"round": 1}), "status", subresource="status")
    await objects.delete(RUN, "b", space)

    assert await watcher.hear_changes(4) == [("ADDED", "c"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("DELETED", "b")]


async def test_a_watch_of_nothing_is_complete_at_once(objects: Objects, space: str) -> None:
    assert await Watcher(objects.watch(RUN, space)).hear(1) == [("SYNCED", "")]


async def test_what_is_made_anew_under_its_name_is_another_object(objects: Objects, run: Named, space: str) -> None:
    await objects.create(RUN, run())
    watcher = Watcher(objects.watch(RUN, space))
    await watcher.hear(2)

    await objects.delete(RUN, "mnist", space)
    await objects.create(RUN, run())

    assert await watcher.hear_changes(2) == [("DELETED", "mnist"), ("ADDED", "mnist")]


async def test_a_watch_of_labels_loses_what_loses_them(objects: Objects, run: Named, space: str) -> None:
    await objects.create(RUN, run("a", {"app": "x"}))
    await objects.create(RUN, run("b", {"app": "y"}))
    watcher = Watcher(objects.watch(RUN, space, {"app": "x"}))
    assert await watcher.hear(2) == [("ADDED", "a"), ("SYNCED", "")]

    await objects.merge(RUN, "b", {"metadata": {"labels": {"app": "x"}}}, space)
    await objects.merge(RUN, "a", {"metadata": {"labels": {"app": "z"}}}, space)
    await objects.delete(RUN, "a", space)
    await objects.delete(RUN, "b", space)

    assert await watcher.hear_changes(3) == [("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")]


async def test_a_watch_of_all_namespaces_hears_of_each(objects: Objects, run: Named, space: str) -> None:
    everywhere = objects.watch(RUN, labels={"test": space})
    here = objects.watch(RUN, space, {"test": space})
    await asyncio.gather(Watcher(everywhere).hear(1), Watcher(here).hear(1))
    other = (await objects.create(NAMESPACE, {"metadata": {"name": f"{space}-other"}}))["metadata"]["name"]

    await objects.create(RUN, {"metadata": {"name": "there", "namespace": other, "labels": {"test": space}}})
    await objects.create(RUN, run("here", {"test": space}))

    assert await Watcher(everywhere).hear_changes(2) == [("ADDED", "there"), ("ADDED", "here")]
    assert await Watcher(here).hear_changes(1) == [("ADDED", "here")]


async def test_a_watch_compares_everything_again_from_time_to_time(objects: Objects, run: Named, space: str) -> None:
    await objects.create(RUN, run())
    watcher = Watcher(objects.watch(RUN, space))

    assert await watcher.hear(3) == [("ADDED", "mnist"), ("SYNCED", ""), ("SYNCED", "")]


async def test_many_writers_make_as_many_versions_and_a_watch_ends_where_they_end(objects: Objects, run: Named, space: str) -> None:
    watcher = objects.watch(RUN, space)
    await anext(watcher)
    await objects.create(RUN, run(spec=spec()))

    await asyncio.gather(*(objects.merge(RUN, "mnist", {"metadata": {"labels": {f"n{n}": "x"}}}, space) for n in range(20)))

    last = await objects.get(RUN, "mnist", space)
    assert last is not None
    assert last["metadata"]["labels"] == {f"n{n}": "x" for n in range(20)}
    versions = [1]
    for seen in itertools.count():
        change = await asyncio.wait_for(anext(watcher), 20)
        if not change.object:
            continue
        versions.append(int(version(change.object)))
        if change.object == last:
            break
        assert seen < 100, "the last version was never heard of"
    assert versions == sorted(versions)


def test_a_kind_names_its_group_and_version() -> None:
    assert Kind("", "v1", "Pod", "pods").api_version == "v1"
    assert RUN.api_version == "federation-ai.open-cluster-management.io/v1alpha1"
