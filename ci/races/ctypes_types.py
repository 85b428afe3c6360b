"""PyCFuncPtr_new: threads make types and closures of ctypes."""

import ctypes
import threading

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


def work():
    for size in range(1, 300):
        ctypes.c_int * (size % 50)
        CALLBACK(lambda x: x)(1)


threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
