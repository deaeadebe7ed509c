"""What a watch and a request make of an API server that dies, forgets, falls silent or refuses."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from apiserver import NOBODY, ApiServer, free_port
from line_story import line

from fedplane.runtime.errors import ApiDenied, ApiUnreachable, BadInput, Invalid, NotFound
from fedplane.runtime.kinds import CONFIG_MAP, FEDERATED_LEARNING, NAMESPACE
from fedplane.runtime.kubernetes import KubernetesCluster, Patience, open_cluster
from fedplane.runtime.objects import Change, ChangeType, Kind, Object

IMPATIENT = Patience(connect_seconds=0.5, request_seconds=5, silence_seconds=1, refusal_seconds=0.5, pause_max_seconds=1)
SEEN_SECONDS = 30


@pytest.fixture
async def cluster(api_server: ApiServer) -> AsyncIterator[KubernetesCluster]:
    async with open_cluster(str(api_server.kubeconfig)) as opened:
        yield opened


@pytest.fixture
async def space(cluster: KubernetesCluster) -> str:
    made = await cluster.create(NAMESPACE, {"metadata": {"name": f"test-{uuid.uuid4().hex[:8]}"}})
    name: str = made["metadata"]["name"]
    return name


def settings(name: str, space: str, **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": space}, "data": data}


def elsewhere(server: ApiServer, directory: Path, port: int, token: str | None = None) -> str:
    """A kubeconfig that leads to another port, or for somebody else."""
    path = directory / f"kubeconfig-{port}"
    server.write_kubeconfig(path, token or "token-of-the-admin", port)
    return str(path)


async def changes(watch: AsyncIterator[Change], number: int) -> list[tuple[str, str]]:
    """The next changes, without the moments in which everything is compared."""
    heard: list[tuple[str, str]] = []
    async with asyncio.timeout(SEEN_SECONDS):
        while len(heard) < number:
            change = await anext(watch)
            heard += [(change.type.value, change.object["metadata"]["name"])] if change.object else []
    return heard


async def synced(watch: AsyncIterator[Change]) -> list[str]:
    names = []
    async with asyncio.timeout(SEEN_SECONDS):
        async for change in watch:
            if change.type is ChangeType.SYNCED:
                break
            names.append(change.object["metadata"]["name"])
    return names


async def test_a_watch_misses_nothing_while_the_server_is_killed_and_comes_back(
    cluster: KubernetesCluster, api_server: ApiServer, space: str
) -> None:
    watch, seen = cluster.watch(CONFIG_MAP, space), {}

    async def listen() -> None:
        async for change in watch:
            if change.type is ChangeType.DELETED:
                del seen[change.object["metadata"]["name"]]
            elif change.object:
                seen[change.object["metadata"]["name"]] = change.object.get("data")

    async def write(number: int) -> None:
        """Until the server takes it: each of these can be repeated."""
        while True:
            with contextlib.suppress(ApiUnreachable, ApiDenied):  # a server that has just started knows no roles
                await cluster.apply(CONFIG_MAP, settings(f"s{number % 40}", space, value=str(number)), "tester")
                if number % 3 == 0:
                    await cluster.delete(CONFIG_MAP, f"s{number % 40}", space)
                return
            await asyncio.sleep(0.05)

    listener = asyncio.create_task(listen())
    for number in range(150):
        await write(number)
        if number == 60:
            api_server.kill()
            starting = asyncio.create_task(asyncio.to_thread(api_server.start))
    await starting

    truth = {body["metadata"]["name"]: body.get("data") for body in await cluster.all(CONFIG_MAP, space)}
    assert len(truth) > 20
    async with asyncio.timeout(SEEN_SECONDS):
        while seen != truth:
            assert not listener.done(), listener.result()
            await asyncio.sleep(0.05)
    listener.cancel()


async def test_what_was_deleted_while_the_server_forgot_is_told_as_deleted(
    cluster: KubernetesCluster, api_server: ApiServer, space: str, tmp_path: Path
) -> None:
    for name in ("goes", "changes", "is-replaced", "stays"):
        await cluster.create(CONFIG_MAP, settings(name, space))
    async with (
        line(api_server.port) as between,
        open_cluster(elsewhere(api_server, tmp_path, between.port), patience=IMPATIENT) as far,
    ):
        watch = far.watch(CONFIG_MAP, space)
        assert await synced(watch) == ["changes", "goes", "is-replaced", "stays"]
        next_change = asyncio.create_task(changes(watch, 5))
        await asyncio.sleep(0.2)

        between.server_port = free_port()
        between.break_off()
        await cluster.delete(CONFIG_MAP, "goes", space)
        await cluster.delete(CONFIG_MAP, "is-replaced", space)
        await cluster.create(CONFIG_MAP, settings("is-replaced", space))
        await cluster.merge(CONFIG_MAP, "changes", {"data": {"value": "1"}}, space)
        await cluster.create(CONFIG_MAP, settings("comes", space))
        api_server.forget_history()
        api_server.kill()
        await asyncio.to_thread(api_server.start)
        between.server_port = api_server.port

        assert await next_change == [
            ("DELETED", "goes"),
            ("MODIFIED", "changes"),
            ("ADDED", "comes"),
            ("DELETED", "is-replaced"),
            ("ADDED", "is-replaced"),
        ]


async def test_a_line_that_fell_silent_is_found_out_and_left(
    cluster: KubernetesCluster, api_server: ApiServer, space: str, tmp_path: Path
) -> None:
    async with line(api_server.port) as between, open_cluster(elsewhere(api_server, tmp_path, between.port), patience=IMPATIENT) as far:
        watch = far.watch(CONFIG_MAP, space)
        await synced(watch)
        next_change = asyncio.create_task(changes(watch, 1))
        await asyncio.sleep(0.2)

        between.fall_silent()
        await cluster.create(CONFIG_MAP, settings("unheard", space))

        assert await next_change == [("ADDED", "unheard")]


async def test_a_list_of_several_pages_is_whole(cluster: KubernetesCluster, space: str) -> None:
    names = [f"s{number:04d}" for number in range(510)]
    for begin in range(0, len(names), 50):
        await asyncio.gather(*(cluster.create(CONFIG_MAP, settings(name, space)) for name in names[begin : begin + 50]))

    assert [body["metadata"]["name"] for body in await cluster.all(CONFIG_MAP, space)] == names
    assert await synced(cluster.watch(CONFIG_MAP, space)) == names


async def test_a_server_that_is_not_there_is_said_to_be_unreachable(api_server: ApiServer, tmp_path: Path) -> None:
    async with open_cluster(elsewhere(api_server, tmp_path, free_port()), patience=IMPATIENT) as nowhere:
        with pytest.raises(ApiUnreachable, match=r"could not get the ConfigMap a: .*127\.0\.0\.1"):
            await nowhere.get(CONFIG_MAP, "a", "default")
        with pytest.raises(ApiUnreachable, match="could not list objects of kind ConfigMap"):
            await asyncio.wait_for(anext(nowhere.watch(CONFIG_MAP)), 10)


async def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(api_server: ApiServer, tmp_path: Path) -> None:
    patience = Patience(request_seconds=0.5)
    async with await asyncio.start_server(lambda *_: asyncio.sleep(10), "127.0.0.1", 0) as mute:
        port = mute.sockets[0].getsockname()[1]
        async with open_cluster(elsewhere(api_server, tmp_path, port), patience=patience) as nowhere:
            with pytest.raises(ApiUnreachable, match="could not get the ConfigMap a"):
                await nowhere.get(CONFIG_MAP, "a", "default")


async def test_who_is_not_allowed_hears_it_at_once_and_a_watch_a_little_later(api_server: ApiServer, tmp_path: Path) -> None:
    async with open_cluster(elsewhere(api_server, tmp_path, api_server.port, NOBODY), patience=IMPATIENT) as denied:
        with pytest.raises(ApiDenied, match=r'could not get the ConfigMap a: .* User "nobody" cannot get resource "configmaps"'):
            await denied.get(CONFIG_MAP, "a", "default")
        with pytest.raises(ApiDenied, match='User "nobody" cannot list'):
            await asyncio.wait_for(anext(denied.watch(CONFIG_MAP)), 10)


async def test_a_token_that_nobody_has_is_denied(api_server: ApiServer, tmp_path: Path) -> None:
    async with open_cluster(elsewhere(api_server, tmp_path, api_server.port, "x"), patience=IMPATIENT) as unknown:
        with pytest.raises(ApiDenied, match="Unauthorized"):
            await unknown.get(CONFIG_MAP, "a", "default")


async def test_a_kind_that_the_server_does_not_know_is_not_found(api_server: ApiServer) -> None:
    unknown = Kind("fedplane.io", "v1", "Nothing", "nothings")
    async with open_cluster(str(api_server.kubeconfig), patience=IMPATIENT) as opened:
        with pytest.raises(NotFound, match="could not list objects of kind Nothing"):
            await asyncio.wait_for(anext(opened.watch(unknown)), 10)


async def test_what_the_schema_refuses_is_invalid_with_the_fields_path(cluster: KubernetesCluster, space: str) -> None:
    body: dict[str, Any] = {"metadata": {"name": "a", "namespace": space}, "spec": {"server": {"rounds": 0}}}

    with pytest.raises(Invalid, match=r"could not create the FederatedLearning a: .* spec\.server\.rounds: Invalid value: 0"):
        await cluster.create(FEDERATED_LEARNING, body)
    with pytest.raises(Invalid, match=r"spec\.server\.rounds"):
        await cluster.apply(FEDERATED_LEARNING, body, "tester")


async def test_without_a_kubeconfig_one_has_to_be_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(BadInput, match="by a pod's service account; outside of a cluster, name a kubeconfig"):
        async with open_cluster():
            pass
    with pytest.raises(BadInput, match=r"by the kubeconfig .*nowhere"):
        async with open_cluster(str(tmp_path / "nowhere")):
            pass
