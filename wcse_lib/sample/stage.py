"""02: draw one arm's samples for the training problems."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib.sample.drawing import draw, opened, progress
from wcse_lib.sample.engines import Decoding
from wcse_lib.sample.engines.surprisal import mean_surprisals
from wcse_lib.sample.imported import BLANK, check_token_counts, import_samples
from wcse_lib.sample.lost import check_lost_share, is_empty
from wcse_lib.sample.prompts import (
    load_tokenizer,
    messages,
    prompt_ids,
    prompt_text,
    stops,
)
from wcse_lib.sample.strangers import close_input
from wcse_lib.sample.uneven import draw_adaptive, draw_mix
from wcse_lib.store import (
    KEY,
    StudyError,
    read_json,
    read_parquet,
    read_samples,
    visible,
    write_json,
)
from wcse_lib.study import (
    ENDPOINTS,
    AdaptiveArm,
    ImportedArm,
    Machine,
    MixedArm,
    Run,
    load_machine,
    on_machine,
    resolve_model,
)
from wcse_lib.verdicts import spoken

COMPILING = "compiling.json"  # whether the model was compiled in the last drawing, and why
REASON_LENGTH = 120  # characters of an error by which failed samples are counted


def generate(
    run: Run, arm: str, machine: Machine, shard: tuple[int, int] | None = None
) -> pd.DataFrame:
    """Draw (or import) every sample that the plan gives this arm; returns all its rows. Resumes by key.

    Failed samples stay as rows with a reason, and are tried again by the next call. Raises EndpointDown, BatchesStopped
    and SpendingLimit (all ValueError) when an endpoint is dead, batches have not ended in time or the limit is reached:
    what came before is on disk.
    """
    with on_machine(run.path("02", arm), machine):
        return _generate(run, arm, machine, shard)


def _generate(run: Run, arm: str, machine: Machine, shard: tuple[int, int] | None) -> pd.DataFrame:
    spec = run.study.arms[arm]
    rule = run.study.rule_of(arm)
    if shard and (rule or arm not in run.study.plain_arms):
        raise StudyError(
            f"arms.{arm}: a mix or an adaptive arm is not drawn in shards; draw its parts so, and it in one piece"
        )
    if isinstance(spec, MixedArm):
        return draw_mix(run, arm)
    if rule:

        def draw_chosen(indices: Mapping[str, Collection[int]]) -> pd.DataFrame:
            return draw_arm(run, rule.of, machine, indices, author=arm)

        def read(samples: pd.DataFrame) -> np.ndarray:
            return _surprisals(run, rule.of, machine, samples)

        return draw_adaptive(run, arm, draw_chosen, machine.checkers, read)
    if isinstance(spec, ImportedArm):
        return _import_arm(run, arm)
    return draw_arm(run, arm, machine, n_samples(run, arm), shard=shard)


def draw_arm(
    run: Run,
    arm: str,
    machine: Machine,
    n: int | Mapping[str, Collection[int]],
    author: str | None = None,
    shard: tuple[int, int] | None = None,
) -> pd.DataFrame:
    """Draw samples from an arm's model, as `author` (or the arm), into the author's folder.

    Args: n: samples of every problem, or by problem_id their indices. Returns all rows of these keys; see
    `drawing.draw`.
    """
    spec, author = run.study.arms[arm], author or arm
    folder = run.path("02", author)
    if shard and spec.engine == "batch":
        raise StudyError(
            "--shard: batches are sent and noted by one process; leave it out for engine: batch"
        )
    if shard and spec.engine == "openai" and machine.limit_usd:
        raise StudyError(
            "limit_usd: shards cannot keep one limit together; leave --shard out, or limit_usd"
        )
    price = run.arm(arm).price
    timed = contextlib.nullcontext()
    if not (shard or spec.engine == "batch"):  # a batch's time is the server's queue
        timed = _timed(folder, n_devices=1 if spec.engine == "openai" else machine.devices)
    with opened(folder, spec.model, machine, engine=spec.engine, price=price) as source, timed:
        rows = draw(
            folder,
            author,
            read_parquet(run.path("01", "train.parquet")),
            n,
            source,
            prompt=run.study.prompt,
            decoding=_decoding(run, arm),
            seed=run.study.seed,
            model=spec.model,
            shard=shard,
        )
        how_compiled = source.how_compiled
    if how_compiled and not shard:
        write_json(folder / COMPILING, {"how": how_compiled})
        print(f"{author}: {how_compiled}")
    return rows


def _surprisals(run: Run, arm: str, machine: Machine, samples: pd.DataFrame) -> np.ndarray:
    """The mean surprisal of an arm's model by samples (problem_id, text) after their prompts, (n,)."""
    model = resolve_model(run.study.arms[arm].model)
    tokenizer = load_tokenizer(model)
    problems = read_parquet(run.path("01", "train.parquet"), ["problem_id", "question"])
    questions = problems.set_index("problem_id")["question"]
    texts = []
    for row in samples.itertuples():
        prompt = prompt_ids(tokenizer, questions[row.problem_id], run.study.prompt)
        texts.append((prompt, tokenizer(row.text, add_special_tokens=False)["input_ids"]))
    return mean_surprisals(
        model, machine, texts, progress(f"{arm} reads", len(texts), unit="texts")
    )


