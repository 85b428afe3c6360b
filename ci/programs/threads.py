"""What the programs share: threads that all run, and the first exception of any."""

import threading


def run_all(function, count):
    """Calls function(0) to function(count - 1), each in a threading.Thread; waits for all.

    Raises the first exception, when all have ended.
    """
    failures = []

    def run(number):
        try:
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
