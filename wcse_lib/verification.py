"""Room 03: verdicts, judgements and examples of one arm's samples."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wcse_lib import budget, judges, labelling, records
from wcse_lib.curation import select, stand_ins
from wcse_lib.engines import Sampling, open_engine
from wcse_lib.prompts import load_tokenizer, without_thinking
from wcse_lib.records import KEY, StudyError, read_parquet, read_samples, sample_pieces, write_json, write_parquet
from wcse_lib.sampling import draw
from wcse_lib.study import Curation, Machine, Prompt, Run, resolve, resolve_model
from wcse_lib.verdicts import JUDGEMENT_COLUMNS, VERDICTS, judged, judgement_rows, tell, three_kinds, verifier

CHOSEN = dict.fromkeys([*KEY, "budget", "recipe"], "string") | {"sample_index": "int64"}


@dataclass(frozen=True)
class Verified:
    """What 03 found, as small tables: samples by verdict and reason, false positives by judge, where every row went."""

    verdicts: pd.DataFrame
    false_positives: pd.DataFrame
    flow: pd.DataFrame


def judges_of(run: Run) -> list[str]:
    """The study's own judge, then every other that can be had; none where none is wanted, or where tests judge code."""
    v, nano = run.study.verification, run.study.dataset.name == "nano"
    free = ["exact"] * nano + ["arithmetic"] * (v.by != "tests") + ["model"] * (v.model_judge is not None)
    own = v.judge if v.judge != "auto" else [*free, "none"][0]
    return [] if own == "none" else list(dict.fromkeys([own, *free, "human"]))


def verify(run: Run, arm: str, machine: Machine) -> Verified:
    """Give every sample a verdict and every correct one judgements, and admit examples at every budget by every recipe.

    Writes under `03_verify/<arm>/`, as Parquet: `verdicts`; `judgements` (the study's own judge, one row a sample:
    correct ones, or all where a filter needs it) and `other_judgements`; `false_positives`; `examples` and `dropped` (a
    row per sample, budget and recipe) and `flow`. Texts are held a few problems at a time. Raises StudyError when there
    are no samples or a recipe cannot be followed.
    """
    folder, problems, wanted = run.path("03", arm), read_parquet(run.path("01", "train.parquet")), judges_of(run)
    recipes = {"main": run.study.curation, **run.study.recipes}
    every = any(recipe.filter == "judge" for recipe in recipes.values())
    light, judgements = [], {judge: [] for judge in wanted}

    def verdicts() -> Iterator[pd.DataFrame]:
        kinds = {recipe.unique for recipe in recipes.values()}
        with verifier(run.study.prompt.answer_style, machine.workers, run.study.verification) as check:
            for samples in _pieces(run, arm, problems):
                rows = check(samples, problems)
                for judge in {"exact", "arithmetic"} & set(wanted):
                    judge_all = every and judge == wanted[0]
                    judgements[judge].append(judgement_rows(samples, rows, problems, judge, judge_all))
                short = rows["reason"].str.replace(r" in (?:test \d+|the code)\b.*", "", regex=True)
                answered = np.where(rows["extracted"].notna(), 1.0, np.nan)
                frame = samples[[*KEY, "text", "finish_reason"]].assign(verdict=rows["verdict"], extracted=answered)
                light.append(stand_ins(frame.assign(why=short), kinds, run.study.seed))
                yield rows

    records.write_pieces(folder / "verdicts.parquet", VERDICTS, verdicts())
    if not light:
        raise StudyError(f"{run.path('02', arm)}: no sample of this plan's problems; run 02_generate for {arm} first")
    words = dict.fromkeys(("verdict", "why", "finish_reason"), "category")  # few different ones, millions of rows
    rows = pd.concat(light, ignore_index=True).astype(words)
    light.clear()
    if "human" in wanted:
        judgements["human"].append(labelling.judgements(labels(run)).merge(rows[KEY], on=KEY))
    if "model" in wanted:
        judgements["model"].append(_ask_model(run, arm, rows, machine, every and wanted[0] == "model"))
    none = judged(rows.head(0), "", [])
    own, *others = [pd.concat([none, *judgements[judge]], ignore_index=True) for judge in wanted] or [none]
    write_parquet(folder / "judgements.parquet", own)
    write_parquet(folder / "other_judgements.parquet", pd.concat([none, *others], ignore_index=True))
    rows = rows.merge(own[[*KEY, "sound"]], on=KEY, how="left", validate="one_to_one")
    flow = _curate(run, arm, rows, recipes, problems)
    kinds = rows.rename(columns={"why": "reason"}).groupby(["verdict", "reason"], observed=True)["problem_id"]
    counts = kinds.agg(n="size", n_problems="nunique").sort_values(["verdict", "n"], ascending=[True, False])
    result = Verified(counts.reset_index(), false_positives(run, arm), flow)
    write_parquet(folder / "false_positives.parquet", result.false_positives)
    return result


