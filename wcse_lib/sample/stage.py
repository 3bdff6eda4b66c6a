"""Room 02: draw one arm's samples for the training problems."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from wcse_lib.sample import uneven as allocation
from wcse_lib.sample.drawing import draw, opened
from wcse_lib.sample.engines import Decoding
from wcse_lib.sample.imported import import_samples
from wcse_lib.sample.prompts import (
    load_tokenizer,
    messages,
    prompt_ids,
    prompt_text,
    without_thinking,
)
from wcse_lib.store import KEY, StudyError, read_json, read_parquet, read_samples, write_json
from wcse_lib.study import Machine, Run, load_machine, resolve_model, weights_mark


def generate(
    run: Run, arm: str, machine: Machine, shard: tuple[int, int] | None = None
) -> pd.DataFrame:
    """Draw (or import) every sample that the plan gives this arm; returns all its rows. Resumes by key.

    Failed samples stay as rows with a reason, and are tried again by the next call. Raises EndpointDown and
    SpendingLimit (both ValueError) when an endpoint is dead or the limit is reached: what came before is on disk.
    """
    spec = run.study.arms[arm]
    if shard and not spec.model:
        raise StudyError(
            f"arms.{arm}: a mix or an adaptive arm is not drawn in shards; draw its parts so, and it in one piece"
        )
    if spec.mix:
        return allocation.mix(run, arm)
    if spec.adaptive:
        return allocation.adaptive(
            run, arm, lambda n: draw_arm(run, spec.adaptive.of, machine, n, arm), machine.checkers
        )
    if spec.engine == "import":
        return _imported(run, arm)
    return draw_arm(run, arm, machine, n_samples(run, arm), shard=shard)


def draw_arm(
    run: Run,
    source: str,
    machine: Machine,
    n: int | Mapping[str, int],
    author: str | None = None,
    shard: tuple[int, int] | None = None,
) -> pd.DataFrame:
    """Draw `n` samples a problem (one number, or by problem_id) from an arm's model, as `author` (or the arm), into its folder.

    Returns all rows of these keys; see `sampling.draw`.
    """
    spec, folder = run.study.arms[source], run.path("02", author or source)
    problems, s = read_parquet(run.path("01", "train.parquet")), run.study.sampling
    sampling = Decoding(run.study.temperature(spec), s.top_k, s.top_p, s.max_tokens, tuple(s.stop))
    options = machine.model_dump()
    if spec.engine == "openai":
        if shard and machine.limit_usd:
            raise StudyError(
                "limit_usd: shards cannot keep one limit together; leave --shard out, or limit_usd"
            )
        engine_name, model, tokenizer = "openai", spec.model, None
        price = run.arm(source)["price"] or {}
        options |= {
            "usd_per_million_in": price.get("input"),
            "usd_per_million_out": price.get("output"),
        }
    else:
        engine_name, model = machine.engine, resolve_model(spec.model)
        tokenizer = load_tokenizer(model)
    with opened(folder, engine_name, model, options) as engine:
        clock, before = time.monotonic(), len(read_samples(folder, KEY))
        try:
            return draw(
                folder,
                author or source,
                problems,
                n,
                engine=engine,
                tokenizer=tokenizer,
                prompt=run.study.prompt,
                sampling=sampling,
                seed=run.study.seed,
                model=spec.model,
                engine_name=engine_name,
                weights=weights_mark(model),
                shard=shard,
            )
        finally:
            if not shard:  # what a sample takes here, for budgets matched by seconds: of runs that ended, not killed ones
                old, new = _drawing(folder), len(read_samples(folder, KEY)) - before
                took, devices = (
                    time.monotonic() - clock,
                    1 if spec.engine == "openai" else machine.devices,
                )
                now = {
                    "seconds": old["seconds"] + took,
                    "device_seconds": old["device_seconds"] + took * devices,
                }
                now |= {"n_samples": old["n_samples"] + max(0, new)}
                write_json(folder / "drawing.json", now if new > 0 else old)


def _drawing(folder: Path) -> dict:
    """Seconds that drawing took so far, the same times the devices that it held, and samples drawn in them."""
    path = folder / "drawing.json"
    return (
        read_json(path)
        if path.exists()
        else {"seconds": 0.0, "device_seconds": 0.0, "n_samples": 0}
    )


def _imported(run: Run, arm: str) -> pd.DataFrame:
    folder, n, mode = run.path("02", arm), n_samples(run, arm), run.study.budget.match
    import_samples(
        folder, arm, run.study.arms[arm], read_parquet(run.path("01", "train.parquet")), n
    )
    rows = read_samples(folder)
    rows = rows[rows["sample_index"] < n].reset_index(drop=True)
    if (unknown := int((rows["n_tokens"] < 0).sum())) and mode in ("flops", "price", "seconds"):
        raise StudyError(
            f"arms.{arm}: {unknown} of {len(rows)} imported samples have no token count, so budget.match: {mode} cannot be "
            f"checked; name arms.{arm}.columns.n_tokens or arms.{arm}.tokenizer, or match by count, examples or coverage"
        )
    return rows


def n_samples(run: Run, arm: str) -> int:
    """The most samples per problem that any of the arm's budgets asks for."""
    return max(run.arm(arm)["samples"].values())


