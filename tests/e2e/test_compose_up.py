"""Docker takes the files for Compose, and the services' part of them comes up from images that are built here.

The first needs Docker's Compose and no engine, the second an engine that answers; a machine without them leaves these tests out.
What is in the files is checked without either, in `test_compose_files`.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from sources import ROOT

SERVICES = ("nats", "authorizer", "scheduler", "aggregator", "status")
COMBINED = ((), ("compose.observe.yaml",), ("compose.cluster.yaml",), ("compose.observe.yaml", "compose.cluster.yaml"))
ASKED_SECONDS = 20
BUILT_SECONDS = 1_500
"""Six images, each with a Python and some packages to download."""


def answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=ASKED_SECONDS, check=False).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


class Compose:
    """`docker compose` of these files, as a project of its own that has no port in common with others."""

    def __init__(self, files: tuple[str, ...], project: str) -> None:
        self.command = ["docker", "compose", "--project-name", project, *(word for file in files for word in ("--file", file))]

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self.command, *words], cwd=ROOT, capture_output=True, text=True, timeout=BUILT_SECONDS, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.mark.parametrize("further", COMBINED, ids=lambda files: " ".join(files) or "alone")
def test_docker_takes_the_files(further: tuple[str, ...]) -> None:
    if not answers("docker", "compose", "version"):
        pytest.skip("there is no `docker compose` to read the files with")

    said = json.loads(Compose(("compose.yaml", *further), "read")("--profile", "example", "config", "--format", "json"))

    assert said["services"]["aggregator"]["deploy"]["replicas"] == 3
    assert ("grafana" in said["services"], "nats-2" in said["services"]) == tuple(
        file in further for file in ("compose.observe.yaml", "compose.cluster.yaml")
    )


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    if shutil.which("docker") is None or not answers("docker", "info") or not answers("docker", "compose", "version"):
        pytest.skip("no Docker engine answers")
    portless = tmp_path_factory.mktemp("compose") / "portless.yaml"
    portless.write_text("services: {nats: {ports: !reset []}, status: {ports: !reset []}}\n")
    it = Compose(("compose.yaml", str(portless)), f"fedplane-test-{os.getpid()}")
    try:
        it("up", "--build", "--detach", "--wait", *SERVICES)
        yield it
    finally:
        it("--profile", "example", "down", "--volumes", "--timeout", "5")


@pytest.mark.timeout(2 * BUILT_SECONDS)
def test_the_services_come_up_and_take_a_run(compose: Compose) -> None:
    running: list[dict[str, Any]] = [json.loads(line) for line in compose("ps", "--format", "json").splitlines()]

    (run,) = compose("run", "--rm", "--build", "-T", "example", "fedplane", "submit", "/example/federatedlearning.yaml").split()
    view = json.loads(compose("run", "--rm", "-T", "example", "fedplane", "get", run, "-o", "json"))

    assert {(each["Service"], each["State"]) for each in running} == {(service, "running") for service in SERVICES}
    assert [[each["Service"] for each in running].count(service) for service in ("aggregator", "authorizer")] == [3, 2]
    assert (view["run"], view["phase"]) == (run, "Waiting"), "no cluster is there"
