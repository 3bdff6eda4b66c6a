"""The code of a sample, and the program that its tests run."""

from __future__ import annotations

import ast
import re
import textwrap
from functools import lru_cache
from typing import NamedTuple

from wcse_lib.answers import without_thoughts
from wcse_lib.verdicts.blocks import (
    MOST_TRIES,
    PROSE_LINE,
    Block,
    blocks_of,
    reads_as_code,
    without_prose_behind,
)
from wcse_lib.verdicts.cases import Cases
from wcse_lib.verdicts.forms import read_tests
from wcse_lib.verdicts.names import (
    BUILTINS,
    UNREADABLE,
    Names,
    compiles,
    imported_modules,
    is_standard,
    loaded,
    names_of,
    parse,
)
from wcse_lib.verdicts.reasons import ONLY_STANDARD, UnusableTests

CODE_LINE = re.compile(
    r"from [\w.]+ import |import \w|(?:async )?def \w+ ?\(|class \w+ ?[(:]|@\w|[A-Za-z_]\w* = "
)
ELIDED = re.compile(r"^\s*#\s*(?:\.\.\.|…|(?:the )?rest of )", re.M)
READS_INPUT = {"input", "sys", "open", "fileinput", "stdin"}
WRITES = re.compile(r"\bprint\b|\.write")
Function = ast.FunctionDef | ast.AsyncFunctionDef
IDLE = Function | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.Pass


class Program(NamedTuple):
    """A sample's code, its problem's tests, and the function that tests are for that do not name one, or "".

    `fault`: why no code of this problem can run here, or "".
    """

    code: str
    tests: str
    entry_point: str = ""
    fault: str = ""


def program(text: str, question: str, tests: str) -> Program:
    """What is run for a sample.

    Of the text, the code that the tests need (extract_code). Where the question shows code, a text that goes on from it
    stands behind it, and one that writes the function anew keeps its imports, constants and helpers.
    """
    prompt = prompt_code(question)
    try:
        form = read_tests(tests, prompt.entry_point)
    except UnusableTests as error:
        return Program(extract_code(text), tests, prompt.entry_point, str(error))
    reads_input = isinstance(form, Cases) and not form.function
    code = extract_code(text, form.needed, reads_input)
    whole = _with_prompt(code, prompt, form.needed) if code.strip() else code
    fault = prompt.fault if whole != code else ""
    return Program(_future_first(whole), tests, prompt.entry_point, fault)


# ---------------------------------------------------------------------- the code of a text


def extract_code(text: str, needed: frozenset[str] = frozenset(), reads_input: bool = False) -> str:
    """The code in a model's answer: of its blocks those that matter, or the whole text.

    Those matter that define what is `needed`, or all functions and classes where that is not known, in their last whole
    version, and those that define what these use. Where nothing is defined the last Python block counts; of a program
    (`reads_input`) the last that reads. What was only thought never counts.

    >>> extract_code("So:\\n```python\\nx = 1\\n```\\nDone.")
    'x = 1\\n'
    """
    spoken = (without_thoughts(text) or "").replace("\ufeff", "").replace("\r\n", "\n")
    spoken = spoken.replace("\r", "\n")
    blocks = blocks_of(spoken)
    if not blocks:
        return _code_in_prose(spoken)
    # code in another language, or output, only where there is nothing else
    own = [block for block in blocks if block.is_python or not block.label] or blocks
    chosen = _chosen(own, needed, reads_input)
    return "\n".join(block.code for block in chosen)


def _chosen(blocks: list[Block], needed: frozenset[str], reads_input: bool) -> list[Block]:
    names = [names_of(block.code) for block in blocks]
    definitions = [_whole_definitions(block.code) for block in blocks]
    homes: dict[str, int] = {}
    for place, own in enumerate(names):
        homes.update(dict.fromkeys(own.bound, place))
    # a definition, were it earlier, goes before what else binds its name
    for place, own in enumerate(definitions):
        homes.update(dict.fromkeys(own, place))

    readers = [place for place, own in enumerate(names) if own.used & READS_INPUT]
    defined = {name for own in definitions for name in own if not name.lower().startswith("test")}
    wanted = needed & set(homes)
    if reads_input and readers:
        places = _program_of(blocks, names, definitions, readers)
    elif wanted or defined:
        places = sorted({homes[name] for name in wanted or defined})
    else:
        return [_last_of(blocks)]
    for place in places:  # grows
        own = names[place]
        used = own.used - (own.bound - definitions[place])
        found = {homes[name] for name in used if name in homes}
        places += sorted(found - set(places))
    return [blocks[place] for place in sorted(places)]


