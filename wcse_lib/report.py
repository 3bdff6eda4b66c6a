"""A finished study as one HTML file that opens offline; the only door to nbconvert."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import yaml

from wcse_lib import figures
from wcse_lib.records import StudyError, read_json
from wcse_lib.study import project_root, resolve

LIMIT = 10_000_000  # bytes: what a mail still carries
ROWS = 300  # longer tables are cut here; the CSV has the rest
CLIP = 20_000  # characters of one notebook output
COLUMNS = {  # what each table of 06_analyze/tables must hold
    "coverage": "arm k n_problems flops_per_problem value low high",
    "diversity": "arm budget k kind average n_problems value low high",
    "false_positives": "arm budget judge n n_false value low high",
    "quality": "arm budget",
    "levels": "arm budget level n_problems value low high",
    "students": "student base source arm budget paradigm seed metric n_problems value low high",
    "differences": "base paradigm budget metric arm_a arm_b n_problems value low high p p_holm",
    "controls": "base comparison metric n_problems value low high",
    "arm_differences": "arm_a arm_b budget metric n_problems value low high",
    "ledger": "who stage kind unit planned spent",
    "training": "student step loss",
    "flow": "arm step n reason",
}
WORDS = "arm budget kind average judge level student base source paradigm metric arm_a arm_b comparison who stage unit"
VALUES = {"diversity": "unique correct", "false_positives": "false positives, %", "students": "accuracy, %"}
VALUES |= dict.fromkeys(("differences", "arm_differences", "controls"), "difference, points")  # else "coverage, %"
LABELS = {"coverage": "coverage, %", "pass_at_1": "pass@1, %", "duplicate_rate": "duplicates, %", "p_holm": "p (Holm)"}


def write_report(folder: str | Path) -> Path:
    """Write `<folder>/report.html` from the plan, 06_analyze's tables and answer, and the executed notebooks.

    The file is below 10 MB, loads nothing from elsewhere and shows all foreign text escaped. Missing or empty tables
    leave their part out and are named. Raises StudyError for a missing plan or a table without its columns.
    """
    import jinja2

    folder = resolve(folder).resolve()
    shorten = _shortener(folder)
    plan = _map_text(read_json(folder / "01_plan" / "plan.json"), shorten)
    answer_file = folder / "06_analyze" / "answer.json"
    answer = _map_text(read_json(answer_file), shorten) if answer_file.exists() else {}
    tables = read_tables(folder / "06_analyze" / "tables")
    source = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    script = re.search(r"<script>(.*?)</script>", source, re.S)[1]
    tested = set(tables["students"]["student"] if "students" in tables else plan["students"])
    spans = tables["differences"].eval("high - low") if "differences" in tables else None
    facts = {
        "plan": plan, "study": plan["study"], "answer": answer,
        "tables": {t: _table(t, frame) for t, frame in tables.items()}, "figures": _figures(tables),
        "quality": tables["quality"].to_dict("records") if "quality" in tables else [],
        "half_width": None if spans is None else 50 * spans.median(), "machine": _machine(),
        "lacking": [t for t in COLUMNS if t not in tables],
        "untested": [name for name in plan["students"] if name not in tested],
        "failed": _stages(folder, "failed.json"), "finished": _stages(folder, "manifest.json"),
        "commit": _output("git", "rev-parse", "HEAD"), "changed": _output("git", "status", "--porcelain", "-uno"),
        "yaml": yaml.safe_dump(plan["study"], sort_keys=False, allow_unicode=True, default_flow_style=None, width=90),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }  # fmt: skip
    books = list(_notebooks(folder, shorten))
    while len(page := template.render(facts, notebooks=books).encode("utf-8", "replace")) > LIMIT:
        largest = max(books, key=lambda book: len(book["html"]))  # tables and figures alone stay far below
        largest |= {"html": "", "note": "Left out to keep this file below 10 MB; open it in the study's folder."}
    temporary = folder / ".report.html.tmp"
    temporary.write_bytes(page)
    return temporary.replace(folder / "report.html")


def _stages(folder: Path, file: str) -> dict[str, dict]:
    return {p.parent.relative_to(folder).as_posix(): read_json(p) for p in sorted(folder.glob(f"0*/**/{file}"))}


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The analysis' tables that are there and not empty. Raises StudyError when one lacks a column."""
    found = {}
    for name, columns in COLUMNS.items():
        path = folder / f"{name}.csv"
        if path.exists() and path.read_text(encoding="utf-8").strip():
            # an arm may be called "null": only an empty cell is a missing value
            frame = pd.read_csv(path, dtype={w: object for w in WORDS.split()}, keep_default_na=False, na_values=[""])
            if lacking := [c for c in columns.split() if c not in frame]:
                raise StudyError(f"{path}: column {lacking[0]!r} is missing; run 06_analyze again")
            found |= {name: frame} if len(frame) else {}
    return found


