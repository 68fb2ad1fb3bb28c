"""The Helm chart by the real helm: lint, the examples rendered, Kubernetes' own schemas, and what is refused."""

import copy
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest

from ingest.settings import declared, load
from ingest.settings.display import SECRET_WORDS, SENSITIVE_OPTIONS
from tests.harness.helm import CHART, OLDEST_KUBERNETES, SHARED_ATTEMPTS, VALUES, Helm, HelmFailed, fleet_attempts
from tests.integration.deploy.rendered import Resource, containers, expanded, modes, of_kind, pods, written

pytestmark = pytest.mark.integration

OPERATOR = {"PrometheusRule", "ScrapeConfig", "ServiceMonitor"}
"""Resources of the Prometheus operator: no part of Kubernetes, and no schema of theirs is at hand."""
KNOWN = {setting.name for setting in declared()}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return bool(selector["matchLabels"]) and selector["matchLabels"].items() <= labels.items()


@modes
def test_the_chart_is_without_warnings(helm: Helm, mode: str) -> None:
    helm.lint(VALUES[mode])


@modes
@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, "newest"])
def test_kubernetes_accepts_every_resource(rendered: dict[str, list[Resource]], mode: str, version: str) -> None:
    wanted = kubernetes_validate.latest_version() if version == "newest" else version
    for resource in rendered[mode]:
        if resource["kind"] not in OPERATOR:
            kubernetes_validate.validate(resource, wanted, strict=True)


@pytest.mark.parametrize(
    ("where", "value"),
    [("replicas", "one"), ("replica", 1), ("template", None)],
    ids=["another type", "a misspelt field", "a field that is missing"],
)
def test_the_schemas_find_a_mistake(rendered: dict[str, list[Resource]], where: str, value: object) -> None:
    resource = copy.deepcopy(of_kind(rendered["single"], "Deployment")[0])
    resource["spec"][where] = value
    if value is None:
        del resource["spec"][where]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resource, OLDEST_KUBERNETES, strict=True)


@modes
def test_names_of_resources_are_unique_and_have_a_namespace(rendered: dict[str, list[Resource]], mode: str) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in rendered[mode]]
    assert len(set(names)) == len(names)
    assert {one["metadata"]["namespace"] for one in rendered[mode]} == {"market"}


