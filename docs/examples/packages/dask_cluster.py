"""Past one machine: dask.distributed runs blocking tasks on virtual threads.

Each of two worker processes gets a VirtualThreadPoolExecutor as its executor, so that it runs
thousands of tasks at a time, each of them plain code that blocks.  Workers on other machines
take the same plugin.
"""

import os
import time
from concurrent.futures import VirtualThreadPoolExecutor

import dask
import virtual_threading
from distributed import Client, LocalCluster, WorkerPlugin

TASKS = 10_000
PER_WORKER = 2_000              # tasks that a worker runs at once


class VirtualThreads(WorkerPlugin):
    """The default executor of each worker."""

    def setup(self, worker):
        self.before = worker.executors["default"]
        worker.executors["default"] = VirtualThreadPoolExecutor()

    def teardown(self, worker):
        worker.executors["default"].shutdown(wait=False)
        worker.executors["default"] = self.before


def task(n):
    time.sleep(0.5)             # parks this thread; its carrier runs others
    return n * n, os.getpid(), virtual_threading.is_virtual()


def main():
    # The worker's profiler walks the frames of threads that run, which free-threaded Python
    # does not support: stock crashes.
    dask.config.set({"distributed.worker.profile.enabled": False})
    with (LocalCluster(n_workers=2, threads_per_worker=PER_WORKER,
                       dashboard_address=None) as cluster,
          Client(cluster) as client):
        client.register_plugin(VirtualThreads())
        start = time.monotonic()
        results = client.gather(client.map(task, range(TASKS), pure=False))
        seconds = time.monotonic() - start
    assert [square for square, _, _ in results] == [n * n for n in range(TASKS)]
    assert all(virtual for _, _, virtual in results)
    workers = {pid for _, pid, _ in results}
    assert len(workers) == 2
    print(f"{TASKS:,} tasks of 0.5 s in {seconds:.1f} s, by {len(workers)} processes")


if __name__ == "__main__":
    main()
