"""The configuration that deploy/ gives to nats-server, given to a real one: it starts, its probes answer, and the streams fit.

Addresses and directories are this machine's, by nats-server's own options; everything else is as on a cluster.
"""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
from apiserver import free_port
from manifest_story import container, named, settings_class

from fedplane.runtime.errors import BusFull, Unreachable
from fedplane.runtime.nats import Limits, open_bus

READY_SECONDS = 30
STREAMS = {"LOG", "FLEET", "TIMERS", "WORK", "BULK", "KV_runs"}


@dataclass
class Deployed:
    """Servers that run as a kustomization says."""

    name: str
    directory: Path
    ports: tuple[int, ...]
    monitoring: tuple[int, ...]

    @property
    def url(self) -> str:
        return ",".join(f"nats://127.0.0.1:{port}" for port in self.ports)

    def ask(self, server: int, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitoring[server]}{path}", timeout=5) as response:
                return json.load(response)
        except (urllib.error.URLError, OSError) as error:
            return {"status": repr(error)}

    def probe(self, server: int, probe: str) -> str:
        said: str = self.ask(server, container(named(self.name, "StatefulSet", "nats"))[probe]["httpGet"]["path"])["status"]
        return said

    def limits(self, **changed: str) -> Limits:
        told = named(self.name, "ConfigMap", "settings")["data"] | changed
        settings = settings_class("scheduler")(**{key.removeprefix("FEDPLANE_").lower(): value for key, value in told.items()})
        return Limits(log_bytes=settings.log_bytes, bulk_bytes=settings.bulk_bytes, replicas=settings.stream_replicas)


@contextlib.contextmanager
def deployed(name: str, directory: Path) -> Iterator[Deployed]:
    servers = named(name, "StatefulSet", "nats")["spec"]["replicas"]
    it = Deployed(name, directory, *(tuple(free_port() for _ in range(servers)) for _ in range(2)))
    routes = [free_port() for _ in range(servers)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for server in range(servers):
            home = directory / str(server)
            home.mkdir()
            for file, text in named(name, "ConfigMap", "nats")["data"].items():
                (home / file).write_text(text.replace("/etc/nats-tls", str(directory)).replace("store_dir: /data", f"store_dir: {home}"))
            options = ["-a", "127.0.0.1", "-p", it.ports[server], "-m", it.monitoring[server]]
            if servers > 1:
                all_routes = ",".join(f"nats://127.0.0.1:{each}" for each in routes)
                options += ["--cluster", f"nats://127.0.0.1:{routes[server]}", "--routes", all_routes]
            command = [Path(sys.executable).parent / "nats-server", "--config", home / "nats.conf", *options]
            log = (directory / f"{server}.log").open("wb")
            processes.append(subprocess.Popen([str(each) for each in command], stderr=log, env=os.environ | {"POD_NAME": f"nats-{server}"}))
        give_up = time.monotonic() + READY_SECONDS
        while {it.probe(server, "readinessProbe") for server in range(servers)} != {"ok"}:
            alive = all(process.poll() is None for process in processes)
            assert alive and time.monotonic() < give_up, (directory / "0.log").read_text()[-2000:]
            time.sleep(0.05)
        yield it
    finally:
        for process in processes:
            process.terminate()
            process.wait()


@pytest.mark.parametrize("name", ["base", "overlays/production"])
async def test_the_streams_that_the_services_make_fit_the_store_that_the_servers_have(name: str, tmp_path: Path) -> None:
    with deployed(name, tmp_path) as bus:
        await declared(bus)
        found = streams(bus)

        assert found == {stream: bus.limits().replicas for stream in STREAMS}
        assert {
            bus.probe(server, probe) for server in range(len(bus.ports)) for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        } == {"ok"}
        assert bus.ask(0, "/jsz")["config"]["max_storage"] == 19 * 2**30


async def declared(bus: Deployed) -> None:
    """What a service does at its start, and its Deployment for it: try again while the servers have not yet agreed on who leads."""
    give_up = time.monotonic() + READY_SECONDS
    while True:
        try:
            async with open_bus(bus.url, name="test", source="/test", limits=bus.limits()):
                return
        except Unreachable:
            if time.monotonic() > give_up:
                raise


def streams(bus: Deployed) -> dict[str, int]:
    """How many copies there are of each stream."""
    accounts = bus.ask(0, "/jsz?acc=$G&streams=true&config=true")["account_details"]
    return {each["name"]: each["config"]["num_replicas"] for each in accounts[0]["stream_detail"]}


async def test_streams_that_do_not_fit_are_refused_in_words(tmp_path: Path) -> None:
    with deployed("base", tmp_path) as bus, pytest.raises(BusFull, match="max_file_store"):
        async with open_bus(bus.url, name="test", source="/test", limits=bus.limits(FEDPLANE_BULK_BYTES="22000000000")):
            raise AssertionError("they fit")


async def test_the_backlog_is_where_the_autoscaler_reads_it(tmp_path: Path) -> None:
    """KEDA adds up `num_pending` and `num_ack_pending` of the consumer, in the answer to this question."""
    (trigger,) = named("production, load balancer, KEDA", "ScaledObject", "aggregator")["spec"]["triggers"]
    told = trigger["metadata"]
    with deployed("base", tmp_path) as bus:
        async with open_bus(bus.url, name="test", source="/test", limits=bus.limits()) as opened:
            for shard in range(3):
                await opened.work.offer(f"work.fed.v1.mnist-0.0.{shard}")
            async with opened.work.lease(1.0):
                said = bus.ask(0, f"/jsz?acc={told['account']}&consumers=true&config=true")

    (account,) = said["account_details"]
    (stream,) = [each for each in account["stream_detail"] if each["name"] == told["stream"]]
    (consumer,) = [each for each in stream["consumer_detail"] if each["name"] == told["consumer"]]
    assert (consumer["num_pending"], consumer["num_ack_pending"]) == (2, 1)


async def test_behind_a_route_clients_greet_first_and_inside_the_cluster_they_need_no_certificate(tmp_path: Path) -> None:
    certify(tmp_path)
    trust = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
    with deployed("overlays/openshift", tmp_path) as bus:
        inside = await nats.connect(bus.url, allow_reconnect=False)
        outside = await nats.connect(bus.url.replace("nats:", "tls:"), tls=trust, tls_handshake_first=True, allow_reconnect=False)
        heard = await inside.subscribe("greeting")
        await inside.flush()
        await outside.publish("greeting", b"from outside")
        message = await heard.next_msg(timeout=5)
        await asyncio.gather(inside.close(), outside.close())

    assert message.data == b"from outside"


def certify(directory: Path) -> None:
    """A certificate for loopback, signed by itself."""
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject, *made], check=True, capture_output=True
    )
