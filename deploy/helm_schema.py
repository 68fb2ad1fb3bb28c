"""``values.schema.json`` of the Helm chart: a bad value ends ``helm install`` with a line that names it."""

from collections.abc import Mapping
from typing import Any

from deploy.helm_settings import path_names, secret_names, settings_schema
from ingest.settings.declarations import MOST_PEERS

TEXT: Mapping[str, Any] = {"type": "string"}
FLAG: Mapping[str, Any] = {"type": "boolean"}
FREE: Mapping[str, Any] = {"type": "object"}
PEERS: Mapping[str, Any] = {"type": "array", "items": FREE}
NAME: Mapping[str, Any] = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"}
KEY: Mapping[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}
SPREAD: Mapping[str, Any] = {"enum": ["", "ScheduleAnyway", "DoNotSchedule"]}


def number(minimum: int, maximum: int) -> dict[str, Any]:
    """A whole number with bounds."""
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


def record(required: tuple[str, ...] = (), /, **properties: Mapping[str, Any]) -> dict[str, Any]:
    """An object with these keys and no others."""
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def listed(item: Mapping[str, Any], **rules: Any) -> dict[str, Any]:
    """An array of equal entries."""
    return {"type": "array", "items": item, **rules}


def destination() -> dict[str, Any]:
    """Where egress is allowed to."""
    return record(ports=listed(number(1, 65_535)), to=PEERS)


def probe() -> dict[str, Any]:
    """Times of one probe, seconds. A success threshold above 1 is allowed for none of ours."""
    return record(
        ("periodSeconds", "timeoutSeconds", "failureThreshold"),
        periodSeconds=number(1, 300),
        timeoutSeconds=number(1, 60),
        failureThreshold=number(1, 100),
        initialDelaySeconds=number(0, 600),
    )


def _pods() -> dict[str, Mapping[str, Any]]:
    return {
        "image": record(repository=TEXT, tag=TEXT, pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]}),
        "imagePullSecrets": PEERS,
        "resources": FREE,
        "probes": record(startup=probe(), liveness=probe(), readiness=probe()),
        "terminationGracePeriodSeconds": number(0, 3600),
        "topologySpread": record(hostname=SPREAD, zone=SPREAD),
        "nodeSelector": FREE,
        "tolerations": PEERS,
        "affinity": FREE,
        "priorityClassName": TEXT,
        "podAnnotations": FREE,
        "podLabels": FREE,
    }


def _around() -> dict[str, Mapping[str, Any]]:
    return {
        "preflight": record(
            enabled=FLAG,
            topics=FLAG,
            partitions=number(1, 10_000),
            replicationFactor=number(1, 32),
            retention={"type": "string", "pattern": "^([0-9]+[dh]|forever)$"},
            activeDeadlineSeconds=number(10, 3600),
            resources=FREE,
        ),
        "podDisruptionBudget": record(enabled=FLAG, maxUnavailable=number(0, 1000)),
        "serviceAccount": record(create=FLAG, name=TEXT, annotations=FREE),
        "networkPolicy": record(
            enabled=FLAG,
            prometheus=PEERS,
            deployer=PEERS,
            dns=PEERS,
            kafka=destination(),
            registry=destination(),
            exchange=destination(),
            extraEgress=PEERS,
        ),
        "serviceMonitor": record(enabled=FLAG, labels=FREE),
        "prometheusRule": record(enabled=FLAG, labels=FREE, runbook=TEXT),
    }


def values_schema() -> dict[str, Any]:
    """The whole schema."""
    # An instance id is the pod's name with at most 58 characters: 30 of the release, 10 of the slot, 16 of the pod.
    slot = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?$"}
    ours = record(
        ("mode", "slots", "settings"),
        mode={"enum": ["single", "shards", "fleet"]},
        nameOverride=TEXT,
        fullnameOverride=TEXT,
        clusterDomain=TEXT,
        slots=listed(
            record(("name",), name=slot, tag=TEXT, startMode={"enum": ["auto", "standby", "shadow"]}),
            minItems=1,
            maxItems=MOST_PEERS,  # each instance gets the addresses of all slots
        ),
        shards=record(
            count=number(1, 1000),
            shareAddress=FLAG,
            updateStrategy={"enum": ["", "RollingUpdate", "OnDelete"]},
        ),
        fleet=record(
            instances=number(1, 1000),
            standbyWarm=number(0, 1),
            address={"type": "string", "pattern": "^[A-Za-z0-9._-]{0,253}$"},
        ),
        settings=settings_schema(),
        secrets=listed(record(("setting", "secret", "key"), setting=secret_names(), secret=NAME, key=KEY)),
        files=listed(
            record(("setting", "key"), setting=path_names(), secret=NAME, configMap=NAME, key=KEY)
            | {"oneOf": [{"required": ["secret"]}, {"required": ["configMap"]}]}
        ),
        control=record(enabled=FLAG, token=record(secret=TEXT, key=KEY)),
        allowedHosts=listed(TEXT),
        **{"global": FREE},  # Helm gives it to every chart that another one depends on
        **_pods(),
        **_around(),
    )
    return {"$schema": "http://json-schema.org/draft-07/schema#", **ours}
