"""Three params files on GSM8K with a real small model, SmolLM2-135M-Instruct, from plan to report, on one CPU core.

The model solves about 1 % of these problems, so accuracies mean nothing; what is proved is that studies written
for hubs and GPUs run on a local folder and local files, lose no row, and finetune students that then fit their
examples better. `Small.changes` names the parts in which a study's structure differs from its file's, besides
models, data and sizes.
"""

import json
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from test_params import differing

from wcse_lib import pipeline
from wcse_lib.sample.prompts import load_tokenizer
from wcse_lib.store import KEY, read_json, read_parquet, read_samples
from wcse_lib.study import STAGES, ImportedArm, Run, Study, check_study, load_study, write_yaml
from wcse_lib.train.encode import n_trained
from wcse_lib.train.examples import examples_of
from wcse_lib.train.rows import encoded_rows

pytestmark = [pytest.mark.engines, pytest.mark.slow, pytest.mark.timeout(7200)]

MACHINE = {
    "engine": "hf",
    "device": "cpu",
    "dtype": "bfloat16",
    "threads": 1,
}  # twice as fast as float32, on cores that know it (AMX)
PROMPT = {"template": "{question}\nThink step by step, and put the final answer after ####."}
TRAINING = {
    "batch_size": 4,
    "learning_rate": 1.0e-3,
    "n_checkpoints": 1,
    "max_tokens": 512,
    "gradient_checkpointing": False,
}
TESTS = {"n_samples": 1, "maj_k": [1], "max_tokens": 128}


@dataclass
class Small:
    """A params file's keys with other values, and the parts of its structure (test_params.structure) that these
    change."""

    keys: dict
    changes: set = field(default_factory=set)


def openai(models: dict, data: Path, tmp: Path) -> Small:
    """Students of the published 6B and 175B solutions, tested on the half of the test set that those do not cover."""
    published = data / "gsm8k_openai_model_solutions.jsonl"
    known = {json.loads(line)["question"] for line in open(published, encoding="utf-8")}
    rows = [json.loads(line) for line in open(data / "gsm8k_test.jsonl", encoding="utf-8")]
    held_out = tmp / "held_out.jsonl"
    others = [
        {"question": r["question"], "ground_truth": r["answer"].replace("####", "A:")}
        for r in rows
        if r["question"] not in known
    ]
    held_out.write_text("\n".join(map(json.dumps, others)), encoding="utf-8")
    columns = {"question": "question", "answer": "ground_truth", "solution": "ground_truth"}
    return Small(
        {
            "dataset": {
                "train": str(published),
                "held_out": str(held_out),
                "n_train": 60,
                "n_held_out": 20,
                "columns": columns,
            },
            "arms": {arm: {"path": str(published)} for arm in ("se", "wc")},
            "students": {"small": {"model": models["small"]}},
            "training": {**TRAINING, "method": "lora", "amount": {"one": 8}},
            "evaluation": TESTS,
        },
        {"students"},
    )


def gsm8k(data: Path, **sizes) -> dict:
    """GSM8K's files in place of a hub's dataset."""
    files = {"train": str(data / "gsm8k_train.jsonl"), "held_out": str(data / "gsm8k_test.jsonl")}
    columns = {"question": "question", "answer": "answer", "solution": "answer", "level": None}
    return {
        "name": "files",
        "path": None,
        "config": None,
        "columns": columns,
        "answer_style": "gsm8k",
        **files,
        **sizes,
    }


def labels(models: dict, data: Path, tmp: Path) -> Small:
    """No filter, as the main way of choosing: the usual one would leave nothing. The judge is arithmetic, since a
    model this small ends no judgement. The prompt goes with GSM8K and holds no worked examples, which would be
    most of every training row."""
    return Small(
        {
            "dataset": gsm8k(data, n_train=16, n_held_out=8),
            "prompt": {"style": "chat", "shots": None, "answer_style": "auto", **PROMPT},
            "arms": {arm: {"model": models[arm]} for arm in ("se", "wc")},
            "budget": {"samples": {"low": 2}},
            "sampling": {"max_tokens": 192, "max_failed_share": 1.0},
            "verification": {"judge": "arithmetic", "model_judge": None},
            "curation": {"filter": "none"},
            "recipes": {"unfiltered": None},
            "students": {"gemma7b": None, "wc": {"model": models["wc"]}},
            "training": {**TRAINING, "amount": {"low": 4}},
            "evaluation": TESTS,
        },
        {"prompt", "filters", "recipes", "students"},
    )


