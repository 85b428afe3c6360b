"""PyCArrayType_from_ctype: threads make the first array types of ctypes."""

import ctypes
import threading


def work():
    barrier.wait()
    ctypes.c_int * 2


barrier = threading.Barrier(8)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
