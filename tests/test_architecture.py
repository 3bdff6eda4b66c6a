"""The house's rules, held by reading the source: floors, doors, notebook form, and nothing heavy on import."""

import ast
import json
import subprocess
import sys
from functools import cache

import pytest
from conftest import ROOT

LIBRARY = ROOT / "wcse_lib"
MOST_FLOORS, MOST_LINES = 9, 500
HEAVY = {  # heavy package: the only modules that may import it, inside functions
    "vllm": {"sample.engines.vllm"},
    "openai": {"sample.engines.client"},
    "ray": {"sample.cluster"},
    "torch": {
        "sample.engines.padded",
        "sample.engines.pages",
        "sample.engines.continuous",
        "sample.engines.hf",
        "sample.engines.picking",
        "sample.engines.pooling",
        "sample.engines.compiling",
        "sample.engines.stepping",
        "sample.engines.surprisal",
        "train.attempt",
        "train.divergence",
        "train.fit",
        "train.learnt",
        "train.models",
        "train.on_policy",
        "train.sharded",
        "train.trainer",
    },
    "transformers": {
        "sample.engines.padded",
        "sample.engines.pages",
        "sample.engines.continuous",
        "sample.engines.hf",
        "sample.engines.picking",
        "sample.engines.pooling",
        "sample.engines.stepping",
        "sample.positions",
        "sample.prompts",
        "train.attempt",
        "train.models",
        "train.on_policy",
    },
    "datasets": {"plan.rows", "train.rows"},
    "reasoning_gym": {"verdicts.tasks"},
    "math_verify": {"answers.symbolic"},
    "sympy": {"answers.symbolic"},
    "unsloth": {"train.models"},
    "trl": {"train.attempt"},
    "peft": {"train.models", "sample.engines.hf"},
    "matplotlib": {"report.style", "report.marks"},
    "papermill": {"pipeline"},
    "jupyter_client": {"pipeline"},
    "nbconvert": {"report.notebooks"},
    "nbformat": {"report.notebooks"},
    "pyarrow": {"metrics", "store.tables", "store.readers"},
    "duckdb": {"store.tables"},
    "ipywidgets": {"verify.labelling", "plan.explorer"},
}
LIGHT_AT_TOP = {"nbconvert", "nbformat"}


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name below `wcse_lib` -> its parsed source; read once for all tests."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        name = str(path.relative_to(LIBRARY).with_suffix("")).replace("/", ".")
        found[name.removesuffix(".__init__")] = ast.parse(path.read_text())
    return found


def imports(tree, top_only=False):
    """(module, name) for every imported name; the name is empty for `import module`."""
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def room_of(module: str) -> str:
    """The folder below `wcse_lib`, or the file that stands for itself."""
    return module.split(".")[0]


def rooms_used(name: str, tree) -> set[str]:
    used = set()
    for module, imported in imports(tree):
        if module == "wcse_lib":
            used.add(imported)
        elif module.startswith("wcse_lib."):
            used.add(module.split(".")[1])
    return used - {room_of(name), "__version__"}


@cache
def floors() -> dict[str, int]:
    """Room -> its floor: one above the highest room that it imports. Raises AssertionError for a cycle."""
    graph: dict[str, set[str]] = {}
    for name, tree in modules().items():
        graph.setdefault(room_of(name), set()).update(rooms_used(name, tree))
    del graph["__main__"]  # the step before the door: it only opens the command

    def floor(room: str, trail: tuple = ()) -> int:
        assert room not in trail, f"cycle: {' > '.join([*trail, room])}"
        return 1 + max((floor(other, (*trail, room)) for other in graph.get(room, ())), default=0)

    return {room: floor(room) for room in graph}


def test_few_floors_and_no_cycle():
    assert max(floors().values()) <= MOST_FLOORS, floors()


def test_no_module_is_long():
    for path in LIBRARY.rglob("*.py"):
        n_lines = len(path.read_text().splitlines())
        assert n_lines <= MOST_LINES, f"{path.relative_to(LIBRARY)} has {n_lines} lines"