@modes
def test_a_container_s_settings_are_good(rendered: dict[str, list[Resource]], mode: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sixteen-letters-of-a-secret")
    fields = {"metadata.name": "k2-ingest-blue-0", "spec.nodeName": "node-1.example"}
    index = "metadata.labels['apps.kubernetes.io/pod-index']"
    for _, pod in pods(rendered[mode]):
        for container in containers(pod):
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            environment: dict[str, str] = {}
            for one in container["env"]:
                name, value = one["name"], one.get("value")
                if value is None:
                    value = (fields | {index: "3"})[one["valueFrom"]["fieldRef"]["fieldPath"]]
                if value.startswith(("/run/secrets/", "/run/files/")):
                    assert str(Path(value).parent) in mounts, f"{name} is not mounted"
                    value = str(secret)
                environment[name] = expanded(value, environment)
            assert len(environment) == len(container["env"]), "a name is there twice"
            settings = load(environment)
            assert settings.kafka.bootstrap_servers != "localhost:9092"


@modes
def test_settings_in_what_is_rendered_are_declared(rendered: dict[str, list[Resource]], mode: str) -> None:
    names = {one["name"] for _, pod in pods(rendered[mode]) for box in containers(pod) for one in box["env"]}
    unknown = {name for name in names if name.removesuffix("_FILE") not in KNOWN}
    assert {name for name in unknown if not name.startswith("K2_KAFKA_OPTION_")} == set()


@modes
def test_pods_have_no_rights(rendered: dict[str, list[Resource]], mode: str) -> None:
    for name, pod in pods(rendered[mode]):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


@modes
def test_secrets_are_named_and_nothing_holds_their_values(rendered: dict[str, list[Resource]], mode: str) -> None:
    assert of_kind(rendered[mode], "Secret", "ConfigMap") == []
    secret = {one.name for one in declared() if one.secret}
    for _, pod in pods(rendered[mode]):
        for container in containers(pod):
            assert not secret & {one["name"] for one in container["env"]}, "in clear text"
            assert not [one for one in container["env"] if "PASSWORD" in one["name"] and "_FILE" not in one["name"]]


@modes
def test_selectors_find_the_pods(rendered: dict[str, list[Resource]], mode: str) -> None:
    resources = rendered[mode]
    (budget,) = of_kind(resources, "PodDisruptionBudget")
    for one in of_kind(resources, "Deployment", "StatefulSet"):
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert selects(one["spec"]["selector"], labels)
        assert selects(budget["spec"]["selector"], labels), "one budget over all slots"
        services = [s for s in of_kind(resources, "Service") if s["spec"]["selector"].items() <= labels.items()]
        assert [service["metadata"]["name"] for service in services] == [one["metadata"]["name"]]
        if one["kind"] == "StatefulSet":
            assert one["spec"]["serviceName"] == services[0]["metadata"]["name"]
        for monitor in of_kind(resources, "ServiceMonitor"):
            assert selects(monitor["spec"]["selector"], services[0]["metadata"]["labels"])
    (policy,) = of_kind(resources, "NetworkPolicy")
    (job,) = of_kind(resources, "Job")
    assert selects(policy["spec"]["podSelector"], job["spec"]["template"]["metadata"]["labels"])
    assert not selects(budget["spec"]["selector"], job["spec"]["template"]["metadata"]["labels"])


def test_fixed_shards_have_their_index_from_the_pod_and_divide_what_an_address_may(
    rendered: dict[str, list[Resource]],
) -> None:
    sets = of_kind(rendered["shards"], "StatefulSet")
    assert [one["spec"]["replicas"] for one in sets] == [4, 4]
    for one in sets:
        assert one["spec"]["updateStrategy"] == {"type": "OnDelete"}, "not both instances of a shard at once"
        (container,) = one["spec"]["template"]["spec"]["containers"]
        environment = {entry["name"]: entry for entry in container["env"]}
        assert environment["K2_SHARD_COUNT"]["value"] == "4"
        field = environment["K2_SHARD_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"]
        assert field == "metadata.labels['apps.kubernetes.io/pod-index']"
        assert float(environment["K2_BINANCE_REST_WEIGHT_CATCH_UP_FRACTION"]["value"]) * 4 <= 0.9
        assert int(environment["K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES"]["value"]) * 8 <= 300
        assert environment["K2_BINANCE_JUMP_LIMIT"]["value"] == "2000000", "no exponent"


def test_a_fleet_has_stable_names_a_shared_address_and_targets_for_its_shards(
    helm: Helm, rendered: dict[str, list[Resource]], tmp_path: Path
) -> None:
    (fleet,) = of_kind(rendered["fleet"], "StatefulSet")
    assert fleet["spec"]["replicas"] == 3
    (container,) = fleet["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    wanted = {"K2_SHARD_INDEX": "auto", "K2_SHARD_COUNT": "12", "K2_STANDBY_WARM": "1", "K2_START_MODE": "auto"}
    assert environment.items() >= wanted.items()
    assert environment[SHARED_ATTEMPTS] == str(fleet_attempts())
    (scrape,) = of_kind(rendered["fleet"], "ScrapeConfig")
    hosts = [str(urlsplit(one["url"]).hostname) for one in scrape["spec"]["httpSDConfigs"]]
    name = fleet["metadata"]["name"]
    assert hosts == [f"{name}-{at}.{name}.market.svc" for at in range(3)]
    allowed = str(environment["K2_HTTP_ALLOWED_HOSTS"]).replace("$(K2_INSTANCE_ID)", f"{name}-0").split(",")
    assert hosts[0] in allowed, "the server refuses other names"
    (monitor,) = of_kind(rendered["fleet"], "ServiceMonitor")
    job = {one["targetLabel"]: one.get("replacement") for one in monitor["spec"]["endpoints"][0]["relabelings"]}["job"]
    assert job == "ingest-fleet", "the alerts on job ingest are about shards"
    shared = helm.template(VALUES["fleet"], written(tmp_path, fleet={"address": ""}))
    box = of_kind(shared, "StatefulSet")[0]["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "K2_FLEET_ADDRESS", "value": "k2-k2-ingest.market"} in box["env"], "not the pod's own name"


def test_another_slot_s_version_and_another_chart_restart_no_pod(
    helm: Helm, rendered: dict[str, list[Resource]], tmp_path: Path
) -> None:
    newer = helm.template(
        VALUES["shards"], written(tmp_path, slots=[{"name": "blue"}, {"name": "green", "tag": "9.9.9"}])
    )
    before, after = (dict(pods(resources)) for resources in (rendered["shards"], newer))
    assert before["k2-k2-ingest-blue"] == after["k2-k2-ingest-blue"]
    assert before["k2-k2-ingest-green"] != after["k2-k2-ingest-green"]
    labels = {key for name, pod in before.items() if "preflight" not in name for key in pod["metadata"]["labels"]}
    assert labels & {"app.kubernetes.io/version", "helm.sh/chart"} == set()


def test_the_grace_period_is_longer_than_the_service_s_own_drain(
    helm: Helm, rendered: dict[str, list[Resource]], tmp_path: Path
) -> None:
    def grace(resources: list[Resource]) -> set[int]:
        workloads = of_kind(resources, "Deployment", "StatefulSet")
        return {one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] for one in workloads}

    assert grace(rendered["single"]) == {20}
    assert grace(rendered["shards"]) == {26}, "15.5 s of draining, rounded up, and ten"
    assert grace(rendered["fleet"]) == {40}, "20 s until successors have taken over, too"
    leaving = written(tmp_path, settings={"K2_FLEET_LEAVE_TIMEOUT_SECONDS": 0})
    assert grace(helm.template(VALUES["fleet"], leaving)) == {20}
    assert grace(helm.template(VALUES["single"], written(tmp_path, terminationGracePeriodSeconds=77))) == {77}


def test_defaults_that_the_templates_repeat_are_those_of_the_settings() -> None:
    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    default = {setting.name: setting.default for setting in declared()}
    found = re.search(r'"K2_DRAIN_TIMEOUT_SECONDS" \| default ([0-9.]+)', text)
    assert found is not None
    assert float(found[1]) == default["K2_DRAIN_TIMEOUT_SECONDS"]
    found = re.search(r"\$leave = ([0-9.]+)", text)
    assert found is not None
    assert float(found[1]) == default["K2_FLEET_LEAVE_TIMEOUT_SECONDS"]
    for name in ("K2_BINANCE_REST_WEIGHT_FRACTION", "K2_BINANCE_REST_WEIGHT_CATCH_UP_FRACTION"):
        found = re.search(rf'"{name}" \(printf "%.5f" \(divf ([0-9.]+)', text)
        assert found is not None
        assert float(found[1]) == default[name]
    assert f"min {default['K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES']} $attempts" in text


@pytest.mark.parametrize("mode", ["single", "shards", "fleet"])
def test_the_longest_names_stay_within_the_limits(helm: Helm, tmp_path: Path, mode: str) -> None:
    extra = {"slots": [{"name": "longest-10"}], "control": {"enabled": False}}
    resources = helm.template(VALUES[mode], written(tmp_path, **extra), release="r" * 53)
    for one in of_kind(resources, "Deployment", "StatefulSet"):
        longest = len(one["metadata"]["name"]) + len("-0123456789-abcde")
        assert longest <= 58, "an instance id of the fleet"
    for one in resources:
        assert len(one["metadata"]["name"]) <= 63


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"settings": {"K2_BINANCE_SYMBOL": "BTCUSDT"}}, "K2_BINANCE_SYMBOL"),
        ({"settings": {"K2_DRAIN_TIMEOUT_SECONDS": 61}}, "K2_DRAIN_TIMEOUT_SECONDS … 60"),
        ({"settings": {"K2_BUFFER_MAX_TRADES": "many"}}, "K2_BUFFER_MAX_TRADES … integer"),
        ({"settings": {"K2_LOG_LEVEL": "LOUD"}}, "K2_LOG_LEVEL … must be one of … DEBUG"),
        ({"settings": {"K2_KAFKA_TOPIC": "a topic"}}, "K2_KAFKA_TOPIC … match pattern … {1,200}"),
        (
            {"settings": {"K2_KAFKA_OPTION_SASL_PASSWORD": "hunter2"}},
            "settings.K2_KAFKA_OPTION_SASL_PASSWORD is secret",
        ),
        ({"settings": {"K2_CONTROL_TOKEN": "sixteen-letters-of"}}, "K2_CONTROL_TOKEN"),
        ({"settings": {"K2_SHARD_INDEX": 1}}, "K2_SHARD_INDEX"),
        ({"settings": {"K2_KAFKA_BOOTSTRAP_SERVERS": None}}, "K2_KAFKA_BOOTSTRAP_SERVERS"),
        ({"mode": "cluster"}, "mode … must be one of … single"),
        ({"image": {"tags": "1"}}, "image … tags … not allowed"),
        ({"slots": []}, "slots … 1"),
        ({"slots": [{"name": "Blue"}]}, "slots … 0 … name … match pattern"),
        ({"slots": [{"name": "blue"}, {"name": "blue"}]}, "slots: blue is there twice"),
        ({"shards": {"count": 4}}, "shards.count=4 with mode single"),
        ({"mode": "fleet", "slots": [{"name": "a"}, {"name": "b"}]}, "slots: a fleet has one slot"),
        ({"mode": "fleet", "slots": [{"name": "a", "startMode": "standby"}]}, "slots: a fleet has no start mode"),
        ({"mode": "fleet", "control": {"enabled": True, "token": {"secret": "k2"}}}, "control.enabled with mode fleet"),
        ({"control": {"enabled": True}}, "control.token.secret: the control API needs a token"),
        ({"secrets": [{"setting": "K2_TOKEN", "secret": "k2", "key": "a"}]}, "secrets … 0 … setting"),
        (
            {"files": [{"setting": "K2_BINANCE_CUSTOM_CA_BUNDLE", "key": "a"}]},
            "files … 0",
        ),
        (
            {
                "settings": {"K2_KAFKA_SCHEMA_REGISTRY_USER": "me"},
                "secrets": [{"setting": "K2_KAFKA_SCHEMA_REGISTRY_USER", "secret": "k2", "key": "user"}],
            },
            "K2_KAFKA_SCHEMA_REGISTRY_USER is set twice",
        ),
        ({"topologySpread": {"zone": "Never"}}, "topologySpread … zone … must be one of … DoNotSchedule"),
    ],
)
def test_a_bad_value_ends_with_a_line_that_names_it(
    helm: Helm, tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(HelmFailed) as failed:
        helm.template(VALUES["single"], written(tmp_path, **values))
    # The words of a schema's complaint change from one release of Helm to the next.
    assert re.search(".*".join(map(re.escape, said.split(" … "))), str(failed.value), re.S)
    assert "hunter2" not in str(failed.value)


def test_what_a_chart_cannot_guess_is_required(helm: Helm) -> None:
    with pytest.raises(HelmFailed) as failed:
        helm.template()
    for name in ("K2_KAFKA_BOOTSTRAP_SERVERS", "K2_KAFKA_SCHEMA_REGISTRY_URL"):
        assert re.search(rf"settings.*{name}", str(failed.value), re.S)


def test_what_the_service_masks_is_refused_among_the_settings(helm: Helm, tmp_path: Path) -> None:
    names = SENSITIVE_OPTIONS | {f"a.later.{word}" for word in SECRET_WORDS}
    for option in sorted(names):
        name = f"K2_KAFKA_OPTION_{option.upper().replace('.', '_')}"
        values = written(tmp_path, settings={name: "x"})
        if option.endswith((".location", ".file")):
            helm.template(VALUES["single"], values)
        else:
            with pytest.raises(HelmFailed, match=f"settings.{name} is secret"):
                helm.template(VALUES["single"], values)


def test_what_the_chart_takes_for_secret_is_masked_by_the_service() -> None:
    text = (CHART / "templates" / "_helpers.tpl").read_text()
    found = re.search(r'"\^K2_KAFKA_OPTION_\.\*\(([A-Z_|]+)\)"', text)
    assert found is not None
    for word in found[1].split("|"):
        option = word.lower().replace("_", ".")
        assert option in SECRET_WORDS or any(option in known for known in SENSITIVE_OPTIONS), word


def test_notes_say_what_was_installed_and_what_is_missing(helm: Helm, tmp_path: Path) -> None:
    # Helm shows notes only of what it installs: here they are rendered as a resource.
    chart = Path(shutil.copytree(CHART, tmp_path / "k2-ingest"))
    text = (chart / "templates" / "NOTES.txt").read_text()
    (chart / "templates" / "notes.yaml").write_text(
        f'kind: Notes\ntext: {{{{ include "notes" . | quote }}}}\n{{{{ define "notes" }}}}{text}{{{{ end }}}}\n'
    )
    copied = Helm(chart)

    def notes(mode: str, **values: Any) -> str:
        return str(of_kind(copied.template(VALUES[mode], written(tmp_path, **values)), "Notes")[0]["text"])

    assert "There is one slot" in notes("single")
    assert "delete pods -l app.kubernetes.io/instance=k2,k2.slot=green" in notes("shards")
    assert "nothing reaches the control port" in notes("shards", networkPolicy={"deployer": []})
    assert "3 instances share 12 shards" in notes("fleet")