def _decoding(run: Run, arm: str) -> Decoding:
    spec, sampling = run.study.arms[arm], run.study.sampling
    return Decoding(
        temperature=run.study.temperature(spec),
        top_k=run.study.top_k(spec),
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        stop=stops(run.study.prompt, sampling.stop),
    )


@contextlib.contextmanager
def _timed(folder: Path, n_devices: float) -> Iterator[None]:
    """Note in `drawing.json` what a sample takes here, for budgets matched by seconds: of runs that ended, not of
    killed ones, nor of those that drew nothing."""
    start, n_before = time.monotonic(), len(read_samples(folder, KEY))
    try:
        yield
    finally:
        seconds = time.monotonic() - start
        n_new = len(read_samples(folder, KEY)) - n_before
        facts = _read_times(folder)
        if n_new > 0:
            facts["seconds"] += seconds
            facts["device_seconds"] += seconds * n_devices
            facts["n_samples"] += n_new
        write_json(folder / "drawing.json", facts)


def _read_times(folder: Path) -> dict:
    """Seconds that drawing took so far, the same times the devices that it held, and samples drawn in them."""
    path = folder / "drawing.json"
    if path.exists():
        return read_json(path)
    return {"seconds": 0.0, "device_seconds": 0.0, "n_samples": 0}


def _import_arm(run: Run, arm: str) -> pd.DataFrame:
    folder, n, match = run.path("02", arm), n_samples(run, arm), run.study.budget.match
    problems = read_parquet(run.path("01", "train.parquet"))
    # a file that holds too few for draws of their own was refused by 01
    n_bought = max(run.arm(arm).bought.values(), default=n)
    import_samples(folder, arm, run.study.arms[arm], problems, n, n_bought)
    rows = read_samples(folder)
    rows = rows[rows["sample_index"] < n].reset_index(drop=True)
    n_unknown = int((rows["n_tokens"] < 0).sum())
    check_token_counts(arm, run.study.arms[arm], n_unknown, len(rows), match)
    return rows


def n_samples(run: Run, arm: str) -> int:
    """The samples per problem that the arm's largest budget asks for, in all draws."""
    return run.draws(arm).n_in_blocks


def first_prompt(run: Run, arm: str) -> str:
    """The first problem's whole prompt with its token ids, to be looked at before anything is drawn."""
    return visible(_first_prompt(run, arm))


def _first_prompt(run: Run, arm: str) -> str:
    spec, prompt = run.study.arms[arm], run.study.prompt
    question = read_parquet(run.path("01", "train.parquet")).iloc[0]["question"]
    if isinstance(spec, MixedArm):
        names = ", ".join(run.arm(arm).shares)
        return f"(nothing is asked here: the samples are copies of {names}'s)\n\n{question}"
    if isinstance(spec, AdaptiveArm):
        spec = run.study.arms[spec.adaptive.of]
    if isinstance(spec, ImportedArm):
        return f"(imported from {spec.path}: how these samples were asked for is not known here)\n\n{question}"
    if spec.engine in ENDPOINTS:
        text = prompt_text(question, prompt)
        if prompt.style == "chat":
            text = json.dumps(messages(question, prompt), indent=1, ensure_ascii=False)
        return f"{text}\n\n(the endpoint makes the token ids)"
    tokenizer = load_tokenizer(resolve_model(spec.model))
    ids = prompt_ids(tokenizer, question, prompt)
    bos = "none"
    if tokenizer.bos_token_id is not None:
        bos = f"{tokenizer.bos_token!r} = {tokenizer.bos_token_id}"
    return f"{tokenizer.decode(ids)}\n\n{len(ids)} token ids (beginning of sequence: {bos}): {ids}"


def three_rows(rows: pd.DataFrame) -> str:
    """The first sample, the longest finished one, and a truncated one where there is any, as text."""
    finished = rows[rows["finish_reason"] == "stop"]
    truncated = rows[rows["finish_reason"] == "length"]
    chosen = pd.concat([rows.head(1), finished.nlargest(1, "n_tokens"), truncated.head(1)])
    texts = []
    for row in chosen.itertuples():
        head = f"--- {row.problem_id}, sample {row.sample_index}: {row.n_tokens} tokens, {row.finish_reason}"
        texts.append(f"{head}\n{row.text}")
    return visible("\n\n".join(texts))


