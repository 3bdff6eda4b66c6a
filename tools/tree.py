"""Write docs/tree.md from the first sentence of every folder and module: python tools/tree.py [--check]"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/tree.md"
START, END = "\n```\n", "```\n"
TOP = {  # folders beside the package
    "notebooks/": "01_plan … 06_analyze: narrate one stage each, define nothing",
    "params/": "studies; nano/ their twins, grids/ several studies in one file, machine/ where they run",
    "docs/": "a page per kind of user, how to extend, every experiment and its file",
    "outputs/": "<study>/<NN_stage>/…: a path says who wrote it",
    "benchmarks/": "ratios against named baselines (`make benchmarks`)",
    "tests/": "in folders like the package's; whole/ runs, kills and damages studies; gpu/ waits for a GPU",
    "tools/": "statements.py sizes of statements, params_docs.py and tree.py what docs say, nano_models/ "
    "trains the bundled models",
    "wcse_lib/": "",
}
# In the order of their floors.
ORDER = (
    "metrics intervals luck forecast store nano answers study budget verdicts plan sample verify train "
    "evaluate analyze report start pipeline cli __main__"
).split()


def clause(path: Path) -> str:
    """The first sentence of a module's docstring, without its capital and its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    sentence = " ".join(docstring.split("\n\n")[0].split()).rstrip(".").split(". ")[0]
    return sentence


def lines() -> list[str]:
    rows = [f"{name:<27}{text}".rstrip() for name, text in TOP.items()]
    library = ROOT / "wcse_lib"
    for name in ORDER:
        file, folder = library / f"{name}.py", library / name
        if file.exists():
            rows.append(f"  {file.name:<25}{clause(file)}")
            continue
        rows.append(f"  {name + '/':<25}{clause(folder / '__init__.py')}")
        for module in sorted(folder.rglob("*.py")):
            if module.name != "__init__.py":
                shown = str(module.relative_to(folder))
                rows.append(f"    {shown:<23}{clause(module)}")
    return rows


def page() -> str:
    text = PAGE.read_text()
    start = text.index(START) + len(START)
    end = text.index(END, start)
    return text[:start] + "\n".join(lines()) + "\n" + text[end:]


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" not in arguments:
        PAGE.write_text(text)
        return 0
    if PAGE.read_text() != text:
        print("docs/tree.md is not what the modules say; run python tools/tree.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