def _program_of(
    blocks: list[Block], names: list[Names], definitions: list[set[str]], readers: list[int]
) -> list[int]:
    """Places of the last program: a block that reads and acts, or that reads with those that go on from it."""
    defined = {name for own in definitions for name in own}
    acts = [_acts(block.code, defined) for block in blocks]
    for reader in reversed(readers):
        places, bound = [reader], set(names[reader].bound)
        place = reader
        is_whole = acts[reader] and WRITES.search(blocks[reader].code)
        while not is_whole and place + 1 < len(blocks):
            place += 1
            if names[place].used & bound:
                places.append(place)
                bound |= names[place].bound
                is_whole = acts[place]
        if any(acts[place] for place in places):
            return places
    return readers[-1:]


def _acts(code: str, defined: set[str]) -> bool:
    """Whether code does something when it is run, and does not only define, import, assign or set up."""
    try:
        statements = parse(code).body
    except UNREADABLE:
        return True
    for statement in statements:
        if isinstance(statement, ast.Expr):
            if loaded(statement) & {*defined, "print"} or WRITES.search(ast.unparse(statement)):
                return True
        elif not isinstance(statement, IDLE):
            return True
    return False


def _whole_definitions(code: str) -> set[str]:
    """Functions and classes that a block defines, but for those that it only sketches."""
    try:
        statements = parse(code).body
    except UNREADABLE:
        return set(names_of(code).bound)
    found = set()
    for statement in statements:
        if isinstance(statement, Function | ast.ClassDef) and not _is_sketch(statement):
            if not ELIDED.search(ast.get_source_segment(code, statement) or ""):
                found.add(statement.name)
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Lambda):
            found.update(target.id for target in statement.targets if isinstance(target, ast.Name))
    return found


def _is_sketch(definition: ast.stmt) -> bool:
    """Whether a function's body is only documented or holds a `...`; of a class, whether all its functions are so."""
    if isinstance(definition, ast.ClassDef):
        methods = [part for part in definition.body if isinstance(part, Function)]
        return bool(methods) and all(map(_is_sketch, methods))
    steps = []
    for step in definition.body:
        is_constant = isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)
        if is_constant and step.value.value is ...:
            return True
        if not is_constant:
            steps.append(step)
    return all(isinstance(step, ast.Pass | ast.Raise) for step in steps)


def _last_of(blocks: list[Block]) -> Block:
    """The last block that is code and says so, or is code, or says so; else the last."""
    code = [block for block in blocks if reads_as_code(block.code)]
    labelled = [block for block in blocks if block.is_python]
    both = [block for block in code if block.is_python]
    return (both or code or labelled or blocks)[-1]


def _code_in_prose(text: str) -> str:
    """The code in a text without blocks: from its first line of code to the prose behind; else the whole text."""
    if reads_as_code(text):
        return text
    lines = text.split("\n")
    starts = [0]
    if PROSE_LINE.match(text.lstrip().partition("\n")[0]):
        starts = [number for number, line in enumerate(lines) if CODE_LINE.match(line.lstrip())]
    for start in starts[:MOST_TRIES]:
        # Markdown indents a block by four
        indentation = re.match(r"\s*", lines[start])[0]
        dedented = [line.removeprefix(indentation) for line in lines[start:]]
        if code := without_prose_behind("\n".join(dedented)):
            return code
    return text


# ---------------------------------------------------------------------- the code of a question


class Prompt(NamedTuple):
    """The code that a question shows: as it stands, and with a body where its last function has none."""

    source: str
    whole: str
    entry_point: str
    fault: str


