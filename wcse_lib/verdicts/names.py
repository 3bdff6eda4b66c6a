"""Names of a piece of Python: which it binds, which it uses, and which modules it needs."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
import symtable
import sys
import warnings
from functools import lru_cache
from typing import NamedTuple

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__"}
DEFINES = re.compile(r"^(?:async +def|def|class) +(\w+)", re.M)


class Names(NamedTuple):
    """Names at the top of a module: what it binds, and what it looks up there, built-in ones included."""

    bound: frozenset[str]
    used: frozenset[str]


NOTHING = Names(frozenset(), frozenset())


def parse(source: str) -> ast.Module:
    """The syntax tree, without the warnings that Python has about it. Raises one of UNREADABLE."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def compiles(source: str) -> bool:
    """Whether Python takes the source: a `return` outside a function parses and does not compile."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "source", "exec", dont_inherit=True)
    except UNREADABLE:
        return False
    return True


def does_something(source: str) -> bool:
    """Whether a source parses and does more than look up, call or annotate, as words of prose may."""
    try:
        body = parse(source).body
    except UNREADABLE:
        return False
    return any(not isinstance(statement, ast.Expr | ast.AnnAssign) for statement in body)


@lru_cache(maxsize=256)
def names_of(source: str) -> Names:
    """The names of a source; of one that does not parse, the functions and classes that it seems to define."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            top = symtable.symtable(source, "source", "exec")
    except UNREADABLE:
        return Names(frozenset(DEFINES.findall(source)), frozenset())
    bound, used = set(), set()
    for symbol in top.get_symbols():
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
            bound.add(symbol.get_name())
        if symbol.is_referenced():
            used.add(symbol.get_name())
    scopes = top.get_children()
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        for symbol in scope.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                used.add(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned():
                bound.add(symbol.get_name())
    return Names(frozenset(bound), frozenset(used))


def loaded(node: ast.AST) -> set[str]:
    """Every name that stands in a syntax tree, wherever it is bound."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def imported_modules(tree: ast.AST) -> set[str]:
    """Top-level names of the modules that code cannot do without: not those that it tries to import."""
    optional: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            for statement in node.body:
                optional.update(ast.walk(statement))
    modules = set()
    for node in ast.walk(tree):
        if node in optional:
            continue
        if isinstance(node, ast.Import):
            modules.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.partition(".")[0])
    return modules


@lru_cache(maxsize=1024)
def is_standard(module: str) -> bool:
    """Whether a module belongs to Python's standard library and is there; the sandbox has no others."""
    if module not in sys.stdlib_module_names:
        return False
    return module in sys.builtin_module_names or importlib.util.find_spec(module) is not None
