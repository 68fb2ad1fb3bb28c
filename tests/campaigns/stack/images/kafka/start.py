"""What the real image's start script does: KAFKA_* into server.properties, storage formatted once, then Kafka."""

import os
import re
import shlex
import subprocess
from pathlib import Path

CONFIGURATION = Path("/opt/kafka/config")
NOT_PROPERTIES = {"KAFKA_HEAP_OPTS", "KAFKA_OPTS"}


def property_name(variable: str) -> str:
    """``_`` is a point, ``__`` an underscore and ``___`` a hyphen."""
    return re.sub("_+", lambda found: {1: ".", 2: "_", 3: "-"}[len(found[0])], variable.removeprefix("KAFKA_").lower())


def main() -> None:
    """Become Kafka."""
    properties = CONFIGURATION / "server.properties"
    properties.write_text(
        "".join(
            f"{property_name(name)}={value}\n"
            for name, value in os.environ.items()
            if name.startswith("KAFKA_") and name not in NOT_PROPERTIES
        )
    )
    logging = CONFIGURATION / "log4j2.properties"
    logging.write_text(
        "rootLogger.level=WARN\nrootLogger.appenderRef.c.ref=C\nappender.c.type=Console\nappender.c.name=C\n"
        "appender.c.layout.type=PatternLayout\nappender.c.layout.pattern=%d{ISO8601} %p %c: %m%n\n"
    )
    heap = shlex.split(os.environ.get("KAFKA_HEAP_OPTS", "-Xmx512m"))
    java = [
        "java",
        *heap,
        "-XX:TieredStopAtLevel=1",
        f"-Dlog4j2.configurationFile={logging}",
        "-cp",
        "/opt/kafka/libs/*",
    ]
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", os.environ["CLUSTER_ID"], "-c", str(properties),
         "--ignore-formatted"],
        check=True,
    )  # fmt: skip
    os.execvp("java", [*java, "kafka.Kafka", str(properties)])  # noqa: S606


if __name__ == "__main__":
    main()
