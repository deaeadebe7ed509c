"""What doctor finds on a real API server: with and without our kinds, as an administrator, and about service accounts that may little."""

import json
import subprocess
import sys
from pathlib import Path

from apiserver import ADMIN, NOBODY, ApiServer, Server
from rights_story import GROUP, PATH

from fedplane.cli.doctor import hub
from fedplane.cli.doctor.findings import Level
from fedplane.cli.doctor.probing import hub_findings
from fedplane.runtime.hub import look_at_hub
from fedplane.schemas.crd import CRD_NAME


async def test_a_hub_with_every_kind_is_seen_whole(hub_server: Server) -> None:
    seen = await look_at_hub(str(hub_server.kubeconfig), "", hub.KINDS, CRD_NAME, hub.needed("fedplane"))

    assert seen.version.startswith("v1.")
    assert seen.unseen == {}
    assert {kind.kind for kind in hub.KINDS if kind.plural not in seen.served[kind.api_version]} == {"Route"}
    assert set(seen.rights.values()) == {True}


def test_of_a_sound_hub_nothing_is_complained_of(hub_server: Server) -> None:
    found = hub_findings(str(hub_server.kubeconfig), "", "")

    assert {each.check for each in found if each.level is not Level.OK} <= {"version"}  # an old server is warned of, and tested with
    assert {each.check for each in found} == set(hub.CHECKS)


def test_whoever_may_nothing_is_told_which_rights_are_missing(api_server: ApiServer, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "nobody"
    api_server.write_kubeconfig(kubeconfig, NOBODY, api_server.port)

    found = {each.check: each for each in hub_findings(str(kubeconfig), "", "") if each.area == "hub" and each.level is not Level.OK}

    assert found["rights"].level is Level.PROBLEM
    assert found["rights"].what.startswith("status may not get federatedlearnings.federation-ai.open-cluster-management.io")
    assert found["definition"].what.startswith("our definition cannot be read: could not get our definition")


def test_rights_of_service_accounts_are_asked_for_by_whoever_may(api_server: ApiServer, tmp_path: Path) -> None:
    rules = [{"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}]
    binding = {
        "metadata": {"name": "doctor-events"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "doctor-events"},
        "subjects": [{"kind": "ServiceAccount", "name": "status", "namespace": "elsewhere"}],
    }
    api_server.request("POST", f"{PATH}/clusterroles", {"metadata": {"name": "doctor-events"}, "rules": rules})
    api_server.request("POST", f"{PATH}/clusterrolebindings", binding)
    api_server.write_kubeconfig(tmp_path / "admin", ADMIN, api_server.port)
    try:
        found = {each.what for each in hub_findings(str(tmp_path / "admin"), "", "elsewhere") if each.check == "rights"}
    finally:
        for plural in ("clusterrolebindings", "clusterroles"):
            api_server.request("DELETE", f"{PATH}/{plural}/doctor-events")

    (of_status,) = (what for what in found if what.startswith("status may not"))
    assert "events" not in of_status
    assert "patch federatedlearnings/status.federation-ai.open-cluster-management.io" in of_status


def test_an_api_server_that_is_not_there_is_one_finding(tmp_path: Path, api_server: ApiServer) -> None:
    api_server.write_kubeconfig(tmp_path / "gone", ADMIN, 1)

    done = subprocess.run(
        [sys.executable, "-m", "fedplane.cli.main", "doctor", "--kubeconfig", "gone", "-o", "json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (1, "")
    (found,) = (each for each in json.loads(done.stdout) if each["area"] == "hub")
    assert (found["level"], found["what"].startswith("could not ask for the version")) == ("problem", True)
