"""What stands behind the stand-ins: the part of a BSD kernel that pfctl(8) and ipfw(8) talk to.

Kept in one file, `state`, beside the program that was called (not beside the file it is a link to),
so that a test links the programs into a folder of its own and has a firewall of its own.

Sources are FreeBSD's, as `file: function`, read at main of 2025 unless a year is given.

Only modules written in C are imported: a test runs these programs by the hundred, and starting is what they take.
"""

import _socket
import fcntl
import marshal
import os
import sys

HERE = os.path.dirname(os.path.abspath(sys.argv[0]))

FRESH = {
    "pf": {
        "device": "ok",         # /dev/pf: ok, missing, denied
        "enabled": True,
        "main": [],             # the main ruleset, as pfctl -sr prints it
        "anchors": {},          # name -> {"rules": [text], "tables": {name: {"counters": bool, "entries": {prefix: [not, in, out]}}}}
        "states": [],           # {"id", "dir", "proto", "wire": [a0, p0, a1, p1], "stack": [...]}
        "nodes": [],            # {"addr", "raddr"}
        "skip": [],             # interfaces that are not filtered
        "table_entries": 200000,    # sys/net/pfvar.h: PFR_KENTRY_HIWAT
        "request_maxcount": 65535,  # sys/netpfil/pf/pf_ioctl.c: pf_ioctl_maxcount
        "next_id": 0x65F2C3A100000000,
        # pfctl.c: pfctl_net_kill_states of main in 2025 copies the second -k over the first.
        "second_k_is_lost": False,
    },
    "ipfw": {
        "module": "ok",         # ok, missing, denied
        "enable": 1,            # net.inet.ip.fw.enable
        "default": "deny",      # the rule 65535
        "rules": [],            # {"number", "text"}
        "tables": {},           # name -> {prefix: value}
        "states": [],           # {"rule", "proto", "ends": [[a, p], [b, p]]}
    },
    "sockets": [],              # {"local": a, "port": p, "remote": b, "rport": p}
    "now": 0,
}


class World:
    """The state, read and locked on entering, written back on leaving unless something was raised."""

    def __enter__(self):
        self.lock = open(os.path.join(HERE, "state.lock"), "a")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.path = os.path.join(HERE, "state")
        try:
            with open(self.path, "rb") as file:
                before = file.read()
        except FileNotFoundError:
            before = marshal.dumps(FRESH)
        self.all = marshal.loads(before)
        return self.all

    def __exit__(self, kind, error, trace):
        # A program that ends by `sys.exit` has done what it did before; one that broke has not.
        if kind in (None, SystemExit):
            with open(self.path + ".new", "wb") as file:
                marshal.dump(self.all, file)
            os.rename(self.path + ".new", self.path)
        self.lock.close()


def say(text):
    """To standard error, as err(3) and fprintf(stderr) do."""
    sys.stderr.write(text + "\n")


def split(text):
    """Address as a number, prefix length, and how many bits the family has. ValueError for what is no prefix."""
    addr, slash, length = text.partition("/")
    bits, family = (128, _socket.AF_INET6) if ":" in addr else (32, _socket.AF_INET)
    try:
        number = int.from_bytes(_socket.inet_pton(family, addr), "big")
    except OSError:
        raise ValueError(text) from None
    length = int(length) if slash else bits
    if not 0 <= length <= bits:
        raise ValueError(text)
    return number, length, bits


def join(number, length, bits):
    family = _socket.AF_INET6 if bits == 128 else _socket.AF_INET
    number = number >> (bits - length) << (bits - length)
    return "%s/%d" % (_socket.inet_ntop(family, number.to_bytes(bits // 8, "big")), length)


def network(text):
    """A prefix; host bits are masked away, as both kernels do when an address is stored."""
    return join(*split(text))


def inside(addr, prefix):
    number, _, bits = split(addr)
    net, length, width = split(prefix)
    return bits == width and number >> (bits - length) == net >> (bits - length)


def best(addr, prefixes):
    """The most specific of the prefixes that holds the address, as a radix tree finds it; None for none."""
    number, _, bits = split(addr)
    for length in range(bits, -1, -1):
        text = join(number, length, bits)
        if text in prefixes:
            return text
    return None


def host_or_net(text):
    """`203.0.113.7` of `203.0.113.7/32`, everything else as it is."""
    _, length, bits = split(text)
    return text.partition("/")[0] if length == bits else text
