"""What a daemon and a refresh tell Prometheus, held against docs/METRICS.md, the rules, the dashboard and docs/RUNBOOK.md.

Run by test_promtool.sh. A Redis, two daemons and their stores live in a temporary folder and are ended by their process ids.
"""
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

BUILD = os.environ["BUILD"]
SLOW = int(os.environ.get("EMBSUM_SLOW", 1))
DEMO = "deploy/demo"
IMPLIED = {"instance", "job", "le"}  # labels that scraping adds, and a histogram's


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Daemon:
    def __init__(self, folder, name, store, *settings):
        self.log = f"{folder}/{name}.log"
        arguments = [f"{BUILD}/embsumd", "--listen", "127.0.0.1:0", "--store", store, "--set", "store.poll_ms=50",
                     "--set", "log.access=stderr"]
        for setting in settings:
            arguments += ["--set", setting]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(arguments, stderr=log)
        unittest.addModuleCleanup(self.stop)
        line = wait_for(lambda: next((x for x in self.lines() if x.get("msg") == "listening"), None))
        self.address, self.admin = line["address"], line.get("admin")

    def lines(self):
        if self.process.poll() is not None:
            raise AssertionError("the daemon ended: " + read(self.log))
        return [json.loads(line) for line in read(self.log).splitlines(keepends=True) if line.endswith("\n")]

    def ask(self, path, body=None):
        request = urllib.request.Request(f"http://{self.address}{path}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def metrics(self):
        return Page(self.ask("/metrics"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        assert code == 0, f"the daemon ended with {code}: {read(self.log)}"


class Page:
    """Types by family, the label names of each family's samples, and the values by sample."""

    def __init__(self, text):
        self.text, self.types, self.labels, self.values = text, {}, {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.types[name] = kind
            elif not line.startswith("#"):
                sample, value = line.rsplit(" ", 1)
                name = sample.split("{")[0]
                family = name if name in self.types else re.sub("_(bucket|sum|count)$", "", name)
                self.labels.setdefault(family, set()).update(re.findall(r'(\w+)="', sample))
                self.values[sample] = float(value)


def wait_for(look):
    until = time.monotonic() + 20 * SLOW
    while not (found := look()):
        if time.monotonic() > until:
            raise AssertionError("it does not come")
        time.sleep(0.02)
    return found


def refresh(*more):
    return subprocess.run(
        [f"{BUILD}/embsum", "refresh", "--model", f"{DEMO}/model", "--news", f"{DEMO}/news.tsv", "--behaviors",
         f"{DEMO}/behaviors.tsv", "--store", World.lmdb, "--metrics", World.textfile, "--quiet", *more],
        check=True, capture_output=True, text=True).stdout


class World:
    """What all tests look at."""


def setUpModule():
    World.folder = tempfile.mkdtemp(prefix="embsum-test-promtool-")
    unittest.addModuleCleanup(shutil.rmtree, World.folder)
    World.lmdb, World.textfile = f"lmdb:{World.folder}/store", f"{World.folder}/embsum.prom"
    with open(f"{World.folder}/refresh.log", "w", encoding="utf-8") as log:
        log.write(refresh())
    port = free_port()
    redis = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir",
                              World.folder], stdout=subprocess.DEVNULL)
    unittest.addModuleCleanup(redis.wait, 30)
    unittest.addModuleCleanup(redis.terminate)
    World.store = f"redis://127.0.0.1:{port}/0"
    wait_for(lambda: subprocess.run(["redis-cli", "-u", World.store, "ping"], capture_output=True).returncode == 0)
    World.daemon = Daemon(World.folder, "embsumd", World.store, "admin.listen=127.0.0.1:0")  # before there is anything
    for seed in (1, 2):
        publish = subprocess.run([f"{BUILD}/tests/server/test_api", "publish", World.store, str(seed)], check=True,
                                 capture_output=True, text=True)
        World.generation = publish.stdout.strip()
    wait_for(lambda: World.generation in World.daemon.ask("/readyz"))
    for body in (b'{"user":"U1","candidates":["N1","N2","X"]}', b'{"user":"nobody","candidates":["N1"]}', b"{"):
        World.daemon.ask("/rank", body)
    for path in ("/users/U1", "/users/nobody", "/livez", "/version", "/nothing"):
        World.daemon.ask(path)
    World.demo = Daemon(World.folder, "demo", World.lmdb)
    World.page, World.demo_page = World.daemon.metrics(), World.demo.metrics()
    World.refreshed = Page(read(World.textfile))
    World.types = {**World.page.types, **World.refreshed.types}
    World.labels = {name: page.labels.get(name, set()) for page in (World.refreshed, World.demo_page, World.page)
                    for name in page.types}


def promtool(*arguments, **more):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, **more)


def records():
    return set(re.findall(r"record: (\S+)", read("deploy/prometheus/rules.yml")))


def rules():
    """Expressions of the rules, by where they stand."""
    for path in ("deploy/prometheus/rules.yml", "deploy/prometheus/alerts.yml"):
        rule = None
        for line in read(path).splitlines():
            if (name := re.match(r" +- (?:alert|record): (\S+)", line)):
                rule = [name.group(1), ""]
            elif rule and (expr := re.match(r" +expr: \|?(.*)", line)):
                rule[1] = expr.group(1)
            elif rule and re.match(r" +(for|labels|annotations|- name|#)", line) or not line.strip():
                if rule and rule[1]:
                    yield f"{path} {rule[0]}", rule[1]
                rule = None
            elif rule:
                rule[1] += " " + line.strip()
        if rule:
            yield f"{path} {rule[0]}", rule[1]


def dashboard():
    board = json.loads(read("deploy/grafana/embsum.json"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for annotation in board["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]


ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|([^|]*)\|([^|]*)\| `([^`]*)` \|$", re.M)


def documented():
    return ROW.findall(read("docs/METRICS.md"))


def expressions():
    yield from rules()
    yield from dashboard()
    for name, _, _, _, _, query in documented():
        yield f"docs/METRICS.md {name}", query


def plain(expr):
    return expr.replace("$__rate_interval", "5m").replace("$instance", ".*")


class Pages(unittest.TestCase):
    def test_metrics_are_well_formed(self):
        for page in (World.page, World.demo_page, World.refreshed):
            done = promtool("check", "metrics", input=page.text)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        # The judge is awake.
        self.assertNotEqual(promtool("check", "metrics", input="# TYPE x counter\nx 1\n").returncode, 0)

    def test_documented(self):
        rows = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _, _, _ in documented()}
        self.assertEqual(len(rows), len(documented()), "a metric stands there twice")
        self.assertEqual({name: kind for name, (kind, _) in rows.items()}, World.types)
        for name, (_, labels) in rows.items():
            if World.labels[name]:
                self.assertEqual(labels, World.labels[name] - {"le"}, name)
        self.assertEqual(read("docs/METRICS.md").count("\n| `"), len(rows), "a row that the pattern does not see")
        for label in set().union(*World.labels.values()):
            self.assertNotIn(label, ("user", "content", "id", "request_id"))

    def test_values(self):
        page = World.page.values
        self.assertEqual(page["embsum_ready"], 1)
        self.assertEqual(page['embsum_ranked_users_total{status="default"}'], 1)
        self.assertEqual(page['embsum_missing_total{reason="not_found"}'], 1)
        self.assertEqual(page['embsum_http_request_duration_seconds_count{route="/rank",code="200"}'],
                         page['embsum_http_requests_total{route="/rank",code="200"}'])
        self.assertGreater(page["process_resident_memory_bytes"], 1 << 20)
        self.assertGreater(page["embsum_memory_limit_bytes"], page["process_resident_memory_bytes"])
        self.assertGreater(page["process_cpu_seconds_total"], 0)
        self.assertLess(abs(time.time() - page["embsum_generation_checked_timestamp_seconds"]), 60 * SLOW)
        self.assertLess(abs(time.time() - page["process_start_time_seconds"]), 600)
        wait_for(lambda: World.daemon.metrics().values["embsum_access_log_lines_total"] > 10)

    def test_buckets_rise(self):
        for page in (World.page, World.demo_page):
            series = {}
            for sample, value in page.values.items():
                if (bucket := re.match(r'(.*)_bucket\{(.*?),?le="(.*)"\}$', sample)):
                    series.setdefault(bucket.group(1, 2), []).append((float(bucket.group(3)), value))
            self.assertGreater(len(series), 5)
            for (name, labels), rows in series.items():
                self.assertEqual(rows, sorted(rows), (name, labels))
                values = [value for _, value in rows]
                self.assertEqual(values, sorted(values))
                count = f"{name}_count{{{labels}}}" if labels else f"{name}_count"
                self.assertEqual((rows[-1][0], rows[-1][1]), (float("inf"), page.values[count]))


class Freshness(unittest.TestCase):
    def test_changes_are_timed(self):
        before = World.daemon.metrics().values
        subprocess.run([f"{BUILD}/tests/server/test_api", "change", World.store, "2", "N1", "N2"], check=True)
        name = "embsum_change_delay_seconds"
        after = wait_for(lambda: (page := World.daemon.metrics().values)[f"{name}_count"] > before[f"{name}_count"] and page)
        self.assertEqual(after[f"{name}_count"] - before[f"{name}_count"], 1)
        self.assertLess(after[f"{name}_sum"] - before[f"{name}_sum"], 10 * SLOW)
        self.assertGreater(after[f"{name}_sum"], before[f"{name}_sum"])

    def test_a_refresh_without_news_is_seen(self):
        name = "embsum_generation_refreshed_timestamp_seconds"
        before = World.demo_page.values[name]
        self.assertLess(abs(time.time() - before), 600)
        self.assertNotIn(name, World.page.values)  # what was imported was never refreshed
        time.sleep(max(0, before + 1.1 - time.time()))
        summary = json.loads(refresh())
        self.assertEqual(summary["encoded"]["tokens"], 0)
        page = wait_for(lambda: (page := World.demo.metrics().values)[name] > before and page)
        self.assertEqual(page["embsum_generation_users"], summary["users"])
        self.assertEqual(page["embsum_generation_loads_total"], 1)


class Expressions(unittest.TestCase):
    def test_they_parse(self):
        found = list(expressions())
        self.assertGreater(len(found), 100)
        path = f"{World.folder}/expressions.yml"
        rows = [{"record": f"x:{i}", "expr": plain(expr)} for i, (_, expr) in enumerate(found)]
        for chosen, right in ((rows, True), ([{"record": "x", "expr": "sum(rate(x[5m])"}], False)):
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"groups": [{"name": "all", "rules": chosen}]}, file)  # JSON is YAML
            done = promtool("check", "rules", path)
            self.assertEqual(done.returncode == 0, right, done.stdout + done.stderr)

    def test_their_metrics_are_there(self):
        series, names = set(World.types), records()
        for name, kind in World.types.items():
            if kind == "histogram":
                series.update((f"{name}_bucket", f"{name}_sum", f"{name}_count"))
                series.discard(name)
        for where, expr in expressions():
            used = set(re.findall(r"\b((?:embsum|process)[_:][\w:]+)", re.sub(r'"[^"]*"', '""', expr)))
            self.assertTrue(used or expr.startswith("up{"), where)
            self.assertEqual(used - series - names, set(), where)

    def test_their_labels_are_there(self):
        count = 0
        for where, expr in expressions():
            for name, matchers in re.findall(r"\b((?:embsum|process)_\w+)\{([^}]*)\}", expr):
                family = name if name in World.types else re.sub("_(bucket|sum|count)$", "", name)
                for label in re.findall(r'(\w+) *(?:=|!)', re.sub(r'"[^"]*"', "", matchers)):
                    count += 1
                    if label != "reason" or World.labels[family]:
                        self.assertIn(label, World.labels[family] | IMPLIED, where)
        self.assertGreater(count, 50)

    def test_what_is_recorded_is_used(self):
        text = read("deploy/prometheus/alerts.yml") + read("deploy/grafana/embsum.json")
        for name in records():
            self.assertIn(name, text)


