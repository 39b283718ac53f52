# SPDX-License-Identifier: GPL-2.0
"""
KTAP output for suites in Python, in the format of tests/lib/ktap.sh.

A check is a function or a block. It fails if it raises an exception; Failed has the expected and the
seen result.
"""

import contextlib
import re
import shlex
import traceback


class Failed(Exception):
    """A check has failed, for the reason in the text."""


def expect(what, expected, seen):
    """Fails unless the seen value is the expected one."""
    if seen != expected:
        raise Failed(f"expected: {what}: {expected}\nseen: {what}: {seen}")


def matches(pattern, text):
    """Fails unless the text has the pattern."""
    if not re.search(pattern, text, re.M):
        raise Failed(f"expected: {pattern}\nseen: {text}")


def note(text):
    """Prints the text as diagnostics."""
    for line in str(text).splitlines():
        print("#", line, flush=True)


class Suite:
    """KTAP documents. Failed checks are printed with `alone`, the command that repeats them."""

    def __init__(self, *alone):
        self.alone = alone
        self.count = self.failed = 0

    def plan(self, count):
        """Begins a document."""
        print(f"KTAP version 1\n1..{count}", flush=True)
        self.count = 0

    def check(self, name, test=None, *arguments):
        """Prints the result of test(*arguments), or of the block in `with check(NAME):`."""
        if test is None:
            return self.result(name)
        with self.result(name):
            test(*arguments)
        return None

    @contextlib.contextmanager
    def result(self, name):
        """Prints whether the block fails, and the reason."""
        self.count += 1
        reason = ""
        try:
            yield
        except Failed as error:
            reason = str(error) or "no reason given"
        except Exception:  # pylint: disable=broad-exception-caught
            reason = traceback.format_exc()
        if reason:
            self.failed += 1
            note("\n".join(reason.splitlines()[-40:]))
            note(f"run alone: {shlex.join(self.alone)}")
        print(f"{'not ok' if reason else 'ok'} {self.count} {name}", flush=True)

    def finish(self):
        """Returns the exit status."""
        return int(self.failed > 0)
