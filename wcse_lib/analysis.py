"""Room 06: from rows on disk to tidy tables with intervals, and from tables to an answer in words."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from wcse_lib import budget, intervals, metrics
from wcse_lib.records import KEY, read_json, read_parquet, read_samples, write_json
from wcse_lib.study import Run

PRIMARY = "greedy pass@1"  # the metric that the answer is about


def analyze(run: Run) -> dict[str, pd.DataFrame]:
    """Compute every table of the study and write them to `06_analyze/tables/*.csv`; returns them by name."""
    arms = {arm: _arm_rows(run, arm) for arm in run.plan["arms"]}
    tables = {
        "quality": _quality(run, arms),
        "coverage": _coverage(run, arms),
        "diversity": _diversity(run, arms),
        "false_positives": _false_positives(run, arms),
        "levels": _levels(run, arms),
        "arm_differences": _arm_differences(run, arms),
        "flow": pd.concat([read_parquet(run.path("03", arm, "flow.parquet")) for arm in arms], ignore_index=True),
    }
    if run.plan["students"]:
        scores = {s: _scores(run, s) for s in run.plan["students"]}
        tables["students"] = _students(run, scores)
        tables["differences"] = _differences(run, scores)
        tables["controls"] = _controls(run, scores, arms)
        tables["training"] = _training(run)
    tables["ledger"] = _ledger(run, arms)
    for name, frame in tables.items():
        path = run.path("06", "tables", f"{name}.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)
    return tables


def _arm_rows(run: Run, arm: str) -> pd.DataFrame:
    """An arm's samples joined with verdicts and judgements by key, restricted to the plan's problems and counts."""
    samples = read_samples(run.path("02", arm), [*KEY, "text", "n_prompt_tokens", "n_tokens", "finish_reason"])
    verdicts = read_parquet(run.path("03", arm, "verdicts.parquet"), [*KEY, "extracted", "verdict"])
    judgements = read_parquet(run.path("03", arm, "judgements.parquet"))
    frame = samples.merge(verdicts, on=KEY, validate="one_to_one")
    first = judgements.drop_duplicates(KEY)[[*KEY, "sound", "judge"]]
    frame = frame.merge(first, on=KEY, how="left", validate="one_to_one")
    problems = read_parquet(run.path("01", "train.parquet"))[["problem_id", "level"]]
    frame = frame.merge(problems, on="problem_id", validate="many_to_one")
    frame["correct"] = frame["verdict"] == "correct"
    return frame[frame["verdict"] != "unverifiable"].assign(
        n_unverifiable=int((frame["verdict"] == "unverifiable").sum())
    )


def _at(run: Run, arm: str, rows: pd.DataFrame, b: str) -> pd.DataFrame:
    return rows[rows["sample_index"] < run.arm(arm)["samples"][b]]


def _counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Samples and correct samples per problem, sorted by problem."""
    return rows.groupby("problem_id", sort=True)["correct"].agg(n="size", c="sum")


def _flops_per_sample(run: Run, arm: str, rows: pd.DataFrame) -> float:
    p, known = run.arm(arm)["n_parameters"], rows.loc[rows["n_tokens"] >= 0, "n_tokens"]
    return budget.sampling_flops(p, float(known.mean())) if p and len(known) else float("nan")


def _each(run: Run, arms: dict[str, pd.DataFrame]):
    """(arm, budget, the budget's rows) for every arm and budget."""
    for arm, rows in arms.items():
        for b in run.arm(arm)["samples"]:
            yield arm, b, _at(run, arm, rows, b)


def _quality(run: Run, arms) -> pd.DataFrame:
    out = []
    for arm, b, rows in _each(run, arms):
        counts = _counts(rows)
        examples = read_parquet(run.path("03", arm, "examples.parquet"), ["budget"])
        out.append({
            "arm": arm, "budget": b, "samples_per_problem": run.arm(arm)["samples"][b], "n_problems": len(counts),
            "n_samples": len(rows), "n_correct": int(rows["correct"].sum()), "n_examples": int((examples["budget"] == b).sum()),
            "n_truncated": int((rows["finish_reason"] == "length").sum()), "n_unverifiable": int(rows["n_unverifiable"].max()) if len(rows) else 0,
            "duplicate_rate": float(rows.duplicated(["problem_id", "text"]).mean()),
            "pass_at_1": float((counts["c"] / counts["n"]).mean()), "coverage": float((counts["c"] > 0).mean()),
            "flops_spent": _flops_per_sample(run, arm, rows) * len(rows),
        })  # fmt: skip
    return pd.DataFrame(out)


