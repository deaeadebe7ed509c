"""The files for Docker Compose, alone and laid over each other as it does, fit together: services, volumes, addresses, ports.

Whether Docker takes them is seen where there is Docker (`test_compose_up`); here they are read as it reads them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from machine_story import app_python
from page_story import PAGES, typed
from sources import ROOT
from telemetry_story import free_port

from fedplane.runtime.settings import TelemetrySettings

Document = dict[str, Any]
PLAIN, OBSERVED, CLUSTER = "compose.yaml", "compose.observe.yaml", "compose.cluster.yaml"
COMBINED = ((PLAIN,), (PLAIN, OBSERVED), (PLAIN, CLUSTER), (PLAIN, OBSERVED, CLUSTER))
SERVERS = ("nats", "nats-1", "nats-2")
PATIENCE_SECONDS = 20.0

every_combination = pytest.mark.parametrize("files", COMBINED, ids=" ".join)


def read(path: str) -> Document:
    found: Document = yaml.safe_load((ROOT / path).read_text())
    return found


def laid_over(below: Any, above: Any, key: str = "") -> Any:
    """What Compose makes of a value in two files: mappings are united, lists are joined, and a command is the later one.

    Of two volumes at the same place the later one is mounted.
    """
    if isinstance(below, dict) and isinstance(above, dict):
        both = {name: laid_over(below[name], above[name], name) for name in below.keys() & above.keys()}
        return {**below, **above, **both}
    if key == "volumes" and isinstance(below, list):
        return [*{target(mount): mount for mount in below + above}.values()]
    if isinstance(below, list) and isinstance(above, list) and key not in {"command", "entrypoint", "test"}:
        return below + above
    return above


def target(mount: str | Document) -> str:
    return str(mount["target"]) if isinstance(mount, dict) else mount.split(":")[1]


def source(mount: str | Document) -> str:
    return str(mount["source"]) if isinstance(mount, dict) else mount.split(":")[0]


def combined(files: tuple[str, ...]) -> Document:
    document: Document = {}
    for file in files:
        document = laid_over(document, read(file))
    return {key: value for key, value in document.items() if not key.startswith("x-")}


def configured(path: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / path).read_text())


def listens(files: tuple[str, ...]) -> set[str]:
    """Every address at which something answers, by what the files say of ports; Prometheus and Grafana have their usual ones."""
    collector, tempo = configured("observe/collector.yaml"), configured("observe/tempo.yaml")
    told = {
        "collector": {endpoint(collector["receivers"])},
        "tempo": {endpoint(tempo["distributor"]["receivers"]), str(tempo["server"]["http_listen_port"])},
        "prometheus": {"9090"},
        "grafana": {"3000"},
        **{server: {"4222", "8222", "6222"} for server in SERVERS},
    }
    services = combined(files)["services"]
    for service in {"nats-exporter"} & services.keys():
        told[service] = {word.removeprefix("-port=") for word in services[service]["command"] if word.startswith("-port=")}
    return {f"{name}:{port}" for name in told.keys() & services.keys() for port in told[name]}


def endpoint(receivers: Document) -> str:
    return str(receivers["otlp"]["protocols"]["http"]["endpoint"]).rpartition(":")[2]


def ours(services: Document) -> Document:
    """The processes of the federation."""
    return {name: each for name, each in services.items() if "FEDPLANE_NATS_URL" in each.get("environment", {})}


@every_combination
def test_what_services_refer_to_is_there(files: tuple[str, ...]) -> None:
    document = combined(files)
    services, volumes = document["services"], document["volumes"]
    mounted = [source(mount) for service in services.values() for mount in service.get("volumes", ())]

    for service in services.values():
        assert "build" in service or ":" in service["image"], "what we do not build has a version"
        for other, how in service.get("depends_on", {}).items():
            ends = other in {"shards", "keys"}
            meant = {
                "service_healthy": "healthcheck" in services[other],
                "service_completed_successfully": ends,
                "service_started": not ends,
            }
            assert meant[how["condition"]]
    assert {mount for mount in mounted if not mount.startswith("./")} == volumes.keys()
    assert [mount for mount in mounted if mount.startswith("./") and not (ROOT / mount).exists()] == []


@every_combination
def test_compose_puts_nothing_of_its_own_into_the_files(files: tuple[str, ...]) -> None:
    assert [file for file in files if re.search(r"(?<!\$)\$(?!\$)", (ROOT / file).read_text())] == []


@every_combination
def test_what_pages_tell_to_type_names_files_and_services_that_there_are(files: tuple[str, ...]) -> None:
    commands = [command for page in PAGES for command in typed(page) if command.startswith("docker compose ")]
    named = {word for command in commands for word in re.findall(r"-f (\S+)", command)}
    run = {found[1] for command in commands if (found := re.search(r" (?:run|exec)(?: --?\w+)* (\w+)", command))}

    assert {PLAIN, OBSERVED} <= named <= {PLAIN, OBSERVED, CLUSTER}
    assert {"example"} <= run <= combined(files)["services"].keys()


@every_combination
def test_nothing_listens_beyond_this_machine_at_a_port_of_another(files: tuple[str, ...]) -> None:
    ports = [port for service in combined(files)["services"].values() for port in service.get("ports", ())]

    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)] == []
    assert len(set(ports)) == len(ports)


@every_combination
def test_whoever_calls_an_address_is_answered_there(files: tuple[str, ...]) -> None:
    services = combined(files)["services"]
    said = [[service.get("environment"), service.get("command")] for service in services.values()]
    if OBSERVED in files:
        said += [configured("observe/collector.yaml"), configured("observe/prometheus.yaml")["scrape_configs"]]
        said += [configured("grafana/provisioning/datasources/fedplane.yaml")]
    called = set(re.findall(r"\b[a-z][a-z0-9-]*:\d+", json.dumps(said)))

    assert called <= listens(files)
    assert {"collector:4318", "nats-exporter:7777", "tempo:3200"} <= called or OBSERVED not in files


def test_every_process_of_ours_tells_the_collector_what_it_does() -> None:
    variable = "OTEL_EXPORTER_OTLP_ENDPOINT"

    for name, service in ours(combined((PLAIN, OBSERVED))["services"]).items():
        assert service["environment"].get(variable) == "http://collector:4318", name
    assert variable in {field.validation_alias for field in TelemetrySettings.model_fields.values()}


def test_metrics_arrive_with_their_exemplars_and_rules_and_dashboards_where_they_are_looked_for() -> None:
    services = read(OBSERVED)["services"]
    mounts = {name: {target(mount): source(mount) for mount in service.get("volumes", ())} for name, service in services.items()}
    prometheus, collector = configured("observe/prometheus.yaml"), configured("observe/collector.yaml")
    (provider,) = configured("grafana/provisioning/dashboards/fedplane.yaml")["providers"]

    assert {"--web.enable-otlp-receiver", "--enable-feature=exemplar-storage"} <= set(services["prometheus"]["command"])
    assert collector["exporters"]["otlp_http/metrics"]["endpoint"].endswith(":9090/api/v1/otlp")
    assert {each["exporters"][0]: each["receivers"] for each in collector["service"]["pipelines"].values()} == {
        "otlp_http/metrics": ["otlp"], "otlp_http/traces": ["otlp"],
    }  # fmt: skip
    assert [mounts["prometheus"][file] for file in prometheus["rule_files"]] == ["./deploy/grafana/alerts.yaml"]
    assert mounts["grafana"][provider["options"]["path"]] == "./deploy/grafana/dashboards"
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / mounts["grafana"][str(home.parent)] / home.name).exists()
    assert services["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Editor", "whom links to traces are for"


def test_a_cluster_of_servers_has_as_many_copies_as_servers_and_everybody_knows_all_of_them() -> None:
    services = combined((PLAIN, CLUSTER))["services"]

    assert [name for name, each in services.items() if each["image"].startswith("nats:")] == [*SERVERS]
    for name, service in ours(services).items():
        if name != "example":  # it speaks to one of them for a moment
            told = service["environment"]
            assert told["FEDPLANE_NATS_URL"].split(",") == [f"tls://{server}:4222" for server in SERVERS]
            assert (told["FEDPLANE_STREAM_REPLICAS"], service["depends_on"].keys() >= {*SERVERS}) == ("3", True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The volume with the keys, as its service makes it."""
    service, directory = read(PLAIN)["services"]["keys"], tmp_path_factory.mktemp("keys")
    (script,) = [source(mount) for mount in service["volumes"] if service["command"][-1] == target(mount)]
    path = f"{Path(sys.executable).parent}:{os.defpath}"
    subprocess.run([service["command"][0], ROOT / script], cwd=directory, check=True, capture_output=True, env={"PATH": path})
    return directory


