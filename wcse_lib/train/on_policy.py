"""On-policy distillation: the student writes, an arm's model says how likely each next token is, and the student comes
nearer to it, until its budget is spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wcse_lib.budget import OnPolicyCost, OnPolicyFlops
from wcse_lib.sample import Decoding, HFEngine, Request
from wcse_lib.study import Settings, checkpoint_files, fingerprint, sample_seed
from wcse_lib.train.attempt import Watch, arguments_of, callback_of
from wcse_lib.train.divergence import token_divergences
from wcse_lib.train.models import load_model, load_untrained, open_backend, with_dtype
from wcse_lib.train.trainer import check_packages, claim, how_it_went, keep, within_memory

HALF = (
    0.5  # of a sample: what is left of a budget buys one more where it pays at least so much of it
)


@dataclass(frozen=True)
class Asked:
    """A problem's prompt, as the student and as the scorer reads it."""

    problem_id: str
    ids: list[int]
    scorer_ids: list[int]


@dataclass(frozen=True)
class Written:
    """What the student wrote after a prompt: token ids, the end token included unless the sample was cut."""

    asked: Asked
    ids: list[int]
    is_cut: bool


@dataclass(frozen=True)
class OnPolicyTraining:
    """One on-policy training: of whom, scored by whom, on which prompts, for how many FLOPs.

    `settings.amount` is not obeyed: the training ends where `budget_flops` are spent, and the learning rate falls with
    what is left of them. Samples are seeded by `author`, problem and how often it was asked before, so that a training
    that goes on after a kill writes the same. `validate` and `progress` are as of `attempt.Training`.
    """

    base_model: str | Path
    scorer: str | Path
    prompts: list[Asked]
    cost: OnPolicyCost
    budget_flops: float
    beta: float
    decoding: Decoding
    author: str
    seed: int
    settings: Settings
    folder: Path
    validate: Callable[[Any, Any, int], float] | None = None
    progress: Callable[[int, int, float], None] | None = None
    end_id: int | None = None

    @property
    def data_sha256(self) -> str:
        """Of all that decides what is learnt beside the settings."""
        prompts = [[one.problem_id, one.ids, one.scorer_ids] for one in self.prompts]
        scorer = [str(self.scorer), checkpoint_files(str(self.scorer))]
        how = [self.budget_flops, self.beta, vars(self.decoding)]
        return fingerprint([prompts, scorer, how, self.author, self.seed])

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"checkpoint-{step}"


def train_on_policy(training: OnPolicyTraining, renew: bool = False) -> dict[str, Any]:
    """Train a student on what it writes, leave it in `folder/model`, return the train report.

    The loss of a step is the mean over its samples of the mean divergence of their tokens (`token_divergences`), as in
    arXiv 2306.13649. The last step is smaller where the budget asks for it. Resuming, memory, validation and errors are
    as of `trainer.train`; in the report `n_examples` counts samples, and `spent_flops` writing, scoring and training.
    """
    check_packages(training.settings)
    open_backend(training.settings.backend)
    training = replace(training, settings=with_dtype(training.settings))
    finished = claim(training, renew)
    if finished:
        return finished

    def attempt(tokenizer: Any, micro: int, checkpoint: Path | None) -> tuple[list, dict]:
        return _attempt(training, tokenizer, micro, checkpoint)

    history, facts = within_memory(training, attempt)
    return keep(training, _report(training, history, facts))


def _report(training: OnPolicyTraining, history: list[dict], facts: dict) -> dict[str, Any]:
    last = history[-1]
    flops = OnPolicyFlops(**last["flops"])
    amounts = {
        "n_examples": last["n_samples"],
        "n_dropped_long": 0,
        "n_cut": last["n_cut"],
        "token_accuracy": None,  # it has no rows
        "n_tokens": last["n_tokens"],
        "n_trained_tokens": last["n_written"],
        "epochs": last["n_samples"] / len(training.prompts),
        "tokens_per_second": last["n_tokens"] / last["seconds"],
        "planned_flops": training.budget_flops,
        "spent_flops": flops.total,
        "on_policy_flops": {"writing": flops.writing, "scoring": flops.scoring},
    }
    return how_it_went(training, history) | facts | amounts


# ---------------------------------------------------------------------- what is spent