class Live(unittest.TestCase):
    """A Prometheus of the test's own scrapes both daemons and a textfile, and has data for every question of the dashboard."""

    # What there is to see only when something is wrong.
    QUIET = {"embsum_blobs_refused_total", "embsum_store_errors_total", "embsum_generation_refused_info"}

    def serve_textfile(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(read(World.textfile).encode())

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server.server_port

    def start_prometheus(self):
        """deploy/prometheus, every second, with the test's targets."""
        folder = f"{World.folder}/prometheus"
        shutil.copytree("deploy/prometheus", folder)
        config = read(f"{folder}/prometheus.yml").replace("15s", "1s")
        config = config.replace('"127.0.0.1:8080"', f'"{World.daemon.address}", "{World.demo.address}"')
        config = config.replace("127.0.0.1:9100", f"127.0.0.1:{self.serve_textfile()}")
        with open(f"{folder}/prometheus.yml", "w", encoding="utf-8") as file:
            file.write(config)
        self.port = free_port()
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen(["prometheus", "--config.file", f"{folder}/prometheus.yml", "--storage.tsdb.path",
                                        f"{folder}/data", "--web.listen-address", f"127.0.0.1:{self.port}"], stderr=log)
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.terminate)

    def query(self, expr):
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
        try:
            with urllib.request.urlopen(url, timeout=15) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:  # it is still starting
            return []

    def test_dashboard_has_data(self):
        if not shutil.which("prometheus"):
            self.skipTest("prometheus is not installed")
        self.start_prometheus()
        left = {(where, expr) for where, expr in dashboard() if not set(re.findall(r"embsum_\w+", expr)) & self.QUIET}
        self.assertGreater(len(left), 50)
        until = time.monotonic() + 30 * SLOW
        while left and time.monotonic() < until:
            for i in range(5):
                World.daemon.ask("/rank", json.dumps({"user": f"U{i}", "candidates": [f"N{k}" for k in range(200)]}).encode())
                World.demo.ask("/rank?user=U35&candidates=N1014,N1149")
            subprocess.run([f"{BUILD}/tests/server/test_api", "change", World.store, "2", "N1", "N2"], check=True)
            left = {(where, expr) for where, expr in left
                    if not self.query(expr.replace("$__rate_interval", "10s").replace("$instance", ".*"))}
            time.sleep(0.5)
        self.assertEqual(left, set())
        self.assertEqual(self.query('ALERTS{alertstate="firing"}'), [])


