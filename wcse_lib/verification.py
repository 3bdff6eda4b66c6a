"""Room 03: verdicts, judgements and examples of one arm's samples."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from wcse_lib import judges
from wcse_lib.curation import select
from wcse_lib.records import KEY, read_parquet, read_samples, write_parquet
from wcse_lib.study import Machine, Run
from wcse_lib.verdicts import judgement_rows, verdict_rows


@dataclass(frozen=True)
class Verified:
    """One arm's verdicts, judgements and examples (a row per budget and example), and where every row went."""

    verdicts: pd.DataFrame
    judgements: pd.DataFrame
    examples: pd.DataFrame
    flow: pd.DataFrame


def judge_of(run: Run) -> str:
    """The judge that a study's reasoning can have without people or models: exact for nano, else arithmetic."""
    return "exact" if run.study.dataset.name == "nano" else "arithmetic"


def verify(run: Run, arm: str, machine: Machine) -> Verified:
    """Give every sample a verdict and every correct one a judgement, and admit examples at every budget.

    Writes `verdicts`, `judgements`, `examples`, `dropped` and `flow` as Parquet under `03_verify/<arm>/`.
    """
    problems = read_parquet(run.path("01", "train.parquet"))
    samples = read_samples(run.path("02", arm))
    samples = samples[samples["problem_id"].isin(problems["problem_id"])].reset_index(drop=True)
    verdicts = verdict_rows(samples, problems, run.study.prompt.answer_style, machine.workers)
    judgements = judgement_rows(samples, verdicts, problems, judge_of(run))
    frame = samples[[*KEY, "text"]].merge(verdicts, on=KEY, validate="one_to_one")
    frame = frame.merge(judgements[[*KEY, "sound"]], on=KEY, how="left", validate="one_to_one")
    examples, dropped, flow = [], [], []
    for budget, n in run.arm(arm)["samples"].items():
        drawn = frame[frame["sample_index"] < n]
        c = run.study.curation
        kept, left = select(drawn, filter=c.filter, unique=c.unique, per_problem=c.per_problem, seed=run.study.seed)
        examples.append(kept.assign(budget=budget))
        dropped.append(left.assign(budget=budget))
        steps = [("samples", len(drawn), ""), *(("dropped", n, reason) for reason, n in left["reason"].value_counts().items())]
        steps.append(("examples", len(kept), ""))
        flow += [{"arm": arm, "budget": budget, "step": step, "n": n, "reason": reason} for step, n, reason in steps]
    columns = [*KEY, "budget", "text"]
    result = Verified(
        verdicts,
        judgements,
        pd.concat(examples, ignore_index=True)[columns].rename(columns={"text": "completion"}),
        pd.DataFrame(flow, columns=["arm", "budget", "step", "n", "reason"]),
    )
    folder = run.path("03", arm)
    write_parquet(folder / "dropped.parquet", pd.concat(dropped, ignore_index=True)[[*KEY, "budget", "reason"]])
    for name in ("verdicts", "judgements", "examples", "flow"):
        write_parquet(folder / f"{name}.parquet", getattr(result, name))
    return result


def false_positives(run: Run, arm: str) -> pd.DataFrame:
    """Share of correct samples whose reasoning does not hold, by judge, with Wilson intervals."""
    return judges.false_positive_table(read_parquet(run.path("03", arm, "judgements.parquet")))


def three_rows(run: Run, arm: str, verified: Verified) -> str:
    """A correct sample, a correct one with unsound reasoning, and a wrong one, where there are such, as text."""
    samples = read_samples(run.path("02", arm)).merge(verified.verdicts, on=KEY)
    samples = samples.merge(verified.judgements[[*KEY, "sound", "reason"]], on=KEY, how="left", suffixes=("", "_judge"))
    correct, unsound = samples["verdict"] == "correct", samples["sound"].eq(False).fillna(False).astype(bool)
    problems = read_parquet(run.path("01", "train.parquet")).set_index("problem_id")
    parts = []
    for title, rows in (
        ("correct", samples[correct & ~unsound]),
        ("correct answer, unsound reasoning", samples[correct & unsound]),
        ("wrong", samples[samples["verdict"] == "incorrect"]),
    ):
        for row in rows.head(1).itertuples():
            problem = problems.loc[row.problem_id]
            why = row.reason_judge if title.startswith("correct answer") else row.reason
            parts.append(f"--- {title}: {why}\n{problem['question']}\n(gold: {problem['answer']}, extracted: {row.extracted})\n{row.text}")
    return "\n\n".join(parts)


def checks(run: Run, arm: str, verified: Verified) -> dict:
    """Facts about the verdicts. Raises AssertionError when a row was lost on the way or nothing could be verified."""
    for budget, part in verified.flow.groupby("budget"):
        n = part.groupby("step")["n"].sum()
        assert n.get("samples", 0) == n.get("dropped", 0) + n.get("examples", 0), f"rows were lost at budget {budget}"
    assert not verified.verdicts.duplicated(KEY).any(), "a verdict stands twice"
    counts = verified.verdicts["verdict"].value_counts()
    assert counts.get("correct", 0) + counts.get("incorrect", 0) > 0, "no sample could be verified"
    return {f"n_{verdict}": int(counts.get(verdict, 0)) for verdict in ("correct", "incorrect", "unverifiable")}
