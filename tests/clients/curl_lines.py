"""Every command of clients/curl.md, run as it is written, and its output beside what the page shows.

    python3 tests/clients/curl_lines.py            the test
    python3 tests/clients/curl_lines.py --write    put what comes now into the page

A command is an indented line that begins with "$ ", and what follows as long as lines end with a backslash or a bar, or a quote is open;
its output is what stands there until the next. "..." in an output stands for anything. JSON is compared as JSON, scores to a
thousandth.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "openapi")]
import demo  # noqa: E402
import replay  # noqa: E402  (tests/openapi/replay.py: what differs from run to run)

PAGE = ROOT / "clients/curl.md"
TOKEN = "example-token-0123456789"
VOLATILE = [(re.compile(r"dur=[0-9.]+"), "dur=0.004"), (re.compile(r"^Date: .*"), "Date: Tue, 24 Nov 2026 16:14:08 GMT"),
            (re.compile(r'"request_id":"[0-9a-f]{16}"'), '"request_id":"5f0c1e9a7b3d2846"'),
            (re.compile(r"^Content-Length: \d+"), "Content-Length: 136"), (replay.GENERATION, "20261124T161406Z-8ef217b9")]


def commands(page):
    """command, the lines of its output, and which lines of the page those are."""
    lines, found, at = page.splitlines(), [], 0
    while at < len(lines):
        if not lines[at].startswith("    $ "):
            at += 1
            continue
        command = [lines[at][len("    $ "):]]
        while command[-1].endswith(("\\", "|")) or "\n".join(command).count("'") % 2:
            at += 1
            command.append(lines[at][len("    "):])
        at += 1
        begin = at
        while at < len(lines) and lines[at].startswith("    ") and not lines[at].startswith("    $ "):
            at += 1
        found.append(("\n".join(command), [line[4:] for line in lines[begin:at]], (begin, at)))
    return found


def take_json(lines):
    """The JSON that an output begins with, and the lines behind it."""
    for count in range(len(lines), 0, -1):
        try:
            return json.loads("".join(line.strip() for line in lines[:count])), lines[count:]
        except ValueError:
            pass
    return None, lines


def plain(line):
    for pattern, standing in VOLATILE:
        line = pattern.sub(standing, line)
    return line


def differences(shown, seen):
    """Of the lines of two outputs."""
    (value, rest), (other, behind) = (None, shown), (None, seen)
    if not any("..." in line for line in shown):
        (value, rest), (other, behind) = take_json(shown), take_json(seen)
    found = replay.differences(replay.standing(value), replay.standing(other))
    if len(rest) != len(behind):
        return [*found, f"{rest} is shown, {behind} has come"]
    for line, came in zip(rest, behind):
        pattern = ".*".join(re.escape(piece) for piece in plain(line).split("..."))
        if not re.fullmatch(pattern, plain(came)):
            found.append(f"{line!r} is shown, {came!r} has come")
    return found


class Page:
    """The daemons that the page speaks of, and a folder to run its commands in."""

    def __enter__(self):
        self.world = demo.World().__enter__()
        self.folder = tempfile.mkdtemp(prefix="embsum-test-curl-")
        for name in ("deploy", "tests"):
            os.symlink(ROOT / name, f"{self.folder}/{name}")
        plain = self.world.daemon()
        tokens = self.world.daemon(f"server.token_file={self.world.file('tokens', TOKEN)}")
        self.ports = {8080: plain.address[1], 8081: tokens.address[1], 8082: plain.admin[1]}
        replay.wait_until_ready(plain)
        replay.wait_until_ready(tokens)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)
        self.world.__exit__()

    def run(self, command):
        command = re.sub(r"127\.0\.0\.1:(\d+)", lambda m: f"127.0.0.1:{self.ports[int(m.group(1))]}", command)
        done = subprocess.run(["sh", "-c", command], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60 * demo.SLOW, env={**os.environ, "TOKEN": TOKEN})
        lines = done.stdout.splitlines()
        return lines[:-1] if lines and not lines[-1] else lines  # a head ends with an empty line


class Lines(unittest.TestCase):
    def test_page(self):
        found = commands(PAGE.read_text())
        self.assertGreater(len(found), 15)
        with Page() as page:
            for command, shown, _ in found:
                with self.subTest(command=command):
                    if " wrk " in command and not shutil.which("wrk"):
                        print("skipped: wrk is not installed")
                        continue
                    self.assertEqual(differences(shown, page.run(command)), [])

    def test_commands(self):
        page = "text\n\n    $ a b\n    x\n    y\n    $ c \\\n          d\n    $ e 'f\n    g' | \\\n        h\n    z\n    $ i |\n        j\n\n    no command\n"
        self.assertEqual([(c, o) for c, o, _ in commands(page)],
                         [("a b", ["x", "y"]), ("c \\\n      d", []), ("e 'f\ng' | \\\n    h", ["z"]),
                          ("i |\n    j", [])])

    def test_differences(self):
        one = ['{"generation":"20261124T161406Z-8ef217b9","score":1.5,', '"age_s":3}', "404"]
        same = ['{"generation":"20270101T000000Z-00000000","score":1.5001,"age_s":9}', "404"]
        self.assertEqual(differences(one, same), [])
        self.assertEqual(differences(["X: ... b"], ["X: a b"]), [])
        self.assertEqual(differences(["t;dur=1.5"], ["t;dur=0.003"]), [])
        for other in (['{"generation":"20270101T000000Z-00000000","score":1.6,"age_s":9}', "404"], same[:1], [same[0], "200"],
                      [*same, "x"], [], ['{"score":1.5,"age_s":9}', "404"]):
            self.assertNotEqual(differences(one, other), [], other)
        self.assertNotEqual(differences(["X: ... b"], ["X: a c"]), [])
        self.assertNotEqual(differences([], ["x"]), [])


# ---- --write ----

def wrap(text, width=118):
    """Behind the commas between an object's keys, or a list's objects."""
    lines = [""]
    for piece in re.split(r'(?<=[\]}"\d],)(?=["{])', text):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return lines


def write():
    text = PAGE.read_text()
    lines = text.splitlines()
    with Page() as page:
        ran = [(*found, page.run(found[0])) for found in commands(text)]
    for _, shown, (begin, end), seen in reversed(ran):
        if not any("..." in line for line in shown):
            value, rest = take_json(seen)
            output = wrap(json.dumps(replay.standing(value), separators=(",", ":"))) if value is not None else []
            lines[begin:end] = ["    " + line for line in output + [plain(line) for line in rest]]
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    else:
        unittest.main()
