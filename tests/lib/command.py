# SPDX-License-Identifier: GPL-2.0
"""
Runs commands, and prints each as a comment of KTAP, so that a log can be repeated by hand. A command is
a string, which is split into words as by a shell, or a list of words.
"""

import atexit
import contextlib
import os
import select
import shlex
import signal
import subprocess

from ktap import Failed, note
from wait import cpu_of, ended, wait_until

running = []


def split(command):
    """Returns the words of the command."""
    return shlex.split(command) if isinstance(command, str) else [str(word) for word in command]


def query(command, **options):
    """Runs a command that changes nothing, without printing it; returns its output."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "check": False} | options
    done = subprocess.run(split(command), text=True, **options)
    if done.returncode != 0:
        raise Failed(
            f"expected: status 0 of: {shlex.join(split(command))}\n"
            f"seen: status {done.returncode}, and: {done.stdout}{done.stderr or ''}"
        )
    return done.stdout.rstrip("\n")


def run(command, **options):
    """Prints and runs the command; returns its output. Fails if the command fails."""
    note("+ " + shlex.join(split(command)))
    return query(command, **options)


def expect_error(status, text, command):
    """
    Checks that the command exits with that status (None: any except 0), and prints one line, with the text.
    """
    note("+ " + shlex.join(split(command)))
    combined = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(split(command), text=True, check=False, **combined)
    is_expected = done.returncode == status if status else done.returncode != 0
    if not is_expected or text not in done.stdout or done.stdout.count("\n") != 1:
        raise Failed(
            f"expected: status {status or 'other than 0'}, and one line with: {text}\n"
            f"seen: status {done.returncode}, and: {done.stdout}"
        )


def write(path, text=""):
    """Writes the line to a file of the kernel."""
    note(f"+ echo {shlex.quote(str(text))} >{path}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{text}\n")


def read(path):
    """Returns the content of a file, without its last line break."""
    with open(path, encoding="utf-8") as file:
        return file.read().rstrip("\n")


def start(command, **options):
    """Prints the command and starts it in the background. It is killed at the end of this program."""
    note("+ " + shlex.join(split(command)) + " &")
    # pylint: disable=consider-using-with
    running.append(subprocess.Popen(split(command), text=True, **options))
    return running[-1]


@atexit.register
def kill_all():
    """Kills all processes that still run."""
    for process in list(running):
        process.kill()
        forget(process)


def end(process, number=signal.SIGTERM):
    """Sends a signal to the process, and returns its status."""
    process.send_signal(number)
    return reap(process)


def reap(process):
    """Waits until the process has ended, and returns its status."""
    try:
        wait_until(
            f"the end of: {shlex.join(process.args)}", lambda: ended(process), cpu_of(process)
        )
    except Failed:
        process.kill()
        raise
    finally:
        forget(process)
    return process.returncode


def forget(process):
    """Waits for a process that ends, and closes its pipes."""
    process.wait()
    for pipe in (process.stdin, process.stdout):
        # It may have ended before it has read all.
        with contextlib.suppress(BrokenPipeError):
            if pipe:
                pipe.close()
    if process in running:
        running.remove(process)


class Dialogue:
    """A program that answers each line of its standard input with a line on its standard output."""

    def __init__(self, name, command, is_busy=False, **options):
        self.name, self.text = name, b""
        self.process = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        # A program that is emulated, or emulates, may answer late.
        self.probes = [cpu_of(self.process)] if is_busy else []

    def tell(self, line):
        """Sends the line, and returns the answer."""
        try:
            print(line, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            # Reading reports it.
            pass
        return self.next_line(f"the {self.name} answers '{line}'")

    def next_line(self, what):
        """Waits for the next line of output."""
        output = self.process.stdout.fileno()

        def arrives():
            if b"\n" not in self.text and select.select([output], [], [], 0.1)[0]:
                part = os.read(output, 65536)
                if not part:
                    raise Failed(f"expected: {what}\nseen: it has ended")
                self.text += part
            return b"\n" in self.text

        wait_until(what, arrives, *self.probes)
        line, _, self.text = self.text.partition(b"\n")
        return line.decode()
