"""A finished study as one HTML file that opens offline."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from wcse_lib.analyze import TABLES, Table, read_tables
from wcse_lib.nano import MODELS
from wcse_lib.report import figures
from wcse_lib.report.layout import SHEETS
from wcse_lib.report.notebooks import Book, read_books
from wcse_lib.report.paths import shortener, without_paths
from wcse_lib.report.style import svg
from wcse_lib.report.tables_html import PageTable, page_table, side_by_side
from wcse_lib.store import machine, read_json, sha256, write_text
from wcse_lib.study import resolve

MOST_BYTES = 10_000_000  # what a mail still carries
MOST_HASHED_BYTES = 4e9  # hashing larger weights would hold the report up
AS_WRITTEN = dict(sort_keys=False, allow_unicode=True, default_flow_style=None, width=90)  # YAML
LEFT_OUT = "Left out to keep this file below 10 MB; open it in the study's folder."


@dataclass(frozen=True)
class PageFigure:
    """A figure as the template shows it: SVG in base64 for wide and narrow screens, n, and its numbers in words."""

    wide: str
    narrow: str
    alt: str
    n: str = ""


def write_report(
    folder: str | Path, out: str | Path | None = None, has_notebooks: bool = True
) -> Path:
    """Write a study's page, as `<folder>/report.html` or `out`, from the plan, 06's tables and answer and notebooks.

    The file is below 10 MB (mostly below 2 without the notebooks), loads nothing from elsewhere and shows all foreign
    text escaped. Missing or empty tables leave their part out and are named. Raises StudyError for a missing plan or a
    table without its columns.
    """
    folder = resolve(folder).resolve()
    plan = without_paths(read_json(folder / "01_plan" / "plan.json"), folder)
    answer_file = folder / "06_analyze" / "answer.json"
    answer = without_paths(read_json(answer_file), folder) if answer_file.exists() else {}
    tables = read_tables(folder / "06_analyze" / "tables")
    finished = _stages_with(folder, "manifest.json")
    facts = {
        "plan": plan,
        "study": plan["study"],
        "yaml": yaml.safe_dump(plan["study"], **AS_WRITTEN),
        "checkpoints": _checkpoints(folder, plan),
    }
    facts |= {
        "answer": answer,
        "declared": list(TABLES.values()),
        "tables": {name: page_table(TABLES[name], rows) for name, rows in tables.items()},
        "side_by_side": _side_by_side(tables),
        "figures": _figures(tables, answer.get("paper"), folder / "06_analyze"),
        "quality": tables["quality"].to_dict("records") if "quality" in tables else [],
        "half_width": _half_width(tables),
    }
    facts |= {
        "lacking": _lacking(tables, bool(plan["study"].get("students"))),
        "untested": _untested(tables, plan["students"]),
        "failed": _stages_with(folder, "failed.json"),
    }
    facts |= {
        "finished": finished,
        "machine": machine(),
        "machines": _by_value(finished, "machine"),
        "commits": _by_value(finished, "commit"),
    }
    books = list(read_books(folder, shortener(folder))) if has_notebooks else []
    facts["has_notebooks"] = has_notebooks
    page = render("report.html.j2", facts | {"notebooks": books})
    while len(page.encode("utf-8", "replace")) > MOST_BYTES:
        # Tables and figures alone stay far below.
        _leave_out_largest(books)
        page = render("report.html.j2", facts | {"notebooks": books})
    path = Path(out) if out else folder / "report.html"
    write_text(path, page)
    return path


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


def _side_by_side(tables: dict[str, pd.DataFrame]) -> dict[str, PageTable]:
    across = [table for table in TABLES.values() if table.across and table.name in tables]
    return {table.name: side_by_side(table, tables[table.name]) for table in across}


def _half_width(tables: dict[str, pd.DataFrame]) -> float | None:
    """Half of the median interval of paired differences, in percentage points."""
    if "differences" not in tables:
        return None
    widths = tables["differences"]["high"] - tables["differences"]["low"]
    return 100 * widths.median() / 2


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


def _figures(
    tables: dict[str, pd.DataFrame], paper: str | None, folder: Path
) -> dict[str, PageFigure]:
    """Every figure for wide and for narrow screens. The wide ones are those that 06 saved in `folder`, unless its
    tables are younger."""
    narrow = figures.draw_all(tables, narrow=True, paper=paper)
    wide = _saved_figures(folder)
    if not narrow.keys() <= wide.keys():
        drawn = figures.draw_all(tables, paper=paper)
        wide = {name: svg(figure) for name, figure in drawn.items()}
    shown = {}
    for table in TABLES.values():
        for figure in table.figures:
            if figure.name in narrow:
                rows = SHEETS[figure.name].rows(tables[table.name])
                narrow_svg = svg(narrow[figure.name])
                alt = numbers_in_words(table, rows)
                shown[figure.name] = page_figure(wide[figure.name], narrow_svg, alt, _span(rows))
    return shown


def page_figure(wide_svg: str, narrow_svg: str, alt: str, n: str = "") -> PageFigure:
    wide, narrow = (base64.b64encode(svg.encode()).decode() for svg in (wide_svg, narrow_svg))
    return PageFigure(wide, narrow, alt, n)


def _saved_figures(folder: Path) -> dict[str, str]:
    """The figures that 06 saved after it had written its tables, as SVG."""
    written = [path.stat().st_mtime for path in folder.glob("tables/*.csv")]
    newest = max(written, default=0.0)
    saved = [path for path in folder.glob("figures/*.svg") if path.stat().st_mtime >= newest]
    return {path.stem: path.read_text(encoding="utf-8") for path in saved}


def _span(rows: pd.DataFrame) -> str:
    """On how many problems or samples the rows rest: one number, or the least and the most."""
    for name in ("n_problems", "n"):
        if name in rows:
            least, most = rows[name].min(), rows[name].max()
            return f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
    return "0"


def numbers_in_words(table: Table, rows: pd.DataFrame) -> str:
    """A figure's numbers for those who do not see it: its first rows; of curves, which are long, their ends."""
    if table.name in ("coverage", "training"):
        rows = rows.groupby(rows.columns[0], sort=False).tail(1)
    shown = page_table(table, rows)
    sentences = []
    for row in shown.rows[:6]:
        pairs = [f"{head.label} {cell.text}" for head, cell in zip(shown.head, row)]
        sentences.append(", ".join(pairs))
    if len(rows) > 6:
        sentences.append(f"and {len(rows) - 6} more")
    return "; ".join(sentences)


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
