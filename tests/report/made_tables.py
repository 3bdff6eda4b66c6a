"""Every table of `06_analyze/tables`, made up, shaped like a nano study's."""

from itertools import product

import numpy as np
import pandas as pd

from wcse_lib.analyze import TABLES

BUDGETS = {"low": {"se": 1, "wc": 3}, "high": {"se": 10, "wc": 30}}
PARADIGMS = {  # of a base's students, by arm
    "small": {"se": "kd", "wc": "kd"},
    "wc": {"se": "kd", "wc": "self"},
    "se": {"se": "self", "wc": "w2s"},
}
RATES = {"se": 0.46, "wc": 0.34}
FLOPS = {"se": 2 * 1.2e6 * 45, "wc": 2 * 0.45e6 * 45}  # of a sample
METRICS = {  # metric, decoding, k: how far from greedy pass@1
    ("pass@k", "greedy", 1): 0.0,
    ("pass@k", "sampled", 1): -0.05,
    ("maj@k", "sampled", 1): -0.05,
    ("maj@k", "sampled", 4): 0.02,
    ("maj@k", "sampled", 8): 0.04,
}
PASS_AT_1 = [metric for metric in METRICS if metric[0] == "pass@k"]
TOTALS = [  # who, part, planned FLOPs
    ("se", "samples", 8e12),
    ("wc", "samples", 8e12),
    ("se", "prompts", 1e12),
    ("all arms", "verification", None),
    ("all students", "training", 2e13),
    ("all students", "tests", None),
]
N_PROBLEMS, N_HELD_OUT = 240, 300
MAIN = dict(recipe="main", set="held_out")


def share(value: float, n: int) -> dict:
    """A share with an interval as of n problems."""
    half = 1.96 * np.sqrt(max(value * (1 - value), 1e-4) / n)
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def about(value: float, below: float, above: float | None = None) -> dict:
    above = below if above is None else above
    return {"value": value, "low": value - below, "high": value + above}


def metric_columns(metric: tuple) -> dict:
    return dict(zip(("metric", "decoding", "k"), metric))