def desk(models: dict, data: Path, tmp: Path) -> Small:
    """The study for one 24 GB card, without a filter and with the student alone that is an arm, too."""
    return Small(
        {
            "dataset": gsm8k(data, n_train=12, n_held_out=8, n_validation=2),
            "arms": {arm: {"model": models[arm]} for arm in ("se", "wc")},
            "budget": {"samples": {"low": 1, "high": 2}},
            "sampling": {"max_tokens": 192, "max_failed_share": 1.0},
            "curation": {"filter": "none"},
            "students": {"small": None, "wc": {"model": models["wc"]}, "se": None},
            "training": {**TRAINING, "amount": {"low": 3, "high": 4}},
            "evaluation": TESTS,
        },
        {"filters", "students"},
    )


FILES = {"gsm8k_openai": openai, "math_labels": labels, "desk_24gb": desk}


def changed(old: dict, new: dict) -> dict:
    """`old` with the keys of `new`; None takes a key away."""
    out = dict(old)
    for key, value in new.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = changed(out.get(key, {}), value) if isinstance(value, dict) else value
    return out


@pytest.mark.parametrize("name", FILES)
def test_a_study_runs_on_a_real_model(root, smollm, real_data, tmp_path, name):
    models = {
        role: str(tmp_path / "models" / role) for role in ("se", "wc", "small")
    }  # one checkpoint under three names: other seeds
    for path in map(Path, models.values()):
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(smollm)
    own, small = load_study(f"params/{name}.yaml"), FILES[name](models, real_data, tmp_path)
    data = changed(own.model_dump(mode="json", exclude_defaults=True), small.keys)
    if find_spec("unsloth") is None:
        data["training"].pop("backend", None)
    study = check_study(data, name)
    assert set(differing(own, study)) == small.changes
    write_yaml(tmp_path / "study.yaml", data)
    write_yaml(tmp_path / "machine.yaml", MACHINE)
    clock = time.monotonic()
    folder = pipeline.run(
        str(tmp_path / "study.yaml"), str(tmp_path / "machine.yaml"), str(tmp_path / "out")
    )
    seconds = time.monotonic() - clock
    run = Run(folder)
    assert (folder / "report.html").stat().st_size > 10_000
    everything_is_complete(run)
    no_row_is_lost(run, name)
    fell = losses(run)
    tell(run, seconds, fell)
    assert (fell["after"] < fell["before"]).all(), fell


def everything_is_complete(run: Run) -> None:
    for stage in STAGES:
        parts = {
            "02": run.study.arms,
            "03": run.study.arms,
            "04": ["", *trained(run)],
            "05": ["", *run.plan.students],
        }.get(stage[:2], [""])
        assert [
            part for part in parts if not run.path(stage, part, "manifest.json").exists()
        ] == [], stage


def trained(run: Run) -> list[str]:
    return [name for name, entry in run.plan.students.items() if entry.source != "base"]


