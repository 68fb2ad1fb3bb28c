"""The Helm chart by the real helm: the Job before an upgrade, where pods are placed, and what their network allows."""

import argparse
from pathlib import Path

import pytest
import yaml

from ingest.kafka import topics
from ingest.kafka.topic_policy import RETENTION_MS, duration_ms
from tests.harness.helm import CHART, VALUES, Helm
from tests.integration.deploy.rendered import Resource, containers, expanded, modes, of_kind, pods, written

pytestmark = pytest.mark.integration


def test_the_check_before_an_upgrade_is_a_hook_without_the_chart_s_account(rendered: dict[str, list[Resource]]) -> None:
    (job,) = of_kind(rendered["shards"], "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade,test"
    pod = job["spec"]["template"]
    create, check = (box["args"] for box in containers(pod))
    assert check == ["check", "--connect"]
    assert create[0] == "topics"
    parser = argparse.ArgumentParser()
    topics.add_arguments(parser)
    default, given = vars(parser.parse_args([])), vars(parser.parse_args(create[1:]))
    assert given == default | {"retention_ms": duration_ms("30d")}, "what the values do not name is its default"
    assert "serviceAccountName" not in pod["spec"], "hooks run before it exists"


def test_the_chart_s_defaults_of_topics_are_those_of_the_command() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["preflight"]
    parser = argparse.ArgumentParser()
    topics.add_arguments(parser)
    default = parser.parse_args([])
    assert (values["partitions"], values["replicationFactor"]) == (default.partitions, default.replication_factor)
    assert duration_ms(values["retention"]) == RETENTION_MS


def test_the_check_before_an_upgrade_needs_no_memory_for_shards(rendered: dict[str, list[Resource]]) -> None:
    (job,) = of_kind(rendered["fleet"], "Job")
    for box in containers(job["spec"]["template"]):
        assert box["resources"] == {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}}


@modes
def test_pods_are_spread_by_constraints_that_the_api_server_takes(
    rendered: dict[str, list[Resource]], mode: str
) -> None:
    for one in of_kind(rendered[mode], "Deployment", "StatefulSet"):
        constraints = one["spec"]["template"]["spec"]["topologySpreadConstraints"]
        keys = [(entry["topologyKey"], entry["whenUnsatisfiable"]) for entry in constraints]
        assert len(set(keys)) == len(keys) == 2, "two of a pair are refused"
        of_shards = [entry.get("matchLabelKeys") for entry in constraints]
        assert of_shards == [["apps.kubernetes.io/pod-index"] if mode == "shards" else None] * 2


def test_pods_of_fixed_shards_in_one_slot_are_spread_all_together(helm: Helm, tmp_path: Path) -> None:
    single = helm.template(VALUES["shards"], written(tmp_path, slots=[{"name": "blue"}]))
    (found,) = of_kind(single, "StatefulSet")
    constraints = found["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [entry.get("matchLabelKeys") for entry in constraints] == [None, None], "each pod would be alone"


@pytest.mark.parametrize(
    ("servers", "registry", "ports"),
    [
        ("kafka", "http://registry", ([9092], [80])),
        ("kafka-0,kafka-1:9093, kafka-2:9093", "https://registry/apis/v7", ([9092, 9093], [443])),
        ("[2001:db8::1]:9094,[2001:db8::2]", "https://a:8443/x:1,http://b:8081/", ([9094, 9092], [8443, 8081])),
    ],
)
def test_ports_of_egress_are_those_of_the_addresses_or_their_defaults(
    helm: Helm, tmp_path: Path, servers: str, registry: str, ports: tuple[list[int], list[int]]
) -> None:
    settings = {"K2_KAFKA_BOOTSTRAP_SERVERS": servers, "K2_KAFKA_SCHEMA_REGISTRY_URL": registry}
    (policy,) = of_kind(helm.template(VALUES["single"], written(tmp_path, settings=settings)), "NetworkPolicy")
    egress = [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]]
    assert (egress[1], egress[2]) == ports


def test_a_network_policy_opens_what_is_needed(rendered: dict[str, list[Resource]]) -> None:
    (policy,) = of_kind(rendered["shards"], "NetworkPolicy")
    egress = [{port["port"] for port in rule["ports"]} for rule in policy["spec"]["egress"]]
    assert egress == [{53}, {9093, 9094}, {443}, {443, 9443}, {"status"}], "DNS, Kafka, registry, exchange, peers"
    assert all("to" in rule for rule in (policy["spec"]["egress"][0], policy["spec"]["egress"][3]))
    peers, status, control = policy["spec"]["ingress"]
    assert [port["port"] for port in peers["ports"]] == ["status"]
    labels = policy["spec"]["podSelector"]["matchLabels"] | {"app.kubernetes.io/component": "recorder"}
    assert peers["from"] == policy["spec"]["egress"][-1]["to"] == [{"podSelector": {"matchLabels": labels}}]
    assert [port["port"] for port in status["ports"]] == ["status"]
    assert [port["port"] for port in control["ports"]] == ["control"]
    assert control["from"] == status["from"][1:], "the deployer alone, and Prometheus at the status port"
    (policy,) = of_kind(rendered["single"], "NetworkPolicy")
    assert [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]] == ["status", "status"]


def test_a_network_policy_without_clients_lets_in_the_recorders_of_a_shard_at_most(helm: Helm, tmp_path: Path) -> None:
    nobody = written(tmp_path, networkPolicy={"prometheus": [], "deployer": []})
    (policy,) = of_kind(helm.template(VALUES["fleet"], nobody), "NetworkPolicy")
    assert policy["spec"]["ingress"] == []
    assert "Ingress" in policy["spec"]["policyTypes"]
    (policy,) = of_kind(helm.template(VALUES["single"], nobody), "NetworkPolicy")
    assert len(policy["spec"]["ingress"]) == 1
    assert "podSelector" in policy["spec"]["ingress"][0]["from"][0]


def peers_of(resources: list[Resource]) -> dict[str, str | None]:
    found = {}
    for name, pod in pods(of_kind(resources, "Deployment", "StatefulSet")):
        (container,) = pod["spec"]["containers"]
        environment: dict[str, str] = {"K2_SHARD_INDEX": "2"}
        for one in container["env"]:
            environment.setdefault(one["name"], expanded(one.get("value", ""), environment))
        found[name] = environment.get("K2_PEERS")
    return found


def test_pods_that_may_write_one_shard_watch_each_other(rendered: dict[str, list[Resource]]) -> None:
    services = [one["metadata"]["name"] for one in of_kind(rendered["pair"], "Service")]
    assert set(peers_of(rendered["pair"]).values()) == {",".join(f"http://{name}.market:9095" for name in services)}
    (service,) = [one["metadata"]["name"] for one in of_kind(rendered["single"], "Service")]
    assert list(peers_of(rendered["single"]).values()) == [f"http://{service}.market:9095"], "an update has two pods"
    services = [one["metadata"]["name"] for one in of_kind(rendered["shards"], "Service")]
    assert set(peers_of(rendered["shards"]).values()) == {
        ",".join(f"http://{name}-2.{name}.market:9095" for name in services)
    }
    assert set(peers_of(rendered["fleet"]).values()) == {None}
