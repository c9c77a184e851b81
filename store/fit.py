"""Annotations compiled to nodes: does a value fit, what is it plainly, and how is its shape described.

Each node offers a test (source of an expression, for the fast path) and `plain` (the careful path: it walks the value
and either returns what is stored or raises an EncodingError that names the place).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from eventray.domain.errors import EncodingError
from eventray.store.scalars import EXTRA_TEST, PLAIN, is_aware, refuse

LEVELS_MAX = 100


class Names:
    """The global names of the generated source."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"utc": UTC, "is_aware": is_aware}
        self.source: list[str] = []
        self._known: dict[int, str] = {}

    def of(self, value: Any) -> str:
        """A name under which the source finds the value."""
        name = self._known.get(id(value))
        if name is None:
            name = self._known[id(value)] = f"g{len(self._known)}"
            self.values[name] = value
        return name

    def function(self, node: Node, lines: Sequence[str]) -> str:
        """Define a function of `v` and return its name."""
        name = f"fits{len(self._known)}"
        self._known[id(node)] = name
        self.source.append("\n    ".join([f"def {name}(v):", *lines, "return True\n"]))
        return name

    def defined(self, node: Node) -> str | None:
        """The name of the function that was defined for the node."""
        return self._known.get(id(node))


class Node:
    """One annotation. `order_known`: a value's bytes do not depend on the order of a set or of a dict's keys."""

    scalar = False
    order_known = True
    kind: Any = None  # the type whose values this node is for, if it is one type

    def __init__(self, shown: str) -> None:
        self.shown = shown

    def test(self, v: str, names: Names) -> str:
        """Source of an expression: true only if the variable `v` fits as it is."""
        raise NotImplementedError

    def plain(self, value: Any, where: str) -> Any:
        """The value as it is stored: subclasses of scalars made plain.

        Raises:
            EncodingError: it does not fit.
        """
        raise NotImplementedError

    def describe(self) -> str:
        """The shape, for fingerprints."""
        return self.shown


class Scalar(Node):
    """str, int, Decimal, datetime, ..."""

    scalar = True

    def __init__(self, kind: type[Any]) -> None:
        super().__init__("None" if kind is type(None) else kind.__name__)
        self.kind = kind

    def test(self, v: str, names: Names) -> str:
        """See Node."""
        if self.kind is type(None):
            return f"{v} is None"
        exact = f"type({v}) is {names.of(self.kind)}"
        extra = EXTRA_TEST.get(self.kind)
        return f"({exact} and {extra.format(v=v, utc='utc', is_aware='is_aware')})" if extra else exact

    def plain(self, value: Any, where: str) -> Any:
        """See Node."""
        return PLAIN[self.kind](value, where)


class EnumNode(Node):
    """An Enum, stored by value."""

    scalar = True

    def __init__(self, kind: type[enum.Enum]) -> None:
        super().__init__(kind.__name__)
        self.kind = kind

    def test(self, v: str, names: Names) -> str:
        """See Node."""
        return f"type({v}) is {names.of(self.kind)}"

    def plain(self, value: Any, where: str) -> Any:
        """See Node."""
        return value if isinstance(value, self.kind) else refuse(value, where, self.shown)

    def describe(self) -> str:
        """See Node."""
        return f"{self.shown}{sorted(repr(m.value) for m in self.kind.__members__.values())}"


class LiteralNode(Node):
    """Literal of None, bool, int and str."""

    scalar = True

    def __init__(self, values: Sequence[Any]) -> None:
        super().__init__(f"Literal[{', '.join(map(repr, values))}]")
        self.pairs = frozenset((type(value), value) for value in values)
        self.kinds = frozenset(kind for kind, _ in self.pairs)

    def test(self, v: str, names: Names) -> str:
        """See Node."""
        return f"(type({v}) in {names.of(self.kinds)} and (type({v}), {v}) in {names.of(self.pairs)})"

    def plain(self, value: Any, where: str) -> Any:
        """See Node."""
        for kind in self.kinds:
            try:
                plain = PLAIN[kind](value, where)
            except EncodingError:
                continue
            if (kind, plain) in self.pairs:
                return plain
        return refuse(value, where, self.shown)


