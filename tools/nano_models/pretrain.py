"""Pretrain the bundled nano models from scratch: `python -m tools.nano_models.pretrain` (seeded, resumable, CPU)."""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tools.nano_models.card import write_card
from tools.nano_models.corpus import MIX, POLISH, TEXTBOOKS, WEB, WEB_SHARE, document
from wcse_lib.nano import MODELS
from wcse_lib.store import sha256, write_json

SEED = 20241123
# Of the loss on questions: without it, copying names out of the text is learnt late.
QUESTION_WEIGHT = 0.3
BATCH = 32  # documents a step
# Steps whose documents are sorted by length together, so that a batch holds little padding
BUCKET = 16
POLISH_RATE = 0.5  # of the learning rate, where polishing begins
WARM_UP = 200  # steps
LOG_EVERY = 250  # steps between two lines of the log, each with a saved state


@dataclass(frozen=True)
class Recipe:
    """A model's size, the steps that it is trained for, and the highest learning rate."""

    width: int
    inner: int
    heads: int
    steps: int
    polish: int  # steps after `steps`
    rate: float
    layers: int = 4


# Head size 32 throughout; the generators' parameter ratio is about three, as 9B to 27B.
MODEL_SIZES = {
    "nano-student": Recipe(width=64, inner=192, heads=2, steps=7000, polish=0, rate=4e-3),
    "nano-wc": Recipe(width=96, inner=256, heads=3, steps=7000, polish=2000, rate=3e-3),
    "nano-se": Recipe(width=160, inner=512, heads=5, steps=5500, polish=2000, rate=3e-3),
}
SPECIAL = {
    "pad_token": "<|pad|>",
    "bos_token": "<|bos|>",
    "eos_token": "<|end|>",
    "unk_token": "<|unk|>",
}
ROLES = ["<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}<|assistant|>{% generation %}{{ m['content'] }}{{ eos_token }}"
    "{% endgeneration %}{% else %}{{ raise_exception('only user and assistant turns') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer():
    """Byte-level BPE whose words carry their following space and whose digits are single tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    units = Regex(r"\d|[A-Za-z]+ ?|#+ |[^\sA-Za-z\d] ?|\s|.")
    words = pre_tokenizers.Split(units, "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    tokenizer.decoder = decoders.ByteLevel()
    # Learn the units from the corpus that the models read.
    rng = random.Random(SEED)
    texts = []
    for _ in range(20_000):
        texts += document(rng, WEB)
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        special_tokens=[*SPECIAL.values(), *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **SPECIAL,
        extra_special_tokens=ROLES,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def batches(tokenizer, start: int, steps: int) -> Iterator[tuple]:
    """Yield (step, ids, labels) from step `start` on; labels mask the question, and padding is the pad token.

    A bucket's documents depend on its number alone, so a resumed run reads the same ones.
    """
    step = start - start % BUCKET
    while True:
        rng = random.Random(f"{SEED}:{step // BUCKET}")
        rows = _bucket(tokenizer, rng, _authors(step, steps))
        order = list(range(BUCKET))
        rng.shuffle(order)
        for place in order:
            if step >= start:
                yield step, *_padded(rows[place * BATCH :][:BATCH], tokenizer.pad_token_id)
            step += 1


def _authors(step: int, steps: int) -> dict[str, float]:
    """Who wrote what is read at this step; polishing begins after `steps`."""
    if step >= steps:
        return POLISH
    return WEB if step >= (1 - WEB_SHARE) * steps else TEXTBOOKS


def _bucket(
    tokenizer, rng: random.Random, authors: dict[str, float]
) -> list[tuple[list[int], list[int]]]:
    """Documents of BUCKET steps as (question's ids, solution's ids), sorted by length."""
    user, assistant = tokenizer.convert_tokens_to_ids(ROLES)
    documents = [document(rng, authors) for _ in range(BATCH * BUCKET)]
    questions, solutions = zip(*documents)
    questions = tokenizer(list(questions), add_special_tokens=False)["input_ids"]
    solutions = tokenizer(list(solutions), add_special_tokens=False)["input_ids"]
    rows = []
    for question, solution in zip(questions, solutions):
        prompt = [tokenizer.bos_token_id, user, *question, assistant]
        rows.append((prompt, [*solution, tokenizer.eos_token_id]))
    rows.sort()
    rows.sort(key=lambda row: len(row[0]) + len(row[1]))
    return rows


def _padded(rows: list[tuple[list[int], list[int]]], pad: int) -> tuple:
    """Tensors (documents, tokens): ids, and labels that are -100 outside the solutions."""
    import torch

    width = max(len(prompt) + len(solution) for prompt, solution in rows)
    ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, solution) in enumerate(rows):
        end = len(prompt) + len(solution)
        ids[i, :end] = torch.tensor(prompt + solution)
        labels[i, len(prompt) : end] = torch.tensor(solution)
    return ids, labels


def new_model(recipe: Recipe, tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=recipe.width**-0.5,  # the usual 0.02 makes such widths start late
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def new_optimizer(model, rate: float):
    import torch

    matrices = [weights for weights in model.parameters() if weights.dim() > 1]
    others = [weights for weights in model.parameters() if weights.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Warm-up, then a cosine down to a twentieth; polishing does the same from a lower peak."""
    peak, n_steps = recipe.rate, recipe.steps
    if step >= recipe.steps:
        step, peak, n_steps = step - recipe.steps, POLISH_RATE * recipe.rate, recipe.polish
    warm = min(1.0, (step + 1) / WARM_UP)
    cosine = 0.5 * (1 + math.cos(math.pi * step / n_steps))
    return peak * warm * (0.05 + 0.95 * cosine)


def losses(forward, ids, labels, pad: int) -> tuple:
    """The mean loss per token of a batch's solutions, and of its questions."""
    from torch.nn.functional import cross_entropy

    logits = forward(input_ids=ids, attention_mask=(ids != pad).long()).logits[:, :-1]
    targets = ids[:, 1:]
    each = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    each = each.view(targets.shape)
    in_solution = labels[:, 1:] != -100
    in_question = ~in_solution & (targets != pad)
    return each[in_solution].mean(), each[in_question].mean()


@dataclass
class Progress:
    """What was trained so far: steps, tokens, and the log of (step, mean loss on solutions since the last)."""

    step: int = 0
    n_tokens: int = 0
    log: list = field(default_factory=list)


def pretrain(name: str, work: Path, out: Path, steps: int | None = None) -> None:
    """Train one model and save it as an ordinary checkpoint; resumes from `work/<name>.pt` after a kill."""
    import torch

    recipe = MODEL_SIZES[name]
    if steps:
        recipe = replace(recipe, steps=steps, polish=0)
    tokenizer = make_tokenizer()
    torch.manual_seed(SEED)
    model = new_model(recipe, tokenizer)
    progress = train(name, recipe, model, tokenizer, work / f"{name}.pt")
    model.generation_config.do_sample = True
    model.generation_config.temperature = 0.7
    folder = out / name
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / "training.json", training_facts(name, recipe, model, folder, progress))
    write_card(folder)