@every_combination
def test_every_file_of_the_keys_that_a_process_is_told_of_is_made_and_says_who_it_is(files: tuple[str, ...], keys: Path) -> None:
    services, names = combined(files)["services"], {"example": "cli"}

    for name, service in ours(services).items():
        (mount,) = [mount for mount in service["volumes"] if isinstance(mount, dict)]
        there = {value for value in service["environment"].values() if value.startswith(f"{mount['target']}/")}
        assert there, name
        assert [value for value in there if not (keys / mount["volume"]["subpath"] / value.rpartition("/")[2]).is_file()] == []
        bundle = (keys / mount["volume"]["subpath"] / "credentials.pem").read_text()
        role = "collaborator" if "FEDPLANE_CLUSTER" in service["environment"] else names.get(name, name)
        assert bundle.startswith(f"# fedplane:{role}:{name if role == 'collaborator' else role}\n")
    held = {path for path in keys.glob("*/*.key")}
    assert held == {keys / "keys/services.key", keys / "keys/clusters.key", keys / "nats/tls.key"}, "authorities stay where they are made"


def test_the_three_servers_find_each_other_by_what_they_are_told(tmp_path: Path, keys: Path) -> None:
    services = combined((PLAIN, CLUSTER))["services"]
    clients, routes, monitoring = ({name: free_port() for name in SERVERS} for _ in range(3))
    program = Path(sys.executable).parent / "nats-server"
    started = []
    try:
        for name in SERVERS:
            configuration = as_mounted(tmp_path / name, services[name], keys)
            text = (configuration / "cluster.conf").read_text().replace("port: 6222", f"listen: 127.0.0.1:{routes[name]}")
            (configuration / "cluster.conf").write_text(re.sub(r"//(nats\S*):6222", lambda found: f"//localhost:{routes[found[1]]}", text))
            at = ["--addr", "127.0.0.1", "--port", str(clients[name]), "--http_port", str(monitoring[name])]
            command = [program, *at, "--config", configuration / "nats.conf"]
            assert services[name]["command"] == ["--config", "/etc/nats/nats.conf"]
            started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | services[name]["environment"]))
        for name in SERVERS:
            assert healthy(monitoring[name]), f"{name} has not joined the others"
    finally:
        for process in started:
            process.kill()
            process.wait()


