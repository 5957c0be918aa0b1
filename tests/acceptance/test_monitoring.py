"""The page about monitoring, and the files that come with it, name metrics that the program writes.

`UPDATE_README=1 pytest tests/acceptance/test_monitoring.py` rewrites the table of the metrics.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from forecaster.cli.prometheus import METRICS, OUTCOMES, table
from forecaster.postgres.dsn import Dsn
from tests import prometheus
from tests.conftest import with_command
from tests.documents import ROOT, fenced
from tests.tables import initialise

PAGE = ROOT / "docs" / "monitoring.md"
ALERTS = ROOT / "docs" / "monitoring" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "monitoring" / "grafana.json"

NAMES = {metric.name: metric for metric in METRICS}
VALUES = {
    "command": {"run", "mldr", "shard"},
    "outcome": {*OUTCOMES, "forecast", "skipped", "taken", "refused"},
}
"""Of the labels whose values rules may name."""


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in dashboard()["panels"] for target in panel["targets"])
    yield from (one["definition"] for one in dashboard()["templating"]["list"] if one["type"] == "query")


def test_the_page_lists_every_metric() -> None:
    text = PAGE.read_text()
    listed = re.compile(r"(?<=-->\n)(?:\|.*\n)*(?=<!-- end of metrics -->)")
    if os.environ.get("UPDATE_README"):
        PAGE.write_text(text := listed.sub(lambda _: table(), text, count=1))
    assert listed.findall(text) == [table()]


@pytest.mark.parametrize("expression", [*expressions()])
def test_expressions_name_what_the_program_writes(expression: str) -> None:
    names = re.findall(r"\bforecaster_\w+", expression)
    assert names
    assert set(names) <= NAMES.keys()
    for name, selector in re.findall(r"\b(forecaster_\w+)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)="([^"]*)"', selector):
            assert label in {*prometheus.COMMON, NAMES[name].label}
            assert value.startswith("$") or value in VALUES[label]


def test_each_alert_says_what_and_how_bad() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules()) >= 5
    for rule in rules():
        assert re.fullmatch(r"(Forecaster)([A-Z][a-z]+)+", rule["alert"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}
        labels = re.findall(r"\$labels\.(\w+)", f"{rule['annotations']}")
        assert {*labels} <= {*prometheus.COMMON, "instance", "check"}  # Prometheus adds the instance


def test_the_dashboard_can_be_imported() -> None:
    board = dashboard()
    assert {"title", "uid", "panels", "templating", "time"} <= board.keys()
    assert isinstance(board["schemaVersion"], int)
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 6
    squares = [square for panel in panels for square in covered(**panel["gridPos"])]
    assert len(squares) == len({*squares})  # no panel covers another one
    assert max(x for x, _ in squares) < 24
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len({*references}) == len(references) >= 1
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert {*re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())} <= variables


def covered(x: int, y: int, w: int, h: int) -> list[tuple[int, int]]:
    return [(x + right, y + down) for right in range(w) for down in range(h)]


def test_the_page_links_to_both_files() -> None:
    links = set(re.findall(r"\]\((monitoring/[\w.]+)\)", PAGE.read_text()))
    assert links == {path.relative_to(PAGE.parent).as_posix() for path in (ALERTS, DASHBOARD)}


def test_the_line_for_cron(embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    [line] = re.findall(r"^15 2 \* \* \*  (.+)$", fenced("sh", "FORECASTER_RUN_METRICS"), re.MULTILINE)
    command = line.replace("postgresql://nightly@db/music", f"'{embedded_database.uri}'")
    command = command.replace("/opt/forecaster/.venv/bin/", "")
    command = re.sub(r"/var/(?:log|lib/node_exporter)/", f"{tmp_path}/", command)
    environment = {**with_command(), "HOME": str(tmp_path)}
    subprocess.run(command, shell=True, env=environment, check=True, capture_output=True)
    assert {path.name for path in tmp_path.iterdir()} == {"nightly.prom", "forecaster.json"}
    assert prometheus.read(tmp_path / "nightly.prom")["forecaster_run_outcome", "done"] == 1
