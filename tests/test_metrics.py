"""Metrics against brute force over all subsets, their limits, and everything that must raise instead of guess."""

import json
from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wcse_lib import metrics

quick = settings(max_examples=40, deadline=None)
ANSWERS = ["1/2", "0.5", "3", "3.0", "x+1", " X + 1", None]
TRUE = {"1/2", "0.5"}


@st.composite
def samples(draw, max_problems=3):
    """Problems with up to 8 samples each: (answer, correct, kind) per sample; the checker may miss a correct answer."""
    sample = st.tuples(st.sampled_from(ANSWERS), st.booleans(), st.sampled_from("abc"))
    problems = draw(
        st.lists(st.lists(sample, min_size=1, max_size=8), min_size=1, max_size=max_problems)
    )
    problems = [[(a, a in TRUE and seen, kind) for a, seen, kind in p] for p in problems]
    return problems, draw(st.integers(1, min(map(len, problems))))


def columns(problems):
    return ([[s[i] for s in p] for p in problems] for i in range(3))


def over_subsets(problem, k, value):
    return np.mean([value(subset) for subset in combinations(problem, k)])


# ------------------------------------------------------------------------------------------------ brute force


@quick
@given(samples())
def test_coverage_equals_all_subsets(drawn):
    problems, k = drawn
    n, c = [len(p) for p in problems], [sum(s[1] for s in p) for p in problems]
    expected = [over_subsets(p, k, lambda subset: any(s[1] for s in subset)) for p in problems]
    assert metrics.coverage_per_problem(n, c, k) == pytest.approx(expected, abs=1e-12)
    assert metrics.coverage_at_k(n, c, k) == pytest.approx(np.mean(expected), abs=1e-12)
    curve = [metrics.coverage_at_k(n, c, i) for i in range(1, min(n) + 1)]
    assert curve[0] == pytest.approx(np.mean(np.array(c) / n))
    assert (np.diff(curve) > -1e-12).all()


def vote(problem, subset):
    """(accuracy, tied, silent) of one subset, by the definition."""
    form = {a: None if a is None else metrics.canonical_answer(a) for a in ANSWERS}
    right = {form[a] for a, ok, _ in problem if ok}
    votes = Counter("right" if form[a] in right else form[a] for a, *_ in subset if a is not None)
    winners = [v for v in votes if votes[v] == max(votes.values())]
    return ("right" in winners) / max(1, len(winners)), len(winners) > 1, not votes


@quick
@given(samples())
def test_majority_equals_all_subsets(drawn):
    problems, k = drawn
    answers, correct, _ = columns(problems)
    details = metrics.majority_details(answers, correct, k)
    for column, found in enumerate(["accuracy", "tie_rate", "no_answer_rate"]):
        expected = [
            over_subsets(p, k, lambda subset, p=p, i=column: vote(p, subset)[i]) for p in problems
        ]
        assert details[found].to_numpy() == pytest.approx(expected, abs=1e-12)
    assert metrics.majority_at_k(answers, correct, k) == pytest.approx(details["accuracy"].mean())


def diversity(kinds, correct, k):
    """diversity@k of each problem, from a kind and a verdict per sample."""
    place, sizes = [], []
    for i, (names, verdicts) in enumerate(zip(kinds, correct)):
        found = Counter(name for name, right in zip(names, verdicts) if right)
        place += [i] * len(found)
        sizes += found.values()
    return metrics.diversity_per_problem([len(names) for names in kinds], place, sizes, k)


@quick
@given(samples())
def test_diversity_equals_all_subsets(drawn):
    problems, k = drawn
    _, correct, kinds = columns(problems)
    unique = [
        over_subsets(p, k, lambda subset: len({s[2] for s in subset if s[1]})) for p in problems
    ]
    assert diversity(kinds, correct, k) == pytest.approx(unique, abs=1e-12)


