"""What a move to another carrier costs: 100 threads that yield between steps of real work.

PEER is PROGRAM-HOW.  Programs: `nothing`, a yield alone; `json`, a document of 20 KB is read,
changed and written; `ast`, a module of the library is parsed, walked and unparsed; `sqlite`, rows
are put into a table in memory and grouped.  What a step has made is used, changed and dropped
after the yield.  How: `stays`, by the scheduler's own policy; `moves`, each yield ends on another
carrier; `one`, there is one carrier.
"""

import ast
import functools
import json
import os
import sqlite3
import threading
import time

from common import arguments, result

THREADS = 100


def no_work(pause):
    while True:
        yield
        pause()


def work_on_json(pause):
    text = json.dumps([{"id": i, "name": f"name {i}", "tags": [str(i), "a", "b"]}
                       for i in range(300)])
    while True:
        document = json.loads(text)
        yield
        pause()
        for record in document:
            record["tags"] = [tag.upper() for tag in record["tags"]]
        yield
        pause()
        json.dumps(document)


def work_on_syntax(pause):
    with open(functools.__file__) as file:
        source = "".join(file.readlines()[:200])
    while True:
        tree = ast.parse(source)
        yield
        pause()
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        yield
        pause()
        assert names and ast.unparse(tree)


def work_on_rows(pause):
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute("create table t (k, v)")
    while True:
        rows = [(i % 7, f"value {i}") for i in range(300)]
        yield
        pause()
        connection.executemany("insert into t values (?, ?)", rows)
        found = connection.execute("select k, count(v) from t group by k").fetchall()
        yield
        pause()
        assert len(found) == 7
        connection.execute("delete from t")


PROGRAMS = {"nothing": no_work, "json": work_on_json, "ast": work_on_syntax,
            "sqlite": work_on_rows}


def main():
    peer, n = arguments()
    program, how = peer.split("-")
    if how == "moves":
        # Read when the first virtual thread is started.
        os.environ["PYTHON_VIRTUAL_THREADS_MOVE"] = "1"
    import virtual_threading
    virtual_threading.configure(
        parallelism=1 if how == "one" else len(os.sched_getaffinity(0)))
    ready = threading.Barrier(THREADS + 1)

    def run():
        steps = PROGRAMS[program](virtual_threading.yield_now)
        for _ in range(2):
            next(steps)
        ready.wait()
        for _ in range(n // THREADS):
            next(steps)

    threads = [virtual_threading.spawn(run) for _ in range(THREADS)]
    ready.wait()
    before, cpu = virtual_threading.stats(), time.process_time()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    after = virtual_threading.stats()
    steps = n // THREADS * THREADS
    result(per_second=steps / seconds, cpu_us=cpu / steps * 1e6,
           moved=100 * (after["migrations"] - before["migrations"]) / steps)


main()
