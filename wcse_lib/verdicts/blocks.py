"""Blocks of code in a text, as a Markdown reader and the field's own tags mark them."""

from __future__ import annotations

import html
import re
import textwrap
from typing import NamedTuple

from wcse_lib.verdicts.names import UNREADABLE, compiles, does_something, parse

# lists and quotes may stand before a fence
FENCE = re.compile(
    r"(?P<prefix>(?:[ \t]|>|[-*+][ \t]|\d+[.)][ \t])*)(?P<marks>`{3,}|~{3,})(?P<label>.*)"
)
# a fence behind words on their line, which must have a label
FENCE_BEHIND = re.compile(r"(?:(?!```).)*\S[ \t]*(?P<fence>`{3,}[ \t]*[A-Za-z]\w*[ \t]*)")
PYTHON = re.compile(r"\W*(?:i?python|py)[\w.]*", re.I)
QUOTE = re.compile(r"[ \t]*>[ \t]?")
PROSE_LINE = re.compile(
    r"(?:[#*>_-] ?|\d+[.)] )*[A-Z][\w'’]*[,:.!]? [\w`'\"(]|[A-Z][\w'’ ]*[:!.]$|\*\*|`\w"
)
MOST_TRIES = 20
ODD_SPACES = {0xA0: " ", 0x202F: " ", 0x200B: None}  # which web pages put into code
OF_NOTEBOOK = re.compile(r"^([ \t]*)[%!].*", re.M)
MOST_INDENTED = 3  # a deeper fence than this, seen from the one that opened a block, is part of it
TAG = "~" * 12  # the fence that stands for a tag
NAMES = "(?:code|python|solution|answer|execute|code_block)"
OPENING = re.compile(
    r"^[ \t]*(?:\[BEGIN\]|(?:\[CODE\]|(?:<pre>)?<(?:code|python|solution(?![^<]*^[ \t]*```))\b[^>\n]*>)[ \t]*$)"
    r"|\[PYTHON\]|<\|python_tag\|>"
    # any tag before a definition or an import, but for one that is closed within its line
    rf"|^[ \t]*(?:<pre>)?<{NAMES}\b[^>\n]*>(?=\s*(?:async |def |class |import |from |@\w))(?!.*</.*[^>\s][ \t]*$)"
    r"|^[ \t]*\\begin\{(?:lstlisting|minted|verbatim)\}.*$",
    re.M,
)
CLOSING = re.compile(
    r"^[ \t]*(?:\[DONE\]|\[/CODE\]|</(?:code|python|solution)>).*$|\[/PYTHON\]"
    rf"|(?<=\S)</{NAMES}>(?:</pre>)?[ \t]*$|^</(?:answer|execute|code_block)>[ \t]*$"
    r"|^[ \t]*\\end\{(?:lstlisting|minted|verbatim)\}",
    re.M,
)
DONE_BEHIND_CODE = re.compile(r"[ \t]*\[DONE\][ \t]*$", re.M)
TAG_BEFORE_FENCE = re.compile(rf"^{TAG}python\n\s*(?=(?:```|~~~(?!{TAG})))", re.M)
TAG_AFTER_FENCE = re.compile(rf"(^[ \t]*(?:```|~~~)[ \t]*\n)\s*{TAG}\n", re.M)


class Block(NamedTuple):
    """A block's label in small letters ("" where it has none) and its code."""

    label: str
    code: str

    @property
    def is_python(self) -> bool:
        return PYTHON.match(self.label) is not None