@quick
@given(samples(), st.randoms())
def test_order_of_samples_and_problems_never_matters(drawn, random):
    problems, k = drawn
    shuffled = [random.sample(p, len(p)) for p in random.sample(problems, len(problems))]
    for metric in (
        lambda a, c, d: metrics.majority_at_k(a, c, k),
        lambda a, c, d: metrics.majority_details(a, c, k)["tie_rate"].mean(),
        lambda a, c, d: diversity(d, c, k).mean(),
        lambda a, c, d: np.nanmean([0, *metrics.self_agreement(a)]),
    ):
        assert metric(*columns(problems)) == pytest.approx(metric(*columns(shuffled)), abs=1e-12)


@quick
@given(samples())
def test_self_agreement_by_counting(drawn):
    problems, _ = drawn
    answers, *_ = columns(problems)
    for sample, agreement in zip(answers, metrics.self_agreement(answers)):
        forms = [object() if a is None else metrics.canonical_answer(a) for a in sample]
        pairs = [a == b for a, b in combinations(forms, 2)]
        assert agreement == pytest.approx(np.mean(pairs) if pairs else np.nan, nan_ok=True)


def test_majority_by_simulation_at_sizes_that_cannot_be_enumerated():
    r = np.random.default_rng(0)
    labels, k = (
        np.repeat(np.arange(6), [12, 11, 9, 4, 2, 2]),
        16,
    )  # class 0 is correct, class 5 is no answer
    answers, correct = [None if x == 5 else f"{x}" for x in labels], list(labels == 0)
    drawn = r.multivariate_hypergeometric(np.bincount(labels), k, 200_000)[:, :5]
    top = drawn == drawn.max(1, keepdims=True)
    details = metrics.majority_details([answers], [correct], k).iloc[0]
    assert details["accuracy"] == pytest.approx((top[:, 0] / top.sum(1)).mean(), abs=0.004)
    assert details["tie_rate"] == pytest.approx((top.sum(1) > 1).mean(), abs=0.004)


# ----------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("n", "c", "k"), [(1, 0, 1), (9, 9, 1), (9, 9, 9), (9, 0, 9), (9, 1, 9), (10**6, 1, 3)]
)
def test_coverage_at_its_limits(n, c, k):
    exact = 1 - Fraction(comb(n - c, k), comb(n, k))
    assert metrics.coverage_at_k([n], [c], k) == pytest.approx(float(exact), rel=1e-12)


def test_coverage_stays_exact_where_binomials_overflow_or_cancel():
    exact = 1 - Fraction(comb(9997, 5000), comb(10_000, 5000))
    assert metrics.coverage_at_k([10_000], [3], 5000) == pytest.approx(float(exact), rel=1e-11)
    assert metrics.coverage_at_k([10**8], [1], 1) == pytest.approx(1e-8, rel=1e-14)


def test_coverage_is_unbiased_and_the_plug_in_is_not():
    p, m, k = 0.3, 5, 3
    weights = np.array([comb(m, c) * p**c * (1 - p) ** (m - c) for c in range(m + 1)])
    expected = weights @ metrics.coverage_per_problem(np.full(m + 1, m), np.arange(m + 1), k)
    assert expected == pytest.approx(1 - (1 - p) ** k, abs=1e-12)
    assert abs(weights @ (1 - (1 - np.arange(m + 1) / m) ** k) - (1 - (1 - p) ** k)) > 0.02


def test_majority_limits():
    yes, no = [True], [False]
    assert (
        metrics.majority_at_k([["1"]], [yes], 1) == 1
        and metrics.majority_at_k([["1"]], [no], 1) == 0
    )
    assert metrics.majority_at_k([[None, None, None]], [no * 3], 2) == 0
    assert metrics.majority_at_k([["7", None, None, None]], [yes + no * 3], 4) == 1, (
        "one answer beats many non-answers"
    )
    assert metrics.majority_at_k([["7", "[invalid]", "[invalid]", ""]], [yes + no * 3], 4) == 1
    assert metrics.majority_at_k([["1", "2"]], [yes + no], 2) == 0.5, (
        "a tie counts half, whichever comes first"
    )
    assert metrics.majority_at_k([["2", "1"]], [no + yes], 2) == 0.5
    assert metrics.majority_at_k([["1", "2", "3"]], [yes + no + no], 3) == pytest.approx(1 / 3)
    assert metrics.majority_at_k([["1/2", "0.5", "7", "7", "7"]], [yes * 2 + no * 3], 5) == 0
    assert metrics.majority_at_k([["1/2", "0.5", "0.50", "7", "7"]], [yes * 3 + no * 2], 5) == 1
    answers, correct = [["1", "2", "3", None]], [[True, False, True, False]]
    assert metrics.majority_at_k(answers, correct, 4) == 1, "answers judged correct vote together"
    assert metrics.majority_at_k(answers, correct, 1) == 0.5
    assert metrics.majority_at_k([["a", float("nan")]], [[True, False]], 2) == 1
    assert (
        metrics.majority_at_k(np.array([["4", "4", "5"]]), np.array([[True, True, False]]), 3) == 1
    )


