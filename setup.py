"""Build of k2-ingest. Compiles the hot path to C with mypyc if ``K2_COMPILE=1``; otherwise it is plain Python.

The sources are the same and nothing else depends on it (docs/decisions/0009). ``make compiled`` builds beside the
sources; the image is built with it.
"""

import os
import sys
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "plugins"))

import k2_build  # noqa: E402  # shared with k2-ingest-ops

# No module that defines a msgspec.Struct: mypyc forgets the annotations that such a class is made of.
HOT = [
    "ingest/binance/frame_scanner.py",
    "ingest/core/continuity.py",
    "ingest/core/id_ranges.py",
    "ingest/core/ordered_release.py",
    "ingest/core/pending_batches.py",
    "ingest/core/sequence.py",
    "ingest/core/symbol_sequence.py",
    "ingest/kafka/encoding.py",
    "ingest/service/numbered_lane.py",
    "ingest/service/pipeline.py",
]


def extensions() -> list[object]:
    """What is to be compiled: nothing, unless asked for."""
    if os.environ.get("K2_COMPILE") != "1":
        return []
    from mypyc.build import mypycify  # a tool of the build, not of the package

    return list(mypycify(HOT, opt_level="3", debug_level="0", group_name="k2_ingest", target_dir="build/mypyc"))


k2_build.epoch()
setup(
    version=k2_build.version(),
    long_description=k2_build.readme(HERE / "README.md"),
    long_description_content_type="text/markdown",
    project_urls=k2_build.urls(),
    ext_modules=extensions(),
    cmdclass={"sdist": k2_build.ReproducibleSdist},
)
