"""Tokens per CPU-second: this kit's sampling against plain `transformers.generate` at its best batch size, in one run.

`python benchmarks/sampling.py [--model nano-wc] [--problems 200] [--samples 20] [--vllm]`
Both draw at T = 0.7, top-k 3, at most 80 tokens, on one thread; tokens up to and with the end token count. Ours
once as it comes and once with the machine key `compile`, whose compiling is told apart. `--vllm` adds vLLM's CPU
build where it is installed (in a process of its own, by CPU time of all its threads).
"""

import argparse
import os
import random
import resource
import subprocess
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from wcse_lib.nano import MODELS, make_problems
from wcse_lib.sample.engines import Decoding, Request, open_engine
from wcse_lib.sample.prompts import load_tokenizer, prompt_ids
from wcse_lib.study import Machine, Prompt

DECODING = Decoding(0.7, 3, 1.0, 80)


def cpu_seconds() -> float:
    own, children = (
        resource.getrusage(resource.RUSAGE_SELF),
        resource.getrusage(resource.RUSAGE_CHILDREN),
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def work(args, tokenizer) -> tuple[list[Request], dict]:
    problems = {
        row["problem_id"]: row for row in make_problems(args.problems, "benchmark", (1, 2, 3))
    }
    rng = random.Random(0)
    requests = [
        Request(
            ("a", key, i), prompt_ids(tokenizer, row["question"], Prompt()), rng.getrandbits(62)
        )
        for key, row in problems.items()
        for i in range(args.samples)
    ]
    return requests, problems


def engine_run(args, kind: str) -> None:
    model = str(MODELS / args.model)
    requests, problems = work(args, load_tokenizer(model))
    if kind == "vllm":
        engine = open_engine("vllm", model, Machine(max_model_len=512))
    else:
        machine = Machine(device="cpu", threads=1, dtype="float32", compile=kind == "compiled")
        engine = open_engine("hf", model, machine)
    clock = cpu_seconds()
    list(engine.generate(requests[:20], DECODING))
    print(f"{kind}: {cpu_seconds() - clock:.1f} CPU-seconds to warm up")
    clock = cpu_seconds()
    outputs = list(engine.generate(requests, DECODING))
    report(
        {"hf": "this kit", "compiled": "this kit, compiled"}.get(kind, kind),
        sum(o.n_tokens for o in outputs),
        cpu_seconds() - clock,
        [(o.key[1], o.text) for o in outputs],
        problems,
    )


def plain_run(args) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = str(MODELS / args.model)
    tokenizer, model = load_tokenizer(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    requests, problems = work(args, tokenizer)
    requests.sort(key=lambda r: len(r.prompt_ids))
    for size in args.batches:
        n_tokens, texts, clock = 0, [], cpu_seconds()
        for batch in (requests[i : i + size] for i in range(0, len(requests), size)):
            width = max(len(r.prompt_ids) for r in batch)
            ids = torch.tensor(
                [
                    [tokenizer.pad_token_id] * (width - len(r.prompt_ids)) + r.prompt_ids
                    for r in batch
                ]
            )
            with torch.inference_mode():
                mask = (ids != tokenizer.pad_token_id).long()
                new = model.generate(
                    ids,
                    attention_mask=mask,
                    do_sample=True,
                    temperature=0.7,
                    top_k=3,
                    max_new_tokens=80,
                )[:, width:]
            ended = new == tokenizer.eos_token_id
            n_tokens += int((ended.cumsum(1) - ended.long() == 0).sum())
            texts += [
                (r.key[1], t)
                for r, t in zip(batch, tokenizer.batch_decode(new, skip_special_tokens=True))
            ]
        report(f"generate, batch {size}", n_tokens, cpu_seconds() - clock, texts, problems)


def report(name: str, n_tokens: int, seconds: float, texts: list, problems: dict) -> None:
    right = sum(text.endswith(f"#### {problems[key]['answer']}") for key, text in texts) / len(
        texts
    )
    print(f"{name}\t{n_tokens}\t{seconds:.2f}\t{n_tokens / seconds:.0f}\t{right:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano-wc")
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument(
        "--only", choices=["hf", "compiled", "generate", "vllm"], help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if args.only:
        plain_run(args) if args.only == "generate" else engine_run(args, args.only)
        return
    rows = []
    print("sampler\ttokens\tCPU-seconds\ttokens per CPU-second\tpass@1")
    for only in ["hf", "compiled", "generate", *["vllm"] * args.vllm]:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--only", only],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr)
        found = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 4]
        print(
            *(line for line in done.stdout.splitlines() if "\t" in line or "warm up" in line),
            sep="\n",
            flush=True,
        )
        rows += found
    rate = {r[0]: float(r[3]) for r in rows}
    best = max((name for name in rate if name.startswith("generate")), key=rate.get)
    others = {
        f"plain generate at its best ({best})": rate[best],
        "vLLM's CPU build": rate.get("vllm"),
    }
    for name in ("this kit", "this kit, compiled"):
        print(
            "; ".join(
                f"{name} against {other}: {rate[name] / value:.2f} times"
                for other, value in others.items()
                if value
            )
        )


if __name__ == "__main__":
    main()
