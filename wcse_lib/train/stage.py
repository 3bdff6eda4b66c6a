"""Room 04: give each student its examples, train it, and choose its best checkpoint on validation problems."""

from __future__ import annotations

import html
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from wcse_lib import intervals
from wcse_lib import store as records
from wcse_lib.plan import MAIN, settings
from wcse_lib.sample import (
    Decoding,
    HFEngine,
    Request,
    each_student,
    load_tokenizer,
    progress,
    prompt_ids,
    set_threads,
    stops,
    without_thinking,
)
from wcse_lib.store import (
    KEY,
    StudyError,
    is_complete,
    iter_samples,
    problem_range_filter,
    read_json,
    read_parquet,
)
from wcse_lib.study import Machine, Run, resolve_model, sample_seed
from wcse_lib.train import trainer as finetune
from wcse_lib.verdicts import verifier


def examples_of(run: Run, student: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The examples (KEY columns, `completion`) that a student is trained on, and those cut to make arms' counts equal.

    An arm's by its recipe, those of all plain arms (pooled), reference solutions, or its own wrong samples, each at the
    student's budget. Which are cut hangs on keys and the study's seed alone. Raises StudyError when none are left.
    """
    entry = run.student(student)
    source, arm, budget, recipe = (entry[key] for key in ("source", "arm", "budget", "recipe"))
    cut = None
    if source == "reference":
        frame = read_parquet(run.path("01", "train.parquet")).query("reference != ''")
        frame = frame.assign(author="reference", sample_index=0).rename(
            columns={"reference": "text"}
        )
    elif source == "wrong":
        path, frames = run.path("03", arm, "verdicts.parquet"), []
        for samples in iter_samples(run.path("02", arm), [*KEY, "text"]):
            verdicts = read_parquet(
                path,
                [*KEY, "extracted"],
                [*problem_range_filter(samples), ("verdict", "==", "incorrect")],
            )
            frames.append(
                samples.merge(
                    run.rows_of_budget(verdicts.dropna(subset="extracted"), arm, budget)[KEY],
                    on=KEY,
                )
            )
        frame = pd.concat(frames or [pd.DataFrame(columns=[*KEY, "text"])])
    elif source == "pooled":
        plain = [name for name, spec in run.study.arms.items() if spec.model is not None]
        frame = pd.concat([_examples(run, name, budget, MAIN) for name in plain])
    else:
        frame = _examples(run, arm, budget, recipe)
        if (
            run.study.curation if recipe == MAIN else run.study.recipes[recipe]
        ).n_examples == "equal":
            same = ("arm", budget, recipe)
            peers = {
                e["arm"]
                for e in run.plan["students"].values()
                if (e["source"], e["budget"], e["recipe"]) == same
            }
            n = min(len(_examples(run, name, budget, recipe, ["sample_index"])) for name in peers)
            place = [
                sample_seed(run.study.seed, *key) for key in frame[KEY].itertuples(index=False)
            ]
            cut = pd.Series(place, frame.index).rank(method="first") > n
    if frame.empty or (cut is not None and cut.all()):
        raise StudyError(
            f"{student}: no examples to train on; see 03_verify for why samples were dropped"
        )
    frame = frame[[*KEY, "text"]].reset_index(drop=True)
    cut = pd.Series(False, frame.index) if cut is None else cut.reset_index(drop=True)
    return frame[~cut].reset_index(drop=True), frame[cut].reset_index(drop=True)


def _examples(
    run: Run, arm: str, budget: str, recipe: str, columns: list[str] | None = None
) -> pd.DataFrame:
    chosen = [("budget", "==", budget), ("recipe", "==", recipe)]
    return read_parquet(run.path("03", arm, "examples.parquet"), columns or [*KEY, "text"], chosen)


def encoded_rows(
    run: Run, student: str, tokenizer
) -> tuple[list[dict], pd.DataFrame, pd.DataFrame]:
    """Training rows, their examples, and the examples dropped, with a reason each (KEY columns, `reason`).

    Refuses a held-out or validation problem among the examples, by its id or its very question, and whatever
    finetune.check_rows refuses.
    """
    examples, cut = examples_of(run, student)
    p, questions = (
        run.study.prompt,
        read_parquet(run.path("01", "train.parquet")).set_index("problem_id")["question"],
    )
    asked = questions[examples["problem_id"].unique()]
    for split in ("held_out", "validation"):
        others = read_parquet(run.path("01", f"{split}.parquet"))
        leaked = asked[
            asked.index.isin(others["problem_id"]) | asked.isin(others["question"]).to_numpy()
        ]
        if len(leaked):
            raise StudyError(
                f"{student}: {len(leaked)} training problems are {split} ones, such as {leaked.index[0]}"
            )
    prompts = {i: prompt_ids(tokenizer, question, p) for i, question in asked.items()}
    end_id, limit, rows, reasons = (
        finetune.end_token(tokenizer, p.style),
        run.study.training.max_tokens,
        [],
        [],
    )
    for row in examples.itertuples():
        text = without_thinking(row.text)
        rows.append(
            finetune.encode(tokenizer, prompts[row.problem_id], text, limit, end_id)
            if text
            else None
        )
        reasons.append(
            ""
            if rows[-1]
            else f"longer than {limit} tokens"
            if text
            else "nothing after its thinking"
        )
    reasons, kept = pd.Series(reasons, dtype=object), [row for row in rows if row is not None]
    finetune.check_rows(kept, tokenizer, end_id)
    cut = cut.assign(reason="over the count of the arm with fewest examples")
    dropped = pd.concat([cut, examples.assign(reason=reasons)[reasons != ""]], ignore_index=True)
    return kept, examples[reasons == ""].reset_index(drop=True), dropped[[*KEY, "reason"]]


def train_students(run: Run, students: list[str], machine: Machine) -> pd.DataFrame:
    """Train the named students (all that need it when empty); returns one row per student from its train report.

    Finished students are not trained again, an unfinished one resumes from its checkpoint. With `workers` above 1 they
    are Ray tasks, so many at a time.
    """
    names = [
        name for name in students or run.plan["students"] if run.student(name)["source"] != "base"
    ]
    each_student(run, "04", names, train_student, machine, "trained")
    return reports(run, names)


def train_student(folder: str, student: str, machine: Machine) -> None:
    """Train one student of the study in `folder` and write its train report, `dropped.parquet` and manifest.

    The first of an arm's main students also leaves `likelihood.parquet`: every example's trained tokens, and their
    log-likelihood (nats) under the base model before training.
    """
    run = Run(folder)
    if machine.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    finetune.open_backend(run.study.training.backend)
    set_threads(machine.threads)
    entry, folder = run.student(student), run.path("04", student)
    base = resolve_model(entry["model"])
    tokenizer = load_tokenizer(base)
    rows, examples, dropped = encoded_rows(run, student, tokenizer)
    records.write_parquet(folder / "dropped.parquet", dropped)
    if (entry["source"], entry["recipe"], entry["seed"]) == (
        "arm",
        MAIN,
        run.study.training.seeds[0],
    ):
        records.write_parquet(
            folder / "likelihood.parquet", _likelihoods(run, student, rows, examples)
        )
    end_id, v = finetune.end_token(tokenizer, run.study.prompt.style), run.study.verification
    n_long = int(dropped["reason"].str.startswith("longer").sum())
    with progress(student, 0) as bar, verifier(run.study.prompt.answer_style, 1, v) as verify:
        bar.unit = " steps"
        report = finetune.train(
            base,
            rows,
            settings(run.study, entry, machine),
            folder,
            _validator(run, verify),
            _shown_on(bar),
            n_long,
            end_id,
            renew=True,
        )
    facts = {
        k: report[k]
        for k in ("n_examples", "n_tokens", "steps", "epochs", "spent_flops", "seconds")
    }
    records.write_manifest(folder, run.plan_id, facts)


def _likelihoods(run: Run, student: str, rows: list[dict], examples: pd.DataFrame) -> pd.DataFrame:
    """KEY, `log_likelihood` and `n_tokens` of every example; what another budget's student has told already is taken."""
    entry = run.student(student)
    same = {k: entry[k] for k in ("model", "source", "arm", "recipe", "seed")}
    others = [
        s for s, e in run.plan["students"].items() if s != student and same.items() <= e.items()
    ]
    done = [run.path("04", s) for s in others if run.complete("04", s)]
    told = [read_parquet(path) for o in done if (path := o / "likelihood.parquet").exists()]
    out = examples[KEY].assign(
        n_tokens=[len(row["labels"]) - row["labels"].count(finetune.MASKED) for row in rows]
    )
    known = pd.concat(told or [out.head(0).assign(log_likelihood=0.0)])[
        [*KEY, "log_likelihood"]
    ].drop_duplicates(KEY)
    out = out.merge(known, "left", KEY, validate="one_to_one")
    new = out["log_likelihood"].isna()
    out.loc[new, "log_likelihood"] = finetune.log_likelihoods(
        resolve_model(entry["model"]), [r for r, n in zip(rows, new) if n]
    )
    return out


def _shown_on(bar: tqdm) -> Callable[[int, int, float], None]:
    def show(step: int, n_steps: int, loss: float) -> None:
        bar.total = n_steps
        bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        bar.update(step - bar.n)

    return show


def _validator(run: Run, verify: Callable) -> Callable | None:
    """A function that gives a live model's greedy accuracy on the validation problems; None when there are none."""
    problems = read_parquet(run.path("01", "validation.parquet"))
    if problems.empty:
        return None
    p = run.study.prompt
    sampling = Decoding(temperature=0.0, max_tokens=run.study.evaluation.max_tokens, stop=stops(p))

    def validate(model, tokenizer, step: int) -> float:
        asked = zip(problems["problem_id"], problems["question"])
        requests = [
            Request(("validation", i, 0), prompt_ids(tokenizer, question, p), 0)
            for i, question in asked
        ]
        outputs = HFEngine.around(model, tokenizer).generate(requests, sampling)
        rows = [(*o.key, o.text, o.finish_reason) for o in outputs]
        verdicts = verify(pd.DataFrame(rows, columns=[*KEY, "text", "finish_reason"]), problems)
        return float((verdicts["verdict"] == "correct").mean())

    return validate


def reports(run: Run, students: list[str]) -> pd.DataFrame:
    """One row per trained student: examples, tokens, epochs, FLOPs, speed, losses, and what validation chose.

    `times_repeated`: epochs over the fewest among students of the same base, budget and recipe, as equal steps bring
    about; `steps_at_equal_epochs`: the steps that would give each as few epochs as that one has.
    """
    rows = []
    for student in students:
        entry, r = run.student(student), read_json(run.path("04", student, "report.json"))
        rows.append(
            {
                "student": student,
                "n_examples": r["n_examples"],
                "n_dropped_long": r["n_dropped_long"],
                "n_tokens": r["n_tokens"],
                "steps": r["steps"],
                "epochs": r["epochs"],
                "planned_flops": r["planned_flops"],
                "spent_flops": r["spent_flops"],
                "seconds": r["seconds"],
                "tokens_per_second": r["tokens_per_second"],
                "peak_memory_gib": r["peak_memory_bytes"] / 2**30,
                "last_loss": r["loss_curve"][-1][1],
                "learning_rate": r["learning_rate"],
                "best_step": r["best_step"],
                "validation_accuracy": r["accuracy"],
                "group": json.dumps([entry[key] for key in ("base", "budget", "recipe", "source")]),
            }
        )
    frame = pd.DataFrame(rows)
    least = frame.groupby("group")["epochs"].transform("min")
    equal = (frame["steps"] * least / frame["epochs"]).round().astype(int)
    return frame.assign(times_repeated=frame["epochs"] / least, steps_at_equal_epochs=equal).drop(
        columns="group"
    )


def curves(run: Run, students: list[str]) -> pd.DataFrame:
    """Tidy curves of trained students: student, step, loss, learning_rate, and accuracy at validated steps."""
    return pd.concat(
        [
            finetune.curves(read_json(run.path("04", s, "report.json"))).assign(student=s)
            for s in students
        ]
    )


def shown_rows(run: Run, student: str, n: int = 3) -> str:
    """HTML of a student's first training rows, token by token with their labels."""
    finetune.open_backend(run.study.training.backend)  # before transformers, which Unsloth patches
    tokenizer = load_tokenizer(resolve_model(run.student(student)["model"]))
    rows, _, dropped = encoded_rows(run, student, tokenizer)
    title = f"{student}: {len(rows)} rows, {len(dropped)} examples dropped"
    return f"<p>{html.escape(title)}</p>" + finetune.coloured(rows, tokenizer, n)


def export(run: Run, student: str, out: str | Path, merged: bool = False) -> Path:
    """Copy a trained student (its adapter, or `merged` into its base in 16 bit) to `out`, with a model card, README.md.

    The folder is ready for a hub; nothing is sent. Raises StudyError when `out` exists or the student is not trained.
    """
    folder, out = run.path("04", student), Path(out)
    if out.exists() or not is_complete(folder, run.plan_id):
        raise StudyError(
            f"{out}: exists; choose another" if out.exists() else f"{folder}: train {student} first"
        )
    if (
        merged
        and (folder / "model" / "adapter_config.json").exists()
        and not (folder / "merged").exists()
    ):
        finetune.merge(resolve_model(run.student(student)["model"]), folder / "model", out)
    else:
        shutil.copytree(
            folder / "merged" if merged and (folder / "merged").exists() else folder / "model", out
        )
    (out / "README.md").write_text(card(run, student), encoding="utf-8")
    return out


def card(run: Run, student: str) -> str:
    """A student's model card: whence its examples, how it was trained, and its held-out accuracy if 05 is there."""
    entry, r = run.student(student), read_json(run.path("04", student, "report.json"))
    taught = {
        "arm": f"samples of the arm `{entry['arm']}`",
        "pooled": "samples of all arms",
        "reference": "reference solutions",
        "wrong": "its own wrong samples",
    }[entry["source"]]
    lines = [
        "---",
        f"base_model: {entry['model']}",
        "tags: [wcse]",
        "---",
        f"# {run.study.study}: {student}",
        "",
        f"`{entry['model']}` finetuned on {r['n_examples']} examples: {taught}, budget `{entry['budget']}`, "
        f"recipe `{entry['recipe'] or MAIN}`, seed {entry['seed']}. Study: {run.study.title or run.study.study} "
        f"(plan {run.plan_id}).",
        "",
        "## Training",
        "",
        "| | |",
        "| --- | --- |",
    ]
    facts = {
        k: r[k] for k in ("data_sha256", "steps", "epochs", "n_tokens", "spent_flops", "best_step")
    }
    facts |= {
        "validation accuracy (chose the checkpoint)": r["accuracy"],
        **r["settings"],
        **r["versions"],
    }
    lines += [f"| {k} | {f'{x:.4g}' if isinstance(x, float) else x} |" for k, x in facts.items()]
    tested = run.path("05", student, "verdicts-greedy.parquet")
    if tested.exists():
        rows = read_parquet(tested)
        lines += ["", "## Results", ""]
        for name, right in (rows["verdict"] == "correct").groupby(
            rows["problem_id"].map(run.sets()), sort=False
        ):
            value, low, high = intervals.wilson(int(right.sum()), len(right))
            lines.append(
                f"* Greedy pass@1 on {len(right)} problems ({name.replace('_', '-')}): {100 * value:.1f} % "
                f"(95 % interval {100 * low:.1f} to {100 * high:.1f})."
            )
    return "\n".join(lines) + "\n"


def checks(run: Run, students: list[str], table: pd.DataFrame) -> dict:
    """Facts about the trainings. Raises AssertionError when a student has no model, no examples or no finite loss."""
    trained = [s for s in students if run.student(s)["source"] != "base"]
    assert set(table["student"]) == set(trained), "a student's report is missing"
    assert all(run.path("04", s, "model").is_dir() for s in trained), "a student's model is missing"
    assert (table["n_examples"] > 0).all() and table["last_loss"].notna().all(), (
        "a student learnt nothing"
    )
    return {
        "n_students": len(trained),
        "n_tokens": int(table["n_tokens"].sum()),
        "spent_flops": float(table["spent_flops"].sum()),
    }
