"""python follow.py URL DEVICE [TRANSPORT...]: prints the events of a device, the pings and the end, with the client of python-socketio."""

import json
import logging
import sys

import socketio

url, device, *transports = sys.argv[1:]


def show(*words):
    print(*words, flush=True)


class Pings(logging.Handler):
    """Prints a line for each ping. The client answers them itself and tells nobody."""

    def emit(self, record):
        if record.getMessage().startswith("Received packet PING"):
            show("ping")


log = logging.getLogger("follow")
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(Pings())
client = socketio.Client(reconnection=False, engineio_logger=log)


@client.event
def connect():
    show("connected")
    client.emit("subscribe:device", device, callback=lambda answer: show("subscribed", json.dumps(answer["ok"])))


@client.event
def disconnect(reason):
    show("disconnected", reason)


@client.on("*")
def event(name, body=None):
    if isinstance(body, dict) and body.get("deviceId") == device:
        show(name, body["seq"])


client.connect(url, transports=transports or None)
show("transport", client.transport())
client.wait()
