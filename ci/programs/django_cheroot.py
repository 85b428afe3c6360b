"""Django, served by cheroot's threads."""

import threading
import time

import django
from cheroot.wsgi import Server
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from threads import check_virtual
from web import CLIENTS, fetch_all


def square(request, n):
    check_virtual()
    time.sleep(0.001)
    return HttpResponse(str(n * n))


urlpatterns = [path("square/<int:n>", square)]

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"],
                   SECRET_KEY="of a test", LOGGING_CONFIG=None)
django.setup()
server = Server(("127.0.0.1", 0), get_wsgi_application(), numthreads=100,
                request_queue_size=CLIENTS, timeout=600)
server.keep_alive_conn_limit = 2 * CLIENTS
server.prepare()
thread = threading.Thread(target=server.serve)
thread.start()
try:
    fetch_all(server.bind_addr[1])
finally:
    server.stop()
    thread.join()
