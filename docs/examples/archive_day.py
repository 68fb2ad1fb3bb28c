"""A day of the archive's table as PyIceberg sees it; what the examples for other engines begin with."""

import argparse
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import load_catalog
from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThan
from pyiceberg.table import Table


def arguments(description: str) -> argparse.Namespace:
    """The day, and where the table is."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("day", metavar="YYYY-MM-DD", help="the UTC day")
    parser.add_argument("--warehouse", default="archive", help="the folder K2_ARCHIVE_WAREHOUSE (default: %(default)s)")
    parser.add_argument("--table", default="market.trades", help="default: %(default)s")
    return parser.parse_args()


def table(options: argparse.Namespace) -> Table:
    """The table, by the catalog in its folder."""
    catalog = load_catalog("k2", type="sql", uri=f"sqlite:///{options.warehouse}/catalog.db")
    return catalog.load_table(options.table)


def within(options: argparse.Namespace) -> BooleanExpression:
    """The rows of the day."""
    start = datetime.fromisoformat(options.day).replace(tzinfo=UTC)
    end = start + timedelta(days=1)
    return And(GreaterThanOrEqual("timestamp", start.isoformat()), LessThan("timestamp", end.isoformat()))
