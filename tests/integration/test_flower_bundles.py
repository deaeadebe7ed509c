"""A Flower app as one file, as Flower itself writes it, in a real federation."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from machine_story import TINY_APP, app_python, machine, settle_environment

from fedplane.schemas.bundles import Bundle
from fedplane.schemas.facts import Completed, Invited

BUILD = """
import sys
from pathlib import Path
from flwr.cli.build import build_fab_from_disk
sys.stdout.buffer.write(build_fab_from_disk(Path(sys.argv[1])))
"""

pytestmark = pytest.mark.app


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settle_environment(monkeypatch)
    path = tmp_path / "tiny.fab"
    path.write_bytes(subprocess.run([app_python(), "-c", BUILD, TINY_APP], check=True, capture_output=True).stdout)
    return path


async def test_a_bundle_runs_as_its_directory_does(tmp_path: Path, bundle: Path) -> None:
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()  # noqa: ASYNC240 -- nothing else runs yet
    async with machine(tmp_path) as it:
        run = await it.submit(app=bundle, server={"rounds": 1, "minAvailableClients": 3})
        end = await it.end_of(run)
        asked = {record.fact.app for record in it.log if isinstance(record.fact, Invited)}

    assert isinstance(end, Completed), end
    assert asked == {str(Bundle(str(bundle), digest))}
