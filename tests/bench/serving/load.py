"""Load on a system: wrk for capacity, openloop for latency, a plain client for single answers."""
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys

from .children import NotMeasured, cpu_seconds

LOAD = pathlib.Path(__file__).resolve().parent.parent.parent / "load"
sys.path.insert(0, str(LOAD))
import bodies  # noqa: E402  (tests/load/bodies.py)


def ask(address, method, path, body=None, timeout=30):
    """status, headers, body of one answer."""
    client = http.client.HTTPConnection(address, timeout=timeout)
    try:
        client.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = client.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        client.close()


def rank(address, body, timeout=30):
    status, headers, text = ask(address, "POST", "/rank", json.dumps(body), timeout)
    if status != 200:
        raise NotMeasured(f"it answered {status}: {text[:200].decode(errors='replace')}")
    return json.loads(text), headers


def run_wrk(arguments, env, seconds):
    done = subprocess.run(["wrk", *arguments], capture_output=True, text=True, timeout=seconds + 60,
                          env={**os.environ, **env})
    if done.returncode != 0:
        raise NotMeasured(f"wrk: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


class Figures(dict):
    """Of one run: requests_per_second, cpu_us and redis_us a request, p50_us, p99_us, errors."""


def closed_loop(system, redis, seconds, connections, path="/rank", **parameters):
    """wrk with rank.lua, or with GETs of `path` where there are no parameters; CPU of the system's processes, and of
    Redis, by the request. A system so slow that nothing is answered gets more time, once."""
    try:
        return closed_loop_once(system, redis, seconds, connections, path, parameters)
    except NothingAnswered:
        return closed_loop_once(system, redis, 5 * seconds, connections, path, parameters)


class NothingAnswered(NotMeasured):
    pass


def closed_loop_once(system, redis, seconds, connections, path, parameters):
    arguments = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    env = {key: str(value) for key, value in parameters.items()}
    if parameters:
        arguments += ["-s", str(LOAD / "rank.lua")]
        env["RANK_PATH"] = path
    before = cpu_seconds(system.processes), cpu_seconds([redis]) if redis else 0
    text = run_wrk([*arguments, "--latency", f"http://{system.address}{path}"], env, seconds)
    after = cpu_seconds(system.processes), cpu_seconds([redis]) if redis else 0
    if parameters:
        seen = json.loads(text.splitlines()[-1])
        requests, rate = seen["requests"], seen["requests_per_second"]
        errors = sum(seen[k] for k in ("status_errors", "connect_errors", "read_errors", "write_errors", "timeouts"))
        p50, p99 = seen["latency_us"]["p50"], seen["latency_us"]["p99"]
    else:
        requests = int(re.search(r"(\d+) requests in", text).group(1))
        rate = float(re.search(r"Requests/sec: +([\d.]+)", text).group(1))
        errors = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
        p50, p99 = (wrk_us(re.search(rf"{q}% +(\S+)", text).group(1)) for q in (50, 99))
    if requests == 0:
        raise NothingAnswered(f"no request was answered within {seconds} s")
    return Figures(requests_per_second=rate, cpu_us=(after[0] - before[0]) / requests * 1e6,
                   redis_us=(after[1] - before[1]) / requests * 1e6, p50_us=p50, p99_us=p99, errors=errors)


def wrk_us(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(value) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}[unit]


def open_loop(openloop, address, body_file, rate, seconds, *more):
    done = subprocess.run([openloop, "--address", address, "--bodies", body_file, "--rate", f"{rate:.3f}", "--seconds",
                           str(seconds), *map(str, more)], capture_output=True, text=True, timeout=seconds + 90)
    if not done.stdout:
        raise NotMeasured(f"openloop: {done.stderr.strip()[-200:]}")
    return json.loads(done.stdout)


def write_bodies(path, *arguments, **named):
    path.write_text("".join(body + "\n" for body in bodies.bodies(*arguments, **named)))
    return path