def _curate(run: Run, arm: str, rows: pd.DataFrame, recipes: dict, problems: pd.DataFrame) -> pd.DataFrame:
    """Write `examples`, `dropped` and `flow`, and return the flow."""
    kept, flow, folder = [], [], run.path("03", arm)

    def dropped() -> Iterator[pd.DataFrame]:
        for name, recipe in recipes.items():
            for b in getattr(recipe, "budgets", None) or run.arm(arm)["samples"]:
                at, drawn = {"budget": b, "recipe": name}, run.drawn(rows, arm, b)
                try:
                    examples, left = select(drawn, **_choices(run, recipe, b), seed=run.study.seed)
                except ValueError as error:
                    key = "curation" if name == "main" else f"recipes.{name}"
                    raise StudyError(f"{key}: {arm} at budget {b}: {error}") from None
                kept.append(examples[KEY].assign(**at))
                steps = [("dropped", n, why) for why, n in left["reason"].value_counts().items()]
                for step, n, why in [("samples", len(drawn), ""), *steps, ("examples", len(examples), "")]:
                    flow.append({"arm": arm, **at, "step": step, "n": n, "reason": why})
                yield left.assign(**at)

    def examples() -> Iterator[pd.DataFrame]:
        chosen = pd.concat(kept, ignore_index=True)
        for samples in _pieces(run, arm, problems):
            yield chosen.merge(samples[[*KEY, "text"]], on=KEY).rename(columns={"text": "completion"})

    records.write_pieces(folder / "dropped.parquet", CHOSEN | {"reason": "string"}, dropped())
    records.write_pieces(folder / "examples.parquet", CHOSEN | {"completion": "string"}, examples())
    write_parquet(folder / "flow.parquet", pd.DataFrame(flow))
    return pd.DataFrame(flow)


