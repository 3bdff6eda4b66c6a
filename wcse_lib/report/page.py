"""A finished study as one HTML file that opens offline; the only door to nbconvert."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import yaml

from wcse_lib import store as records
from wcse_lib.nano import MODELS
from wcse_lib.report import figures
from wcse_lib.store import StudyError, read_json, sha256
from wcse_lib.study import project_root, resolve

LIMIT = 10_000_000  # bytes: what a mail still carries
ROWS = 300  # longer tables are cut here; the CSV has the rest
CLIP = 20_000  # characters of one notebook output
COLUMNS = {  # what each table of 06_analyze/tables must hold
    "explanation": "arm budget base quantity unit n value low high",
    "coverage": "arm k n_problems flops_per_problem value low high",
    "sound_coverage": "arm judge k n_problems flops_per_problem value low high",
    "diversity": "arm budget k kind average n_problems value low high",
    "false_positives": "arm budget judge n n_false value low high",
    "quality": "arm budget",
    "lengths": "arm verdict value low high n_samples median_tokens p90_tokens p99_tokens truncated_rate",
    "self_agreement": "arm n_problems value low high",
    "arm_votes": "arm k n_problems value low high tie_rate",
    "forecast": "arm budget metric k value low high n outcome",
    "levels": "arm budget level n_problems value low high",
    "students": "student base source arm budget paradigm seed metric n_problems value low high",
    "differences": "base paradigm budget metric arm_a arm_b n_problems value low high p p_holm",
    "ablations": "base comparison recipe against arm_a arm_b budget metric n_problems value low high p p_holm",
    "transfer": "set base paradigm budget metric arm_a arm_b n_problems value low high p p_holm",
    "student_false_positives": "student base source arm budget judge n value low high",
    "controls": "base comparison metric n_problems value low high",
    "arm_differences": "arm_a arm_b budget metric n_problems value low high",
    "ledger": "who stage kind unit planned spent",
    "training": "student step loss",
    "flow": "arm step n reason",
}
OPTIONAL = {
    "sound_coverage",
    "forecast",
    "ablations",
    "transfer",
    "student_false_positives",
}  # the answer tells of these
OF_STUDENTS = {"students", "differences", "controls", "training"}
WORDS = "study arm budget kind average judge level student base source paradigm metric arm_a arm_b comparison who stage unit"
WORDS += " set recipe against quantity verdict"
HEADS = {
    "diversity": "unique correct",
    "false_positives": "false positives, %",
    "students": "accuracy, %",
}
HEADS |= {
    "lengths": "mean tokens",
    "self_agreement": "agreement, %",
    "arm_votes": "maj@k, %",
    "forecast": "forecast",
}
HEADS |= {
    "explanation": "value",
    "arm_differences": "difference",
    "student_false_positives": "false positives, %",
}
HEADS |= dict.fromkeys(
    ("differences", "controls", "ablations", "transfer", "pooled"), "difference, points"
)  # else "coverage, %"
LABELS = {
    "coverage": "coverage, %",
    "pass_at_1": "pass@1, %",
    "duplicate_rate": "duplicates, %",
    "p_holm": "p (Holm)",
}
LABELS |= {
    "tie_rate": "ties, %",
    "no_answer_rate": "no answer, %",
    "truncated_rate": "cut short, %",
    "error_rate": "failed, %",
}


def write_report(folder: str | Path) -> Path:
    """Write `<folder>/report.html` from the plan, 06_analyze's tables and answer, and the executed notebooks.

    The file is below 10 MB, loads nothing from elsewhere and shows all foreign text escaped. Missing or empty tables
    leave their part out and are named. Raises StudyError for a missing plan or a table without its columns.
    """
    folder = resolve(folder).resolve()
    shorten = _shortener(folder)
    plan = without_paths(read_json(folder / "01_plan" / "plan.json"), folder)
    answer_file = folder / "06_analyze" / "answer.json"
    answer = without_paths(read_json(answer_file), folder) if answer_file.exists() else {}
    tables = read_tables(folder / "06_analyze" / "tables")
    tested = set(tables["students"]["student"] if "students" in tables else plan["students"])
    spans = tables["differences"].eval("high - low") if "differences" in tables else None
    side = {"side_by_side": _side_by_side(tables["explanation"])} if "explanation" in tables else {}
    facts = {
        "plan": plan,
        "study": plan["study"],
        "answer": answer,
        "tables": {t: as_table(t, frame) for t, frame in tables.items()} | side,
        "figures": _figures(tables, answer.get("paper"), folder / "06_analyze"),
        "quality": tables["quality"].to_dict("records") if "quality" in tables else [],
        "half_width": None if spans is None else 50 * spans.median(),
        "machine": records.machine(),
        "lacking": [
            t
            for t in COLUMNS
            if t
            not in {*tables, *OPTIONAL, *(() if plan["study"].get("students") else OF_STUDENTS)}
        ],
        "checkpoints": _checkpoints(folder, plan),
        "untested": [name for name in plan["students"] if name not in tested],
        "failed": _stages(folder, "failed.json"),
        "finished": _stages(folder, "manifest.json"),
        "yaml": yaml.safe_dump(
            plan["study"], sort_keys=False, allow_unicode=True, default_flow_style=None, width=90
        ),
    }
    facts["machines"], facts["commits"] = (
        _by_stage(facts["finished"], key) for key in ("machine", "commit")
    )
    books = list(_notebooks(folder, shorten))
    while (
        len(
            (page := render("report.html.j2", facts | {"notebooks": books})).encode(
                "utf-8", "replace"
            )
        )
        > LIMIT
    ):
        largest = max(
            books, key=lambda book: len(book["html"])
        )  # tables and figures alone stay far below
        largest |= {
            "html": "",
            "note": "Left out to keep this file below 10 MB; open it in the study's folder.",
        }
    records.write_text(folder / "report.html", page)
    return folder / "report.html"


def render(name: str, facts: dict) -> str:
    """A template of this package filled in: foreign text escaped, the page's one script admitted by its hash."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    source = loader.get_source(jinja2.Environment(), "parts.html.j2")[0]
    script = re.search(r"<script>(.*?)</script>", source, re.S)[1]
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)
    return template.render(facts, script_hash=hashed)


