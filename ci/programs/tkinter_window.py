"""tkinter: the main thread has a window, and threads work and show it there; a whole program of
this kind in a thread, which is pinned."""

import contextlib
import os
import shutil
import subprocess
import threading
import time
import tkinter

import virtual_threading

from threads import run_all

WORKERS = 100
STEPS = 10


@contextlib.contextmanager
def display():
    """An X server without a screen, as DISPLAY."""
    read, write = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-nolisten", "tcp"],
                              pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with open(read) as number:
            os.environ["DISPLAY"] = f":{number.readline().strip()}"
        yield
    finally:
        server.terminate()
        server.wait()


def window(worker_count):
    """Runs a window until all workers have ended; what they did must all be shown."""
    root = tkinter.Tk()
    total = tkinter.IntVar(root, 0)
    label = tkinter.Label(root, textvariable=total)
    label.pack()
    left = worker_count

    def add():
        total.set(total.get() + 1)

    def ended():
        nonlocal left
        left -= 1
        if left == 0:
            root.quit()

    def work(number):
        for _ in range(STEPS):
            time.sleep(0.001)
            root.after(0, add)          # a call into the window's thread
        root.after(0, ended)

    workers = threading.Thread(target=run_all, args=(work, worker_count))
    root.after(0, workers.start)
    root.mainloop()
    workers.join()
    assert int(label.cget("text")) == STEPS * worker_count, label.cget("text")
    root.destroy()


def pinned():
    """A callback that waits holds the thread of the window, and no other."""
    with virtual_threading.pin():
        root = tkinter.Tk()
        event = threading.Event()
        root.after(0, lambda: threading.Thread(target=event.set).start())
        root.after(0, lambda: (event.wait(), root.quit()))
        root.mainloop()
        root.destroy()
    done.append(True)


if shutil.which("Xvfb") is None:
    raise SystemExit("no Xvfb, which is in Debian's xvfb")
done = []
with display():
    window(WORKERS)
    threads = [virtual_threading.spawn(pinned) for _ in range(3)]
    for thread in threads:
        thread.join()
assert done == [True] * len(threads), done
print(f"{STEPS * WORKERS} calls from {WORKERS} threads")