class Account:
    """What a training has spent so far, and how much of it the next step may take."""

    def __init__(self, training: OnPolicyTraining, n_trained: int):
        self.training, self.n_trained = training, n_trained
        self.flops = OnPolicyFlops()
        self.n_samples = self.n_tokens = self.n_written = self.n_cut = 0

    @property
    def share(self) -> float:
        """The part of the budget that is spent."""
        return self.flops.total / self.training.budget_flops

    @property
    def n_affordable(self) -> int:
        """Samples of the next step: a batch, or what the rest of the budget buys at their mean cost so far."""
        size = self.training.settings.batch_size
        if not self.n_samples:
            return size
        left = self.training.budget_flops - self.flops.total
        return min(size, math.floor(left * self.n_samples / self.flops.total + HALF))

    def book(self, written: list[Written]) -> None:
        for one in written:
            n_prompt, n_new = len(one.asked.ids), len(one.ids)
            n_scored_prompt = len(one.asked.scorer_ids)
            cost = self.training.cost.of_sample(n_prompt, n_scored_prompt, n_new, self.n_trained)
            self.flops = self.flops.plus(cost)
            self.n_tokens += n_prompt + n_new
            self.n_written += n_new
            self.n_cut += one.is_cut
        self.n_samples += len(written)

    def entry(self) -> dict[str, Any]:
        """What outlives a kill."""
        counts = {name: getattr(self, name) for name in COUNTS}
        return counts | {"flops": self.flops._asdict()}

    def go_on_from(self, entry: dict[str, Any]) -> None:
        for name in COUNTS:
            setattr(self, name, entry[name])
        self.flops = OnPolicyFlops(**entry["flops"])


COUNTS = ("n_samples", "n_tokens", "n_written", "n_cut")


class WatchOfBudget(Watch):
    """Validates and keeps the model each time that an equal part of the budget is spent, and at its end."""

    def __init__(self, training: OnPolicyTraining, tokenizer: Any, account: Account):
        super().__init__(training, tokenizer, n_steps=0)
        self.account, self.n_parts = account, 0
        self.has_part_ended = False

    def begin(self, state: Any) -> None:
        super().begin(state)
        if state.log_history:
            self.account.go_on_from(state.log_history[-1])
        self.n_parts = self._parts()

    def after_step(self, state: Any, logs: dict[str, float], model: Any) -> None:
        state.log_history[-1] |= self.account.entry()
        self.is_over = self.account.n_affordable < 1
        self.has_part_ended = self.is_over or self._parts() > self.n_parts
        self.n_parts = self._parts()
        self.n_steps = max(state.global_step, round(state.global_step / self.account.share))
        super().after_step(state, logs, model)

    def is_checkpoint(self, step: int) -> bool:
        return self.has_part_ended

    def _parts(self) -> int:
        """How many equal parts of the budget are spent."""
        return math.floor(self.account.share * self.training.settings.n_checkpoints)


# ---------------------------------------------------------------------- one attempt


def _attempt(
    training: OnPolicyTraining, tokenizer: Any, micro: int, checkpoint: Path | None
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Train from a checkpoint, or from the start, until the budget is spent; see `attempt.run_attempt`."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    settings = training.settings
    model, n_parameters = load_model(training.base_model, settings)
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    model.config.use_cache = True  # the saved model is for generating
    scorer = load_untrained(training.scorer)
    account = Account(training, n_trained)
    n_steps = _most_steps(training, n_trained)
    order = _Order(len(training.prompts), n_steps * settings.batch_size, settings.seed)
    writer = _Writer(training, order, tokenizer)

    class OnPolicyTrainer(Trainer):
        """transformers' trainer, whose steps begin with an empty page."""

        def training_step(self, model, inputs, num_items_in_batch=None):
            places = inputs["places"].tolist()[: account.n_affordable]
            written = writer.write(model, places)
            account.book(written)
            total = 0.0
            for start in range(0, len(written), micro):
                part = written[start : start + micro]
                with self.compute_loss_context_manager():
                    loss = _divergence(model, scorer, part, training.beta) / len(written)
                self.accelerator.backward(loss)
                total = total + loss.detach()
            return total

        def create_scheduler(self, num_training_steps, optimizer=None):
            from torch.optim.lr_scheduler import LambdaLR

            self.lr_scheduler = LambdaLR(
                optimizer or self.optimizer, lambda _: rate_factor(settings, account.share)
            )
            return self.lr_scheduler

    arguments = arguments_of(settings, training.folder, n_steps, settings.batch_size)
    trainer = OnPolicyTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=order,
        data_collator=_places,
        callbacks=[callback_of(WatchOfBudget(training, tokenizer, account))],
        args=TrainingArguments(
            **arguments, remove_unused_columns=False, train_sampling_strategy="sequential"
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    history = [entry for entry in trainer.state.log_history if "seconds" in entry]
    return history, {"n_parameters": n_parameters, "n_trained_parameters": n_trained}


def _most_steps(training: OnPolicyTraining, n_trained: int) -> int:
    """Steps that no budget outlasts: as if every sample were a single token."""
    shortest = min(training.prompts, key=lambda one: len(one.ids))
    lengths = len(shortest.ids), len(shortest.scorer_ids)
    least = training.cost.of_sample(*lengths, 1, n_trained).total
    return 1 + math.ceil(training.budget_flops / least / training.settings.batch_size)


def rate_factor(settings: Settings, share: float) -> float:
    """What the learning rate is multiplied by when a share of the budget is spent: it warms up, then falls.

    `settings.warmup` is a share of the budget here as it is of the steps elsewhere.
    """
    if share < settings.warmup:
        return share / settings.warmup
    if settings.schedule.startswith("constant"):
        return 1.0
    left = max(0.0, 1 - share) / (1 - settings.warmup)
    return left if settings.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))


