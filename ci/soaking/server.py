"""A server process of ci/soak: HTTP and HTTPS, one virtual thread a connection.

    server.py FD TLS_FD FILES

Accepts from two sockets that it has inherited, and may have so many descriptors.  For each line
of its input, when no connection is left, it prints what it holds as a line of JSON.  The line is
a number: of bytes by which its address space may grow from then on, or -1 for any.
"""

import ctypes
import gc
import json
import os
import pathlib
import resource
import select
import socket
import ssl
import sys
import test
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import virtual_threading
from replies import body

CERTIFICATE = pathlib.Path(test.__file__).parent / "certdata/keycert.pem"
HOLD_S = 0.02               # how long a request for memory keeps it
LOOKS = 50                  # at the threads, until none runs
LOOK_S = 0.01               # from one to the next


class MallocInfo(ctypes.Structure):
    """mallinfo2(3)."""
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]


c_library = ctypes.CDLL(None)
c_library.mallinfo2.restype = MallocInfo


class Connections:
    """Those of all servers of this process, as the threads that have them."""

    def __init__(self):
        self.threads = set()

    def wait_for_none(self, listeners):
        """Until each has ended, those included that wait to be accepted."""
        while self.threads or select.select(listeners, [], [], 0)[0]:
            for thread in list(self.threads):
                thread.join()
                self.threads.discard(thread)
            time.sleep(0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        _, what, n = self.path.split("/")
        if what == "square":
            self.reply(200, body(int(n)))
        elif what == "memory":
            try:
                held = bytearray(int(n))
            except MemoryError:
                self.reply(503, b"")
            else:
                time.sleep(HOLD_S)
                self.reply(200, b"%d" % len(held))

    def do_POST(self):
        self.reply(200, self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self, fd, connections, context=None):
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=fd)
        self.connections, self.context = connections, context

    def process_request(self, request, address):
        thread = threading.Thread(target=self.process_request_thread, args=(request, address),
                                  daemon=True)
        thread.start()
        self.connections.threads.add(thread)

    def finish_request(self, request, address):
        if self.context is not None:
            with self.context.wrap_socket(request, server_side=True) as wrapped:
                super().finish_request(wrapped, address)
        else:
            super().finish_request(request, address)

    def handle_error(self, request, address):
        # Clients that go away are what is to be endured; the others know what they miss.
        if not isinstance(sys.exception(), (OSError, MemoryError)):
            super().handle_error(request, address)


def stats_at_rest():
    """stats(), with the fewest threads of some looks: those that were joined, and the runtime's
    housekeeping after a collection, take a moment until they have ended.  One may be in accept()
    all the time, where the other server took the connection that both had seen."""
    looks = []
    for _ in range(LOOKS):
        looks.append(virtual_threading.stats())
        threads = looks[-1]["threads"]
        if not threads["running"] and not threads["runnable"]:
            return looks[-1]
        time.sleep(LOOK_S)
    return min(looks, key=lambda stats: sum(stats["threads"].values()))


def held():
    """What this process holds while it has no connection."""
    gc.collect()
    stats = stats_at_rest()
    status = pathlib.Path("/proc/self/status").read_text()
    malloc = c_library.mallinfo2()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "OS threads": int(status.split("Threads:")[1].split()[0]),
        "memory, KiB": int(status.split("VmRSS:")[1].split()[0]),
        "blocks": sys.getallocatedblocks(),
        "malloc, bytes": malloc.uordblks + malloc.hblkhd,
        "objects": len(gc.get_objects()),
        "virtual threads": sum(stats["threads"].values()),
        "stacks": stats["stacks_resident"] + stats["stacks_frozen"],
    }


def limit_address_space(more):
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = hard if more < 0 else pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def main(fd, tls_fd, files):
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    connections = Connections()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    for server in Server(fd, connections), Server(tls_fd, connections, context):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        connections.wait_for_none([fd, tls_fd])
        limit_address_space(int(line))
        print(json.dumps(held()), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
