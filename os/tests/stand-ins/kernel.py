"""What stands behind the stand-ins: the part of a BSD kernel that pfctl(8) and ipfw(8) talk to.

Kept in one file, `state.json`, beside the program that was called (not beside the file it is a link to),
so that a test links the programs into a folder of its own and has a firewall of its own.

Sources are FreeBSD's, as `file: function`, read at main of 2025 unless a year is given.
"""

import fcntl
import ipaddress
import json
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
        self.path = os.path.join(HERE, "state.json")
        try:
            with open(self.path) as file:
                self.all = json.load(file)
        except FileNotFoundError:
            self.all = json.loads(json.dumps(FRESH))
        return self.all

    def __exit__(self, kind, error, trace):
        # A program that ends by `sys.exit` has done what it did before; one that broke has not.
        if kind in (None, SystemExit):
            with open(self.path + ".new", "w") as file:
                json.dump(self.all, file)
            os.rename(self.path + ".new", self.path)
        self.lock.close()


def say(text):
    """To standard error, as err(3) and fprintf(stderr) do."""
    sys.stderr.write(text + "\n")


def network(text):
    """A prefix; host bits are masked away, as both kernels do when an address is stored."""
    return ipaddress.ip_network(text, strict=False)


def inside(addr, prefix):
    net = ipaddress.ip_network(prefix)
    addr = ipaddress.ip_address(addr)
    return addr.version == net.version and addr in net


def best(addr, prefixes):
    """The most specific of the prefixes that holds the address, as a radix tree finds it; None for none."""
    addr = ipaddress.ip_address(addr)
    for length in range(addr.max_prefixlen, -1, -1):
        text = str(ipaddress.ip_network((addr, length), strict=False))
        if text in prefixes:
            return text
    return None
