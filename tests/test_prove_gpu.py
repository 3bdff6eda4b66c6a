"""The script that proves the GPU path: on a machine without a GPU nothing passes, and what is asked for is said."""

import subprocess
import sys

import pytest
from conftest import ROOT


def prove(*words: str, root=ROOT, python: str = sys.executable):
    environment = {"GPU_PYTHON": python, "CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    command = ["bash", str(root / "tests/prove_gpu.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture
def copied(tmp_path):
    """The script in a folder of its own, so that its logs do not go into the project's."""
    (tmp_path / "tests").mkdir()
    script = tmp_path / "tests/prove_gpu.sh"
    script.write_text((ROOT / "tests/prove_gpu.sh").read_text())
    return tmp_path


def test_without_a_gpu_nothing_passes(copied):
    done = prove("card", root=copied)
    assert done.returncode == 1
    assert "finds no CUDA GPU" in done.stdout and "fail: card" in done.stdout


@pytest.mark.parametrize(
    "printed, status, said",
    [
        ("3 passed", 0, "pass: vllm"),
        ("1 failed", 1, "fail: vllm"),
        ("2 passed, 1 skipped", 0, "fail: vllm"),
    ],
)
def test_what_is_skipped_is_no_pass(copied, printed, status, said):
    python = copied / "python"
    python.write_text(f"#!/bin/sh\necho '{printed}'\nexit {status}\n")
    python.chmod(0o755)
    done = prove("vllm", root=copied, python=str(python))
    assert said in done.stdout and done.returncode == int(said.startswith("fail"))


def test_an_unknown_part_is_told_which_there_are(copied):
    done = prove("all", root=copied)
    assert done.returncode == 2 and "card|sampling|training|vllm|unsloth|study" in done.stderr
