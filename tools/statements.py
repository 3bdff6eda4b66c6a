"""How large the statements of a source tree are: python tools/statements.py [FOLDER or FILE …]

Prints files, lines, simple statements, their mean size, and the share above 40. A simple statement is an assignment,
return, expression, raise or assert; docstrings are not counted. Its size is its number of nodes in `ast.walk`.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

SIMPLE = (
    ast.Assign,
    ast.AugAssign,
    ast.AnnAssign,
    ast.Return,
    ast.Expr,
    ast.Assert,
    ast.Raise,
)
LARGE = 40


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def sizes(path: Path) -> list[tuple[int, int]]:
    """(size, line) of every simple statement of a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, SIMPLE) and not is_docstring(node):
            size = sum(1 for _ in ast.walk(node))
            found.append((size, node.lineno))
    return found


def files_below(places: list[Path]) -> list[Path]:
    found = []
    for place in places:
        found += sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return found


def main(arguments: list[str]) -> None:
    places = [Path(argument) for argument in arguments] or [Path("wcse_lib")]
    files = files_below(places)
    every, n_lines = [], 0
    for path in files:
        mine = sizes(path)
        every += [(size, f"{path}:{line}") for size, line in mine]
        n_lines += len(path.read_text().splitlines())
        if mine:
            mean = sum(size for size, _ in mine) / len(mine)
            large = sum(size > LARGE for size, _ in mine)
            print(f"{path}  {len(mine)} statements, mean {mean:.1f}, {large} above {LARGE}")
    total = len(every)
    mean = sum(size for size, _ in every) / total
    large = sum(size > LARGE for size, _ in every)
    print(f"\n{len(files)} files, {n_lines:,} lines, {total:,} statements")
    print(f"mean {mean:.2f}, {100 * large / total:.2f} % above {LARGE}")
    for size, where in sorted(every, reverse=True)[:10]:
        print(f"  {size:4d}  {where}")


if __name__ == "__main__":
    main(sys.argv[1:])
