"""Factories that the tests of several folders share: rows, plans and studies as the kit writes them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib.plan import make_plan
from wcse_lib.store import KEY, SampleWriter, read_parquet, write_json, write_parquet
from wcse_lib.study import (
    AdaptiveArm,
    ImportedArm,
    MixedArm,
    ModelFacts,
    Plan,
    PlannedMixed,
    Run,
    Study,
    Verification,
    check_study,
)
from wcse_lib.verdicts import judged_rows, verifier, with_judgements


def taught_study(**changes) -> Study:
    """Two arms, two budgets, two nano students and few problems; `changes` replace whole entries of the params."""
    data = {
        "study": "made",
        "seed": 3,
        "dataset": {
            "name": "nano",
            "n_train": 30,
            "n_validation": 6,
            "n_held_out": 12,
            "levels": [1, 2],
        },
        "arms": {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
        "budget": {"reference": "se", "samples": {"low": 1, "high": 2}, "match": "count"},
        "students": {"small": {"model": "nano-student"}, "wc": {"model": "nano-wc"}},
        "training": {
            "amount": {"low": 1, "high": 2},
            "batch_size": 8,
            "n_checkpoints": 1,
            "max_tokens": 256,
        },
        "evaluation": {"n_samples": 2, "max_tokens": 40, "maj_k": [2]},
    }
    return check_study(data | changes, "test")


def lay_examples(folder: Path, **changes) -> Run:
    """A `taught_study` after 03, as far as 04 reads it.

    Examples (reference solutions): se has 8 problems, wc 20, each with one sample at low and two at high. Every sample
    of wc on disk is wrong, and every second one gives no answer.
    """
    run = make_plan(taught_study(**changes), folder)
    problems = read_parquet(run.path("01", "train.parquet"))
    for arm, n_problems in (("se", 8), ("wc", 20)):
        solved = problems.head(n_problems).rename(columns={"reference": "text"})
        frames = []
        for recipe in ["main", *run.study.recipes]:
            for budget, n in run.study.budget.samples.items():
                facts = {"author": arm, "budget": budget, "recipe": recipe}
                frames += [solved.assign(sample_index=i, **facts) for i in range(n)]
        examples = pd.concat(frames)[[*KEY, "budget", "recipe", "text"]]
        write_parquet(run.path("03", arm, "examples.parquet"), examples)
    ids = np.repeat(problems["problem_id"], 2)
    keys = pd.DataFrame({"author": "wc", "problem_id": ids, "sample_index": [0, 1] * len(problems)})
    with SampleWriter(run.path("02", "wc")) as writer:
        for key in keys.itertuples(index=False):
            writer.add(sample_row(**key._asdict(), text="wrong #### 999", model="nano-wc"))
    verdicts = keys.assign(verdict="incorrect", extracted=["9", None] * len(problems))
    write_parquet(run.path("03", "wc", "verdicts.parquet"), verdicts)
    return run


def sample_row(sample_index: int, **more) -> dict:
    """A row of a samples file; `more` replaces or adds columns."""
    return {
        "author": "a",
        "problem_id": "p",
        "sample_index": sample_index,
        "seed": sample_index,
        "text": f"t{sample_index}",
        "n_prompt_tokens": 1,
        "n_tokens": 2,
        "finish_reason": "stop",
        "engine": "hf",
        "model": "m",
        "prompt_hash": "h",
        "error": "",
        "usd": None,
        **more,
    }


def write_plan(folder: Path, plan: dict) -> Plan:
    """Write `01_plan/plan.json` of a made-up study; what the plan's types need and a test leaves out is filled in.

    Args: plan: `study` (as a params file says it), and what a test names of `arms` (by name, with `samples`),
    `students`, `plan_id` and the rest of the plan.
    """
    study = check_study(plan["study"], "test")
    arms = {name: _planned_arm(study, name, given) for name, given in plan["arms"].items()}
    students = {}
    for name, given in plan.get("students", {}).items():
        students[name] = {"n_parameters": 1000, "learning_rate": 1.0e-3, "amount": 1.0} | given
    whole = {
        "plan_id": "p",
        "n_problems": {"train": 0, "validation": 0, "held_out": 0},
        "n_held_out": {},
        "dropped_problems": {},
        "n_near_duplicates": 0,
        "problems_sha256": {},
        "files": {},
        "versions": {},
    } | plan
    whole |= {"study": study.model_dump(mode="json"), "arms": arms, "students": students}
    typed = Plan.model_validate(whole)
    write_json(folder / "01_plan" / "plan.json", typed.model_dump(mode="json"))
    return typed


def _planned_arm(study: Study, name: str, given: dict) -> dict:
    """A planned arm of the kind that the study says, from what a test names of it."""
    spec, samples = study.arms[name], given["samples"]
    arm = {
        "exchange_ratio": 1.0,
        "budget_used": dict.fromkeys(samples, 1.0),
        "planned": {budget: {} for budget in samples},
        "planned_flops_per_token": None,
    }
    if isinstance(spec, MixedArm):
        parts = dict.fromkeys(spec.mix, 1.0)
        arm |= {"kind": "mixed", "shares": spec.mix, "parts": dict.fromkeys(samples, parts)}
        return arm | {key: given[key] for key in given if key in PlannedMixed.model_fields}
    facts = dict.fromkeys(ModelFacts.model_fields)
    if isinstance(spec, AdaptiveArm):
        kind, parent = "adaptive", study.arms[spec.adaptive.of]
        model, engine = parent.model, parent.engine
        arm["rule"] = spec.adaptive.model_dump()
    else:
        kind = "imported" if isinstance(spec, ImportedArm) else "drawn"
        model, engine = spec.model, spec.engine
    arm |= facts | {"kind": kind, "model": model, "engine": engine}
    return arm | {
        key: value for key, value in given.items() if not (key == "model" and value is None)
    }


# ------------------------------------------------------------------------------------------------ a finished study

BUDGETS = {"low": {"se": 1, "wc": 3, "ada": 1}, "high": {"se": 4, "wc": 12, "ada": 4}}
RATE = {"se": 0.5, "wc": 0.4, "ada": 0.5}
GAIN = {  # of students, by arm and recipe: wc's are better by 0.3 but where examples are of equal number
    ("se", "equal"): 0.02,
    ("wc", "equal"): 0.02,
    ("wc", "main"): 0.3,
    ("wc", "one"): 0.3,
    ("pooled", "main"): 0.3,
    ("reference", "main"): 0.2,
    ("planted", "main"): -0.2,
}
STUDY = {
    "study": "synthetic",
    "dataset": {"name": "nano", "n_train": 60, "n_held_out": 200, "levels": [1, 2]},
    "arms": {
        "se": {"model": "nano-se"},
        "wc": {"model": "nano-wc"},
        "ada": {"adaptive": {"of": "se"}},
    },
    "budget": {"reference": "se", "samples": {"low": 1, "high": 4}},
    "controls": {"pooled": True},
    "recipes": {
        "equal": {"n_examples": "equal", "budgets": ["high"]},
        "one": {"per_problem": 1, "budgets": ["high"]},
    },
    "students": {
        "small": {"model": "nano-student"},
        "wc": {"model": "nano-wc", "arms": ["se", "wc"]},
    },
    "evaluation": {"n_samples": 4, "top_k": 3, "maj_k": [1, 4]},
}


def finished_study(folder: Path, seeds=(0, 1), recipes=True, study=STUDY) -> Path:
    """The files of a finished study with uneven arms, recipes, seeds and a transfer set; its numbers can be counted by
    hand."""
    rng = np.random.default_rng(5)
    training = {"seeds": list(seeds), "draws": "shared", "amount": {"low": 2.0, "high": 4.0}}
    study = study | {"study": folder.name, "training": training}
    if not recipes:
        study = study | {"recipes": {}}
    plan = {
        "study": study,
        "arms": {arm: _finished_arm(arm) for arm in RATE},
        "students": _finished_students(study, seeds),
        "plan_id": "0123456789abcdef",
        "n_problems": {"train": 60, "validation": 0, "held_out": 300},
        "versions": {"python": "3.11"},
    }
    write_plan(folder, plan)
    ids = [f"t{i:03d}" for i in range(60)]
    train = _problems(ids, [str(1 + i % 2) for i in range(60)])
    held_out = _problems([f"h{i:03d}" for i in range(300)], "1")
    held_out["set"] = ["held_out"] * 200 + ["far"] * 100
    write_parquet(folder / "01_plan/train.parquet", train)
    write_parquet(folder / "01_plan/held_out.parquet", held_out)
    chance = dict(zip(ids, rng.beta(0.6, 0.6, 60)))
    for arm in RATE:
        _write_samples(folder, arm, chance, rng, ["main", *study["recipes"]])
        facts = {"finished": "2026-11-23T02:15:00", "machine": "2 × abacus"}
        manifest = {"plan_id": plan["plan_id"]} | facts
        write_json(folder / f"02_generate/{arm}/manifest.json", manifest)
    low = [("low", problem_id, i % 2 * 2) for i, problem_id in enumerate(ids)]
    high = [("high", problem_id, 2 + i % 2 * 4) for i, problem_id in enumerate(ids)]
    allocation = pd.DataFrame(low + high, columns=["budget", "problem_id", "n"])
    write_parquet(folder / "02_generate/ada/allocation.parquet", allocation.assign(draw=0))
    difficulty = rng.random(300)
    for student, entry in plan["students"].items():
        _write_student(folder, student, entry, held_out, difficulty, rng)
    return folder


def _problems(ids: list[str], level) -> pd.DataFrame:
    facts = {"question": "q", "answer": "7", "reference": "", "level": level, "tests": ""}
    return pd.DataFrame({"problem_id": ids} | facts)


def _finished_arm(arm: str) -> dict:
    return {
        "model": {"se": "nano-se", "wc": "nano-wc"}.get(arm),
        "n_parameters": {"se": 3e6, "wc": 1e6}.get(arm),
        "price": None,
        "planned_flops_per_token": {"se": 6e6, "wc": 2e6}.get(arm),
        "tokens_per_sample": 11.0,
        "samples": {budget: samples[arm] for budget, samples in BUDGETS.items()},
        "budget_used": dict.fromkeys(BUDGETS, 1.0),
    }


def _finished_students(study: dict, seeds) -> dict[str, dict]:
    students = {}
    nothing = dict.fromkeys(["arm", "budget", "paradigm", "seed"])
    for base in study["students"]:
        entry = {"base": base, "model": "nano-student", "recipe": "main"} | nothing
        students[f"{base}.base"] = entry | {"source": "base"}
        for seed in seeds:
            reference = {"source": "reference", "budget": "high", "seed": seed}
            students[f"{base}.reference.s{seed}"] = entry | reference
            planted = {"source": "planted", "arm": "se", "budget": "high", "seed": seed}
            students[f"{base}.planted.s{seed}"] = entry | planted
            for arm, recipe, budget in product(
                [*RATE, "pooled"], ["main", *study["recipes"]], BUDGETS
            ):
                if recipe != "main" and (arm == "pooled" or budget == "low"):
                    continue
                if (base, arm) == ("wc", "ada"):
                    continue
                source = {"source": "arm", "arm": arm}
                if arm == "pooled":
                    source = {"source": "pooled"}
                parts = [base, arm, budget, *([recipe] if recipe != "main" else []), f"s{seed}"]
                facts = {"budget": budget, "recipe": recipe, "seed": seed}
                facts["paradigm"] = "self" if base == arm else "kd"
                students[".".join(parts)] = entry | source | facts
    return students


def _write_samples(folder: Path, arm: str, chance: dict, rng, recipes: list[str]) -> None:
    """02 and 03 of an arm: three ways to write a right solution; of t000 the second sample is unverifiable."""
    ids = list(chance)
    n = {"se": [4] * 60, "wc": [12] * 60, "ada": [2 + 4 * (i % 2) for i in range(60)]}[arm]
    keys = [(arm, problem_id, i) for problem_id, k in zip(ids, n) for i in range(k)]
    rows = pd.DataFrame(keys, columns=KEY)
    rate = np.clip(rows["problem_id"].map(chance) + RATE[arm] - 0.5, 0.02, 0.98)
    is_right = rng.random(len(rows)) < rate
    index = rows["sample_index"]
    wrong = "#### " + (index % 2).astype(str)
    sums = (1 + index % 3).astype(str) + "+" + (6 - index % 3).astype(str) + "=7 #### 7"
    samples = rows.assign(
        seed=1,
        text=sums.where(is_right, wrong),
        n_prompt_tokens=5,
        n_tokens=rng.integers(3, 20, len(rows)),
        finish_reason="stop",
        engine="hf",
        model="nano-wc" if arm == "wc" else "nano-se",
        prompt_hash="",
        error="",
        usd=np.nan,
    )
    write_parquet(folder / f"02_generate/{arm}/part-00000.parquet", samples)
    verdict = pd.Series("correct", rows.index).where(is_right, "incorrect")
    verdict[(rows["problem_id"] == "t000") & (index == 1)] = "unverifiable"
    extracted = pd.Series("7", rows.index).where(is_right, (index % 2).astype(str))
    verdicts = rows.assign(extracted=extracted, verdict=verdict, reason="", verifier="v")
    correct = rows[verdict == "correct"]
    sound = pd.array((correct["sample_index"] % 3 != 0).to_numpy(), "boolean")
    judgements = correct.assign(sound=sound, judge="exact", reason="")
    undecided = pd.array([None] * len(correct), "boolean")
    examples = []
    for budget in BUDGETS:
        own = correct[correct["sample_index"] < BUDGETS[budget][arm]]
        for recipe in recipes:
            examples.append(own.assign(budget=budget, recipe=recipe, text="x"))
    flow = {"arm": arm, "budget": "high", "recipe": "main", "step": "samples", "reason": ""}
    tables = {
        "verdicts": verdicts,
        "judgements": judgements,
        "other_judgements": judgements.assign(sound=undecided, judge="arithmetic"),
        "judged": judged_rows(samples, verdicts, judgements, seed=0),
        "examples": pd.concat(examples),
        "flow": pd.DataFrame([flow | {"n": len(rows)}]),
    }
    for name, table in tables.items():
        write_parquet(folder / f"03_verify/{arm}/{name}.parquet", table)


def judge_only(folder: Path, arm: str, judgements: pd.DataFrame) -> None:
    """Put these judgements of the study's own judge in place of an arm's."""
    path = folder / f"03_verify/{arm}"
    write_parquet(path / "judgements.parquet", judgements)
    judged = with_judgements(read_parquet(path / "judged.parquet"), judgements)
    write_parquet(path / "judged.parquet", judged)


def _write_student(folder: Path, student: str, entry: dict, held_out, difficulty, rng) -> None:
    """04 and 05 of a student, who solves what is easy enough for its gain; a base never ends what is hard."""
    taught_by = entry["arm"] if entry["source"] == "arm" else entry["source"]
    gain = GAIN.get((taught_by, entry["recipe"]), 0.0)
    is_right = difficulty < 0.3 + gain + 0.01 * rng.normal()
    tested = folder / f"05_evaluate/{student}"
    keys = held_out[["problem_id"]].assign(author=student, sample_index=0)[KEY]
    greedy = np.where(is_right, "correct", "incorrect")
    write_parquet(tested / "verdicts-greedy.parquet", keys.assign(extracted="7", verdict=greedy))
    rows = keys.loc[keys.index.repeat(4)].assign(sample_index=np.tile(range(4), 300))
    drawn = np.repeat(is_right, 4) ^ (rng.random(1200) < 0.1)
    verdict, answers = np.where(drawn, "correct", "incorrect"), np.where(drawn, "7", "1")
    sampled = rows.assign(extracted=answers, verdict=verdict)
    write_parquet(tested / "verdicts-sampled.parquet", sampled)
    is_cut = (difficulty > 0.7) & (entry["source"] == "base")
    ends = pd.Series(np.where(is_cut, "length", "stop"), held_out["problem_id"])
    for decoding, drawn_rows in (("greedy", keys), ("sampled", rows)):
        finish_reason = drawn_rows["problem_id"].map(ends)
        facts = sample_row(0) | {"author": student, "finish_reason": finish_reason}
        samples = drawn_rows.assign(**{name: facts[name] for name in facts if name not in KEY})
        write_parquet(tested / decoding / "part-00000.parquet", samples)
    sound = pd.array(rng.random(drawn.sum()) < 0.8, "boolean")
    judged = rows[drawn].assign(sound=sound, judge="exact", reason="")
    write_parquet(tested / "judgements-sampled.parquet", judged)
    if entry["source"] != "base":
        report = {
            "loss_curve": [[1, 0.5, 0.0], [2, 0.4, 0.0]],
            "epochs": 2.0 if entry["arm"] == "wc" else 6.0,
            "n_examples": 90,
            "n_dropped_long": 0,
            "planned_flops": 1e9,
            "spent_flops": 1e9,
            "validation_curve": [],
            "n_tokens": 100,
            "best_step": 2,
            "steps": 2,
            "seconds": 1.0,
        }
        write_json(folder / f"04_finetune/{student}/report.json", report)
    if entry["source"] == "arm":
        examples = read_parquet(folder / f"03_verify/{entry['arm']}/examples.parquet")
        is_own = (examples["budget"] == entry["budget"]) & (examples["recipe"] == entry["recipe"])
        own = examples.loc[is_own, KEY]
        mean = {"wc": -5.0, "se": -10.0, "ada": -10.0}[entry["arm"]]
        likelihood = mean + rng.normal(size=len(own)) * 0.1
        gradients = list(rng.normal(size=(len(own), 4)) * -mean)
        rows = own.assign(log_likelihood=likelihood, n_tokens=10, rank=30.0, gradient=gradients)
        write_parquet(folder / f"04_finetune/{student}/fit.parquet", rows)


def verdict_rows(
    samples: pd.DataFrame,
    problems: pd.DataFrame,
    style: str,
    workers: int = 1,
    how: Verification | None = None,
) -> pd.DataFrame:
    """One verdict per sample, in the samples' order."""
    with verifier(style, workers, how) as verify:
        return verify(samples, problems)
