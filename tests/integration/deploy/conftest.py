import os
import shutil

import pytest

from tests.harness.helm import Helm, HelmUnavailable


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no promtool: install prometheus (Debian: apt-get install prometheus)")
        pytest.skip("no promtool")
    return found


@pytest.fixture(scope="session")
def helm() -> Helm:
    """The real helm on the chart."""
    try:
        return Helm()
    except HelmUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