def _figures(tables: dict[str, pd.DataFrame]) -> dict[str, dict]:
    """Every figure as two data URIs, for wide and for narrow screens, with n and its numbers as alternative text."""
    wide, narrow = figures.draw_all(tables), figures.draw_all(tables, narrow=True)
    out = {}
    for name, fig in wide.items():
        table = {"accuracy": "students", "majority": "students"}.get(name, name)
        frame = tables[table]
        if table == "students":
            frame = frame[frame["metric"].str.startswith("maj@") == (name == "majority")]
        n = next((frame[c] for c in ("n_problems", "n") if c in frame), pd.Series([0]))
        span = f"{n.min():,.0f}" if n.min() == n.max() else f"{n.min():,.0f} to {n.max():,.0f}"
        if name in ("coverage", "training"):  # curves are told by their ends
            frame = frame.groupby(list(frame)[0], sort=False).tail(1)
        told = _table(table, frame)
        rows = [", ".join(f"{h['label']} {c['text']}" for h, c in zip(told["head"], row)) for row in told["rows"][:6]]
        more = f"; and {len(frame) - 6} more" if len(frame) > 6 else ""
        uris = [base64.b64encode(figures.svg(f).encode()).decode() for f in (fig, narrow[name])]
        out[name] = {"n": span, "alt": "; ".join(rows) + more, "wide": uris[0], "narrow": uris[1]}
    return out


def _table(name: str, frame: pd.DataFrame) -> dict:
    """A table for the template: texts to show, numbers to sort by, interval beside value, constant columns apart."""
    heading = VALUES.get(name, "coverage, %")
    columns = [c for c in frame if c not in ("low", "high") and frame[c].notna().any()]
    constant = [c for c in columns if len(frame) > 2 and frame[c].nunique(dropna=False) == 1 and c != "value"]
    words = [c for c in columns if frame[c].map(type).isin([str, bool]).any()]
    order = [*words, "k", "value", *LABELS]  # what a phone should show without scrolling
    columns.sort(key=lambda c: order.index(c) if c in order else len(order))
    columns = [c for c in columns if c not in constant]
    label = {c: LABELS.get(c) or c.removeprefix("n_").replace("_", " ") for c in frame}
    label["value"] = f"{heading} [95 % interval]"
    rows = []
    for row in frame.head(ROWS).to_dict("records"):
        texts = {c: _number(c, row[c]) for c in columns}
        if "value" in columns:
            shape = "{:+.1f}" if "points" in heading else "{:.1f}" if "%" in heading else "{:.2f}"
            factor = 1 if name == "diversity" else 100
            value, low, high = (shape.format(factor * row[c]) for c in ("value", "low", "high"))
            texts["value"] = (value if low == "nan" else f"{value} [{low}, {high}]").replace("-", "−")
        rows.append([{"text": texts[c], "sort": None if c in words or row[c] != row[c] else row[c]} for c in columns])
    shared = [f"{label[c]} {_number(c, frame[c].iloc[0])}" for c in constant]
    head = [{"label": label[c], "number": c not in words} for c in columns]
    return {"head": head, "rows": rows, "n": len(frame), "constant": ", ".join(shared)}


def _number(column: str, value) -> str:
    if isinstance(value, (str, bool)) or value is None or value != value:
        return value if isinstance(value, str) else {True: "yes", False: "no"}.get(value, "–")
    if column in ("p", "p_holm") and value < 0.001:
        return "< 0.001"
    if LABELS.get(column, "").endswith("%"):
        return f"{100 * value:.1f}"
    if abs(value) >= 1e7:
        digits, power = f"{value:.2e}".split("e")
        return f"{digits} × 10{str(int(power)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return f"{value:,.3g}" if abs(value) < 1000 and value % 1 else f"{value:,.0f}"


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    parts = [f"{os.cpu_count()} × {names[0] if names else platform.processor() or platform.machine()}"]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory")
    gpus = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader").splitlines()
    return ", ".join([*parts, *(gpus or ["no GPU"]), platform.system()])


def _output(*command: str) -> str:
    """What a command prints; nothing when it is not there or fails."""
    there = shutil.which(command[0])
    done = there and subprocess.run(command, cwd=project_root(), capture_output=True, text=True, timeout=30)
    return done.stdout.strip() if done and done.returncode == 0 else ""


def _shortener(folder: Path) -> Callable[[str], str]:
    """A function that puts for this machine's folders what they mean to a reader elsewhere."""
    places = {str(folder.parent): folder.parent.name, str(project_root().resolve()): ".", str(Path.home()): "~"}
    known = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True) if len(place) > 1)
    known = re.compile(rf"(?<![\w.~/-])({known})(?![\w-])")
    home = re.compile(r"(?<![\w.~-])(/home/|/Users/|[A-Z]:\\+Users\\+)[^/\\\s\"']+")
    return lambda text: home.sub("~", known.sub(lambda match: places[match[1]], text))


