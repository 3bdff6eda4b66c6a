"""Room 03: verdicts, judgements and examples of one arm's samples."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from wcse_lib import budget
from wcse_lib.sample import Decoding, draw, load_tokenizer, opened, without_thinking
from wcse_lib.store import (
    KEY,
    StudyError,
    iter_samples,
    parquet_writer,
    problem_range_filter,
    read_parquet,
    read_pieces,
    read_samples,
    write_json,
    write_parquet,
)
from wcse_lib.study import Curation, Machine, Prompt, Run, resolve, resolve_model
from wcse_lib.verdicts import JUDGEMENT_COLUMNS, VERDICTS, judged, verifier
from wcse_lib.verify import judges, labelling
from wcse_lib.verify.curate import Bounds, last_places, last_problem, left_places, select, stand_ins
from wcse_lib.verify.judging import judgement_rows, tell, three_kinds

CHOSEN = dict.fromkeys([*KEY, "budget", "recipe"], "string") | {"sample_index": "int64"}
JUDGEMENTS = dict.fromkeys(JUDGEMENT_COLUMNS, "string") | {
    "sample_index": "int64",
    "sound": "boolean",
}


@dataclass(frozen=True)
class Verified:
    """What 03 found, as small tables: samples by verdict and reason, false positives by judge, where every row went."""

    verdicts: pd.DataFrame
    false_positives: pd.DataFrame
    flow: pd.DataFrame


def judges_of(run: Run) -> list[str]:
    """The study's own judge, then every other that can be had; none where none is wanted, or where tests judge code."""
    v, nano = run.study.verification, run.study.dataset.name == "nano"
    free = (
        ["exact"] * nano
        + ["arithmetic"] * (v.by != "tests")
        + ["model"] * (v.model_judge is not None)
    )
    own = v.judge if v.judge != "auto" else [*free, "none"][0]
    return [] if own == "none" else list(dict.fromkeys([own, *free, "human"]))


def verify(run: Run, arm: str, machine: Machine) -> Verified:
    """Give every sample a verdict and every correct one judgements, and admit examples at every budget by every recipe.

    Writes under `03_verify/<arm>/`, as Parquet: `verdicts`; `judgements` (the study's own judge, one row a sample:
    correct ones, or all where a filter needs it) and `other_judgements`; `false_positives`; `examples` and `dropped` (a
    row per sample, budget and recipe) and `flow`. Samples are held a few problems at a time, but for those that a model
    judges. Raises StudyError when there are no samples or a recipe cannot be followed.
    """
    folder, problems, wanted = (
        run.path("03", arm),
        read_parquet(run.path("01", "train.parquet")),
        judges_of(run),
    )
    recipes = {"main": run.study.curation, **run.study.recipes}
    every = any(recipe.filter == "judge" for recipe in recipes.values())
    people, m, asked, counts = (
        labelling.judgements(labels(run)),
        run.study.verification.model_judge,
        [],
        [],
    )
    kinds = {"verdicts": VERDICTS, "judgements": JUDGEMENTS, "other_judgements": JUDGEMENTS}
    with contextlib.ExitStack() as files:
        check = files.enter_context(
            verifier(run.study.prompt.answer_style, machine.checkers, run.study.verification)
        )
        add = {
            name: files.enter_context(parquet_writer(folder / f"{name}.parquet", columns))
            for name, columns in kinds.items()
        }
        add |= {
            judge: add["judgements" if judge == wanted[0] else "other_judgements"]
            for judge in wanted
        }
        for samples in _pieces(run, arm, problems):
            rows = check(samples, problems)
            add["verdicts"](rows)
            for judge in {"exact", "arithmetic"} & set(wanted):
                add[judge](
                    judgement_rows(samples, rows, problems, judge, every and judge == wanted[0])
                )
            if "human" in wanted and len(people):
                add["human"](people.merge(rows[KEY], on=KEY))
            if "model" in wanted and every and wanted[0] == "model":
                asked.append(
                    samples.loc[
                        (samples["finish_reason"] == "stop") & (samples["text"].str.strip() != ""),
                        KEY,
                    ]
                )
            elif "model" in wanted:
                right = rows[rows["verdict"] == "correct"]
                asked.append(
                    (labelling.draw(right, m.n_per_arm, run.study.seed) if m.n_per_arm else right)[
                        [*KEY, "verdict"]
                    ]
                )
            short = rows["reason"].str.replace(r" in the (?:tests|code)\b.*", "", regex=True)
            counts.append(
                rows.assign(reason=short)
                .groupby(["verdict", "reason"])["problem_id"]
                .agg(n="size", n_problems="nunique")
            )
        if not counts:
            raise StudyError(
                f"{run.path('02', arm)}: no sample of this plan's problems; run 02_generate for {arm} first"
            )
        if "model" in wanted:
            add["model"](
                _ask_model(
                    run,
                    arm,
                    pd.concat(asked, ignore_index=True),
                    machine,
                    every and wanted[0] == "model",
                )
            )
    flow = _curate(run, arm, recipes, problems)
    counts = (
        pd.concat(counts)
        .groupby(level=[0, 1])
        .sum()
        .sort_values(["verdict", "n"], ascending=[True, False])
    )
    result = Verified(counts.reset_index(), false_positives(run, arm), flow)
    write_parquet(folder / "false_positives.parquet", result.false_positives)
    return result


