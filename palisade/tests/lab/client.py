#!@PYTHON@
"""A tunnel client: `client start|stop CONFIG`.

`start` logs in at the provider, goes into the background and returns 0; some seconds later there is a tun device with an
address. The device lives as long as the process. `stop` ends it; where none runs it logs in all the same.
"""
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

# linux/if_tun.h
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def login(config):
    with socket.create_connection((config["host"], int(config["port"])), timeout=5) as tic:
        tic.sendall(b"login\n")
        return tic.makefile().readline().strip()


def tunnel(config):
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", config["interface"].encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", config["interface"], "up"], check=True)
    subprocess.run(["ip", "addr", "add", config["address"], "dev", config["interface"], "nodad"], check=True)
    while os.read(tun, 2048):
        pass


def start(config):
    answer = login(config)
    print(answer, flush=True)
    if not answer.startswith("200"):
        return 1
    if os.fork() > 0:
        return 0
    os.setsid()
    nowhere = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    if os.fork() > 0:
        os._exit(0)
    beside = config["pidfile"] + ".new"
    with open(beside, "w") as pidfile:
        pidfile.write(f"{os.getpid()}\n")
    os.rename(beside, config["pidfile"])
    time.sleep(config["delay"])
    tunnel(config)
    return 0


def stop(config):
    try:
        with open(config["pidfile"]) as pidfile:
            os.kill(int(pidfile.read()), signal.SIGTERM)
        os.remove(config["pidfile"])
    except (OSError, ValueError):
        print(login(config), flush=True)
    return 0


def main():
    with open(sys.argv[2]) as file:
        config = json.load(file)
    return {"start": start, "stop": stop}[sys.argv[1]](config)


sys.exit(main())
