"""numpy and scipy: compiled code calls Python that blocks, in a hundred threads at once.

The frames of scipy's own code lie on the stack meanwhile, so such a thread keeps its OS thread.
"""

import time

import numpy as np
from scipy import integrate, optimize

from threads import run_all

THREADS = 100


def square_distance(x, centre):
    time.sleep(0.0001)
    return float(((x - centre) ** 2).sum())


def solve(number):
    centre = np.array([number, -number], dtype=float)
    for method in "Nelder-Mead", "L-BFGS-B", "COBYLA":
        found = optimize.minimize(square_distance, [number + 0.5, 0.5 - number], (centre,),
                                  method=method, tol=1e-4)
        assert np.allclose(found.x, centre, atol=0.05), (method, found)

    def integrand(x):
        time.sleep(0.0001)
        return x * number

    value, _ = integrate.quad(integrand, 0, 2)
    assert np.isclose(value, 2 * number), value


run_all(solve, THREADS)
print(f"{THREADS} threads, 4 solvers each")
