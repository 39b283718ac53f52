# SPDX-License-Identifier: GPL-2.0
"""
Loads and watches the in-kernel vhost_net and tuntap_ring in a VM, with scripts/in-vm/vhost.sh.
"""

import os

from command import read, run, write

TRACING = "/sys/kernel/tracing"
FOLDER = "/sys/kernel/debug/tuntap_ring"
COUNTERS = ("calls", "entries", "wakes", "withheld", "released", "resized")
PARAMETERS = "/sys/module/tuntap_ring/parameters"
TOOLS = "/src/build/tools/release"
TOOL, CLIENT = f"{TOOLS}/tuntap-ring", f"{TOOLS}/tuntap-client"
SHELL = ["bash", "-c", 'set -euo pipefail; . /src/scripts/in-vm/vhost.sh; "$@"', "vhost"]


def mount():
    """Mounts debugfs and tracefs."""
    for kind, path in (("debugfs", "/sys/kernel/debug"), ("tracefs", TRACING)):
        if os.path.isdir(path) and not os.path.ismount(path):
            run(["mount", "-t", kind, kind, path])


def load(consumer, *modules):
    """Loads the in-kernel vhost_net or tuntap_ring, which may be in these module files."""
    run([*SHELL, "load_vhost", consumer, *modules])


def unload():
    """Unloads vhost_net, tuntap_ring and the module that calls it, if loaded."""
    run([*SHELL, "unload_vhost"])


def counter(name):
    """Returns a counter of tuntap_ring, 0 without the module."""
    try:
        return int(read(f"{FOLDER}/{name}"))
    except FileNotFoundError:
        return 0


def set_parameter(name, value=""):
    """Sets a parameter of tuntap_ring, by default to the empty string."""
    write(f"{PARAMETERS}/{name}", value)