def test_answers_and_the_arrays_need_nothing_else_of_the_kit():
    for room in ("answers", "store", "nano", "metrics", "intervals", "forecast"):
        assert floors()[room] == 1, room


def test_rooms_use_each_other_through_their_doors():
    """From another folder only names that its `__init__` lists are imported."""
    for name, tree in modules().items():
        for module, imported in imports(tree):
            parts = module.split(".")
            if parts[0] != "wcse_lib" or len(parts) == 1 or parts[1] == room_of(name):
                continue
            assert len(parts) == 2, f"{name} goes past the door of {parts[1]}"
            if (LIBRARY / parts[1]).is_dir():
                assert imported in listed(parts[1]), (
                    f"{name}: {imported} is not in {parts[1]}'s door"
                )


@cache
def listed(room: str) -> set[str]:
    """The `__all__` of a folder."""
    for node in modules()[room].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{room}/__init__.py lists nothing in __all__")


@pytest.mark.parametrize("package", HEAVY)
def test_each_heavy_package_has_its_door(package):
    users = {
        name
        for name, tree in modules().items()
        if any(module.split(".")[0] == package for module, _ in imports(tree))
    }
    assert users <= HEAVY[package], f"{package} is imported by {users - HEAVY[package]}"


def test_heavy_packages_are_imported_inside_functions():
    for name, tree in modules().items():
        at_top = {module.split(".")[0] for module, _ in imports(tree, top_only=True)} & set(HEAVY)
        assert at_top <= LIGHT_AT_TOP, f"{name} imports {at_top} at its top"


def test_library_imports_without_anything_heavy():
    rooms = ", ".join(f"wcse_lib.{room}" for room in sorted(floors()) if room != "__init__")
    code = f"import sys, {rooms}\n"
    code += f"print(sorted({set(HEAVY) - LIGHT_AT_TOP - {'pyarrow'}!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_all_six_notebooks_are_there():
    assert [p.stem[:2] for p in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_form(path):
    cells = json.loads(path.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    source = ["".join(c["source"]) for c in code]
    lines = [
        line
        for s in source
        for line in s.splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]
    assert not any(c["outputs"] or c["execution_count"] for c in code), "committed with outputs"
    assert len(code) <= 12 and len(lines) <= 90 and max(len(s.splitlines()) for s in source) <= 12
    for s in source:
        assert not any(
            isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.Lambda))
            for n in ast.walk(ast.parse(s))
        )
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert tagged == [code[0]], "the first code cell, and no other, is tagged parameters"
    for node in ast.parse(source[0]).body:
        assert isinstance(node, ast.AnnAssign), "parameters are annotated literals"
        ast.literal_eval(node.value)
    assert all("  # " in line for line in source[0].splitlines()), "every parameter has a comment"
    assert "write_manifest(" in source[-1] and sum("write_manifest(" in s for s in source) == 1
    first = "".join(cells[0]["source"])
    assert cells[0]["cell_type"] == "markdown" and first.startswith("# ") and "?" in first
    assert "reads" in "".join(cells[1]["source"]) and cells[-1]["cell_type"] == "markdown"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_data_becomes_markup_in_a_notebook(path):
    """Stylers and Markdown do not escape by themselves, as frames do; HTML comes from functions that are tested
    for it."""
    for cell in json.loads(path.read_text())["cells"]:
        for line in cell["source"] if cell["cell_type"] == "code" else ():
            assert ".style" not in line or 'escape="html"' in line, line
            assert (
                "Markdown(" not in line
                or "inert(" in line
                or "Markdown(answers.POLICY_TABLE)" in line
            ), line
            assert "HTML(" not in line or "HTML(train.shown_rows(" in line, line


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_papermill_reads_the_parameters(path):
    from papermill import inspect_notebook

    found = inspect_notebook(path)
    assert found and all(
        p["help"] and p["inferred_type_name"] not in (None, "None") for p in found.values()
    )


def test_no_two_test_files_share_a_name():
    """pytest imports them by name alone, and would leave the second one out with an error."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert [name for name in sorted(set(names)) if names.count(name) > 1] == []