def _curate(run: Run, arm: str, recipes: dict, problems: pd.DataFrame) -> pd.DataFrame:
    """Write `examples`, `dropped` and `flow`, and return the flow."""
    folder, out = run.path("03", arm), []
    choices = {
        (b, name): _choices(run, recipe, b) | {"seed": run.study.seed}
        for name, recipe in recipes.items()
        for b in getattr(recipe, "budgets", None) or run.arm(arm)["samples"]
    }
    bounds, reasons = _bounds(run, arm, choices, problems), {at: Counter() for at in choices}
    with (
        parquet_writer(folder / "dropped.parquet", CHOSEN | {"reason": "string"}) as drop,
        parquet_writer(folder / "examples.parquet", CHOSEN | {"text": "string"}) as keep,
    ):
        for samples, light in _light(run, arm, choices, problems):
            kept, left = [], []
            for (b, name), chosen in choices.items():
                examples, dropped = select(
                    run.rows_of_budget(light, arm, b), **chosen, bounds=bounds[b, name]
                )
                kept.append(examples[KEY].assign(budget=b, recipe=name))
                left.append(dropped.assign(budget=b, recipe=name))
                reasons[b, name].update({"": len(examples)})
                reasons[b, name].update(dropped["reason"])
            drop(pd.concat(left))
            keep(pd.concat(kept).merge(samples[[*KEY, "text"]], on=KEY))
    for (b, name), n in reasons.items():
        steps, n_examples = [("samples", n.total(), "")], n.pop("")
        steps += [("dropped", n_dropped, why) for why, n_dropped in n.most_common()]
        for step, count, why in [*steps, ("examples", n_examples, "")]:
            out.append(
                {"arm": arm, "budget": b, "recipe": name, "step": step, "n": count, "reason": why}
            )
    write_parquet(folder / "flow.parquet", pd.DataFrame(out))
    return pd.DataFrame(out)


def _bounds(
    run: Run, arm: str, choices: dict[tuple, dict], problems: pd.DataFrame
) -> dict[tuple, Bounds]:
    """What the choices ask of all samples at once: none but those that count problems or examples, or want noise."""
    last, places = (
        dict.fromkeys(choices, math.inf),
        {at: [] for at, c in choices.items() if c["n_examples"] or c["noise"]},
    )
    if counted := [at for at in choices if choices[at]["n_problems"]]:
        there = {b: set() for b, _ in counted}
        for keys in read_pieces(run.path("03", arm, "verdicts.parquet"), KEY):
            for b, ids in there.items():
                ids.update(run.rows_of_budget(keys, arm, b)["problem_id"])
        last |= {
            at: last_problem(there[at[0]], choices[at]["n_problems"], run.study.seed)
            for at in counted
        }
    for _, light in _light(run, arm, {at: choices[at] for at in places}, problems):
        for at, found in places.items():
            found.append(
                left_places(run.rows_of_budget(light, arm, at[0]), last[at], **choices[at])
            )
    bounds = {at: Bounds(place) for at, place in last.items()}
    for (b, name), found in places.items():
        try:
            ends = last_places(found, choices[b, name]["n_examples"], choices[b, name]["noise"])
        except ValueError as error:
            key = "curation" if name == "main" else f"recipes.{name}"
            raise StudyError(f"{key}: {arm} at budget {b}: {error}") from None
        bounds[b, name] = Bounds(last[b, name], *ends)
    return bounds


