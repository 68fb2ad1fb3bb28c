"""The life of an instance, as a table."""

from itertools import product

import pytest

from ingest.core.role import _TABLE, Role, RoleEvent, may_write, transition
from ingest.core.transitions import IllegalTransitionError
from ingest.metrics import ROLES


@pytest.mark.parametrize(("role", "event"), list(product(Role, RoleEvent)))
def test_every_pair_is_either_in_the_table_or_raises(role: Role, event: RoleEvent) -> None:
    if (role, event) in _TABLE:
        assert transition(role, event) is _TABLE[role, event]
    else:
        with pytest.raises(IllegalTransitionError, match=f"{event.value} is not possible in state {role.value}"):
            transition(role, event)


def test_nobody_becomes_active_without_having_taken_over() -> None:
    into_active = {pair for pair, to in _TABLE.items() if to is Role.ACTIVE and pair[0] is not Role.ACTIVE}
    assert {event for _, event in into_active} == {RoleEvent.TOOK_OVER}


def test_every_state_can_be_drained_and_stopped() -> None:
    for role in Role:
        if role not in (Role.DRAINING, Role.STOPPED):
            assert transition(role, RoleEvent.DRAIN) is Role.DRAINING
    assert transition(Role.DRAINING, RoleEvent.STOP) is Role.STOPPED


def test_only_active_and_draining_write() -> None:
    assert {role for role in Role if may_write(role)} == {Role.ACTIVE, Role.DRAINING}


def test_the_metric_knows_every_role() -> None:
    assert {role.value for role in Role} == set(ROLES)