def test_majority_of_large_samples_is_finite_and_sharp():
    answers, k = [["1"] * 9 + ["2"] * 6 + [f"x{i}" for i in range(3000)]], 40
    assert metrics.majority_at_k(answers, [[True] * 9 + [False] * 3006], k) == pytest.approx(
        0.008503, abs=1e-5
    )
    answers = [["1"] * 120 + ["2"] * 80]
    assert metrics.majority_at_k(answers, [[True] * 120 + [False] * 80], 61) > 0.95
    assert metrics.majority_at_k(answers, [[True] * 120 + [False] * 80], 200) == 1
    assert metrics.majority_at_k(answers, [[False] * 120 + [True] * 80], 200) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1/2", "0.5"),
        ("1,000", "1000"),
        ("1,000.0", "$1000"),
        ("\\frac{3}{4}", ".75"),
        ("−3", "-3"),
        ("2/4", "1/2"),
        ("+7", "7."),
        ("$x+1$", "X + 1"),
        ("10/2", "5"),
        ("\\dfrac{1}{3}", "1/3"),
        ("-0", "0"),
    ],
)
def test_equal_answers_vote_together(one, other):
    assert metrics.canonical_answer(one) == metrics.canonical_answer(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("50%", "0.5"),
        ("500", "5"),
        ("1,00", "100"),
        ("0.333", "1/3"),
        ("1/0", "0"),
        ("2²", "22"),
        ("x", "y"),
        ("1e3", "1000"),
        ("12,34", "1234"),
        ("9" * 5000, "9" * 4999),
    ],
)
def test_different_answers_do_not(one, other):
    assert metrics.canonical_answer(one) != metrics.canonical_answer(other)


def test_diversity_limits_and_the_papers_identity():
    kinds = [list("abcde"), list("vwxyz")]
    correct = [[True, True, True, False, False], [False] * 4 + [True]]
    for k in range(1, 6):  # k * pass@1, as no two are alike
        assert diversity(kinds, correct, k).mean() == pytest.approx(0.4 * k)
    assert diversity([["a"] * 5, ["b"] * 5], correct, 5).tolist() == [1, 1]
    assert diversity(kinds, [[False] * 5] * 2, 2).tolist() == [0, 0]


# ----------------------------------------------------------------------------------------------------- raises


@pytest.mark.parametrize(
    ("n", "c", "k"),
    [
        ([5], [2], 6),
        ([9, 5], [2, 2], 6),
        ([5], [2], 0),
        ([5], [2], -1),
        ([5], [6], 1),
        ([5], [-1], 1),
        ([], [], 1),
        ([5], [1.5], 1),
        ([5.5], [1], 1),
        ([5], [np.nan], 1),
        ([np.inf], [1], 1),
        ([5, 5], [1], 1),
        ([[5]], [[1]], 1),
        (["5"], ["1"], 1),
        ([5], [1], 1.5),
        ([5], [None], 1),
        (5, 1, 1),
        ([0], [0], 1),
    ],
)
def test_coverage_raises(n, c, k):
    for call in (metrics.coverage_at_k, metrics.coverage_per_problem):
        with pytest.raises(ValueError):
            call(n, c, k)


