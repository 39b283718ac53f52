# SPDX-License-Identifier: GPL-2.0
"""
Network namespaces and their devices. Each command that changes one is printed.
"""

import json
import os

from command import query, run, split

NO_IPV6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6"


class Namespace:
    """A network namespace; without a name, that of this program."""

    def __init__(self, name=None):
        self.name = name
        self.flags = ["-n", name] if name else []
        # A command begins with these words to run in the namespace.
        self.inside = ["ip", "netns", "exec", name] if name else []

    def add(self):
        """Creates the namespace, whose devices have no IPv6."""
        run(["ip", "netns", "add", self.name])
        self.disable_ipv6()

    def disable_ipv6(self):
        """Disables IPv6, which sends packets on its own, for devices to come."""
        if os.path.exists(NO_IPV6):
            run([*self.inside, "sh", "-c", f"echo 1 >{NO_IPV6}"])

    def delete(self):
        """Deletes the namespace, with its devices unless a program has them open."""
        run(["ip", "netns", "delete", self.name])

    def ip(self, command):
        """Runs `ip COMMAND` in the namespace."""
        return run(["ip", *self.flags, *split(command)])

    def tc(self, command):
        """Runs `tc COMMAND` in the namespace."""
        return run(["tc", *self.flags, *split(command)])

    def link(self, device):
        """Returns a description of the device, with its statistics."""
        return json.loads(query(["ip", *self.flags, "-s", "-j", "link", "show", device]))[0]

    def qdiscs(self, device):
        """Returns descriptions of the qdiscs of the device, with their statistics."""
        return json.loads(query(["tc", *self.flags, "-s", "-j", "qdisc", "show", "dev", device]))


HERE = Namespace()
