"""Runs docs/examples/flink.sql in PyFlink until it has produced so many rows of minutes before a time.

Run by the engine's own interpreter.
"""

import json
import sys
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment


def statements(text: str) -> list[str]:
    """The statements of a script: comments may hold semicolons."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [part.strip() for part in "\n".join(lines).split(";") if part.strip()]


def main() -> int:
    """Print one JSON array for each row."""
    script, jars, topic, servers, registry, before, wanted = sys.argv[1:]
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    table.get_config().set("pipeline.jars", jars)
    table.get_config().set("table.local-time-zone", "UTC")
    create, select = statements(Path(script).read_text())
    for old, new in (
        ("market.crypto.trades.binance", topic),
        ("127.0.0.1:29092", servers),
        ("http://127.0.0.1:8081/apis/ccompat/v7", registry),
    ):
        assert create.count(old) == 1, old
        create = create.replace(old, new)
    table.execute_sql(create)
    with table.execute_sql(select).collect() as rows:
        number = 0
        for row in rows:
            values = [str(value) for value in row]
            if values[1] >= before:
                continue
            sys.stdout.write(json.dumps(values) + "\n")
            sys.stdout.flush()
            number += 1
            if number == int(wanted):
                return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
