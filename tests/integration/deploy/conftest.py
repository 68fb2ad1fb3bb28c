import os
import shutil

import pytest

from tests.harness.helm import VALUES, Helm, HelmUnavailable
from tests.integration.deploy.rendered import Resource


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


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> dict[str, list[Resource]]:
    return {mode: helm.template(path) for mode, path in VALUES.items()}
