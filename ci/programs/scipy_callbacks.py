"""numpy and scipy: compiled code calls Python that blocks, in a hundred threads at once.

The frames of scipy's own code lie on the stack meanwhile, so such a thread keeps its OS thread.
"""

import threading
import time

import numpy as np
from scipy import integrate, optimize

import virtual_threading

from threads import run_all

THREADS = 100
METHODS = "TNC", "L-BFGS-B", "COBYLA"
TIMEOUT_S = 200


class Gate:
    """All threads wait here, in the first call of a function, until another thread opens it."""

    def __init__(self):
        self.waiting = threading.Semaphore(0)
        self.opened = threading.Event()

    def pass_by(self):
        if not self.opened.is_set():
            self.waiting.release()
            assert self.opened.wait(TIMEOUT_S), "threads that wait keep the others from going on"
        time.sleep(0.0001)

    def open(self):
        for _ in range(THREADS):
            assert self.waiting.acquire(timeout=TIMEOUT_S), "not all threads have come here"
        self.opened.set()


gates = {name: Gate() for name in (*METHODS, "quad")}


def open_gates():
    for gate in gates.values():
        gate.open()


def square_distance(x, centre, method):
    gates[method].pass_by()
    return float(((x - centre) ** 2).sum())


def solve(number):
    centre = np.array([number, -number], dtype=float)
    for method in METHODS:
        found = optimize.minimize(square_distance, [number + 0.5, 0.5 - number], (centre, method),
                                  method=method, tol=1e-4)
        assert np.allclose(found.x, centre, atol=0.05), (method, found)

    def integrand(x):
        gates["quad"].pass_by()
        return x * number

    value, _ = integrate.quad(integrand, 0, 2)
    assert np.isclose(value, 2 * number), value


# One thread runs at a time: if those that wait in scipy's code kept their turn, all would.
virtual_threading.configure(parallelism=1)
opener = threading.Thread(target=open_gates)
opener.start()
run_all(solve, THREADS)
opener.join()
if virtual_threading.is_virtual(opener):
    pins = virtual_threading.stats()["pins"]["foreign native frame"]
    assert pins >= 2 * THREADS, pins        # in TNC's code and in quad's
print(f"{THREADS} threads, {len(gates)} solvers each")
