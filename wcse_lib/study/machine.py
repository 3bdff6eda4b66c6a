"""Where a stage runs; never part of a study's identity."""

from __future__ import annotations

import os
import shutil
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wcse_lib.study.amounts import Amounts
from wcse_lib.study.fields import Count, Positive, Strict

ENGINES = ("hf", "vllm")  # of local models; each is a module of its name in sample/engines
ENDPOINTS = ("openai", "batch")  # of servers, which bill: one call a sample, or files of many
SECONDS_PER_HOUR = 3600.0


class Batches(Strict):
    """How batches are sent and waited for (arms with `engine: batch`)."""

    requests: Count = 10_000  # in a batch, at most; OpenAI takes 50,000
    megabytes: Positive = 90.0  # of a batch's file, at most; OpenAI takes 200, others 100
    # at the server at a time; fewer where it limits the tokens in its queue
    at_once: Count = 8
    # between two looks at first; up to tenfold while nothing ends
    poll_seconds: Positive = 30.0
    # a batch that the server's list lacks so long after it was asked to start it was not accepted
    settle_seconds: Annotated[float, Field(ge=0)] = 60.0
    hours: Positive = 26.0  # that one run waits; it then stops, and the next one goes on waiting


class Endpoint(Strict):
    """How an endpoint is called (arms with `engine: openai` or `batch`, judges with `engine: openai`)."""

    base_url: str = "https://api.openai.com/v1"  # of any OpenAI-compatible server
    # name of the environment variable, which must be set; null: the server needs no key
    api_key_variable: str | None = "OPENAI_API_KEY"
    concurrency: Count = 8  # calls at a time
    # of one call, all in all; also the longest Retry-After waited for
    timeout_seconds: Positive = 600.0
    max_retries: Annotated[int, Field(ge=0)] = 6  # of one call
    # before the first retry, doubled at each up to 64-fold, with jitter
    backoff_seconds: Annotated[float, Field(ge=0)] = 1.0
    max_failures: Count = 20  # so many failed calls in a row, and the endpoint counts as down
    n_per_call: Count = 1  # samples of one problem asked for together
    max_tokens_name: str = "max_tokens"  # newer OpenAI models want max_completion_tokens
    # sent along with every call; a null leaves that field out, as of servers that know no seed
    extra_body: dict[str, Any] = {}
    batch: Batches = Batches()  # engine: batch
    # hard stop of one arm's spending, over all its runs; a judge's likewise
    limit_usd: Positive | None = None

    @model_validator(mode="after")
    def _pays_for_no_answer_that_nobody_keeps(self):
        n = self.extra_body.get("n")
        if n not in (None, 1):
            raise ValueError(
                f"extra_body.n: {n!r}: of each call one answer is kept and all are paid, a judge's too; leave it out,"
                " and for arms write n_per_call"
            )
        return self

    @property
    def unfit_for_batches(self) -> str:
        """What of these keys does not go with `engine: batch`, and what to write; empty where all do."""
        if self.n_per_call > 1:
            return (
                f"n_per_call: {self.n_per_call}: each request of a batch is one sample, whose length and bill are "
                "known; write n_per_call: 1 for engine: batch"
            )
        if self.extra_body.get("stream"):
            return "extra_body.stream: a batch's request is one whole answer; leave it out for engine: batch"
        return ""


class MachinePrice(BaseModel):
    """What an hour of a whole machine costs, in USD and in power; None where nobody said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    usd_per_hour: float | None = None
    watts: float | None = None
    n_devices: float = 1.0  # that draw at the same time

    def amounts(self, seconds: float) -> Amounts:
        """Seconds of the machine, and what they cost.

        >>> MachinePrice(usd_per_hour=3.6, watts=1000).amounts(60).usd
        0.06
        """
        usd = None if self.usd_per_hour is None else self.usd_per_hour * seconds / SECONDS_PER_HOUR
        kwh = None if self.watts is None else self.watts / 1000 * seconds / SECONDS_PER_HOUR
        return Amounts(seconds=seconds, usd=usd, kwh=kwh)


class Machine(Endpoint):
    """Where a stage runs; never part of a study's identity."""

    engine: Literal[*ENGINES] = "hf"  # what draws samples of local models
    device: Literal["cpu", "cuda"] | None = None  # the GPU where there is one
    device_map: Literal["auto"] | None = None  # hf: a model larger than one GPU, spread over all
    # bfloat16 on a GPU, float32 on a CPU
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    batch_size: Count | None = None  # hf: rows at a time; found out when left out
    threads: Count | None = None  # CPU: of each worker; all cores when left out
    # hf, and training by TRL: torch.compile, which takes a minute for the nano models and more for larger ones; auto:
    # where much work is ahead, and a trial in its midst says that it pays
    compile: bool | Literal["auto"] = False
    # TFLOP/s that this machine reaches: `wcse plan` says time by it; tried for some seconds when left out
    tflops: Positive | None = None
    # what the whole machine costs for an hour: USD of machine time in 01, in `wcse plan` and on the ledger
    usd_per_hour: Positive | None = None
    # what the whole machine draws at work: kWh on the ledger; no price is made of it
    watts: Positive | None = None
    workers: Count = 1  # engines that draw, and students in training, at a time; above 1 by Ray
    # vllm: share of a GPU that it takes
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    tensor_parallel_size: Count | None = None  # vllm: GPUs that share one model
    max_model_len: Count | None = None  # vllm: longest prompt and answer together, in tokens
    enforce_eager: bool | None = None  # vllm: no CUDA graphs; slower, opens faster
    # vllm: this much for the cache, instead of a share (CPU: 2)
    kv_cache_gib: Positive | None = None
    max_num_seqs: Count | None = None  # vllm: samples drawn at a time
    # processes that check answers and run tests
    checkers: Count = Field(default_factory=lambda: min(8, os.cpu_count() or 1))
    # Ray: an existing cluster's address; a local cluster is started when left out
    address: str | None = None
    # GPUs that share the weights of one student in training (backend trl, by FSDP): for one larger than a GPU; on CPUs
    # so many processes. Neither its steps nor its rows depend on it
    gpus_per_student: Count = 1
    # Ray: GPUs that each of `workers` gets
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None

    @property
    def devices(self) -> float:
        """GPUs that are held while samples are drawn (on CPUs: workers)."""
        return self.workers * (self.gpus_per_worker or self.tensor_parallel_size or 1)

    def price(self) -> MachinePrice:
        """What an hour here costs, and how many devices it pays for."""
        return MachinePrice(
            usd_per_hour=self.usd_per_hour, watts=self.watts, n_devices=self.devices
        )

    @model_validator(mode="after")
    def _one_student_at_a_time_on_several_gpus(self):
        if self.gpus_per_student > 1 and (self.workers > 1 or self.address):
            raise ValueError(
                f"gpus_per_student: {self.gpus_per_student}: such a student is trained alone, on this machine; leave "
                "workers and address out (or run up to 03 with them, --until 03, and the rest by another machine file)"
            )
        return self

    @field_validator("compile")
    @classmethod
    def _compiler(cls, value: bool | str) -> bool | str:
        if value is True and not shutil.which(compiler := os.environ.get("CXX", "g++")):
            raise ValueError(
                f"there is no {compiler} here, which torch.compile needs: install a C++ compiler, or leave compile out"
            )
        return value