def _stages(folder: Path, file: str) -> dict[str, dict]:
    return {
        p.parent.relative_to(folder).as_posix(): read_json(p)
        for p in sorted(folder.glob(f"0*/**/{file}"))
    }


def _by_stage(finished: dict[str, dict], key: str) -> dict[str, list[str]]:
    """The values of a key of the stages' manifests, and which stages have each."""
    out: dict[str, list[str]] = {}
    for stage, manifest in finished.items():
        stage = stage.split("/")[0] if stage[:2] in ("04", "05") else stage  # students are many
        stages = out.setdefault(manifest.get(key, "not recorded"), [])
        stages += [stage] * (stage not in stages)
    return out


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The analysis' tables that are there and not empty. Raises StudyError when one lacks a column."""
    found = {}
    for name, columns in COLUMNS.items():
        path = folder / f"{name}.csv"
        if path.exists() and path.read_text(encoding="utf-8").strip():
            # an arm may be called "null": only an empty cell is a missing value
            frame = pd.read_csv(
                path,
                dtype={w: object for w in WORDS.split()},
                keep_default_na=False,
                na_values=[""],
            )
            if lacking := [c for c in columns.split() if c not in frame]:
                raise StudyError(f"{path}: column {lacking[0]!r} is missing; run 06_analyze again")
            found |= {name: frame} if len(frame) else {}
    return found


def _figures(tables: dict[str, pd.DataFrame], paper: str | None, folder: Path) -> dict[str, dict]:
    """Every figure as two data URIs, for wide and for narrow screens, with n and its numbers as alternative text.

    The wide ones are those that 06 saved in `folder`, unless its tables are younger.
    """
    newest = max((path.stat().st_mtime for path in folder.glob("tables/*.csv")), default=0.0)
    saved = {
        p.stem: p.read_text(encoding="utf-8")
        for p in folder.glob("figures/*.svg")
        if p.stat().st_mtime >= newest
    }
    narrow, out = figures.draw_all(tables, True, paper), {}
    wide = {} if narrow.keys() <= saved.keys() else figures.draw_all(tables, False, paper)
    for name in narrow:
        table = {"accuracy": "students", "majority": "students", "likelihood": "explanation"}.get(
            name, name
        )
        frame = tables[table]
        if table == "students":
            frame = frame[frame["metric"].str.startswith("maj@") == (name == "majority")]
        if name == "likelihood":
            frame = frame[frame["quantity"].str.startswith("log-likelihood")]
        n = next((frame[c] for c in ("n_problems", "n") if c in frame), pd.Series([0]))
        span = f"{n.min():,.0f}" if n.min() == n.max() else f"{n.min():,.0f} to {n.max():,.0f}"
        if name in ("coverage", "training"):  # curves are told by their ends
            frame = frame.groupby(list(frame)[0], sort=False).tail(1)
        told = as_table(table, frame)
        rows = [
            ", ".join(f"{h['label']} {c['text']}" for h, c in zip(told["head"], row))
            for row in told["rows"][:6]
        ]
        more = f"; and {len(frame) - 6} more" if len(frame) > 6 else ""
        shown = figures.svg(wide[name]) if wide else saved[name], figures.svg(narrow[name])
        uris = [base64.b64encode(text.encode()).decode() for text in shown]
        out[name] = {"n": span, "alt": "; ".join(rows) + more, "wide": uris[0], "narrow": uris[1]}
    return out


