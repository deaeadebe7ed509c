"""The files that make containers say what the code says: roles, settings, clusters, loopback."""

import importlib
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifest_story import settings_class
from page_story import typed
from sources import ROOT

from fedplane.aggregator.asking import check
from fedplane.schemas.resources import FederatedLearning

DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
EXAMPLE = ROOT / "examples/01-mnist"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def started(service: dict[str, Any]) -> str:
    """What it starts: the role that its image is built for, unless it has a command of its own."""
    *_, module = service.get("command", [service["build"]["args"]["ROLE"]])
    return str(module).removeprefix("fedplane.").removesuffix(".main")


TYPED = {"example"}  # what a person runs, and no process of a federation; the others end before one begins
ROLES = {name: started(service) for name, service in SERVICES.items() if "build" in service and name not in TYPED | {"shards", "keys"}}

every_role = pytest.mark.parametrize("role", sorted(set(ROLES.values())))
every_process = pytest.mark.parametrize(("name", "role"), ROLES.items(), ids=ROLES)


def instructions(name: str) -> Iterator[str]:
    """The Dockerfile's instructions of one name, continued lines joined."""
    for line in DOCKERFILE.replace("\\\n", " ").splitlines():
        if line.startswith(name + " "):
            yield line.removeprefix(name + " ")


def test_the_federation_has_every_service_and_three_aggregators() -> None:
    assert set(ROLES.values()) == {"authorizer", "scheduler", "aggregator", "status", "collaborator", "collaborator.driver"}
    assert [SERVICES[name]["deploy"] for name in ("aggregator", "authorizer")] == [{"replicas": 3}, {"replicas": 2}]


@every_role
def test_a_role_has_an_extra_to_install_and_a_main_to_start(role: str) -> None:
    assert role.partition(".")[0] in EXTRAS
    assert callable(importlib.import_module(f"fedplane.{role}.main").main)


@every_process
def test_a_process_is_told_only_what_its_role_understands(name: str, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = SERVICES[name]["environment"]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    settings = settings_class(role)()

    assert {f"FEDPLANE_{field.upper()}" for field in settings.model_fields_set} >= set(environment)
    assert (settings.nats_url, settings.tls_certificate) == ("tls://nats:4222", Path("/credentials/credentials.pem"))


def test_nothing_listens_beyond_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert ports == ["127.0.0.1:4222:4222", "127.0.0.1:4280:4280"]


def test_the_page_is_served_where_it_is_published() -> None:
    told = SERVICES["status"]["environment"]

    assert SERVICES["status"]["ports"] == [f"127.0.0.1:{told['FEDPLANE_PAGE_PORT']}:{told['FEDPLANE_PAGE_PORT']}"]


def part_of_keys(name: str) -> list[tuple[str, str]]:
    """Which directories of the keys' volume a service sees, and where."""
    mounts = [each for each in SERVICES[name].get("volumes", ()) if isinstance(each, dict)]
    assert all((each["type"], each["source"], each["read_only"]) == ("volume", "keys", True) for each in mounts)
    return [(each["volume"]["subpath"], each["target"]) for each in mounts]


def test_everybody_sees_the_keys_of_his_own_and_no_others() -> None:
    expected = {name: [(name, "/credentials")] for name in ROLES} | {"example": [("cli", "/credentials")], "shards": []}
    expected["nats"] = [("nats", f"/etc/nats-{what}") for what in ("tls", "authorities", "callout")]

    assert {name: part_of_keys(name) for name in SERVICES if name != "keys"} == expected
    assert [name for name, each in SERVICES.items() if any(str(mount).startswith("keys:") for mount in each.get("volumes", ()))] == ["keys"]


@every_process
def test_a_process_has_no_privileges_and_waits_for_the_bus(name: str, role: str) -> None:
    service = SERVICES[name]

    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert service["depends_on"]["nats"] == {"condition": "service_healthy"}
    assert role == "authorizer" or service["depends_on"]["authorizer"] == {"condition": "service_started"}


def test_the_clusters_are_those_of_the_example_and_see_their_own_data_only() -> None:
    clusters = yaml.safe_load((EXAMPLE / "clusters.yaml").read_text())["clusters"]

    assert [as_told(name) for name, role in ROLES.items() if role == "collaborator"] == [as_mounted(cluster) for cluster in clusters]


def test_the_driver_runs_the_app_that_the_clusters_run_and_sees_no_data() -> None:
    driver, cluster = SERVICES["driver"], SERVICES["amsterdam"]

    assert (driver["image"], driver["build"]) == (cluster["image"], cluster["build"])
    assert [mount for mount in driver["volumes"] if not isinstance(mount, dict)] == []
    assert "FEDPLANE_APP=/app" in instructions("ENV"), "else the driver would look for the directory of whoever submits the run"


def test_the_page_makes_a_run_for_that_driver_of_the_first_example() -> None:
    (command,) = [command for command in typed("docs/how-to/run-your-own-server.md") if command.startswith("sed ")]
    made = subprocess.run(["sh", "-c", command.partition(" > ")[0]], cwd=ROOT, capture_output=True, check=True)
    there = yaml.safe_load((EXAMPLE / "federatedlearning.yaml").read_text())

    there["spec"]["strategy"]["name"] = "app"
    assert yaml.safe_load(made.stdout) == there
    check(FederatedLearning.model_validate(there, by_alias=True, by_name=False).spec)


def as_mounted(cluster: dict[str, Any]) -> dict[str, Any]:
    """A cluster of the example, when the data it claims are mounted at the root."""
    files = [value for value in cluster["claims"].values() if value.startswith("data/")]
    claims = {claim: f"/{value}" if value in files else value for claim, value in cluster["claims"].items()}
    return cluster | {"claims": claims, "volumes": [f"{cluster['name']}:/data:ro" for _ in files]}


def as_told(name: str) -> dict[str, Any]:
    """A cluster as compose.yaml tells it."""
    told = {variable.removeprefix("FEDPLANE_"): value for variable, value in SERVICES[name]["environment"].items()}
    return {
        "name": told["CLUSTER"],
        "claims": json.loads(told.get("CLAIMS", "{}")),
        "allocatable": {"cpu": told["CPU"], "memory": told["MEMORY"]},
        "labels": json.loads(told["LABELS"]),
        "volumes": [mount for mount in SERVICES[name]["volumes"] if not isinstance(mount, dict)],
    }


def test_an_image_is_made_of_files_that_there_are() -> None:
    copied = [source for copy in instructions("COPY") if not copy.startswith("--from") for source in copy.split()[:-1]]
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert [source for source in copied if not (ROOT / source).exists() or not let_in & {source, source.split("/")[0]}] == []


def test_no_process_runs_as_root() -> None:
    stages = [stage.splitlines() for stage in re.split("^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]]
    users = {lines[0].partition(" AS ")[2]: [line for line in lines if line.startswith("USER ")] for lines in stages}

    assert {stage: said[-1] for stage, said in users.items() if said} == dict.fromkeys(["service", "mnist", "notebook"], "USER 10001:10001")
    assert stages[-1] == ["service"], "what is built by default is the service"


def test_a_container_starts_its_roles_main_and_hands_it_the_signals() -> None:
    (command,) = instructions("CMD")

    assert "exec python -m fedplane.${FEDPLANE_ROLE%%,*}.main" in command, "of `scheduler,hub` the first is the role"


def test_the_example_has_one_pytorch_everywhere() -> None:
    places = [DOCKERFILE, (ROOT / "Makefile").read_text(), (EXAMPLE / "pyproject.toml").read_text()]

    assert len({version for place in places for version in re.findall(r"torch==([\d.]+)", place)}) == 1
