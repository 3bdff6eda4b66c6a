"""The model to train, by TRL's way (transformers and PEFT) or by Unsloth's; an adapter merged into its base."""

from __future__ import annotations

import importlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from wcse_lib.sample import NO_CODE, opening
from wcse_lib.store import StudyError
from wcse_lib.study import Settings


def open_backend(backend: str) -> None:
    """Import the backend. Unsloth patches what is imported after it, so call this first of all in the process.

    Raises StudyError where Unsloth would end the process.
    """
    if backend == "unsloth":
        if not suits_unsloth():
            raise StudyError(
                "training.backend: unsloth: on processors without AVX-512 and without a GPU it dies of an illegal "
                "instruction; set training.backend: trl"
            )
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        os.environ.setdefault("UNSLOTH_DISABLE_AUTO_PADDING_FREE", "1")
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", tempfile.mkdtemp(prefix="unsloth-"))
        importlib.import_module("unsloth")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def suits_unsloth() -> bool:
    """Whether this machine has a GPU, or a processor on which Unsloth's CPU back end was seen to run."""
    import torch

    return torch.cuda.is_available() or torch.backends.cpu.get_cpu_capability() == "AVX512"


def with_dtype(settings: Settings) -> Settings:
    """The settings with dtype "auto" replaced by what this machine has."""
    import torch

    if settings.dtype != "auto":
        return settings
    has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return replace(settings, dtype="bfloat16" if has_bfloat16 else "float32")


def load_model(base_model: str | Path, settings: Settings) -> tuple[Any, int]:
    """The model to train, with fresh adapters unless the method is full, and the number of its base's parameters."""
    import torch

    # Full fine-tuning keeps float32 weights: a step of 1e-6 would vanish in bfloat16.
    half = settings.dtype == "bfloat16" and settings.method != "full"
    dtype = torch.bfloat16 if half else torch.float32
    lora = {
        "r": settings.lora_rank,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": settings.lora_dropout,
        "target_modules": list(settings.lora_targets) or "all-linear",
        "bias": "none",
    }
    load = _load_unsloth if settings.backend == "unsloth" else _load_transformers
    return load(base_model, settings, dtype, lora)


def _load_unsloth(
    base_model: str | Path, settings: Settings, dtype: Any, lora: dict
) -> tuple[Any, int]:
    import torch
    from unsloth import FastLanguageModel

    options = {
        "max_seq_length": settings.max_tokens,
        "load_in_4bit": settings.method == "qlora",
        "full_finetuning": settings.method == "full",
        "use_safetensors": True,
        "use_gradient_checkpointing": "unsloth" if settings.gradient_checkpointing else False,
        "dtype": dtype,
        **NO_CODE,
    }
    if options["full_finetuning"] and settings.dtype == "bfloat16" and torch.cuda.is_available():
        # float32 weights, as Unsloth's loader for GPUs wants them asked for
        options |= {"dtype": torch.bfloat16, "float32_mixed_precision": True}
    with opening(base_model):
        model, _ = FastLanguageModel.from_pretrained(str(base_model), **options)
    n_parameters = model.num_parameters()
    if settings.method != "full":
        lora["use_gradient_checkpointing"] = options["use_gradient_checkpointing"]
        model = FastLanguageModel.get_peft_model(model, **lora, random_state=settings.seed)
    return model, n_parameters


def _load_transformers(
    base_model: str | Path, settings: Settings, dtype: Any, lora: dict
) -> tuple[Any, int]:
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options = {"dtype": dtype, "use_safetensors": True, **NO_CODE}
    if settings.method == "qlora":
        four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
        four |= {"bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
        options["quantization_config"] = BitsAndBytesConfig(**four)
    with opening(base_model):
        model = AutoModelForCausalLM.from_pretrained(base_model, **options)
    n_parameters = model.num_parameters()
    if settings.method == "qlora":
        checkpointing = settings.gradient_checkpointing
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    if settings.method != "full":
        torch.manual_seed(settings.seed)
        model = get_peft_model(model, LoraConfig(**lora, task_type="CAUSAL_LM"))
    return model, n_parameters


def load_untrained(model: str | Path) -> Any:
    """A model to be asked only, where this machine computes fastest."""
    import torch
    from transformers import AutoModelForCausalLM

    on_gpu = torch.cuda.is_available()
    dtype = "auto" if on_gpu else torch.float32
    options = {"dtype": dtype, "use_safetensors": True, **NO_CODE}
    with opening(model):
        loaded = AutoModelForCausalLM.from_pretrained(model, **options)
    return loaded.to("cuda" if on_gpu else "cpu").eval()


def merge(base_model: str | Path, adapter: Path, out: Path, dtype: str = "bfloat16") -> None:
    """Write `base_model` with the PEFT `adapter` merged in as an ordinary 16-bit folder, for engines without LoRA."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"dtype": torch.float32, "use_safetensors": True, **NO_CODE}
    base = AutoModelForCausalLM.from_pretrained(base_model, **options)
    adapted = PeftModel.from_pretrained(base, adapter)
    model = adapted.merge_and_unload().to(getattr(torch, dtype))
    # The student's own end token stops it, besides those of its base.
    tokenizer = AutoTokenizer.from_pretrained(adapter, **NO_CODE)
    ends = model.generation_config.eos_token_id
    known = ends if isinstance(ends, list) else [ends]
    model.generation_config.eos_token_id = sorted({tokenizer.eos_token_id, *known} - {None})
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
