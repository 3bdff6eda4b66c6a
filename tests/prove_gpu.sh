#!/usr/bin/env bash
# Proves one part of the GPU path on this machine and prints pass or fail; what was skipped is no pass. See docs/one_gpu.md.
#   bash tests/prove_gpu.sh card|sampling|training|vllm|unsloth|study
# GPU_PYTHON names another Python than .venv's, WCSE_GPU_MODEL another model than Qwen/Qwen2.5-1.5B-Instruct.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${GPU_PYTHON:-.venv/bin/python}
LOG=outputs/prove/${1:-}.log
mkdir -p outputs/prove

tests() { "$PYTHON" -m pytest -s -rs -m gpu "$@"; }

case "${1:-}" in
card) run=("$PYTHON" -c '
import torch
assert torch.cuda.is_available(), "PyTorch finds no CUDA GPU here"
assert torch.cuda.is_bf16_supported(), "this GPU has no bfloat16"
free, total = torch.cuda.mem_get_info()
assert free > 0.9 * total, f"another program holds {(total - free) / 2**30:.1f} GiB of the GPU"
print(torch.cuda.get_device_name(), f"{total / 2**30:.0f} GiB, torch", torch.__version__)
') ;;
sampling) run=(tests tests/gpu/test_gpu_sampling.py) ;;
training) run=(tests tests/gpu/test_gpu_training.py -k "not unsloth") ;;
vllm) run=(tests tests/gpu/test_gpu_full_size.py) ;;
unsloth) run=(tests tests/gpu/test_gpu_training.py -k unsloth) ;;
study) run=("$PYTHON" -m wcse_lib.pipeline params/desk_24gb.yaml --machine params/machine/vllm.yaml) ;;
*)
  sed -n '3s/^# *//p' "$0" >&2
  exit 2
  ;;
esac

if "${run[@]}" >"$LOG" 2>&1 && ! grep -qE "^SKIPPED|no tests ran|[0-9]+ skipped" "$LOG"; then
  grep -E "tokens|GiB|nats|report" "$LOG" | tail -n 8
  echo "pass: $1"
else
  tail -n 3 "$LOG"
  echo "fail: $1 (all of it in $LOG)"
  exit 1
fi