class _Order:
    """The problems as they are asked, place by place: each epoch is a permutation. A data set of places."""

    def __init__(self, n_problems: int, n_places: int, seed: int):
        self.n_problems, self.n_places, self.seed = n_problems, n_places, seed
        self.epoch, self.permutation = -1, np.arange(0)

    def __len__(self) -> int:
        return self.n_places

    def __getitem__(self, place: int) -> int:
        return place

    def problem(self, place: int) -> tuple[int, int]:
        """Which problem stands at a place, and how often it was asked before."""
        epoch, at = divmod(place, self.n_problems)
        if epoch != self.epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self.epoch, self.permutation = epoch, rng.permutation(self.n_problems)
        return int(self.permutation[at]), epoch


def _places(places: list[int]) -> dict[str, Any]:
    import torch

    return {"places": torch.tensor(places)}


class _Writer:
    """Lets the student that is being trained write, by the engine that draws samples everywhere."""

    def __init__(self, training: OnPolicyTraining, order: _Order, tokenizer: Any):
        self.training, self.order, self.tokenizer = training, order, tokenizer
        self.engine: HFEngine | None = None

    def write(self, model: Any, places: list[int]) -> list[Written]:
        """What the model writes for the problems at these places."""
        import torch

        if self.engine is None:
            self.engine = HFEngine(model, self.tokenizer)
        asked, requests = {}, []
        for place in places:
            number, n_before = self.order.problem(place)
            one = self.training.prompts[number]
            key = (self.training.author, one.problem_id, n_before)
            asked[key] = one
            requests.append(Request(key, one.ids, sample_seed(self.training.seed, *key)))
        model.eval()
        with torch.no_grad():
            outputs = list(self.engine.generate(requests, self.training.decoding))
        model.train()
        # They come as they end; a step is the same whatever ended first.
        found = {output.key: output for output in outputs}
        written = []
        for key, one in asked.items():
            is_cut = found[key].finish_reason == "length"
            written.append(Written(one, list(found[key].ids), is_cut))
        return written


def _divergence(model: Any, scorer: Any, written: list[Written], beta: float) -> Any:
    """The sum over samples of the mean divergence of their tokens."""
    import torch

    own = _next_logits(model, [(one.asked.ids, one.ids) for one in written])
    with torch.no_grad():
        theirs = _next_logits(scorer, [(one.asked.scorer_ids, one.ids) for one in written])
    total = 0.0
    for of_student, of_scorer in zip(own, theirs):
        total = total + token_divergences(of_student, of_scorer, beta).mean()
    return total


def _next_logits(model: Any, texts: list[tuple[list[int], list[int]]]) -> list[Any]:
    """Of every text, a prompt and its sample, the logits [n_tokens, vocabulary] from which its tokens were drawn."""
    import torch

    width = max(len(prompt) + len(sample) for prompt, sample in texts)
    # Padding stands on the right, where no earlier token sees it.
    rows, masks = [], []
    for prompt, sample in texts:
        n_padding = width - len(prompt) - len(sample)
        rows.append(prompt + sample + [0] * n_padding)
        masks.append([1] * (width - n_padding) + [0] * n_padding)
    ids, mask = (torch.tensor(table, device=model.device) for table in (rows, masks))
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    of_samples = []
    for row, (prompt, sample) in enumerate(texts):
        first = len(prompt) - 1
        of_samples.append(logits[row, first : first + len(sample)])
    return of_samples