def _light(
    run: Run, arm: str, choices: dict, problems: pd.DataFrame
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Pieces of an arm's samples, and all that the choices need to know of them."""
    verdicts, judgements = (
        run.path("03", arm, f"{name}.parquet") for name in ("verdicts", "judgements")
    )
    kinds = {c["unique"] for c in choices.values()}
    for samples in _pieces(run, arm, problems) if choices else ():
        known = read_parquet(
            verdicts, [*KEY, "extracted", "verdict"], problem_range_filter(samples)
        )
        sound = read_parquet(judgements, [*KEY, "sound"], problem_range_filter(samples))
        rows = samples[[*KEY, "text", "finish_reason"]].merge(known, on=KEY, validate="one_to_one")
        yield (
            samples,
            stand_ins(
                rows.merge(sound, on=KEY, how="left", validate="one_to_one"), kinds, run.study.seed
            ),
        )


def _pieces(run: Run, arm: str, problems: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """An arm's samples of the plan's problems, a few problems at a time; what was only thought is left out."""
    for samples in iter_samples(run.path("02", arm), [*KEY, "text", "finish_reason"]):
        if len(samples := samples[samples["problem_id"].isin(problems["problem_id"])]):
            yield samples.assign(text=samples["text"].map(without_thinking)).reset_index(drop=True)


def _texts(run: Run, arm: str, keys: pd.DataFrame) -> pd.DataFrame:
    """These samples' rows with `text`, `question` and `answer`, in the order of `keys`."""
    problems = read_parquet(run.path("01", "train.parquet"))
    found = [
        samples[[*KEY, "text"]].merge(keys[KEY], on=KEY) for samples in _pieces(run, arm, problems)
    ]
    texts = pd.concat(found).merge(problems[["problem_id", "question", "answer"]], on="problem_id")
    return keys.merge(texts, on=KEY, validate="one_to_one")


def _choices(run: Run, recipe: Curation, b: str) -> dict:
    """What a recipe asks of `curation.select` at a budget; "equal" is for 04, which sees the examples of all arms."""
    choices = recipe.model_dump(exclude={"students", "budgets"})
    if recipe.n_samples == "reference":
        choices["n_samples"] = run.arm(run.study.budget.reference)["samples"][b]
    return choices | ({"n_examples": None} if recipe.n_examples == "equal" else {})


def _ask_model(
    run: Run, arm: str, asked: pd.DataFrame, machine: Machine, every: bool
) -> pd.DataFrame:
    """The judge model's judgements of samples: of all (`every`: then gold is not told), all correct ones, or n random ones.

    Equal solutions of a problem are judged once. What it says lies in `judge/`, resumable; its cost in `judge.json`.
    """
    m, folder = run.study.verification.model_judge, run.path("03", arm, "judge")
    asked = (
        labelling.draw(asked, m.n_per_arm, run.study.seed) if m.n_per_arm and not every else asked
    )
    asked = _texts(run, arm, asked[KEY])
    asked["question"] = [judges.case(q, text) for q, text in zip(asked["question"], asked["text"])]
    template, remote = judges.rubric(gold_known=not every), m.engine == "openai"
    model = m.model if remote else resolve_model(m.model)
    how = m.model, template, m.max_tokens, m.temperature
    asked["id"] = [
        hashlib.sha256(json.dumps([*how, case]).encode()).hexdigest()[:20]
        for case in asked["question"]
    ]
    cases = asked.drop_duplicates("id")[["id", "question"]].rename(columns={"id": "problem_id"})
    there = read_samples(folder)
    if not set(cases["problem_id"]) <= set(
        there.loc[there["finish_reason"] != "error", "problem_id"]
    ):
        tokenizer, options, b = (
            None if remote else load_tokenizer(model),
            machine.model_dump(),
            run.study.budget,
        )
        if remote:
            with contextlib.suppress(StudyError):  # without a price only the tokens are counted
                price = budget.read_price(resolve(b.prices), m.model, b.price_date)
                options |= {
                    "usd_per_million_in": price.get("input"),
                    "usd_per_million_out": price["output"],
                }
        prompt = Prompt(
            style="chat" if remote or tokenizer.chat_template else "plain", template=template
        )
        name, sampling = (
            "openai" if remote else machine.engine,
            Decoding(m.temperature, max_tokens=m.max_tokens),
        )
        with opened(folder, name, model, options) as engine:
            draw(
                folder,
                arm,
                cases,
                1,
                engine=engine,
                tokenizer=tokenizer,
                prompt=prompt,
                sampling=sampling,
                seed=run.study.seed,
                model=m.model,
                engine_name=name,
            )
        there = read_samples(folder)
    size = None if remote else budget.read_model(model).n_parameters
    n, n_tokens, n_prompt = (
        len(there),
        *(int(there[c].clip(lower=0).sum()) for c in ("n_tokens", "n_prompt_tokens")),
    )
    cost = {
        "model": m.model,
        "n_samples": n,
        "n_tokens": n_tokens,
        "n_prompt_tokens": n_prompt,
        "n_parameters": size,
    }
    cost["flops"] = budget.sampling_flops(size, n_tokens, n_prompt) if size and n else None
    cost["usd"] = float(there["usd"].sum()) if there["usd"].notna().any() else None
    write_json(run.path("03", arm, "judge.json"), cost)
    said = there.set_index("problem_id").loc[asked["id"], ["text", "finish_reason", "error"]]
    return judged(
        asked, "model", [judges.read_judgement(*one) for one in said.itertuples(index=False)]
    )


def false_positives(run: Run, arm: str) -> pd.DataFrame:
    """Share of correct samples whose reasoning does not hold, by judge, with intervals and how to read it."""
    files = [run.path("03", arm, f"{name}.parquet") for name in ("judgements", "other_judgements")]
    sums, said = [], []
    for verdicts in read_pieces(run.path("03", arm, "verdicts.parquet"), [*KEY, "verdict"]):
        judged = pd.concat(
            [
                read_parquet(file, JUDGEMENT_COLUMNS, problem_range_filter(verdicts))
                for file in files
            ],
            ignore_index=True,
        )
        rows = judged.merge(verdicts.loc[verdicts["verdict"] == "correct", KEY], on=KEY)
        sums.append(judges.by_problem(rows))
        if (rows["judge"] == "model").any():
            said.append(judges.calibration(rows))
    table = judges.false_positive_table(pd.concat(sums), run.study.seed)
    corrected = judges.corrected_table(pd.concat(said), run.study.seed) if said else table.head(0)
    return pd.concat(
        [part for part in (table, corrected) if len(part)] or [table], ignore_index=True
    )


def labels(run: Run) -> pd.DataFrame:
    """The labels that people have given in the panel."""
    return labelling.load(run.path("03", "labels.jsonl"))


def panel(run: Run, labeller: str, n: int):
    """The labelling panel over `n` random correct samples of every arm verified so far, mixed."""
    items = []
    for arm in run.plan["arms"]:
        if (path := run.path("03", arm, "verdicts.parquet")).exists():
            drawn = [
                labelling.draw(piece, n, run.study.seed)
                for piece in read_pieces(path, [*KEY, "verdict"])
            ]
            items.append(_texts(run, arm, labelling.draw(pd.concat(drawn), n, run.study.seed)))
    mixed = labelling.draw(pd.concat(items), n, run.study.seed)
    return labelling.panel(mixed, run.path("03", "labels.jsonl"), labeller)


def three_rows(run: Run, arm: str) -> str:
    """A correct sample, a correct one with unsound reasoning, and an incorrect one, where there are such, as text."""
    found = []
    for rows in read_pieces(run.path("03", arm, "verdicts.parquet")):
        sound = read_parquet(
            run.path("03", arm, "judgements.parquet"), filters=problem_range_filter(rows)
        ).rename(columns={"reason": "judge_reason"})
        found.append(
            three_kinds(rows.merge(sound[[*KEY, "sound", "judge_reason"]], on=KEY, how="left"))
        )
        if len(found[-1]) == 3:
            break
    return tell(
        _texts(
            run, arm, pd.concat(found).sort_values("kind", kind="stable").drop_duplicates("kind")
        )
    )


def checks(run: Run, arm: str, verified: Verified) -> dict:
    """Facts about the verdicts. Raises AssertionError when a row was lost on the way or nothing could be verified."""
    for at, part in verified.flow.groupby(["budget", "recipe"]):
        n = part.groupby("step")["n"].sum()
        assert n["samples"] == n.get("dropped", 0) + n["examples"], f"rows were lost at {at}"
    n_examples = sum(map(len, read_pieces(run.path("03", arm, "examples.parquet"), ["budget"])))
    assert n_examples == verified.flow.query("step == 'examples'")["n"].sum(), (
        "examples lost their texts"
    )
    n_verdicts, last, table = 0, pd.DataFrame(), verified.verdicts
    for keys in read_pieces(run.path("03", arm, "verdicts.parquet"), KEY):
        order = pd.MultiIndex.from_frame(
            pd.concat([last, keys])
        )  # by key, so that equal ones would stand side by side
        assert order.is_monotonic_increasing and order.is_unique, (
            "a verdict stands twice, or out of order"
        )
        n_verdicts, last = n_verdicts + len(keys), keys.tail(1)
    assert n_verdicts == table["n"].sum(), "a verdict is missing"
    n = table.groupby("verdict")["n"].sum()
    assert n.get("correct", 0) + n.get("incorrect", 0) > 0, "no sample could be verified"
    found = {
        f"n_{verdict}": int(n.get(verdict, 0))
        for verdict in ("correct", "incorrect", "unverifiable")
    }
    for name, why in (
        ("n_truncated", "truncated"),
        ("n_bad_gold", "gold cannot be parsed"),
        ("n_timeout", "timeout"),
    ):
        found[name] = int(table.loc[table["reason"].str.startswith(why), "n"].sum())
    return found
