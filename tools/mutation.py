"""The mutations that ``tools/mutants.py`` applies: one small change of a module's source each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

_COMPARISONS = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"), ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}  # fmt: skip
#: Calls without an effect that a test should see.
_UNSEEN = re.compile(r"(log|logger|warnings|logging)\.")


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: The file, relative to the checkout.
        line: The line of the change, from 1.
        last: The last line of the statement that is changed.
        kind: What is changed.
        start, end: The replaced part of the source, in bytes.
        text: What replaces it.
        source: The whole source of the file.
    """

    path: str
    line: int
    last: int
    kind: str
    start: int
    end: int
    text: str
    source: bytes = field(repr=False)

    def apply(self) -> bytes:
        return self.source[: self.start] + self.text.encode() + self.source[self.end :]


class _Finder:
    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _span(self, node: ast.AST) -> tuple[int, int]:
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._source[start:end].decode()

    def _mutant(self, node: ast.AST, kind: str, text: str, span: tuple[int, int] | None = None) -> Mutant:
        start, end = span or self._span(node)
        return Mutant(self._path, node.lineno, node.end_lineno or node.lineno, kind, start, end, text, self._source)

    def _operator(
        self, node: ast.AST, left: ast.AST, right: ast.AST, old: str, new: str, kind: str
    ) -> Iterator[Mutant]:
        start, end = self._span(left)[1], self._span(right)[0]
        between = self._source[start:end].decode()
        pattern = r"(?<![\w<>=!])" + re.escape(old).replace(r"\ ", r"\s+") + r"(?![\w=])"
        found = re.search(pattern, re.sub(r"#[^\n]*", lambda comment: " " * len(comment[0]), between))
        if found:
            yield self._mutant(node, kind, new, (start + found.start(), start + found.end()))

    def of(self, node: ast.AST) -> Iterator[Mutant]:
        """Yield the mutants of one node, without those of its children."""
        match node:
            case ast.Compare():
                for left, operator, right in zip(
                    [node.left, *node.comparators], node.ops, node.comparators, strict=False
                ):
                    old, new = _COMPARISONS[type(operator)]
                    yield from self._operator(node, left, right, old, new, "comparison")
            case ast.BoolOp():
                old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield from self._operator(node, left, right, old, new, "and/or")
            case ast.UnaryOp(op=ast.Not()):
                yield self._mutant(node, "not removed", f"({self._text(node.operand)})")
            case ast.IfExp():
                yield self._mutant(node, "condition always true", f"({self._text(node.body)})")
                yield self._mutant(node, "condition always false", f"({self._text(node.orelse)})")
            case ast.Constant(value=bool()):
                yield self._mutant(node, "constant", str(not node.value))
            case ast.Constant(value=int() | float()):
                for change in ("+ 1", "- 1"):
                    yield self._mutant(node, "constant", f"({self._text(node)} {change})")
            case ast.Subscript(slice=ast.Slice()):
                yield self._mutant(node, "slice removed", self._text(node.value))
            case ast.Call(func=ast.Name(id="min" | "max" as name)):
                yield self._mutant(node.func, "min/max", "max" if name == "min" else "min")
            case ast.Return(value=value) if value is not None and self._text(value) != "None":
                yield self._mutant(node, "return value", "return None")
            case ast.If():
                yield self.body_removed(node)
            case ast.Expr(value=ast.Call()) if not _UNSEEN.match(self._text(node)):
                yield self._mutant(node, "statement removed", "pass")
            case ast.AugAssign() | ast.Delete():
                yield self._mutant(node, "statement removed", "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield self._mutant(node, "statement removed", "pass")

    def body_removed(self, node: ast.If) -> Mutant:
        span = self._span(node.body[0])[0], self._span(node.body[-1])[1]
        mutant = self._mutant(node, "if body removed", "pass", span)
        return replace(mutant, last=node.test.end_lineno or node.lineno)

    def of_guard(self, node: ast.If) -> Iterator[Mutant]:
        """Yield the mutants of an ``if`` that only raises or returns: without its body, and without each condition."""
        yield self.body_removed(node)
        if isinstance(node.test, ast.BoolOp):
            for operand in node.test.values:
                neutral = "True" if isinstance(node.test.op, ast.And) else "False"
                yield self._mutant(operand, "condition removed", neutral)


def mutants_of(root: Path, path: str, *, guards: bool) -> list[Mutant]:
    """Return the mutants of a module, in order.

    Args:
        root: The checkout.
        path: The module's path, relative to ``root``.
        guards: Only mutants of guards: an ``if`` that ends in ``raise`` or ``return`` and has no ``else``.
    """
    source = (root / path).read_bytes()
    finder = _Finder(path, source)
    found: list[Mutant] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Assert) or _is_for_types(node):
            return
        if not guards:
            found.extend(finder.of(node))
        elif isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], ast.Raise | ast.Return):
            found.extend(finder.of_guard(node))
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "type_params", "decorator_list"}:
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child)

    visit(ast.parse(source))
    return found


def compiles(mutant: Mutant) -> bool:
    """Return True if the mutant is a valid module."""
    try:
        compile(mutant.apply(), mutant.path, "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
