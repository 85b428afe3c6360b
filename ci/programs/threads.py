"""What the programs share: threads that all run, and the first exception of any."""

import sys
import threading

import virtual_threading


def check_virtual():
    """Every threading.Thread has to be virtual where the command line says so."""
    if "virtual_threads" in sys._xoptions and not virtual_threading.is_virtual():
        raise AssertionError(f"not virtual: {threading.current_thread()}")


def run_all(function, count):
    """Calls function(0) to function(count - 1), each in a threading.Thread; waits for all.

    Raises the first exception, when all have ended.
    """
    failures = []

    def run(number):
        try:
            check_virtual()
            function(number)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
