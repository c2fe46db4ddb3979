"""Every example of server/openapi*.json against the daemon on the demo's data: the request is sent as it is written, and the
answer has the status, headers and shape that the document says, and the example's values.

    python3 tests/openapi/replay.py              the test
    python3 tests/openapi/replay.py --write      put the daemon's answers into the examples

What an example's request is: the operation's example of the same name (of its body, of its parameters), and over that the
example's "x-request":

    method, target, headers, body      in place of the operation's; a header with a list comes as often
    pad                                {"target": n} and {"header": n} make these n bytes longer, {"body": n} is a body of n bytes
    unframed                           nothing tells where the body ends
    withhold                           so many bytes of a body are announced, and none is sent

"x-daemon" names one of the daemons below; without it, it is the plain one.
"""
import http.client
import json
import pathlib
import re
import socket
import sys
import time
import unittest
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]
import demo  # noqa: E402
import document  # noqa: E402
import schema  # noqa: E402

TOKEN = "example-token-0123456789"
# What differs from run to run, and what stands for it in the documents.
GENERATION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
STANDING = {"request_id": "5f0c1e9a7b3d2846", "age_s": 42, "version": "0.1.0", "kernel": "avx512"}
LISTENERS = {"openapi.json": "address", "openapi_admin.json": "admin"}


class Daemons:
    """Each is started when it is first asked for."""

    def __init__(self, world):
        self.world, self.running = world, {}
        self.settings = {
            "plain": (),
            "tokens": (f"server.token_file={world.file('tokens', TOKEN)}", f"admin.token_file={world.file('admin', TOKEN)}"),
            "impatient": (f"server.header_timeout_ms={100 * demo.SLOW}", f"server.body_timeout_ms={100 * demo.SLOW}"),
            "no default user": ("rank.default_user=false",),
            "empty store": (),
            "store away": (),
            "refresh --explain": (),
        }

    def __getitem__(self, name):
        if name not in self.running:
            self.running[name] = self.start(name)
        return self.running[name]

    def start(self, name):
        if name == "store away":
            redis = self.world.redis()
            if not redis:
                raise unittest.SkipTest("redis-server is not installed: no store can go away")
            process, url = redis
            daemon = self.world.daemon(url=url)
            wait_until_ready(daemon)
            process.kill()
            process.wait(10)
            return daemon
        url = {"empty store": f"lmdb:{self.world.folder}/empty",
               "refresh --explain": f"lmdb:{self.world.folder}/explained"}.get(name)
        if name == "refresh --explain":
            self.world.refresh(url, "--explain")
        daemon = self.world.daemon(*self.settings[name], url=url)
        if name != "empty store":
            wait_until_ready(daemon)
        return daemon


def wait_until_ready(daemon):
    for _ in range(400 * demo.SLOW):
        if ask(daemon.address, plain_request("GET", "/readyz"))[0] == 200:
            return
        time.sleep(0.02)
    raise AssertionError("the daemon does not get ready: " + "".join(daemon.lines))


# ---- requests as bytes ----

def plain_request(method, target, headers=None, body=b""):
    lines = [f"{method} {target} HTTP/1.1"]
    for name, values in {"Host": "127.0.0.1", **(headers or {})}.items():
        lines += [f"{name}: {value}" for value in (values if isinstance(values, list) else [values])]
    return method, "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def query_text(value):
    if isinstance(value, list):
        return ",".join(urllib.parse.quote(item, safe="") for item in value)
    return urllib.parse.quote(json.dumps(value) if isinstance(value, (bool, int)) else value, safe="")


