"""The part of the chart's schema that the service's settings decide: from their declarations, nothing written twice."""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from msgspec import Meta

from ingest.settings import Declared, declared

BY_CHART: frozenset[str] = frozenset(
    {
        "K2_CONTROL_HOST",
        "K2_CONTROL_PORT",
        "K2_CONTROL_TOKEN",
        "K2_FLEET_ADDRESS",
        "K2_HTTP_ALLOWED_HOSTS",
        "K2_INSTANCE_ID",
        "K2_METRICS_HOST",
        "K2_METRICS_PORT",
        "K2_PEERS",
        "K2_READY_FILE",
        "K2_REVISION",
        "K2_SHARD_COUNT",
        "K2_SHARD_INDEX",
        "K2_SLOT",
        "K2_STANDBY_WARM",
        "K2_START_MODE",
        "K2_VERSION",
    }
)
"""What the templates set from other values, and what the image sets."""
KAFKA_OPTION = "^K2_KAFKA_OPTION_[A-Z0-9_]+$"
REQUIRED = ("K2_KAFKA_BOOTSTRAP_SERVERS", "K2_KAFKA_SCHEMA_REGISTRY_URL")
NUMBERS = {int: "integer", float: "number"}
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "pattern": "pattern", "min_length": "minLength"}


def settings_schema() -> dict[str, Any]:
    """Schema of ``settings``: every setting that is no secret and is not the chart's own."""
    return {
        "description": "Settings of the service, docs/reference/settings.md; secret ones: secrets.",
        "type": "object",
        "properties": {one.name: _value(one) for one in _for_users() if not one.secret},
        "patternProperties": {KAFKA_OPTION: {"type": ["string", "number", "boolean"]}},
        "additionalProperties": False,
        "required": list(REQUIRED),
    }


def secret_names() -> dict[str, Any]:
    """Schema of the name of a setting that is read from a Secret: any that is not the chart's own."""
    return {"anyOf": [{"enum": sorted(one.name for one in _for_users())}, {"pattern": KAFKA_OPTION}]}


def path_names() -> dict[str, Any]:
    """Schema of the name of a setting whose value is a path."""
    paths = [one.name for one in _for_users() if Path in _types(one)]
    return {"anyOf": [{"enum": sorted(paths)}, {"pattern": "^K2_KAFKA_OPTION_[A-Z0-9_]*(LOCATION|FILE)$"}]}


def _for_users() -> Iterator[Declared]:
    return (one for one in declared() if one.name not in BY_CHART)


def _value(setting: Declared) -> dict[str, Any]:
    base, *metas = get_args(setting.type) if get_origin(setting.type) is Annotated else (setting.type,)
    schema: dict[str, Any] = {"description": setting.description, **_type(base, _types(setting))}
    for meta in metas:
        if isinstance(meta, Meta):
            limits = {word: getattr(meta, field) for field, word in BOUNDS.items()}
            schema |= {word: limit for word, limit in limits.items() if limit is not None}
    return schema


def _types(setting: Declared) -> set[Any]:
    """The plain types of a setting, ``None`` left out."""
    base = get_args(setting.type)[0] if get_origin(setting.type) is Annotated else setting.type
    return ({base} if isinstance(base, type) else set(get_args(base))) - {NoneType}


def _type(base: Any, types: set[Any]) -> dict[str, Any]:
    if get_origin(base) is Literal:
        return {"enum": list(get_args(base))}
    if get_origin(base) is tuple:
        return {"type": ["string", "array"], "items": {"type": "string"}}
    if bool in types:
        return {"type": "boolean"}
    number = next((word for kind, word in NUMBERS.items() if kind in types), None)
    return {"type": number or "string"}
