"""Pages are typed into a shell as they stand, in their order, by somebody who has made the environments and nothing else.

One federation of the first example serves them all. What a page says of an outcome is compared with the outcome.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from machine_story import REPOSITORY, TINY_APP, app_python
from moto.server import ThreadedMotoServer
from page_story import blocks, filled_in, text, typed

pytestmark = pytest.mark.app

EXAMPLE = "examples/01-mnist/README.md"
KEEP = "docs/how-to/keep-and-reuse-a-model.md"
PROTECT = "docs/how-to/protect-updates.md"
READ = "docs/how-to/read-the-log.md"
SECURE = "docs/how-to/secure.md"
SUBSCRIBE = "docs/how-to/subscribe.md"
SUBSCRIBER = "examples/10-subscribe"
TUNE = "docs/how-to/tune-rounds.md"
TUTORIAL = "docs/tutorial.md"
TYPED_SECONDS = 240
"""The longest of the commands, the one that watches a run, takes ten on a machine that does nothing else."""

UP_SECONDS = 60
"""What `fedplane up --detach` gives a start, too."""


class Desk:
    """A directory with the first example, a shell, and a federation that the example's page has brought up."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "01-mnist"
        shutil.copytree(REPOSITORY / "examples/01-mnist", self.directory, ignore=shutil.ignore_patterns(".*", "data", "__pycache__"))
        (self.directory / ".venv").symlink_to(REPOSITORY / "examples/01-mnist/.venv")
        own = {name: value for name, value in os.environ.items() if not name.startswith(("FEDPLANE_", "AWS_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = own | {"PATH": path, "FEDPLANE_PYTHON": str(app_python())}
        self.up: subprocess.Popen[str] | None = None

    def type(self, command: str) -> str:
        """What the command writes to standard output; it has to succeed."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TYPED_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def begin(self, command: str) -> subprocess.Popen[str]:
        """The command in another terminal."""
        return subprocess.Popen(command.split(), cwd=self.directory, env=self.environment, stdout=subprocess.PIPE, text=True)

    def bring_up(self, command: str) -> None:
        self.up = self.begin(f"{command} --port 0")  # another test may have the port that everybody has by default
        give_up = time.monotonic() + UP_SECONDS
        while not self.recorded().get("ready"):
            assert self.up.poll() is None and time.monotonic() < give_up, f"{command} is not ready"
            time.sleep(0.1)

    def recorded(self) -> dict[str, object]:
        record = self.directory / ".fedplane/up.json"
        return dict(json.loads(record.read_text())) if record.exists() else {}

    def processes(self) -> dict[str, int]:
        """What `fedplane up` has written down of the processes that run."""
        record: dict[str, int] = self.recorded()["processes"]  # type: ignore[assignment]
        return record

    def run(self, name: str) -> str:
        """The id of the last run of that name."""
        return str(json.loads(self.type(f"fedplane get {name} -o json"))["run"])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("tree"))
    yield desk
    desk.type("fedplane down")
    assert desk.up is not None and desk.up.wait(10) == 0


@pytest.fixture(scope="module")
def said(desk: Desk) -> dict[str, str]:
    """What each command of the first example's page has written."""
    environment, *commands = typed(EXAMPLE)
    assert "venv" in environment, "made already, by `make app`"
    written = {}
    for command in commands:
        if command.startswith("fedplane up"):
            desk.bring_up(command)
        else:
            written[command] = desk.type(command)
    return written


@pytest.fixture(scope="module")
def long(desk: Desk, said: dict[str, str]) -> str:
    """A run of as many rounds as the pages speak of, all of whose models stay. Its file is mnist.yaml, and its app learns nothing."""
    resource = yaml.safe_load((desk.directory / "federatedlearning.yaml").read_text())
    resource["metadata"]["annotations"]["fedplane.io/app"] = str(TINY_APP)
    resource["spec"]["server"]["rounds"] = 8
    resource["spec"]["rounds"] |= {"checkpoints": 9, "evaluate": False}
    (desk.directory / "mnist.yaml").write_text(yaml.safe_dump(resource))
    desk.type("fedplane submit mnist.yaml && fedplane watch mnist")
    return desk.run("mnist")


@pytest.fixture
def bucket(desk: Desk) -> Iterator[None]:
    """The bucket `models` on a server of its own, and its address and keys where the page says that they are looked for."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    assert [name for name in told if name not in text(KEEP)] == []
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/models", method="PUT")).close()
    desk.environment |= told
    yield
    server.stop()


def test_the_first_example_learns_what_its_page_says(said: dict[str, str]) -> None:
    *_, judged = said.values()
    explained = said["fedplane explain mnist"]
    promised = json.loads(next(line for line in text(EXAMPLE).splitlines() if line.startswith("{")))

    assert json.loads(judged) == pytest.approx(promised, abs=0.02)
    assert (explained.count("chosen"), re.findall(r"^(\w+) +refused", explained, re.MULTILINE)) == (3, ["dublin"])
    assert "Completed" in said["fedplane watch mnist"]


def test_the_tutorial_ends_with_the_same_bytes_though_both_aggregators_were_killed(desk: Desk, said: dict[str, str]) -> None:
    made, path, here, *commands, ended = typed(TUTORIAL)
    again = len(commands) - commands[::-1].index("fedplane submit federatedlearning.yaml")
    run = said["fedplane submit federatedlearning.yaml"].strip()
    aggregators = [pid for name, pid in desk.processes().items() if name.startswith("aggregator-")]

    before = {command: desk.type(filled_in(command, {"mnist": run})) for command in commands[: again - 1] if not done_by(command, said)}
    second = desk.type(commands[again - 1]).strip()
    after = {command: desk.type(filled_in(command, {"mnist": second})) for command in commands[again:]}

    assert (made, path, here, ended) == ("make venv app", 'export PATH="$PWD/.venv/bin:$PATH"', "cd examples/01-mnist", "fedplane down")
    assert (
        json.loads(before["fedplane events mnist --from-start --type scheduled --structured"])["data"]["refused"][0]["cluster"] == "dublin"
    )
    waited, killed, watched, _, compared = after.values()
    assert (waited.count("contributed"), killed) == (1, "")
    assert "Completed" in watched
    assert compared == "the same bytes\n"
    (shown,) = [block.splitlines()[1:] for block in blocks(TUTORIAL, "console") if "fedplane explain" in block]
    explained = {line.rstrip() for line in said["fedplane explain mnist"].splitlines()}
    assert [line for line in shown if line not in explained] == ["..."]
    assert [json.loads(line) for line in text(TUTORIAL).splitlines() if line.startswith("{")] == [
        json.loads(line) for line in text(EXAMPLE).splitlines() if line.startswith("{")
    ]
    assert set(aggregators) & set(desk.processes().values()) == set()


def done_by(command: str, said: dict[str, str]) -> bool:
    """Whether the first example's page has had it typed; the federation is up once, and in the foreground."""
    return command.removesuffix(" --detach") in {*said, "fedplane up --clusters clusters.yaml"}


def test_a_model_is_kept_and_others_start_from_it(desk: Desk, long: str, bucket: None) -> None:
    commands = [command for command in typed(KEEP) if command.startswith("fedplane ")]
    begun = []

    for command in commands:
        desk.type(filled_in(command, {"mnist-5f3a9c1e": long}))
        if "--from" in command:
            desk.type("fedplane watch mnist")
            begun.append(desk.run("mnist"))

    models = desk.directory / "models"
    manifest = json.loads((models / "mnist/manifest.json").read_text())
    assert (manifest["origin"]["run"], manifest["origin"]["training_round"]) == (long, 8)
    assert sorted(path.name for path in models.iterdir()) == ["mnist", "mnist-7", "mnist.manifest.json", "mnist.safetensors"]
    assert json.loads((models / "mnist-7/manifest.json").read_text())["origin"]["training_round"] == 7
    assert len({*begun, long}) == 5


def test_the_manifest_has_the_fields_of_the_table(desk: Desk, long: str) -> None:
    cells = re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+) \|", text(KEEP), re.MULTILINE)
    told = {name.removeprefix("origin.") for cell in cells for name in re.findall(r"`([\w.]+)`", cell)}

    desk.type(f"fedplane keep {long} --to manifested")

    manifest = json.loads((desk.directory / "manifested/manifest.json").read_text())
    assert {*manifest, *manifest["origin"]} - {"version", "origin"} <= told


def test_a_model_of_an_earlier_round_is_downloaded(desk: Desk, long: str) -> None:
    for command in typed(TUNE):
        desk.type(filled_in(command, {"RUN": long}))

    last, seven = ((desk.directory / name).read_bytes() for name in ("last.safetensors", "seven.safetensors"))
    assert (len(last), last == seven) == (len(seven), False)


def test_updates_are_masked_as_the_page_says(desk: Desk, said: dict[str, str]) -> None:
    """The resource is the first example's with what the page adds to it, for its three clusters and one round."""
    resource = yaml.safe_load((desk.directory / "federatedlearning.yaml").read_text())
    added = yaml.safe_load(blocks(PROTECT, "yaml")[0])["spec"]
    resource["metadata"]["annotations"]["fedplane.io/app"] = str(TINY_APP)
    resource["spec"] |= {"privacy": added["privacy"], "rounds": {"evaluate": False}}
    resource["spec"]["server"] |= {"rounds": 1, "minAvailableClients": 3}
    (desk.directory / "private.yaml").write_text(yaml.safe_dump(resource))
    submit, watch, events, secret = typed(PROTECT)

    run = desk.type(submit).strip()
    watched = desk.type(watch)
    heard = desk.type(filled_in(events, {"mnist": run})).splitlines()
    desk.type(secret)

    assert "Completed" in watched
    assert [line.split()[1].partition(".round.1.")[2] for line in heard if ".paired" in line] == ["paired"]
    assert sorted(line.split()[1].rpartition(".")[2] for line in heard if ".revealed." in line) == ["amsterdam", "berlin", "copenhagen"]
    assert len((desk.directory / "noise").read_text()) > 32


def test_the_log_is_read_by_commands_and_by_the_programs_of_the_page(desk: Desk, long: str) -> None:
    url, own = str(desk.recorded()["nats_url"]), str(desk.recorded()["credentials"])
    everything, follow, *others, granted = [command for command in typed(READ) if command.startswith("fedplane ")]
    read, hear = blocks(READ, "python")
    (desk.directory / "read_log.py").write_text(read)
    (desk.directory / "hear.py").write_text(hear)

    facts = desk.type(filled_in(everything, {"RUN": long})).splitlines()
    written = desk.type(f"python read_log.py {url} {long} {own}").splitlines()
    for command in others:
        assert "amsterdam" in desk.type(filled_in(command, {"RUN": long}))

    *lines, state = written
    form = re.compile(r"\d+ \d\d:\d\d:\d\d ((?:round\.\d+\.)?[a-z]+)\S* /fedplane/\S+ ?(\{.*\})?")
    shown = [line for line in blocks(READ, "text")[0].splitlines() if line[:1].isdigit()]
    assert [line for line in (*lines, *shown) if not form.fullmatch(line)] == []
    assert (len(lines), state) == (len(facts), "Completed 8 training rounds done.")
    desk.type(granted)
    listening = [desk.begin(follow), desk.begin(f"python hear.py {url} reader.pem")]
    desk.type("fedplane submit mnist.yaml && fedplane watch mnist")
    heard = [process.stdout.readline() for process in listening if process.stdout]
    for process in listening:
        process.kill()
        process.communicate()
    assert json.loads(heard[0])["specversion"] == "1.0"
    assert heard[1].startswith("fed.v1.")


def test_people_and_programs_are_let_in_and_thrown_out_by_the_commands_of_the_page(desk: Desk, said: dict[str, str]) -> None:
    here = {"tls://127.0.0.1:4222": str(desk.recorded()["nats_url"])}
    elsewhere = ("fedplane up --insecure", "fedplane get --url tls://bus.example.org:4222 --credentials anna.pem")
    commands = [command for command in typed(SECURE) if command.startswith("fedplane ")]

    outcomes = {command: desk.type(filled_in(command, here)) for command in commands if command not in elsewhere}

    runs, *_ = outcomes.values()
    listed = {tuple(line.split()[:2]) for line in outcomes["fedplane access list"].splitlines()}
    assert set(elsewhere) < set(commands)
    assert said["fedplane submit federatedlearning.yaml"].strip() in runs
    assert listed >= {("NAME", "ROLE"), ("dashboard", "subscriber"), ("team-a", "subscriber")}
    made = {"dashboard.pem", "team-a.pem", "cli-anna.pem", "collaborator-eindhoven.pem", "anna.pem"}
    assert made <= {path.name for path in desk.directory.glob("*.pem")}


def test_facts_are_heard_by_the_commands_of_the_page(desk: Desk, said: dict[str, str]) -> None:
    run = said["fedplane submit federatedlearning.yaml"].strip()
    commands = [filled_in(command, {"mnist": run}) for command in typed(SUBSCRIBE)]
    (desk.directory / "accuracy.py").write_text(blocks(SUBSCRIBE, "python")[0])

    everything, chosen, of_amsterdam, accuracies, *_ = (desk.type(command).splitlines() for command in commands)

    heard = [line.split()[1] for line in everything if not line.split()[1].endswith(".expired")]  # a deadline may pass after the end
    assert (heard[0], heard[-1]) == (f"{run}.submitted", f"{run}.completed")
    assert {line.split()[1].rpartition(".")[2] for line in chosen} == {"aggregated", "completed"}
    assert of_amsterdam != []
    assert [line for line in of_amsterdam if ".amsterdam" not in line] == []
    assert [line.split()[0] for line in accuracies] == [str(number) for number in range(1, len(accuracies) + 1)]
    kept = [json.loads(line) for line in (desk.directory / "audit.jsonl").read_text().splitlines()]
    assert next(event["data"] for event in kept if event["type"].endswith("run.submitted.v1"))["run"] == run


def test_a_program_that_knows_only_nats_writes_the_accuracies_down(desk: Desk, said: dict[str, str]) -> None:
    run = said["fedplane submit federatedlearning.yaml"].strip()
    events = desk.type(f"fedplane events {run} --from-start --type aggregated --structured").splitlines()
    expected = [
        f"{event['id']},{run},{event['data']['training_round']},{event['data']['metrics']['accuracy']:.4f}"
        for event in map(json.loads, events)
        if "accuracy" in event["data"]["metrics"]
    ]
    shutil.copy(REPOSITORY / SUBSCRIBER / "subscribe.py", desk.directory)
    (issued,) = [command for command in typed(f"{SUBSCRIBER}/README.md") if command.startswith("fedplane ")]

    desk.type(issued.replace("../10-subscribe/", ""))
    writing = desk.begin(f"python subscribe.py {desk.recorded()['nats_url']} accuracy.pem")
    assert writing.stdout is not None
    written = [writing.stdout.readline().strip() for _ in expected]
    writing.kill()
    writing.communicate()

    form = re.compile(r"[0-9a-f]{32},mnist-[0-9a-f]{8},\d+,0\.\d{4}")
    promised = [line for block in blocks(f"{SUBSCRIBER}/README.md", "console") for line in block.splitlines() if "," in line]
    assert written == expected
    assert [line for line in (*written, *promised) if not form.fullmatch(line)] == []