@lru_cache(maxsize=64)
def prompt_code(question: str) -> Prompt:
    """The code of a question that is code, holds blocks of it or ends with it; empty where it shows no definition.

    `entry_point` is its last function that is only sketched, or its last; `fault` names packages that it imports and
    that are not here.
    """
    question = question.replace("\ufeff", "").replace("\r\n", "\n")
    blocks = [block.code for block in blocks_of(question) if block.is_python or not block.label]
    lines = question.split("\n")
    starts = [number for number, line in enumerate(lines) if CODE_LINE.match(line)]
    sources = [question, "\n".join(blocks)]
    sources += ["\n".join(lines[start:]) for start in starts[:MOST_TRIES]]
    for source in sources:
        source = source.rstrip()
        whole = _completed(source)
        if not whole:
            continue
        tree = parse(whole)
        functions = [part for part in tree.body if isinstance(part, Function)]
        if not functions and not any(isinstance(part, ast.ClassDef) for part in tree.body):
            continue
        modules = imported_modules(tree)
        missing = sorted(module for module in modules if not is_standard(module))
        fault = ""
        if missing:
            fault = f"the question imports {', '.join(missing)}; {ONLY_STANDARD}"
        # helpers may stand behind the function that is only sketched
        asked = list(filter(_is_sketch, functions)) or functions
        return Prompt(source, whole, asked[-1].name if asked else "", fault)
    return Prompt("", "", "", "")


def _completed(source: str) -> str:
    """A source that compiles: as it is, with a body for its last function, or without prose behind; else ""."""
    if compiles(source):
        return source
    last = source.rpartition("\n")[2]
    indentation = last[: len(last) - len(last.lstrip())]
    with_body = f"{source}\n{indentation}    pass"
    return with_body if compiles(with_body) else without_prose_behind(source)


def _with_prompt(code: str, prompt: Prompt, needed: frozenset[str]) -> str:
    """The code behind that of the prompt: as its continuation, or as what is written anew."""
    bound = names_of(code).bound
    if not prompt.source:
        return code
    if needed & bound:
        return "\n".join([*_prelude(prompt, bound), code])
    last = parse(prompt.whole).body[-1]
    is_sketch = isinstance(last, Function | ast.ClassDef) and _is_sketch(last)
    if not is_sketch and not code[:1].isspace():
        return code
    # servers and templates strip the first line's indentation, and blocks all of it
    indented = textwrap.indent(code, "    ")
    for body in (code, f"    {code.lstrip()}", indented):
        if joined := without_prose_behind(f"{prompt.source}\n{body}"):
            return joined
    return f"{prompt.source}\n{code}"


def _prelude(prompt: Prompt, bound: frozenset[str]) -> list[str]:
    """Imports, helpers, classes, constants and what sets them up, of the prompt, that the code does not bind itself."""
    known = set(BUILTINS) - {"__name__", "input", "exit", "quit"}
    kept = []
    for statement in parse(prompt.whole).body:
        source = ast.unparse(statement)
        names: Names = names_of(source)
        is_definition = isinstance(statement, Function | ast.ClassDef | ast.Import | ast.ImportFrom)
        is_changed = isinstance(statement, ast.AugAssign)
        unknown = (names.used if is_changed else names.used - names.bound) - known
        can_run = is_definition or not unknown
        is_anew = isinstance(statement, Function | ast.ClassDef) and statement.name in bound
        is_example = not is_definition and prompt.entry_point in names.used
        if can_run and not (is_anew or is_example or prompt.entry_point in names.bound):
            kept.append(source)
            known |= names.bound
    return kept


def _future_first(source: str) -> str:
    """The source with its imports from `__future__` before everything else."""
    if "__future__" not in source:
        return source
    try:
        statements = parse(source).body
    except UNREADABLE:
        return source
    lines = source.split("\n")
    first = []
    for statement in statements:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            place = slice(statement.lineno - 1, statement.end_lineno)
            first += lines[place]
            lines[place] = [""] * len(lines[place])
    return "\n".join([*first, *lines])