class Docs(unittest.TestCase):
    def test_entries(self):
        alerts = re.findall(r"- alert: (\w+)", read("deploy/prometheus/alerts.yml"))
        entries = re.split(r"^## ", read("docs/RUNBOOK.md"), flags=re.M)[1:]
        self.assertEqual([entry.split("\n", 1)[0] for entry in entries], alerts)
        for entry in entries:
            for part in ("**Means** ", "**Users see** ", "**Look at**", "**Do** ", "\n    "):
                self.assertIn(part, entry, entry.split("\n", 1)[0])
        anchors = set(re.findall(r"runbook: docs/RUNBOOK.md#(\w+)", read("deploy/prometheus/alerts.yml")))
        self.assertEqual(anchors, {alert.lower() for alert in alerts})
        for anchor in re.findall(r"\(#(\w+)\)", read("docs/RUNBOOK.md")):
            self.assertIn(anchor, anchors)

    def test_each_alert_is_tested_firing_and_silent(self):
        text = read("deploy/prometheus/alerts_test.yml")
        for alert in re.findall(r"- alert: (\w+)", read("deploy/prometheus/alerts.yml")):
            self.assertRegex(text, rf"alertname: {alert}\n +exp_alerts:")
            self.assertRegex(text, rf"\{{eval_time: \w+, alertname: {alert}\}}")

    def test_commands(self):
        tools = f"{World.folder}/bin"
        os.mkdir(tools)
        for name, script in (("systemctl", "true"),
                             ("journalctl", f'case $2 in embsumd) cat {World.daemon.log} ;; *) cat {World.folder}/refresh.log ;; esac')):
            with open(f"{tools}/{name}", "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\n{script}\n")
            os.chmod(f"{tools}/{name}", 0o755)
        values = {"daemon": World.daemon.address, "admin": World.daemon.admin, "store": World.store,
                  "PATH": f"{tools}:{BUILD}:{os.environ['PATH']}"}
        commands = re.findall(r"^    (\S.*)$", read("docs/RUNBOOK.md") + read("docs/METRICS.md"), re.M)
        count = 0
        for command in commands:
            if re.match(r"(daemon|admin|store)=", command):
                continue
            count += 1
            command = command.replace("/var/lib/node_exporter/embsum.prom", World.textfile)
            command = command.replace("/var/log/embsum/access.log", World.daemon.log)
            done = subprocess.run(["sh", "-c", command], env={**os.environ, **values}, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
        self.assertGreater(count, 40)


if __name__ == "__main__":
    unittest.main()
