"""Processes of the benchmark: started here, ended here by their ids, whatever happens."""
import ctypes
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
libc = ctypes.CDLL(None)


def die_with_parent():
    libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: also when this program is killed


class NotMeasured(Exception):
    """Why a system or a row has no figures."""


class Children:
    def __init__(self):
        self.running = []

    def start(self, arguments, log, env=(), cwd=None, stdout=None):
        """A process whose stderr (and stdout, unless it is wanted) goes to the file `log`."""
        if not shutil.which(str(arguments[0])):
            raise NotMeasured(f"{arguments[0]} is not installed (sh deploy/install-packages bench)")
        with open(log, "ab") as out:
            child = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=stdout or out,
                                     stderr=out, cwd=cwd, env={**os.environ, **dict(env)},
                                     preexec_fn=die_with_parent)
        child.log = pathlib.Path(log)
        self.running.append(child)
        return child

    def end(self, child):
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(10)
        if child in self.running:
            self.running.remove(child)

    def end_all(self):
        for child in reversed(list(self.running)):
            self.end(child)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def last_words(child):
    lines = child.log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


def wait_until(ready, child, seconds):
    """Until ready() is true; a process that ends before, or takes longer, is an error that says why."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if ready():
                return
        except OSError:
            pass
        if child.poll() is not None:
            raise NotMeasured(f"it ended with {child.returncode}: {last_words(child)}")
        if time.monotonic() > deadline:
            raise NotMeasured(f"it was not ready within {seconds} s: {last_words(child)}")
        time.sleep(0.05)


def parents():
    """pid -> (parent, user and system time of all threads in ticks) of every process."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            found[int(entry)] = int(fields[1]), int(fields[11]) + int(fields[12])
    return found


def cpu_seconds(roots):
    """User and system time so far of these processes and all their descendants that live."""
    table = parents()
    family = {child.pid for child in roots}
    grown = True
    while grown:
        more = {pid for pid, (parent, _) in table.items() if parent in family} - family
        grown = bool(more)
        family |= more
    return sum(table[pid][1] for pid in family if pid in table) / TICKS


def resident_bytes(child):
    with open(f"/proc/{child.pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def available_bytes():
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0