@pytest.mark.parametrize(
    ("answers", "correct", "k"),
    [
        ([["1", "2"]], [[True, False]], 3),
        ([["1"], ["1", "2"]], [[True], [True, False]], 2),
        ([], [], 1),
        ([["1", None]], [[True, False]], 0),
        ([["1"]], [[True], [True]], 1),
        ([["1"], ["2"]], [[True]], 1),
        ([["1", "2"]], [[True]], 1),
        ([["1"]], [["incorrect"]], 1),
        ([["1"]], [[None]], 1),
        ([[]], [[]], 1),
    ],
)
def test_votes_raise(answers, correct, k):
    with pytest.raises(ValueError):
        metrics.majority_at_k(answers, correct, k)


def test_other_bad_input_raises():
    with pytest.raises(ValueError, match="k = 3"):
        metrics.diversity_per_problem([2, 5], [0], [1], 3)
    with pytest.raises(ValueError, match="n_correct"):
        metrics.diversity_per_problem([2, 5], [0], [3], 2)
    with pytest.raises(ValueError, match="problem 1"):
        metrics.coverage_at_k([9, 4, 8], [1, 1, 1], 5)
    for tokens, reason in (([], []), ([3, -1], ["stop", "stop"]), ([3], ["stop", "stop"])):
        with pytest.raises(ValueError):
            metrics.length_profile(tokens, reason)


# ------------------------------------------------------------------------------------------- keys, profiles, frame


def test_uniqueness_keys():
    assert metrics.text_key("A b") != metrics.text_key("a b")
    assert metrics.text_key(" A b\n") == metrics.text_key("A b")
    assert metrics.normalised_key("So, 1,000 + 2 = 1002!") == metrics.normalised_key(
        "so 1000+2 =  1002"
    )
    assert metrics.normalised_key("1.5 + 2") != metrics.normalised_key("15 + 2")
    assert metrics.normalised_key("3 - 2") != metrics.normalised_key("3 + 2")
    marked = "She eats 3 + 4 = <<3+4=7>>7 eggs.\nSo 16 - 7 = <<16-7=9>>9"
    assert (
        metrics.equation_key(marked)
        == "3+4=7|16-7=9"
        == metrics.equation_key("3 + 4 = 7. Then 16 - 7 = 9.")
    )
    assert metrics.equation_key("16-7=9, 3+4=7") != metrics.equation_key("3+4=7, 16-7=9"), (
        "the sequence counts"
    )
    assert metrics.equation_key("$2 \\times 3 = 6$") == metrics.equation_key("2 × 3 = 6") == "2*3=6"
    assert metrics.equation_key("By symmetry.") != metrics.equation_key("By parity."), (
        "no equations: words decide"
    )
    assert metrics.equation_key("x = 5") == metrics.normalised_key("x = 5"), (
        "an assignment is no arithmetic"
    )


def test_ngram_clusters_are_a_partition_that_ignores_order():
    base = (
        "first we add three and four to get seven then we take seven from sixteen to get nine eggs"
    )
    texts = [
        base,
        base.upper() + ".",
        base.replace("nine", "9"),
        "a wholly different way to solve it by symmetry",
        "",
    ]
    labels = metrics.ngram_clusters(texts, threshold=0.7)
    assert labels[0] == labels[1] == labels[2] and len({labels[0], labels[3], labels[4]}) == 3
    back = metrics.ngram_clusters(texts[::-1], threshold=0.7)[::-1]
    assert [a == b for a, b in combinations(labels, 2)] == [
        a == b for a, b in combinations(back, 2)
    ]
    assert (
        len(set(metrics.ngram_clusters(texts, threshold=1.0))) == 4
        and metrics.ngram_clusters([]) == []
    )


