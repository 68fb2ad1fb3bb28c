"""Every container that outlives a single call is in the table of bounds, or exempt with a reason."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
TABLE: list[dict[str, Any]] = tomllib.loads((ROOT / "docs" / "bounds.toml").read_text())["bound"]
EXEMPT: dict[str, list[str]] = {
    one["reason"]: one["where"] for one in tomllib.loads((ROOT / "docs" / "bounds_exempt.toml").read_text())["exempt"]
}
CODE = ("ingest", "plugins/ingest_ops")
NOT_LISTED = "ingest/simulator/"
"""A tool of tests."""
MAKERS = frozenset(
    [
        "BytesIO",
        "ChainMap",
        "Counter",
        "HeldEvents",
        "LRUCache",
        "LifoQueue",
        "OrderedDict",
        "PriorityQueue",
        "Queue",
        "SerializerCache",
        "SimpleQueue",
        "StringIO",
        "TTLCache",
        "WeakKeyDictionary",
        "WeakSet",
        "WeakValueDictionary",
        "array",
        "bytearray",
        "defaultdict",
        "deque",
        "dict",
        "list",
        "set",
    ]
)
CACHES = frozenset({"cache", "lru_cache"})
COMPREHENSIONS = (ast.Dict, ast.DictComp, ast.List, ast.ListComp, ast.Set, ast.SetComp)


def name_of(node: ast.expr) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Subscript(value=inner) | ast.Call(func=inner):
            return name_of(inner)
        case _:
            return ""


def makes_container(value: ast.expr) -> bool:
    """Whether an expression, or a branch of it, makes a container that can grow."""
    match value:
        case ast.IfExp(body=one, orelse=other):
            return makes_container(one) or makes_container(other)
        case ast.BoolOp(values=values):
            return any(map(makes_container, values))
        case ast.Call(func=ast.Name(id="field"), keywords=keywords):
            return any(one.arg == "default_factory" and _makes(one.value) for one in keywords)
        case ast.Call(func=made):
            return name_of(made) in MAKERS
        case _:
            return isinstance(value, COMPREHENSIONS)


def _makes(factory: ast.expr) -> bool:
    return makes_container(factory.body) if isinstance(factory, ast.Lambda) else name_of(factory) in MAKERS


def assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Target and value of each assignment below a node."""
    for inner in ast.walk(node):
        match inner:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _pairs(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield target, value
            case _:
                pass


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple):
        values = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
        yield from zip(target.elts, values, strict=False)
    else:
        yield target, value


def containers(tree: ast.Module) -> Iterator[str]:
    """Attributes of instances, fields and texts that grow, names of a module that begin empty, caches of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{name}" for name in [*fields_of(node), *growing(node)])
            for target, value in assignments(node):
                match target:
                    case ast.Attribute(value=ast.Name(id="self"), attr=attribute) if makes_container(value):
                        yield f"{node.name}.{attribute}"
        elif isinstance(node, ast.FunctionDef) and any(name_of(one) in CACHES for one in node.decorator_list):
            yield node.name
    for statement in tree.body:
        for target, value in assignments(statement) if isinstance(statement, ast.Assign | ast.AnnAssign) else ():
            empty = not (getattr(value, "elts", None) or getattr(value, "keys", None) or getattr(value, "args", None))
            if isinstance(target, ast.Name) and empty and makes_container(value):
                yield target.id


def fields_of(node: ast.ClassDef) -> Iterator[str]:
    """Fields in a class's body that begin empty: those of a dataclass or a Struct, and what all instances share."""
    for statement in node.body:
        for target, value in assignments(statement) if isinstance(statement, ast.Assign | ast.AnnAssign) else ():
            empty = not (getattr(value, "elts", None) or getattr(value, "keys", None) or getattr(value, "args", None))
            if isinstance(target, ast.Name) and empty and makes_container(value):
                yield target.id


def growing(node: ast.ClassDef) -> set[str]:
    """Attributes that begin as bytes or text and are added to."""
    texts, added = set(), set()
    for inner in ast.walk(node):
        match inner:
            case (
                ast.Assign(
                    targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=ast.Constant(value=begin)
                )
                | ast.AnnAssign(
                    target=ast.Attribute(value=ast.Name(id="self"), attr=name), value=ast.Constant(value=begin)
                )
            ) if isinstance(begin, bytes | str):
                texts.add(name)
            case ast.AugAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name), op=ast.Add()):
                added.add(name)
            case _:
                pass
    return texts & added


def found() -> set[str]:
    names = set()
    for root in CODE:
        for path in sorted((ROOT / root).rglob("*.py")):
            file = str(path.relative_to(ROOT))
            if not file.startswith(NOT_LISTED):
                names |= {f"{file}:{name}" for name in containers(ast.parse(path.read_text()))}
    return names


def stated() -> list[str]:
    return [name for one in TABLE for name in one.get("where", ())] + [
        name for names in EXEMPT.values() for name in names
    ]


def test_every_container_has_a_bound_or_a_reason() -> None:
    unknown = found() - set(stated())
    assert not unknown, f"state their bounds in docs/bounds.toml: {sorted(unknown)}"


def test_no_name_is_stale_or_stated_twice() -> None:
    assert set(stated()) - found() == set()
    assert [name for name, times in Counter(stated()).items() if times > 1] == []


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one["what"])
def test_the_test_of_a_bound_exists(one: dict[str, Any]) -> None:
    file, _, name = one["test"].partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.M), one["test"]


def labels_of_metrics() -> set[str]:
    """Labels of every metric of the service, from the calls that make them."""
    tree = ast.parse((ROOT / "ingest" / "metrics.py").read_text())
    labels = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in {"_counter", "_gauge", "Counter", "Gauge", "Histogram"}:
            for argument in [*node.args[2:3], *(key.value for key in node.keywords if key.arg == "labelnames")]:
                labels |= {str(one.value) for one in getattr(argument, "elts", ()) if isinstance(one, ast.Constant)}
    return labels


def test_every_label_of_a_metric_has_a_bound() -> None:
    bounded = {label for one in TABLE for label in one.get("labels", ())}
    assert labels_of_metrics() == bounded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class A:\n def __init__(self): self.x = {}", {"A.x"}),
        ("class A:\n def f(self): self.x: dict[int, int] = dict(y)", {"A.x"}),
        ("class A:\n def f(self): self.x, self.y = 1, deque()", {"A.y"}),
        ("class A:\n def f(self): self.q = queue.SimpleQueue()", {"A.q"}),
        ("class A:\n def f(self): self.x = y or []", {"A.x"}),
        ("class A:\n def f(self): x = []", set()),
        ("@dataclass\nclass A:\n x: list[int] = field(default_factory=list)\n y: int = field(default=1)", {"A.x"}),
        ("class A:\n x: dict[str, list[int]] = field(default_factory=lambda: {'a': []})", {"A.x"}),
        ("class A(Struct):\n x: dict[str, int] = {}\n y: tuple[int, ...] = ()", {"A.x"}),
        ("class A:\n KINDS = {'a': 1}", set()),
        ("class A:\n def f(self): self.x = b''\n def g(self, y): self.x += y", {"A.x"}),
        ("class A:\n def f(self): self.n = 0\n def g(self): self.n += 1", set()),
        ("seen: set[str] = set()", {"seen"}),
        ("NAMES = {'a': 1}", set()),
        ("@functools.lru_cache(maxsize=4)\ndef f(): pass", {"f"}),
    ],
)
def test_what_counts_as_a_container(text: str, expected: set[str]) -> None:
    assert set(containers(ast.parse(text))) == expected
