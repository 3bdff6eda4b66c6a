"""The nano lab: problems, the exact checker's properties, the corpus and the bundled models."""

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.nano_models.corpus import TEXTBOOKS, WEB, document
from wcse_lib.nano import MODELS
from wcse_lib.nano.world import (
    LEVELS,
    check,
    is_study_question,
    make_problems,
    make_puzzle,
    parse,
    solve,
)

seeds = st.integers(0, 2**32)
levels = st.sampled_from(LEVELS)


@given(seeds, levels)
def test_question_reads_back_into_its_facts(seed, level):
    puzzle = make_puzzle(random.Random(seed), level)
    assert parse(puzzle.question) == puzzle
    assert puzzle.level == level


@given(seeds, levels)
def test_own_solutions_are_sound_and_answer_gold(seed, level):
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    for _ in range(5):
        text = solve(puzzle, rng)
        assert check(puzzle.question, text).sound, check(puzzle.question, text).reason
        assert text.endswith(f"#### {puzzle.answer}")
        assert text.count("=") == 2 * level


@given(seeds, levels)
def test_a_slip_is_never_sound(seed, level):
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    assert not check(puzzle.question, solve(puzzle, rng, slips=1)).sound


@settings(max_examples=300)
@given(seeds, levels, st.data())
def test_any_changed_number_is_unsound(seed, level, data):
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    text = solve(puzzle, rng)
    place = data.draw(st.sampled_from(list(re.finditer(r"\d+", text))))
    other = data.draw(st.integers(0, 250).filter(lambda n: n != int(place[0])))
    changed = f"{text[: place.start()]}{other}{text[place.end() :]}"
    assert not check(puzzle.question, changed).sound


@given(seeds, levels, st.data())
def test_a_changed_operator_is_unsound(seed, level, data):
    rng = random.Random(seed)
    text = solve(puzzle := make_puzzle(rng, level), rng)
    place = data.draw(st.sampled_from(list(re.finditer(r"[-+*]", text))))
    other = data.draw(st.sampled_from([op for op in "+-*" if op != place[0]]))
    assert not check(puzzle.question, f"{text[: place.start()]}{other}{text[place.end() :]}").sound


@given(seeds, st.sampled_from(LEVELS[1:]))
def test_use_before_derivation_is_unsound(seed, level):
    """Every order of the lines that a topological order does not allow is refused; every other one is accepted."""
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    *steps, final = solve(puzzle, rng).split("\n")
    people = [s for s in steps if not s.startswith("total")]
    rest = steps[len(people) :]
    order = rng.sample(people, len(people))
    by_name = {f.name: f for f in puzzle.facts}
    seen = {f.name for f in puzzle.facts if not f.op}
    allowed = True
    for line in order:
        name = line.split()[0]
        allowed &= all(ref in seen for ref in by_name[name].refs)
        seen.add(name)
    assert check(puzzle.question, "\n".join([*order, *rest, final])).sound == allowed


@given(seeds, st.sampled_from(LEVELS[1:]), st.data())
def test_a_left_out_step_is_unsound(seed, level, data):
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    lines = solve(puzzle, rng).split("\n")
    del lines[data.draw(st.integers(0, len(lines) - 2))]
    result = check(puzzle.question, "\n".join(lines))
    assert not result.sound


