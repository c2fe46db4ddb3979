"""JSON Schema (2020-12), as much of it as server/openapi.json uses. A keyword that is not known here is an error and never
passed over: a rule that nobody checks is none.

    problems(value, schema, document)     a list of sentences, empty where the value is valid
    check(schema, document)               raises ValueError where the schema is none of ours
"""
import re

# Say something to a reader, or to a tool, and nothing of what is valid. "x-" too.
ANNOTATIONS = {"description", "title", "summary", "default", "examples", "deprecated"}

TYPES = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: is_number(v) and v == int(v),
    "number": lambda v: is_number(v),
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same(a, b):
    """JSON's equality: 1 is 1.0, and true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def resolve(node, document):
    """What a $ref, or a chain of them, stands for."""
    seen = set()
    while isinstance(node, dict) and "$ref" in node:
        name = node["$ref"]
        if not name.startswith("#/") or name in seen:
            raise ValueError(f"{name} is no reference that can be followed")
        seen.add(name)
        node = document
        for part in name[2:].split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, dict) or part not in node:
                raise ValueError(f"{name} leads nowhere")
            node = node[part]
    return node


def matches(pattern, text):
    """ECMA's $ is the end, Python's may stand before a last newline."""
    return re.search(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern, text) is not None


def is_unique(items):
    return not any(same(a, b) for i, a in enumerate(items) for b in items[:i])


# Keyword: the type of value that it speaks of, and whether a value of that type obeys.
SIMPLE = {
    "minimum": ("number", lambda v, limit: v >= limit),
    "maximum": ("number", lambda v, limit: v <= limit),
    "minLength": ("string", lambda v, limit: len(v) >= limit),
    "maxLength": ("string", lambda v, limit: len(v) <= limit),
    "pattern": ("string", lambda v, pattern: matches(pattern, v)),
    "minItems": ("array", lambda v, limit: len(v) >= limit),
    "maxItems": ("array", lambda v, limit: len(v) <= limit),
    "uniqueItems": ("array", lambda v, wanted: not wanted or is_unique(v)),
    "required": ("object", lambda v, names: all(name in v for name in names)),
    "dependentRequired": ("object", lambda v, rules: all(name in v for key in rules if key in v for name in rules[key])),
}
NESTED = {"properties", "additionalProperties", "items", "allOf", "anyOf", "oneOf"}
KNOWN = {"$ref", "type", "enum", "const", *SIMPLE, *NESTED}


def keywords(schema):
    found = {k for k in schema if k not in ANNOTATIONS and not k.startswith("x-")}
    if found - KNOWN:
        raise ValueError(f"unknown keywords: {sorted(found - KNOWN)}")
    return found


def check(schema, document):
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueError(f"{schema!r} is no schema")
    keywords(schema)
    if "$ref" in schema:
        resolve(schema, document)
    types = schema.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if name not in TYPES:
            raise ValueError(f"{name!r} is no type")
    if "pattern" in schema:
        re.compile(schema["pattern"])
    children = [*schema.get("properties", {}).values(), *(schema[k] for k in ("items", "additionalProperties") if k in schema)]
    for key in ("allOf", "anyOf", "oneOf"):
        children += schema.get(key, [])
    for child in children:
        check(child, document)


def of_branches(key, value, schema, document, at):
    found = [problems(value, branch, document, at) for branch in schema[key]]
    fitting = sum(not f for f in found)
    if key == "allOf":
        return [p for f in found for p in f]
    if fitting == 1 or key == "anyOf" and fitting:
        return []
    # Of branches none of which fits the one that comes nearest says most.
    nearest = min(found, key=len) if not fitting else []
    return [f"{at}: {fitting} of the {len(found)} branches of {key} fit", *nearest]


def of_members(value, schema, document, at):
    found, known = [], schema.get("properties", {})
    for name, member in value.items():
        if name in known:
            found += problems(member, known[name], document, f"{at}.{name}")
        elif "additionalProperties" in schema:
            found += problems(member, schema["additionalProperties"], document, f"{at}.{name}")
    return found


def problems(value, schema, document, at="$"):
    if schema is True:
        return []
    if schema is False:
        return [f"{at}: may not be there"]
    found = []
    for key in sorted(keywords(schema)):
        rule = schema[key]
        if key == "$ref":
            found += problems(value, resolve({"$ref": rule}, document), document, at)
        elif key == "type":
            if not any(TYPES[name](value) for name in (rule if isinstance(rule, list) else [rule])):
                found.append(f"{at}: {value!r:.60} is not of type {rule}")
        elif key == "enum":
            if not any(same(value, choice) for choice in rule):
                found.append(f"{at}: {value!r:.60} is none of {rule}")
        elif key == "const":
            if not same(value, rule):
                found.append(f"{at}: {value!r:.60} is not {rule!r}")
        elif key in SIMPLE:
            kind, obeys = SIMPLE[key]
            if TYPES[kind](value) and not obeys(value, rule):
                found.append(f"{at}: {value!r:.60} breaks {key} {rule!r:.60}")
        elif key in ("allOf", "anyOf", "oneOf"):
            found += of_branches(key, value, schema, document, at)
        elif key == "items" and isinstance(value, list):
            for i, item in enumerate(value):
                found += problems(item, rule, document, f"{at}[{i}]")
    if isinstance(value, dict):
        found += of_members(value, schema, document, at)
    return found
