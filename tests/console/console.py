"""The console in a real browser, on the demo's data: from an empty store to a ranking and its explanation, by the keyboard
alone; what a daemon that goes away and comes back looks like; what axe-core finds; that nothing scrolls sideways on a phone.

    BUILD=build AXE=axe.min.js python3 tests/console/console.py        started by test_console.sh; AXE may be empty
"""
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from chromium import SLOW, Chromium  # noqa: E402

BUILD = os.environ["BUILD"]
AXE = os.environ.get("AXE", "")
SHOTS = os.path.join(BUILD, "console")
DEMO = "deploy/demo/"


def check(truth, what):
    if not truth:
        raise AssertionError(what)


class Daemon:
    def __init__(self, store, *options, listen="127.0.0.1:0"):
        self.process = subprocess.Popen([os.path.join(BUILD, "embsumd"), "--listen", listen, "--store", store, *options],
                                        stderr=subprocess.PIPE, text=True)
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if line.startswith("{") and json.loads(line)["msg"] == "listening":
                self.address = json.loads(line)["address"]
                break
        else:
            raise AssertionError("embsumd ended: " + "".join(lines))

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.communicate(timeout=20 * SLOW)
        check(self.process.returncode == 0, f"embsumd ended with {self.process.returncode}")

    def ask(self, method, path, body=None, **headers):
        host, port = self.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=10 * SLOW)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, answer.headers, data


def refresh(store, behaviors=DEMO + "behaviors.tsv"):
    embsum = os.path.join(BUILD, "embsum")
    options = subprocess.run([embsum, "refresh", "--help"], capture_output=True, text=True).stdout
    explain = ["--explain"] if "--explain" in options else []
    subprocess.run([embsum, "refresh", "--quiet", *explain, "--model", DEMO + "model", "--news", DEMO + "news.tsv", "--behaviors",
                    behaviors, "--store", store], check=True, stdout=subprocess.DEVNULL)


# ---- on the wire ----

def check_wire(daemon):
    for path, name in (("/", "index.html"), ("/console.css", "console.css"), ("/console.js", "console.js")):
        with open("server/console/" + name, "rb") as file:
            right = file.read()
        status, headers, data = daemon.ask("GET", path)
        check(status == 200 and data == right, f"{path}: {status}, {len(data)} bytes of {len(right)}")
        check(headers.get_all("Cache-Control") == ["no-cache"], f"{path}: {headers.get_all('Cache-Control')}")
        check("default-src 'none'" in headers["Content-Security-Policy"], f"{path}: no policy")
        for method, known, wanted in (("HEAD", "", 200), ("GET", headers["ETag"], 304), ("HEAD", headers["ETag"], 304),
                                      ("GET", '"another"', 200)):
            status, again, data = daemon.ask(method, path, If_None_Match=known)
            check(status == wanted, f"{method} {path} with {known}: {status}")
            check(data == (right if status == 200 and method == "GET" else b""), f"{method} {path} with {known}: a wrong body")
            check(again.get("Content-Length") in (None, str(len(right))), f"{method} {path}: length {again.get('Content-Length')}")
            check(again["ETag"] == headers["ETag"], f"{method} {path}: another ETag")
        status, headers, data = daemon.ask("POST", path, b"x")
        check(status == 405 and headers["Allow"] == "GET, HEAD", f"POST {path}: {status}")
    status, headers, data = daemon.ask("GET", "/metrics")
    check(headers["Cache-Control"] == "no-store", "/metrics may be kept")
    check(b'embsum_http_requests_total{route="console",code="304"} 6\n' in data, "304 is not counted")


# ---- in the browser ----

class Console:
    """The page, and what is looked at in each of its states."""

    def __init__(self, browser, url):
        self.page = browser.page(url)
        self.page.size(1280, 900)
        self.serious = []

    def shot(self, name):
        self.page.screenshot(os.path.join(SHOTS, name + ".png"))

    def axe(self, state):
        if not AXE:
            return
        if not self.page.run("typeof axe === 'object'"):
            with open(AXE, encoding="utf-8") as file:
                self.page.run(file.read() + "; 0")
        found = self.page.run("""axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.map((v) =>
            ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map((n) => n.html.slice(0, 160) + " " + n.failureSummary)})))""")
        for each in found:
            print(f"axe, {state}: {each['impact']}: {each['id']}: {each['help']}")
            if each["impact"] in ("serious", "critical"):
                self.serious.append(f"{state}: {each['id']}: {each['help']}\n    " + "\n    ".join(each["nodes"][:5]))

    def check_width(self, state):
        room = self.page.width  # innerWidth would not do: a phone zooms out until all is in it
        width = self.page.run("document.documentElement.scrollWidth")
        check(width <= room, f"{state}: {width} px wide in {room}: " + str(self.page.run(f"""[...document.querySelectorAll("body *")]
            .filter((e) => e.getBoundingClientRect().right > {room} && !e.closest(".scroll")).slice(0, 5).map((e) => e.outerHTML.slice(0, 120))""")))

    def tab_to(self, selector):
        """By the keyboard, as somebody without a mouse comes there."""
        for _ in range(60):
            if self.page.run(f"document.activeElement?.matches({json.dumps(selector)})"):
                return
            self.page.key("Tab")
        raise AssertionError(f"Tab does not reach {selector}")

    def clear_input(self):
        self.page.run("document.activeElement.select()")
        self.page.key("Backspace")

    def text(self, id):
        return self.page.run(f"document.getElementById({json.dumps(id)}).textContent")