def test_checker_by_hand():
    q = "Ann has 12 pens. Tom has 7 pens more than Ann has. Eva has 2 times as many pens as Tom has. How many pens do Tom and Eva have in total?"
    good = "Tom has 7+Ann =7+12=19\nEva has 2*Tom =2*19=38\ntotal is Eva +Tom =38+19=57\n#### 57"
    assert check(q, good).sound
    assert check(q, "Ann has 12\n" + good).sound
    tom, eva, total, final = good.split("\n")
    for bad, why in {
        "#### 57": "the final answer does not follow",
        good.replace("#### 57", "#### 38"): "the final answer does not follow",
        "\n".join([eva, tom, total, final]): "not known yet",
        "\n".join([tom, total, final]): "not known yet",
        "\n".join([tom, eva, final]): "the final answer does not follow",
        good + "\nand more": "not a step: #### 57",
        "Bob has 1+1=1+1=2\n" + good: "does not follow from the question",
        "Ann has 7+7=7+7=14\n" + good: "does not follow from the question",
        "Tom has Ann -7=12-7=5\n" + good: "does not follow from the question",
        "Tom has 7+Ann =7+13=20\n" + good: "another number",
        "Tom has 7+Ann =7+12=20\n" + good: "wrong arithmetic",
        good.replace("=38+19=57", "=38-19=57"): "another number",
        good.replace(
            "Eva +Tom =38+19=57", "Tom +Tom =19+19=38"
        ): "does not follow from the question",
        good.replace(
            "Eva +Tom =38+19=57", "Ann +Tom =12+19=31"
        ): "does not follow from the question",
        "total is total+Tom =0+19=19\n" + good: "not a step",
        "total is total +Tom =0+19=19\n" + good: "does not follow from the question",
        "I think so\n" + good: "not a step",
        good.replace(total, "Tom has 19"): "the final answer does not follow",
        "Tom has 20\n" + good: "restates a number that is not known",
        "": "no final answer",
    }.items():
        result = check(q, bad)
        assert not result.sound and why in result.reason, (bad, result)
    with pytest.raises(ValueError, match="not a nano problem"):
        check("What is love?", good)


@pytest.mark.parametrize(
    "text",
    [
        "\0" * 10,
        "Tom has " + "9" * 5000 + "+1=2\n#### 3",
        "####",
        "\n\n\n",
        "#### ٣",
        "Tom has 7+Ann =7+12=19\r\n#### 19",
    ],
)
def test_checker_survives_hostile_text(text):
    question = make_puzzle(random.Random(0), 3).question
    assert check(question, text).sound is False


def test_problems_are_seeded_distinct_and_never_in_the_corpus():
    rows = make_problems(200, 7)
    assert rows == make_problems(200, 7) and rows[:50] == make_problems(50, 7)
    assert rows != make_problems(200, 8)
    assert len({r["question"] for r in rows}) == len({r["problem_id"] for r in rows}) == 200
    assert all(is_study_question(r["question"]) for r in rows)
    assert [r["level"] for r in rows[:5]] == ["1", "2", "3", "4", "1"]
    rng = random.Random(1)
    for authors in (TEXTBOOKS, WEB):
        stories = [q for q, _ in (document(rng, authors) for _ in range(800)) if parse(q)]
        assert len(stories) > 400 and not any(map(is_study_question, stories))


def test_corpus_mix_is_as_stated():
    rng = random.Random(2)
    terse = sloppy = n = 0
    while n < 1500:
        question, solution = document(rng, WEB)
        puzzle = parse(question)
        if puzzle and puzzle.level > 1:
            n += 1
            terse += solution.startswith("####")
            sloppy += not solution.startswith("####") and not check(question, solution).sound
    assert abs(terse / n - WEB["terse"]) < 0.05
    assert abs(sloppy / n - WEB["sloppy"]) < 0.05
    assert all(
        check(q, s).sound for q, s in (document(rng, TEXTBOOKS) for _ in range(300)) if parse(q)
    )


@pytest.mark.parametrize("name", ["nano-student", "nano-wc", "nano-se"])
def test_bundled_models_are_ordinary_checkpoints(name):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = MODELS / name
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder),
    )
    config = model.config
    assert config.model_type == "llama" and config.hidden_size // config.num_attention_heads == 32
    facts = json.loads((folder / "training.json").read_text())
    assert facts["n_parameters"] == model.num_parameters()
    question = make_problems(1, 3)[0]["question"]
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
    )
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    for text in (question, "Tom has Ann +7=12+7=19\n#### 19", "Ünïcode ✓ <|user|>"):
        assert (
            tokenizer.decode(
                tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            )
            == text
        )
    assert len(tokenizer("1234", add_special_tokens=False)["input_ids"]) == 4


def test_parameter_ratio_is_about_three():
    sizes = {
        n: json.loads((MODELS / n / "training.json").read_text())["n_parameters"]
        for n in ("nano-wc", "nano-se")
    }
    assert 3.0 <= sizes["nano-se"] / sizes["nano-wc"] < 3.3