def blocks_of(text: str) -> list[Block]:
    """The blocks of a text that are not empty, in their order.

    A block that is still open at the end counts, and so does one that was opened before the text: code that ends in a
    closing fence.
    """
    lines = _with_fences(text).split("\n")
    found: list[Block] = []
    opening = _opened_before(lines)
    body: list[str] = []
    for line in lines:
        fence = _fence(line)
        if opening is None:
            behind = None if fence else FENCE_BEHIND.fullmatch(line)
            if behind:
                fence = _fence(behind["fence"])
            # a tag without a label ends a block that nothing began
            if fence and not (fence["marks"] == TAG and not fence["label"]):
                opening, body = fence, []
        elif fence and _closes(fence, opening):
            found.append(_block(opening, "\n".join([*body, ""])))
            # where a closing fence was forgotten, the next block opens all the same
            opening, body = fence if PYTHON.match(fence["label"]) else None, []
        else:
            body.append(_inside(line, opening["prefix"]))
            last = body[-1].rstrip()
            # code may end in the fence on its last line
            if last.endswith(opening["marks"]):
                code = "\n".join([*body[:-1], last.rstrip("`~")])
                if does_something(code) and compiles(code):
                    found.append(_block(opening, code + "\n"))
                    opening, body = None, []
    if opening is not None:
        block = _block(opening, "\n".join(body))
        # behind words only code shows that a fence which nothing closes is one
        if opening.string in lines or compiles(block.code):
            found.append(block)
    return [block for block in found if block.code.strip()]


def reads_as_code(text: str) -> bool:
    """Whether a text is Python that does something, or the body of a function."""
    body = textwrap.dedent(text)
    as_body = "def function():\n" + textwrap.indent(body, "    ")
    return does_something(body) and (compiles(text) or compiles(as_body))


def without_prose_behind(source: str) -> str:
    """The source up to the prose that keeps it from being compiled; "" where that is not what keeps it."""
    for _ in range(MOST_TRIES):
        if compiles(source):
            return source
        try:
            parse(source)
            return ""
        except SyntaxError as error:
            lines = source.split("\n")[: error.lineno or 0]
        except UNREADABLE:
            return ""
        if not lines or not PROSE_LINE.match(lines[-1]):
            return ""
        source = "\n".join(lines[:-1])
    return ""


def _with_fences(text: str) -> str:
    """The text with tags as fences, but for tags around fences."""
    if "[BEGIN]" in text:
        text = DONE_BEHIND_CODE.sub("\n[DONE]", text)
    text = OPENING.sub(f"\n{TAG}python\n", text)
    text = CLOSING.sub(f"\n{TAG}\n", text)
    return TAG_AFTER_FENCE.sub(r"\1", TAG_BEFORE_FENCE.sub("", text))


def _fence(line: str) -> re.Match | None:
    """The parts of a fence; code between marks on one line is none."""
    fence = FENCE.fullmatch(line)
    return None if fence is None or "`" in fence["label"] else fence


def _closes(fence: re.Match, opening: re.Match) -> bool:
    is_deeper = len(fence["prefix"]) > len(opening["prefix"]) + MOST_INDENTED
    return fence["marks"].startswith(opening["marks"]) and not is_deeper


def _opened_before(lines: list[str]) -> re.Match | None:
    """The fence that must have stood in the prompt, where the text's first fence closes code."""
    for number, line in enumerate(lines):
        if fence := _fence(line):
            is_bare = not fence["label"].strip()
            is_tag = fence["marks"] == TAG
            before = "\n".join(lines[:number])
            if is_bare and (is_tag or reads_as_code(before)):
                return FENCE.fullmatch(fence["marks"] + "python")
            return None
    return None


def _inside(line: str, prefix: str) -> str:
    """A line of a block without the quote marks and the indentation that its fence has."""
    for _ in range(prefix.count(">")):
        line = QUOTE.sub("", line, count=1)
    indentation = prefix.rpartition("> ")[2]
    n_spaces = len(line) - len(line.lstrip(" \t"))
    return line[min(n_spaces, len(indentation)) :]


def _block(opening: re.Match, code: str) -> Block:
    code = code.replace("\ufeff", "")
    # a list may indent a block and not its fence
    if re.match(r"\s+(?:async def|def|class|import|from|@)\b", code):
        code = textwrap.dedent(code)
    block = Block(opening["label"].strip().lower(), code)
    return block._replace(code=_mended(code)) if block.is_python or not block.label else block


def _mended(code: str) -> str:
    """The code, without signs of web pages and notebooks and prose behind, where these keep it from compiling."""
    if compiles(code):
        return code
    mended = html.unescape(code.translate(ODD_SPACES))
    return without_prose_behind(OF_NOTEBOOK.sub(r"\1pass", mended)) or code
