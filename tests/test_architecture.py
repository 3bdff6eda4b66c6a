"""The house's rules, held by reading the source: doors, storeys, notebook form, and nothing heavy on import."""

import ast
import json
import subprocess
import sys

import pytest
from conftest import ROOT

LIBRARY = ROOT / "wcse_lib"
FLOOR = {
    "records",
    "study",
    "budget",
    "prompts",
    "problems",
    "answers",
    "notation",
    "expressions",
    "extraction",
    "judges",
    "verdicts",
    "metrics",
    "intervals",
    "forecast",
    "sampling",
    "curation",
    "decontamination",
    "matrix",
    "allocation",
    "pilot",
    "matching",
    "preview",
    "grid",
    "ledger",
    "explorer",
    "explanation",
    "sandbox",
    "labelling",
    "finetune",
    "engines",
    "nano",
}
ROOMS = {"planning", "generation", "verification", "training", "evaluation", "analysis"}
PICTURES = {"figures", "report", "comparison", "publish"}
DOORS = {  # heavy package: the only files that may import it
    "vllm": {"engines/vllm"},
    "openai": {"engines/api"},
    "ray": {"cluster"},
    "torch": {"engines/hf", "engines/decoding", "finetune", "nano/pretrain"},
    "transformers": {"engines/hf", "engines/decoding", "finetune", "prompts", "nano/pretrain"},
    "tokenizers": {"nano/pretrain"},
    "datasets": {"problems", "finetune"},
    "reasoning_gym": {"problems"},
    "math_verify": {"answers"},
    "sympy": {"answers"},
    "unsloth": {"finetune"},
    "trl": {"finetune"},
    "peft": {"finetune", "engines/hf"},
    "matplotlib": {"figures"},
    "papermill": {"pipeline"},
    "nbconvert": {"report"},
    "nbformat": {"report"},
    "pyarrow": {"records"},
    "ipywidgets": {"labelling", "explorer"},
}
LIGHT_AT_TOP = {
    "nbconvert",
    "nbformat",
}  # nothing heavy may be imported at a module's top but these, in their door


def modules():
    return {
        str(p.relative_to(LIBRARY).with_suffix("")): ast.parse(p.read_text())
        for p in LIBRARY.rglob("*.py")
    }


def imports(tree, top_only=False):
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module and node.module.startswith("wcse_lib"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", DOORS)
def test_each_heavy_package_has_its_door(package):
    users = {
        name
        for name, tree in modules().items()
        if any(i.split(".")[0] == package for i in imports(tree))
    }
    assert users <= DOORS[package], (
        f"{package} is imported outside its door: {users - DOORS[package]}"
    )


def test_heavy_packages_are_imported_inside_functions():
    for name, tree in modules().items():
        at_top = {i.split(".")[0] for i in imports(tree, top_only=True)} & set(DOORS)
        assert at_top <= LIGHT_AT_TOP, f"{name} imports {at_top} at its top"


def test_every_module_has_its_storey():
    known = FLOOR | ROOMS | PICTURES | {"pipeline", "cluster", "__init__"}
    assert {name.split("/")[0] for name in modules()} <= known


def test_no_upward_import_and_no_cycle():
    graph = {}
    for name, tree in modules().items():
        used = {
            i.split(".")[1]
            for i in imports(tree)
            if i.startswith("wcse_lib.") and len(i.split(".")) > 1
        }
        here = (
            "pretrain" if name == "nano/pretrain" else name.split("/")[0]
        )  # a program of its own, above the floor
        graph.setdefault(here, set()).update(used - {here, "__version__"})
    for room in ROOMS:
        assert not graph[room] & (ROOMS | PICTURES | {"pipeline"}), (
            f"{room} opens into {graph[room] & ROOMS}"
        )
    for floor in FLOOR & set(graph):
        assert not graph[floor] & (ROOMS | PICTURES | {"pipeline"}), f"{floor} imports upward"
    assert graph["report"] & (ROOMS | PICTURES) <= {"figures"}
    assert not {"metrics", "intervals", "figures"} & (
        graph["metrics"] | graph["intervals"] | graph["figures"]
    )
    done: set[str] = set()

    def visit(name, trail):
        assert name not in trail, f"cycle: {' > '.join([*trail, name])}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_library_imports_without_anything_heavy():
    code = "import sys, wcse_lib, wcse_lib.study, wcse_lib.records, wcse_lib.budget, wcse_lib.metrics, wcse_lib.answers\n"
    code += (
        f"print(sorted({set(DOORS) - {'pyarrow'}!r} & set(sys.modules)))"  # pandas brings pyarrow
    )
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
    """Stylers and Markdown do not escape by themselves, as frames do; HTML comes from functions that are tested for it."""
    for cell in json.loads(path.read_text())["cells"]:
        for line in cell["source"] if cell["cell_type"] == "code" else ():
            assert ".style" not in line or 'escape="html"' in line, line
            assert (
                "Markdown(" not in line
                or "escape(" in line
                or "Markdown(answers.POLICY_TABLE)" in line
            ), line
            assert "HTML(" not in line or "HTML(training.shown_rows(" in line, line


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_papermill_reads_the_parameters(path):
    from papermill import inspect_notebook

    found = inspect_notebook(path)
    assert found and all(
        p["help"] and p["inferred_type_name"] not in (None, "None") for p in found.values()
    )
