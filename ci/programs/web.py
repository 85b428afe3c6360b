"""What the programs that serve HTTP share: many clients that keep their connections."""

import http.client
import resource
import threading

CLIENTS = 2_000
REQUESTS = 3

# Both ends of each connection are in this process, and the usual soft limit is 1,024.
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def fetch_all(port):
    """CLIENTS threads, each with one connection: REQUESTS replies each, all as expected.

    All clients have had their first reply before any of them sends its second request, so
    that all connections are open at once.
    """
    all_connected = threading.Barrier(CLIENTS)
    failures = []

    def client(number):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            for request in range(REQUESTS):
                n = number * REQUESTS + request
                connection.request("GET", f"/square/{n}")
                reply = connection.getresponse()
                body = reply.read()
                if (reply.status, body) != (200, str(n * n).encode()):
                    raise AssertionError(f"{n}: {reply.status} {body[:80]}")
                if request == 0:
                    all_connected.wait()
            connection.close()
        except BaseException as exc:
            failures.append(f"client {number}: {exc!r}")
            all_connected.abort()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"{len(failures)} of {CLIENTS} clients failed, the first one:\n"
                         f"{failures[0]}")
    print(f"{CLIENTS} clients, {CLIENTS * REQUESTS} replies")
