"""Decontamination: planted copies are found, clean sets pass, and what is merely alike is shown instead of dropped."""

import json
import random
import re

import pandas as pd
import pytest

from wcse_lib.plan.copies import PAIRS, compare, words


def frame(questions, name="held_out"):
    return pd.DataFrame(
        {
            "problem_id": [f"{name}{i}" for i in range(len(questions))],
            "question": list(questions),
            "set": name,
        }
    )


TOM = (
    "Tom has 12 marbles and buys 7 more at the fair. He gives 4 of the blue ones to Ann and loses 2. "
    "How many marbles are left?"
)
PAIR_CASES = {  # question, held-out question, what is to happen
    "itself": (TOM, TOM, "a copy of"),
    "case, spacing, punctuation": (
        TOM.upper().replace(" ", "  ").replace(",", ""),
        TOM,
        "a copy of",
    ),
    "inside a longer text": (f"Read carefully. {TOM} Answer with one number.", TOM, "a copy of"),
    "the longer text is held out": (
        TOM,
        f"Read carefully. {TOM} Answer with one number.",
        "a copy of",
    ),
    "other numbers": (re.sub(r"\d+", "340", TOM), TOM, "but for its numbers a copy of"),
    "numbers in words": (re.sub(r"\d+", "twenty-three", TOM), TOM, "but for its numbers a copy of"),
    "one word changed": (TOM.replace("marbles are left", "balls remain"), TOM, "a copy of"),
    "another question": (
        "A train leaves at noon and travels at 60 miles an hour. When has it gone 150 miles?",
        TOM,
        "",
    ),
    "short": ("What is 15% of 80?", "What is 15% of 80?", "a copy of"),
    "short, typeset otherwise": (
        r"Compute $\dfrac{1}{2}+ x$.",
        r"compute \frac{1}{2} + x",
        "a copy of",
    ),
    "short, in a longer text": (
        "Please solve this exercise: what is 15% of 80? Say why.",
        "What is 15% of 80?",
        "a copy of",
    ),
    "short, other numbers": ("What is 20% of 90?", "What is 15% of 80?", "alike"),
    "short, another operation": ("Evaluate 3 + 4.", "Evaluate 3 - 4.", ""),
    "very short, in a longer text": (
        "Find x and then explain how the whole of it came about in the end.",
        "Find x.",
        "",
    ),
    "empty": ("?", "", ""),
}


@pytest.mark.parametrize("name", PAIR_CASES)
def test_pairs(name):
    question, held, expected = PAIR_CASES[name]
    copies, near = compare(frame([question], "t"), frame([held]), 13)
    assert [*copies["reason"], *near["reason"]] == [expected] * bool(expected)


def test_both_frames_say_who_is_like_whom():
    copies, near = compare(
        frame([TOM, "What is 1 + 2?", "Unlike all."], "t"), frame(["What is 5 + 9?", TOM]), 13
    )
    assert list(copies) == list(near) == PAIRS
    assert copies.iloc[0].tolist() == ["t0", TOM, "held_out", "held_out1", TOM, 1.0, "a copy of"]
    assert near[["problem_id", "held_out_id"]].values.tolist() == [["t1", "held_out0"]]


def test_the_ngram_is_the_studys():
    other = TOM.replace("at the fair", "from Bob").replace("Ann", "Eve")
    assert (
        compare(frame([other]), frame([TOM]), 13)[0].empty
        and len(compare(frame([other]), frame([TOM]), 4)[0]) == 1
    )


def test_nothing_compared_with_nothing():
    for a, b in (([], []), ([TOM], []), ([], [TOM])):
        copies, near = compare(frame(a), frame(b), 13)
        assert copies.empty and near.empty and list(near) == PAIRS


def test_words_fold_typesetting_away():
    assert words(r"If $\dfrac{1}{2}x^{2} − 3 = \left(4\right)$, HOW?") == words(
        r"if \frac 1 2 x^2 - 3 = (4) how"
    )
    assert words("Janet’s") == words("Janet's") and words("a 1,000-page book") == (
        "a",
        "1,000",
        "page",
        "book",
    )
    assert words("twenty one of 21 and 2.5", True) == ("0", "of", "0", "and", "0")


# --- planted in real data: who is found, and how much of what is clean is lost

RNG = random.Random(0)
EDITS = {
    "verbatim": lambda t: t,
    "reformatted": lambda t: re.sub(r"\s+", "  ", t.upper().replace("\\FRAC", "\\dfrac")),
    "embedded": lambda t: (
        f"Read the following task with care and think step by step. {t} Give only the number, without a unit."
    ),
    "renumbered": lambda t: re.sub(r"\d+", lambda m: str(RNG.randint(2, 10 ** (len(m[0]) + 1))), t),
}


def read(path, key):
    return [json.loads(line)[key] for line in open(path, encoding="utf-8")]


def recall(clean, held, planted):
    """Shares of planted problems that were dropped, and that were dropped or listed for review."""
    copies, near = compare(frame(clean + planted, "t"), frame(held), 13)
    ids = {f"t{i}" for i in range(len(clean), len(clean) + len(planted))}
    dropped = ids & set(copies["problem_id"])
    return len(dropped) / len(ids), len(dropped | ids & set(near["problem_id"])) / len(ids)


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_planted_copies_are_found(real_data, edit):
    gsm8k, math = (
        read(real_data / "gsm8k_test.jsonl", "question"),
        read(real_data / "math_test_half.jsonl", "problem"),
    )
    for held, short in ((gsm8k, False), (math, False), (math, True)):
        pool = [t for t in held if (len(words(t)) < 13) == short]
        planted = [EDITS[edit](t) for t in RNG.sample(pool, min(200, len(pool)))]
        dropped, seen = recall(gsm8k[:100] if held is math else math[:100], held, planted)
        assert seen > 0.9, (edit, short, seen)
        assert dropped > (0.9 if not (short and edit == "renumbered") else -1), (
            edit,
            short,
            dropped,
        )


def test_clean_sets_pass(real_data):
    """GSM8K's own splits: two training problems are siblings of a test problem, and two more are alike."""
    train, test = (
        read(real_data / "gsm8k_train.jsonl", "question"),
        read(real_data / "gsm8k_test.jsonl", "question"),
    )
    copies, near = compare(frame(train, "t"), frame(test), 13)
    assert len(copies) <= 4 and len(near) <= 8
    assert copies["question"].str.contains("At the same rate, how many additional hours").all()
    math = read(real_data / "math_test_half.jsonl", "problem")
    assert all(part.empty for part in compare(frame(test, "t"), frame(math), 13))


@pytest.mark.slow
def test_math_problems_of_one_form_are_few(real_data):
    """Halves of MATH's test set are not clean of each other: about 2 % stand in the other half with other numbers."""
    math = read(real_data / "math_test_half.jsonl", "problem")
    copies, _ = compare(frame(math[::2], "t"), frame(math[1::2]), 13)
    assert 0.005 < len(copies) / len(math[::2]) < 0.03
