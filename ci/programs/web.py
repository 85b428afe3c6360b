"""What the programs that serve HTTP share: many clients that keep their connections."""

import http.client
import resource
import threading

from threads import run_all

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

    def client(number):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.connect()
            kept = connection.sock
            for request in range(REQUESTS):
                n = number * REQUESTS + request
                connection.request("GET", f"/square/{n}")
                reply = connection.getresponse()
                body = reply.read()
                if (reply.status, body) != (200, str(n * n).encode()):
                    raise AssertionError(f"{n}: {reply.status} {body[:80]}")
                # http.client makes a new one in silence.
                if connection.sock is not kept:
                    raise AssertionError(f"{n}: the server has closed the connection")
                if request == 0:
                    all_connected.wait()
            connection.close()
        except threading.BrokenBarrierError:
            pass                # another client has failed, and says why
        except BaseException:
            all_connected.abort()
            raise

    run_all(client, CLIENTS)
    print(f"{CLIENTS} clients, {CLIENTS * REQUESTS} replies")
