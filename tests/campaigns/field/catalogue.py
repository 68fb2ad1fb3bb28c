"""All examples, in the order in which they are played."""

from tests.campaigns.field import (  # noqa: F401 - importing registers the examples
    commands,
    configuration,
    exchange,
    identity,
    judging,
    kinds,
    kinds_kafka,
    networks,
    observers,
    positions,
    recovery,
    registry,
    topics,
    work,
)
from tests.campaigns.field.example import EXAMPLES, Example

__all__ = ["EXAMPLES", "Example"]