def written(operation, name, changes):
    """The request of an example: method, bytes."""
    target, query, headers, body = operation.path, [], {}, None
    for parameter in operation.parameters:
        if name not in parameter.get("examples", {}):
            continue
        value = query_text(parameter["examples"][name]["value"])
        if parameter["in"] == "path":
            target = target.replace("{%s}" % parameter["name"], value)
        elif parameter["in"] == "query":
            query.append(f"{parameter['name']}={value}")
        else:
            headers[parameter["name"]] = str(parameter["examples"][name]["value"])
    if query:
        target += "?" + "&".join(query)
    if name in operation.body.get("examples", {}):
        body = json.dumps(operation.body["examples"][name]["value"]).encode()
    if "body" in changes:
        body = changes["body"].encode()
    method, target = changes.get("method", operation.method), changes.get("target", target)
    pad = changes.get("pad", {})
    if "body" in pad:
        body = b" " * pad["body"]
    if "target" in pad:
        target += "?" + "x" * (pad["target"] - 1)
    if "header" in pad:
        headers["X-Pad"] = "x" * pad["header"]
    if body is not None:
        headers["Content-Type"] = "application/json"
        headers["Content-Length"] = str(len(body))
    elif method == "POST" and not changes.get("unframed"):
        headers["Content-Length"] = str(changes.get("withhold", 0))
    headers.update(changes.get("headers", {}))
    return plain_request(method, target, headers, body or b"")


def ask(address, request):
    """status, headers (lower case: value), body."""
    method, text = request
    with socket.create_connection(address, 15 * demo.SLOW) as connection:
        connection.sendall(text)
        answer = http.client.HTTPResponse(connection, method=method)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


# ---- answers ----

