# SPDX-License-Identifier: GPL-2.0
"""
Waits for progress, as tests/lib/wait.sh does.

A wait has no time limit, since a slow machine is not a failure. A wait fails once there was no progress
for PATIENCE seconds: the condition is false, and the value of no probe has changed. Conditions and probes
are functions.
"""

import os
import time

from ktap import Failed

PATIENCE = int(os.environ.get("PATIENCE", "300"))


class Stalled(Failed):
    """Nothing has moved."""


def cpu_of(*processes):
    """Returns a probe: the CPU time of these processes, in ticks."""

    def probe():
        times = []
        for process in processes:
            try:
                with open(f"/proc/{process.pid}/stat", encoding="utf-8") as stat:
                    # The name may have spaces. Of the fields behind it, 11 and 12 are user and system time.
                    times += map(int, stat.read().rpartition(") ")[2].split()[11:13])
            except OSError:
                pass
        return times

    return probe


def ended(*processes):
    """Whether all these processes have ended."""
    return all(process.poll() is not None for process in processes)


def wait_until(what, condition, *probes):
    """Polls until the condition is true, and returns its value. `what` describes it."""
    moved = probed = time.monotonic()
    state = None
    while not (value := condition()):
        time.sleep(0.02)
        now = time.monotonic()
        # A probe may start processes, so it runs once a second.
        if now - probed < 1:
            continue
        probed, seen = now, [probe() for probe in probes]
        if seen != state:
            state, moved = seen, now
        elif now - moved >= PATIENCE:
            raise Stalled(f"expected: {what}\nseen: nothing moved for {PATIENCE} s; {state}")
    return value


def within_cpu(seconds, process, what, condition):
    """
    Polls until the condition is true. Fails if the process has ended, or has used that much CPU time: for
    processes that are never idle.
    """
    probe = cpu_of(process)
    limit = sum(probe()) + seconds * os.sysconf("SC_CLK_TCK")
    wait_until(what, lambda: condition() or ended(process) or sum(probe()) >= limit, probe)
    if not condition():
        raise Failed(
            f"expected: {what}\nseen: not before process {process.pid} had ended, or used {seconds} s"
        )
