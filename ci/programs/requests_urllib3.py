"""requests and urllib3 on a pool of threads, against the standard library's server."""

import threading
from concurrent.futures import ThreadPoolExecutor, VirtualThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
import urllib3

from threads import check_virtual


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        check_virtual()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1000


server = Server(("127.0.0.1", 0), Handler)
serving = threading.Thread(target=server.serve_forever, daemon=True)
serving.start()
url = f"http://127.0.0.1:{server.server_port}/"
local = threading.local()
pool = urllib3.PoolManager(maxsize=100, block=True)


def by_requests(n):
    check_virtual()
    if not hasattr(local, "session"):
        local.session = requests.Session()
    return local.session.post(url, data=f"body {n}").text == f"body {n}"[::-1]


def by_urllib3(n):
    check_virtual()
    return pool.request("POST", url, body=f"body {n}").data == f"body {n}"[::-1].encode()


for executor in ThreadPoolExecutor, VirtualThreadPoolExecutor:
    for fetch in by_requests, by_urllib3:
        with executor(200) as threads:
            results = list(threads.map(fetch, range(1000)))
        assert results == [True] * 1000, f"{fetch.__name__}, {executor.__name__}"
pool.clear()
server.shutdown()
serving.join()
server.server_close()
print("4,000 replies")
