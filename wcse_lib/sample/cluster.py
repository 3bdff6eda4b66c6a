"""Ray: one engine on each of several workers, and tasks spread over them; one process where `workers` is 1."""

from __future__ import annotations

import os
import uuid
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from wcse_lib.sample import engines
from wcse_lib.sample.engines import Decoding, Engine, Output, Request
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, Run

PACKAGES = {"vllm": "vllm", "openai": "openai", "batch": "openai"}  # of engines that need one
DEATHS = 3  # a worker is started anew, and its work done again, so many times
CHUNKS_A_WORKER = 4  # at least, so that no worker waits long for the last one
CHUNK = 256  # requests, where the machine file says nothing
LESS_AT_ONCE = "lower workers, batch_size or (vllm) max_num_seqs, then run again"


def not_installed(sources: Collection[str], machine: Machine) -> list[str]:
    """Packages that drawing needs and that are not installed here.

    Args: sources: what draws (`Study.engines`); local models are drawn from by the machine's own engine.
    """
    names = {machine.engine if source == "local" else source for source in sources}
    packages = {PACKAGES[name] for name in names if name in PACKAGES}
    if "local" in sources and _is_spread(machine):
        packages.add("ray")
    return sorted(package for package in packages if find_spec(package) is None)


def open_engine(
    engine: str, model: str, machine: Machine, adapters: Collection[str] = ()
) -> Engine:
    """A local engine in this process or, with machine keys `workers` > 1 or `address`, one on each of Ray's workers.

    Arguments are those of `engines.open_engine`.
    """
    if not _is_spread(machine):
        return engines.open_engine(engine, model, machine, adapters)
    return RayEngine(engine, model, machine, adapters)


