#!/usr/bin/env python3
"""How long units of work take: workers encode a refresh, and Redis's MONITOR says what was put, taken and done when.

    [BUILD=build] tests/bench/units.py OUT [USERS] [DTYPE] >figures.json

A model of T5-small's size with random weights reads the demo's texts (as tests/bench/workers.sh); one worker of one thread,
then two. OUT gets a line a unit: workers, kind, entities, tokens, bytes, the second it was taken at and those it took.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.environ.get("BUILD", "build")
ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.S)
ESCAPE = re.compile(rb"\\(x..|.)", re.S)


def plain(argument):
    """A MONITOR argument without its escapes."""
    def one(match):
        code = match.group(1)
        if code[:1] == b"x":
            return bytes([int(code[1:], 16)])
        return {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}.get(code, code)
    return ESCAPE.sub(one, argument)


class Monitor:
    """What a Redis is told, from now on: (second, by a script, arguments)."""

    def __init__(self, path):
        self.lines, self.done = [], threading.Event()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.sendall(b"MONITOR\r\n")
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        with self.socket.makefile("rb") as stream:
            for line in stream:
                head = re.match(rb"\+([0-9.]+) \[\d+ (\S+)\] ", line)
                if head and any(name in line[:400] for name in (b'"XADD"', b'"XREADGROUP"', b'"XACK"')):
                    self.lines.append((float(head.group(1)), head.group(2) == b"lua", line[head.end():]))
                elif head:
                    self.lines.append((float(head.group(1)), head.group(2) == b"lua",
                                       line[head.end():head.end() + 40].split(b" ")[0]))

    def end(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        return self.lines


def units_of(lines):
    """The units of a job by their numbers, and when each was added, taken and done."""
    units, waiting, hands = {}, [], {}
    for second, by_script, text in lines:
        arguments = [plain(a) for a in ARGUMENT.findall(text)]
        name = arguments[0].upper() if arguments else b""
        if not by_script:
            continue
        if name == b"XADD" and arguments[1].endswith(b":work"):
            data = arguments[-1]
            waiting.append({"number": int.from_bytes(data[24:28], "little"), "kind": chr(data[5]),
                            "count": int.from_bytes(data[36:40], "little"), "bytes": len(data), "added": second})
        elif name == b"XREADGROUP" and waiting:
            unit = waiting.pop(0)  # the oldest; with nobody killed each is taken once
            unit["taken"], unit["by"] = second, arguments[3].decode()
            units[unit["number"]] = unit
        elif name == b"XADD" and arguments[1].endswith(b":work:done"):
            result = json.loads(arguments[-1])
            units[result["unit"]].update(done=second, tokens=result["tokens"], seconds=result["seconds"])
    return [units[number] for number in sorted(units)]


def processor(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    out, users, dtype = sys.argv[1:] + ["128", "bfloat16"][len(sys.argv) - 2:]
    users = int(users)
    folder, started = tempfile.mkdtemp(), []
    demo = "deploy/demo"
    try:
        with open("tests/bench/encoder.json") as file:
            config = json.load(file)
        config["num_decoder_layers"] = 6
        with open(f"{folder}/config.json", "w") as file:
            json.dump(config, file)
        subprocess.run([f"{BUILD}/embsum", "init", "--config", f"{folder}/config.json", "--vocab", f"{demo}/model/spiece.model",
                        "--out", f"{folder}/model", "--quiet"], check=True)
        with open(f"{demo}/behaviors.tsv") as file:
            rows = [line.split("\t") for line in file]
        names = dict.fromkeys((f"{row[1]}-{i}" for i in range(20) for row in rows))
        most = set(list(names)[:users])
        with open(f"{folder}/behaviors.tsv", "w") as file:
            for i in range(20):
                for row in rows:
                    if f"{row[1]}-{i}" in most:
                        file.write("\t".join([row[0], f"{row[1]}-{i}", *row[2:]]))
        path = f"{folder}/redis.sock"
        started.append(subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no",
                                         "--dir", folder], stdout=subprocess.DEVNULL))
        while not os.path.exists(path):
            time.sleep(0.05)
        figures = {"dtype": dtype, "runs": []}
        with open(out, "w") as file:
            print("# workers kind entities tokens bytes taken_s seconds", file=file)
            for count in (1, 2):
                url = f"redis+unix:{path}?db={count}"
                common = ["--model", f"{folder}/model", "--store", url, "--quiet"]
                workers = [subprocess.Popen([f"{BUILD}/embsum", "worker", *common, "--threads", "1"]) for _ in range(count)]
                started += workers
                time.sleep(0.5)
                monitor = Monitor(path)
                refresh = subprocess.Popen([f"{BUILD}/embsum", "refresh", *common, "--news", f"{demo}/news.tsv", "--behaviors",
                                            f"{folder}/behaviors.tsv", "--dtype", dtype, "--workers"], stdout=subprocess.PIPE)
                report = json.loads(refresh.stdout.read())
                _, _, usage = os.wait4(refresh.pid, 0)
                lines = monitor.end()
                spent = [processor(worker.pid) for worker in workers]
                for worker in workers:
                    worker.terminate()
                    worker.wait()
                    started.remove(worker)
                units = units_of(lines)
                begin = units[0]["added"]
                for unit in units:
                    print(count, unit["kind"], unit["count"], unit["tokens"], unit["bytes"], f"{unit['taken'] - begin:.3f}",
                          f"{unit['seconds']:.4f}", file=file)
                gaps = [b["added"] - a["added"] for a, b in zip(units[:63], units[1:64]) if b["kind"] == "u"]
                lost = [u["done"] - u["taken"] - u["seconds"] for u in units]
                first = {}
                for unit in units:
                    first.setdefault(unit["by"], round(unit["taken"] - begin, 3))
                figures["runs"].append({
                    "workers": count, "report": report, "makespan_s": round(max(u["done"] for u in units) - begin, 3),
                    "first_taken_s": list(first.values()), "units": len(units),
                    "user_unit_gap_s": sorted(gaps)[len(gaps) // 2], "gap_users": [u["count"] for u in units[1:] if u["kind"] == "u"],
                    "gaps": [round(g, 4) for g in gaps], "lost_s": round(sum(lost) / len(lost), 5),
                    "between_s": sorted(round(b["taken"] - a["done"], 4) for name in first for a, b in
                                        zip([u for u in units if u["by"] == name], [u for u in units if u["by"] == name][1:])),
                    "coordinator_processor_s": round(usage.ru_utime + usage.ru_stime, 3),
                    "worker_processor_s": spent, "commands": len([1 for line in lines if not line[1]]),
                    "script_commands": len([1 for line in lines if line[1]])})
                file.flush()
        print(json.dumps(figures, indent=1))
    finally:
        for process in started:
            process.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