def as_table(name: str, frame: pd.DataFrame) -> dict:
    """A table for a template: texts to show, numbers to sort by, interval beside value, constant columns apart."""
    heading = HEADS.get(name, "coverage, %")
    if (
        name == "ledger" and "matched" in frame
    ):  # only sampling is matched; a bare "no" elsewhere would read as a fault
        told = (
            frame["matched"]
            .map({True: "yes", False: "no"})
            .where(frame["kind"].str.startswith("sampling"))
            .fillna("–")
        )
        frame = frame.assign(matched=told)
    columns = [c for c in frame if c not in ("low", "high") and frame[c].notna().any()]
    if "value" in frame and "unit" in columns:
        columns.remove("unit")  # it stands beside each value
    constant = [
        c
        for c in columns
        if len(frame) > 2 and frame[c].nunique(dropna=False) == 1 and c != "value"
    ]
    words = [c for c in columns if frame[c].map(type).isin([str, bool]).any()]
    order = [
        c for c in ("study", "metric", "arm_a", "arm_b", "value") if "study" in columns
    ]  # what a phone should show without scrolling
    order += [*(c for c in words if c in WORDS.split()), "k", "value", "outcome", *LABELS]
    columns.sort(key=lambda c: order.index(c) if c in order else len(order))
    columns = [c for c in columns if c not in constant]
    label = {c: LABELS.get(c) or c.removeprefix("n_").replace("_", " ") for c in frame}
    label["value"] = f"{heading} [95 % interval]"
    rows = []
    for row in frame.head(ROWS).to_dict("records"):
        texts = {c: _number(c, row[c]) for c in columns}
        unit = row.get("unit") or (
            "points" if "points" in heading else "%" if "%" in heading else ""
        )
        unit = "%" if (unit, heading) == ("points", "value") else unit
        if "value" in columns:
            texts["value"] = _spanned(
                unit, row["value"], row["low"], row["high"], "difference" in heading
            )
            texts["value"] = texts["value"].removesuffix(" points" if "points" in heading else "\n")
        rows.append(
            [
                {"text": texts[c], "sort": None if c in words or row[c] != row[c] else row[c]}
                for c in columns
            ]
        )
    shared = [f"{label[c]} {_number(c, frame[c].iloc[0])}" for c in constant]
    head = [{"label": label[c], "number": c not in words} for c in columns]
    return {"head": head, "rows": rows, "n": len(frame), "constant": ", ".join(shared)}


def _spanned(unit: str, value: float, low: float, high: float, signed: bool) -> str:
    """A value with its interval: shares as per cent or points, a count bare, other units named."""
    factor = 100 if unit in ("%", "points") else 1
    shape = (
        "{:,.0f}"
        if unit == "count" and value % 1 == 0
        else "{:,.1f}"
        if unit == "count"
        else f"{{:{'+' * signed}.{1 if factor == 100 else 2}f}}"
    )
    texts = [shape.format(factor * x).replace("-", "−") for x in (value, low, high)]
    span = texts[0] if low != low or unit == "count" else f"{texts[0]} [{texts[1]}, {texts[2]}]"
    return (
        span
        if unit in ("%", "count", "") or (unit == "points" and not signed)
        else f"{span} {unit}"
    )


