"""PyCFuncPtr_new, PyCFuncPtr_call, generic_pycdata_new: threads make functions of ctypes, and call."""

import ctypes
import threading

FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


def work():
    for _ in range(1000):
        FUNCTION(lambda x: x)(1)


threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
