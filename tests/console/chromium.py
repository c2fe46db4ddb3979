"""A headless chromium on a pipe, by the DevTools protocol: what a test of a page needs of it, on the standard library alone.

    with Chromium(folder) as browser:
        page = browser.page("http://127.0.0.1:8080/")
        page.wait("document.title")
        page.key("Tab")
        page.screenshot("page.png")
        browser.problems                what the console and the policy complained about
"""
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

SLOW = int(os.environ.get("EMBSUM_SLOW", 1))
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Backspace": 8,
        " ": 32}
TEXTS = {"Enter": "\r", " ": " "}


class Chromium:
    def __init__(self, folder):
        # Ends of pipes above 9, so that none is in the way of the descriptors 3 and 4 that chromium speaks on.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for pair in (os.pipe(), os.pipe()) for fd in pair]
        to_read, self.to, self.of, to_write = high[0], high[1], high[2], high[3]
        # Without its sandbox, which a container may not grant: it opens our own page and nothing else.
        self.process = subprocess.Popen(
            [shutil.which("chromium"), "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--hide-scrollbars", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
             "--force-color-profile=srgb", "--user-data-dir=" + os.path.join(folder, "profile"), "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(os.path.join(folder, "chromium.log"), "w"),
            pass_fds=(3, 4), preexec_fn=lambda: (os.dup2(to_read, 3), os.dup2(to_write, 4)),
            env={**os.environ, "HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder})
        os.close(to_read)
        os.close(to_write)
        self.number, self.rest, self.problems = 0, b"", []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close")
            self.process.wait(5)
        except Exception:  # what is left of it is ended all the same
            self.process.kill()
            self.process.wait()

    def receive(self, deadline):
        while b"\0" not in self.rest:
            if not select.select([self.of], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError("chromium does not answer")
            data = os.read(self.of, 1 << 20)
            if not data:
                raise AssertionError("chromium has ended")
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 20 * SLOW
        while True:
            answer = self.receive(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self.note(answer.get("method"), answer.get("params", {}))

    def note(self, event, params):
        if event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append("exception: " + details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(f"console.{params['type']}: {[a.get('value', a.get('description')) for a in params['args']]}")
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.problems.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")

    def page(self, url):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        return Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"], url)


class Page:
    def __init__(self, browser, session, url):
        self.browser, self.session = browser, session
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source="""
            window.violations = [];
            addEventListener("securitypolicyviolation", (e) => violations.push(`${e.effectiveDirective} ${e.blockedURI}`));""")
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def run(self, expression):
        """The value of an expression in the page, awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise AssertionError(f"{expression[:200]}: {details.get('exception', {}).get('description', details['text'])}")
        return result["result"].get("value")

    def wait(self, expression, seconds=10):
        """Until the expression is true in the page; its value."""
        deadline = time.monotonic() + seconds * SLOW
        while True:
            value = self.run(expression)
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {expression}\n" + (self.run("document.body.innerText") or ""))
            time.sleep(0.05)

    def key(self, key, times=1, shift=False):
        code = KEYS[key]
        for _ in range(times):
            common = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
            text = {"text": TEXTS[key]} if key in TEXTS else {}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **common, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def size(self, width, height, phone=False):
        self.width = width
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)

    def media(self, **features):
        """media(prefers_color_scheme="dark")"""
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": name.replace("_", "-"), "value": value} for name, value in features.items()])

    def screenshot(self, path):
        """The whole page, from its top."""
        self.run("scrollTo({top: 0, behavior: 'instant'})")
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1})
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))
