"""docs/operations.md, the rules and the dashboard, against the metrics that the code has."""

import importlib
import json
import pkgutil
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from prometheus_client import REGISTRY

from tests.docs.pages import ROOT, table_after

PACKAGES = ["runtime", "edge", "timer_service", "sharing_service", "connection_service"]
RULES = ROOT / "deploy/prometheus/rules.yml"
RULE_TESTS = ROOT / "deploy/prometheus/rules.test.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/bubble-timer.json"

OF_THE_LIBRARY = {
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds",
}  # fmt: skip
"""Metrics of prometheus_client itself that the dashboard shows."""

_METRIC = re.compile(r"\b(?:bubble|process)_[a-z_]+\b")
_STRING = re.compile(r'"[^"]*"')


class Metric(NamedTuple):
    """What the code says of a metric."""

    kind: str
    labels: tuple[str, ...]


def metrics() -> dict[str, Metric]:
    """All metrics of ours by the name under which they are exposed."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found = {}
    for collector in set(REGISTRY._collector_to_names):
        for family in collector.collect():
            if family.name.startswith("bubble_"):
                of_collector: Any = collector
                labels = of_collector._labels if family.type == "histogram" else of_collector._labelnames
                name = f"{family.name}_total" if family.type == "counter" else family.name
                found[name] = Metric(family.type, tuple(labels))
    return found


def documented() -> dict[str, list[str]]:
    rows = table_after("docs/operations.md", "metrics: checked by tests/docs")
    table = {row[0].strip("`"): row[1:] for row in rows}
    assert len(table) == len(rows)
    return table


def alerts() -> dict[str, str]:
    """The severity of every alert in the rules."""
    text = RULES.read_text()
    named = re.findall(r"- alert: (\w+)\n.*?labels: \{ severity: (\w+) \}", text, re.DOTALL)
    assert len(named) == text.count("- alert:")
    return dict(named)


def named_in(expression: str) -> set[str]:
    """The metrics in a PromQL expression. A histogram's parts count as the histogram."""
    names = set()
    for name in _METRIC.findall(_STRING.sub('""', expression)):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        names.add(base if base in metrics() else name)
    return names


def expressions() -> Iterator[str]:
    """Every query of the dashboard."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        yield variable["query"]["query"]


def promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("there is no promtool here (Debian's package `prometheus` has it)")
    result = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_metric_is_documented_with_its_type_and_labels_and_no_other_is() -> None:
    listed = {
        name: Metric(kind, tuple(re.findall(r"`(\w+)`", labels))) for name, (kind, labels, _, _) in documented().items()
    }
    assert listed == metrics()


def test_no_label_is_made_of_what_clients_choose() -> None:
    labels = {label for metric in metrics().values() for label in metric.labels}
    assert labels == {
        "attempt", "batcher", "build", "code", "dependency", "method", "operation", "outcome", "python", "queue",
        "reason", "service", "stage", "status", "store", "type", "version",
    }  # fmt: skip


def test_rules_and_dashboard_name_only_metrics_that_exist() -> None:
    known = set(metrics()) | OF_THE_LIBRARY
    assert named_in(re.sub(r"^\s*#.*$|summary:.*", "", RULES.read_text(), flags=re.MULTILINE)) <= known
    assert {name for expression in expressions() for name in named_in(expression)} <= known


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for expression in expressions() for name in named_in(expression)}
    # Recorded rules are shown in place of what they are made of.
    assert set(metrics()) - shown == set()


def test_the_dashboard_finds_the_data_source_that_is_provisioned() -> None:
    source = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    (uid,) = re.findall(r"uid: (\S+)", source)
    used = set(re.findall(r'"uid": "([^"]+)"', DASHBOARD.read_text()))
    assert used == {uid, json.loads(DASHBOARD.read_text())["uid"]}


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_is_documented_with_its_severity_and_has_a_test_in_which_it_fires() -> None:
    rows = table_after("docs/operations.md", "alerts: checked by tests/docs")
    assert {row[0].strip("`"): row[1] for row in rows} == alerts()
    assert all(cell for row in rows for cell in row)
    fires = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", RULE_TESTS.read_text()))
    assert fires == set(alerts())


def test_the_rules_do_what_their_tests_say() -> None:
    promtool("test", "rules", RULE_TESTS)


@pytest.mark.parametrize("path", ["prometheus.yml", "local.yml"])
def test_the_configuration_is_one_and_its_rules_exist(path: str) -> None:
    promtool("check", "config", ROOT / "deploy/prometheus" / path)


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    rules = [
        {"record": "dashboard:query", "expr": expression.replace("$__rate_interval", "1m").replace("$instance", ".*")}
        for expression in expressions()
        if not expression.startswith("label_values(")
    ]
    path = tmp_path / "queries.yml"  # JSON is YAML, too
    path.write_bytes(msgspec.json.encode({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", path)


def test_scraped_ports_are_the_default_ones() -> None:
    from connection_service.config import ConnectionSettings
    from edge.config import EdgeSettings
    from sharing_service.config import SharingSettings
    from timer_service.config import TimerSettings

    expected = {
        "edge": EdgeSettings.model_fields["port"].default,
        "timer": TimerSettings.model_fields["metrics_port"].default,
        "sharing": SharingSettings.model_fields["metrics_port"].default,
        "connection": ConnectionSettings.model_fields["metrics_port"].default,
    }
    scraped = re.findall(r"job_name: (\w+)\n.*?port: (\d+)", (ROOT / "deploy/prometheus/prometheus.yml").read_text())
    local = re.findall(r"job_name: (\w+)\n.*?127.0.0.1:(\d+)", (ROOT / "deploy/prometheus/local.yml").read_text())
    proxy = re.findall(r"frontend inside\n.*?bind :(\d+)", (ROOT / "deploy/proxy/haproxy.cfg").read_text(), re.DOTALL)
    assert {job: int(port) for job, port in local} == expected
    assert {job: int(port) for job, port in scraped} == expected | {"proxy": int(*proxy)}
