"""Flask, served by waitress's threads."""

import logging
import threading
import time

from flask import Flask
from waitress.server import create_server

from threads import check_virtual
from web import CLIENTS, fetch_all

logging.getLogger("waitress.queue").setLevel(logging.ERROR)    # says how long it is
app = Flask(__name__)


@app.get("/square/<int:n>")
def square(n):
    check_virtual()
    time.sleep(0.001)
    return str(n * n)


server = create_server(app, host="127.0.0.1", port=0, threads=100, backlog=CLIENTS,
                       connection_limit=2 * CLIENTS, asyncore_use_poll=True)
threading.Thread(target=server.run, daemon=True).start()
fetch_all(server.effective_port)