def _side_by_side(frame: pd.DataFrame) -> dict:
    """`explanation` with an arm per column, for reading across; units but % stand beside the quantity."""
    units = frame["unit"].replace({"points": "%"})
    plain = units.where(units.isin(["%", "count"]), "")
    told = [
        _spanned(unit, r.value, r.low, r.high, False) + " %" * (unit == "%")
        for unit, r in zip(plain, frame.itertuples())
    ]
    told = [
        text.replace(", ", ",\xa0").replace(" %", "\xa0%") for text in told
    ]  # so that a narrow column breaks before the interval
    cells = [
        {"text": text, "sort": None if value != value else value}
        for text, value in zip(told, frame["value"])
    ]
    named = [
        q + (f" ({b})" if b == b else "") + ("" if u in ("%", "count") or u in q else f", {u}")
        for q, b, u in zip(frame["quantity"], frame["base"], units)
    ]
    frame = frame.assign(cell=cells, quantity=named)
    wide = frame.pivot_table(
        index=["quantity", "budget"], columns="arm", values="cell", aggfunc="first", sort=False
    )
    bare = lambda text: {"text": text, "sort": None}  # noqa: E731
    rows = [
        [bare(quantity), *(x if isinstance(x, dict) else bare("–") for x in row), bare(budget)]
        for (quantity, budget), row in zip(wide.index, wide.to_numpy())
    ]
    head = [
        {"label": "quantity", "number": False},
        *({"label": arm, "number": True} for arm in wide.columns),
        {"label": "budget", "number": False},
    ]
    return {"head": head, "rows": rows, "n": len(rows), "constant": "", "across": True}


def _number(column: str, value) -> str:
    if isinstance(value, (str, bool)) or value is None or value != value:
        return value if isinstance(value, str) else {True: "yes", False: "no"}.get(value, "–")
    if column in ("p", "p_holm") and value < 0.001:
        return "< 0.001"
    if LABELS.get(column, "").endswith("%"):
        return f"{100 * value:.1f}"
    if abs(value) >= 1e7:
        digits, power = f"{value:.2e}".split("e")
        return (
            f"{digits} × 10{str(int(power)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
        )
    return f"{value:,.3g}" if abs(value) < 1000 and value % 1 else f"{value:,.0f}"


def _checkpoints(folder: Path, plan: dict) -> dict[str, str]:
    """The SHA-256 of every file of every local checkpoint's weights, as they lie there now."""
    places = {f"arm {arm}": spec.get("model") for arm, spec in plan["arms"].items()}
    places |= {
        f"student {name}": str(folder / "04_finetune" / name / "model") for name in plan["students"]
    }
    out = {}
    for name, model in places.items():
        found = [p for p in (MODELS / str(model), resolve(str(model))) if p.is_dir()]
        files = sorted(p for p in found[0].glob("*.safetensors")) if found else []
        if (
            files and sum(p.stat().st_size for p in files) < 4e9
        ):  # larger ones would hold the report up
            out[name] = ", ".join(f"{path.name} {sha256(path)}" for path in files)
    return out


def _shortener(folder: Path) -> Callable[[str], str]:
    """A function that puts for this machine's folders what they mean to a reader elsewhere; of a path that lies in none
    of them only the last name stays."""
    places = {
        str(folder.parent): folder.parent.name,
        str(project_root().resolve()): ".",
        str(Path.home()): "~",
    }
    known = "|".join(
        re.escape(place) for place in sorted(places, key=len, reverse=True) if len(place) > 1
    )
    known = re.compile(rf"(?<![\w.~/-])({known})(?![\w-])")
    home = re.compile(r"(?<![\w.~-])(/home/|/Users/|[A-Z]:\\+Users\\+)[^/\\\s\"']+")
    other = re.compile(r"(?<![^\s\"'(\[=>`])(/[^/\s\"'<>]+)(?:/[^/\s\"'<>]+)*/([^/\s\"'<>]+)")

    def shorten(text: str) -> str:
        text = home.sub("~", known.sub(lambda match: places[match[1]], text))
        return other.sub(
            lambda match: f"…/{match[2]}" if Path(match[1]).is_dir() else match[0], text
        )  # km /h/… is none

    return shorten


