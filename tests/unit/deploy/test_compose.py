"""What the compose file promises of every service, read from the file alone."""

import copy
import re
from typing import Any

import pytest
import yaml

from deploy.environment import BY_COMPOSE, COMPOSE
from ingest.settings import ServiceSettings, declared
from tests.harness.kafka import ROOT

TEXT = (ROOT / "docker-compose.yaml").read_text("utf-8")
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
SLOTS = ("ingest", "ingest-green", "ingest-sim", "ingest-sim-green")
SHARED = ("K2_KAFKA_TOPIC", "K2_KAFKA_POSITIONS_TOPIC", "K2_SHARD_COUNT")
"""Settings that the instances of the fleet and its topics agree about."""
ROOTS_THAT_ARE_WRITTEN = {
    "kafka": "its start script writes configuration beside the program",
    "schema-registry": "not tried with the real image",
    "postgres": "writes below /run and /var/run",
}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_held_short(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"]
    assert service["mem_limit"]
    assert service["ulimits"] == {"core": 1}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service.get("read_only", False) or name in ROOTS_THAT_ARE_WRITTEN
    assert not service.get("privileged")
    assert "container_name" not in service
    assert "network_mode" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_exact_and_ports_on_loopback(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]
    assert service["image"].startswith("k2-ingest") or re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-\w+)?", tag)
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_only_the_agent_reaches_docker_and_its_port_stays_inside() -> None:
    holders = [name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))]
    assert holders == ["agent"]
    assert "ports" not in SERVICES["agent"]


def test_the_slots_differ_by_their_names_alone() -> None:
    for blue, green in (SLOTS[:2], SLOTS[2:]):
        ours = {key: value for key, value in SERVICES[blue].items() if key not in ("profiles", "ports", "labels")}
        theirs = {key: value for key, value in SERVICES[green].items() if key not in ("profiles", "ports", "labels")}
        for side in (ours, theirs):
            side["environment"] = {
                key: value
                for key, value in side["environment"].items()
                if key not in ("K2_INSTANCE_ID", "K2_SLOT", "K2_START_MODE", "K2_PEERS")
            }
            side["networks"] = sorted(side["networks"])
        assert ours == theirs
        assert SERVICES[blue]["labels"] == {"k2.slot": "blue"}
        assert SERVICES[green]["labels"] == {"k2.slot": "green"}
        assert SERVICES[blue]["environment"]["K2_PEERS"] == "http://ingest-green:9095"
        assert SERVICES[green]["environment"]["K2_PEERS"] == "http://ingest-blue:9095"
        assert "ingest-blue" in SERVICES[blue]["networks"]["core"]["aliases"]
        assert "ingest-green" in SERVICES[green]["networks"]["core"]["aliases"]
        assert SERVICES[green]["networks"]["monitoring"]["aliases"] == ["ingest-green"]


def test_the_instances_of_the_fleet_differ_by_name_and_port_alone() -> None:
    fleet = [SERVICES[f"ingest-fleet-{number}"] for number in (1, 2, 3)]
    names = [one["environment"].pop("K2_INSTANCE_ID") for one in copy.deepcopy(fleet)]
    assert names == ["fleet-1", "fleet-2", "fleet-3"]
    for one in fleet:
        rest = {key: value for key, value in one.items() if key not in ("environment", "ports")}
        assert rest == {key: value for key, value in fleet[0].items() if key not in ("environment", "ports")}
        environment = one["environment"]
        assert environment["K2_SHARD_INDEX"] == "auto"
        assert environment["K2_FLEET_ADDRESS"] == "compose", "one outgoing address"
        assert environment.items() >= {key: SERVICES["fleet-topics"]["environment"][key] for key in SHARED}.items()
        seconds = int(one["stop_grace_period"].removesuffix("s"))
        own = ServiceSettings()
        assert seconds >= own.fleet_leave_timeout_seconds + own.drain_timeout_seconds + 5


def test_simulated_trades_never_reach_the_exchange_s_topic() -> None:
    for name in ("ingest-fleet-1", "ingest-fleet-2", "ingest-fleet-3", "ingest-sim", "ingest-sim-green"):
        environment = SERVICES[name]["environment"]
        assert environment["K2_KAFKA_TOPIC"].startswith("${FLEET_TOPIC" if "fleet" in name else "${SIMULATED_TOPIC")
        assert environment["K2_BINANCE_WEBSOCKET_URL"] == "ws://simulator:9443"
        assert environment["K2_BINANCE_REST_URL"] == "http://simulator:8443"


def test_reports_and_deployments_have_an_auditor_that_is_there() -> None:
    scheduler = SERVICES["airflow-scheduler"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in scheduler["volumes"])
    for name in ("K2_DEPLOY_AUDIT_COMMAND", "K2_REPORT_AUDIT_COMMAND"):
        default = scheduler["environment"][name].partition(":-")[2].rstrip("}")
        program, script, *_ = default.split()
        assert program == "python"
        assert (ROOT / mounts[script]).is_file()
    assert "core" in scheduler["networks"], "tasks run here, and the audit reads Kafka"


def test_the_tasks_of_a_scheduler_that_died_do_not_wait_for_five_minutes() -> None:
    environment = SERVICES["airflow-scheduler"]["environment"]
    assert environment["AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL"] == "60"
    assert environment.items() >= SERVICES["airflow-migrate"]["environment"].items(), "what the others know, too"


def test_settings_that_services_are_given_exist() -> None:
    known = {setting.name for setting in declared()}
    for name in (*SLOTS, "ingest-fleet-1", "topics", "sim-topics", "fleet-topics"):
        for key in SERVICES[name]["environment"]:
            assert key.removesuffix("_FILE") in known, f"{name}: {key}"


def test_every_variable_and_every_setting_is_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    variables = set(re.findall(r"\$\{(\w+)", TEXT)) - {"COMPOSE_PROJECT_NAME"}
    settings = {setting.name for setting in declared()}
    shown = set(re.findall(r"^# (\w+)=", example, re.MULTILINE))
    assert variables - settings <= {name for name, *_ in COMPOSE}
    assert variables <= shown | {"K2_CONTROL_PORT"}
    assert settings - BY_COMPOSE <= {name.removesuffix("_FILE") for name in shown}
    assert not [line for line in example.splitlines() if line and not line.startswith("#")]


def test_defaults_in_the_file_are_those_of_the_example() -> None:
    for name, default, _ in COMPOSE:
        for found in re.findall(rf"\$\{{{name}:-([^}}]*)\}}", TEXT):
            assert found in (default, "unknown"), name
