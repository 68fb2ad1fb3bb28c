"""The control API's commands: arguments, checked before anything is done, and the role that each needs."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ingest.decoding import decode_typed
from ingest.http.auth import Role

MAX_ID = 2**63 - 1

# \A and \Z, as $ would let a trailing line feed pass.
DeploymentId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
Symbol = Annotated[str, Meta(pattern=r"\A[^\W_a-z]{1,32}\Z")]
"""Letters and digits without lower case: the exchange also lists symbols outside ASCII."""
Symbols = Annotated[list[Symbol], Meta(max_length=1024)]
Name = Annotated[str, Meta(pattern=r"\A[ -~]{1,64}\Z")]


class _Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Promote(_Arguments, frozen=True):
    """Become the writer."""

    deployment_id: DeploymentId
    generation: Annotated[int, Meta(ge=0, le=MAX_ID)]
    """The generation that the new writer shall have: newer than the one in /control/status, else it is refused."""


class StandBy(_Arguments, frozen=True):
    """Stop writing, stay warm."""


class Watch(_Arguments, frozen=True):
    """Compare with what the writer commits, without writing."""


class Drain(_Arguments, frozen=True):
    """Commit what is here and end."""


class Rotate(_Arguments, frozen=True):
    """Replace one connection, or every one."""

    connection: Name | None = None


class ChangeSymbols(_Arguments, frozen=True):
    """Record more or fewer symbols."""

    add: Symbols | UnsetType = UNSET
    remove: Symbols | UnsetType = UNSET

    def __post_init__(self) -> None:
        add, remove = self.add or [], self.remove or []
        if not add and not remove:
            raise ValueError("name at least one symbol in `add` or `remove`")
        both = sorted(set(add) & set(remove))
        if both:
            raise ValueError(f"{', '.join(both[:10])} in both `add` and `remove`")


class Thaw(_Arguments, frozen=True):
    """Let a frozen symbol go on at an id; what is passed over becomes a void of the operator's."""

    symbol: Symbol
    next_id: Annotated[int, Meta(ge=0, le=MAX_ID)]
    actor: Name | UnsetType = UNSET
    stream: Name | UnsetType = UNSET
    """As ``K2_BINANCE_STREAMS`` names it; the trades by default."""


class Command(msgspec.Struct, frozen=True):
    """The type of a command's arguments, and the least role that may give it."""

    arguments: type[_Arguments]
    role: Role


COMMANDS: dict[str, Command] = {
    "promote": Command(Promote, Role.DEPLOY),
    "stand_by": Command(StandBy, Role.DEPLOY),
    "watch": Command(Watch, Role.DEPLOY),
    "drain": Command(Drain, Role.OPERATE),
    "rotate": Command(Rotate, Role.OPERATE),
    "symbols": Command(ChangeSymbols, Role.OPERATE),
    "thaw": Command(Thaw, Role.OPERATE),
}


def parse(name: str, body: bytes) -> dict[str, Any]:
    """Return a command's checked arguments; an empty body is an empty object.

    Raises ``Undecodable`` (a ``ValueError``) that says what is wrong.
    """
    kind = COMMANDS[name].arguments
    arguments: dict[str, Any] = msgspec.to_builtins(decode_typed(body.strip() or b"{}", kind))
    return {key: list(dict.fromkeys(value)) if isinstance(value, list) else value for key, value in arguments.items()}
