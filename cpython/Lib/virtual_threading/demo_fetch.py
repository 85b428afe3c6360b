"""The demo's first half, a process of its own: a web server, and a thousand clients.

    python -m virtual_threading.demo_fetch {virtual|os} MANIFEST DIRECTORY IN_FLIGHT

MANIFEST is a JSON file: a list of [path relative to DIRECTORY, SHA-256].  The result is
a JSON object on stdout.  Both kinds run the same code but for the class of the server's
threads and the class of the executor.
"""

import concurrent.futures
import hashlib
import http.server
import json
import os
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

import virtual_threading
from virtual_threading.demo_meter import Meter

_CHUNK = 1 << 16


class Handler(http.server.SimpleHTTPRequestHandler):

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 4096       # all clients connect at once
    threads_started = 0

    def process_request(self, request, client_address):
        self.threads_started += 1
        super().process_request(request, client_address)


class VirtualServer(Server):

    def process_request(self, request, client_address):
        # socketserver names its class of threads, threading.Thread, here.
        self.threads_started += 1
        virtual_threading.Thread(target=self.process_request_thread,
                                 args=(request, client_address), daemon=True).start()


class Client:
    """Fetches files and compares them; counts how many requests are in flight."""

    def __init__(self, address, directory):
        self._prefix = f"http://{address[0]}:{address[1]}/"
        self._directory = directory
        # The server is here, whatever proxies the environment names.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._lock = threading.Lock()
        self._in_flight = 0
        self.most_in_flight = 0
        self.done = 0
        self.bytes = 0
        self.vanished = []
        self.mismatches = []

    def fetch(self, path, expected):
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            size, digest = self._get(path)
        except urllib.error.HTTPError as exc:
            exc.close()
            if os.path.exists(os.path.join(self._directory, path)):
                raise
            size, digest = 0, None      # it is gone from the disk, too
        finally:
            with self._lock:
                self._in_flight -= 1
                self.done += 1
        with self._lock:
            self.bytes += size
            if digest is None:
                self.vanished.append(path)
            elif digest != expected:
                self.mismatches.append([path, expected, digest])

    def _get(self, path):
        digest = hashlib.sha256()
        size = 0
        with self._opener.open(self._prefix + urllib.parse.quote(path)) as response:
            while chunk := response.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return size, digest.hexdigest()


def main(kind, manifest, directory, in_flight):
    with open(manifest) as file:
        files = json.load(file)
    virtual = kind == 'virtual'
    server_class = VirtualServer if virtual else Server
    thread_class = virtual_threading.Thread if virtual else threading.Thread
    executor_class = (concurrent.futures.VirtualThreadPoolExecutor if virtual
                      else concurrent.futures.ThreadPoolExecutor)

    def handler(*args):
        return Handler(*args, directory=directory)

    server = server_class(('127.0.0.1', 0), handler)
    serving = thread_class(target=server.serve_forever, daemon=True)
    serving.start()
    client = Client(server.server_address, directory)
    title = "virtual threads" if virtual else "ThreadPoolExecutor"
    with Meter(title, lambda: client.done, len(files)) as meter:
        with executor_class(in_flight) as executor:
            calls = [executor.submit(client.fetch, *entry) for entry in files]
            for call in calls:
                call.exception()
            threads = (len(calls) if virtual else len(executor._threads))
    server.shutdown()
    serving.join()
    server.server_close()

    errors = [repr(call.exception()) for call in calls if call.exception()]
    stats = virtual_threading.stats()
    json.dump({
        'files': client.done - len(client.vanished) - len(client.mismatches)
                 - len(errors),
        'bytes': client.bytes,
        'vanished': client.vanished,
        'mismatches': client.mismatches,
        'errors': errors,
        'in_flight': client.most_in_flight,
        'threads': threads + server.threads_started,
        'carriers': stats['carriers'] if virtual else None,
        'steals': stats['steals'] if virtual else None,
        'handoffs': stats['handoffs'] if virtual else None,
        'os_threads': meter.os_threads,
        'memory': meter.memory,
        'seconds': meter.seconds,
    }, sys.stdout)


if __name__ == '__main__':
    import signal
    # The demo asks for it when this process seems to hang.
    signal.signal(signal.SIGUSR1, lambda *args: virtual_threading.dump())
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