def _row(value_low_high, **facts) -> dict:
    value, low, high = value_low_high
    return {**facts, "value": float(value), "low": float(low), "high": float(high)}


def _coverage(run: Run, arms) -> pd.DataFrame:
    out = []
    for arm, rows in arms.items():
        counts = _counts(rows)
        per_sample = _flops_per_sample(run, arm, rows)
        for k in range(1, int(counts["n"].min()) + 1):
            values = metrics.coverage_per_problem(counts["n"].to_numpy(), counts["c"].to_numpy(), k)
            estimate = intervals.bootstrap(values, seed=run.study.seed)
            out.append(_row(estimate, arm=arm, k=k, n_problems=len(counts), flops_per_problem=k * per_sample))
    return pd.DataFrame(out)


def _diversity(run: Run, arms) -> pd.DataFrame:
    keys = {"text": metrics.text_key, "normalised": metrics.normalised_key, "equations": metrics.equation_key}
    out = []
    for arm, rows in arms.items():
        correct = rows[rows["correct"]]
        counts = _counts(rows)
        for kind, key in keys.items():
            classes = correct.assign(kind=[key(t) for t in correct["text"]]).groupby(["problem_id", "kind"]).size()
            for b, k in run.arm(arm)["samples"].items():
                if k > counts["n"].min():
                    continue
                n = counts["n"].loc[classes.index.get_level_values(0)].to_numpy()
                expected = pd.Series(metrics.coverage_per_problem(n, classes.to_numpy(), k), classes.index)
                unique = expected.groupby("problem_id").sum().reindex(counts.index, fill_value=0.0)
                solvable = metrics.coverage_per_problem(counts["n"].to_numpy(), counts["c"].to_numpy(), k)
                facts = dict(arm=arm, budget=b, k=k, kind=kind)
                for average, weights in (("all", np.ones(len(unique))), ("solved", solvable)):
                    if weights.sum() > 0:  # per solved problem: expected unique ones over expected solved problems
                        estimate = intervals.ratio(unique.to_numpy(), weights, seed=run.study.seed, bounds=(0, k))
                        n = int((weights > 0).sum())
                        out.append(_row(estimate, **facts, average=average, n_problems=n))
    return pd.DataFrame(out)


def _false_positives(run: Run, arms) -> pd.DataFrame:
    out = []
    for arm, b, rows in _each(run, arms):
        judged = rows[rows["correct"] & rows["sound"].notna()]
        if judged.empty:
            continue
        false = judged.assign(false=~judged["sound"].astype(bool)).groupby("problem_id")["false"].agg(["sum", "size"])
        estimate = intervals.ratio(false["sum"].to_numpy(), false["size"].to_numpy(), seed=run.study.seed)
        facts = dict(arm=arm, budget=b, judge=judged["judge"].iloc[0], n=len(judged), n_false=int(false["sum"].sum()))
        out.append(_row(estimate, **facts))
    return pd.DataFrame(out)


def _levels(run: Run, arms) -> pd.DataFrame:
    out = []
    for arm, b, rows in _each(run, arms):
        for level, part in rows.groupby("level"):
            solved = _counts(part)["c"].to_numpy() > 0
            if level:
                estimate = intervals.bootstrap(solved.astype(float), seed=run.study.seed)
                out.append(_row(estimate, arm=arm, budget=b, level=level, n_problems=len(solved)))
    return pd.DataFrame(out)


def _pairs(run: Run) -> list[tuple[str, str]]:
    """Arms compared with each other: every other arm minus the reference arm first, then the rest."""
    reference = run.study.budget.reference
    others = [a for a in run.plan["arms"] if a != reference]
    return [(a, reference) for a in others] + list(combinations(others, 2))