class UnionNode(Node):
    """`A | B | None`."""

    def __init__(self, members: Sequence[Node]) -> None:
        super().__init__(" | ".join(member.shown for member in members))
        # None first: the test of an optional that is absent ends at once
        self.members = sorted(members, key=lambda m: m.shown != "None")
        self.scalar = all(member.scalar for member in members)
        self.order_known = all(member.order_known for member in members)

    def test(self, v: str, names: Names) -> str:
        """See Node."""
        return "(" + " or ".join(member.test(v, names) for member in self.members) + ")"

    def plain(self, value: Any, where: str) -> Any:
        """See Node."""
        for member in self.members:  # `float | int`: an int is an int, though it fits the float too
            if member.kind is type(value):
                return member.plain(value, where)
        refusals: list[EncodingError] = []
        for member in self.members:
            try:
                return member.plain(value, where)
            except EncodingError as error:
                refusals.append(error)
        if value is not None and len(refusals) == 2 and self.members[0].kind is type(None):
            raise refusals[1]
        return refuse(value, where, self.shown)

    def describe(self) -> str:
        """See Node."""
        return "|".join(sorted(member.describe() for member in self.members))


class Items(Node):
    """list[X], set[X], frozenset[X], tuple[X, ...]."""

    def __init__(self, kind: type[Any], item: Node) -> None:
        super().__init__(f"{kind.__name__}[{item.shown}{', ...' if kind is tuple else ''}]")
        self.kind = kind
        self.item = item
        if kind in (set, frozenset):
            self.order_known = isinstance(item, Scalar) and item.kind in (str, bytes, int)
        else:
            self.order_known = item.order_known

    def test(self, v: str, names: Names) -> str:
        """See Node."""
        name = names.defined(self)
        if name is None:
            kind, fits = names.of(self.kind), self.item.test("x", names)
            lines = [f"if type(v) is not {kind}: return False", "for x in v:", f"    if not ({fits}): return False"]
            name = names.function(self, lines)
        return f"{name}({v})"

    def plain(self, value: Any, where: str) -> Any:
        """See Node."""
        if type(value) is not self.kind:
            refuse(value, where, self.shown)
        return self.kind(self.item.plain(x, f"{where}[{i}]") for i, x in enumerate(value))

    def describe(self) -> str:
        """See Node."""
        return f"{self.kind.__name__}[{self.item.describe()}]"


class Fixed(Node):
    """tuple[X, Y]."""

    kind = tuple

    def __init__(self, items: Sequence[Node]) -> None:
        super().__init__(f"tuple[{', '.join(item.shown for item in items) or '()'}]")
        self.items = items
        self.order_known = all(item.order_known for item in items)

    def test(self, v: str, names: Names) -> str:
        """See Node."""
        name = names.defined(self)
        if name is None:
            lines = [f"if type(v) is not tuple or len(v) != {len(self.items)}: return False"]
            for i, item in enumerate(self.items):
                lines += [f"x = v[{i}]", f"if not ({item.test('x', names)}): return False"]
            name = names.function(self, lines)
        return f"{name}({v})"

    def plain(self, value: Any, where: str) -> Any:
        """See Node."""
        if type(value) is not tuple:
            refuse(value, where, self.shown)
        if len(value) != len(self.items):
            raise EncodingError(where, f"a tuple of {len(value)} where {self.shown} is annotated")
        return tuple(item.plain(x, f"{where}[{i}]") for i, (item, x) in enumerate(zip(self.items, value, strict=True)))

    def describe(self) -> str:
        """See Node."""
        return f"tuple[{','.join(item.describe() for item in self.items)}]"


