#!/usr/bin/env python3
"""Runs the commands that the documentation shows, page by page, as a reader would, in a temporary copy of the tree.

    commands.py [--list] [PAGE...]      README.md and docs/*.md unless pages are given

In a code block (indented by four, or fenced) a line that begins with "$ " is a command; one that ends with a backslash goes
on in the next line. What follows it in the block is its output: each "..." stands for anything, digits and the names of
generations for others of their kind, and between two lines anything may come. A command that ends with & goes on beside
the others until the page ends. Those that are not run, or not as they stand, are in rules.txt, each with its reason. A command
in neither set does not exist: whatever is not excepted is run and has to end with 0.

Ports of 127.0.0.1 are exchanged for free ones. embsum, embsumd and build/ are those of $BUILD.
"""
import argparse
import glob
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(ROOT, os.environ.get("BUILD", "build"))
SLOW = int(os.environ.get("EMBSUM_SLOW", "1"))
SECONDS = 120 * SLOW  # that a command may take
# What begins like this in a block is a command, and wants its "$ ".
PROGRAMS = r"(build/|sudo |sh |bash |make( |$)|curl |wrk |embsum |embsumd |redis-|python3 |mpirun |systemctl |apt-get |git |docker |kubectl )"
# But not a line of a list of programs, which says behind two blanks what each is.
SYNOPSIS = r"embsumd?( [a-z]+)? {2,}\S"
# These look at what is there, so they are asked again until they say what is expected of them.
LOOKS = r"curl |python3 \S+ compare |(build/)?embsum generations list"


class Command:
    def __init__(self, page, line, text):
        self.page, self.line, self.text, self.shown = page, line, text, []
        self.how, self.code = "run", 0

    def __str__(self):
        return f"{self.page}:{self.line}: {' '.join(self.text.split())}"


def blocks(text):
    """The code blocks of a page: lists of (line number, line), without their indentation."""
    block, fence = [], None
    for number, line in enumerate(text.split("\n"), 1):
        if fence is None and re.match(r" {0,3}```", line):
            fence = line[: line.index("`")]
        elif fence is not None and re.match(r" *```\s*$", line):
            yield block
            block, fence = [], None
        elif fence is not None:
            block.append((number, line[len(fence) :]))
        elif line.startswith("    "):
            block.append((number, line[4:]))
        elif block and line.strip():
            yield block
            block = []
    if block:
        yield block


def read_page(page):
    """Commands in the order of the page, and lines that look like commands but are not marked as such."""
    commands, unmarked = [], []
    for block in blocks((ROOT / page).read_text(encoding="utf-8")):
        current = None
        for number, line in block:
            if current and current.text.endswith("\\") and not current.shown:
                current.text += "\n" + line
            elif line.startswith("$ "):
                current = Command(page, number, line[2:])
                commands.append(current)
            elif current:
                current.shown.append(line)
            elif re.match(PROGRAMS, line) and not re.match(SYNOPSIS, line):
                unmarked.append(f"{page}:{number}: a command without its '$ ': {line}")
    return commands, unmarked


def rules():
    """(place, page, how, what, reason) of each rule; rules.txt says what they are."""
    for number, line in enumerate((ROOT / "tests/docs/rules.txt").read_text().split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            yield (f"tests/docs/rules.txt:{number}", *(field.strip() for field in line.split(" | ")))


def all_pages():
    """Without those that are left to another test."""
    elsewhere = {page for _, page, how, _, _ in rules() if how == "page"}
    return [page for page in ["README.md"] + sorted(glob.glob("docs/*.md")) if page not in elsewhere]


def apply_rules(commands, pages):
    """Returns what is wrong with the rules."""
    wrong = []
    for place, page, how, what, reason in rules():
        if not reason or not pathlib.Path(page).exists():
            wrong.append(f"{place}: no reason, or no such page")
        if page not in pages or how == "page":
            continue
        used = False
        for command in commands:
            if command.page != page:
                continue
            flat = " ".join(command.text.split())
            if how == "replace":
                old, new = what.split(" => ")
                if old in command.text:
                    command.text, used = command.text.replace(old, new), True
            elif flat.startswith(what):
                used = True
                command.how, command.code = ("skip", 0) if how == "skip" else ("run", int(how.split()[1]))
                command.reason = reason
        if not used:
            wrong.append(f"{place}: {page} has no such command: {what}")
    return wrong


def pattern(shown):
    """What the output has to match, white space aside."""
    def line_pattern(line):
        line = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{8}", "GENERATION", line)
        line = re.sub(r"\s+", "", re.sub(r"\d[\d.,:]*(e[-+]\d+)?", "#", line))
        line = re.escape(line).replace(r"\.\.\.", ".*?")
        return line.replace(r"\#", r"\d[\d.,:]*?(?:e[-+]\d+)?").replace("GENERATION", r"\d{8}T\d{6}Z-[0-9a-f]{8}")
    return re.compile(".*?".join(line_pattern(line) for line in shown if line.strip()), re.DOTALL)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port, ask, expected):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.settimeout(2)
            client.sendall(ask)
            return expected in client.recv(64)
    except OSError:
        return False