def _map_text(value, shorten: Callable[[str], str]):
    """JSON-able data with its texts shortened; of an absolute path that is left only the last name stays."""
    if isinstance(value, dict):  # parameters that were left out say nothing
        return {key: _map_text(v, shorten) for key, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_map_text(v, shorten) for v in value]
    text = shorten(value) if isinstance(value, str) else value
    return f"…/{Path(text).name}" if re.fullmatch(r"([A-Z]:)?[/\\][^\n]{,300}", str(text)) else text


def _notebooks(folder: Path, shorten: Callable[[str], str]) -> Iterator[dict]:
    """The executed notebooks as safe HTML, in the order of stages."""
    import nbformat
    from bs4 import BeautifulSoup

    exporter = _exporter()
    for path in sorted(p for p in folder.glob("0*/**/*.ipynb") if ".ipynb_checkpoints" not in p.parts):
        name = path.relative_to(folder).as_posix()
        try:
            book = _tidy(nbformat.read(path, as_version=4), shorten)
        except Exception as error:  # whatever a torn file raises: the report says so and goes on
            yield {"name": name, "title": "", "html": "", "note": f"Could not be read ({type(error).__name__})."}
            continue
        found = (re.search(r"^#\s+(.+)", c.source, re.M) for c in book.cells if c.cell_type == "markdown")
        soup = BeautifulSoup(exporter.from_notebook_node(book)[0], "html.parser")
        for tag in [*soup(["script", "style", "iframe", "link"]), *soup.select("div.prompt")]:
            tag.decompose()
        for source in soup.select("div.input"):
            fold = "<details class='code'><summary>code</summary></details>"
            source.wrap(BeautifulSoup(fold, "html.parser").details)
        for table in soup("table"):
            for column in zip(*(row(["th", "td"]) for row in table("tr"))):
                if any(re.search(r"[^\W\d_]{3}", cell.get_text()) for cell in column if cell.name == "td"):
                    for cell in column:
                        cell["class"] = "words"
        yield {"name": name, "title": next((t[1].strip() for t in found if t), ""), "html": str(soup), "note": ""}


def _tidy(book, shorten: Callable[[str], str]):
    """Join streams, keep a progress bar's last state, clip long outputs, drop widgets, shorten paths."""
    for cell in book.cells:
        cell.source = shorten(cell.source)
        kept = []
        for out in cell.get("outputs", []):
            same = [k for k in kept if out.output_type == k.output_type == "stream" and k.name == out.name]
            if same and (same[-1] is kept[-1] or out.name == "stderr"):
                same[-1].text += out.text
            elif "application/vnd.jupyter.widget-view+json" not in out.get("data", {}):
                kept.append(out)  # a widget's fallback text would show the state before the work
        for out in kept:
            if out.output_type == "stream":
                out.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in out.text.split("\n"))
            elif out.output_type == "error":
                out.traceback = [shorten(line) for line in out.traceback]
            out.get("metadata", {}).pop("text/html", None)  # "isolated" would make an iframe
            holder = out if out.output_type == "stream" else out.get("data", {})
            for key in [k for k in holder if k == "text" or k.startswith("text/")]:
                text = shorten(holder[key])
                rest = len(text) - CLIP * (50 if key == "text/html" else 1)
                holder[key] = text if rest <= 0 else f"{text[:-rest]}\n… {rest:,} more characters in the notebook"
        cell.get("outputs", [])[:] = kept
    return book


def _exporter():
    """nbconvert's HTML exporter, every piece of foreign HTML cut down to a list of allowed tags and attributes."""
    from bleach.css_sanitizer import CSSSanitizer
    from bleach.sanitizer import Cleaner
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    tags = "a b blockquote br caption code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p"
    tags += " pre q s small span strong sub summary sup table tbody td tfoot th thead tr u ul var"
    plain = ["class", "style", "colspan", "rowspan", "scope", "alt", "width", "height"]
    css = CSSSanitizer(allowed_css_properties=["color", "background-color", "font-weight", "font-style", "text-align"])
    cleaner = Cleaner(set(tags.split()), {"*": plain, "img": ["src"]}, {"data"}, strip=True, css_sanitizer=css)

    def clean(html) -> str:
        soup = BeautifulSoup(str(html), "html.parser")
        for tag in soup(["script", "style", "iframe", "noscript", "template", "title", "textarea"]):
            tag.decompose()
        for tag in soup(lambda tag: tag.name == "img" and not tag.get("src", "").startswith("data:image/")):
            tag.replace_with(f"[{tag.get('alt') or 'image'}]")  # a picture from elsewhere would be a request
        for tag in soup("a", href=re.compile("^https?:")):
            if tag.get_text().strip() != tag["href"]:
                tag.append(f" ({tag['href']})")
        return cleaner.clean(str(soup))

    order = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain"]
    config = Config({"NbConvertBase": {"display_data_priority": order}})
    exporter = HTMLExporter(config=config, template_name="basic", sanitize_html=True, exclude_anchor_links=True)
    exporter.register_filter("clean_html", clean)
    return exporter