def show_empty(console):
    """A store with nothing in it: says why, and what to do."""
    console.page.wait("document.getElementById('status').textContent === 'Not ready'")
    check("No verified generation is in memory." in console.text("notice"), console.text("notice"))
    console.axe("an empty store")
    console.shot("empty")


def become_ready(console):
    console.page.wait("document.getElementById('status').textContent === 'Ready'", 20)
    console.page.wait("document.querySelectorAll('#chips li').length === 10")
    check(console.text("contents") == "288" and console.text("users") in ("96", "97"), f"{console.text('contents')} contents")
    check(console.page.run("document.getElementById('notice').hidden"), "the notice stays")


def rank_by_keyboard(console):
    page = console.page
    console.tab_to("#user")
    console.clear_input()
    page.type("U3")
    page.wait("document.getElementById('user').getAttribute('aria-expanded') === 'true'")
    check(page.run("[...document.querySelectorAll('#user-list [role=option]')].every((o) => o.textContent.startsWith('U3'))"), "other ids")
    page.key("ArrowDown", 2)
    chosen = page.run("document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).textContent")
    page.key("Enter")
    check(page.run("document.getElementById('user').value") == chosen, "the id that was chosen is not in the input")
    check(page.run("document.getElementById('user-list').hidden && document.getElementById('result').hidden"), "Enter did more than choose")
    console.clear_input()
    page.type("U35")
    page.wait("document.getElementById('user').getAttribute('aria-expanded') === 'true'")
    page.key("Escape")
    check(page.run("document.getElementById('user-list').hidden"), "Escape does not close the list")
    console.tab_to("#chips button")
    page.key("Enter")
    page.wait("document.querySelectorAll('#chips li').length === 9")
    console.tab_to("#clear")
    page.key("Enter")
    page.wait("document.querySelectorAll('#chips li').length === 0 && document.activeElement.id === 'candidate'")
    for candidate in ("N1183", "N1149", "N1014", "N1001", "N1100"):
        page.type(candidate + ",")
    page.type("N7")
    page.key("Enter")
    page.wait("document.querySelectorAll('#chips li').length === 6")
    page.key("Enter")  # an empty input's Enter is the form's
    page.wait("!document.getElementById('result').hidden")
    rows = page.run("[...document.querySelectorAll('#list tbody tr')].map((r) => [r.dataset.id, Number(r.querySelector('.num').textContent)])")
    check(len(rows) == 5 and rows[0][0] == "N1014", f"the ranking is {rows}")
    check(all(a[1] >= b[1] for a, b in zip(rows, rows[1:])), "the ranking is out of order")
    check("N7" in console.text("missing") and "not in this generation" in console.text("missing"), console.text("missing"))
    answer = subprocess.run(["sh", "-c", console.text("curl")], capture_output=True, text=True).stdout
    check([each["id"] for each in json.loads(answer)["ranking"]] == [row[0] for row in rows], "curl's ranking is another: " + answer)
    check("5 contents ranked" in console.text("say"), "nothing is said: " + console.text("say"))


def explain_by_keyboard(console):
    page = console.page
    console.tab_to("#list .pick")
    page.key("Enter")
    page.wait("!document.getElementById('why').hidden && document.activeElement.id === 'why-title'")
    check(page.run("document.querySelectorAll('#heat .cell').length") == 16 * 4, "the map has not 16 x 4 cells")
    check(page.run("document.querySelectorAll('#heat .ring').length") == 5, "the map has not five marks")
    check("u" in page.run("document.querySelector('#heat svg').getAttribute('aria-label')"), "the map has no words")
    check(page.run("document.querySelectorAll('#pairs .badge').length") == 5, "there are not five pairs")
    weights = page.run("[...document.querySelectorAll('#weights td')].map((d) => parseFloat(d.textContent))")
    check(len(weights) == 64 and abs(sum(weights) - 100) < 0.5, f"{len(weights)} weights of {sum(weights)} %")
    summary = console.text("summary")
    check(len(summary) > 20 and "summary" not in summary, "the reader is not put in words: " + summary)
    console.tab_to("#numbers summary")
    page.key("Enter")
    page.wait("document.getElementById('numbers').open")
    page.key("Enter")
    page.run("document.getElementById('why-title').focus()")
    console.tab_to("#back")
    page.key("Enter")
    page.wait("document.activeElement.matches('#list .chosen .pick')")


