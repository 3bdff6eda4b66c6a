"""What a pilot, a small study of the same arms, measured, and what it lets expect of the study's budgets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib import forecast
from wcse_lib.budget import PilotCounts, cost_each, decide, joined
from wcse_lib.metrics import UNIQUE
from wcse_lib.store import KEY, StudyError, is_complete, read_json, read_parquet, read_samples
from wcse_lib.study import Run, Study, check_study, resolve
from wcse_lib.verdicts import decided

MEASURED = ("tokens_per_sample", "prompt_tokens", "seconds_per_sample", "judge")
CAVEAT = (
    "Forecast intervals are nominal 95 %. In simulations they held what came 93 to 98 % of times for the coverage of arms, 95 to "
    "98 % for that of mixes, and 95 to 96 % for unique solutions, where success rates are beta-like (for arms also with problems "
    "that are never solved) and one partition describes how solutions repeat; for adaptive arms this was not tried. Where most "
    "rates lie apart from 0 (say half at 0.5 and half at 0.02) they lie too low, so that more samples buy more than is forecast."
)


def pilot_study(study: Study) -> Study:
    """The small study whose samples a study's 01 forecasts from: `<study>-pilot`, run through 03 before it.

    It has the same data, prompt, sampling and arms with a model, `pilot.n_problems` of the training problems and one
    budget. Its samples are the study's own first ones (same seeds): a pilot is part of what it forecasts.
    """
    data, pilot = study.model_dump(mode="json"), study.pilot
    n = study.dataset.n_train
    kept = {k: data[k] for k in ("title", "seed", "dataset", "prompt", "sampling", "verification")}
    kept["dataset"] |= {"n_train": min(n, pilot.n_problems) if n else pilot.n_problems}
    if study.verification.judge == "human":
        kept["verification"]["judge"] = "none"
    kept["arms"] = {name: data["arms"][name] for name, arm in study.arms.items() if arm.model}
    budget_ = {
        "reference": study.budget.reference,
        "samples": {"pilot": pilot.n_samples},
        "match": "count",
    }
    return check_study(
        kept | {"study": f"{study.study[:34]}-pilot", "budget": budget_},
        f"the pilot of {study.study}",
    )


def pilot_folder(study: Study, outputs: str | Path) -> Path:
    return (
        resolve(study.pilot.folder)
        if study.pilot.folder
        else resolve(outputs) / pilot_study(study).study
    )


def read_pilot(folder: Path, study: Study) -> dict[str, PilotCounts]:
    """Every arm's pilot, from a finished study's 02 and 03. Raises StudyError when it is missing or drawn otherwise."""
    remedy = "python -m wcse_lib.pipeline <the study's file> --until 01_plan draws the pilot first"
    if not (folder / "01_plan" / "plan.json").exists():
        raise StudyError(f"{folder}: the pilot is not there; {remedy}")
    run, out = Run(folder), {}
    if not study.pilot.folder:
        refuse_other(folder / "01_plan" / "plan.json", pilot_study(study))
    for name in (name for name, arm in study.arms.items() if arm.model):
        if run.arm(name)["model"] != study.arms[name].model:
            raise StudyError(
                f"{folder}: the pilot's {name} is {run.arm(name)['model']!r}, not {study.arms[name].model!r}"
            )
        for stage in ("02", "03"):
            if not is_complete(run.path(stage, name), run.plan_id):
                raise StudyError(f"{run.path(stage, name)}: the pilot is not complete; {remedy}")
        out[name] = _read_arm(run, name, UNIQUE[study.curation.unique] or UNIQUE["text"])
    return out


def _read_arm(run: Run, name: str, key: Callable) -> PilotCounts:
    rows = read_samples(run.path("02", name))
    rows = rows[rows["sample_index"] < max(run.arm(name)["samples"].values())]
    rows = rows.merge(
        read_parquet(run.path("03", name, "verdicts.parquet"), [*KEY, "verdict"]), on=KEY
    )
    drawn, facts = (
        rows[rows["finish_reason"] != "error"],
        read_json(run.path("02", name, "manifest.json")),
    )
    rows = rows[rows["verdict"] != "unverifiable"].assign(correct=rows["verdict"] == "correct")
    if rows["problem_id"].nunique() < 2:
        raise StudyError(
            f"{run.path('03', name)}: the pilot has verdicts on fewer than two problems; enlarge pilot.n_problems"
        )
    right = rows[rows["correct"]]
    sizes = (
        right.assign(same=[key(t) for t in right["text"]]).groupby(["problem_id", "same"]).size()
    )
    counts = rows.groupby("problem_id", sort=True)["correct"].agg(n="size", c="sum").astype(int)
    by_problem = sizes.groupby(level=0).agg(list)
    judged = right[KEY].merge(
        read_parquet(run.path("03", name, "judgements.parquet")).drop_duplicates(KEY), on=KEY
    )
    judged = judged[decided(judged)]
    faults = judged[judged["sound"].isin([False])]
    if len(judged) == len(
        right
    ):  # every correct one: then sound ones can be counted, and need not be estimated
        counts["s"] = counts["c"] - faults.groupby("problem_id").size().reindex(
            counts.index, fill_value=0
        )
    means = {
        c: float(drawn[c].mean()) if len(drawn) and (drawn[c] >= 0).all() else None
        for c in ("n_tokens", "n_prompt_tokens")
    }
    if means["n_tokens"] == 0:
        raise StudyError(
            f"arms.{name}: its {len(drawn)} pilot samples hold no token at all; check prompt and sampling.stop"
        )
    seconds = facts.get("seconds_per_sample")
    spent = {
        "tokens": drawn["n_tokens"].clip(lower=0).sum(),
        "prompt_tokens": drawn["n_prompt_tokens"].clip(lower=0).sum(),
        "seconds": facts.get("seconds") or 0,
        "usd": drawn["usd"].sum(),
        "samples": len(drawn),
    }
    path, asked, judge = (
        run.path("03", name, "judge.json"),
        run.study.verification.model_judge,
        None,
    )
    if asked and not asked.n_per_arm and len(drawn) and path.exists():
        judge = {
            unit: x / len(drawn)
            for unit, x in read_json(path).items()
            if unit in ("flops", "usd") and x
        }
    return PilotCounts(
        counts,
        [by_problem.get(p, []) for p in counts.index],
        (len(faults), len(judged)),
        means["n_tokens"],
        means["n_prompt_tokens"],
        seconds,
        judge,
        {k: float(v) for k, v in spent.items()},
    )


def facts(found: PilotCounts, arm: dict) -> dict:
    n, c = found.pair
    flops = (
        arm["planned_flops_per_token"] * found.spent["tokens"]
        if arm["planned_flops_per_token"]
        else 0.0
    )
    fit = forecast.fit_pilot(n, c)
    return {
        "n_problems": len(n),
        "n_samples": int(n.sum()),
        "pass_at_1": float((c / n).mean()),
        "n_false": found.false[0],
        "n_judged": found.false[1],
        "never_solved": fit.zero,
        "p_never_solved": fit.p_value,
        "spent": found.spent | {"flops": flops},
    }


def forecast_table(study: Study, arms: dict, pilot: dict[str, PilotCounts], n: int) -> pd.DataFrame:
    """What every arm should give at every budget in a study of n problems: arm, budget, k, metric, value, low, high, n."""
    rows: list[tuple] = []
    plain = {
        name: _expected(study, pilot[name], arm["samples"], n)
        for name, arm in arms.items()
        if study.arms[name].model
    }
    for name, arm in arms.items():
        spec = study.arms[name].adaptive
        if spec:  # as the same samples spread evenly, and what the rule gains on them
            gains = _gains(spec, arm["samples"], pilot[spec.of].pair, min(n, 500), study.seed)
            even = {b: np.array(plain[spec.of][b]["coverage"]) for b in arm["samples"]}
            rows += [
                (name, b, k, "coverage", *np.clip(even[b] + gains[b], 0, 1))
                for b, k in arm["samples"].items()
            ]
        elif name in plain:
            rows += [
                (name, b, k, *cells)
                for b, k in arm["samples"].items()
                for cells in _named(plain[name][b])
            ]
        else:
            for b, part in arm["parts"].items():
                rows.append(
                    (
                        name,
                        b,
                        sum(part.values()),
                        "coverage",
                        *forecast.forecast_mix(joined(pilot), part, n, study.seed),
                    )
                )
    table = pd.DataFrame(
        rows, columns=["arm", "budget", "k", "metric", "value", "low", "high"]
    ).astype({"k": float})
    return table.assign(n=n)


def _named(cells: dict[str, list[float]]) -> list[tuple]:
    return [(metric, *values) for metric, values in cells.items()]


def curves(pilot: dict[str, PilotCounts], k_most: int) -> pd.DataFrame:
    """Expected coverage of every arm after k = 1 … `k_most` samples: arm, k, value, low, high."""
    ks = np.unique(np.geomspace(1, k_most, 60).round(1))
    return pd.concat(
        [forecast.forecast_coverage(*f.pair, ks).assign(arm=a) for a, f in pilot.items()],
        ignore_index=True,
    )


def correlation(pilot: dict[str, PilotCounts]) -> float:
    """How much the first two arms solve the same problems of the pilot (0/1 outcomes); 0.5 where that cannot be told."""
    solved = [c > 0 for _, c in joined(pilot).values()][:2]
    usable = len(solved) == 2 and all(0 < s.mean() < 1 for s in solved)
    return float(np.clip(np.corrcoef(solved)[0, 1], 0, 0.95)) if usable else 0.5


def _expected(
    study: Study, found: PilotCounts, samples: dict[str, int], n: int
) -> dict[str, dict[str, list[float]]]:
    """What a plain arm should give in a study of n problems: {budget: {metric: [value, low, high]}}."""
    c, ks, how = study.curation, [*samples.values(), 1], {"seed": study.seed, "n_problems": n}
    metrics = {"coverage": forecast.forecast_coverage(*found.pair, ks, **how)}
    if found.sound:
        metrics["sound coverage"] = forecast.forecast_coverage(*found.sound, ks, **how)
    elif found.false[1]:
        metrics["sound coverage"] = forecast.forecast_coverage(
            *found.pair, ks, **how, false_positives=found.false
        )
    metrics["unique correct per problem"] = forecast.forecast_unique(
        *found.pair, found.groups, ks, study.seed, n_problems=n
    )
    cells = {
        metric: frame[["value", "low", "high"]].to_numpy(float) for metric, frame in metrics.items()
    }
    if (
        c.filter == "gold"
        and c.per_problem in (None, 1)
        and not (c.n_samples or c.n_problems or c.n_examples or c.noise)
    ):
        every = (
            cells["coverage"][-1] * np.array(ks)[:, None]
            if c.unique == "none"
            else cells["unique correct per problem"]
        )
        cells["examples"] = n * (every if c.per_problem is None else cells["coverage"])
    return {
        b: {metric: values[i].tolist() for metric, values in cells.items()}
        for i, b in enumerate(samples)
    }


def _gains(
    spec, ks: dict[str, int], pair: tuple, n: int, seed: int, size: int = 16
) -> dict[str, float]:
    """Coverage that an adaptive rule gains over k samples of every problem, from playing it on populations that could
    have given the pilot."""
    rng, gains = np.random.default_rng(seed), []
    for population in forecast.posterior(*pair).rates(size, rng):
        rates = rng.choice(population, n)
        found = _played(spec, {b: k * n for b, k in ks.items()}, rates, rng)
        gains.append([x - (1 - (1 - rates) ** k).mean() for x, k in zip(found, ks.values())])
    return dict(zip(ks, np.mean(gains, axis=0)))


def _played(spec, totals: dict[str, int], rates: np.ndarray, rng) -> list[float]:
    """Coverage at every total when an adaptive rule plays on problems of known success rates."""
    seen, right, at = np.zeros(len(rates), int), np.zeros(len(rates), int), {}

    def draw(wanted: np.ndarray) -> np.ndarray:
        right[:] += rng.binomial(wanted - seen, rates)
        seen[:] = wanted
        at[int(wanted.sum())] = float((right > 0).mean())
        return right.copy()

    decide(spec, totals, len(rates), draw)
    return [at[total] for total in totals.values()]


def _percent(row) -> str:
    return f"{100 * row.value:.0f} % ({100 * row.low:.0f} to {100 * row.high:.0f} %)"


def advise(study: Study, spend: dict, pilot: dict[str, PilotCounts]) -> dict:
    """`sentences`: what to buy at every budget and how sure that is, where curves cross, how far to trust forecasts; and
    `crossings`: arms, value, low and high in samples of the reference, p (the chance of one)."""
    pairs, more, out, crossings = (
        {a: found.pair for a, found in pilot.items()},
        spend["more"],
        [],
        [],
    )
    for b in sorted(study.budget.samples, key=study.budget.samples.get):
        each, judged = cost_each(spend, b), {a: found.false for a, found in pilot.items()}
        table = forecast.recommend(pairs, each, spend["budgets"][b], study.seed)
        best, rest = (
            table.iloc[0],
            "; ".join(f"{r.arm}, k = {r.k}: {_percent(r)}" for r in table.iloc[1:].itertuples()),
        )
        out.append(
            f"At the budget “{b}” buy {best.arm} with k = {best.k}: coverage {_percent(best)} is expected"
            + (
                f" ({rest}); the chance that it is the best single arm is {100 * best.p_best:.0f} %."
                if rest
                else "."
            )
        )
        if len(pilot) > 1 and all(n for _, n in judged.values()):
            counted = all(found.sound for found in pilot.values())
            sure = {a: found.sound if counted else found.pair for a, found in pilot.items()}
            rates = None if counted else judged
            sound = forecast.recommend(
                sure, each, spend["budgets"][b], study.seed, false_positives=rates
            ).iloc[0]
            out.append(
                f"Counting sound solutions alone it is {sound.arm}, k = {sound.k}: {_percent(sound)}, the best with a "
                f"chance of {100 * sound.p_best:.0f} %."
            )
        if len(pilot) > 1:
            mixes = forecast.best_mix(joined(pilot), each, spend["budgets"][b], study.seed)
            mix, single = (
                mixes.iloc[0],
                mixes[(mixes[list(pilot)] > 0).sum(axis=1) == 1]["value"].max(),
            )
            counts = " + ".join(f"{int(mix[a])} {a}" for a in pilot)
            alone = [a for a in pilot if mix[a] > 0]
            out.append(
                f"No mix of arms is forecast to do better there than {alone[0]} alone."
                if len(alone) == 1
                else f"The best mix there is {counts} samples per problem: coverage {100 * (mix.value - single):.1f} points above "
                f"the best single arm, with a chance of {100 * mix.p_beats_single:.0f} % to beat every one."
            )
    reference, most = study.budget.reference, 3 * max(spend["budgets"].values())
    for other in (a for a in pilot if a != reference):
        start = max(more[reference], more[other])
        two = {a: pairs[a] for a in (reference, other)}
        found = forecast.crossing(two, more, np.geomspace(start, most, 60), study.seed)
        unit, ends = (
            more[reference],
            f"between 1 and {most / more[reference]:.0f} samples of {reference}",
        )
        ahead = found["p_ahead"]
        text = f"{other} is ahead of {reference} with a chance of {100 * ahead[0]:.0f} % at the smallest and {100 * ahead[-1]:.0f} % at the largest budget {ends}"
        cross = [float(found[k] / unit) for k in ("value", "low", "high")]
        if found["p_crossing"] >= 0.5:
            crossings.append(
                {
                    "arms": [reference, other],
                    **dict(zip(("value", "low", "high"), cross)),
                    "p": float(found["p_crossing"]),
                }
            )
            text += f"; the curves cross at about {cross[0]:.1f} samples of {reference} ({cross[1]:.1f} to {cross[2]:.1f})"
        out.append(f"{text}; the chance of a crossing there is {100 * found['p_crossing']:.0f} %.")
    fits = {a: forecast.fit_pilot(*pair) for a, pair in pairs.items()}
    never = "; ".join(
        f"{a}: {100 * f.zero:.0f} % (p = {f.p_value:.2g})"
        if f.zero
        else f"{a}: none (p = {f.p_value:.2g})"
        for a, f in fits.items()
    )
    out.append(
        f"Problems that an arm would never solve, where a likelihood-ratio test finds such: {never}."
    )
    return {"sentences": [*out, CAVEAT], "crossings": crossings}


def refuse_other(path: Path, study: Study) -> None:
    """Refuse a plan whose rows were drawn otherwise than this study's would be; more samples and problems are fine."""
    if not path.exists():
        return
    old, new = (_identity(s) for s in (check_study(read_json(path)["study"], str(path)), study))
    both = set(old["arms"]) & set(new["arms"])
    old, new = (
        _leaves(data | {"arms": {name: data["arms"][name] for name in both}}) for data in (old, new)
    )
    differs = [
        f"{k}: {old.get(k)!r} there, {new.get(k)!r} now"
        for k in sorted(old | new)
        if old.get(k) != new.get(k)
    ]
    if differs:
        raise StudyError(
            f"{path}: a study of this name exists, drawn otherwise ({'; '.join(differs)}); "
            "rename the study, or delete its folder"
        )


def _identity(study: Study) -> dict:
    """The parameters that rows on disk depend on: arms may come and go, but not draw otherwise; how samples are read,
    chosen and learnt from, and how many there are, may change."""
    data = study.model_dump(mode="json")
    free = ("n_train", "n_held_out", "transfer", "decontaminate", "ngram")
    dataset = {k: v for k, v in data["dataset"].items() if k not in free}
    prompt = {k: v for k, v in data["prompt"].items() if k != "answer_style"}
    drawn = ("model", "engine", "path", "columns", "tokenizer", "temperature")
    arms = {name: {k: arm[k] for k in drawn} for name, arm in data["arms"].items() if arm["model"]}
    return {
        "seed": data["seed"],
        "dataset": dataset,
        "prompt": prompt,
        "sampling": data["sampling"],
        "arms": arms,
    }


def _leaves(data, prefix: str = "") -> dict:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(data, dict):
        return {prefix: data}
    return {
        k: v
        for key, part in data.items()
        for k, v in _leaves(part, f"{prefix}.{key}" if prefix else key).items()
    }
