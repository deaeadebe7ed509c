"""The configuration that deploy/ gives to nats-server and the authorizer, given to real ones: they start, and let in whom they should.

Addresses and directories are this machine's, by nats-server's own options; everything else is as on a cluster.
"""

import json
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from apiserver import Server, free_port
from authority_story import Authority
from conftest import NatsServer
from deployed_story import HOSTS, READY_SECONDS, Deployed, Pod, deployed, secrets
from manifest_story import named
from work_story import begin, learning, now, register, until_works

from fedplane.cli.access import init, issue
from fedplane.cli.accounts import guarded
from fedplane.cli.keys import Keys
from fedplane.collaborator.settings import CollaboratorSettings
from fedplane.runtime.errors import BusFull, Unreachable
from fedplane.runtime.kinds import MANIFEST_WORK
from fedplane.runtime.kubernetes import open_cluster
from fedplane.runtime.nats import open_bus
from fedplane.runtime.service import credentials_of
from fedplane.scheduler.credentials import certificates
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.works import work
from fedplane.schemas.facts import Cancelled
from fedplane.schemas.models import Chosen
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import listen, work_on

STREAMS = {"LOG", "FLEET", "ACCESS", "TIMERS", "WORK", "BULK", "KV_runs"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deployed("base", tmp_path_factory.mktemp("base")) as it:
        yield it


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deployed("overlays/production", tmp_path_factory.mktemp("production")) as it:
        yield it


@pytest.mark.parametrize("name", ["base", "production"])
async def test_the_streams_that_the_services_make_fit_the_store_that_the_servers_have(name: str, request: pytest.FixtureRequest) -> None:
    bus: Deployed = request.getfixturevalue(name)

    await declared(bus)

    assert streams(bus) == {stream: bus.limits().replicas for stream in STREAMS}
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    assert {bus.probe(server, probe) for server in range(len(bus.ports)) for probe in probes} == {"ok"}
    assert bus.ask(0, "/jsz")["config"]["max_storage"] == 19 * 2**30


async def declared(bus: Deployed) -> None:
    """What a service does at its start, and its Deployment for it: try again until somebody lets it in, and servers agree on who leads."""
    give_up = time.monotonic() + READY_SECONDS
    while True:
        try:
            async with open_bus(bus.url, name="test", source="/test", limits=bus.limits(), credentials=bus.credentials("scheduler")):
                return
        except Unreachable:
            if time.monotonic() > give_up:
                raise


def streams(bus: Deployed) -> dict[str, int]:
    """How many copies there are of each stream."""
    accounts = bus.ask(0, "/jsz?acc=BUS&streams=true&config=true")["account_details"]
    return {each["name"]: each["config"]["num_replicas"] for each in accounts[0]["stream_detail"]}


async def test_streams_that_do_not_fit_are_refused_in_words(base: Deployed) -> None:
    limits = base.limits(FEDPLANE_BULK_BYTES="22000000000")
    server = NatsServer(base.directory / "empty", options=f", max_file_store: {base.ask(0, '/jsz')['config']['max_storage']}")
    server.start()
    try:
        with pytest.raises(BusFull, match="max_file_store"):
            async with open_bus(server.url, name="test", source="/test", limits=limits):
                raise AssertionError("they fit")
    finally:
        server.stop()


async def test_the_backlog_is_where_the_autoscaler_reads_it(base: Deployed) -> None:
    """KEDA adds up `num_pending` and `num_ack_pending` of the consumer, in the answer to this question."""
    (trigger,) = named("production, load balancer, KEDA", "ScaledObject", "aggregator")["spec"]["triggers"]
    told = trigger["metadata"]
    await declared(base)
    async with open_bus(base.url, name="test", source="/test", credentials=base.credentials("aggregator")) as opened:
        for shard in range(3):
            await opened.work.offer(work_on("fold", "mnist-0", 0, shard))
        async with opened.work.lease(1.0):
            said = base.ask(0, f"/jsz?acc={told['account']}&consumers=true&config=true")

    (account,) = said["account_details"]
    (stream,) = [each for each in account["stream_detail"] if each["name"] == told["stream"]]
    (consumer,) = [each for each in stream["consumer_detail"] if each["name"] == told["consumer"]]
    assert (consumer["num_pending"], consumer["num_ack_pending"]) == (2, 1)


ACCOUNTS = ("BUS", "CLUSTERS", "SUBSCRIBERS", "AUTH", "SYS")


def test_accounts_lend_each_other_what_they_do_on_one_machine(base: Deployed, tmp_path: Path) -> None:
    keys = Keys(base.directory / "keys")
    options = json.dumps(guarded(keys))[1:-1]
    local = NatsServer(tmp_path, further=f"http: 127.0.0.1:{free_port()}\n{options}")
    local.start()
    try:
        monitoring = int(local.further.split()[1].rpartition(":")[2])
        here = {name: lent(f"http://127.0.0.1:{monitoring}", name) for name in ACCOUNTS}
    finally:
        local.stop()

    there = {name: lent(f"http://127.0.0.1:{base.monitoring[0]}", name) for name in ACCOUNTS}
    assert there == here
    assert len(there["BUS"]["exports"]) == 6


def lent(monitoring: str, account: str) -> Any:
    """What an account exports and imports, as the server has understood it."""
    with urllib.request.urlopen(f"{monitoring}/accountz?acc={account}") as answer:
        detail = json.load(answer)["account_detail"]
    lists = {name: detail.get(name, []) for name in ("exports", "imports")}
    lists["exports"] = [{name: value for name, value in each.items() if name != "approved_accounts"} for each in lists["exports"]]
    return {name: sorted(each, key=json.dumps) for name, each in lists.items()} | {"jetstream": detail["jetstream_enabled"]}


async def test_nobody_is_let_in_without_a_certificate_of_one_of_the_authorities(base: Deployed, tmp_path: Path) -> None:
    strangers = Authority(tmp_path, "strangers").sign("fedplane:cli:cli")
    services = base.directory / "keys/services.crt"
    bare, strange = (ssl.create_default_context(cafile=services) for _ in range(2))
    strange.load_cert_chain(strangers.certificate, strangers.key)

    for url, tls in ((base.url, bare), (base.url, strange), (base.url.replace("tls:", "nats:"), None)):
        with pytest.raises((nats.errors.Error, OSError)):
            await nats.connect(url, tls=tls, tls_handshake_first=tls is not None, allow_reconnect=False, connect_timeout=20)


async def test_a_clusters_pod_is_let_in_by_what_it_is_sent(base: Deployed) -> None:
    await declared(base)
    issue(Role.COLLABORATOR, "amsterdam", output=base.directory / "amsterdam.pem", authority=base.directory / "keys")
    bundle = (base.directory / "amsterdam.pem").read_text()
    outfit = Outfit("ours:1", base.url, authority=certificates((base.directory / "keys/services.crt").read_text()))
    made = work("r-1", learning(), Chosen(cluster="amsterdam", score=1, terms=()), outfit)
    job, authority = made["spec"]["workload"]["manifests"]
    secret = {"fedplane-collaborator-fedplane.io-collaborator-client-cert": {"tls.crt": bundle.encode(), "tls.key": bundle.encode()}}
    pod = Pod(base.directory / "r-1", job, secret | {"r-1": {name: text.encode() for name, text in authority["data"].items()}})
    pod.mount()

    told = {name.removeprefix("FEDPLANE_").lower(): value for name, value in pod.told("collaborator").items()}
    settings = CollaboratorSettings(**told)
    credentials = credentials_of(settings, Role.COLLABORATOR, settings.cluster, listen(Role.COLLABORATOR, settings.cluster, settings.run))
    async with open_bus(settings.nats_url, name="test", source="/test", credentials=credentials) as opened:
        assert opened.is_connected()


async def test_a_scheduler_on_a_hub_sends_clusters_by_what_they_know_the_bus_and_each_other(base: Deployed, hub_server: Server) -> None:
    outside = {"FEDPLANE_OUTSIDE_URL": "tls://outside.example.org:4222", "FEDPLANE_HEALTH_PORT": str(free_port())}
    pod = base.pod("scheduler", FEDPLANE_KUBERNETES=str(hub_server.kubeconfig), **outside)
    await declared(base)
    base.start(pod, "scheduler", sys.executable, "-m", "fedplane.scheduler.main")

    async with (
        open_cluster(str(hub_server.kubeconfig)) as hub,
        open_bus(base.url, name="test", source="/test", credentials=base.credentials("scheduler")) as bus,
    ):
        await register(hub, "rotterdam")
        await begin(bus.log, "r-known", "rotterdam")
        await until_works(hub, ("rotterdam", "r-known"))
        sent = await hub.get(MANIFEST_WORK, "r-known", "rotterdam")
        await bus.log.state(Cancelled(run="r-known", at=now()))
        await until_works(hub)

    assert sent is not None
    keys = base.directory / "keys"
    assert [each.get("data") for each in sent["spec"]["workload"]["manifests"]] == [
        None, {name: (keys / name).read_text() for name in ("services.crt", "clusters.crt")},
    ]  # fmt: skip


def test_a_renewed_certificate_is_shown_without_a_restart(base: Deployed) -> None:
    before = shown(base)

    init(base.directory / "keys", HOSTS, "90d")
    base.files |= secrets(base.directory / "keys")
    base.servers[0].files = base.files
    base.servers[0].mount()

    give_up = time.monotonic() + READY_SECONDS
    while shown(base) == before:
        assert time.monotonic() < give_up, (base.directory / "reloader-0.log").read_text()[-2000:]
        time.sleep(0.1)
    assert base.ask(0, "/varz")["config_load_time"] > base.ask(0, "/varz")["start"]


def shown(bus: Deployed) -> str:
    return ssl.get_server_certificate(("localhost", bus.ports[0]))


def test_a_certificate_of_our_authority_makes_nobody_a_server(production: Deployed) -> None:
    """Whoever is taken for a server may do everything, and an operator's certificate has the same authority as a server's."""
    production.start_server(3, certificate="fedplane-scheduler-tls")

    give_up = time.monotonic() + READY_SECONDS
    while "Authorization Violation" not in (log := (production.directory / "nats-3.log").read_text(errors="replace")):
        assert time.monotonic() < give_up, log[-2000:]
        time.sleep(0.1)
    names = {route["remote_name"] for server in range(3) for route in production.ask(server, "/routez")["routes"]}
    assert names == {"nats-0", "nats-1", "nats-2"}
