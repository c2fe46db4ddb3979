"""The documents server/openapi*.json by themselves: references, schemas, examples, limits, and the router's table. And
the validator that this and tests/openapi/replay.py use.

    python3 tests/openapi/document.py
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
import schema  # noqa: E402

# Headers of HTTP itself, which the documents leave to HTTP.
HTTP_HEADERS = {"content-type", "content-length", "date", "connection"}
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
TABLES = {"openapi.json": "routes", "openapi_admin.json": "admin_routes"}  # of server/router.c


def no_key_twice(pairs):
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"a key is there twice: {keys}")
    return dict(pairs)


def load(name):
    return json.loads((ROOT / "server" / name).read_text(), object_pairs_hook=no_key_twice)


def walk(node, at="#"):
    """Every object with its place."""
    if isinstance(node, dict):
        yield at, node
        for key, value in node.items():
            yield from walk(value, f"{at}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from walk(value, f"{at}/{i}")


class Operation:
    """One method of one path, with what its path adds, and all references followed."""

    def __init__(self, document, path, method):
        follow = lambda node: schema.resolve(node, document)
        item = document["paths"][path]
        self.document, self.path, self.method, self.about = document, path, method.upper(), item[method]
        self.parameters = [follow(p) for p in [*item.get("parameters", []), *self.about.get("parameters", [])]]
        body = follow(self.about.get("requestBody", {}))
        self.body = body.get("content", {}).get("application/json", {})
        self.responses = {status: follow(r) for status, r in self.about["responses"].items()}
        self.shared = {status for status, r in self.about["responses"].items() if "$ref" in r}
        self.guarded = any(self.about["security"])

    def requests(self):
        """Names of the examples of a request."""
        names = set(self.body.get("examples", {}))
        for parameter in self.parameters:
            names |= set(parameter.get("examples", {}))
        return names


def operations(document):
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield Operation(document, path, method)


def examples(response):
    """media type, schema, name, example"""
    for media, content in response.get("content", {}).items():
        for name, example in content.get("examples", {}).items():
            yield media, content["schema"], name, example


def header_problems(response, headers, document):
    found = []
    documented = {name.lower(): schema.resolve(header, document) for name, header in response.get("headers", {}).items()}
    for name, header in documented.items():
        if name not in headers:
            found += [f"{name} is missing"] if header.get("required") else []
            continue
        value = headers[name]
        if schema.resolve(header["schema"], document).get("type") == "integer":
            value = int(value)
        found += schema.problems(value, header["schema"], document, name)
    found += [f"{name} is not in the document" for name in headers if name not in documented and name not in HTTP_HEADERS]
    return found


def parse(text):
    def refuse(word):
        raise ValueError(f"{word} is no JSON")
    return json.loads(text, parse_constant=refuse, object_pairs_hook=no_key_twice)


def problems(operation, status, headers, body):
    """What is wrong with an answer, and its value: headers are a dict of names in lower case."""
    response = operation.responses.get(str(status))
    if not response:
        return [f"{status} is not in the document"], None
    found = header_problems(response, headers, operation.document)
    content = response.get("content")
    if not content:
        return found + ["there is a body"] * bool(body), None
    media = headers["content-type"]
    if media not in content:
        return [*found, f"{media} is not in the document"], None
    value = parse(body) if media == "application/json" else body.decode()
    return found + schema.problems(value, content[media]["schema"], operation.document), value


def routes(table):
    """path: methods, of a table in server/router.c."""
    source = (ROOT / "server/router.c").read_text()
    body = re.search(rf"\b{table}\[\] =\s*\{{(.*?)\{{NULL,", source, re.S).group(1)
    rows = re.findall(r'\{"([^"]+)", ([A-Z_ |]+),', body)
    return {path: {word.replace("METHOD_", "") for word in methods.split(" | ")} for path, methods in rows}


class Documents(unittest.TestCase):
    def each(self):
        return [(name, load(name)) for name in TABLES]

    def test_references(self):
        """Each leads somewhere, and nothing is left that none leads to."""
        for _, document in self.each():
            used = set()
            for at, node in walk(document):
                if "$ref" in node:
                    self.assertIsInstance(node["$ref"], str, at)
                    schema.resolve(node, document)
                    used.add(node["$ref"])
            for kind, parts in document["components"].items():
                for part in parts:
                    if kind != "securitySchemes":
                        self.assertIn(f"#/components/{kind}/{part}", used)

    def test_router(self):
        """Every path of the router's table is in the document and the other way round, with its methods."""
        for name, document in self.each():
            table = routes(TABLES[name])
            self.assertGreaterEqual(len(table), 3)
            written = {}
            for operation in operations(document):
                # "/users/{id}" is "/users/" in the table, which stands for all that begin with it
                written.setdefault(re.sub(r"\{\w+\}$", "", operation.path), set()).add(operation.method)
            for methods in written.values():
                if "GET" in methods:  # info.description says so of HEAD
                    methods.add("HEAD")
            self.assertEqual(written, table)

    def test_schemas(self):
        for _, document in self.each():
            for at, node in walk(document):
                if at.startswith("#/components/schemas/") and at.count("/") == 3:
                    schema.check(node, document)
                if isinstance(node.get("schema"), dict):
                    schema.check(node["schema"], document)

    def test_operations(self):
        """Ids are there once; what every request may meet is in every operation; tokens go with 401."""
        for _, document in self.each():
            ids = [operation.about["operationId"] for operation in operations(document)]
            self.assertEqual(len(set(ids)), len(ids))
            for operation in operations(document):
                with self.subTest(operation=operation.about["operationId"]):
                    self.assertLessEqual({"200", "400", "405", "408", "413", "414", "431", "500", "503"}, set(operation.responses))
                    self.assertEqual("401" in operation.responses, operation.guarded)
                    self.assertEqual("411" in operation.responses, "requestBody" in operation.about)
                    self.assertIn("X-Request-Id", [p["name"] for p in operation.parameters])
                    for status, response in operation.responses.items():
                        self.assertIn("X-Request-Id", response["headers"])
                        for header, wanted in (("Retry-After", "503"), ("Allow", "405"), ("WWW-Authenticate", "401")):
                            self.assertEqual(header in response["headers"], status == wanted, (status, header))

    def test_errors(self):
        """One code for each status, those of server/http_message.c."""
        source = (ROOT / "server/http_message.c").read_text()
        codes = dict(re.findall(r'\{(\d{3}), "[^"]+", "([a-z_]+)"\}', source))
        self.assertGreater(len(codes), 10)
        for _, document in self.each():
            error = document["components"]["schemas"]["Error"]["properties"]["error"]
            self.assertEqual(sorted(error["properties"]["code"]["enum"]), sorted(codes.values()))
            for operation in operations(document):
                for status, response in operation.responses.items():
                    if status < "400":
                        continue
                    of = response["content"]["application/json"]["schema"]
                    for code in codes.values():
                        error = {"error": {"code": code, "message": "x", "request_id": "y"}}
                        self.assertEqual(schema.problems(error, of, document) == [], code == codes[status], (status, code))

    def test_examples(self):
        """A request's example has one answer in its operation; all are valid; and an answer without one says what was asked."""
        for _, document in self.each():
            for operation in operations(document):
                answered = []
                for status, response in operation.responses.items():
                    for media, of, name, example in examples(response):
                        with self.subTest(operation=operation.about["operationId"], status=status, example=name):
                            self.assertEqual(schema.problems(example["value"], of, document), [])
                            if status not in operation.shared:
                                answered.append(name)
                            has_request = name in operation.requests() or not operation.requests() and status == "200"
                            self.assertNotEqual(has_request, "x-request" in example)
                self.assertEqual(len(answered), len(set(answered)))
                self.assertLessEqual(operation.requests(), set(answered))
                for name, example in operation.body.get("examples", {}).items():
                    self.assertEqual(schema.problems(example["value"], operation.body["schema"], document), [], name)
                for parameter in operation.parameters:
                    for name, example in parameter.get("examples", {}).items():
                        self.assertEqual(schema.problems(example["value"], parameter["schema"], document), [], name)

    def test_limits(self):
        """Where x-limit names a key of the configuration, the number is that key's in the shipped one."""
        config = json.loads((ROOT / "config/embsum.json").read_text())
        seen = 0
        for _, document in self.each():
            for at, node in walk(document):
                if "x-limit" in node:
                    section, key = node["x-limit"].split(".")
                    limits = [node[k] for k in ("maxItems", "maximum") if k in node]
                    self.assertEqual(limits, [config[section][key]], at)
                    seen += 1
        self.assertGreaterEqual(seen, 3)

    def test_version(self):
        version = subprocess.run([os.environ["EMBSUMD"], "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
        for _, document in self.each():
            self.assertEqual(document["info"]["version"], version)

    def test_requests_as_they_are_read(self):
        """What server/rank_request.c refuses the schema refuses, and what it takes the schema takes."""
        document = load("openapi.json")
        of = document["components"]["schemas"]["RankRequest"]
        good = [{"user": "U1", "candidates": []}, {"users": ["a"], "candidates": ["N1"], "top_k": 20000},
                {"user": "U1", "top_k": 10000}, {"user": "U1", "top_k": 1, "category": "world news", "exclude": []},
                {"user": "\u00e9" * 256, "candidates": ["N1", "N1"], "explain": False}]
        bad = [{}, [], None, {"user": "U1"}, {"user": "U1", "users": ["U2"], "top_k": 1}, {"users": [], "top_k": 1},
               {"candidates": ["N1"]}, {"user": "U1", "candidates": ["N1"], "category": "x"},
               {"user": "U1", "candidates": ["N1"], "exclude": [], "top_k": 1}, {"user": "U1", "top_k": 10001},
               {"user": "U1", "top_k": 0}, {"user": "U1", "top_k": 1.5}, {"user": "U1", "top_k": True}, {"user": "", "top_k": 1},
               {"user": "a b", "top_k": 1}, {"user": "x" * 513, "top_k": 1}, {"user": "U1", "candidates": "N1"},
               {"user": "U1", "candidates": ["N1"], "explain": "true"}, {"user": "U1", "candidates": ["N1"], "limit": 3},
               {"user": "U1", "candidates": ["N1"] * 10001}, {"users": ["U1"] * 65, "top_k": 1},
               {"user": "U1", "top_k": 1, "category": "a\nb"}, {"user": "U1", "top_k": 1, "category": ""}]
        for request in good:
            self.assertEqual(schema.problems(request, of, document), [], request)
        for request in bad:
            self.assertNotEqual(schema.problems(request, of, document), [], request)


class Validator(unittest.TestCase):
    """It refuses what is wrong: each rule has values on both sides."""

    def test_rules(self):
        rows = [
            (True, [1, None], []),
            (False, [], [1, None]),
            ({}, [1, {}], []),
            ({"type": "integer"}, [0, -3, 2.0, 10**30], [1.5, True, "1", None]),
            ({"type": "number"}, [0, 1.5], [False, "1"]),
            ({"type": "string"}, ["", "x"], [1, None, []]),
            ({"type": "boolean"}, [True], [1, 0, "true"]),
            ({"type": ["string", "null"]}, ["x", None], [1, False]),
            ({"type": "array"}, [[]], [{}, "[]"]),
            ({"type": "object"}, [{}], [[], None]),
            ({"enum": ["a", 1, None]}, ["a", 1, 1.0, None], ["b", True, False, 0]),
            ({"const": 1}, [1, 1.0], [True, 2, "1"]),
            ({"const": {"a": [1, True]}}, [{"a": [1, True]}], [{"a": [1, 1]}, {"a": [1]}, {}]),
            ({"minimum": 1, "maximum": 3}, [1, 3, 2.5, "9", None], [0, 3.01]),
            ({"minLength": 1, "maxLength": 2}, ["a", "\u00e9\u00e9", 12345], ["", "abc"]),
            ({"pattern": "^a+$"}, ["a", "aa", 7], ["", "b", "ab", "a\n"]),
            ({"pattern": "b"}, ["abc"], ["ac"]),
            ({"minItems": 1, "maxItems": 2}, [[1], [1, 2], "abc"], [[], [1, 2, 3]]),
            ({"uniqueItems": True}, [[1, 2], [1, True], []], [[1, 1.0], [{"a": 1}, {"a": 1}]]),
            ({"items": {"type": "string"}}, [[], ["a"], "x"], [[1], ["a", None]]),
            ({"required": ["a"]}, [{"a": None}, "x"], [{}, {"b": 1}]),
            ({"dependentRequired": {"a": ["b"]}}, [{}, {"b": 1}, {"a": 1, "b": 1}], [{"a": 1}]),
            ({"properties": {"a": {"type": "string"}}}, [{}, {"a": "x"}, {"b": 1}, 7], [{"a": 1}]),
            ({"properties": {"a": False}}, [{}, {"b": 1}], [{"a": 1}]),
            ({"properties": {"a": True}, "additionalProperties": False}, [{}, {"a": 1}], [{"b": 1}, {"a": 1, "b": 1}]),
            ({"additionalProperties": {"type": "integer"}}, [{}, {"a": 1}], [{"a": "x"}]),
            ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1, 2], [0, 3]),
            ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["x", 7], [1]),
            ({"oneOf": [{"type": "string"}, {"maxLength": 2}]}, [1, "abc"], ["ab"]),
            ({"$ref": "#/d/text"}, ["x"], [1]),
            ({"$ref": "#/d/text", "maxLength": 1}, ["x"], ["xy", 1]),
            ({"$ref": "#/d/a~1b"}, [None], [1]),
            ({"$ref": "#/d/tree"}, [[], [[], [[]]]], [[1], [[[1]]]]),
            ({"description": "x", "default": 1, "x-limit": 3}, [1, "x"], []),
        ]
        document = {"d": {"text": {"type": "string"}, "a/b": {"type": "null"},
                          "tree": {"type": "array", "items": {"$ref": "#/d/tree"}}}}
        for of, good, bad in rows:
            with self.subTest(schema=of):
                schema.check(of, document)
                for value in good:
                    self.assertEqual(schema.problems(value, of, document), [], value)
                for value in bad:
                    self.assertNotEqual(schema.problems(value, of, document), [], value)

    def test_places(self):
        of = {"properties": {"a": {"items": {"properties": {"b": {"type": "string"}}}}}}
        self.assertEqual(schema.problems({"a": [{}, {"b": 1}]}, of, {}), ["$.a[1].b: 1 is not of type string"])

    def test_no_schema(self):
        """A keyword that is not checked, or mistyped, does not pass for a rule that holds."""
        for of in ({"maxProperties": 1}, {"properties": {"a": {"requried": []}}}, {"type": "text"}, {"items": []}, None,
                   {"anyOf": [{"minLenght": 1}]}, {"$ref": "#/nowhere"}, {"$ref": "other.json"}, {"pattern": "("}):
            with self.subTest(schema=of), self.assertRaises((ValueError, re.error)):
                schema.check(of, {})
        with self.assertRaises(ValueError):
            schema.problems(1, {"requried": []}, {})
        with self.assertRaises(ValueError):
            schema.problems(1, {"$ref": "#/a"}, {"a": {"$ref": "#/a"}})


if __name__ == "__main__":
    unittest.main()
