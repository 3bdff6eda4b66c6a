"""Parameters: good files load, bad ones stop before any compute with file, key and what is allowed."""

import copy
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wcse_lib import study
from wcse_lib.plan import stage as planning
from wcse_lib.store import StudyError

GOOD = {
    "study": "mine",
    "dataset": {"name": "nano", "n_train": 8, "n_validation": 2, "n_held_out": 4},
    "arms": {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
    "budget": {"reference": "se", "samples": {"low": 1, "high": 4}},
    "students": {"small": {"model": "nano-student"}},
    "training": {"amount": {"low": 2, "high": 4}},
}


def changed(**edits) -> dict:
    """GOOD with dotted keys set (or removed by `None`)."""
    data = copy.deepcopy(GOOD)
    for key, value in edits.items():
        *path, last = key.split("__")
        place = data
        for part in path:
            place = place.setdefault(part, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return data


def test_good_study_loads(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    assert study.load_study(path).sampling.temperature == 0.7


@pytest.mark.parametrize("path", ["nano", "smoke", "gsm8k_openai"])
def test_shipped_studies_load(root, path):
    assert study.load_study(f"params/{path}.yaml").study == path


def test_compiling_needs_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert study.check_machine({"compile": False}).compile is False
    assert study.check_machine({"compile": "auto"}).compile == "auto"
    assert study.check_machine({}).compile is False
    with pytest.raises(StudyError, match="compile.*no-such-compiler"):
        study.check_machine({"compile": True})


def test_answers_that_nobody_keeps_are_not_paid():
    """A judge, or an arm in batches, reads one answer of each call."""
    with pytest.raises(StudyError, match="mine.yaml: .*extra_body.n: 4: .*leave it out"):
        study.check_machine({"extra_body": {"n": 4}}, "mine.yaml")
    assert study.check_machine({"extra_body": {"n": None}}).extra_body == {"n": None}


def test_shipped_machines_load(root):
    for path in (root / "params/machine").glob("*.yaml"):
        study.load_machine(path)


BAD = {
    "unknown key": (
        changed(samplng={"top_k": 3}),
        r"samplng: unknown key; did you mean 'sampling'",
    ),
    "unknown nested key": (
        changed(sampling__temprature=0.7),
        r"sampling\.temprature: unknown key; did you mean 'temperature'",
    ),
    "unknown key of an arm": (
        changed(arms__wc__modle="x"),
        r"arms\.wc\.modle: unknown key; did you mean 'model'",
    ),
    "unknown key of columns": (
        changed(dataset__columns={"anser": "a"}),
        r"dataset\.columns\.anser: unknown key; did you mean 'answer'",
    ),
    "missing study": (changed(study=None), r"study: this key is missing"),
    "missing arms": (changed(arms=None), r"arms: this key is missing"),
    "missing model": (
        changed(arms__wc={}),
        r"arms\.wc: exactly one of model, mix, adaptive and on_policy",
    ),
    "text for a number": (changed(seed="eight"), r"seed = 'eight'"),
    "number as text": (
        changed(training__learning_rate="1e-4"),
        r"learning_rate = '1e-4'.*YAML reads this as text",
    ),
    "float for a count": (changed(sampling__max_tokens=1.5), r"max_tokens = 1\.5"),
    "boolean for a number": (changed(sampling__temperature=True), r"temperature = True"),
    "negative top_k": (changed(sampling__top_k=-1), r"top_k = -1: .*greater than or equal to 0"),
    "top_p above one": (changed(sampling__top_p=1.2), r"top_p = 1\.2"),
    "zero samples": (changed(budget__samples={"low": 0}), r"budget\.samples\.low = 0"),
    "no budgets": (changed(budget__samples={}), r"budget\.samples"),
    "negative price": (
        changed(arms__wc__usd_per_million_tokens=-1.0),
        r"usd_per_million_tokens = -1\.0",
    ),
    "unknown matching": (changed(budget__match="vibes"), r"budget\.match = 'vibes'.*'flops'"),
    "reference is no arm": (
        changed(budget__reference="xl"),
        r"budget\.reference: 'xl' is no arm; arms are se, wc",
    ),
    "arm that no student names": (
        changed(students__small__arms=["se"]),
        r"arms\.wc: no student names this arm",
    ),
    "student names no arm": (
        changed(students__small__arms=["se", "wc", "xl"]),
        r"students\.small\.arms: 'xl' is no arm",
    ),
    "k above n": (
        changed(evaluation={"n_samples": 4, "maj_k": [8]}),
        r"maj_k: k may not exceed n_samples = 4",
    ),
    "students without held-out problems": (
        changed(dataset__n_held_out=None),
        r"dataset\.n_held_out",
    ),
    "no amount for a budget": (
        changed(training__amount={"low": 2}),
        r"training\.amount: no entry for budget 'high'",
    ),
    "greedy arm with several samples": (
        changed(sampling__temperature=0.0),
        r"arms\.se: temperature 0 draws the same sample",
    ),
    "bad study name": (changed(study="../evil"), r"study = '\.\./evil'"),
    "bad arm name": (changed(arms={"a/b": {"model": "nano-se"}}), r"arms\.a/b"),
    "nano with a path": (changed(dataset__train="x.jsonl"), r"only for name: files"),
    "files without a path": (changed(dataset={"name": "files"}), r"train: needed for name: files"),
    "import without a path": (
        changed(arms__wc={"model": "m", "engine": "import"}),
        r"arms\.wc\.path: this key is missing",
    ),
    "template without a question": (
        changed(prompt={"template": "hello"}),
        r"must contain \{question\}",
    ),
    "level out of range": (
        changed(dataset__levels=[9]),
        r"levels = \[9\]: name: nano has levels 1 to 4",
    ),
    "list for a mapping": (changed(arms=["se"]), r"arms = \['se'\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_study_is_refused(tmp_path, name):
    data, message = BAD[name]
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(StudyError) as caught:
        study.load_study(path)
    assert "bad.yaml" in str(caught.value)
    assert re.search(message, str(caught.value)), caught.value


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "a mapping"),
        ("- a\n- b", "a mapping"),
        ("a: [1", "no valid YAML"),
        ("study: a\nstudy: b", "stands twice"),
        ("\0", "no valid YAML"),
        ("a: !!python/object:os.system x", "no valid YAML"),
        ("? [1]\n: 2", "no valid YAML"),
    ],
)
def test_bad_yaml_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=message):
        study.load_study(path)


def test_several_faults_are_told_at_once(tmp_path):
    with pytest.raises(StudyError) as caught:
        study.check_study(changed(seed="x", sampling__top_k=-1), "f.yaml")
    assert str(caught.value).count("f.yaml: ") == 2


@pytest.mark.parametrize(
    "edit",
    [
        {"arms__wc__model": "./not-there"},
        {"arms__wc__model": "models/of mine/not-there"},
        {"arms__wc__model": "nano-xl"},
        {"students__small__model": "nano-none"},
    ],
)
def test_missing_models_stop_the_plan(tmp_path, edit):
    with pytest.raises(StudyError, match="no such folder and no bundled model"):
        planning.make_plan(study.check_study(changed(**edit), "f"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_notebook_parameters():
    """Plain variables are the study's keys: overrides, or the whole study; misspelt ones are refused."""
    override = planning.study_from(
        {"params": "x", "seed": 5, "pd": re, "_hidden": 3}, "params/smoke.yaml"
    )
    assert (override.study, override.seed) == ("smoke", 5)
    assert planning.study_from({"params": "x", **GOOD}, "nowhere.yaml").study == "mine"
    with pytest.raises(StudyError, match="sede: unknown key; did you mean 'seed'"):
        planning.study_from({"sede": 5}, "params/smoke.yaml")


def test_sample_seeds_are_stable_and_distinct():
    assert study.sample_seed(0, "m", "p", 0) == study.sample_seed(0, "m", "p", 0) < 2**63
    seeds = {
        study.sample_seed(s, m, p, i)
        for s in range(3)
        for m in "ab"
        for p in ("p", "p1")
        for i in range(20)
    }
    assert len(seeds) == 3 * 2 * 2 * 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_value_at_any_place_is_taken_or_refused_by_name(data):
    """Whatever stands where: a study, or a StudyError that names the file; nothing else, and no hang."""
    root = changed()
    inner, path = root, []
    while isinstance(inner, dict) and inner and (not path or data.draw(st.booleans())):
        key = data.draw(st.sampled_from(sorted(inner)))
        path.append(key)
        parent, inner = inner, inner[key]
    parent[path[-1]] = data.draw(JSON)
    try:
        study.check_study(root, "fuzz.yaml")
    except StudyError as error:
        assert "fuzz.yaml" in str(error)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_params_file_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for load in (study.load_study, study.load_machine):
        try:
            load(path)
        except StudyError as error:
            assert "fuzz.yaml" in str(error)


def test_the_page_of_keys_is_what_the_fields_say():
    from tools import params_docs

    assert params_docs.PAGE.read_text() == params_docs.page(), "run python tools/params_docs.py"


def test_every_section_of_a_params_file_has_its_table():
    from tools import params_docs

    shown = tuple(params_docs.SECTIONS.values())
    for name, kind in vars(study).items():
        if isinstance(kind, type) and issubclass(kind, study.Strict):
            assert any(issubclass(section, kind) for section in shown), name


def test_budgets_stand_from_the_smallest_to_the_largest():
    data = changed(
        budget__samples={"low": 8, "tiny": 1, "high": 3},
        training__amount={"low": 9, "tiny": 9, "high": 9},
    )
    assert list(study.check_study(data, "f").budget.samples) == ["tiny", "high", "low"]
