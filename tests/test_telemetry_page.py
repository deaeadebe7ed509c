"""The page for operators has every metric and span that there is, as the tables of the services have them."""

import re
import runpy

import pytest
from sources import ROOT

from fedplane.runtime.metrics import METRICS
from fedplane.runtime.settings import TelemetrySettings
from fedplane.runtime.spans import SPANS

PAGE = (ROOT / "docs/how-to/watch-the-services.md").read_text()
DRAWING = runpy.run_path(str(ROOT / "docs/draw_telemetry.py"))


def test_the_tables_are_those_that_the_services_use() -> None:
    assert DRAWING["page"](PAGE) == PAGE, "run: make schemas"


def test_every_metric_and_every_span_has_its_line() -> None:
    named = set(re.findall(r"`([\w. ]+)`", PAGE))

    assert {metric.name for metric in METRICS} | {name for line in SPANS for name in line.name.split(", ")} <= named


def test_every_variable_has_its_line_with_its_default() -> None:
    defaults = {
        variable: default
        for variables, default in re.findall(r"^\| (`OTEL_[^|]*`) \| ([^|]*) \|", PAGE, re.MULTILINE)
        for variable in re.findall(r"`(\w+)`", variables)
    }
    fields = {str(field.validation_alias): field.default for field in TelemetrySettings.model_fields.values()}

    assert {variable: defaults[variable].strip("`") for variable in fields} == {
        variable: "none" if default is None else str(default) for variable, default in fields.items()
    }


def test_a_page_without_a_place_for_a_table_is_found_out() -> None:
    with pytest.raises(ValueError, match="no place for the table of metrics"):
        DRAWING["page"]("# A page\n")