class DictNode(Node):
    """dict[K, V], K a scalar."""

    kind = dict

    def __init__(self, key: Node, value: Node) -> None:
        super().__init__(f"dict[{key.shown}, {value.shown}]")
        self.key = key
        self.value = value
        self.order_known = isinstance(key, Scalar) and key.kind is str and value.order_known

    def test(self, v: str, names: Names) -> str:
        """See Node."""
        name = names.defined(self)
        if name is None:
            fits = f"{self.key.test('k', names)} and {self.value.test('x', names)}"
            lines = ["if type(v) is not dict: return False", "for k, x in v.items():"]
            name = names.function(self, [*lines, f"    if not ({fits}): return False"])
        return f"{name}({v})"

    def plain(self, value: Any, where: str) -> Any:
        """See Node."""
        if type(value) is not dict:
            refuse(value, where, self.shown)
        plain = {}
        for key, x in value.items():
            place = f"{where}[{key!r:.40}]"
            plain[self.key.plain(key, f"{where} (its key {key!r:.40})")] = self.value.plain(x, place)
        if len(plain) != len(value):
            raise EncodingError(where, "two of its keys become one when they are stored")
        return plain

    def describe(self) -> str:
        """See Node."""
        return f"dict[{self.key.describe()},{self.value.describe()}]"


class DataclassNode(Node):
    """A dataclass, stored as a map by field name. `fields` is filled once its fields are compiled."""

    def __init__(self, kind: type[Any]) -> None:
        super().__init__(kind.__name__)
        self.kind = kind
        self.fields: dict[str, Node] = {}
        self._described = False

    def field_test(self, v: str, names: Names, indent: str) -> tuple[list[str], str]:
        """Lines that fetch the fields of `v`, and the test of them all."""
        lines, tests = [], []
        for i, (name, node) in enumerate(self.fields.items()):
            lines.append(f"{indent}t{i} = {v}.{name}")
            tests.append(node.test(f"t{i}", names))
        return lines, " and ".join(tests) or "True"

    def test(self, v: str, names: Names) -> str:
        """See Node."""
        name = names.defined(self)
        if name is None:
            # Named before its fields are looked at: a field may hold the same class again.
            name = names.function(self, [])
            place = len(names.source) - 1
            lines, fits = self.field_test("v", names, "    ")
            head = [f"def {name}(v):", f"    if type(v) is not {names.of(self.kind)}: return False"]
            names.source[place] = "\n".join([*head, *lines, f"    return {fits}\n"])
        return f"{name}({v})"

    def plain(self, value: Any, where: str) -> Any:
        """See Node."""
        if type(value) is not self.kind:
            refuse(value, where, self.shown)
        changed: dict[str, Any] = {}
        for name, node in self.fields.items():
            try:
                given = getattr(value, name)
            except AttributeError:
                raise EncodingError(f"{where}.{name}", "has no value") from None
            plain = node.plain(given, f"{where}.{name}")
            if plain is not given:
                changed[name] = plain
        return self._copy(value, changed) if changed else value

    def _copy(self, value: Any, changed: dict[str, Any]) -> Any:
        copy = object.__new__(self.kind)  # not through __init__: it is stored as it is, whatever that computes
        for name in self.fields:
            object.__setattr__(copy, name, changed[name] if name in changed else getattr(value, name))
        return copy

    def describe(self) -> str:
        """See Node."""
        if self._described:
            return self.shown
        self._described = True
        try:
            inner = ",".join(f"{name}:{node.describe()}" for name, node in sorted(self.fields.items()))
            return f"{self.shown}{{{inner}}}"
        finally:
            self._described = False


def too_deep(value: Any) -> bool:
    """Whether containers in the value are nested deeper than can be read back everywhere (or without end)."""
    level, levels = [value], 0
    while level:
        levels += 1
        if levels > LEVELS_MAX:
            return True
        inner: list[Any] = []
        for x in level:
            if isinstance(x, (list, tuple, set, frozenset)):
                inner.extend(x)
            elif isinstance(x, dict):
                inner.extend(x.values())
            elif dataclasses.is_dataclass(x):
                inner.extend(getattr(x, f.name, None) for f in dataclasses.fields(x))
        level = inner
    return False
