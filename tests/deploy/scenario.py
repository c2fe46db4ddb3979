#!/usr/bin/env python3
"""deploy/compose/compose.yaml by hand, without a container engine: Redis with the shipped settings and users, a refresh by the shipped
cron line, the daemon, node exporter and Prometheus, each as the user and with the files that compose gives it, on 127.0.0.1. Then
traffic, and every query of the dashboard over Prometheus's HTTP API: it has data, or stands in QUIET with the reason.

    tests/deploy/scenario.py --build build

prometheus.yml is changed in addresses alone, and in its intervals: one second, so that rates are there in seconds. Takes half a
minute. Exits with 77 where a program is not installed.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

WINDOW = "1m"  # of rates: $__rate_interval
DEADLINE_S = 55 * float(os.environ.get("EMBSUM_SLOW", "1"))

# Queries of the dashboard that may have no data here, by what is in them: why nothing of it happens.
QUIET = {
    "embsum_store_errors_total": "the store does not fail",
    "embsum_blobs_refused_total": "no matrix is damaged",
    "embsum_shadow": "no second generation is ranked on",
    "ALERTS": "no alert fires",
}


class Failure(Exception):
    pass


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class World:
    """The processes, stopped by their ids in the end."""

    def __init__(self, build):
        self.build = os.path.abspath(build)
        self.dir = tempfile.mkdtemp(prefix="embsum-scenario.")
        os.mkdir(os.path.join(self.dir, "state"))
        self.children = {}
        self.until = time.monotonic() + DEADLINE_S
        self.redis_port, self.port, self.exporter_port, self.prometheus_port = free_ports(4)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def start(self, name, words, env=None):
        with open(self.path(name + ".log"), "ab") as log:
            self.children[name] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir,
                                                   env={**os.environ, **(env or {})}, start_new_session=True)

    def log_of(self, name):
        with open(self.path(name + ".log"), errors="replace") as file:
            return "".join(file.readlines()[-15:])

    def wait_for(self, what, name, asked):
        """Until asked() is true: the process runs and the time is not over."""
        while True:
            answer = asked()
            if answer:
                return answer
            if name and self.children[name].poll() is not None:
                raise Failure(f"{name} has ended with {self.children[name].returncode}:\n{self.log_of(name)}")
            if time.monotonic() > self.until:
                raise Failure(f"no {what} in time\n{self.log_of(name) if name else ''}")
            time.sleep(0.1)

    def stop(self, name):
        child = self.children.pop(name)
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        return child.returncode

    def end(self):
        for name in reversed(list(self.children)):
            self.stop(name)
        shutil.rmtree(self.dir)


def fetch(url, body=None, headers=None):
    """Status and text; 0 where nobody answers."""
    request = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


# ---- the processes, as compose.yaml starts them ----

def secrets(world):
    """As deploy/compose/prepare makes them, from a copy of it."""
    os.mkdir(world.path("compose"))
    shutil.copy("deploy/compose/prepare", world.path("compose"))
    subprocess.run(["sh", world.path("compose", "prepare")], check=True, stdout=subprocess.DEVNULL)
    return world.path("compose", "secrets")


def password_of(folder, user):
    with open(os.path.join(folder, "redis_" + user)) as file:
        return file.read().rstrip("\n")


def start_redis(world, folder):
    with open("deploy/redis/users.acl") as template, open(world.path("users.acl"), "w") as made:
        subprocess.run(["sh", "deploy/redis/make-acl", folder], stdin=template, stdout=made, check=True)
    world.start("redis", ["redis-server", os.path.abspath("deploy/redis/redis.conf"), "--aclfile", world.path("users.acl"),
                          "--port", str(world.redis_port), "--dir", world.dir])
    probe = ["redis-cli", "-p", str(world.redis_port), "--no-auth-warning", "--user", "probe", "--pass", "none", "ping"]
    world.wait_for("PONG", "redis", lambda: subprocess.run(probe, capture_output=True, check=False).stdout == b"PONG\n")


def cron(world, folder):
    """The shipped line and its variables, paths and the store's address aside."""
    env, line = {}, None
    with open("deploy/cron/embsum") as file:
        for text in file.read().splitlines():
            if re.match(r"\w+=", text):
                env.update([text.split("=", 1)])
            elif text and not text.startswith("#"):
                line = text
    shutil.copytree("deploy/demo/model", world.path("state", "model"))
    for name in ("news.tsv", "behaviors.tsv"):
        shutil.copy("deploy/demo/" + name, world.path("state"))
    command = line.split(None, 6)[6].replace("/var/lib/embsum", world.path("state"))
    env.update(PATH=f"{world.build}:{env['PATH']}", EMBSUM_STORE_URL=f"redis://embsum@127.0.0.1:{world.redis_port}/0",
               EMBSUM_STORE_PASSWORD_FILE=os.path.join(folder, "redis_embsum"))
    return [env["SHELL"], "-c", command], env


