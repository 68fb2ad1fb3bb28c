"""``make locks-proof`` leaves out no lock."""

from tests.campaigns.locks.__main__ import proved
from tests.campaigns.locks.proof import PIPS
from tools import locks


def test_every_lock_is_proved_except_those_of_the_pips_that_install_them() -> None:
    assert set(proved()) == set(locks.LOCKS) - set(PIPS.values())
