"""What runs in containers, and what watches it: the promises of the files that no test can run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from streams.metrics import exposition
from streams.settings import PREFIX, load
from tests.unit.streams.test_metrics import told

ROOT: Final = Path(__file__).parents[3]
COMPOSE: Final = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
MONITORING: Final = ROOT / "monitoring"
DASHBOARD: Final = orjson.loads((MONITORING / "grafana/dashboards/journey.json").read_bytes())
RULES: Final = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
FAMILIES: Final = list(text_string_to_metric_families(exposition(told).decode()))
METRICS: Final = {sample.name: set(sample.labels) for family in FAMILIES for sample in family.samples}
OF_PROMETHEUS: Final = {"job", "instance"}  # labels it adds itself


# ---- Compose ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image", [*(one["image"] for one in SERVICES.values()), *re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)]
)
def test_versions_are_exact(image: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+(-[a-z]+)*", image)


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_says_whether_it_is_healthy_and_is_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service or ("build" in service and "HEALTHCHECK" in DOCKERFILE)


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_listens_to_other_machines(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


def test_what_is_kept_lies_in_volumes_with_names() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", ())]
    assert {source for source, *_ in mounts if not source.startswith("./")} == COMPOSE["volumes"].keys()
    assert all(mode == ["ro"] for source, _, *mode in mounts if source.startswith("./"))
    assert all((ROOT / source).exists() for source, *_ in mounts if source.startswith("./"))


def test_a_worker_can_be_scaled() -> None:
    worker = SERVICES["worker"]
    # one of these can be had by one container only
    assert not worker.keys() & {"container_name", "ports", "hostname"}
    assert "JOURNEY_INSTANCE_ID" not in worker["environment"]
    assert {one["condition"] for one in worker["depends_on"].values()} == {"service_healthy"}


def test_the_settings_of_the_worker_are_settings() -> None:
    in_image = dict(re.findall(rf"({PREFIX}\w+)=(\S+)", DOCKERFILE.rpartition("\nFROM ")[2]))
    settings = load(in_image | SERVICES["worker"]["environment"])
    assert settings.http == "0.0.0.0:9646"


def test_the_worker_runs_as_a_user_without_rights() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)", last, re.M) == ["journey"]
    assert "useradd --uid 10001" in last
    assert SERVICES["worker"]["cap_drop"] == ["ALL"]
    assert SERVICES["worker"]["security_opt"] == ["no-new-privileges:true"]


def test_the_health_check_of_the_image_asks_the_worker() -> None:
    command = orjson.loads(DOCKERFILE.partition("CMD ")[2].partition("]")[0].replace("\\\n", "") + "]")
    assert command[:2] == ["python", "-c"]
    program = command[2].replace("9646", "9")  # where nobody listens
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "ConnectionRefusedError" in ended.stderr
    assert shlex.quote(command[2]).count("/ready") == 1


def test_the_broker_makes_no_topic_by_itself() -> None:
    assert SERVICES["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


# ---- monitoring ------------------------------------------------------------------------------------------------------


def queries() -> list[tuple[str, str]]:
    """Return (name, PromQL) of each panel's and each alert's questions."""
    panels = [
        (f"{panel['title']} {target['refId']}", target["expr"])
        for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
    ]  # fmt: skip
    return panels + [(rule["alert"], rule["expr"]) for rule in RULES]


@pytest.mark.parametrize(("name", "query"), queries())
def test_metrics_and_labels_exist(name: str, query: str) -> None:
    names = set(re.findall(r"\b(?:journey|process)_\w+", query))
    assert names
    assert names <= METRICS.keys()
    labels = {
        label.strip() for some in re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", query) for label in some.split(",")
    }
    labels |= set(re.findall(r"[{,] ?(\w+)=", query))
    assert labels <= {label for one in names for label in METRICS[one]} | OF_PROMETHEUS | {"version"}
    assert query.count("(") == query.count(")")


@pytest.mark.parametrize("name", sorted(METRICS))
def test_each_metric_is_looked_at(name: str) -> None:
    if name != "journey_pages_total":  # as many as the engine's groups: of use with a profile alone
        assert any(name in query for _, query in queries())


def test_counters_are_asked_for_their_rate() -> None:
    counters = [name for name in METRICS if name.endswith("_total") and name != "journey_poison_total"]
    for _, query in queries():
        for name in re.findall(r"\b(?:journey|process)_\w+", query):
            if name in counters:
                assert re.search(rf"(rate|increase)\({name}\b[^\[]*\[", query), query


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_each_alert_says_what_to_do() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert len(rule["annotations"]["description"]) > 40
        assert f"`{rule['alert']}`" in page


def test_files_find_each_other() -> None:
    mounted = dict(
        mount.split(":")[:2] for name in ("prometheus", "grafana") for mount in SERVICES[name]["volumes"]
    )  # fmt: skip
    scrape = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert mounted["./monitoring/alerts.yml"] in scrape["rule_files"]
    (found,) = scrape["scrape_configs"][0]["dns_sd_configs"]
    assert found["names"] == ["worker"]
    assert found["port"] == 9646
    provider = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/journey.yml").read_text())["providers"][0]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert provider["options"]["path"] == mounted["./monitoring/grafana/dashboards"] == home.rpartition("/")[0]
    source = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
