"""``python -m tests.campaigns.chaos.mutant NAME run``: the service with one planted fault."""

import sys

from tests.campaigns.chaos.mutants import MUTANTS


def main() -> int:
    def patch(owner: object, name: str, value: object) -> None:
        setattr(owner, name, value)

    MUTANTS[sys.argv[1]].apply(patch)
    from ingest.cli import main as ingest

    return ingest(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
