"""What the container files promise; no Docker engine is needed.

compose-spec.json beside this file is the schema of the Compose Specification (github.com/compose-spec, Apache-2.0), unchanged,
as check-jsonschema 0.39.0 ships it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from prometheus_client.metrics import MetricWrapperBase
from typer.main import get_command

from service import metrics
from service.settings import Settings

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "docker/grafana/dashboards/errata.json"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
NOT_METRICS = re.compile(
    r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]'  # strings, label selectors, ranges
    r"|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    r"|\boffset\s+\w+|\b(?:and|or|unless|bool)\b"
    r"|\b\w+\s*(?=\(|(?:by|without)\b)"  # functions
)


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


@pytest.fixture(scope="module")
def compose() -> Any:
    return read("docker-compose.yml")


@pytest.fixture(scope="module")
def services(compose: Any) -> dict[str, Any]:
    return compose["services"]


def dockerfile(service: dict[str, Any], services: dict[str, Any]) -> str:
    """The text of the Dockerfile the service's image is built from, "" for an image of others."""
    builds = [other["build"] for other in services.values() if "build" in other and other["image"] == service["image"]]
    return (ROOT / builds[0]["dockerfile"]).read_text() if builds else ""


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(source, target): a source that begins with a dot is a path, another is a named volume."""
    for mount in service.get("volumes", []):
        source, target = mount.split(":")[:2]
        yield source, target


def metric_names(expression: str) -> set[str]:
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*", NOT_METRICS.sub(" ", expression)))


def exported() -> set[str]:
    """Every name a scrape can show, `up` included, which is Prometheus' own."""
    ours = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    families = [family for metric in ours for family in metric.describe()]
    return {"up"} | {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def alert_expressions() -> list[str]:
    return [rule["expr"] for group in read("docker/alerts.yml")["groups"] for rule in group["rules"]]


def test_the_compose_file_fits_the_specification(compose: Any) -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    assert [error.message for error in Draft202012Validator(schema).iter_errors(compose)] == []


def test_every_long_running_service_has_a_healthcheck(services: dict[str, Any]) -> None:
    lasting = {name: service for name, service in services.items() if service["restart"] != "no"}
    checked = {name for name, service in lasting.items() if "test" in service.get("healthcheck", {})}
    checked |= {name for name, service in lasting.items() if "HEALTHCHECK" in dockerfile(service, services)}
    assert checked == set(lasting)


def test_every_named_volume_that_is_used_is_declared_and_the_other_way_round(compose: Any, services: dict[str, Any]) -> None:
    used = {source for service in services.values() for source, _ in mounts(service) if not source.startswith(".")}
    assert used == set(compose["volumes"])


def test_every_file_that_is_mounted_exists(services: dict[str, Any]) -> None:
    sources = [source for service in services.values() for source, _ in mounts(service) if source.startswith(".")]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_every_image_of_others_is_pinned_to_a_release(services: dict[str, Any]) -> None:
    foreign = [service["image"] for service in services.values() if not dockerfile(service, services)]
    assert len(foreign) == 4
    assert [image for image in foreign if not re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", image)] == []


def test_nothing_is_published_beyond_this_machine_by_default(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith(("127.0.0.1:", "${ERRATA_BIND:-127.0.0.1}:"))] == []


def test_the_images_of_the_api_and_of_migrate_install_no_worker_extra() -> None:
    text = (ROOT / "docker/api.Dockerfile").read_text()
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert installs == ["RUN pip install --no-cache-dir -c constraints.txt ."]


def test_our_images_do_not_run_as_root(services: dict[str, Any]) -> None:
    ours = [text for service in services.values() if (text := dockerfile(service, services))]
    assert ours
    assert all(re.search(r"^USER [1-9]\d*$", text, re.MULTILINE) for text in ours)


def test_every_variable_that_compose_gives_to_errata_is_a_setting(services: dict[str, Any]) -> None:
    settings = {f"ERRATA_{name.upper()}" for name in Settings.model_fields}
    given = {name for service in services.values() for name in service.get("environment", {}) if name.startswith("ERRATA_")}
    assert given
    assert given <= settings


def test_every_errata_command_that_the_containers_run_exists(services: dict[str, Any]) -> None:
    from service.cli.main import app

    lines = [service["command"] for service in services.values() if "errata" in service.get("command", [])]
    images = [path.read_text() for path in ROOT.glob("docker/*.Dockerfile")]
    lines += [json.loads(line) for text in images for line in re.findall(r"(?m)^CMD (.*)", text)]
    used = {line[1] for line in lines}
    assert used == {"api", "worker", "migrate"}
    assert used <= set(get_command(app).commands)


def test_prometheus_loads_only_rule_files_that_compose_mounts(services: dict[str, Any]) -> None:
    targets = {target for _, target in mounts(services["prometheus"])}
    assert set(read("docker/prometheus.yml")["rule_files"]) <= targets


@pytest.mark.parametrize("expression", alert_expressions())
def test_alerts_use_only_metrics_that_we_export(expression: str) -> None:
    names = metric_names(expression)
    assert names
    assert names <= exported()


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_panels_use_only_metrics_that_we_export(panel: dict[str, Any]) -> None:
    names = {name for target in panel["targets"] for name in metric_names(target["expr"])}
    assert names
    assert names <= exported()


def test_every_panel_asks_the_provisioned_data_source() -> None:
    (source,) = read("docker/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    asked = {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert asked == {source["uid"]}


def test_no_two_panels_overlap() -> None:
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
