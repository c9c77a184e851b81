"""Work on shards side by side, one process each: hashing and inserting keep a core busy, and Python has one a process.

The processes run this module rather than forks of their parent, which may have threads and open databases, and rather
than `multiprocessing`, which runs the parent's script again. Jobs, progress and results are lines of JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from eventray.domain import errors
from eventray.domain.errors import EventRayError, StoreUnavailable

Progress = Callable[[str, int, int], None]  # what is being done; how much of it, and how much there is to do
Task = Callable[[Mapping[str, Any], Callable[[int], None]], Any]

_WORTH_A_PROCESS = 50_000  # events: a process takes as long to start as half a second of work
_COMMAND = (sys.executable, "-c", "from eventray.store.parallel import serve; serve()")


def side_by_side(
    task: str,
    jobs: Sequence[Mapping[str, Any]],
    *,
    phase: str,
    total: int,
    progress: Progress | None,
    processes: int | None = None,
) -> list[Any]:
    """Return what `task` ("module:function" of eventray) gives for each job; results and jobs are JSON.

    What is little work (`total`) is done here, unless `processes` says how many are to do it.
    `progress(phase, done, total)` is called in this thread. The first error of eventray that a task raises is raised
    here, and ends the others.
    """
    if processes is None and total < _WORTH_A_PROCESS:
        return _one_by_one(task, jobs, phase, total, progress)
    processes = min(len(jobs), processes or usable_cores())
    news: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
    waiting = list(enumerate(jobs))
    running: dict[int, subprocess.Popen[bytes]] = {}
    results: dict[int, Any] = {}
    done = 0
    try:
        while len(results) < len(jobs):
            while waiting and len(running) < processes:
                number, job = waiting.pop(0)
                running[number] = _start({"task": task, "job": job}, number, news)
            number, line = news.get()
            if "done" in line:
                done += line["done"]
                if progress is not None:
                    progress(phase, min(done, total), total)
            elif "result" in line:
                running.pop(number).wait()
                results[number] = line["result"]
            else:
                raise _error_of(line)
    finally:
        for child in running.values():
            child.kill()
            child.wait()
    return [results[number] for number in range(len(jobs))]


def _one_by_one(
    task: str, jobs: Sequence[Mapping[str, Any]], phase: str, total: int, progress: Progress | None
) -> list[Any]:
    done = 0

    def say(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(phase, min(done, total), total)

    run = _task(task)
    return [run(job, say) for job in jobs]


def _task(name: str) -> Task:
    module, _, function = name.partition(":")
    task: Task = getattr(importlib.import_module(module), function)
    return task


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(
    order: dict[str, Any], number: int, news: queue.SimpleQueue[tuple[int, dict[str, Any]]]
) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(json.dumps(order).encode())
    child.stdin.close()
    threading.Thread(target=_listen, args=(child, number, news), daemon=True).start()
    return child


def _listen(child: subprocess.Popen[bytes], number: int, news: queue.SimpleQueue[tuple[int, dict[str, Any]]]) -> None:
    assert child.stdout is not None
    ended = False
    with child.stdout:
        for raw in child.stdout:
            line = json.loads(raw)
            ended = "done" not in line
            news.put((number, line))
    if not ended:
        news.put((number, {"error": "", "text": f"its process ended with {child.wait()}"}))


def _error_of(line: Mapping[str, Any]) -> EventRayError:
    kind = getattr(errors, line["error"], None)
    if kind is None:
        return StoreUnavailable("the work on a shard", line["text"])
    error: EventRayError = kind.__new__(kind, *line["args"])
    error.args = tuple(line["args"])
    error.__dict__.update(line["facts"])
    return error


def serve() -> None:
    """Do one job, as the process that `side_by_side` started: the order comes by standard input."""
    order = json.load(sys.stdin)
    task, out = _task(order["task"]), sys.stdout

    def say(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    with _parent_gone_is_fine():
        try:
            say({"result": task(order["job"], lambda count: say({"done": count}))})
        except EventRayError as error:
            say({"error": type(error).__name__, "args": error.args, "facts": error.__dict__})


@contextlib.contextmanager
def _parent_gone_is_fine() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        os._exit(1)
    except KeyboardInterrupt:
        os._exit(130)