class Page:
    """A shell in a temporary copy of the tree, in which the commands of one page run."""

    def __init__(self, commands, verbose):
        self.verbose = verbose
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="embsum-docs."))
        self.tree = self.work / "tree"
        self.tree.mkdir()
        for name in ("config", "deploy", "docs"):
            shutil.copytree(ROOT / name, self.tree / name)
        (self.tree / "build").symlink_to(BUILD)
        (self.tree / "tests").symlink_to(ROOT / "tests")
        (self.work / "bin").mkdir()
        (self.work / "bin/python3").symlink_to("/usr/bin/python3")  # the one that Debian's packages are for
        ports = sorted({port for c in commands for port in re.findall(r"127\.0\.0\.1[: ](\d{4,5})\b", c.text)} | {"8080"})
        self.ports = {port: str(free_port()) for port in ports}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EMBSUM_S")}
        environment.update(PATH=f"{self.work}/bin:{BUILD}:{os.environ['PATH']}", EMBSUM_SERVER_LISTEN=f"127.0.0.1:{self.ports['8080']}",
                           PYTHONDONTWRITEBYTECODE="1", TMPDIR=str(self.work))
        self.shell = subprocess.Popen(["bash"], cwd=self.tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      start_new_session=True)

    def close(self):
        """Ends what the page has started: all of it is in the shell's own session."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.shell.pid, how)
            except ProcessLookupError:
                break
            for _ in range(50):
                self.shell.poll()
                try:
                    os.killpg(self.shell.pid, 0)
                except ProcessLookupError:
                    break
                time.sleep(0.1)
        self.shell.communicate()
        shutil.rmtree(self.work, ignore_errors=True)

    def once(self, text, out):
        """The exit code; -1 when the shell is gone, 124 when it takes too long."""
        self.shell.stdin.write(f"{{ {text}\n}} >{out} 2>&1 </dev/null; echo $?\n".encode())
        self.shell.stdin.flush()
        if not select.select([self.shell.stdout], [], [], SECONDS)[0]:
            return 124
        code = self.shell.stdout.readline().strip()
        return int(code) if code else -1

    def up(self, text):
        """Whether what was started in the background can be asked."""
        port = re.search(r"--(?:listen 127\.0\.0\.1:|port )(\d+)", text)
        port = int(port.group(1)) if port else int(self.ports["8080"])
        if re.match(r"(\S*/)?embsumd ", text):
            return answers(port, b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n", b" 200 ")
        return answers(port, b"PING\r\n", b"PONG") if "redis-server" in text else True

    def run(self, command):
        """None, or what is wrong."""
        text = command.text
        for old, new in self.ports.items():
            text = re.sub(rf"\b{old}\b", new, text)
        in_background = text.rstrip().endswith("&")
        out = self.work / f"output.{command.line}"
        wanted = pattern(command.shown)
        deadline = time.monotonic() + (15 if in_background or re.match(LOOKS, text) else 0) * SLOW
        started = time.monotonic()
        code = self.once(text, out)
        while True:
            said = out.read_text(errors="replace")
            right = code == command.code and wanted.search(re.sub(r"\s+", "", said)) and (not in_background or self.up(text))
            if right or time.monotonic() > deadline or code in (-1, 124):
                break
            time.sleep(0.1)
            if not in_background:
                code = self.once(text, out)
        print(f"{time.monotonic() - started:7.1f} s  {command}", flush=True)
        if self.verbose:
            print(said, end="", flush=True)
        if right:
            return None
        what = f"ended with {code}, not {command.code}" if code != command.code else "does not show what the page says"
        said = "\n".join("    " + line for line in said.split("\n")[-40:])
        return f"FAILED: {command}: {what}; it printed\n{said}"


def run_page(commands, verbose):
    page = Page(commands, verbose)
    try:
        for command in commands:
            if command.how == "skip":
                print(f"not run    {command}: {command.reason}")
                continue
            wrong = page.run(command)
            if wrong:
                return [wrong]  # what follows builds on it
        return []
    finally:
        page.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="the commands, and what is done with each; runs none")
    parser.add_argument("--verbose", action="store_true", help="what each prints, too")
    parser.add_argument("pages", nargs="*", metavar="PAGE")
    args = parser.parse_args()
    os.chdir(ROOT)
    pages = args.pages or all_pages()
    commands, wrong = [], []
    for page in pages:
        found, unmarked = read_page(page)
        commands += found
        wrong += unmarked
    wrong += apply_rules(commands, pages)
    ran = 0
    for page in pages:
        here = [command for command in commands if command.page == page]
        ran += sum(command.how == "run" for command in here)
        if args.list:
            print(*(f"{command.how:5} {command}" for command in here), sep="\n")
        elif not wrong and any(command.how == "run" for command in here):
            wrong += run_page(here, args.verbose)
    print(*wrong, sep="\n")
    print(f"{len(pages)} pages, {len(commands)} commands, {ran} of them run here")
    sys.exit(1 if wrong or (not commands) else 0)


if __name__ == "__main__":
    main()
