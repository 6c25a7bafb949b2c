"""The parts of Grafana's dashboard model that our dashboards use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Json = dict[str, object]

WIDTH = 24
"""Columns of Grafana's grid."""

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 39


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the legend of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; ``kind`` is Grafana's plugin id, ``width`` and ``height`` are in grid cells."""

    title: str
    queries: Sequence[Query]
    unit: str
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    about: str = ""
    options: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice above the dashboard, filled by a ``label_values`` query."""

    name: str
    query: str
    label: str = ""
    many: bool = False
    default: str = ""


def stat(title: str, expr: str, unit: str, about: str = "") -> Panel:
    """Return a panel with one figure."""
    return Panel(title, [Query(expr)], unit, "stat", width=4, height=4, about=about)


def graph(title: str, unit: str, *queries: Query, about: str = "", stacked: bool = False) -> Panel:
    """Return a panel over time, half as wide as the dashboard."""
    options: Json = {"stacked": True} if stacked else {}
    return Panel(title, queries, unit, about=about, options=options)


def table(title: str, unit: str, query: Query, about: str = "", width: int = WIDTH) -> Panel:
    """Return a table of the newest value of each series, largest first."""
    return Panel(title, [query], unit, "table", width, 9, about)


def row(title: str) -> Panel:
    """Return a heading over the panels that follow."""
    return Panel(title, [], "", "row", WIDTH, 1)


def dashboard(
    name: str, title: str, about: str, variables: Sequence[Variable], panels: Sequence[Panel]
) -> Json:
    """Return the JSON model of a dashboard whose panels flow from left to right."""
    return {
        "uid": f"kepler-ebpf-{name}",
        "title": f"kepler-ebpf / {title}",
        "description": about,
        "tags": ["kepler-ebpf"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource_variable(), *map(_variable, variables)]},
        "links": [_links()],
        "panels": list(_laid_out(panels)),
    }


def _links() -> Json:
    return {
        "type": "dashboards",
        "title": "kepler-ebpf",
        "tags": ["kepler-ebpf"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _datasource_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _variable(variable: Variable) -> Json:
    current: Json = {"text": variable.default, "value": variable.default}
    if variable.many:
        current = {"text": ["All"], "value": ["$__all"]}
    return {
        "name": variable.name,
        "label": variable.label or variable.name,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": variable.query,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,  # with the time range: pods come and go
        "sort": 1,
        "multi": variable.many,
        "includeAll": variable.many,
        "allValue": ".*" if variable.many else None,
        "current": current,
    }


def _laid_out(panels: Sequence[Panel]) -> Iterator[Json]:
    x = y = tallest = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        position = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        yield {"id": number, "gridPos": position, **_panel(panel)}
        x, tallest = x + panel.width, max(tallest, panel.height)


def _panel(panel: Panel) -> Json:
    if panel.kind == "row":
        return {"type": "row", "title": panel.title, "collapsed": False, "panels": []}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "targets": [
            _target(query, chr(ord("A") + index), panel.kind)
            for index, query in enumerate(panel.queries)
        ],
        **_looks(panel),
    }


def _target(query: Query, ref: str, kind: str) -> Json:
    target: Json = {"refId": ref, "datasource": DATASOURCE, "expr": query.expr}
    if kind == "timeseries":
        return {**target, "legendFormat": query.legend, "range": True}
    form = {"format": "table"} if kind == "table" else {}
    return {**target, "instant": True, "range": False, **form}


def _looks(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit}
    if panel.kind == "stat":
        options: Json = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none"}
        return {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}
    if panel.kind == "table":
        hidden: Json = {"excludeByName": {"Time": True, "__name__": True, "job": True}}
        options = {"sortBy": [{"displayName": "Value", "desc": True}]}
        return {
            "fieldConfig": {"defaults": {}, "overrides": [_unit_of_value(panel.unit)]},
            "options": options,
            "transformations": [{"id": "organize", "options": hidden}],
        }
    custom: Json = {"fillOpacity": 10, "showPoints": "never"}
    if panel.options.get("stacked"):
        custom |= {"stacking": {"mode": "normal"}, "fillOpacity": 40}
    defaults |= {"min": 0, "custom": custom}
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}


def _unit_of_value(unit: str) -> Json:
    return {
        "matcher": {"id": "byName", "options": "Value"},
        "properties": [{"id": "unit", "value": unit}],
    }