def _pieces(run: Run, arm: str, problems: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """An arm's samples of the plan's problems, a few problems at a time; what was only thought is left out."""
    for samples in sample_pieces(run.path("02", arm)):
        if len(samples := samples[samples["problem_id"].isin(problems["problem_id"])]):
            texts = samples["text"].map(without_thinking) if run.study.prompt.thinking else samples["text"]
            yield samples.assign(text=texts).reset_index(drop=True)


def _texts(run: Run, arm: str, keys: pd.DataFrame) -> pd.DataFrame:
    """These samples' rows with `text`, `question` and `answer`, in the order of `keys`."""
    problems = read_parquet(run.path("01", "train.parquet"))
    found = [samples[[*KEY, "text"]].merge(keys[KEY], on=KEY) for samples in _pieces(run, arm, problems)]
    texts = pd.concat(found).merge(problems[["problem_id", "question", "answer"]], on="problem_id")
    return keys.merge(texts, on=KEY, validate="one_to_one")


def _choices(run: Run, recipe: Curation, b: str) -> dict:
    """What a recipe asks of `curation.select` at a budget; "equal" is for 04, which sees the examples of all arms."""
    choices = recipe.model_dump(exclude={"students", "budgets"})
    if recipe.n_samples == "reference":
        choices["n_samples"] = run.arm(run.study.budget.reference)["samples"][b]
    return choices | ({"n_examples": None} if recipe.n_examples == "equal" else {})


def _ask_model(run: Run, arm: str, rows: pd.DataFrame, machine: Machine, every: bool) -> pd.DataFrame:
    """The judge model's judgements: of all samples (then gold is not told), all correct ones, or n random ones.

    Equal solutions of a problem are judged once. What it says lies in `judge/`, resumable; its cost in `judge.json`.
    """
    m, folder = run.study.verification.model_judge, run.path("03", arm, "judge")
    asked = rows[(rows["finish_reason"] == "stop") & ~rows["blank"]] if every else rows[rows["verdict"] == "correct"]
    asked = labelling.draw(asked, m.n_per_arm, run.study.seed) if m.n_per_arm and not every else asked
    asked = _texts(run, arm, asked[KEY])
    asked["question"] = [judges.case(q, text) for q, text in zip(asked["question"], asked["text"])]
    template, remote = judges.rubric(gold_known=not every), m.engine == "openai"
    model = m.model if remote else resolve_model(m.model)
    how = m.model, template, m.max_tokens, m.temperature
    asked["id"] = [hashlib.sha256(json.dumps([*how, case]).encode()).hexdigest()[:20] for case in asked["question"]]
    cases = asked.drop_duplicates("id")[["id", "question"]].rename(columns={"id": "problem_id"})
    there = read_samples(folder)
    if not set(cases["problem_id"]) <= set(there.loc[there["finish_reason"] != "error", "problem_id"]):
        tokenizer, options = None if remote else load_tokenizer(model), machine.model_dump(exclude_none=True)
        if remote:
            with contextlib.suppress(StudyError):  # without a price only the tokens are counted
                price = budget.read_price(resolve(run.study.budget.prices), m.model)
                options |= {"usd_per_million_in": price.get("input"), "usd_per_million_out": price["output"]}
        prompt = Prompt(style="chat" if remote or tokenizer.chat_template else "plain", template=template)
        name, sampling = "openai" if remote else machine.engine, Sampling(m.temperature, max_tokens=m.max_tokens)
        engine = open_engine(name, model, options)
        try:
            draw(folder, arm, cases, 1, engine, tokenizer, prompt, sampling, run.study.seed, m.model, name)
        finally:
            engine.close()
        there = read_samples(folder)
    size = None if remote else budget.read_model(model).n_parameters
    n, n_tokens, n_prompt = len(there), *(int(there[c].clip(lower=0).sum()) for c in ("n_tokens", "n_prompt_tokens"))
    cost = {"model": m.model, "n_samples": n, "n_tokens": n_tokens, "n_prompt_tokens": n_prompt, "n_parameters": size}
    cost["flops"] = budget.sampling_flops(size, n_tokens, n_prompt) if size and n else None
    cost["usd"] = float(there["usd"].sum()) if there["usd"].notna().any() else None
    write_json(run.path("03", arm, "judge.json"), cost)
    said = there.set_index("problem_id").loc[asked["id"], ["text", "finish_reason", "error"]]
    return judged(asked, "model", [judges.read_judgement(*one) for one in said.itertuples(index=False)])


def false_positives(run: Run, arm: str) -> pd.DataFrame:
    """Share of correct samples whose reasoning does not hold, by judge, with intervals and how to read it."""
    verdicts = read_parquet(run.path("03", arm, "verdicts.parquet"), [*KEY, "verdict"])
    correct = verdicts.loc[verdicts["verdict"] == "correct", KEY]
    files = (run.path("03", arm, f"{name}.parquet") for name in ("judgements", "other_judgements"))
    rows = pd.concat(map(read_parquet, files), ignore_index=True)[JUDGEMENT_COLUMNS].merge(correct, on=KEY)
    tables = [table for table in (judges.false_positive_table(rows), judges.corrected_table(rows)) if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else judges.false_positive_table(rows)


def labels(run: Run) -> pd.DataFrame:
    """The labels that people have given in the panel."""
    return labelling.load(run.path("03", "labels.jsonl"))


def panel(run: Run, labeller: str, n: int):
    """The labelling panel over `n` random correct samples of every arm verified so far, mixed."""
    items = []
    for arm in run.plan["arms"]:
        if (path := run.path("03", arm, "verdicts.parquet")).exists():
            drawn = labelling.draw(read_parquet(path, [*KEY, "verdict"]), n, run.study.seed)
            items.append(_texts(run, arm, drawn))
    mixed = labelling.draw(pd.concat(items), n, run.study.seed)
    return labelling.panel(mixed, run.path("03", "labels.jsonl"), labeller)


def three_rows(run: Run, arm: str) -> str:
    """A correct sample, a correct one with unsound reasoning, and an incorrect one, where there are such, as text."""
    rows = read_parquet(run.path("03", arm, "verdicts.parquet"))
    sound = read_parquet(run.path("03", arm, "judgements.parquet")).rename(columns={"reason": "judge_reason"})
    chosen = three_kinds(rows.merge(sound[[*KEY, "sound", "judge_reason"]], on=KEY, how="left"))
    return tell(_texts(run, arm, chosen))


def checks(run: Run, arm: str, verified: Verified) -> dict:
    """Facts about the verdicts. Raises AssertionError when a row was lost on the way or nothing could be verified."""
    for at, part in verified.flow.groupby(["budget", "recipe"]):
        n = part.groupby("step")["n"].sum()
        assert n["samples"] == n.get("dropped", 0) + n["examples"], f"rows were lost at {at}"
    examples = read_parquet(run.path("03", arm, "examples.parquet"), ["budget"])
    assert len(examples) == verified.flow.query("step == 'examples'")["n"].sum(), "examples lost their texts"
    keys, table = read_parquet(run.path("03", arm, "verdicts.parquet"), KEY), verified.verdicts
    assert not keys.duplicated().any() and len(keys) == table["n"].sum(), "a verdict is missing, or stands twice"
    n = table.groupby("verdict")["n"].sum()
    assert n.get("correct", 0) + n.get("incorrect", 0) > 0, "no sample could be verified"
    found = {f"n_{verdict}": int(n.get(verdict, 0)) for verdict in ("correct", "incorrect", "unverifiable")}
    for name, why in (("n_truncated", "truncated"), ("n_bad_gold", "gold cannot be parsed"), ("n_timeout", "timeout")):
        found[name] = int(table.loc[table["reason"].str.startswith(why), "n"].sum())
    return found
