"""One name for an id or level in every file, and the words of a field; what is neither is refused by name."""

from datetime import date
from decimal import Decimal

import pytest

from wcse_lib.store import NotText, StudyError, TableRow, name_of, words_of
from wcse_lib.store.values import USER, read_spelt

NAMES = [
    (7, "7"),
    (7.0, "7"),
    ("7.0", "7"),
    ("7.", "7"),
    ("7e0", "7"),
    ("7.00E+00", "7"),
    (Decimal("7.00"), "7"),
    (-3.0, "-3"),
    (2.5, "2.5"),
    (9007199254740993, "9007199254740993"),
    ("9223372036854775807.0", "9223372036854775807"),
    ("007", "007"),
    ("1.10.0", "1.10.0"),
    (" train/12 ", "train/12"),
    ("\u00e9-1", "\u00e9-1"),
    ("e\u0301-1", "\u00e9-1"),
    ("\uac00", "\uac00"),
    ("\u1100\u1161", "\uac00"),
    ("Level 5", "Level 5"),
    ("1e999", "1e999"),
    ("1e2", "1e2"),
    ("1e+02", "100"),
    (0.10000000149011612, "0.1"),
    (0.1, "0.1"),
    (True, "true"),
    ("True", "true"),
    ("N/A", ""),
    (date(2026, 11, 28), "2026-11-28"),
    (None, ""),
    (float("nan"), ""),
    (float("inf"), ""),
    ("NaN", ""),
    ("<NA>", ""),
    ("  ", ""),
]


@pytest.mark.parametrize("value,name", NAMES, ids=lambda value: repr(value))
def test_an_id_or_level_has_one_name_in_every_file(value, name):
    assert name_of(value, "id") == name


WORDS = [
    ("2 + 2?", "2 + 2?"),
    (54.0, "54"),
    (0.1, "0.1"),
    (Decimal("54.00"), "54"),
    (Decimal("0.10"), "0.1"),
    (date(2024, 3, 5), "2024-03-05"),
    (None, ""),
    (float("nan"), ""),
    (["a", None, 2.0], "a\n\n2"),
    ([{"role": "user", "content": "2 + 2?"}], "2 + 2?"),
    ([{"role": "USER", "content": "2 + 2?", "name": None}], "2 + 2?"),
    ({"role": "user", "content": "2 + 2?"}, "2 + 2?"),
    ({"role": ["user"], "content": ["2 + 2?"]}, "2 + 2?"),
    ([{"from": "human", "value": "2 + 2?"}], "2 + 2?"),
    ([{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}], "2 + 2?"),
    ([{"type": "text", "text": "2 +", "image": None}, {"type": "text", "text": "2?"}], "2 +\n2?"),
    ('[{"role": "user", "content": "2 + 2?"}]', "2 + 2?"),
    ("[{'role': 'user', 'content': '2 + 2?'}]", "2 + 2?"),
    ("{'content': '2 + 2?', 'role': 'user'}", "2 + 2?"),
    ("array([{'content': \"2 + 2?\", 'role': 'user'}], dtype=object)", "2 + 2?"),
    ("[2 3]", "[2 3]"),
    ("[3, 4] is an interval", "[3, 4] is an interval"),
    ('[{"a": 1}]', '[{"a": 1}]'),
]


@pytest.mark.parametrize("value,words", WORDS, ids=lambda value: repr(value)[:40])
def test_the_words_of_a_field(value, words):
    assert words_of(value, "prompt", USER) == words


def is_list(value):
    return isinstance(value, list)


SPELT = [
    ('["2", "3"]', ["2", "3"]),
    ("['2' '3']", ["2", "3"]),
    ("['it\\'s, so' \"a ' b\"\n '3']", ["it's, so", "a ' b", "3"]),
    ("array(['2', None], dtype=object)", ["2", None]),
    ("array(['2', '3'], dtype='<U1')", ["2", "3"]),
    ("[ 2 10]", [2, 10]),
    ("array([2., 3.5])", [2.0, 3.5]),
    ("['2' 'torn]", None),
    ("[2, 3]", None),
    ("[2, 3)", None),
]


@pytest.mark.parametrize("text,value", SPELT)
def test_lists_are_read_as_json_python_and_numpy_spell_them(text, value):
    assert read_spelt(text, is_list) == value


SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "2 + 2?"}
SAID = {"role": "assistant", "content": "4"}
REFUSED = [
    ({"text": "2 + 2?", "lang": "en"}, r"an object with the keys text, lang; .* as prompt\.text"),
    ([{"q": "2 + 2?"}], r"a list of 1, whose first item holds an object .* as prompt\.0\.q"),
    ([["a"], ["b"]], r"a list of 2, whose first item holds a list of 1"),
    ([SYSTEM, ASKED], r"2 turns \(system, user\).* as prompt\.1\.content, .*prompt\.system"),
    ([ASKED, SAID, ASKED], r"3 turns \(user, assistant, user\).* as prompt\.2\.content"),
    (
        "[{'role': 'user', 'content': '2?'}\n {'role': 'assistant', 'content': '2'}]",
        r"2 turns \(user, assistant\)",
    ),
    ([SAID], r"1 turns \(assistant\), and one turn of user is needed; write the text"),
    (
        [{"from": "human", "value": "2?"}, {"from": "gpt", "value": "2"}],
        r"2 turns \(human, gpt\).* as prompt\.0\.value",
    ),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        r"0\.content' holds a list of 1, whose first item holds an object",
    ),
    (b"\xff\xfe\x00", r"holds bytes that are no UTF-8"),
    (complex(1), r"holds a complex"),
]


@pytest.mark.parametrize("value,message", REFUSED, ids=lambda value: repr(value)[:40])
def test_what_is_no_single_text_is_refused_by_name(value, message):
    with pytest.raises(StudyError, match=f"column 'prompt.*{message}"):
        words_of(value, "prompt", USER)


@pytest.mark.parametrize(
    "value,message",
    [
        ({"a": 1}, r"an object with the keys a; an id or level is a text or a number"),
        ([1], r"a list of 1"),
        (2.0**53, r"has lost digits; write the column as whole numbers or as text"),
    ],
)
def test_what_is_no_id_is_refused_by_name(value, message):
    with pytest.raises(StudyError, match=f"column 'id'.*{message}"):
        name_of(value, "id")


def test_a_refusal_names_file_and_row():
    with pytest.raises(StudyError, match=r"^f\.jsonl, line 3: column 'a' holds an object"):
        TableRow({"a": {"b": 1}}, "f.jsonl", 3).words("a")


def test_bytes_that_are_no_text_leave_one_row_out():
    with pytest.raises(NotText):
        TableRow({"a": b"\xff"}, "f.parquet", 3).words("a")
