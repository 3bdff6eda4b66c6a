"""What models think before they answer: the tags of every family, in one table, and what a text says after them."""

from __future__ import annotations

import re
from typing import NamedTuple

# How a thought begins and ends, where {} is one of the names. Another family is another row.
TAGS = (
    ("<{}>", "</{}>", "think thinking thought thoughts reason reasoning reasoning_process cot"),
    ("<{}>", "</{}>", "reflection analysis scratchpad inner_monologue"),
    ("<seed:{}>", "</seed:{}>", "think"),  # Seed
    ("<longcat_{}>", "</longcat_{}>", "think"),
    ("[{}]", "[/{}]", "THINK THINKING"),  # Magistral
    ("◁{}▷", "◁/{}▷", "think thinking"),  # Kimi
    ("<|{}|>", "<|/{}|>", "think thinking thought"),
    ("<|START_{}|>", "<|END_{}|>", "THINKING THOUGHT THINK"),  # Command
    ("<|begin_of_{}|>", "<|end_of_{}|>", "thought think thinking"),  # OpenThinker
    ("<|{}_start|>", "<|{}_end|>", "thinking thought think"),
    ("<|inner_prefix|>", "<|inner_suffix|>", "thought"),  # Apertus
    ("<|channel|>{}", "<|channel|>final", "analysis commentary"),  # Harmony
    ("<|channel>{}", "<channel|>", "thought"),  # Gemma
    ("<unused94>{}", "<unused95>", "thought"),  # MedGemma
)
# Harmony's channels where the engine has dropped the special tokens around their names.
_BARE_OPENING = re.compile(r"\s*analysis(?=[^\W\d_])", re.I)
_BARE_CLOSING = "assistantfinal"
_CLOSES_ALL = "[BEGIN FINAL RESPONSE]"  # Apriel's, which opens nothing
# How the tags of thoughts, answers and turns begin: a literal sign each, as it is found soonest.
_ANGLE = re.compile(r"<(?:[|/]|[A-Za-z]{3})")
_SQUARE = re.compile(r"\[/?[A-Za-z]{3}(?:[A-Za-z]{2}| )")
_TAG = re.compile(
    r"<\|channel\|?>\w+|<unused94>\w+"
    r"|[<\[◁][|/]{0,2}[A-Za-z]+(?:[_:][A-Za-z_]+)?\d*(?P<attributes> [\w-]+=[^<>\n]*)?\|?[>\]▷]|"
    + re.escape(_CLOSES_ALL)
)
_QUOTES = ("`", "'", '"')  # a tag in them is spoken of, and no tag
_FENCE = "```"
# A closed block of code; a tag in it is a part of the code.
_BLOCK = re.compile(r"^[^\n`]*```[^\n`]*\n(?:(?!```)[\s\S])*?^[ \t>]*```[ \t]*$", re.M)
# What may stand before a tag on its line: tags, a special token, the end of a sentence. In other words it is spoken of.
_MAY_OPEN = re.compile(r"(?:\s|<[^<>]*>|\[[^\[\]]*\])*|.*(?:\|>|▷|[.:!?…*])\s*")
# What shows that another turn stands behind a tag: its marks, or its name at the end.
_TURN = re.compile(r"<[|/]?\w|\[/?\w|###|(?:^|\n)\W*\w+:\W*$")
_BEFORE_ANSWER = re.compile(r"\s*(?:<\|message\|>|<\|start_response\|>)?\s*", re.I)


class _Tag(NamedTuple):
    kind: str  # `<think>` and `<thinking>` are of one kind
    closing: str  # the tag that ends such a thought; "" of a closing tag


def _all_tags() -> dict[str, _Tag]:
    """Every tag of the table, in small letters."""
    tags = {_CLOSES_ALL.lower(): _Tag(_CLOSES_ALL, "")}
    for opening, closing, names in TAGS:
        for name in names.split():
            kind = closing.format(name.lower().replace("ing", "").removesuffix("s"))
            tags[opening.format(name).lower()] = _Tag(kind, closing.format(name))
            tags[closing.format(name).lower()] = _Tag(kind, "")
    return tags