def _arm_differences(run: Run, arms) -> pd.DataFrame:
    out = []
    for (a, z), b in ((pair, b) for pair in _pairs(run) for b in run.study.budget.samples):
        counts = _counts(_at(run, a, arms[a], b)).join(
            _counts(_at(run, z, arms[z], b)), lsuffix="_a", rsuffix="_z", how="inner"
        )
        for metric, get in {"pass@1": lambda n, c: c / n, "coverage": lambda n, c: (c > 0).astype(float)}.items():
            x, y = get(counts["n_a"], counts["c_a"]).to_numpy(), get(counts["n_z"], counts["c_z"]).to_numpy()
            estimate = intervals.paired_difference(x, y, seed=run.study.seed)
            out.append(_row(estimate, arm_a=a, arm_b=z, budget=b, metric=metric, n_problems=len(counts)))
    return pd.DataFrame(out)


def _scores(run: Run, student: str) -> pd.DataFrame:
    """A student's score on every held-out problem (rows) for every metric (columns), sorted by problem."""
    greedy = read_parquet(run.path("05", student, "verdicts-greedy.parquet"))
    sampled = read_parquet(run.path("05", student, "verdicts-sampled.parquet")).sort_values(KEY)
    out = pd.DataFrame({PRIMARY: (greedy.set_index("problem_id")["verdict"] == "correct").astype(float)}).sort_index()
    right = sampled["verdict"] == "correct"
    out["sampled pass@1"] = right.groupby(sampled["problem_id"]).mean()
    groups = sampled.assign(right=right).groupby("problem_id", sort=True)
    votes = [
        (list(g["extracted"].astype(object).where(g["extracted"].notna(), None)), list(g["right"])) for _, g in groups
    ]
    for k in run.study.evaluation.maj_k:
        out[f"maj@{k}"] = metrics.majority_details([a for a, _ in votes], [c for _, c in votes], k)["accuracy"].to_numpy()
    return out


def _students(run: Run, scores: dict[str, pd.DataFrame]) -> pd.DataFrame:
    out = []
    for student, frame in scores.items():
        entry = {k: run.student(student)[k] for k in ("base", "source", "arm", "budget", "paradigm", "seed")}
        for metric in frame:
            estimate = intervals.bootstrap(frame[metric].to_numpy(), seed=run.study.seed)
            out.append(_row(estimate, student=student, **entry, metric=metric, n_problems=len(frame)))
    return pd.DataFrame(out)


def _differences(run: Run, scores) -> pd.DataFrame:
    """Paired differences between arms for every base and budget, and over all bases together (mean over bases)."""
    by = {}  # (base, budget, arm) -> the mean over training seeds of the scores
    for student, entry in run.plan["students"].items():
        if entry["source"] == "arm":
            by.setdefault((entry["base"], entry["budget"], entry["arm"]), []).append(scores[student])
    mean = {key: sum(frames) / len(frames) for key, frames in by.items()}
    paradigm = {(e["base"], e["arm"]): e["paradigm"] for e in run.plan["students"].values() if e["source"] == "arm"}
    out = []
    for a, z in _pairs(run):
        for b in run.study.budget.samples:
            bases = [base for base in run.study.students if (base, b, a) in mean and (base, b, z) in mean]
            compared = {base: (mean[base, b, a], mean[base, b, z]) for base in bases}
            if len(bases) > 1:
                compared["all students"] = tuple(
                    sum(mean[base, b, arm] for base in bases) / len(bases) for arm in (a, z)
                )
            for base, (x, y) in compared.items():
                for metric in x:
                    estimate = intervals.paired_difference(
                        x[metric].to_numpy(), y[metric].to_numpy(), seed=run.study.seed
                    )
                    p = intervals.paired_p(x[metric].to_numpy(), y[metric].to_numpy())
                    out.append(
                        _row(
                            estimate,
                            base=base,
                            paradigm=paradigm.get((base, a), ""),
                            budget=b,
                            metric=metric,
                            arm_a=a,
                            arm_b=z,
                            n_problems=len(x),
                        )
                        | {"p": p}
                    )
    frame = pd.DataFrame(out)
    if len(frame):
        single = frame["base"] != "all students"
        frame["p_holm"] = np.nan
        for metric in frame["metric"].unique():
            rows = single & (frame["metric"] == metric)
            frame.loc[rows, "p_holm"] = intervals.holm(frame.loc[rows, "p"].to_numpy())
    return frame