def refresh(world, words, env):
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode != 0 or done.stdout or done.stderr:
        raise Failure(f"the cron line ends with {done.returncode}, and cron would send mail:\n{done.stdout}{done.stderr}")
    with open(world.path("state", "refresh.jsonl")) as file:
        return json.loads(file.readlines()[-1])


def click(world, folder, user, item):
    words = ["redis-cli", "-p", str(world.redis_port), "--no-auth-warning", "--user", "feed", "xadd", "{embsum}:clicks", "*",
             "user", user, "item", item]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "REDISCLI_AUTH": password_of(folder, "feed")})


def click_and_refresh(world, folder, job, items):
    """A change in the store: a user who has clicked on what comes next."""
    click(world, folder, "U35", next(items))
    refresh(world, *job)


def refresh_often(world, folder, words, env):
    """The first makes all live, the second encodes the user who has clicked; while another process holds the lock there is none, and
    that is no failure."""
    first = refresh(world, words, env)
    if not (first["state"] == "live" and first["complete"] and first["encoded"]["contents"] == 288):
        raise Failure(f"the first refresh says {first}")
    world.wait_for("ready daemon", "embsumd", lambda: fetch(f"http://127.0.0.1:{world.port}/readyz")[0] == 200)
    click(world, folder, "U35", "N1014")
    second = refresh(world, words, env)
    if second["encoded"]["contents"] or second["encoded"]["users"] != 1 or second["generation"] != first["generation"]:
        raise Failure(f"the second refresh says {second}")
    lock = world.path("state", "refresh.lock")
    third = subprocess.run(["flock", lock] + words, env=env, capture_output=True, text=True, check=False)
    with open(world.path("state", "refresh.jsonl")) as file:
        runs = len(file.readlines())
    if third.returncode != 0 or third.stdout or third.stderr or runs != 2:
        raise Failure(f"a run beside another ends with {third.returncode}, after {runs} runs: {third.stdout}{third.stderr}")


def service(world, folder, name):
    """Words and environment that compose.yaml gives a service, with the paths and addresses of this world."""
    with open("deploy/compose/compose.yaml") as file:
        given = yaml.safe_load(file)["services"][name]
    here = {"/run/secrets": folder, "redis:6379": f"127.0.0.1:{world.redis_port}", "/var/lib/embsum": world.path("state"),
            "=/prometheus": "=" + world.path("tsdb"), "/etc/prometheus": world.path("prometheus")}

    def moved(text):
        for old, new in here.items():
            text = text.replace(old, new)
        return text

    return [moved(word) for word in given.get("command", [])], {key: moved(value) for key, value in given.get("environment", {}).items()}


def start_daemon(world, folder):
    _, env = service(world, folder, "embsumd")
    world.start("embsumd", [os.path.join(world.build, "embsumd"), "--listen", f"127.0.0.1:{world.port}"], env)
    world.wait_for("daemon", "embsumd", lambda: fetch(f"http://127.0.0.1:{world.port}/livez")[0] == 200)


def check_health(world, wanted):
    """What the image's program says that compose.yaml asks; perl runs it there as here."""
    with open("deploy/compose/compose.yaml") as file:
        [_, name, *words] = yaml.safe_load(file)["services"]["embsumd"]["healthcheck"]["test"]
    done = subprocess.run(["perl", "deploy/healthcheck", *words], capture_output=True, text=True, check=False,
                          env={**os.environ, "EMBSUM_SERVER_LISTEN": f"0.0.0.0:{world.port}"})
    if done.returncode != wanted:
        raise Failure(f"{name} {words} ends with {done.returncode}, not {wanted}: {done.stdout}{done.stderr}")