def train(name: str, recipe: Recipe, model, tokenizer, state_file: Path) -> Progress:
    """Train `model` in place, from `state_file` on where it exists."""
    import torch

    progress = Progress()
    optimizer = new_optimizer(model, recipe.rate)
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state.pop("model"))
        optimizer.load_state_dict(state.pop("optimizer"))
        progress = Progress(**state)
        print(f"{name}: resuming at step {progress.step}", flush=True)
    model.train()
    # Compiled where a C++ compiler is at hand: about 1.4 times the speed, the same losses.
    forward = torch.compile(model, dynamic=True) if shutil.which("g++") else model
    pad, n_steps = tokenizer.pad_token_id, recipe.steps + recipe.polish
    recent, start = [], time.time()
    for step, ids, labels in batches(tokenizer, progress.step, recipe.steps):
        if step >= n_steps:
            return progress
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        solution_loss, question_loss = losses(forward, ids, labels, pad)
        (solution_loss + QUESTION_WEIGHT * question_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        progress.step = step + 1
        progress.n_tokens += int((ids != pad).sum())
        recent.append(solution_loss.item())
        if progress.step % LOG_EVERY == 0:
            loss, seconds = sum(recent) / len(recent), time.time() - start
            done = f"{progress.n_tokens / 1e6:.1f}M tokens {seconds:.0f}s"
            print(f"{name} step {progress.step}/{n_steps} loss {loss:.4f} {done}", flush=True)
            progress.log.append([progress.step, loss])
            recent = []
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | asdict(progress), state_file.with_suffix(".tmp"))
            os.replace(state_file.with_suffix(".tmp"), state_file)


def training_facts(name: str, recipe: Recipe, model, folder: Path, progress: Progress) -> dict:
    """What `training.json` says of a saved model."""
    n_parameters = sum(weights.numel() for weights in model.parameters())
    n_embedding = model.get_input_embeddings().weight.numel()
    return {
        "name": name,
        "n_parameters": n_parameters,
        "n_parameters_non_embedding": n_parameters - n_embedding,
        "n_training_tokens": progress.n_tokens,
        "steps": progress.step,
        "polish_steps": recipe.polish,
        "documents_a_step": BATCH,
        "seed": SEED,
        "question_weight": QUESTION_WEIGHT,
        "final_loss": progress.log[-1][1] if progress.log else None,
        "corpus": MIX,
        "weights_sha256": sha256(folder / "model.safetensors"),
        "loss_curve": progress.log,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = f"of {', '.join(MODEL_SIZES)} (default all)"
    parser.add_argument("names", nargs="*", default=list(MODEL_SIZES), help=names)
    parser.add_argument("--steps", type=int, help="train these many steps instead of the planned")
    work = Path("outputs/nano-models")
    parser.add_argument("--work", type=Path, default=work, help="where unfinished training lies")
    parser.add_argument("--out", type=Path, default=MODELS, help="where finished checkpoints go")
    card_only = "only measure finished models and write their cards"
    parser.add_argument("--card", action="store_true", help=card_only)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        if args.card:
            write_card(args.out / name)
        else:
            pretrain(name, args.work, args.out, args.steps)


if __name__ == "__main__":
    main()
