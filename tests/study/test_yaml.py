"""A params file is read as it is written: merged keys, and no number, truth value or infinity that nobody wrote."""

import pytest

from wcse_lib.store import StudyError
from wcse_lib.study import check_study, load_study, read_yaml

STUDY = """
study: mine
dataset: {{name: nano, n_train: 4{dataset}}}
arms: {{se: {{model: nano-se}}, wc: {{model: nano-wc}}}}
budget: {{reference: se, match: count{budget}}}
{rest}
"""


def read(folder, text, encoding="utf-8"):
    (folder / "s.yaml").write_bytes(text.encode(encoding))
    return read_yaml(folder / "s.yaml")


MERGED = [
    ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", {"x": 1, "y": 3}),
    ("a: &a {x: 1}\nc: &c {x: 2, z: 4}\nb: {<<: [*a, *c], y: 3}", {"x": 1, "y": 3, "z": 4}),
    ("a: &a {x: 1, y: 2}\nc: &c {<<: *a, y: 5}\nb: {<<: *c}", {"x": 1, "y": 5}),
    ("a: &a {x: {deep: 1}}\nb:\n  y: 3\n  <<: *a\n", {"x": {"deep": 1}, "y": 3}),
]


@pytest.mark.parametrize("text,merged", MERGED)
def test_merge_keys_are_merged_and_own_keys_win(tmp_path, text, merged):
    assert read(tmp_path, text)["b"] == merged


KEPT = [
    ("n: 10", 10),
    ("n: -0.5", -0.5),
    ("n: 1.0e-4", 1e-4),
    ("n: 0", 0),
    ("n: 0.0", 0.0),
    ("n: 0x1F", 31),
    ('n: "12:30"', "12:30"),
    ("n: '010'", "010"),
    ("n: 'no'", "no"),
    ('n: ".inf"', ".inf"),
    ("n: null", None),
    ("n: true", True),
    ("n: 2026-11-28", "2026-11-28"),
    ("n: Norway", "Norway"),
    ("shuffle: yes", True),
    ("merged: off", False),
    ("stop: =", "="),
]


@pytest.mark.parametrize("text,value", KEPT)
def test_what_is_written_plainly_is_read_so(tmp_path, text, value):
    assert [*read(tmp_path, text).values()] == [value]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_none_of_the_text(tmp_path, encoding):
    assert read(tmp_path, "title: où?\n", encoding) == {"title": "où?"}


REFUSED = [
    ("seed: 12:30", r"line 1: seed = 12:30: .*base of 60; write the number itself"),
    ("a:\n  b: -1:00:05", r"line 2: a\.b = -1:00:05: .*base of 60"),
    ("a: 1:30.5", r"a = 1:30\.5: .*base of 60"),
    ("n_train: 010", r"n_train = 010: .*octal.*write the number without the zero"),
    ("levels: [007, 1]", r"levels\.0 = 007: .*octal"),
    ("n: 08", r"n = 08: .*octal number or a text"),
    (
        "temperature: .inf",
        r"temperature = \.inf: this is no finite number; write a number, or leave",
    ),
    ("x: {y: -.INF}", r"x\.y = -\.INF: this is no finite number"),
    ("p: .nan", r"p = \.nan: this is no finite number"),
    ("p: 1.0e+999", r"p = 1\.0e\+999: this is no finite number"),
    ("study: no", r'study = no: YAML takes this for true or false; .*or "no" in quotes for a text'),
    ("options: {lang: NO}", r"options\.lang = NO: YAML takes this"),
    ("levels: [on, off]", r"levels\.0 = on: .*\n.*levels\.1 = off"),
    ("arms:\n  yes: {model: x}", r"line 2: arms\.yes = yes: YAML takes this"),
    ("a: 1\nb: 2\na: 3", r"line 3: key 'a' stands twice; remove one"),
    ("a: {b: 1, c: {d: 1, d: 2}}", r"key 'a\.c\.d' stands twice"),
    ('a: {b: 1, "b": 2}', r"key 'a\.b' stands twice"),
    ("c: &c {x: 1}\na: {<<: *c, <<: *c}", r"key 'a\.<<' stands twice"),
    ("c: &c {x: 1}\na: {<<: *c, y: 1, y: 2}", r"key 'a\.y' stands twice"),
    ("a: {<<: 5}", r"no valid YAML"),
    ("a: 1\n---\na: 2", r"no valid YAML"),
    ("n: !!int '12:30'", r"n = 12:30: .*base of 60"),
    ("x: {1: a, 1.0: b}", r"key 'x\.1\.0' stands twice"),
    ("x: {false: a, False: b}", r"key 'x\.False' stands twice"),
    ("- a", r"a mapping of keys to values is needed, found list"),
    ("", r"a mapping of keys to values is needed, found NoneType"),
]


@pytest.mark.parametrize("text,message", REFUSED)
def test_what_yaml_reads_otherwise_is_refused_by_key(tmp_path, text, message):
    with pytest.raises(StudyError, match=rf"s\.yaml[,:].*{message}"):
        read(tmp_path, text)


def test_a_whole_study_with_anchors(tmp_path):
    text = STUDY.replace("se: {{model: nano-se}}", "se: &se {{model: nano-se, temperature: 0.5}}")
    text = text.replace("wc: {{model: nano-wc}}", "wc: {{<<: *se, model: nano-wc}}")
    (tmp_path / "s.yaml").write_text(text.format(dataset="", budget="", rest=""))
    assert load_study(tmp_path / "s.yaml").arms["wc"].temperature == 0.5


def test_no_infinity_comes_in_by_another_door():
    data = {"study": "s", "dataset": {"n_train": 1}, "arms": {"a": {"model": "nano-se"}}}
    data["budget"] = {"reference": "a", "match": "count"}
    data["sampling"] = {"temperature": float("nan")}
    with pytest.raises(StudyError, match=r"sampling\.temperature = nan: input should be"):
        check_study(data, "parameters")


def test_aliases_that_stand_for_very_much_are_refused_at_once(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 30):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(StudyError, match="bomb.yaml: its aliases .* more than 100,000 values"):
        read_yaml(path)


def test_deep_yaml_is_a_sentence(tmp_path):
    path = tmp_path / "deep.yaml"
    path.write_text("a: " + "[" * 20_000)
    with pytest.raises(StudyError, match="deep.yaml: no valid YAML"):
        read_yaml(path)


def test_a_key_in_a_file_is_refused_and_not_shown(tmp_path, monkeypatch):
    key = "planted-0123-4567"
    path = tmp_path / "machine.yaml"
    path.write_text(f"extra_body: {{api_key: {key}}}\n")
    monkeypatch.setenv("OTHER_API_KEY", key)
    monkeypatch.setenv("SHORT_KEY", "extra_body")
    with pytest.raises(StudyError) as refused:
        read_yaml(path)
    assert "machine.yaml: holds the value of the environment variable OTHER_API_KEY" in str(
        refused.value
    )
    assert key not in str(refused.value)
    monkeypatch.delenv("OTHER_API_KEY")
    assert read_yaml(path)
