"""Verdicts on samples, and the processes that may be killed: from threads, after a fork, in Jupyter."""

import subprocess
import sys
import threading

import pytest

from wcse_lib.answers import VERIFIER, Checker, checker, equivalent
from wcse_lib.answers.policy import DEFAULT

ENDLESS = r"\sum_{k=1}^{10^{10}} \sin(k^k)"


@pytest.mark.parametrize(
    "text, gold, row",
    [
        (r"So \boxed{0.5}.", "1/2", ("0.5", "correct", "equal: exact rational")),
        ("I do not know", "5", (None, "incorrect", "no final answer")),
        ("#### 5", "", ("5", "unverifiable", "gold cannot be parsed: empty")),
    ],
)
def test_verdict_and_reason(text, gold, row):
    assert Checker().check(text, gold) == row


def test_many_samples_in_order():
    seen = []
    with Checker() as judge:
        rows = judge.check_many(["#### 5", "#### 6", "#### 5"], ["5"] * 3, progress=seen.append)
        assert [verdict for _, verdict, _ in rows] == ["correct", "incorrect", "correct"]
        assert seen == [1, 1, 1]
        workers = [judge._pool.get() for _ in range(judge.workers)]
        assert all(worker.process is None for worker in workers), "the guards decide all of them"
        for worker in workers:
            judge._pool.put(worker)


def test_what_cannot_be_checked_is_named():
    with pytest.raises(ValueError, match="1 texts but 2 golds"):
        Checker().check_many(["5"], ["5", "6"])
    with pytest.raises(ValueError, match="style 'x'"):
        Checker("x")
    assert Checker().compare("5", None) == (None, "gold cannot be parsed: missing")


def test_the_verifier_has_a_version():
    assert VERIFIER == "wcse-answers/5"


def test_math_verify_is_asked_confirmed_and_limited():
    with Checker(workers=1, limit_seconds=3.0) as judge:
        product = judge.compare(r"\prod_{k=1}^{5} k", "120")
        assert product == (True, "equal: math-verify, confirmed")
        assert judge.compare(r"\sum_{k=1}^{10} k", "54")[0] is False
        limits = r"\lim_{x\to\infty} x", r"\lim_{x\to -\infty} x"
        assert judge.compare(*limits)[0] is not True
        worker = judge._pool.get()
        judge._pool.put(worker)
        first = worker.process.pid
        assert judge.compare(ENDLESS, "5") == (None, "timeout")
        assert worker.process is None, "killed, and replaced at the next question"
        assert judge.compare(r"\prod_{k=1}^{4} k", "24")[0] is True
        assert worker.process.pid != first
        judge.patience_seconds = 0
        assert judge.compare(ENDLESS, "6") == (None, "timeout: too many before")


def test_math_verify_from_threads():
    verdicts = []

    def ask():
        verdicts.append(equivalent(r"\prod_{k=1}^{3} k", "6"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 4


AFTER_A_FORK = r"""
import os
from wcse_lib.answers import equivalent
ask = lambda n: equivalent(r'\prod_{k=1}^{%d} k' % n, '6')
assert ask(3) is True
pid = os.fork()
if pid == 0:
    os._exit(0 if ask(4) is False and equivalent(r'\prod_{k=2}^{3} k', '6') is True else 1)
assert os.waitpid(pid, 0)[1] == 0
assert ask(2) is False
"""
NOTHING_HEAVY = r"""
import sys
from wcse_lib.answers import equivalent
assert equivalent('0.5', r'\frac12') and not equivalent('(1,2)', '[1,2]')
assert not {'sympy', 'math_verify', 'mpmath'} & set(sys.modules)
assert equivalent(r'\sqrt8', r'2\sqrt2')
assert 'sympy' not in sys.modules
"""


@pytest.mark.parametrize("code", [AFTER_A_FORK, NOTHING_HEAVY], ids=["fork", "imports"])
def test_in_a_process_of_its_own(code):
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_shared_checker_never_loses_patience():
    # a call is bounded, and there is no stage to stall
    assert checker._shared(DEFAULT).patience_seconds == float("inf")


@pytest.mark.slow
def test_math_verify_from_a_jupyter_kernel():
    reason = "jupyter_client is not installed"
    manager = pytest.importorskip("jupyter_client.manager", reason=reason)
    kernel, client = manager.start_new_kernel(kernel_name="python3")
    code = (
        "from wcse_lib.answers import equivalent\n"
        r"print(equivalent(r'\prod_{k=1}^{3} k', '6'), equivalent('1/2', '0.5'))"
    )
    printed = []

    def keep(message):
        printed.append(message["content"].get("text", ""))

    try:
        client.execute_interactive(code, output_hook=keep, timeout=300)
        assert "True True" in "".join(printed)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
