"""Publish the model of each run that completes: keep it, register it in MLflow, and lay it out for KServe.

    python publish.py --registry http://mlflow:5000 --to published

listens on loopback for events that `fedplane forward` posts, and answers when a model is published, so that nothing is lost:
what fails, here or in the registry, is answered with 500, and the forwarder sends it again.
An event that comes twice publishes nothing twice, because the registry knows which run each version is from.
If the variable PUBLISH_TOKEN is set, events have to come with it: `Authorization: Bearer TOKEN`.
"""

import argparse
import hmac
import json
import os
import re
import subprocess
import sys
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from serving import Network, write_onnx

COMPLETED = "io.fedplane.run.completed.v1"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""What a run is called. What comes by HTTP becomes a path and an argument, so it is looked at."""

EVENT_BYTES_MAX = 1_000_000
"""A fact has at most 900,000 bytes."""

EXPERIMENT = "fedplane"
RUN = "fedplane.run"
"""The tag by which a version tells which run it is from."""


class Publisher:
    """Where models go."""

    def __init__(self, to: Path, registry: str, network: Network | None) -> None:
        self.to = to
        self.client = MlflowClient(registry)
        self.network = network

    def publish(self, run: str) -> None:
        """Keep the run's model, register it, and write what is served. Doing it again changes nothing."""
        kept = self.to / "kept" / run
        subprocess.run(["fedplane", "keep", run, "--to", str(kept)], check=True)
        origin = json.loads((kept / "manifest.json").read_text())["origin"]
        version = self.registered(origin) or self.register(origin, kept)
        if self.network:
            write_onnx(self.network, kept / "model.safetensors", self.to / "serving" / origin["name"] / str(version))
        print(f"{run} is version {version} of {origin['name']}", flush=True)

    def registered(self, origin: dict[str, Any]) -> str | None:
        """The version that the run's model has, if it is registered."""
        found = self.client.search_model_versions(f"name = '{origin['name']}'")
        return next((each.version for each in found if each.tags.get(RUN) == origin["run"]), None)

    def register(self, origin: dict[str, Any], kept: Path) -> str:
        """Give the model a version: an MLflow run has the files and what was measured, and the version points there.

        Whoever is killed between the two leaves an MLflow run without a version, which is litter and no mistake.
        """
        tags = {RUN: origin["run"], "fedplane.digest": origin["digest"], "fedplane.members": ", ".join(origin["members"])[:5000]}
        made = self.client.create_run(self.experiment(), run_name=origin["run"], tags=tags)
        self.client.log_param(made.info.run_id, "strategy", origin["strategy"]["name"])
        self.client.log_param(made.info.run_id, "training_rounds", origin["training_round"])
        for name, value in origin["metrics"].items():
            self.client.log_metric(made.info.run_id, name, value, step=origin["training_round"])
        self.client.log_artifacts(made.info.run_id, str(kept), "model")
        self.client.set_terminated(made.info.run_id)
        try:
            self.client.create_registered_model(origin["name"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{made.info.artifact_uri}/model"
        return str(self.client.create_model_version(origin["name"], source, made.info.run_id, tags=tags).version)

    def experiment(self) -> str:
        """Where the MLflow runs are listed."""
        known = self.client.get_experiment_by_name(EXPERIMENT)
        return known.experiment_id if known else self.client.create_experiment(EXPERIMENT)


class Hook(BaseHTTPRequestHandler):
    """One event after the other."""

    publisher: Publisher
    token: str
    timeout = 10
    """How many seconds one may take to say something. There is one at a time, so whoever says nothing would keep the others waiting."""

    def do_POST(self) -> None:
        """Publish, then answer."""
        size = int(self.headers.get("Content-Length", "0"))
        if not 0 <= size <= EVENT_BYTES_MAX:
            return self.answer(413)
        body = self.rfile.read(size)
        if self.token and not hmac.compare_digest(self.headers.get("Authorization", "").encode(), self.token.encode()):
            return self.answer(401)
        if self.headers.get("ce-type") != COMPLETED:
            return self.answer(204)  # somebody forwards more than we asked for; sending it again would not help
        try:
            run = json.loads(body)["run"]
        except (ValueError, KeyError, TypeError):
            return self.answer(400, "no run")
        if not isinstance(run, str) or not NAME.fullmatch(run):
            return self.answer(400, "no name of a run")
        try:
            self.publisher.publish(run)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the forwarder tries again, and says why if it gives up
            traceback.print_exc()
            return self.answer(500, f"{type(error).__name__}: {error}")
        return self.answer(204)

    def answer(self, status: int, said: str = "") -> None:
        """End the request."""
        body = said.encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Listen for ever."""
    parser = argparse.ArgumentParser(description="Publish the model of each run that completes.")
    parser.add_argument("--to", type=Path, default=Path("published"), help="the directory, which may be a volume")
    parser.add_argument("--registry", default="sqlite:///mlflow.db", help="MLflow: http://..., or a database of this machine")
    parser.add_argument("--network", default="", help="MODULE:CLASS of a torch module, to export to ONNX")
    parser.add_argument("--shape", default="1,28,28", help="the shape of one of its inputs")
    parser.add_argument("--port", type=int, default=8090)
    asked = parser.parse_args()
    network = Network(asked.network, tuple(map(int, asked.shape.split(",")))) if asked.network else None
    Hook.publisher = Publisher(asked.to, asked.registry, network)
    token = os.environ.get("PUBLISH_TOKEN", "")
    Hook.token = f"Bearer {token}" if token else ""
    server = HTTPServer(("127.0.0.1", asked.port), Hook)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