def start_exporter(world, folder):
    words, _ = service(world, folder, "node-exporter")
    world.start("node-exporter", ["prometheus-node-exporter", *words, f"--web.listen-address=127.0.0.1:{world.exporter_port}"])


def start_prometheus(world, folder):
    shutil.copytree("deploy/prometheus", world.path("prometheus"))
    path = world.path("prometheus", "prometheus.yml")
    with open(path) as file:
        config = yaml.safe_load(file)
    config.setdefault("global", {}).update(scrape_interval="1s", scrape_timeout="1s", evaluation_interval="1s")
    for job in config["scrape_configs"]:
        job.pop("scrape_interval", None)
        job.pop("scrape_timeout", None)
        for group in job["static_configs"]:
            group["targets"] = [address(world, target) for target in group["targets"]]
    with open(path, "w") as file:
        yaml.safe_dump(config, file)
    words, _ = service(world, folder, "prometheus")
    world.start("prometheus", ["prometheus", *words, f"--web.listen-address=127.0.0.1:{world.prometheus_port}"])


def address(world, target):
    host, _, port = target.partition(":")
    if port == "9090":
        return f"127.0.0.1:{world.prometheus_port}"
    return f"127.0.0.1:{world.exporter_port if port == '9100' or 'exporter' in host else world.port}"


# ---- what they are asked ----

def traffic(world, token):
    """Some of everything that a client may ask."""
    url = f"http://127.0.0.1:{world.port}"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    bodies = [
        {"user": "U35", "candidates": ["N1183", "N1149", "N1014", "N7"], "top_k": 2},
        {"user": "nobody", "candidates": ["N1183"]},
        {"users": ["U35", "U20"], "candidates": ["N1183", "N1149"], "explain": True},
        {"user": "U20", "top_k": 10},
    ]
    for body in bodies:
        status, text = fetch(url + "/rank", json.dumps(body).encode(), headers)
        if status != 200:
            raise Failure(f"POST /rank of {body} is answered {status}: {text}")
    for path, wanted in (("/rank?user=U35", 400), ("/nowhere", 404), ("/users/U35", 200), ("/users/nobody", 404), ("/version", 200)):
        status, text = fetch(url + path, headers=headers)
        if status != wanted:
            raise Failure(f"{path} is answered {status}: {text}")
    if fetch(url + "/users/U35")[0] != 401:
        raise Failure("a summary is shown without a token")


class Prometheus:
    def __init__(self, world):
        self.url = f"http://127.0.0.1:{world.prometheus_port}"

    def get(self, path, **fields):
        status, text = fetch(f"{self.url}/api/v1/{path}", urllib.parse.urlencode(fields).encode() if fields else None)
        if status != 200:
            raise Failure(f"Prometheus answers {status} to {path} {fields}: {text}")
        return json.loads(text)["data"]

    def ready(self):
        return fetch(self.url + "/-/ready")[0] == 200

    def targets_up(self):
        targets = self.get("targets")["activeTargets"]
        return len(targets) >= 2 and all(target["health"] == "up" for target in targets) and targets

    def query(self, text):
        return [one for one in self.get("query", query=text)["result"] if one.get("value", [0, "NaN"])[1] != "NaN"]


def panels(board):
    for panel in board.get("panels", []):
        yield panel
        yield from panels(panel)


def queries(board):
    """(panel's title, query), its variables replaced: rates over WINDOW, everything of a label."""
    names = {variable["name"]: ".*" for variable in board.get("templating", {}).get("list", [])}
    names.update(__rate_interval=WINDOW, __interval=WINDOW, __range=WINDOW)
    for panel in panels(board):
        for target in panel.get("targets", []):
            text = target["expr"]
            for name in sorted(names, key=len, reverse=True):
                text = re.sub(r"\$\{" + name + r"(:\w+)?\}|\$" + name + r"\b", names[name], text)
            if "$" in text.replace("$\"", ""):
                raise Failure(f"{panel.get('title')}: a variable that the dashboard does not define: {text}")
            yield panel.get("title", ""), text