def test_length_profile():
    profile = metrics.length_profile([10, 20, 30, 512], ["stop", "stop", "error", "length"])
    assert (
        profile["n_samples"] == 4
        and profile["mean_tokens"] == 143
        and profile["median_tokens"] == 25
    )
    assert (
        profile["max_tokens"] == 512
        and profile["truncated_rate"] == 0.25
        and profile["error_rate"] == 0.25
    )
    rng = np.random.default_rng(2)
    tokens, reason, counts = (
        rng.integers(0, 90, 40),
        rng.choice(["stop", "length", "error"], 40),
        rng.integers(1, 9, 40),
    )
    counted, each = metrics.length_profile(tokens, reason, counts), np.repeat(tokens, counts)
    assert counted == pytest.approx(metrics.length_profile(each, np.repeat(reason, counts)))
    assert [counted[f"{q}_tokens"] for q in ("median", "p90", "p99")] == pytest.approx(
        np.quantile(each, [0.5, 0.9, 0.99])
    )


def test_counts_align_by_key():
    frame = pd.DataFrame(
        {
            "author": ["wc", "wc", "se", "wc", "se"],
            "problem_id": ["p2", "p1", "p1", "p2", "p3"],
            "verdict": ["correct", "incorrect", "correct", "unverifiable", "correct"],
        }
    )
    n, c = metrics.counts(frame)
    assert n.to_dict() == {"p1": 2, "p2": 2, "p3": 1}
    assert c.to_dict() == {"p1": 1, "p2": 1, "p3": 1}
    assert list(n.index) == list(c.index) == ["p1", "p2", "p3"]
    assert n.dtype == c.dtype == "int64"
    shuffled = frame.sample(frac=1, random_state=1).astype({"problem_id": "category"})
    other_n, other_c = metrics.counts(shuffled)
    assert other_n.to_dict() == n.to_dict()
    assert other_c.to_dict() == c.to_dict()
    assert metrics.coverage_at_k(n, c, 1) == pytest.approx(2 / 3)
    for bad in (frame.iloc[:0], frame.assign(problem_id=None), frame.assign(verdict=None)):
        with pytest.raises(ValueError, match="counts"):
            metrics.counts(bad)


@pytest.mark.parametrize("kind", ["str", "object", "category", "parts", "int"])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_counts_of_any_ids_are_those_of_a_loop(kind, is_sorted):
    rng = np.random.default_rng(5)
    ids = rng.integers(10, 40, 400)
    ids = np.sort(ids) if is_sorted else ids
    flags = rng.random(400) < 0.4
    expected = {i: (int((ids == i).sum()), int(flags[ids == i].sum())) for i in np.unique(ids)}

    problems = pd.Series(ids if kind == "int" else [f"p{i}" for i in ids])
    if kind == "parts":  # as Parquet files that were read one after the other
        problems = pd.concat([problems[:150], problems[150:]])
    elif kind in ("object", "category"):
        problems = problems.astype(kind)
    for verdict in (flags, np.where(flags, "correct", "incorrect")):
        n, c = metrics.counts(pd.DataFrame({"problem_id": problems, "verdict": verdict}))
        assert n.index.tolist() == [i if kind == "int" else f"p{i}" for i in expected]
        assert list(zip(n, c)) == list(expected.values())


def test_votes_counted_once_serve_every_k():
    answers = [["1", "2", "1.0", None, "3"], ["x", "x", "y", "1/2", "0.5"]]
    correct = [[False, True, False, False, False], [False, False, True, False, False]]
    counted = metrics.count_votes(answers, correct)
    for k in (1, 3, 5):
        pd.testing.assert_frame_equal(
            counted.majority(k), metrics.majority_details(answers, correct, k)
        )
    assert counted.agreement.tolist() == metrics.self_agreement(answers).tolist() == [0.1, 0.2]


def test_openai_model_solutions(real_data):
    """Real samples: equation keys tell problems apart; the official accuracies of the half that is here."""
    rows = [
        json.loads(line)
        for line in open(real_data / "gsm8k_openai_model_solutions.jsonl", encoding="utf-8")
    ]
    for model in ("6b_finetuning", "175b_verification"):
        correct = [row[model]["is_correct"] for row in rows]
        assert metrics.coverage_at_k([1] * len(rows), correct, 1) == np.mean(correct)
    keys = {metrics.equation_key(row["175b_verification"]["solution"]) for row in rows}
    assert len(keys) > 0.99 * len(rows), "different problems have different equations"
