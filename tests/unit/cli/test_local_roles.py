"""What runs beside the bus, what it is told, and how patient the supervisor is with it."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fedplane.cli.clusters import Allocatable, Cluster
from fedplane.cli.deployment import Deployment, authorizer, roles
from fedplane.cli.directory import Directory
from fedplane.cli.keys import Keys
from fedplane.cli.server import Configuration
from fedplane.cli.supervisor import Patience, Process

SHARED = {"FEDPLANE_NATS_URL": "nats://127.0.0.1:4300", "FEDPLANE_INSECURE": "true", "FEDPLANE_BULK_BYTES": "1480000000"}


def _module(name: str, role: str, replica: str, **settings: str) -> Process:
    command = (sys.executable, "-P", "-m", f"fedplane.{role}.main")
    return Process(name, command, {**SHARED, "FEDPLANE_REPLICA": replica, **settings})


def test_a_federation_is_its_services_and_then_the_driver_and_a_collaborator_for_each_cluster():
    hospital = Cluster(
        name="hospital-a", claims={"data": "/data/a"}, allocatable=Allocatable(cpu="4", memory="8Gi"), labels={"region": "eu"}
    )
    deployment = Deployment(Directory(Path("/state")), Configuration(4300, 2_000_000_000), (hospital, Cluster(name="b")), 2, page_port=4281)

    assert roles(deployment) == (
        (
            _module("scheduler", "scheduler", "0"),
            _module("aggregator-0", "aggregator", "0", FEDPLANE_NOISE_SECRET="/state/keys/noise.secret"),
            _module("aggregator-1", "aggregator", "1", FEDPLANE_NOISE_SECRET="/state/keys/noise.secret"),
            _module("status", "status", "0", FEDPLANE_PAGE_PORT="4281", FEDPLANE_PAGE_HOST="127.0.0.1"),
        ),
        (
            Process(
                "driver",
                (sys.executable, "-P", "-m", "fedplane.collaborator.driver.main"),
                {**SHARED, "FEDPLANE_REPLICA": "0", "FEDPLANE_WORKDIR": "/state/servers"},
            ),
            _module(
                "collaborator-hospital-a",
                "collaborator",
                "hospital-a",
                FEDPLANE_CLUSTER="hospital-a",
                FEDPLANE_CLAIMS='{"data": "/data/a"}',
                FEDPLANE_LABELS='{"region": "eu"}',
                FEDPLANE_WORKDIR="/state/work/hospital-a",
                FEDPLANE_CPU="4",
                FEDPLANE_MEMORY="8Gi",
            ),
            _module(
                "collaborator-b",
                "collaborator",
                "b",
                FEDPLANE_CLUSTER="b",
                FEDPLANE_CLAIMS="{}",
                FEDPLANE_LABELS="{}",
                FEDPLANE_WORKDIR="/state/work/b",
            ),
        ),
    )


def test_each_process_of_a_federation_with_keys_shows_its_own_bundle_and_a_cluster_that_of_its_cluster(tmp_path: Path):
    keys = Keys(tmp_path)
    deployment = Deployment(
        Directory(Path("/state")), Configuration(4300, 2_000_000_000), (Cluster(name="b"),), 1, page_port=4281, keys=keys
    )
    every = [authorizer(deployment, keys), *(process for stage in roles(deployment) for process in stage)]

    shown = {
        process.name: {process.environment[f"FEDPLANE_TLS_{file}"] for file in ("CERTIFICATE", "KEY", "AUTHORITY")} for process in every
    }
    assert shown == {
        "authorizer": {f"{tmp_path}/authorizer.pem"},
        "scheduler": {f"{tmp_path}/scheduler.pem"},
        "aggregator-0": {f"{tmp_path}/aggregator.pem"},
        "status": {f"{tmp_path}/status.pem"},
        "driver": {f"{tmp_path}/driver.pem"},
        "collaborator-b": {f"{tmp_path}/collaborator-b.pem"},
    }
    assert {(process.environment["FEDPLANE_NATS_URL"], process.environment["FEDPLANE_INSECURE"]) for process in every} == {
        ("tls://127.0.0.1:4300", "false")
    }
    whose_peers = {process.name: told for process in every if (told := process.environment.get("FEDPLANE_PEERS_AUTHORITY"))}
    assert whose_peers == {"collaborator-b": f"{tmp_path}/clusters.crt"}


def test_only_the_authorizer_is_told_where_the_secrets_are_and_what_they_are_nobody(tmp_path: Path):
    keys = Keys(tmp_path)
    keys.provide([], datetime(2026, 3, 2, tzinfo=UTC))
    deployment = Deployment(Directory(Path("/state")), Configuration(4300, 2_000_000_000), (), 1, keys=keys)
    told = authorizer(deployment, keys)
    others = "".join(str(process) for stage in roles(deployment) for process in stage)
    secrets = (keys.seed, keys.callout_password, keys.system_password)

    assert [str(path) in str(told.environment) for path in secrets] == [True] * 3
    assert [str(path) in others or path.read_text() in f"{told}{others}" for path in secrets] == [False] * 3
    assert str(told.health_port) == told.environment["FEDPLANE_HEALTH_PORT"]


@pytest.mark.parametrize("insecure", [True, False])
def test_only_aggregators_are_told_where_noise_is_drawn_from_and_all_of_them_the_same(tmp_path: Path, insecure: bool):
    keys = None if insecure else Keys(tmp_path / "keys")
    deployment = Deployment(Directory(tmp_path), Configuration(4300, 2_000_000_000), (Cluster(name="b"),), 2, keys=keys)

    told = {process.name: process.environment.get("FEDPLANE_NOISE_SECRET") for stage in roles(deployment) for process in stage}

    assert {name: path for name, path in told.items() if path} == {
        "aggregator-0": f"{tmp_path}/keys/noise.secret",
        "aggregator-1": f"{tmp_path}/keys/noise.secret",
    }


def test_the_wait_before_a_restart_doubles_up_to_five_seconds_and_after_ten_restarts_there_is_none():
    patience = Patience()

    assert [patience.delay_seconds([0.0] * deaths, 0.0) for deaths in range(1, 12)] == [0.2, 0.4, 0.8, 1.6, 3.2, *[5.0] * 5, None]


def test_deaths_of_more_than_a_minute_ago_are_forgotten():
    assert Patience().delay_seconds([0.0, 30.0, 59.0, 60.5], 61.0) == 0.8


@given(
    deaths=some.lists(some.floats(0, 1000), max_size=30).map(sorted),
    patience=some.builds(Patience, some.floats(0.01, 1), some.floats(1, 10), some.integers(0, 20), some.floats(1, 100)),
)
def test_every_wait_is_within_its_bounds_and_none_means_too_many_deaths_in_the_window(deaths: list[float], patience: Patience):
    delay_seconds = patience.delay_seconds(deaths, 1000.0)

    recent = [at for at in deaths if at > 1000.0 - patience.window_seconds]
    if len(recent) > patience.restarts_max:
        assert delay_seconds is None
    else:
        assert delay_seconds is not None
        assert patience.delay_seconds_min <= delay_seconds <= patience.delay_seconds_max