def losses(run: Run, arm: str, rows: pd.DataFrame) -> pd.DataFrame:
    """What did not become a whole sample, by reason: truncated, failed, or left out of an import (reason, n)."""
    truncated = rows[rows["finish_reason"] == "length"]
    finished = rows[rows["finish_reason"] == "stop"]
    opened = run.plan.opened_thoughts(arm)
    n_in_thinking = int(spoken(truncated, opened)["in_thought"].sum())
    n_by_reason = {
        "truncated at max_tokens": len(truncated) - n_in_thinking,
        "truncated within its thinking": n_in_thinking,
        "ended within its thinking": int(spoken(finished, opened)["in_thought"].sum()),
    }
    errors = rows.loc[rows["finish_reason"] == "error", "error"].str.slice(0, REASON_LENGTH)
    n_by_reason |= errors.value_counts().to_dict()
    path = run.path("02", arm, "import.json")
    if path.exists():
        n_by_reason |= read_json(path)
    for total in ("rows", "samples"):
        n_by_reason.pop(total, None)
    lost = [(reason, n) for reason, n in n_by_reason.items() if n]
    return pd.DataFrame(lost, columns=["reason", "n"])


def checks(run: Run, arm: str, rows: pd.DataFrame) -> dict:
    """Facts about the drawn samples.

    Raises AssertionError when keys repeat, all failed, or some are missing, and StudyError when more than
    `sampling.max_failed_share` of them are failed, empty or truncated.
    """
    n_planned = run.plan.n_problems["train"] * n_samples(run, arm)
    allocation = run.path("02", arm, "allocation.parquet")
    if allocation.exists():
        n_by_budget = read_parquet(allocation).groupby("budget")["n"].sum()
        n_planned = int(n_by_budget.max())
    is_import = isinstance(run.study.arms[arm], ImportedArm)
    if is_import and run.arm(arm).bought:
        n_planned = run.plan.n_problems["train"] * max(run.arm(arm).bought.values())
    has_failed = rows["finish_reason"] == "error"
    whole = rows[~has_failed]
    assert not rows.duplicated(KEY).any(), "a sample stands twice"
    assert is_import or len(rows) == n_planned, f"{n_planned - len(rows)} samples are missing"
    assert len(rows), "no samples at all"
    assert len(whole), (
        f"every sample failed, the first with: {rows.loc[has_failed, 'error'].iloc[0]}; "
        "run again to draw them anew"
    )
    n_blank = read_json(run.path("02", arm, "import.json")).get(BLANK, 0) if is_import else 0
    most = run.study.sampling.max_failed_share
    check_lost_share(rows, run.path("02", arm), most, n_blank=n_blank)

    facts = {
        "n_samples": len(rows),
        "n_samples_planned": n_planned,
        "n_truncated": int((rows["finish_reason"] == "length").sum()),
        "n_failed": int(has_failed.sum()),
        "n_empty": int(is_empty(rows).sum()),
        "duplicate_rate": float(whole.duplicated(["problem_id", "text"]).mean()),
        "n_tokens": int(rows["n_tokens"].clip(lower=0).sum()),
        "n_samples_without_token_count": int((whole["n_tokens"] < 0).sum()),
    }
    # A note's words before its first colon say of what kind it is.
    notes = whole["error"].str.partition(":")[0]
    if (notes != "").any():
        facts["n_noted"] = notes[notes != ""].value_counts().to_dict()
    if rows["usd"].notna().any():
        facts["usd"] = float(rows["usd"].sum())
    times = _read_times(run.path("02", arm))
    if times["n_samples"]:
        facts["seconds"] = times["seconds"]
        facts["seconds_per_sample"] = times["device_seconds"] / times["n_samples"]
    if (run.path("02", arm) / COMPILING).exists():
        facts["how_compiled"] = read_json(run.path("02", arm, COMPILING))["how"]
    return facts


def main(argv: list[str] | None = None) -> int:
    """Draw a shard of an arm's problems, beside other processes; the pipeline then finds them and ends the stage."""
    parser = argparse.ArgumentParser(
        prog="python -m wcse_lib.sample.stage", description=main.__doc__
    )
    parser.add_argument("folder", help="the study's folder, where 01 has run, such as outputs/nano")
    parser.add_argument("arm")
    parser.add_argument(
        "--shard",
        required=True,
        metavar="I/K",
        help="every K-th problem from the I-th on, I = 0 … K-1",
    )
    parser.add_argument(
        "--machine", default="", help="where it runs, such as params/machine/gpu.yaml"
    )
    args = parser.parse_args(argv)
    i, _, k = args.shard.partition("/")
    if not (i.isdigit() and k.isdigit() and int(i) < int(k)):
        parser.error(f"--shard {args.shard}: two numbers I/K with I < K are needed, such as 0/16")
    close_input()
    try:
        generate(Run(args.folder), args.arm, load_machine(args.machine), (int(i), int(k)))
    except ValueError as error:
        print(visible(str(error)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
