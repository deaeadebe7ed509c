"""The pages of fields and settings are made of what they describe, and leave nothing out."""

import inspect
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from sources import ROOT, tree

from fedplane.aggregator.accepting import SHARDS_MAX
from fedplane.aggregator.settings import AggregatorSettings
from fedplane.collaborator.settings import CollaboratorSettings
from fedplane.runtime.errors import BadInput
from fedplane.runtime.settings import TelemetrySettings
from fedplane.runtime.subscribing import DURABLES_MAX
from fedplane.schemas.crd import CRD_NAME, custom_resource_definition
from fedplane.schemas.envelope import FACT_BYTES_MAX
from fedplane.schemas.resources import CHECKPOINTS_MAX, ROUNDS_MAX
from fedplane.status.settings import StatusSettings

LISTING = runpy.run_path(str(ROOT / "docs/list_fields.py"))
PAGES = {path.name: page() for path, page in LISTING["PAGES"].items()}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_the_one_that_the_classes_make(page: str) -> None:
    assert (ROOT / "docs/reference" / page).read_text() == PAGES[page], "run: make schemas"


def test_every_field_of_the_resource_has_its_line() -> None:
    spec = schema_of(custom_resource_definition())["properties"]["spec"]
    sections = dict(LISTING["sections"]("spec", spec))

    assert {"spec", "spec.rounds.stop", "spec.server.listeners[]", "spec.client.template.perCluster.NAME"} <= sections.keys()
    for path, given in sections.items():
        _, _, section = PAGES["resource.md"].partition(f"## {path}\n")
        lines = [line.split("`")[1] for line in section.partition("\n#")[0].splitlines() if line.startswith("| `")]
        assert lines == list(given["properties"]) or "The same fields as" in section.partition("\n#")[0]


def test_what_is_called_ours_is_what_upstream_does_not_have(ocm_crds: dict[str, Any]) -> None:
    upstream = dict(LISTING["sections"]("spec", schema_of(ocm_crds[CRD_NAME])["properties"]["spec"]))
    ours = dict(LISTING["sections"]("spec", schema_of(custom_resource_definition())["properties"]["spec"]))
    known = {f"{path}.{name}" for path, given in upstream.items() for name in given["properties"]}

    added = {f"{path}.{name}" for path in upstream for name in ours[path]["properties"]} - known

    assert {path for path in added if not path.startswith("spec.client.placement.")} == LISTING["OURS"]


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def test_every_class_of_settings_has_its_table() -> None:
    told = {each for classes in LISTING["SETTINGS"].values() for each in classes}
    read = {Path(inspect.getfile(each)).relative_to(ROOT).as_posix() for each in told}

    assert read == {source.path for source in tree() if source.path.endswith("/settings.py")}
    assert {name for each in told for name in LISTING["declared"](each)} == {name for each in told for name in each.model_fields}


def test_the_bounds_on_the_page_about_scale_are_those_of_the_code() -> None:
    table = (ROOT / "docs/how-to/scale.md").read_text().partition("## Bounds")[2]
    told = re.findall(r"^\| [^|]+ \| (?:about )?([\d,]+)", table, re.MULTILINE)
    gigabytes, model = (CollaboratorSettings.model_fields["update_bytes_max"], AggregatorSettings.model_fields["shard_bytes"])

    assert [int(number.replace(",", "")) for number in told] == [
        SHARDS_MAX,
        gigabytes.default // 10**9,
        ROUNDS_MAX,
        CHECKPOINTS_MAX,
        FACT_BYTES_MAX,
        250_000,
        StatusSettings.model_fields["runs_kept_max"].default,
        DURABLES_MAX,
    ]
    assert f"{SHARDS_MAX:,}: {SHARDS_MAX * model.default // 10**9} GB" in table


def test_every_reason_for_which_a_service_fails_a_run_is_on_the_page_about_resuming() -> None:
    told = re.findall(r"^\| `([A-Z]\w+)` \|", (ROOT / "docs/how-to/resume.md").read_text(), re.MULTILINE)
    services = [source.text for source in tree() if source.path.startswith("services/") and source.path.endswith(".py")]

    assert sorted(told) == sorted({reason for text in services for reason in re.findall(r'\bFailed\([^)]*reason="(\w+)"', text)})


class Silent(TelemetrySettings):
    """Settings of which one is not explained."""

    mystery: str = ""
    explained: str = ""
    """This one is."""


def test_a_setting_that_does_not_say_what_it_is_for_is_found() -> None:
    with pytest.raises(BadInput, match=r"Silent\.mystery does not say what it is for"):
        LISTING["declared"](Silent)
