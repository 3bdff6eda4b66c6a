"""Figures: every table draws, labelled, the same bytes each time, and what is missing is left out."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from wcse_lib import figures

BUDGETS = {"low": {"se": 1, "wc": 3}, "high": {"se": 10, "wc": 30}}
BASES = {"small": {"se": "kd", "wc": "kd"}, "wc": {"se": "kd", "wc": "self"}, "se": {"se": "self", "wc": "w2s"}}


def interval(value, n, rng=None, scale=1.96):
    half = scale * np.sqrt(max(value * (1 - value), 1e-4) / n)
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def tables(seed=0) -> dict[str, pd.DataFrame]:
    """Every table of `06_analyze/tables`, shaped like a nano study's."""
    rng = np.random.default_rng(seed)
    rates = {"se": 0.46, "wc": 0.34}
    flops = {"se": 2 * 1.2e6 * 45, "wc": 2 * 0.45e6 * 45}
    chance = {arm: np.random.default_rng(7).beta(1.2 * p, 1.2 * (1 - p), 4000) for arm, p in rates.items()}
    curve = {arm: {k: float(np.mean(1 - (1 - c) ** k)) for k in range(1, BUDGETS["high"][arm] + 1)} for arm, c in chance.items()}
    coverage = [
        {"arm": a, "k": k, "n_problems": 240, "flops_per_problem": k * flops[a], **interval(v, 240)} for a, c in curve.items() for k, v in c.items()
    ]
    diversity, fps, quality, levels, flow, ledger = [], [], [], [], [], []
    for budget, ks in BUDGETS.items():
        for arm, k in ks.items():
            cover = curve[arm][k]
            for kind, share in {"text": 0.9, "normalised": 0.85, "equations": 0.6}.items():
                for average, over in {"solved": cover, "all": 1}.items():
                    value = max(1.0 * (average == "solved"), share * k * rates[arm] / over)
                    row = {"arm": arm, "budget": budget, "k": k, "kind": kind, "average": average, "n_problems": 240}
                    diversity.append(row | {"value": value, "low": 0.93 * value, "high": 1.07 * value})
            n = int(240 * k * rates[arm])
            for judge, rate in {"exact": 0.31 + 0.06 * (arm == "wc"), "arithmetic": 0.05}.items():
                fps.append({"arm": arm, "budget": budget, "judge": judge, "n": n, "n_false": int(rate * n), **interval(rate, n)})
            quality.append(
                {"arm": arm, "budget": budget, "samples_per_problem": k, "n_problems": 240, "n_samples": 240 * k, "n_correct": n,
                 "n_examples": int(0.9 * n), "n_truncated": 3 * k, "n_unverifiable": k, "duplicate_rate": 0.02 * k**0.5,
                 "pass_at_1": rates[arm], "coverage": cover, "flops_spent": 240 * k * flops[arm] * 1.03}
            )  # fmt: skip
            for level in range(1, 6):
                levels.append({"arm": arm, "budget": budget, "level": level, "n_problems": 48, **interval(max(0.05, cover - 0.12 * (level - 2)), 48)})
            who = f"{arm} {budget}"
            ledger.append({"who": who, "stage": "02_generate", "kind": "sampling", "unit": "flops", "planned": 240 * k * flops[arm],
                           "spent": 240 * k * flops[arm] * 1.03, "ratio": 1.03, "matched": True})  # fmt: skip
        flow += [{"arm": a, "step": s, "n": n, "reason": r} for a in ks for s, n, r in
                 [("samples", 2400, ""), ("dropped", 30, "truncated"), ("dropped", 1500, "incorrect"), ("dropped", 90, "same text"), ("examples", 780, "")]]
    students, training, differences, controls = [], [], [], []
    metrics = {"greedy pass@1": 0.0, "sampled pass@1": -0.05, "maj@1": -0.05, "maj@4": 0.02, "maj@8": 0.04}
    for i, (base, paradigms) in enumerate(BASES.items()):
        level = 0.22 + 0.1 * i
        who = [("base", None, None, None, 0.0), ("reference", None, "high", None, 0.11), ("wrong", None, "high", None, 0.01)]
        who += [("arm", a, b, p, 0.03 + 0.03 * (b == "high") + 0.012 * (a == "wc")) for b in BUDGETS for a, p in paradigms.items()]
        for source, arm, budget, paradigm, gain in who:
            name = f"{base}.{arm}.{budget}" if source == "arm" else f"{base}.{source}"
            for metric, shift in metrics.items():
                students.append({"student": name, "base": base, "source": source, "arm": arm, "budget": budget, "paradigm": paradigm,
                                 "seed": 0, "metric": metric, "n_problems": 300, **interval(level + gain + shift, 300)})  # fmt: skip
            if source != "base":
                ledger.append({"who": name, "stage": "04_finetune", "kind": "training", "unit": "flops", "planned": 3e12 * (i + 1),
                               "spent": 2.8e12 * (i + 1), "ratio": 0.93, "matched": True})  # fmt: skip
                steps = np.arange(5, 125, 5)
                training += [{"student": name, "step": s, "loss": 0.5 + 0.9 * np.exp(-s / 40) + 0.02 * rng.normal()} for s in steps]
        for budget in BUDGETS:
            for metric in metrics:
                v, half = 0.012 + 0.02 * rng.normal(), 0.032
                differences.append({"base": base, "paradigm": paradigms["wc"], "budget": budget, "metric": metric, "arm_a": "wc", "arm_b": "se",
                                    "n_problems": 300, "value": v, "low": v - half, "high": v + half, "p": 0.3, "p_holm": 0.04 if v > half else 1.0})  # fmt: skip
        for comparison, v in {"reference - base": 0.11, "wrong - reference": -0.1, "wrong - base": 0.01}.items():
            for metric in ("greedy pass@1", "sampled pass@1"):
                controls.append({"base": base, "comparison": comparison, "metric": metric, "n_problems": 300, "value": v, "low": v - 0.04, "high": v + 0.04})
    rows = dict(coverage=coverage, diversity=diversity, false_positives=fps, quality=quality, levels=levels, students=students,
                differences=differences, controls=controls, ledger=ledger, training=training, flow=flow)  # fmt: skip
    return {name: pd.DataFrame(r) for name, r in rows.items()}