_TAGS = _all_tags()
_NO_TAG = _Tag("", "")


def without_thoughts(text: str, opened: str = "") -> str | None:
    """What a text says after its thoughts; None where the last of them is never closed.

    A closing tag alone means that all before it was thought. `opened` is the tag with which the prompt ends, so that
    the text goes on inside the thought; see `opened_thought`.

    >>> without_thoughts("<think>7? no, 8</think> It is 8.")
    'It is 8.'
    >>> without_thoughts("It may be 7. Wait", opened="<think>") is None
    True
    """
    text = f"{opened}\n{text}" if opened else text
    if _BARE_CLOSING in text:
        text = text.rpartition(_BARE_CLOSING)[2].lstrip()
    if _BARE_OPENING.match(text):
        return None
    if not may_have_tags(text):
        return text
    thought, start = "", 0  # the kind of thought that is open, and where speech begins
    before = ""  # what was said before the last thought
    blocks = [block.span() for block in _BLOCK.finditer(text)]
    for tag in _TAG.finditer(text):
        kind, closing = _tag_of(tag)
        start_of_tag, end_of_tag = tag.span()
        is_quoted = text.endswith(_QUOTES, 0, start_of_tag) or text.startswith(_QUOTES, end_of_tag)
        is_fenced = text.endswith(_FENCE, 0, start_of_tag) or text.startswith(_FENCE, end_of_tag)
        if is_quoted and not is_fenced:
            continue
        is_code = any(first < start_of_tag < last for first, last in blocks)
        if is_code and not thought:
            continue
        if closing and not thought:
            # once it has thought, a text may do so anywhere
            if start or _may_open(tag):
                thought = kind
                before = "" if tag.group().startswith("<|") else text[start:start_of_tag].strip()
        elif kind and not closing and thought in ("", kind):
            before = before if thought else ""
            thought, start = "", end_of_tag
    if thought:
        return None
    if not start:
        return text
    # reasons may stand behind the answer
    return text[_BEFORE_ANSWER.match(text, start).end() :] or before


def _tag_of(tag: re.Match) -> _Tag:
    name = tag.group().replace(tag["attributes"] or "", "")
    return _TAGS.get(name.lower(), _NO_TAG)


def _may_open(tag: re.Match) -> bool:
    """Whether a tag opens a thought where it stands, and is not only spoken of: "I use no <think> tags"."""
    start_of_line = tag.string.rfind("\n", 0, tag.start()) + 1
    before = tag.string[start_of_line : tag.start()]
    return tag.group().startswith("<|") or _MAY_OPEN.fullmatch(before) is not None


def may_have_tags(text: str) -> bool:
    """Whether a text may have tags of thoughts, answers or turns; most have none, which is known at little cost."""
    is_angle = "<" in text and _ANGLE.search(text)
    is_square = "[" in text and _SQUARE.search(text)
    return bool(is_angle or is_square or "◁" in text)


def is_thought_tag(token: str) -> bool:
    """Whether a token of a tokenizer is a tag of thoughts, which a text must keep even where it is a special one."""
    return token.lower() in _TAGS


def opened_thought(prompt: str) -> str:
    """The tag that opens a thought at the end of a prompt, as templates of reasoning models write it; else "".

    Its first words may follow.

    >>> opened_thought("user: 1+1? assistant: <think>\\n")
    '<think>'
    """
    tags = [tag for tag in _TAG.finditer(prompt) if _tag_of(tag) is not _NO_TAG]
    if not tags:
        return ""
    tag = tags[-1]
    behind = prompt[tag.end() :].strip().removeprefix("<|message|>")
    # templates may write the first words of the thought too
    goes_on = not behind or (_may_open(tag) and not _TURN.search(behind))
    name = tag.group().replace(tag["attributes"] or "", "")
    return name if _tag_of(tag).closing and goes_on else ""


def closed_thought(opened: str) -> str:
    """What a text that thinks nothing begins with where the prompt has opened a thought; "" where it has not.

    >>> closed_thought("<think>")
    '\\n</think>\\n\\n'
    """
    return f"\n{_TAGS[opened.lower()].closing}\n\n" if opened else ""