def no_row_is_lost(run: Run, name: str) -> None:
    """Rows in are rows out and rows with a reason, from the files to the students' tests."""
    n = run.plan.n_problems
    dropped = read_parquet(run.path("01", "dropped.parquet"))
    n_held_out = len(open(run.study.dataset.held_out, encoding="utf-8").read().splitlines())
    n_train = len(open(run.study.dataset.train, encoding="utf-8").read().splitlines())
    assert n["train"] + n["validation"] + (dropped["split"] == "train").sum() == n_train
    assert (
        n["held_out"] + (dropped["split"] == "held_out").sum() == n_held_out
        and dropped["reason"].str.len().min() > 0
    )
    for arm, entry in run.plan.arms.items():
        samples, verdicts = (
            read_samples(run.path("02", arm)),
            read_parquet(run.path("03", arm, "verdicts.parquet")),
        )
        most = max(entry.samples.values())
        imported = isinstance(run.study.arms[arm], ImportedArm)
        assert len(samples) == (
            read_json(run.path("02", arm, "import.json"))["samples"]
            if imported
            else n["train"] * most
        )
        assert (
            len(samples[KEY].merge(verdicts[KEY])) == len(samples) == len(verdicts)
            and not samples.duplicated(KEY).any()
        )
        flow = (
            read_parquet(run.path("03", arm, "flow.parquet"))
            .groupby(["budget", "recipe", "step"])["n"]
            .sum()
            .unstack(fill_value=0)
        )
        assert (flow["samples"] == flow["dropped"] + flow["examples"]).all()
        assert flow["samples"].to_dict() == {
            (b, r): n["train"] * entry.samples[b] for b, r in flow.index
        }
    for student in trained(run):
        n_examples = sum(map(len, examples_of(run, student)))
        report, left = (
            read_json(run.path("04", student, "report.json")),
            read_parquet(run.path("04", student, "dropped.parquet")),
        )
        assert report["n_examples"] + len(left) == n_examples
        assert report["n_examples"] > 0
    for student in run.plan.students:
        for decoding, k in (("greedy", 1), ("sampled", run.study.evaluation.n_samples)):
            rows, verdicts = (
                read_samples(run.path("05", student, decoding)),
                read_parquet(run.path("05", student, f"verdicts-{decoding}.parquet")),
            )
            assert (
                len(rows) == len(verdicts) == k * n["held_out"]
                and not verdicts.duplicated(KEY).any()
            )


def losses(run: Run, most: int = 4) -> pd.DataFrame:
    """Mean loss per trained token of (at most so many of) every student's own rows, before its training and after."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    rows = []
    for student in trained(run):
        base = run.student(student).model
        encoded = sorted(
            encoded_rows(run, student, load_tokenizer(base), lambda dropped: None),
            key=lambda row: len(row["labels"]),
        )[:most]
        live = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        live = PeftModel.from_pretrained(live, run.path("04", student, "model")).eval()
        with live.disable_adapter():
            before = loss(live, encoded)
        curve = [
            point[1] for point in read_json(run.path("04", student, "report.json"))["loss_curve"]
        ]
        rows.append(
            {
                "student": student,
                "n": len(encoded),
                "before": before,
                "after": loss(live, encoded),
                "first_step": curve[0],
                "last_step": curve[-1],
            }
        )
    return pd.DataFrame(rows)


def loss(model, rows: list[dict]) -> float:
    import torch

    total, n = 0.0, 0
    with torch.inference_mode():
        for row in rows:
            k = n_trained(row)
            tensors = {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}
            total, n = total + k * float(model(**tensors).loss), n + k
    return total / n


def tell(run: Run, seconds: float, fell: pd.DataFrame) -> None:
    study: Study = run.study
    print(f"\n{study.study}: {seconds:.0f} s")
    for arm in run.plan.arms:
        verdicts = read_parquet(run.path("03", arm, "verdicts.parquet"))
        found, cut = (
            verdicts["verdict"].value_counts(),
            read_samples(run.path("02", arm))["finish_reason"].eq("length").sum(),
        )
        print(
            f"arm {arm}: {len(verdicts)} samples, {found.get('correct', 0)} correct, {cut} truncated"
        )
    table = pd.read_csv(run.path("06", "tables", "students.csv"))
    for row in table[(table["metric"] == "pass@k") & (table["k"] == 1)].itertuples():
        print(
            f"{row.student}: {row.decoding} pass@1 {row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
        )
    print(
        f"held-out problems: {run.plan.n_problems['held_out']}\n{fell.round(3).to_string(index=False)}"
    )
