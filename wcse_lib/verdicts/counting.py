"""Assertions that count themselves while they run: those of Python, unittest and pytest, and `if …: raise`."""

from __future__ import annotations

import ast
from collections.abc import Collection

from wcse_lib.verdicts.runner import COUNT, PASSED, TRIED

# what is true whatever the code does
ALWAYS_TRUE = (
    ast.Constant
    | ast.JoinedStr
    | ast.Tuple
    | ast.List
    | ast.Set
    | ast.Dict
    | ast.Lambda
    | ast.GeneratorExp
)
REFUSALS = {"exit", "_exit", "fail"}  # functions that end a test which is not passed


def counted(statement: ast.stmt, needed: Collection[str] = ()) -> list[ast.stmt]:
    """The statement with its assertions counted, as the statements that replace it.

    That a name which is `needed` of the code is there is no assertion.
    """
    result = _Counting(needed).visit(statement)
    return result if isinstance(result, list) else [result]


def assertion_sites(node: ast.AST) -> bool:
    """Whether a counted statement holds an assertion."""
    return any(isinstance(part, ast.Name) and part.id == COUNT for part in ast.walk(node))


def _count(kind: str) -> ast.stmt:
    return ast.parse(f"{COUNT}({kind!r})").body[0]


def _called(node: ast.AST | None) -> str:
    """The last name of the function that an expression calls, or ""."""
    if isinstance(node, ast.Await):
        node = node.value
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _is_assertion(call: str) -> bool:
    return call.lstrip("_").lower().startswith("assert") or call == "raises"


def _refuses(body: list[ast.stmt]) -> bool:
    """Whether a block ends a test that is not passed."""
    for statement in body:
        is_call = isinstance(statement, ast.Expr) and _called(statement.value) in REFUSALS
        if is_call or isinstance(statement, ast.Raise):
            return True
    return False


class _Counting(ast.NodeTransformer):
    """Calls COUNT before and after every assertion; only after a compound one, which may be left by `return`."""

    def __init__(self, needed: Collection[str]) -> None:
        self.needed = needed

    def visit_Assert(self, node: ast.Assert) -> ast.stmt | list[ast.stmt]:
        is_name = isinstance(node.test, ast.Name) and node.test.id in self.needed
        if is_name or isinstance(node.test, ALWAYS_TRUE):
            return node
        return [_count(TRIED), node, _count(PASSED)]

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        is_assertion = _is_assertion(_called(node.value))
        return [_count(TRIED), node, _count(PASSED)] if is_assertion else node

    def visit_With(self, node: ast.With | ast.AsyncWith) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        calls = [_called(item.context_expr) for item in node.items]
        return _counted_after(node, any(map(_is_assertion, calls)))

    visit_AsyncWith = visit_With

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        return _counted_after(node, _refuses(node.body) or _refuses(node.orelse))

    def visit_Try(self, node: ast.Try) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        blocks = [node.body, node.orelse, *(handler.body for handler in node.handlers)]
        return _counted_after(node, any(map(_refuses, blocks)))


def _counted_after(node: ast.stmt, is_assertion: bool) -> ast.stmt | list[ast.stmt]:
    return [node, _count(TRIED), _count(PASSED)] if is_assertion else node