def _controls(run: Run, scores, arms) -> pd.DataFrame:
    """Can the study tell good data from bad? Reference, wrong and base students compared, paired; and the sampler."""
    out = []
    for base in run.study.students:
        by = {}
        for student, entry in run.plan["students"].items():
            if entry["base"] == base and entry["source"] != "arm":
                by.setdefault(entry["source"], []).append(scores[student])
        mean = {source: sum(frames) / len(frames) for source, frames in by.items()}
        for a, z in (("reference", "base"), ("wrong", "reference"), ("wrong", "base")):
            for metric in (PRIMARY, "sampled pass@1") if a in mean and z in mean else ():
                estimate = intervals.paired_difference(
                    mean[a][metric].to_numpy(), mean[z][metric].to_numpy(), seed=run.study.seed
                )
                out.append(_row(estimate, base=base, comparison=f"{a} - {z}", metric=metric, n_problems=len(mean[a])))
        own = next(
            (arm for arm, spec in run.plan["arms"].items() if spec["model"] == run.study.students[base].model), None
        )
        e, s = run.study.evaluation, run.study.sampling
        if own and (e.temperature, e.top_k, e.top_p) == (s.temperature, s.top_k, s.top_p):
            counts = _counts(arms[own])
            x, y = (
                metrics.coverage_per_problem(counts["n"].to_numpy(), counts["c"].to_numpy(), 1),
                mean["base"]["sampled pass@1"].to_numpy(),
            )
            estimate = intervals.unpaired_difference(x, y, seed=run.study.seed)
            out.append(
                _row(
                    estimate,
                    base=base,
                    comparison="coverage@1 as arm - pass@1 as base",
                    metric="sampled pass@1",
                    n_problems=len(x) + len(y),
                )
            )
    return pd.DataFrame(out)


def _training(run: Run) -> pd.DataFrame:
    rows = []
    for student, entry in run.plan["students"].items():
        if entry["source"] != "base":
            curve = read_json(run.path("04", student, "report.json"))["loss_curve"]
            rows += [{"student": student, "step": int(step), "loss": loss} for step, loss, _ in curve]
    return pd.DataFrame(rows, columns=["student", "step", "loss"])


def _ledger(run: Run, arms) -> pd.DataFrame:
    """Planned against spent. An arm's plan is its samples at the reference arm's mean length: the matching rule's own
    assumption, so the ratio shows what unequal lengths did to the match. Prompt tokens are shown, and in no match."""
    planned, spent = [], []
    reference = run.study.budget.reference
    for b in run.study.budget.samples:
        base = _at(run, reference, arms[reference], b)
        length = float(base.loc[base["n_tokens"] >= 0, "n_tokens"].mean())
        for arm, rows in arms.items():
            rows = _at(run, arm, rows, b)
            if not (rows["n_tokens"] >= 0).all() or np.isnan(length):
                continue
            n = run.plan["n_problems"]["train"] * run.arm(arm)["samples"][b]
            p = run.arm(arm)["n_parameters"]
            for unit, want, got in (
                ("tokens", n * length, float(rows["n_tokens"].sum())),
                (
                    "flops",
                    budget.sampling_flops(p, n * length) if p else None,
                    budget.sampling_flops(p, float(rows["n_tokens"].sum())) if p else None,
                ),
            ):
                if want is not None:
                    planned.append(
                        {"who": arm, "stage": "02_generate", "kind": f"sampling ({b})", "unit": unit, "planned": want}
                    )
                    spent.append(
                        {"who": arm, "stage": "02_generate", "kind": f"sampling ({b})", "unit": unit, "spent": got}
                    )
    for student, entry in run.plan["students"].items():
        if entry["source"] != "base":
            report = read_json(run.path("04", student, "report.json"))
            planned.append(
                {
                    "who": student,
                    "stage": "04_finetune",
                    "kind": "training",
                    "unit": "flops",
                    "planned": report["planned_flops"],
                }
            )
            spent.append(
                {
                    "who": student,
                    "stage": "04_finetune",
                    "kind": "training",
                    "unit": "flops",
                    "spent": report["spent_flops"],
                }
            )
    return budget.ledger(planned, spent)


def points(x: float) -> str:
    return f"{100 * x:+.1f} points"


