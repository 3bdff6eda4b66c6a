"""Tool calls, or any JSON, by schema and by expected values.

Columns of the row: `tools`, a list of {name, parameters} or of {type: function, function}, and `answer`, the expected
calls in any order ([]: none); or else `schema`, a JSON Schema, and `answer` where one value is expected. Of an answer
count its <tool_call>s, else its last block of code, else all from its first bracket on. Defaults may be left out, and a
schema with words that are not known here makes its row unverifiable.
"""

import json
import re
from datetime import date
from fractions import Fraction
from functools import reduce
from itertools import chain
from operator import ge, getitem, gt, le, lt

NAMES = {bool: ["boolean"], int: ["integer", "number"], float: ["number"], str: ["string"]}
NAMES |= {dict: ["object"], list: ["array"], type(None): ["null"]}


def verify(answer, row):
    wanted = row.get("answer", "")
    try:
        values = values_in(answer)
        if "tools" in row:
            return are_expected(calls_of(values), calls_of([read(wanted)]), read(row["tools"]))
        (value,), schema = values, read(row["schema"])
        is_wanted = wanted == "" or plain(value) == plain(read(wanted))
        return is_valid(value, schema, schema) and is_wanted, "by its schema, and what is expected"
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return False, f"no readable JSON: {error!r}"
    except NotImplementedError as error:
        return None, f"the schema says what is not known here: {error}"


def values_in(text):
    """The JSON values of an answer; none in prose. Raises ValueError where one is torn."""
    tagged = re.findall(r"(?s)<tool_call>(.*?)</tool_call>", text)
    if not text.strip() or text.count("<tool_call>") != len(tagged):
        raise ValueError("empty, or a tag is open")
    if parts := tagged or re.findall(r"(?s)```[^\n]*\n(.*?)```", text)[-1:]:
        return list(map(read, parts))
    try:
        return [read(text)]
    except ValueError:
        bracket = re.search(r"[{\[]", text)
        return [read(text[bracket.start() :])] if bracket else []


def read(value):
    """A value, or the JSON of a text, in which no key may stand twice and nothing be NaN; 3.0 is read as 3."""

    def once(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def number(digits):
        return int(float(digits)) if float(digits).is_integer() else float(digits)

    text = value if isinstance(value, str) else plain(value)
    return json.loads(text, object_pairs_hook=once, parse_constant=int, parse_float=number)


def plain(value):
    return json.dumps(value, sort_keys=True)


def calls_of(values):
    """The calls among values and lists of them, as (name, arguments)."""
    flat = chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
    calls = [call.get("function", call) for call in flat]
    return [(call["name"], read(call.get("arguments", {}))) for call in calls]


def are_expected(calls, expected, tools):
    named = [tool.get("function", tool) for tool in tools]
    schemas = {tool["name"]: tool.get("parameters") or {} for tool in named}
    for name, arguments in calls:
        schema = {"type": "object"} | schemas.get(name, {"not": True})
        if not is_valid(arguments, schema, schema):
            return False, "no such tool, or arguments that do not fit its schema"
    return completed(calls, schemas) == completed(expected, schemas), "by the expected calls"


def completed(calls, schemas):
    """Calls as texts in one order, with the defaults of their tools' schemas."""
    texts = []
    for name, arguments in calls:
        properties = schemas.get(name, {}).get("properties", {})
        given = {key: part["default"] for key, part in properties.items() if "default" in part}
        texts.append(plain([name, given | arguments]))
    return sorted(texts)


def is_valid(value, schema, whole):
    """Whether a value fits a schema, or true or false, that is a part of the `whole`."""
    if isinstance(schema, bool):
        return schema
    if unknown := {*schema, schema.get("format", "date")} - KNOWN:
        raise NotImplementedError(min(unknown))

    def fits(part, inner=value):
        return is_valid(inner, part, whole)

    parts = [(part, value) for part in schema.get("allOf", [])]
    if "$ref" in schema:
        parts.append((reduce(getitem, schema["$ref"].split("/")[1:], whole), value))
    if isinstance(value, dict):
        named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        parts += [(named.get(name, others), inner) for name, inner in value.items()]
    if isinstance(value, list):
        rest = [schema.get("items", True)] * len(value)
        parts += zip(schema.get("prefixItems", []) + rest, value)
    rules = [(RULES[word], said) for word, said in schema.items() if word in RULES]
    return (
        all(rule(value, said) for (kinds, rule), said in rules if type(value) in kinds)
        and all(fits(*part) for part in parts)
        and any(map(fits, schema.get("anyOf", [True])))
        and sum(map(fits, schema.get("oneOf", [True]))) == 1
        and not fits(schema.get("not", False))
    )


FORMATS = {"date": lambda text: str(date.fromisoformat(text)) == text}
FORMATS["email"] = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+").fullmatch
LIMITS = {"minimum": ge, "maximum": le, "exclusiveMinimum": gt, "exclusiveMaximum": lt}
ANY, NUMBER, TEXT, LIST = tuple(NAMES), (int, float), (str,), (list,)
RULES = {
    "type": (ANY, lambda value, said: any(name in said for name in NAMES[type(value)])),
    "enum": (ANY, lambda value, said: plain(value) in map(plain, said)),
    "const": (ANY, lambda value, said: plain(value) == plain(said)),
    **{word: (NUMBER, rule) for word, rule in LIMITS.items()},
    "multipleOf": (NUMBER, lambda value, said: Fraction(str(value)) % Fraction(str(said)) == 0),
    "minLength": (TEXT, lambda value, said: len(value) >= said),
    "maxLength": (TEXT, lambda value, said: len(value) <= said),
    "pattern": (TEXT, lambda value, said: re.search(said, value, re.A) and value[-1:] != "\n"),
    "format": (TEXT, lambda value, said: FORMATS[said](value)),
    "required": ((dict,), lambda value, said: value.keys() >= set(said)),
    "minItems": (LIST, lambda value, said: len(value) >= said),
    "maxItems": (LIST, lambda value, said: len(value) <= said),
    "uniqueItems": (
        LIST,
        lambda value, said: not (said and len({*map(plain, value)}) < len(value)),
    ),
}
KNOWN = {*RULES, *FORMATS}
KNOWN |= {*"properties additionalProperties items prefixItems $ref allOf anyOf oneOf not".split()}
KNOWN |= {*"$schema $id $defs $comment definitions title description default examples".split()}