def first_prompt(run: Run, arm: str) -> str:
    """The first problem's whole prompt with its token ids, to be looked at before anything is drawn."""
    spec, prompt = run.study.arms[arm], run.study.prompt
    question = read_parquet(run.path("01", "train.parquet")).iloc[0]["question"]
    if spec.mix:
        return f"(nothing is asked here: the samples are copies of {', '.join(run.arm(arm)['mix'])}'s)\n\n{question}"
    spec = run.study.arms[spec.adaptive.of] if spec.adaptive else spec
    if spec.engine == "import":
        return f"(imported from {spec.path}: how these samples were asked for is not known here)\n\n{question}"
    if spec.engine == "openai":
        text = json.dumps(messages(question, prompt), indent=1, ensure_ascii=False)
        return f"{text if prompt.style == 'chat' else prompt_text(question, prompt)}\n\n(the endpoint makes the token ids)"
    tokenizer = load_tokenizer(resolve_model(spec.model))
    ids = prompt_ids(tokenizer, question, prompt)
    bos = (
        "none"
        if tokenizer.bos_token_id is None
        else f"{tokenizer.bos_token!r} = {tokenizer.bos_token_id}"
    )
    return f"{tokenizer.decode(ids)}\n\n{len(ids)} token ids (beginning of sequence: {bos}): {ids}"


def three_rows(rows: pd.DataFrame) -> str:
    """The first sample, the longest finished one, and a truncated one where there is any, as text."""
    finished = rows[rows["finish_reason"] == "stop"]
    chosen = pd.concat(
        [
            rows.head(1),
            finished.nlargest(1, "n_tokens"),
            rows[rows["finish_reason"] == "length"].head(1),
        ]
    )
    return "\n\n".join(
        f"--- {r.problem_id}, sample {r.sample_index}: {r.n_tokens} tokens, {r.finish_reason}\n{r.text}"
        for r in chosen.itertuples()
    )


def losses(run: Run, arm: str, rows: pd.DataFrame) -> pd.DataFrame:
    """What did not become a whole sample, by reason: truncated, failed, or left out of an import (reason, n)."""
    cut = rows[rows["finish_reason"] == "length"]
    thinking = sum(not without_thinking(text) for text in cut["text"] if "<think>" in text)
    counts = {
        "truncated at max_tokens": len(cut) - thinking,
        "truncated within its thinking": thinking,
    }
    counts |= (
        rows.loc[rows["finish_reason"] == "error", "error"]
        .str.slice(0, 120)
        .value_counts()
        .to_dict()
    )
    if (path := run.path("02", arm, "import.json")).exists():
        counts |= {k: n for k, n in read_json(path).items() if k not in ("rows", "samples")}
    return pd.DataFrame([(reason, n) for reason, n in counts.items() if n], columns=["reason", "n"])


def checks(run: Run, arm: str, rows: pd.DataFrame) -> dict:
    """Facts about the drawn samples. Raises AssertionError when keys repeat, all failed, or drawn samples are missing."""
    assert not rows.duplicated(KEY).any(), "a sample stands twice"
    drawn = run.study.arms[arm].engine != "import"
    expected, table = (
        run.plan["n_problems"]["train"] * n_samples(run, arm),
        run.path("02", arm, "allocation.parquet"),
    )
    if table.exists():
        expected = int(read_parquet(table).groupby("budget")["n"].sum().max())
    assert not drawn or len(rows) == expected, f"{expected - len(rows)} samples are missing"
    assert len(rows), "no samples at all"
    took = _drawing(run.path("02", arm))
    failed, whole = rows[rows["finish_reason"] == "error"], rows[rows["finish_reason"] != "error"]
    assert len(whole), f"every sample failed, the first with: {failed['error'].iloc[0]}"
    return {
        "n_samples": len(rows),
        "n_samples_planned": expected,
        "n_truncated": int((rows["finish_reason"] == "length").sum()),
        "n_failed": len(failed),
        "duplicate_rate": float(whole.duplicated(["problem_id", "text"]).mean()),
        "n_tokens": int(rows["n_tokens"].clip(lower=0).sum()),
        "n_samples_without_token_count": int((whole["n_tokens"] < 0).sum()),
        **({"usd": float(rows["usd"].sum())} if rows["usd"].notna().any() else {}),
        **(
            {
                "seconds": took["seconds"],
                "seconds_per_sample": took["device_seconds"] / took["n_samples"],
            }
            if took["n_samples"]
            else {}
        ),
    }


def main(argv: list[str] | None = None) -> int:
    """Draw a shard of an arm's problems, beside other processes; the pipeline then finds these samples and ends the stage."""
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
    try:
        generate(Run(args.folder), args.arm, load_machine(args.machine), (int(i), int(k)))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
