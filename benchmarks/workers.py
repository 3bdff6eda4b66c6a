"""Samples per second with Ray at 1, 2 and 4 workers on this machine, and what a killed worker costs.

    python benchmarks/workers.py [--model nano-wc] [--problems 500] [--samples 60] [--workers 1 2 4] [--kill]

Every worker is a process with an engine of its own and one thread. Efficiency is the rate over the number of
workers, against the rate at the first number. Workers cannot scale beyond the cores: 4 on 2 cores can at best do
what 2 do, an efficiency of 0.5, and other jobs on the machine take their share. The CPU-seconds tell the two
apart: they stay the same where workers only wait for a core. Start-up (Ray itself, every worker's imports and
model, a few samples) is left out of the rate and has a column of its own. "none" is the same engine in this
process, without Ray: it fills its batch anew whenever a sample ends, where a worker draws one chunk to its end.
`--kill` kills one worker (SIGKILL) after a quarter of the samples and counts what came.
"""

import argparse
import os
import signal
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
from sampling import DECODING, work

from wcse_lib.nano import MODELS
from wcse_lib.sample.cluster import RayEngine
from wcse_lib.sample.engines import Engine, open_engine
from wcse_lib.sample.prompts import load_tokenizer
from wcse_lib.study import Machine

MACHINE = Machine(device="cpu", threads=1, dtype="float32")


def opened(model: str, n: int, requests: list) -> tuple[Engine, float]:
    """An engine on n workers (0: in this process) that has drawn its first samples, and the seconds that this took."""
    clock = time.monotonic()
    if n:
        engine = RayEngine("hf", model, MACHINE.model_copy(update={"workers": n}))
    else:
        engine = open_engine("hf", model, MACHINE)
    list(engine.generate(requests[: 20 * max(1, n)], DECODING))
    return engine, time.monotonic() - clock


def closed(engine: Engine) -> None:
    engine.close()
    if isinstance(engine, RayEngine):
        import ray

        ray.shutdown()  # the next cluster is of another size


def cpu_seconds(pids: list[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(t.user + t.system for t in times)


def check(keys: list, requests: list) -> None:
    assert len(keys) == len(set(keys)) and set(keys) == {r.key for r in requests}, (
        "samples were lost or drawn twice"
    )


def rate(model: str, n: int, requests: list, first: float | None) -> float:
    engine, start_up = opened(model, n, requests)
    pids = engine.pids if n else [os.getpid()]
    clock, cpu = time.monotonic(), cpu_seconds(pids)
    keys = [output.key for output in engine.generate(requests, DECODING)]
    seconds, cpu = time.monotonic() - clock, cpu_seconds(pids) - cpu
    check(keys, requests)
    closed(engine)
    per_second = len(keys) / seconds
    efficiency = f"{per_second / n / (first or per_second):.2f}" if n else ""
    print(
        f"{n or 'none'}\t{len(keys)}\t{seconds:.1f}\t{per_second:.0f}\t{efficiency}\t{cpu:.1f}\t{start_up:.1f}",
        flush=True,
    )
    return per_second


def kill(model: str, n: int, requests: list) -> None:
    engine, _ = opened(model, n, requests)
    keys, before, clock = [], 0, time.monotonic()
    for output in engine.generate(requests, DECODING):
        keys.append(output.key)
        if not before and len(keys) >= len(requests) / 4:
            before = len(keys)
            os.kill(engine.pids[-1], signal.SIGKILL)
    seconds, pids = time.monotonic() - clock, engine.pids_now()
    check(keys, requests)
    assert [a == b for a, b in zip(pids, engine.pids)] == [True] * (n - 1) + [False], (
        "another worker than the killed one is new"
    )
    closed(engine)
    print(
        f"killed 1 of {n} workers after {before} samples: {len(keys)} of {len(requests)} came, "
        f"{len(keys) - len(set(keys))} twice, "
        f"in {seconds:.1f} s; Ray started it anew"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano-wc")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--kill", action="store_true")
    args = parser.parse_args()
    model = str(MODELS / args.model)
    requests, _ = work(args, load_tokenizer(model))
    print(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {args.model}, "
        f"{args.problems} problems x {args.samples} samples"
    )
    if args.kill:
        kill(model, max(2, *args.workers), requests)
        return
    print(
        "workers\tsamples\tseconds\tsamples per second\tefficiency\tCPU-seconds\tstart-up seconds"
    )
    rate(model, 0, requests, None)
    first = None
    for n in args.workers:
        per_second = rate(model, n, requests, first)
        first = first or per_second / n
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