class RayEngine:
    """The same engine on N workers; samples depend on their seeds, so it does not matter who draws them.

    Every worker has one chunk of neighbouring requests at a time; its samples come when it is done. Ray starts a lost
    worker anew, on this machine or another, as soon as there is place; until then the others draw its chunk.
    """

    def __init__(self, engine: str, model: str, machine: Machine, adapters: Collection[str] = ()):
        self.adapter: str | None = None
        self.is_own, resources, n_workers = _start_ray(machine)
        import ray

        self.chunk = machine.max_num_seqs or machine.batch_size or CHUNK
        worker = ray.remote(**resources, max_restarts=DEATHS)(_Worker)
        self.workers = [worker.remote(engine, model, machine, adapters) for _ in range(n_workers)]
        try:
            self.pids = self.pids_now()
        except ray.exceptions.RayError as error:
            self.close()
            raise ValueError(
                f"engine {engine} cannot run {model!r} on {n_workers} workers: {_cause(error)}"
            ) from error

    def pids_now(self) -> list[int]:
        """The workers' process ids, when those that Ray is to start anew are there."""
        import ray

        return ray.get([_is_up(worker) for worker in self.workers])

    def use(self, adapter: str | None) -> None:
        """Every chunk says which adapter it is for: a worker that was started anew knows none."""
        self.adapter = adapter

    def expect(self, n_samples: int) -> None:
        """Each worker will be asked for its share of so many samples."""
        for worker in self.workers:
            worker.expect.remote(-(-n_samples // len(self.workers)))

    def how_compiled(self) -> str:
        """What the first worker says of it."""
        import ray

        return ray.get(self.workers[0].how_compiled.remote())

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[Output]:
        """Yield one Output per request. Raises ValueError when a worker fails, or too many have died."""
        import ray

        waiting, idle = deque(self._chunks(requests)), deque(self.workers)
        drawing, returning, deaths = {}, {}, Counter()
        while waiting or drawing:
            while waiting and idle:
                worker, chunk = idle.popleft(), waiting.popleft()
                drawing[worker.draw.remote(chunk, decoding, self.adapter)] = worker, chunk
            if not (drawing or returning):
                raise ValueError(f"every worker died {DEATHS + 1} times; {LESS_AT_ONCE}")

            (ended,), _ = ray.wait([*drawing, *returning])
            is_back = ended in returning
            worker, chunk = (returning.pop(ended), []) if is_back else drawing.pop(ended)
            try:
                outputs = ray.get(ended)
            except ray.exceptions.RayActorError as error:
                if is_back:
                    continue  # Ray has given it up
                # Another may take its chunk; it comes back when Ray has started it anew.
                returning[_is_up(worker)] = worker
                waiting.appendleft(chunk)
                first = chunk[0].key
                deaths[first] += 1
                if deaths[first] > DEATHS:
                    raise ValueError(
                        f"{DEATHS + 1} workers died of the same samples: {_cause(error)}; {LESS_AT_ONCE}"
                    ) from error
                continue
            except ray.exceptions.RayError as error:
                raise ValueError(f"a worker failed: {_cause(error)}; {LESS_AT_ONCE}") from error
            idle.append(worker)
            if not is_back:
                yield from outputs

    def _chunks(self, requests: list[Request]) -> Iterator[list[Request]]:
        even_share = -(-len(requests) // (CHUNKS_A_WORKER * len(self.workers)))
        size = max(1, min(self.chunk, even_share))
        for start in range(0, len(requests), size):
            yield requests[start : start + size]

    def close(self) -> None:
        import ray

        while self.workers:
            ray.kill(self.workers.pop())
        _stop_ray(self.is_own)
        self.is_own = False


class _Worker:
    """Lives on a Ray worker and holds one engine."""

    def __init__(self, engine: str, model: str, machine: Machine, adapters: Collection[str]):
        self.engine = engines.open_engine(engine, model, machine, adapters)

    def pid(self) -> int:
        return os.getpid()

    def expect(self, n_samples: int) -> None:
        if hasattr(self.engine, "expect"):
            self.engine.expect(n_samples)

    def how_compiled(self) -> str:
        return self.engine.how_compiled() if hasattr(self.engine, "how_compiled") else ""

    def draw(
        self, requests: list[Request], decoding: Decoding, adapter: str | None
    ) -> list[Output]:
        self.engine.use(adapter)
        return list(self.engine.generate(requests, decoding))


def _is_up(worker: Any) -> Any:
    """A future of a worker's process id, which waits for as long as Ray is still to start it (anew)."""
    return worker.pid.options(max_task_retries=-1).remote()


def map_tasks(function: Callable, items: Iterable, machine: Machine) -> Iterator[tuple[Any, Any]]:
    """Yield `(item, function(item))` as they finish: here, in order, with one worker; else as Ray tasks.

    Args: function, items: picklable. Every task has its own process; on other machines it must see the same files. A
    task whose worker or node is lost is done again; what `function` raises is raised here, as it is.

    >>> list(map_tasks(abs, [-1, 2], Machine()))
    [(-1, 1), (2, 2)]
    """
    waiting = iter(items)
    if not _is_spread(machine):
        for item in waiting:
            yield item, function(item)
        return
    is_own, resources, n_workers = _start_ray(machine)
    import ray

    task = ray.remote(**resources, max_calls=1, max_retries=DEATHS)(function)
    running = {task.remote(item): item for item in islice(waiting, n_workers)}
    try:
        while running:
            finished = ray.wait(list(running))[0][0]
            item = running.pop(finished)
            try:
                yield item, ray.get(finished)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            for following in islice(waiting, 1):
                running[task.remote(following)] = following
    finally:
        for future in running:
            ray.cancel(future, force=True)
        _stop_ray(is_own)


def each_student(
    run: Run,
    stage: str,
    names: list[str],
    work: Callable,
    machine: Machine,
    done: str,
    together: Callable[[str], str] = str,
) -> None:
    """Call `work(folder, names, machine)` for the named students whose `stage` is not complete, or is older than what
    it reads.

    Args: together: students for whom it gives the same text go to one call, as many workers as there are sharing them;
    by default each has its own. With several workers every call is a task that works alone, and `done` ("trained") is
    printed behind the name of each student.
    """
    folder = str(run.folder.resolve())
    undone = [name for name in names if not run.complete(stage, name)]
    if not undone:
        return
    check_shared(run.folder, machine)
    groups: dict[str, list[str]] = {}
    for name in undone:
        groups.setdefault(together(name), []).append(name)
    n_parts = max(1, machine.workers // max(1, len(groups)))
    tasks = [part for group in groups.values() for part in _dealt(group, n_parts)]
    alone = machine.model_copy(update={"workers": 1, "address": None})
    for students, _ in map_tasks(lambda some: work(folder, some, alone), tasks, machine):
        if machine.workers > 1:
            print(f"{', '.join(students)}: {done}", flush=True)


def check_shared(folder: Path, machine: Machine) -> None:
    """Raises StudyError naming the nodes of the cluster on which a study's folder is not the one that is here.

    04 and 05 read and write it where they run; 02 hands its samples to this process, and needs no such folder. Every
    node that has place for a worker is asked for the word in a file that is new, and to answer by a file beside it.
    Costs a second or two; nothing without `address`, as then there is one node.
    """
    if not machine.address:
        return
    folder = folder.resolve()
    is_own, resources, _ = _start_ray(machine)
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    word = uuid.uuid4().hex
    question, blind = folder / f".shared-{word}", []
    look = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(_answer_beside)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        question.write_text(word)
        looks = {}
        for node in _nodes_for(resources):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = question.with_name(f"{question.name}-{node['NodeID']}")
            future = look.options(scheduling_strategy=there).remote(str(question), str(answer))
            looks[future] = node, answer
        for future, (node, answer) in looks.items():
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                is_same = ray.get(future) == word and answer.read_text() == word
                why = "" if is_same else "it has another folder there"
            except (ray.exceptions.RayError, OSError) as error:
                why = _cause(error)
            if why:
                blind.append(f"{name}: {why}")
    finally:
        for left in folder.glob(f"{question.name}*"):
            left.unlink()
        _stop_ray(is_own)
    if blind:
        raise StudyError(
            f"{folder}: not seen by these nodes of the cluster, on which 04 and 05 would train and test students: "
            f"{'; '.join(blind)}. Mount one storage at the same path on all of them and choose a folder on it "
            "(--outputs), or run up to 03 on the cluster (--until 03) and the rest by a machine file without address"
        )


def _answer_beside(question: str, answer: str) -> str:
    """The word in a file, written into another, too."""
    word = Path(question).read_text()
    Path(answer).write_text(word)
    return word


def _nodes_for(resources: dict[str, float]) -> list[dict[str, Any]]:
    """The nodes of the cluster on which at least one worker has place."""
    import ray

    return [node for node in ray.nodes() if node["Alive"] and _places(node, resources)]


def _places(node: dict[str, Any], resources: dict[str, float]) -> int:
    """For how many workers a node has all that each needs."""
    has = {"num_cpus": "CPU", "num_gpus": "GPU"}
    of_each = []
    for name, each in resources.items():
        if each:
            of_each.append(int(node["Resources"].get(has[name], 0) / each))
    return min(of_each)


def _dealt(names: list[str], n_parts: int) -> list[list[str]]:
    """Names in so many parts of about equal size, none of them empty."""
    return [names[start::n_parts] for start in range(min(n_parts, len(names)))]


def _is_spread(machine: Machine) -> bool:
    return machine.workers > 1 or bool(machine.address)


def _start_ray(machine: Machine) -> tuple[bool, dict[str, float], int]:
    """Start or join Ray: whether this call did, what each worker needs of it, and how many workers there are to be.

    Raises StudyError when it has no place for `workers`; a cluster at an `address`, which may have lost a node, is
    joined by as many as it has place for.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own niceness is 15: beside other work its workers hardly run.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        message = "workers, address: these machine keys need Ray: pip install -e '.[ray]'"
        raise StudyError(message) from error
    n_workers, n_threads = machine.workers, machine.threads or 1
    is_own = not ray.is_initialized()
    if is_own:
        where = {"address": machine.address}
        if not machine.address:  # workers may share this machine's cores
            n_cpus = max(os.cpu_count() or 1, n_workers * n_threads)
            where = {"address": "local", "num_cpus": n_cpus, "include_dashboard": False}
        ray.init(logging_level="ERROR", log_to_driver=False, **where)

    n_gpus = machine.gpus_per_worker
    if n_gpus is None:
        has_gpus = ray.cluster_resources().get("GPU")
        n_gpus = (machine.tensor_parallel_size or 1) if has_gpus else 0
    resources = {"num_cpus": n_threads, "num_gpus": n_gpus}
    n_places = sum(_places(node, resources) for node in _nodes_for(resources))
    if n_places >= n_workers:
        return is_own, resources, n_workers
    sentence = (
        f"workers: {n_workers} with threads: {n_threads} and gpus_per_worker: {n_gpus:g}: "
        f"Ray's nodes have place for {n_places}"
    )
    if machine.address and n_places:
        print(f"{sentence}, and so many are started", flush=True)
        return is_own, resources, n_places
    _stop_ray(is_own)
    raise StudyError(f"{sentence}; lower these numbers in the machine file, or start more nodes")


def _stop_ray(is_own: bool) -> None:
    """Leave Ray where this module started or joined it.

    Left to the process's end it takes longer than Jupyter waits for a kernel, and a kernel that is then told to end
    prints Ray's stack.
    """
    import ray

    if is_own:
        ray.shutdown()


def _cause(error: Exception) -> str:
    """The last line of what went wrong on the worker."""
    return str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