def check_rules(prometheus):
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    for rule in rules:
        if rule["health"] == "err":
            raise Failure(f"the rule {rule['name']}: {rule['lastError']}")
        if rule["type"] == "alerting" and rule["state"] == "firing":
            raise Failure(f"{rule['name']} fires although all is well")
    return len(rules)


def check_dashboard(world, prometheus):
    """How many queries there are, and how many of them may have no data; waits for the others' as long as there is time."""
    with open("deploy/grafana/embsum.json") as file:
        asked = list(queries(json.load(file)))
    if not asked:
        raise Failure("the dashboard asks nothing")
    quiet = {text: reason for _, text in asked for word, reason in QUIET.items() if word in text}
    while True:
        missing = [(title, text) for title, text in asked if text not in quiet and not prometheus.query(text)]
        if not missing:
            break
        if time.monotonic() > world.until:
            raise Failure("\n".join(f"the dashboard's \"{title}\" has no data: {text}" for title, text in missing))
        time.sleep(1)
    empty = [text for _, text in asked if text in quiet and not prometheus.query(text)]
    for text in empty:
        print(f"    no data, {quiet[text]}: {text}")
    return len(asked), len(empty)


def until_seen(world, prometheus, query, act):
    """Act until Prometheus has data for the query: before a counter can grow, it has to have seen it."""
    while not prometheus.query(query):
        act()
        if time.monotonic() > world.until:
            raise Failure(f"Prometheus has no data in time: {query}")
        time.sleep(1)


def run(world):
    folder = secrets(world)
    with open(os.path.join(folder, "tokens")) as file:
        token = file.read().strip()
    start_redis(world, folder)
    start_daemon(world, folder)
    start_exporter(world, folder)
    start_prometheus(world, folder)
    prometheus = Prometheus(world)
    world.wait_for("ready Prometheus", "prometheus", prometheus.ready)
    targets = world.wait_for("targets that are up", "prometheus", prometheus.targets_up)
    # Nothing is live yet, as when all is started for the first time.
    asked = f"http://127.0.0.1:{world.port}/rank?user=U35&candidates=N1183"
    grown = 'increase(embsum_http_requests_total{route="/rank",code="%s"}[%s]) > 0'
    until_seen(world, prometheus, grown % (503, WINDOW), lambda: fetch(asked, headers={"Authorization": f"Bearer {token}"}))
    check_health(world, 1)
    job = cron(world, folder)
    refresh_often(world, folder, *job)
    check_health(world, 0)
    until_seen(world, prometheus, grown % (200, WINDOW), lambda: traffic(world, token))
    items = iter([f"N{number}" for number in range(1001, 1200, 7)])
    until_seen(world, prometheus, f"increase(embsum_change_delay_seconds_count[{WINDOW}]) > 0",
               lambda: click_and_refresh(world, folder, job, items))
    traffic(world, token)
    asked, empty = check_dashboard(world, prometheus)
    rules = check_rules(prometheus)
    code = world.stop("embsumd")
    if code != 0:
        raise Failure(f"embsumd ends with {code} on SIGTERM:\n{world.log_of('embsumd')}")
    print(f"{len(targets)} targets up, {rules} rules without errors, {asked} queries of the dashboard: "
          f"{asked - empty} with data, {empty} whose events did not happen")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=os.environ.get("BUILD", "build"))
    build = parser.parse_args().build
    for program in ("redis-server", "redis-cli", "prometheus", "prometheus-node-exporter", "flock"):
        if not shutil.which(program):
            print(f"skipped: {program} is not installed")
            return 77
    for path in ("deploy/prometheus/prometheus.yml", "deploy/grafana/embsum.json"):
        if not os.path.exists(path):
            print(f"skipped: {path} is not there")
            return 77
    world = World(build)
    try:
        run(world)
    except Failure as failure:
        print(f"FAILED: {failure}")
        return 1
    finally:
        world.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
