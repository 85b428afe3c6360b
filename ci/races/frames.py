"""frame_clear, frame_tp_clear: a thread clears the frames of another one that returns from them."""

import sys
import threading

COUNT = 3000
frames = []


def work():
    for _ in range(COUNT):
        def f():
            frames.append(sys._getframe())
        f()


def clear():
    cleared = 0
    while cleared < COUNT and (frames or worker.is_alive()):
        try:
            frames.pop().clear()
            cleared += 1
        except (IndexError, RuntimeError):
            pass


worker = threading.Thread(target=work)
clearer = threading.Thread(target=clear)
worker.start()
clearer.start()
worker.join()
clearer.join()
