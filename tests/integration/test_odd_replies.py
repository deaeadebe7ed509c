"""A reply that Flower cannot hold is one client's failure, and not the end of the app's server: a cluster may send anything."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from machine_story import REPOSITORY, app_python

pytestmark = pytest.mark.app

SCRIPT = """
import json
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from frameworks.asking import Reply
from frameworks.flower_server import _reply
from frameworks.records import Opaque, Record

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
asked = Message(RecordDict(), 1, "train")
asked.metadata.__dict__["_message_id"] = "1"
replies = {
    "as it should be": Record("m", "metrics", {"loss": 0.5}),
    "a word that is no metric": Record("m", "metrics", {"loss": "low"}),
    "nothing in a configuration": Record("m", "config", {"lr": None}),
    "an object in a configuration": Record("m", "config", {"lr": {"a": 1}}),
    "an array of a number's dtype": Record("m", "arrays", {"w": Opaque(3, ("a",), None, b"")}),
    "weights beyond numbers": Record("m", "metrics", {"loss": 0.5}, "num-examples"),
}
weights = {"weights beyond numbers": float("inf")}
told = {}
for name, record in replies.items():
    answer = _reply(asked, Reply([record], weights.get(name), {}))
    told[name] = answer.error.reason.partition(":")[0] if answer.has_error() else "content"
print(json.dumps(told))
"""


def test_what_flower_cannot_hold_is_told_to_the_apps_server_as_a_clients_error(tmp_path: Path) -> None:
    package = REPOSITORY / "collaborator" / "fedplane" / "collaborator"
    environment = {**os.environ, "PYTHONPATH": str(package), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(tmp_path)}

    done = subprocess.run([app_python(), "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-1000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told.pop("as it should be") == "content"
    assert set(told.values()) <= {"bad-reply", "content"}
    assert told["a word that is no metric"] == told["an object in a configuration"] == told["weights beyond numbers"] == "bad-reply"
