"""A finished study as one HTML file that opens offline."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pandas as pd
import yaml

from wcse_lib.analyze import TABLES, Section, Table, read_tables
from wcse_lib.nano import MODELS
from wcse_lib.report.notebooks import Book, read_books
from wcse_lib.report.paths import shortener, without_paths
from wcse_lib.report.sections import page_figures, sections
from wcse_lib.report.who import cost_words, who_is_who
from wcse_lib.store import machine, read_json, sha256, write_text
from wcse_lib.study import resolve

MOST_BYTES = 10_000_000  # what a mail still carries
MOST_HASHED_BYTES = 4e9  # hashing larger weights would hold the report up
AS_WRITTEN = dict(sort_keys=False, allow_unicode=True, default_flow_style=None, width=90)  # YAML
LEFT_OUT = "Left out to keep this file below 10 MB; open it in the study's folder."
N_CAVEATS, N_STEPS = 2, 3  # that stand beside the answer
MOST_PAIRS = 2  # of arms that are explained in words in the open
NAMES = {  # of sections: in the list of contents, and as their headings
    Section.WHY: ("Why", "Why might that be?"),
    Section.DATA: ("Data", "The training data"),
    Section.STUDENTS: ("Students", "The students"),
    Section.CONTROLS: ("Controls", "Could this study see a fault in the data?"),
    Section.FORECAST: ("Forecast", "The pilot's forecast and the outcome"),
    Section.LEDGER: ("Money", "What it cost"),
}
ARMS_ALONE = ("Arms", "The arms compared")  # of a study without students: no effect asks why


def write_report(
    folder: str | Path, out: str | Path | None = None, has_notebooks: bool = True
) -> Path:
    """Write a study's page, as `<folder>/report.html` or `out`, from the plan, 06's tables and answer and notebooks.

    The file is below 10 MB (mostly below 2 without the notebooks), loads nothing from elsewhere and shows all foreign
    text escaped. Missing or empty tables leave their part out and are named. Raises StudyError for a missing plan or a
    table without its columns.
    """
    folder = resolve(folder).resolve()
    facts = _facts(folder) | {"has_notebooks": has_notebooks}
    books = list(read_books(folder, shortener(folder))) if has_notebooks else []
    page = render("report.html.j2", facts | {"notebooks": books})
    while len(page.encode("utf-8", "replace")) > MOST_BYTES:
        # Tables and figures alone stay far below.
        _leave_out_largest(books)
        page = render("report.html.j2", facts | {"notebooks": books})
    path = Path(out) if out else folder / "report.html"
    write_text(path, page)
    return path


def _facts(folder: Path) -> dict:
    """All that the template shows of a study but its notebooks."""
    plan = without_paths(read_json(folder / "01_plan" / "plan.json"), folder)
    answer_file = folder / "06_analyze" / "answer.json"
    answer = without_paths(read_json(answer_file), folder) if answer_file.exists() else {}
    tables = read_tables(folder / "06_analyze" / "tables")
    drawn = page_figures(tables, answer.get("paper"), folder / "06_analyze")
    finished = _stages_with(folder, "manifest.json")
    notes, has_students = answer.get("notes", []), bool(plan["study"].get("students"))
    return {
        "plan": plan,
        "study": plan["study"],
        "yaml": yaml.safe_dump(plan["study"], **AS_WRITTEN),
        "answer": answer,
        "caveats": notes[:N_CAVEATS],
        "notes": notes[N_CAVEATS:],
        "next_steps": answer.get("next", [])[:N_STEPS],
        "most_pairs": MOST_PAIRS,
        "who": who_is_who(plan),
        "date": finished.get("06_analyze", {}).get("finished", "")[:10],
        "cost": cost_words(tables.get("totals")),
        "lead": drawn.get("answer"),
        "names": NAMES if has_students else NAMES | {Section.WHY: ARMS_ALONE},
        "sections": sections(tables, drawn),
        "lacking": _lacking(tables, has_students),
        "untested": _untested(tables, plan["students"]),
        "failed": _stages_with(folder, "failed.json"),
        "checkpoints": _checkpoints(folder, plan),
        "finished": finished,
        "machine": machine(),
        "machines": _by_value(finished, "machine"),
        "commits": _by_value(finished, "commit"),
    }


def _leave_out_largest(books: list[Book]) -> None:
    largest = max(books, key=lambda book: len(book.html))
    largest.html = ""
    largest.note = LEFT_OUT


def render(name: str, facts: dict) -> str:
    """A template of this package filled in: foreign text escaped, the page's one script admitted by its hash."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = environment.loader.get_source(environment, "parts.html.j2")[0]
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL)[1]
    digest = hashlib.sha256(script.encode()).digest()
    script_hash = base64.b64encode(digest).decode()
    return environment.get_template(name).render(facts, script_hash=script_hash)


def _stages_with(folder: Path, file: str) -> dict[str, dict]:
    """The contents of this JSON file of every stage that has one, by the stage's folder."""
    paths = sorted(folder.glob(f"0*/**/{file}"))
    return {path.parent.relative_to(folder).as_posix(): read_json(path) for path in paths}


def _by_value(finished: dict[str, dict], key: str) -> dict[str, list[str]]:
    """The values of a key of the stages' manifests, and which stages have each."""
    stages_of: dict[str, list[str]] = {}
    for stage, manifest in finished.items():
        if stage[:2] in ("04", "05"):  # students are many
            stage = stage.split("/")[0]
        stages = stages_of.setdefault(manifest.get(key, "not recorded"), [])
        if stage not in stages:
            stages.append(stage)
    return stages_of


def _lacking(tables: dict[str, pd.DataFrame], has_students: bool) -> list[Table]:
    """The tables that a study should have and has not."""
    expected = [table for table in TABLES.values() if not table.optional]
    if not has_students:
        expected = [table for table in expected if not table.of_students]
    return [table for table in expected if table.name not in tables]


def _untested(tables: dict[str, pd.DataFrame], students: dict) -> list[str]:
    if "students" not in tables:
        return []
    tested = set(tables["students"]["student"])
    return [name for name in students if name not in tested]


def _checkpoints(folder: Path, plan: dict) -> dict[str, str]:
    """The SHA-256 of every file of every local checkpoint's weights, as they lie there now."""
    models = {f"arm {name}": str(arm.get("model")) for name, arm in plan["arms"].items()}
    for name in plan["students"]:
        models[f"student {name}"] = str(folder / "04_finetune" / name / "model")
    hashes = {}
    for name, model in models.items():
        files = _weights(model)
        n_bytes = sum(path.stat().st_size for path in files)
        if files and n_bytes < MOST_HASHED_BYTES:
            hashes[name] = ", ".join(f"{path.name} {sha256(path)}" for path in files)
    return hashes


def _weights(model: str) -> list[Path]:
    """The weights' files of a bundled model or of a local folder."""
    for place in (MODELS / model, resolve(model)):
        if place.is_dir():
            return sorted(place.glob("*.safetensors"))
    return []