def answer(run: Run, tables: dict[str, pd.DataFrame]) -> dict:
    """The study's answer in words, every number from the tables; also written to `06_analyze/answer.json`."""
    table = tables.get("differences")
    students = table is not None and len(table) > 0
    if students:
        rows = table[table["metric"] == PRIMARY]
        pooled = rows[rows["base"] == "all students"]
        rows, what = (pooled if len(pooled) else rows), "students' greedy pass@1 on held-out problems"
    else:
        rows, what = tables["arm_differences"], "pass@1 of the samples"
        rows = rows[rows["metric"] == "pass@1"] if len(rows) else rows
    sentences = [_sentence(run, row) for row in rows.itertuples()]
    verdicts = {(r.arm_a if r.low > 0 else r.arm_b if r.high < 0 else None) for r in rows.itertuples()}
    data = "training set" if students else "samples"
    if not len(rows):
        headline = "This study has one arm: there is nothing to compare."
    elif verdicts == {None}:
        headline = f"No difference between the arms' {data} could be shown at any budget."
    elif len(verdicts) == 1:
        headline = f"At every budget, {verdicts.pop()} gave the better {data}."
    else:
        wins = [
            f"{r.arm_a if r.low > 0 else r.arm_b} at {r.budget}" for r in rows.itertuples() if r.low > 0 or r.high < 0
        ]
        headline = f"It depends on the budget: {', '.join(wins)} gave the better {data}; elsewhere no difference could be shown."
    result = {
        "headline": headline,
        "paragraph": f"Measured by {what}: " + " ".join(sentences),
        "notes": _notes(run, tables),
    }
    write_json(run.path("06", "answer.json"), result)
    return result


def _sentence(run: Run, row) -> str:
    ratio = f"{run.arm(row.arm_a)['samples'][row.budget]} against {run.arm(row.arm_b)['samples'][row.budget]} samples a problem"
    sure = "" if row.low > 0 or row.high < 0 else "; the interval holds zero, so the sign is not settled"
    return (
        f"At the budget “{row.budget}” ({ratio}) {row.arm_a} minus {row.arm_b} is {points(row.value)} "
        f"(95 % interval {points(row.low)} to {points(row.high)}, n = {row.n_problems} problems{sure})."
    )


def _notes(run: Run, tables) -> list[str]:
    notes = []
    for row in tables["false_positives"].itertuples():
        bound = "at least " if row.judge == "arithmetic" else ""
        notes.append(
            f"False positives of {row.arm} at {row.budget}: {bound}{100 * row.value:.1f} % of {row.n} correct samples ({row.judge} judge; {100 * row.low:.1f} to {100 * row.high:.1f} %)."
        )
    controls = tables.get("controls")
    if controls is not None and len(controls):
        for row in controls[controls["metric"] == PRIMARY].itertuples():
            notes.append(
                f"Control, {row.base}: {row.comparison} is {points(row.value)} ({points(row.low)} to {points(row.high)})."
            )
    for row in tables["ledger"].query("stage == '02_generate' and unit == 'flops'").itertuples():
        if not row.matched:
            notes.append(
                f"{row.who} spent {row.ratio:.2f} times its planned FLOPs on {row.kind}: its texts are not as long as the reference arm's."
            )
    for row in tables["quality"].itertuples():
        if row.n_truncated > 0.01 * row.n_samples:
            notes.append(
                f"{row.n_truncated} of {row.arm}'s {row.n_samples} samples at {row.budget} were cut at max_tokens."
            )
        if row.n_unverifiable:
            notes.append(f"{row.n_unverifiable} of {row.arm}'s samples are unverifiable and left out.")
    return notes


def checks(run: Run, tables: dict[str, pd.DataFrame]) -> dict:
    """Facts about the tables. Raises AssertionError when a value is missing or lies outside its interval."""
    for name, frame in tables.items():
        if {"value", "low", "high"} <= set(frame.columns) and len(frame):
            assert frame[["value", "low", "high"]].notna().all().all(), f"{name}: a value is missing"
            slack = 1e-9
            assert ((frame["low"] <= frame["value"] + slack) & (frame["value"] <= frame["high"] + slack)).all(), (
                f"{name}: a value lies outside its interval"
            )
    assert len(tables["coverage"]), "no coverage could be computed"
    return {"n_tables": len(tables), "n_rows": int(sum(len(frame) for frame in tables.values()))}