def standing(value, key=None):
    """The value with what stands for all that differs from run to run."""
    if isinstance(value, dict):
        return {k: standing(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [standing(v) for v in value]
    if isinstance(value, str):
        value = GENERATION.sub("20261124T161406Z-8ef217b9", value)
    return STANDING[key] if key in STANDING and value is not None else value


def differences(example, answer, at="$"):
    """Scores' last digits depend on the processor."""
    if schema.is_number(example) and schema.is_number(answer):
        close = abs(example - answer) <= 1e-3 * max(1, abs(example))
        return [] if close else [f"{at}: {example} and {answer}"]
    if isinstance(example, dict) and isinstance(answer, dict) and list(example) == list(answer):
        return [d for k in example for d in differences(example[k], answer[k], f"{at}.{k}")]
    if isinstance(example, list) and isinstance(answer, list) and len(example) == len(answer):
        return [d for i, pair in enumerate(zip(example, answer)) for d in differences(*pair, f"{at}[{i}]")]
    plain = not isinstance(example, (dict, list))
    return [] if plain and schema.same(example, answer) else [f"{at}: {example!r:.80} and {answer!r:.80}"]


# ---- the test ----

def places(about):
    """Each example of an answer once: operation, status, name, example. Those of shared answers are of whichever operation
    comes first; their x-request says all."""
    seen = set()
    for operation in document.operations(about):
        for status, response in operation.responses.items():
            for media, _, name, example in document.examples(response):
                if id(example) not in seen:
                    seen.add(id(example))
                    yield operation, status, media, name, example


class Replay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = demo.World().__enter__()
        cls.daemons = Daemons(cls.world)
        cls.documents = {name: document.load(name) for name in LISTENERS}

    @classmethod
    def tearDownClass(cls):
        cls.world.__exit__()

    def ask(self, listener, request, daemon="plain"):
        return ask(getattr(self.daemons[daemon], LISTENERS[listener]), request)

    def each_operation(self):
        for listener, about in self.documents.items():
            for operation in document.operations(about):
                with self.subTest(listener=listener, operation=operation.about["operationId"]):
                    yield listener, operation

    def good_request(self, operation, headers=None):
        """One that is answered 200, with these headers added."""
        names = [name for _, _, name, e in document.examples(operation.responses["200"]) if "x-daemon" not in e]
        return written(operation, names[0] if names else None, {"headers": headers or {}})

    def test_examples(self):
        for listener, about in self.documents.items():
            count = 0
            for operation, status, media, name, example in places(about):
                with self.subTest(listener=listener, operation=operation.about["operationId"], status=status, example=name):
                    request = written(operation, name, example.get("x-request", {}))
                    answered, headers, body = self.ask(listener, request, example.get("x-daemon", "plain"))
                    self.assertEqual(str(answered), status, body[:300])
                    found, value = document.problems(operation, answered, headers, body)
                    self.assertEqual(found, [])
                    if media == "application/json":
                        self.assertEqual(differences(example["value"], standing(value)), [])
                    else:
                        self.assertEqual(set(example["value"].splitlines()) - set(value.splitlines()), set())
                    count += 1
            self.assertGreater(count, 10)

    def test_methods(self):
        """What a path has no operation for is refused, and Allow names those that it has. HEAD is GET without a body."""
        for listener, about in self.documents.items():
            for path, item in about["paths"].items():
                known = {m for m in document.METHODS if m in item}
                allowed = ", ".join(sorted(m.upper() for m in known | ({"head"} if "get" in known else set())))
                operation = document.Operation(about, path, sorted(known)[0])
                target = self.good_request(operation)[1].split(b" ")[1].decode()
                for method in (*document.METHODS, "brew"):
                    if method in known or method == "head" and "get" in known:
                        continue
                    with self.subTest(path=path, method=method):
                        status, headers, body = self.ask(listener, plain_request(method.upper(), target, {"Content-Length": "0"}))
                        self.assertEqual((status, headers["allow"]), (405, allowed))
                        if method != "head":
                            self.assertEqual(document.problems(operation, status, headers, body)[0], [])

    def test_head(self):
        for listener, operation in self.each_operation():
            if operation.method != "GET":
                continue
            method, text = self.good_request(operation)
            status, headers, body = self.ask(listener, (method, text))
            self.assertEqual(status, 200)
            status, again, nothing = self.ask(listener, ("HEAD", b"HEAD" + text[len("GET"):]))
            self.assertEqual((status, nothing, again.keys()), (200, b"", headers.keys()))

    def test_security(self):
        """Exactly the operations with bearer want a token where there are any, and a right one opens them."""
        for listener, operation in self.each_operation():
            for headers, wanted in (({}, 401), ({"Authorization": f"Bearer x{TOKEN}"}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 200)):
                status, answered, body = self.ask(listener, self.good_request(operation, headers), "tokens")
                self.assertEqual(status, wanted if operation.guarded else 200)
                self.assertEqual(document.problems(operation, status, answered, body)[0], [])

    def test_request_id(self):
        for listener, operation in self.each_operation():
            for wanted in ("mine-1", "x" * 128):
                _, headers, _ = self.ask(listener, self.good_request(operation, {"X-Request-Id": wanted}))
                self.assertEqual(headers["x-request-id"], wanted)
            for unusable in ("x" * 129, "a b"):
                _, headers, _ = self.ask(listener, self.good_request(operation, {"X-Request-Id": unusable}))
                self.assertRegex(headers["x-request-id"], "^[0-9a-f]{16}$")

    def test_trace(self):
        """A traceparent's trace comes back with a span of the daemon's; what is none does not."""
        trace = "0af7651916cd43dd8448eb211c80319c"
        for listener, operation in self.each_operation():
            _, headers, _ = self.ask(listener, self.good_request(operation, {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}))
            self.assertRegex(headers["traceresponse"], f"^00-{trace}-[0-9a-f]{{16}}-01$")
            self.assertNotIn("b7ad6b7169203331", headers["traceresponse"])
            for headers in ({}, {"traceparent": "nonsense"}):
                self.assertNotIn("traceresponse", self.ask(listener, self.good_request(operation, headers))[1])

    def test_served(self):
        """Each listener serves its document as it is in the tree, and not again to whom has it."""
        for listener, about in self.documents.items():
            operation = document.Operation(about, "/openapi.json", "get")
            status, headers, body = self.ask(listener, plain_request("GET", "/openapi.json"))
            self.assertEqual(status, 200)
            self.assertTrue(body == (document.ROOT / "server" / listener).read_bytes(), "it is another one than in the tree")
            for known, wanted in ((headers["etag"], 304), (f'"x", {headers["etag"]}', 304), ("*", 304), ('"x"', 200)):
                status, again, body = self.ask(listener, plain_request("GET", "/openapi.json", {"If-None-Match": known}))
                self.assertEqual((status, again["etag"]), (wanted, headers["etag"]))
                self.assertEqual(document.problems(operation, status, again, body)[0], [])

    def test_library(self):
        """What the HTTP library refuses by itself, as info.description says."""
        for wanted, request in ((431, plain_request("GET", "/livez", {"X-Pad": "x" * 60000})), (414, plain_request("GET", "/" + "x" * 60000)),
                                (505, ("GET", b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n"))):
            status, headers, _ = self.ask("openapi.json", request)
            self.assertEqual(status, wanted)
            self.assertEqual((headers["connection"], "x-request-id" in headers), ("close", False))

    def test_elsewhere(self):
        for listener, about in self.documents.items():
            for target in ("/nothing", "/openapi", "/rank/", "/generations/", "/users"):
                status, _, body = self.ask(listener, plain_request("GET", target))
                self.assertEqual(status, 404)
                self.assertEqual(schema.problems(document.parse(body), about["components"]["schemas"]["Error"], about), [])


class Comparison(unittest.TestCase):
    def test_differences(self):
        same = [({"a": [1, 2.5, "x", None, True]}, {"a": [1, 2.5001, "x", None, True]}), (-100.0, -100.05), (3, 3)]
        other = [(1.0, 1.01), ("x", "y"), ({"a": 1}, {"a": 1, "b": 2}), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([1], [1, 2]),
                 (None, 0), (True, 1), ({}, []), ([{"a": "x"}], [{"a": "y"}])]
        for example, answer in same:
            self.assertEqual(differences(example, answer), [], example)
        for example, answer in other:
            self.assertNotEqual(differences(example, answer), [], example)

    def test_standing(self):
        answer = {"generation": "20270101T000000Z-00000000", "error": {"message": "not in 20270101T000000Z-00000000", "request_id": "x"},
                  "age_s": 7, "kernel": None}
        self.assertEqual(standing(answer), {"generation": "20261124T161406Z-8ef217b9", "age_s": 42, "kernel": None, "error": {
            "message": "not in 20261124T161406Z-8ef217b9", "request_id": "5f0c1e9a7b3d2846"}})

    def test_headers(self):
        response = {"headers": {"A": {"required": True, "schema": {"type": "integer", "minimum": 1}}, "B": {"schema": {"const": "b"}}}}
        for headers, count in (({"a": "1"}, 0), ({"a": "1", "b": "b", "date": "x"}, 0), ({}, 1), ({"a": "0"}, 1), ({"a": "1", "b": "c"}, 1),
                               ({"a": "1", "c": "x"}, 1)):
            self.assertEqual(len(document.header_problems(response, headers, {})), count, headers)


# ---- --write ----

def layout(value, indent=0, lead=0):
    """JSON in which what fits into a line is on one."""
    line = json.dumps(value)
    if indent + lead + len(line) <= 120 or not isinstance(value, (dict, list)) or not value:
        return line
    pad, rows = "\n" + " " * (indent + 2), []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        name = json.dumps(key) + ": " if isinstance(value, dict) else ""
        rows.append(pad + name + layout(item, indent + 2, len(name) + 1))
    brackets = "{}" if isinstance(value, dict) else "[]"
    return brackets[0] + ",".join(rows) + "\n" + " " * indent + brackets[1]


def write():
    with demo.World() as world:
        daemons = Daemons(world)
        for listener, address in LISTENERS.items():
            about = document.load(listener)
            for operation, status, media, name, example in places(about):
                if media != "application/json":
                    continue
                request = written(operation, name, example.get("x-request", {}))
                answered, _, body = ask(getattr(daemons[example.get("x-daemon", "plain")], address), request)
                if str(answered) != status:
                    print(f"{listener} {operation.about['operationId']} {status} {name}: {answered} {body[:200]}", file=sys.stderr)
                    continue
                example["value"] = standing(document.parse(body))
            (document.ROOT / "server" / listener).write_text(layout(about) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    else:
        unittest.main()