def made_tables(seed: int = 0) -> dict[str, pd.DataFrame]:
    """A frame for every declared table, with every declared column."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict]] = {name: [] for name in TABLES}
    for arm in RATES:
        _add_arm(rows, arm)
    for budget, arm in product(BUDGETS, RATES):
        _add_arm_at_budget(rows, arm, budget)
    for budget, quantity in product(BUDGETS, ("pass_at_1", "coverage")):
        pair = dict(arm_a="wc", arm_b="se", budget=budget, base="", n_problems=N_PROBLEMS)
        rows["arm_differences"].append(
            pair | dict(quantity=quantity, unit="points") | about(-0.03, 0.04)
        )
    for budget in BUDGETS:
        pair = dict(arm_a="wc", arm_b="se", budget=budget, base="", unit="points", p_holm=0.2)
        undecided = dict(quantity="coverage", speaks_for="") | about(-0.03, 0.04)
        fewer = dict(quantity="false_positive_rate", speaks_for="wc") | about(-0.06, 0.02)
        tested = dict(recipe="judged", finding="not settled", p_holm=0.01)
        rows["reasons"] += [pair | undecided, pair | fewer | tested]
    for who, part, planned in TOTALS:
        line = dict(who=who, part=part, unit="flops", planned=planned, spent=1.03 * 8e12)
        rows["totals"].append(line | dict(ratio=1.03, usd=0.2, hours=0.1))
    for size, base in enumerate(PARADIGMS, 1):
        for student in _students(base):
            _add_student(rows, student, 0.12 + 0.1 * size, 3e12 * size, rng)
        _add_comparisons(rows, base, rng)
    frames = {}
    for name, table in TABLES.items():
        columns = [column.name for column in table.columns]
        frames[name] = pd.DataFrame(rows[name]).reindex(columns=columns)
    return frames


def _coverage(arm: str, k: int) -> float:
    """The share of problems that an arm of this rate solves with k samples: problems differ."""
    rate = RATES[arm]
    chances = np.random.default_rng(7).beta(1.2 * rate, 1.2 * (1 - rate), 4000)
    return float(np.mean(1 - (1 - chances) ** k))


def _add_arm(rows: dict, arm: str) -> None:
    for k in range(1, BUDGETS["high"][arm] + 1):
        facts = dict(arm=arm, k=k, n_problems=N_PROBLEMS, flops_per_problem=k * FLOPS[arm])
        covered = _coverage(arm, k)
        rows["coverage"].append(facts | share(covered, N_PROBLEMS))
        sound = share(0.8 * covered, N_PROBLEMS)
        rows["sound_coverage"].append(facts | {"judge": "exact"} | sound)
    agreement = dict(arm=arm, n_problems=N_PROBLEMS) | share(0.4, N_PROBLEMS)
    rows["self_agreement"].append(agreement)
    for k in (1, 2, 4, 8):
        votes = dict(arm=arm, k=k, n_problems=N_PROBLEMS, tie_rate=1 / k, no_answer_rate=0.0)
        rows["arm_votes"].append(votes | share(RATES[arm] + 0.02 * k, N_PROBLEMS))
    for verdict, tokens in {"all": 40.0, "correct": 30.0}.items():
        profile = dict(median_tokens=tokens, p90_tokens=2 * tokens, p99_tokens=70.0)
        facts = dict(arm=arm, verdict=verdict, n_samples=2400, truncated_rate=0.03)
        rows["lengths"].append(facts | profile | about(tokens, 2))


def _add_arm_at_budget(rows: dict, arm: str, budget: str) -> None:
    both, k = dict(arm=arm, budget=budget), BUDGETS[budget][arm]
    covered, n_correct = _coverage(arm, k), int(N_PROBLEMS * k * RATES[arm])
    flops = N_PROBLEMS * k * FLOPS[arm]
    for (kind, unique), average in product(
        {"text": 0.9, "equations": 0.6}.items(), ("solved", "all")
    ):
        value = unique * k * RATES[arm] / (covered if average == "solved" else 1)
        facts = dict(k=k, kind=kind, average=average, n_problems=N_PROBLEMS, identity=value)
        rows["diversity"].append(both | facts | about(value, 0.07 * value))
    for judge, rate in {"exact": 0.37 if arm == "wc" else 0.31, "arithmetic": 0.05}.items():
        facts = dict(judge=judge, n=n_correct, n_false=int(rate * n_correct))
        rows["false_positives"].append(both | facts | share(rate, n_correct))
    quality = dict(
        samples_per_problem=k,
        n_problems=N_PROBLEMS,
        n_samples=N_PROBLEMS * k,
        n_correct=n_correct,
        n_examples=int(0.9 * n_correct),
        n_truncated=3 * k,
        n_unverifiable=k,
        duplicate_rate=0.02 * k**0.5,
        pass_at_1=RATES[arm],
        coverage=covered,
        flops_spent=1.03 * flops,
    )
    rows["quality"].append(both | quality)
    facts = both | dict(base="", n=N_PROBLEMS)
    covers = dict(quantity="coverage", unit="points") | share(covered, N_PROBLEMS)
    examples = dict(quantity="examples", unit="count") | about(n_correct, 0)
    likely = dict(quantity="log_likelihood", unit="nats per token", base="small")
    likely |= dict(value=-0.6 if arm == "se" else -0.5, low=-0.7, high=-0.4)
    rows["explanation"] += [facts | covers, facts | examples, facts | likely]
    facts = both | dict(k=k, n=50)
    covers = dict(metric="coverage", outcome=covered) | share(covered - 0.03, 50)
    covers |= dict(least=max(0, covered - 0.2), most=min(1, covered + 0.15))
    examples = dict(metric="examples", outcome=0.9 * n_correct) | about(n_correct, 0.2 * n_correct)
    rows["forecast"] += [facts | covers, facts | examples]
    for level in range(1, 6):
        value = max(0.05, covered - 0.12 * (level - 2))
        rows["levels"].append(both | dict(level=level, n_problems=48) | share(value, 48))
    sampling = dict(who=f"{arm} {budget}", stage="02_generate", kind="sampling", budget=budget)
    rows["ledger"].append(sampling | _amounts(flops, 1.03))
    for step, n, reason in [
        ("samples", 2400, ""),
        ("dropped", 1620, "incorrect"),
        ("examples", 780, ""),
    ]:
        rows["flow"].append(both | dict(recipe="main", step=step, n=n, reason=reason))


def _amounts(flops: float, ratio: float) -> dict:
    return dict(unit="flops", planned=flops, spent=ratio * flops, ratio=ratio, matched=True)


def _students(base: str) -> list[dict]:
    """The students of a base, with their gain over it."""
    students = [
        dict(student=f"{base}.base", source="base", gain=0.0),
        dict(student=f"{base}.planted", source="planted", arm="se", budget="high", gain=-0.09),
        dict(student=f"{base}.reference", source="reference", budget="high", gain=0.11),
        dict(student=f"{base}.wrong", source="wrong", budget="high", gain=0.01),
    ]
    for budget, (arm, paradigm) in product(BUDGETS, PARADIGMS[base].items()):
        gain = 0.03 + (0.03 if budget == "high" else 0) + (0.012 if arm == "wc" else 0)
        of_arm = dict(source="arm", arm=arm, budget=budget, paradigm=paradigm, gain=gain)
        students.append(dict(student=f"{base}.{arm}.{budget}") | of_arm)
    return [student | dict(base=base, seed=0) for student in students]


def _add_student(rows: dict, student: dict, level: float, flops: float, rng) -> None:
    for metric, shift in METRICS.items():
        facts = student | MAIN | metric_columns(metric) | dict(n_problems=N_HELD_OUT)
        rows["students"].append(facts | share(level + student["gain"] + shift, N_HELD_OUT))
    judged = dict(recipe="main", judge="exact", n=500) | share(0.1, 500)
    rows["student_false_positives"].append(student | judged)
    facts = student | dict(recipe="main", n_problems=N_HELD_OUT, n_answers=N_HELD_OUT)
    for decoding, quantity in product(("greedy", "sampled"), ("cut_share", "accuracy_of_ended")):
        value = 0.02 if quantity == "cut_share" else level + student["gain"]
        what = dict(decoding=decoding, quantity=quantity)
        rows["endings"].append(facts | what | share(value, N_HELD_OUT))
    if student["source"] == "base":
        return
    taught_by = student["arm"] if student["source"] == "arm" else student["source"]
    facts = dict(base=student["base"], taught_by=taught_by, budget=student["budget"])
    for quantity, value in (("accuracy", student["gain"]), ("cut_share", -0.02)):
        what = dict(decoding="greedy", quantity=quantity, n_problems=N_HELD_OUT)
        rows["stopping"].append(facts | what | about(value, 0.03))
    training = dict(who=student["student"], stage="04_finetune", kind="training", budget="")
    rows["ledger"].append(training | _amounts(flops, 0.93))
    for step in range(5, 125, 5):
        loss = 0.5 + 0.9 * np.exp(-step / 40) + 0.02 * rng.normal()
        rows["training"].append(dict(student=student["student"], step=step, loss=loss))


def _add_comparisons(rows: dict, base: str, rng) -> None:
    between = dict(base=base, n_problems=N_HELD_OUT, n_seeds=1)
    of_arms = between | dict(arm_a="wc", arm_b="se", p=0.3)
    of_arms |= {
        f"paradigm_{side}": PARADIGMS[base][arm] for side, arm in (("a", "wc"), ("b", "se"))
    }
    for budget, metric in product(BUDGETS, METRICS):
        value = 0.012 + 0.02 * rng.normal()
        facts = dict(budget=budget, p_holm=0.04 if abs(value) > 0.04 else 1)
        row = of_arms | facts | metric_columns(metric) | about(value, 0.032)
        rows["differences"].append(row)
        rows["transfer"].append(row | {"set": "far"})
    for budget, arm, metric in product(BUDGETS, PARADIGMS[base], PASS_AT_1):
        facts = dict(arm=arm, budget=budget, p=0.01, p_holm=0.04) | metric_columns(metric)
        rows["gains"].append(between | facts | about(0.05, 0.04))
    pairs = {
        "recipe": ("wc", "wc"),
        "arms": ("wc", "se"),
        "gap": ("wc", "se"),
        "pooled": ("pooled", "se"),
    }
    for comparison, (arm_a, arm_b) in pairs.items():
        facts = dict(comparison=comparison, recipe="equal", against="main", budget="high")
        facts |= dict(arm_a=arm_a, arm_b=arm_b, p=0.2, p_holm=1.0) | metric_columns(PASS_AT_1[0])
        rows["ablations"].append(between | facts | about(-0.02, 0.03))
    for part in ("whole", "more_examples", "another_author"):
        facts = dict(part=part, arm_a="wc", arm_b="se", recipe="equal", budget="high", p=0.2)
        row = between | facts | metric_columns(PASS_AT_1[0]) | about(0.02, 0.03)
        rows["split"].append(row | {"p_holm": 1.0})
    for metric in METRICS:
        facts = dict(base=base, set="held_out", df=np.nan, assumed=True) | metric_columns(metric)
        rows["training_luck"].append(facts | dict(value=0.013, low=0.013, high=0.013))
    shifts = {"arm_minus_planted": 0.15, "reference_minus_base": 0.11}
    shifts |= {"wrong_minus_reference": -0.1, "wrong_minus_base": 0.01}
    for (comparison, value), metric in product(shifts.items(), PASS_AT_1):
        arm = "se" if comparison == "arm_minus_planted" else None
        facts = dict(comparison=comparison, arm=arm) | metric_columns(metric)
        rows["controls"].append(between | facts | about(value, 0.04))
