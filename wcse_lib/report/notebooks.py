"""Executed notebooks as safe HTML; the only door to nbconvert, nbformat and nh3."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_CHARACTERS = 20_000  # of one text output; an HTML output may have 50 times as many
WIDGET = "application/vnd.jupyter.widget-view+json"
REMOVED_WITH_CONTENT = {"script", "style", "iframe", "noscript", "template", "title", "textarea"}
ATTRIBUTES = {"class", "style", "colspan", "rowspan", "scope", "alt", "width", "height"}
STYLES = {"color", "background-color", "font-weight", "font-style", "text-align"}
FOLD = "<details class='code'><summary>code</summary></details>"
# The first of these formats that an output has is shown.
FORMATS = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg"]
FORMATS += ["text/latex", "text/plain"]


@dataclass
class Book:
    """A notebook in the report; `note` says why its HTML is missing."""

    name: str
    title: str = ""
    html: str = ""
    note: str = ""


def read_books(folder: Path, shorten: Callable[[str], str]) -> Iterator[Book]:
    """The executed notebooks of a study as safe HTML, in the order of stages, their paths made short."""
    import nbformat

    exporter = _exporter()
    for path in sorted(folder.glob("0*/**/*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        name = path.relative_to(folder).as_posix()
        try:
            notebook = nbformat.read(path, as_version=4)
            _tidy(notebook, shorten)
        except Exception as error:  # whatever a torn file raises: the report says so and goes on
            yield Book(name, note=f"Could not be read ({type(error).__name__}).")
            continue
        html = exporter.from_notebook_node(notebook)[0]
        yield Book(name, _title(notebook), _folded(html))


def _title(notebook) -> str:
    """The first heading of the first order."""
    for cell in notebook.cells:
        heading = re.search(r"^#\s+(.+)", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and heading:
            return heading[1].strip()
    return ""


def _folded(html: str) -> str:
    """A notebook's HTML with its code behind a click and its tables' columns of words marked."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(html, "html.parser")
    for tag in [*soup(["script", "style", "iframe", "link"]), *soup.select("div.prompt")]:
        tag.decompose()
    for source in soup.select("div.input"):
        source.wrap(BeautifulSoup(FOLD, "html.parser").details)
    for table in soup("table"):
        lines = [row(["th", "td"]) for row in table("tr")]
        for column in zip(*lines):
            texts = [cell.get_text() for cell in column if cell.name == "td"]
            if any(re.search(r"[^\W\d_]{3}", text) for text in texts):
                for cell in column:
                    cell["class"] = "words"
    return str(soup)


def _tidy(notebook, shorten: Callable[[str], str]) -> None:
    """Join streams, keep a progress bar's last state, clip long outputs, drop widgets, shorten paths; in place."""
    for cell in notebook.cells:
        cell.source = shorten(cell.source)
        if "outputs" not in cell:
            continue
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs:
            _tidy_output(output, shorten)


def _joined(outputs: list) -> list:
    """Outputs without widgets, streams joined: of stderr all, of stdout what stands side by side."""
    kept = []
    for output in outputs:
        earlier = [
            other
            for other in kept
            if output.output_type == other.output_type == "stream" and other.name == output.name
        ]
        if earlier and (earlier[-1] is kept[-1] or output.name == "stderr"):
            earlier[-1].text += output.text
        elif WIDGET not in output.get("data", {}):
            kept.append(output)  # a widget's fallback text would show the state before the work
    return kept


def _tidy_output(output, shorten: Callable[[str], str]) -> None:
    if output.output_type == "stream":
        lines = output.text.split("\n")
        output.text = "\n".join(_last_state(line) for line in lines)
    elif output.output_type == "error":
        output.traceback = [shorten(line) for line in output.traceback]
    # The mark "isolated" would make an iframe.
    output.get("metadata", {}).pop("text/html", None)
    holder = output if output.output_type == "stream" else output.get("data", {})
    for key in holder:
        if key == "text" or key.startswith("text/"):
            most = MOST_CHARACTERS * 50 if key == "text/html" else MOST_CHARACTERS
            holder[key] = _clipped(shorten(holder[key]), most)


def _last_state(line: str) -> str:
    """What a terminal shows of a line that was overwritten after carriage returns."""
    return line.rstrip("\r").rpartition("\r")[2]


def _clipped(text: str, most: int) -> str:
    n_more = len(text) - most
    if n_more <= 0:
        return text
    return f"{text[:most]}\n… {n_more:,} more characters in the notebook"


def clean(html) -> str:
    """Foreign HTML cut down to nh3's tags and to ATTRIBUTES and STYLES; what would load something becomes text."""
    import nh3
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(re.sub(r"^\s*<\?xml[^>]*>", "", str(html)), "html.parser")
    for image in soup("img"):
        if not image.get("src", "").startswith("data:image/"):
            image.replace_with(f"[{image.get('alt') or 'image'}]")
    for link in soup("a", href=re.compile("^https?:")):
        if link.get_text().strip() != link["href"]:
            link.append(f" ({link['href']})")
    return nh3.clean(
        str(soup),
        clean_content_tags=REMOVED_WITH_CONTENT,
        attributes={"*": ATTRIBUTES, "img": {"src"}},
        url_schemes={"data"},
        filter_style_properties=STYLES,
        link_rel=None,
    )


def _exporter():
    """nbconvert's exporter to HTML without a page around it, with `clean` in place of its own cleaning."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    exporter = HTMLExporter(
        config=Config({"NbConvertBase": {"display_data_priority": FORMATS}}),
        template_name="basic",
        sanitize_html=True,
        exclude_anchor_links=True,
    )
    exporter.register_filter("clean_html", clean)
    return exporter
