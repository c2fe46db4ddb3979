#!/usr/bin/python3
"""What a shadow generation costs those who are answered: latency with shadow.share and without, in one run.

    make && make build/tests/load/openloop && tests/load/shadow.py --share 1 --rate 200 --rounds 7

Two daemons on one embedded store, each with the live generation in memory, one with a ready generation beside it as well, are
asked in turn by openloop, at the same rate with the same requests, so that whatever else the machine does falls on both. Prints a
line a round, and last the medians as a JSON object; "ranked" is the share of the requests that were answered with 200. Needs python3-numpy, for the matrices. All is in a temporary folder.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy

from bodies import bodies

BUILD = pathlib.Path(os.environ.get("BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))


def write(folder, seed, options):
    """Random matrices of the shape that embsum encode writes, those of every seed a little different."""
    shared, own = numpy.random.default_rng(1), numpy.random.default_rng(seed)

    def draw(*shape):
        scale = numpy.float32(options.d ** -0.25)
        return scale * (shared.standard_normal(shape, numpy.float32) + 0.3 * own.standard_normal(shape, numpy.float32))

    folder.mkdir()
    for name, count, rows in (("user", options.users + 1, options.m), ("content", options.contents, options.n)):
        numpy.save(folder / f"{name}.npy", draw(count, rows, options.d))
        ids = ([""] if name == "user" else []) + [f"{name[0].replace('c', 'n').upper()}{i}" for i in range(count)]
        (folder / f"{name}.ids").write_text("".join(i + "\n" for i in ids[:count]))
    numpy.save(folder / "score_proj.npy", draw(options.d, options.d))


class Daemon:
    def __init__(self, url, *settings):
        arguments = [BUILD / "embsumd", "--listen", "127.0.0.1:0", "--store", url]
        for setting in settings:
            arguments += ["--set", setting]
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        self.address = None
        for line in self.process.stderr:
            found = re.search(r'"msg":"listening".*?"address":"([^"]*)"', line)
            if found:
                self.address = found.group(1)
                return
        raise SystemExit("the daemon has ended")

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.address}/metrics") as answer:
            return answer.read().decode()

    def metric(self, name):
        found = re.search("^" + re.escape(name) + " (.*)$", self.metrics(), re.M)
        return float(found.group(1)) if found else 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)


def measure(daemon, file, options):
    done = subprocess.run(
        [BUILD / "tests/load/openloop", "--address", daemon.address, "--bodies", file, "--rate", str(options.rate),
         "--poisson", "--seconds", str(options.seconds), "--warmup", "1", "--connections", "32"],
        capture_output=True, text=True)
    seen = json.loads(done.stdout)
    return {**{key: seen["from_due_us"][key] for key in ("p50", "p90", "p99")},
            "ranked": (seen["answered"] - seen["not_200"]) / seen["scheduled"]}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("share", 1.0), ("rate", 200.0), ("seconds", 5.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    for name, default in (("rounds", 7), ("contents", 10000), ("users", 500), ("candidates", 1000), ("m", 32), ("n", 4),
                          ("d", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for both daemons")
    return parser.parse_args()


def run(folder, options, daemons):
    url = f"lmdb:{folder}/store"
    for seed, flags in ((2, []), (3, ["--no-promote"])):
        write(folder / str(seed), seed, options)
        subprocess.run([BUILD / "embsum", "import", "--in", folder / str(seed), "--store", url, "--quiet", *flags],
                       check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder / str(seed))
    file = folder / "bodies"
    file.write_text("".join(line + "\n" for line in bodies([f"N{i}" for i in range(options.contents)],
                                                           [f"U{i}" for i in range(options.users)],
                                                           options.candidates, 256, top_k=10)))
    daemons["without"] = Daemon(url, *options.set)
    daemons["with"] = Daemon(url, *options.set, f"shadow.share={options.share}")
    while "\nembsum_shadow_info{" not in daemons["with"].metrics():
        time.sleep(0.1)
    rounds = {name: [] for name in daemons}
    for number in range(options.rounds):
        order = list(daemons) if number % 2 == 0 else list(daemons)[::-1]
        for name in order:
            rounds[name].append(measure(daemons[name], file, options))
        print(number, {name: seen[-1] for name, seen in rounds.items()}, file=sys.stderr, flush=True)
    shadow = daemons["with"]
    result = {"rate": options.rate, "share": options.share, "rounds": options.rounds,
              "compared": int(shadow.metric("embsum_shadow_requests_total")),
              "skipped": {reason: int(shadow.metric(f'embsum_shadow_skipped_total{{reason="{reason}"}}'))
                          for reason in ("busy", "queue_full")}}
    for key in ("p50", "p90", "p99", "ranked"):
        result[key] = {name: statistics.median(seen[key] for seen in rounds[name]) for name in rounds}
        result[key]["ratio"] = round(statistics.median(
            b[key] / a[key] for a, b in zip(rounds["without"], rounds["with"])), 3)
    print(json.dumps(result))


def main():
    options = arguments()
    daemons = {}
    with tempfile.TemporaryDirectory(prefix="embsum-load-shadow-") as folder:
        try:
            run(pathlib.Path(folder), options, daemons)
        finally:
            for daemon in daemons.values():
                daemon.stop()


if __name__ == "__main__":
    main()