def without_paths(data, folder: Path):
    """JSON-able data of a study without this machine's folders and the keys that were left out."""
    return _map_text(data, _shortener(folder.resolve()))


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
    for path in sorted(
        p for p in folder.glob("0*/**/*.ipynb") if ".ipynb_checkpoints" not in p.parts
    ):
        name = path.relative_to(folder).as_posix()
        try:
            book = _tidy(nbformat.read(path, as_version=4), shorten)
        except Exception as error:  # whatever a torn file raises: the report says so and goes on
            yield {
                "name": name,
                "title": "",
                "html": "",
                "note": f"Could not be read ({type(error).__name__}).",
            }
            continue
        found = (
            re.search(r"^#\s+(.+)", c.source, re.M) for c in book.cells if c.cell_type == "markdown"
        )
        soup = BeautifulSoup(exporter.from_notebook_node(book)[0], "html.parser")
        for tag in [*soup(["script", "style", "iframe", "link"]), *soup.select("div.prompt")]:
            tag.decompose()
        for source in soup.select("div.input"):
            fold = "<details class='code'><summary>code</summary></details>"
            source.wrap(BeautifulSoup(fold, "html.parser").details)
        for table in soup("table"):
            for column in zip(*(row(["th", "td"]) for row in table("tr"))):
                if any(
                    re.search(r"[^\W\d_]{3}", cell.get_text())
                    for cell in column
                    if cell.name == "td"
                ):
                    for cell in column:
                        cell["class"] = "words"
        yield {
            "name": name,
            "title": next((t[1].strip() for t in found if t), ""),
            "html": str(soup),
            "note": "",
        }


def _tidy(book, shorten: Callable[[str], str]):
    """Join streams, keep a progress bar's last state, clip long outputs, drop widgets, shorten paths."""
    for cell in book.cells:
        cell.source = shorten(cell.source)
        kept = []
        for out in cell.get("outputs", []):
            same = [
                k
                for k in kept
                if out.output_type == k.output_type == "stream" and k.name == out.name
            ]
            if same and (same[-1] is kept[-1] or out.name == "stderr"):
                same[-1].text += out.text
            elif "application/vnd.jupyter.widget-view+json" not in out.get("data", {}):
                kept.append(out)  # a widget's fallback text would show the state before the work
        for out in kept:
            if out.output_type == "stream":
                out.text = "\n".join(
                    line.rstrip("\r").rpartition("\r")[2] for line in out.text.split("\n")
                )
            elif out.output_type == "error":
                out.traceback = [shorten(line) for line in out.traceback]
            out.get("metadata", {}).pop("text/html", None)  # "isolated" would make an iframe
            holder = out if out.output_type == "stream" else out.get("data", {})
            for key in [k for k in holder if k == "text" or k.startswith("text/")]:
                text = shorten(holder[key])
                rest = len(text) - CLIP * (50 if key == "text/html" else 1)
                holder[key] = (
                    text
                    if rest <= 0
                    else f"{text[:-rest]}\n… {rest:,} more characters in the notebook"
                )
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
    css = CSSSanitizer(
        allowed_css_properties=[
            "color",
            "background-color",
            "font-weight",
            "font-style",
            "text-align",
        ]
    )
    cleaner = Cleaner(
        set(tags.split()), {"*": plain, "img": ["src"]}, {"data"}, strip=True, css_sanitizer=css
    )

    def clean(html) -> str:
        soup = BeautifulSoup(re.sub(r"^\s*<\?xml[^>]*>", "", str(html)), "html.parser")
        for tag in soup(["script", "style", "iframe", "noscript", "template", "title", "textarea"]):
            tag.decompose()
        for tag in soup(
            lambda tag: tag.name == "img" and not tag.get("src", "").startswith("data:image/")
        ):
            tag.replace_with(
                f"[{tag.get('alt') or 'image'}]"
            )  # a picture from elsewhere would be a request
        for tag in soup("a", href=re.compile("^https?:")):
            if tag.get_text().strip() != tag["href"]:
                tag.append(f" ({tag['href']})")
        return cleaner.clean(str(soup))

    order = [
        "text/html",
        "text/markdown",
        "image/svg+xml",
        "image/png",
        "image/jpeg",
        "text/latex",
        "text/plain",
    ]
    config = Config({"NbConvertBase": {"display_data_priority": order}})
    exporter = HTMLExporter(
        config=config, template_name="basic", sanitize_html=True, exclude_anchor_links=True
    )
    exporter.register_filter("clean_html", clean)
    return exporter