def show_live(console):
    """What the metrics say of what was just asked."""
    console.page.wait("document.getElementById('latency-span').textContent.endsWith('in the last minute')")
    check(console.page.run("document.querySelectorAll('#latency tbody tr').length") > 0, "the histogram is empty")
    check(console.text("median").endswith(("µs", "ms")), console.text("median"))
    check("Candidate: not found" in console.text("trouble"), console.text("trouble"))
    check(console.text("build").startswith("embsumd "), console.text("build"))


def look_in_all_lights(console):
    """With everything on the page."""
    page = console.page
    page.media(prefers_color_scheme="light", prefers_reduced_motion="reduce")
    check(page.run("getComputedStyle(document.querySelector('.track > i')).transitionDuration") == "0s", "it moves all the same")
    shades = []
    for light in ("light", "dark"):
        page.media(prefers_color_scheme=light, prefers_reduced_motion="reduce")
        shades.append(page.run("getComputedStyle(document.body).backgroundColor"))
        console.axe(light)
        console.shot(light)
    check(shades[0] != shades[1], "light is dark")
    for light in ("dark", "light"):
        page.media(prefers_color_scheme=light, prefers_reduced_motion="reduce")
        page.size(360, 740, phone=True)
        page.wait("document.querySelector('#heat svg').clientWidth <= 328")
        console.check_width("narrow")
        console.axe("narrow, " + light)
        console.shot("narrow-" + light)
    page.size(320, 640, phone=True)
    time.sleep(0.2)
    console.check_width("320 px")
    page.size(1280, 900)
    console.tab_to("[name=theme]")
    page.key("ArrowRight", 2)
    check(page.run("getComputedStyle(document.body).backgroundColor") == shades[1], "the switch does not make it dark")
    page.key("ArrowLeft", 2)
    check(page.run("getComputedStyle(document.body).backgroundColor") == shades[0], "the switch does not make it light again")


def show_errors(console):
    page = console.page
    console.tab_to("#user")
    console.clear_input()
    page.key("Enter")
    page.wait("document.getElementById('user-error').textContent && document.activeElement.id === 'user'")
    page.type("nobody" + 400 * "x")
    page.key("Escape")
    page.key("Enter")
    page.wait("document.getElementById('facts').textContent.includes('unknown: ranked as a reader without a history')")
    page.size(360, 740, phone=True)
    console.check_width("a long id")
    page.size(1280, 900)
    console.tab_to("[name=from]")
    page.key("ArrowDown")
    page.wait("!document.getElementById('all').hidden")
    console.tab_to("#category")
    page.type("nonsense")
    page.key("Enter")
    page.wait("!document.getElementById('error').hidden")
    error = console.text("error")
    check("404 not_found" in error and "Request " in error, error)
    page.size(360, 740, phone=True)
    console.check_width("an error")
    console.axe("an error")
    page.size(1280, 900)
    console.clear_input()
    page.key("Enter")
    page.wait("document.querySelectorAll('#list tbody tr').length === 10 && document.getElementById('error').hidden")


def go_away_and_come_back(console, daemon, store):
    page = console.page
    daemon.stop()
    page.wait("document.getElementById('status').textContent === 'Away'")
    check("embsumd does not answer" in console.text("notice"), console.text("notice"))
    console.axe("away")
    console.shot("away")
    again = Daemon(store, listen=daemon.address)
    page.wait("document.getElementById('status').textContent === 'Ready'", 15)
    return again


