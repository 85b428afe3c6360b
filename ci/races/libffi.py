"""PyCFuncPtr_new: the first callbacks of a process are made by several threads at once, in libffi
(ffi_closure_alloc), which sets its allocator up.  TSan names the caller, as libffi has no lines.
"""

import ctypes
import os
import subprocess
import sys
import threading

THREADS = 4
PROCESSES = 100                 # at most: one in six has shown it
FOUND = 66


def work():
    barrier.wait()
    callback(int)


if len(sys.argv) == 1:
    options = f"{os.environ.get('TSAN_OPTIONS', '')} exitcode={FOUND}"
    for _ in range(PROCESSES):
        child = subprocess.run([sys.executable, __file__, "once"],
                               env=os.environ | {"TSAN_OPTIONS": options})
        if child.returncode == FOUND:
            break
    sys.exit()

callback = ctypes.CFUNCTYPE(None)
barrier = threading.Barrier(THREADS)
threads = [threading.Thread(target=work) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