def as_mounted(root: Path, service: Document, keys: Path) -> Path:
    """A server's directory of configuration, with all that is mounted beside it at this place."""
    for mount in service["volumes"]:
        place = root / target(mount).removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(mount, dict):
            shutil.copytree(keys / mount["volume"]["subpath"], place)
        elif source(mount).startswith("./"):
            text = (ROOT / source(mount)).read_text()
            place.write_text(text.replace("/etc/", f"{root}/etc/").replace("store_dir: /data", f"store_dir: {root}/data"))
    return root / "etc/nats"


def healthy(port: int) -> bool:
    """What the health check of the files asks, until it is answered well."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    return False


@pytest.mark.app
def test_each_cluster_gets_its_own_digits_and_nobody_elses(tmp_path: Path) -> None:
    services = read(PLAIN)["services"]
    *_, script = services["shards"]["command"]
    volumes = dict(mount.split(":") for mount in services["shards"]["volumes"])
    for volume in volumes:
        (tmp_path / volume).mkdir()
    here = script.replace("$$", "$").replace("/app/.venv/bin/python", str(app_python())).replace("/app/", f"{ROOT}/examples/01-mnist/")
    here = here.replace("/dealt/", f"{tmp_path}/")

    subprocess.run(["sh", "-c", here], check=True, capture_output=True, env={**os.environ, "TMPDIR": str(tmp_path)})

    assert {volume: [file.name for file in (tmp_path / volume).iterdir()] for volume in volumes} == {
        name: [Path(json.loads(services[name]["environment"]["FEDPLANE_CLAIMS"])["mnist.client-data"]).name] for name in volumes
    }
    assert {name: services[name]["volumes"][0] for name in volumes} == {name: f"{name}:/data:ro" for name in volumes}
