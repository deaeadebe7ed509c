"""Writes Grafana's files from the table of dashboards, and the alert rules as an object of the Prometheus operator.

    python deploy/grafana/draw.py            writes the files
    python deploy/grafana/draw.py --check    fails if a committed file is not what would be written

Dashboards are built with Grafana's own typed builders, so what does not fit its schema is an error of types, or has no method.
The sources of data are variables, so the files fit a Grafana that calls them otherwise.
"""

from collections.abc import Iterator
from pathlib import Path

from dashboards import DASHBOARDS, Choice, Dashboard, Look, Panel, Query
from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, tempo, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType, VariableOption, VariableRefresh
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.tempo import SearchTableType, TempoQueryType

from fedplane.schemas.generate import keep

__all__ = ["METRICS", "TRACES", "built", "files"]

HERE = Path(__file__).parent
METRICS = kinds.DataSourceRef("prometheus", "${metrics}")
TRACES = kinds.DataSourceRef("tempo", "${traces}")

HEIGHT = 8
"""Of a panel, in Grafana's grid, whose cells are 30 pixels high: three rows fill a screen."""

REFRESH = "30s"
"""Services send metrics each ten seconds; twice a minute is as soon as anybody reads them."""

BAR = "1m"
"""The least that one bar or point stands for: six messages with metrics."""

TRACES_SHOWN = 20
"""More than anybody opens; the search ends with the first so many."""

TAG = "fedplane"
"""What the dashboards have in common; each links to all that have it."""


def built(page: Dashboard) -> str:
    """A dashboard as Grafana's JSON."""
    drawn = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.tells)
        .tags([TAG])
        .readonly()  # a change belongs into the table
        .refresh(REFRESH)
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(dashboard.DashboardLink(TAG).type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True))
        .with_variable(dashboard.DatasourceVariable("metrics").label("Metrics").type("prometheus"))
        .with_variable(dashboard.DatasourceVariable("traces").label("Traces").type("tempo"))
    )
    for choice in page.choices:
        drawn.with_variable(_choice(choice))
    for number, panel in enumerate(page.panels, 1):
        drawn.with_panel(_look(panel).id(number).title(panel.title).description(panel.tells).span(panel.width).height(HEIGHT))
    return JSONEncoder(sort_keys=True, indent=2).encode(drawn.build()) + "\n"


def _choice(choice: Choice) -> dashboard.CustomVariable | dashboard.QueryVariable:
    if choice.values:
        first = VariableOption(selected=True, text=choice.values[0], value=choice.values[0])
        return dashboard.CustomVariable(choice.name).label(choice.label).values(",".join(choice.values)).current(first)
    everything = VariableOption(selected=True, text="All", value="$__all")
    return (
        dashboard.QueryVariable(choice.name)
        .label(choice.label)
        .datasource(METRICS)
        .query(choice.query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _look(panel: Panel) -> timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel:
    match panel.look:
        case Look.TRACES:
            slowest = common.TableSortByFieldState().display_name("Duration").desc(True)
            found = table.Panel().datasource(TRACES).sort_by([slowest])
            return found.targets([_traces(query) for query in panel.queries])
        case Look.NUMBERS:
            return stat.Panel().datasource(METRICS).unit(panel.unit).targets([*_series(panel)])
        case Look.HEATMAP:
            axis = heatmap.YAxisConfig().unit(panel.unit)
            return heatmap.Panel().datasource(METRICS).interval(BAR).y_axis(axis).targets([*_series(panel)])
        case Look.BARS:
            stacked = common.StackingConfig().mode(kinds.StackingMode.NORMAL)
            return _graph(panel).draw_style(kinds.GraphDrawStyle.BARS).fill_opacity(60).stacking(stacked).min(0)
    return _graph(panel).show_points(kinds.VisibilityMode.AUTO)


def _graph(panel: Panel) -> timeseries.Panel:
    below = common.VizLegendOptions().show_legend(True).display_mode(kinds.LegendDisplayMode.LIST).placement(kinds.LegendPlacement.BOTTOM)
    every = common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
    drawn = timeseries.Panel().datasource(METRICS).interval(BAR).unit(panel.unit).legend(below).tooltip(every)
    return drawn.targets([*_series(panel)])


def _series(panel: Panel) -> Iterator[prometheus.Dataquery]:
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        asked = prometheus.Dataquery().ref_id(letter).expr(query.text).legend_format(query.legend)
        if panel.look is Look.NUMBERS:
            yield asked.instant()
        elif panel.look is Look.HEATMAP:
            yield asked.range().format(PromQueryFormat.HEATMAP).exemplar(True)
        else:
            yield asked.range().exemplar("_bucket" in query.text)  # only a duration leads to the trace of one round


def _traces(query: Query) -> tempo.Dataquery:
    asked = tempo.Dataquery().ref_id("A").query_type(TempoQueryType.TRACEQL).query(query.text)
    return asked.limit(TRACES_SHOWN).table_type(SearchTableType.TRACES)


def files() -> dict[Path, str]:
    """Every generated file, and what it has to say."""
    drawn = {HERE / "dashboards" / f"{page.uid}.json": built(page) for page in DASHBOARDS}
    return {**drawn, HERE / "prometheusrule.yaml": _rule((HERE / "alerts.yaml").read_text())}


def _rule(alerts: str) -> str:
    """The same rules, for clusters whose Prometheus is kept by its operator. As text, so that comments stay."""
    about = "# Written by `python deploy/grafana/draw.py` from alerts.yaml.\n"
    head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: fedplane\nspec:\n"
    return about + head + "".join(f"  {line}\n" if line else "\n" for line in alerts.splitlines())


def main() -> None:
    """See the module's description."""
    keep("deploy/grafana/draw.py", "Write Grafana's dashboards and the alert rules' manifest.", files())


if __name__ == "__main__":
    main()