def enter_token(browser, folder, store):
    """A daemon that wants a token: the page says so, and goes on once it has one."""
    with open(f"{folder}/tokens", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write("a-token-of-the-test\n")
    daemon = Daemon(store, "--set", f"server.token_file={folder}/tokens")
    try:
        console = Console(browser, f"http://{daemon.address}/")
        page = console.page
        page.wait("document.getElementById('empty').textContent.includes('token')")
        console.tab_to("#user")
        page.type("U35")
        console.tab_to("#candidate")
        page.type("N1014,")
        page.key("Enter")
        page.wait("document.getElementById('error').textContent.includes('401 unauthorized')")
        console.tab_to("#error button")
        page.key("Enter")
        page.wait("document.activeElement.id === 'token'")
        page.type("a-token-of-the-test")
        page.key("Enter")
        page.wait("document.getElementById('token-state').textContent === 'set' && !document.getElementById('token-box').open")
        console.tab_to("#rank")
        page.key("Enter")
        page.wait("!document.getElementById('result').hidden && document.querySelectorAll('#list tbody tr').length === 1")
        check("$TOKEN" in console.text("curl") and "a-token" not in console.text("curl"), console.text("curl"))
        check(page.run("Object.values(sessionStorage).includes('a-token-of-the-test')"), "the token is not kept by the tab")
        check(not page.run("JSON.stringify(localStorage).includes('a-token')"), "the token is kept for good")
        check(not page.run("violations.length"), "the policy is violated")
    finally:
        daemon.stop()


def lose_store(browser, folder):
    """A store that goes away: what is in memory is ranked, and the page says what is missing, and why."""
    if not shutil.which("redis-server"):
        print("skipped: the outage of a store, without redis-server")
        return
    redis = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", f"{folder}/redis.sock", "--dir", folder, "--save", "",
                              "--appendonly", "no"], stdout=subprocess.DEVNULL)
    daemon = None
    try:
        deadline = time.monotonic() + 10 * SLOW
        while not os.path.exists(f"{folder}/redis.sock"):
            check(time.monotonic() < deadline, "redis-server does not start")
            time.sleep(0.05)
        store = f"redis+unix:{folder}/redis.sock"
        with open(DEMO + "behaviors.tsv", encoding="utf-8") as rows, open(f"{folder}/one.tsv", "w", encoding="utf-8") as one:
            one.writelines(row for row in rows if row.split("\t")[1] == "U35")
        refresh(store, f"{folder}/one.tsv")
        daemon = Daemon(store, "--set", "memory.preload=false")
        console = Console(browser, f"http://{daemon.address}/")
        page = console.page
        page.wait("document.getElementById('empty').textContent.startsWith('Nothing is in memory yet')")
        console.tab_to("#user")
        page.type("U35")
        console.tab_to("#candidate")
        page.type("N1014,")
        page.key("Enter")
        page.wait("!document.getElementById('result').hidden")
        redis.kill()
        redis.wait()
        page.type("N1149,")
        page.key("Enter")
        page.wait("!document.getElementById('degraded').hidden")
        check("The store does not answer" in console.text("degraded"), console.text("degraded"))
        check("N1149" in console.text("missing") and "did not answer in time" in console.text("missing"), console.text("missing"))
        page.wait("document.getElementById('status').textContent === 'Store away'")
        check(console.text("store") == "away", console.text("store"))
        console.axe("an outage")
        check(not console.serious, "axe-core finds:\n" + "\n".join(console.serious))
    finally:
        redis.kill()
        redis.wait()
        if daemon:
            daemon.stop()


def unexpected(problems, titles):
    """A browser notes refused requests; some are refused by our doing."""
    ours = ["401 (Unauthorized)", "404 (Not Found)", "Failed to load resource: net::ERR_CONNECTION", "503 (Service Unavailable)"]
    if not titles:  # an older daemon is asked once with the key that it does not know
        ours.append("400 (Bad Request)")
    return [problem for problem in problems if not (problem.startswith("network:") and any(text in problem for text in ours))]


def run(folder):
    store = f"lmdb:{folder}/store"
    os.mkdir(f"{folder}/store")
    daemon = Daemon(store)
    try:
        check_wire(daemon)
        status, _, _ = daemon.ask("POST", "/rank", b'{"user":"U1","candidates":["N1"],"titles":true}', Content_Type="application/json")
        with Chromium(folder) as browser:
            console = Console(browser, f"http://{daemon.address}/")
            show_empty(console)
            refresh(store)
            become_ready(console)
            rank_by_keyboard(console)
            explain_by_keyboard(console)
            show_live(console)
            look_in_all_lights(console)
            show_errors(console)
            daemon = go_away_and_come_back(console, daemon, store)
            enter_token(browser, folder, store)
            lose_store(browser, folder)
            violations = console.page.run("violations")
            check(not violations, f"against the policy: {violations}")
            problems = unexpected(browser.problems, status != 400)
            check(not problems, "the browser complains:\n" + "\n".join(problems))
            check(not console.serious, "axe-core finds:\n" + "\n".join(console.serious))
    finally:
        daemon.stop()


def main():
    os.makedirs(SHOTS, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="embsum-console.")
    start = time.monotonic()
    try:
        run(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"the console works: {time.monotonic() - start:.1f} s, pictures are in {SHOTS}")


main()
