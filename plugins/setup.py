"""Build of k2-ingest-ops; what is computed is in ``k2_build``."""

import sys
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import k2_build  # noqa: E402  # beside this file

k2_build.epoch()
setup(
    version=k2_build.version(),
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    project_urls=k2_build.urls(),
    install_requires=[f"k2-ingest=={k2_build.version()}", *k2_build.dependencies()],
    cmdclass={"sdist": k2_build.ReproducibleSdist},
)
