"""JSON as nobody should send it, by the kinds that the public corpora know, and what POST /rank owes to each.

A text stands alone as the body, and in each place of a good one. What is no JSON by RFC 8259, and what is JSON but no request,
is refused with 400 and a message that names the place, and the connection goes on; the judge is Python's reading of the same
bytes (tests/server/test_rank_request_json.c has jansson's). Queries that are none are at the end.
"""
import json
import re

# ---- texts that are no JSON ----

MALFORMED = {
    "a comma too many": [b'["a",]', b'["a",,]', b'["a",,"b"]', b'[,"a"]', b'[,]', b'["a"],', b'[1,]', b'[1,,]', b'{"a":1,}', b'{"a":1,,}',
                         b'{"a":1,,"b":2}', b'{,}', b'{,"a":1}', b',', b'[\n"a"\n,\n,\n]'],
    "a comma or a value missing": [b'[true 1]', b'["a" "b"]', b'[1 2]', b'[[]"a"]', b'[["a"]["b"]]', b'{"a":1 "b":2}', b'{"a":}', b'{"a":,"b":1}',
                                   b'{"a"}', b'{"a" "b"}', b'{"a":"b" null}', b'{"a":null null}', b'{:1}', b'{"a"::1}'],
    "another sign in its place": [b'["a":1]', b'["a";"b"]', b'["a"|"b"]', b'{"a","b"}', b'{"a"="b"}', b'{"a":"b";"c":"d"}', b'{["a":1}', b'["a"}',
                                  b'{"a":1]', b'{"a":1,"b":2,', b'["a"=1]', b'["a"/"b"]'],
    "not ended": [b'[', b'["a"', b'["a",', b'[\n1,\n2\n', b'[[1]', b'[{', b'[{"a":1', b'[{"a', b'["a', b'{', b'{"a', b'{"a"', b'{"a":', b'{"a":1',
                  b'{"a":1,', b'{"a":"', b'{"a":[', b'{"a":{"b":{}', b'[-', b'[1', b'[nul', b'[tru', b'[fals', b'[[[[', b'["a\\', b'{"a":"b\\u',
                  b'[""', b'[\n\n'],
    "ended twice": [b'[]]', b'["a"]]', b'{}}', b'{"a":1}}', b'[}', b'{]', b']', b'}', b'[][]', b'{}{}', b'[]{}', b'""""', b'["a"]"b"', b'1 2',
                    b'12 00', b'{"a":1}x', b'["a"]x', b'{"a":1}#', b'[1]#', b'{"a":1}:', b'true false', b'"a" "b"', b'{"a":1} "b"', b'nullnull'],
    "comments": [b'{"a":1}/**/', b'{"a":1}/*', b'{"a":1}//', b'{"a":1}/', b'/**/{}', b'[1/*a*/]', b'{"a"/**/:1}', b'[//\n1]', b'{}#a', b'--\n{}', b'<!-- -->{}'],
    "half words, other words": [b'[nul]', b'[tru]', b'[fals]', b'[True]', b'[FALSE]', b'[Null]', b'[nulll]', b'[truefalse]', b'[undefined]', b'[None]',
                                b'[nan]', b'[yes]', b'{"a":truth}', b'nul', b'tru', b'fals', b'True', b'NULL', b'a', b'a\xc3\xa5', b'\xc3\xa9', b'*',
                                b'[*]', b'[""*]', b'<null>', b'<.>', b'[<null>]', b'{\xf0\x9f\x87\xa8}', b'{a:1}', b'{null:1}', b'{true:false}'],
    "numbers": [b'[%s]' % n for n in (
        b'+1', b'++1', b'-', b'--1', b'- 1', b'-a', b'-1a', b'01', b'-01', b'00', b'-00', b'012', b'.1', b'-.1', b'.', b'1.', b'-1.', b'-1..5', b'1.a',
        b'1..2', b'0.1.2', b'1.e1', b'1.e-1', b'1.e+1', b'.1e-3', b'0e', b'0E', b'0e+', b'0E+', b'0e-', b'1e', b'1E', b'1e+', b'1e-', b'1.0e', b'1.0e+',
        b'1.0e-', b'1e1e1', b'1eE1', b'1ea', b'1e+-1', b'1e1.5', b'9.e+', b'1_000', b'1 000', b'1,000.5.1', b'0x1', b'0xAB', b'0X1', b'0b1', b'0o7',
        b'1+2', b'1/2', b'1-', b'1x', b'123abc', b'1.5f', b'2L', b'Inf', b'-Inf', b'+Inf', b'Infinity', b'-Infinity', b'NaN', b'-NaN', b'nan', b'1e\xe5',
        b'1\xe5', b'123\xff', b'\xef\xbc\x91', b'\xd9\xa1', b'1\xc2\xa0', b'$1', b'#1', b'1%', b'(1)')] + [b'-', b'+1', b'01', b'1.', b'2@', b'1e', b'00',
                                                                                                      b'1 1', b'{1:1}', b'{9999999999E999:1}'],
    "quotes": [b"['a']", b'[`a`]', b"'a'", b'{\'a\':1}', b"{'a':'b'}", b'["a]', b'[a"]', b'["a" b"]', b'"', b'"a', b'a"', b'["\xe2\x80\x9ca\xe2\x80\x9d"',
               b'[\xe2\x80\x9ca\xe2\x80\x9d]', b'["a\'', b'{"a: 1}', b'{a":1}', b'[\\n]', b'[\\u0061]', b'\\"a\\"', b'[\\u000A""]', b'"a"x', b'["a"\\]'],
    "escapes": [b'["%s"]' % s for s in (
        b'\\x00', b'\\x', b'\\a', b'\\0', b'\\v', b"\\'", b'\\ ', b'\\\t', b'\\\n', b'\\\xf0\x9f\x8c\x80', b'\\\xe5', b'\\u', b'\\u1', b'\\u12', b'\\u123', b'\\u00A',
        b'\\u00g0', b'\\u 041', b'\\u+041', b'\\u-041', b'\\uqqqq', b'\\U0041', b'\\u00\xe5', b'\\u{41}', b'\\ud83d\\u', b'\\ud83d\\u1', b'\\ud83d\\u1x',
        b'\\ud83d\\', b'\\\\\\x', b'\\%41', b'\\&', b'\\u0041\\')] + [b'["\\"]', b'["\\\\\\"]', b'["\\', b'["\\u00', b'["\\ud83d\\"]', b'\\', b'{"\\x":1}', b'{"\\u1":1}'],
    "halves of a pair": [b'["%s"]' % s for s in (
        b'\\ud800', b'\\udbff', b'\\udc00', b'\\udfff', b'\\uD800\\uD800', b'\\udc00\\ud800', b'\\ud834a', b'\\ud834\\n', b'\\ud834\\u0041', b'\\uD834\\u00e9', b'a\\udd1e',
        b'\\udd1e\\ud834', b'\\ud800\\udbff', b'\\ud83d \\ude00')] + [b'{"\\ud800":1}', b'{"a\\udc00":1}'],
    "control characters": [b'["a%cb"]' % c for c in range(32)] + [b'["\n"]', b'["\t"]', b'["\x00"]', b'{"a\n":1}', b'{"\x00":1}', b'["a\r\n"]'],
    "not UTF-8": [b'["%s"]' % s for s in (
        b'\xff', b'\xfe', b'\x80', b'\xbf', b'\xc3', b'\xe6\x96', b'\xf0\x9f\x98', b'\xe9', b'\xc0\x80', b'\xc0\xaf', b'\xc1\xbf', b'\xe0\x80\xaf', b'\xe0\x9f\xbf',
        b'\xf0\x80\x80\xaf', b'\xf8\x88\x80\x80\x80', b'\xfc\x83\xbf\xbf\xbf\xbf', b'\xfc\x80\x80\x80\x80\x80', b'\xed\xa0\x80', b'\xed\xbf\xbf', b'\xf4\x90\x80\x80', b'\xf7\xbf\xbf\xbf',
        b'\xc3(', b'\xe6(\x96', b'a\xe5', b'\xe6\x97\xa5\xd1\x88\xfa')] + [b'[\xff]', b'[\x80]', b'\xe5', b'{"\xb9":"0",}', b'{"\xff":1}', b'[a\xe5]', b'\xff\xfe', b'["a\xff'],
    "other encodings, and marks": ['["é"]'.encode("utf-16"), '["a"]'.encode("utf-16-le"), '["a"]'.encode("utf-16-be"), '["a"]'.encode("utf-32"), b'\xef\xbb\xbf{}',
                                   b'\xef\xbb\xbf["a"]', b'\xef\xbb\xbf', b'\xef\xbb', b'\xef\xbb{}', b'{}\xef\xbb\xbf', b'["a"]\x00', b'\x00["a"]', b'[\x00"a"]', b'\x00', b'{\x00}'],
    "space that is none": [b'[\x0b"a"]', b'[\x0c"a"]', b'["a"\x0c]', b'[\xc2\xa0"a"]', b'[\xe2\x81\xa0]', b'\xe2\x81\xa0', b'[\xe2\x80\x83"a"]', b'["a"]\xe3\x80\x80', b'[\x08]', b'{\x0b}',
                           b'\x0c{}', b'[\xe2\x80\xa8]', b'\x1a', b'{}\x1a', b'["a"\x85]'],
    "nothing": [b'', b' ', b'\n', b'\t\r\n '],
    "depth": [b'[' * 100000, b'{"a":' * 20000, b'[{"":' * 20000, b'[' * 50000 + b'"a"' + b']' * 49999, b'{"a":' * 3000 + b'1' + b'}' * 2999],
}

# ---- texts that are JSON, and hardly ever what is asked for ----

WELL_FORMED = {
    "arrays": [b'[]', b'[ ]', b'[""]', b'["a"]', b'[ "a" , "b" ]', b'["a"]\n', b' ["a"]', b'[null]', b'[1,null,null,2]', b'[false]', b'[[],["a"]]', b'[1\n]', b'["a",1,{"b":[]}]'],
    "objects": [b'{}', b'{ }', b'{"a":1}', b'{"a":{"b":{"c":[]}}}', b'{"":0}', b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'{"a\\u0000b":1}', b'{"user":"U1"}', b'{\n"a":\n1\n}',
                b'{"x":"' + b'x' * 5000 + b'"}', b'{"a":-1.0e+28,"b":1.0e+28}', b'{"candidates":[]}', b'{"__proto__":{}}'],
    "numbers": [b'0', b'-0', b'1', b'-1', b'123', b'10', b'5', b'1.0', b'-0.0', b'0.5', b'1e2', b'1E2', b'1e+2', b'1E-2', b'0e1', b'0e+1', b'1.5e3', b'-1.5E-3', b'123.456789', b'1e-400',
                b'-1e-99999', b'1e400', b'-1e400', b'123e100000', b'0.4e00669999999999999999999999999999999', b'9223372036854775807', b'9223372036854775808', b'-9223372036854775809',
                b'18446744073709551616', b'100000000000000000000000000000', b'-237462374673276894279832749832423479823246327846', b'1' + b'0' * 1000, b'0.' + b'0' * 1000 + b'1',
                b'-0.000000000000000000000000000000000000000000000000000000000000000000000000000001'],
    "words": [b'true', b'false', b'null', b' true ', b'[true]'],
    "strings": [b'"a"', b'""', b'" "', b'"U1"', b'"N1"', b'"\\u0055\\u0031"', b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', b'"\\u0000"', b'"\\u001f"', b'"\\u007f"', b'"\x7f"', b'"\\u00e9"', b'"\xc3\xa9"',
                b'"\xe6\x96\xb0"', b'"\\u65b0\\u805e"', b'"\xf0\x9f\x98\x80"', b'"\\ud83d\\ude00"', b'"\\uD834\\uDD1E"', b'"\\udbff\\udfff"', b'"\\ud800\\udc00"', b'"\xf4\x8f\xbf\xbf"',
                b'"\xef\xbf\xbf"', b'"\\uffff"', b'"\\ufdd0"', b'"\\ufffe"', b'"\xf0\x9b\xbf\xbf"', b'"\xe2\x80\xa8"', b'"\\u2028\\u2029"', b'"\\u00a0"', b'"\\u200b"', b'"\\u2064"', b'"\xef\xbb\xbf"',
                b'"\\u0022"', b'"\\u005c"', b'"\\\\u0000"', b'"\\\\a"', b'"a/*b*/c//d#e"', b'"[]{}:,"', b'"\\/"', b'"new\\u000aline"', b'"a\\u0000"', b'"' + b'x' * 512 + b'"', b'"' + b'x' * 513 + b'"',
                b'"' + b'\\u0078' * 512 + b'"', b'"' + b'\xc3\xbc' * 256 + b'"', b'"' + b'\xc3\xbc' * 257 + b'"'],
    "depth": [b'[' * 400 + b']' * 400, b'[' * 40000 + b']' * 40000, b'{"a":' * 400 + b'1' + b'}' * 400],
}

# ---- places ----

PLACES = {
    "alone": b'%s', "user": b'{"user":%s,"candidates":["N1","N2"]}', "a user": b'{"users":["U1",%s],"candidates":["N1"]}', "users": b'{"users":%s,"top_k":1}',
    "a candidate": b'{"user":"U1","candidates":["N1",%s,"N2"]}', "candidates": b'{"candidates":%s,"user":"U1"}', "top_k": b'{"user":"U1","top_k":%s}',
    "explain": b'{"user":"U1","candidates":["N1"],"explain":%s}', "titles": b'{"titles":%s,"user":"U1","candidates":["N1"]}', "category": b'{"user":"U1","top_k":1,"category":%s}', "exclude": b'{"user":"U1","top_k":2,"exclude":%s}',
    "a key": b'{"user":"U1",%s:1,"candidates":["N1"]}', "an unknown member": b'{"user":"U1","candidates":["N1"],"more":%s}', "nested": b'{"more":[{"a":[%s]}],"user":"U1","candidates":["N1"]}',
    "behind": b'{"user":"U1","candidates":["N1"]}%s', "before": b'%s{"user":"U1","candidates":["N1"]}', "inside": b'{"user":"U1"%s,"candidates":["N1"]}',
}


def bodies():
    """Each text in each place: kind, place, body."""
    for table in (MALFORMED, WELL_FORMED):
        for kind, texts in table.items():
            for text in texts:
                for place, body in PLACES.items():
                    yield kind, place, body.replace(b"%s", text)


# ---- the judge ----

def no_number(word):
    raise ValueError(word)


def once(pairs):
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def is_text(value, space):
    """Of 1 to 512 bytes without control characters, without spaces unless they are allowed; a half of a pair has no bytes."""
    return isinstance(value, str) and 1 <= len(value.encode()) <= 512 and not re.search("[\x00-\x1f\x7f]" if space else "[\x00- \x7f]", value)


def is_ids(value, most):
    return isinstance(value, list) and len(value) <= most and all(is_text(item, False) for item in value)


MEMBERS = {
    "user": lambda value: is_text(value, False), "users": lambda value: is_ids(value, 64) and len(value) > 0, "candidates": lambda value: is_ids(value, 10000),
    "exclude": lambda value: is_ids(value, 10000), "category": lambda value: is_text(value, True), "explain": lambda value: isinstance(value, bool), "titles": lambda value: isinstance(value, bool),
    "top_k": lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63,
}


def is_request(body):
    """Is it a request at all? (One for a category that nobody knows is.)"""
    try:
        request = json.loads(body.decode(), parse_constant=no_number, object_pairs_hook=once)
        if not isinstance(request, dict) or not all(name in MEMBERS and MEMBERS[name](value) for name, value in request.items()):
            return False
    except (ValueError, RecursionError):
        return False
    if ("user" in request) == ("users" in request):
        return False
    if "candidates" in request:
        return not request.keys() & {"category", "exclude"}
    return 1 <= request.get("top_k", 0) <= 10000


NAMES = r"(?:the body|users?|candidates|category|exclude|top_k|explain|titles)"
TOLD = re.compile(rf"(?s)the body is not valid JSON: line (\d+), column (\d+): .+|the body is empty.*|{NAMES}(?:\[\d+\])?:? .+|\".*\" is not a key of this request")


def wrong(body, answer):
    """What is wrong with an answer (status, headers, body), or None."""
    if answer is None:
        return "no answer"
    status, told = answer[0], json.loads(answer[2])
    if is_request(body):
        return None if status in (200, 404) else f"{status} for a request: {told}"
    if status != 400 or told["error"]["code"] != "bad_request":
        return f"{status} for what is no request: {told}"
    place = TOLD.fullmatch(told["error"]["message"])
    if not place:
        return f"no place is named: {told}"
    if place[1] and not 1 <= int(place[1]) <= body.count(b"\n") + 1:
        return f"there is no such line: {told}"
    if place[2] and not 1 <= int(place[2]) <= len(body.split(b"\n")[int(place[1]) - 1]) + 1:
        return f"there is no such column: {told}"
    return None


# ---- queries of GET /rank that are none ----

ESCAPES = [b"%", b"%4", b"%zz", b"%4g", b"%%", b"%u0041", b"%+41", b"%00", b"%0a", b"%20", b"%7f", b"%ff", b"%c3", b"%c3%28", b"%c0%80", b"%e0%80%af", b"%ed%a0%80", b"%f4%90%80%80",
           b"%f8%88%80%80%80", b"%80", b"a%", b"a%c", b"%25%", b"x" * 513, b"%c3%bc" * 257]
QUERIES = [b"user=%s&candidates=N1" % text for text in ESCAPES] + [b"user=U1&candidates=N1,%s,N2" % text for text in ESCAPES] + [
    b"user=U1&top_k=1&exclude=%s" % text for text in ESCAPES] + [b"user=U1&top_k=1&category=%s" % text for text in ESCAPES if text != b"%20"] + [
    b"user=U1&top_k=%s" % text for text in (b"", b"0", b"-1", b"+1", b"1.0", b"1e1", b"0x1", b"01x", b"%31", b"1%00", b"99999999999999999999", b"10001", b"NaN", b"1,2")] + [
    b"user=U1&candidates=N1&explain=%s" % text for text in (b"", b"1", b"TRUE", b"tru", b"%74rue", b"true%00", b"null")] + [
    b"", b"user=U1", b"candidates=N1", b"us%65r=U1&candidates=N1", b"user=U1&candidates=N1&x=1", b"user=U1&candidates=N1&&", b"=U1&candidates=N1", b"user=U1&user=U2&candidates=N1",
    b"user=U1&candidates=N1&candidates=N2", b"user=&candidates=N1", b"user&candidates=N1", b"user=U1&candidates=", b"user=U1&candidates=N1,", b"user=U1&candidates=,N1",
    b"user=U1&candidates=N1,,N2", b"user=U1;candidates=N1", b"USER=U1&candidates=N1", b"users=U1&candidates=N1", b"user[]=U1&candidates=N1", b"user=U1&candidates[]=N1",
    b"user=U1&candidates=N1&category=a", b"user=U1&candidates=N1&exclude=N2", b"{\"user\":\"U1\"}", b"user=U1&candidates=" + b"N," * 2000]


def wrong_query(answer):
    if answer is None:
        return "no answer"
    status, told = answer[0], json.loads(answer[2])
    named = re.fullmatch(rf"(?s){NAMES}(?:\[\d+\])?:? .+|\".*\" is not a parameter of this request", told["error"]["message"]) if status == 400 else None
    return None if named else f"{status}: {told}"


# ---- asking ----

def damaged(rng):
    """Any of the bodies, half of them good ones, a little of it cut out, replaced, repeated or taken from another."""
    everything = [body for _, _, body in bodies() if len(body) < 2000]
    good = [body for body in everything if is_request(body)]
    while True:
        body = bytearray(rng.choice(rng.choice((everything, good))))
        for _ in range(rng.randint(1, 2)):
            at = rng.randint(0, len(body))
            end = rng.randint(at, min(len(body), at + 12))
            body[at:end] = rng.choice((b"", bytes([rng.choice(b'"\\{}[]:,0123456789eE+-.tfnu \n\x00\x1f\x7f\x80\xc3\xed\xff')]),
                                       body[at:end] * 2, rng.choice(everything)[at:end]))
        yield bytes(body)


def play(raw, post, texts):
    """Each body on one connection: how many answers of each status, and what is wrong with any."""
    statuses, problems = {}, []
    for body in texts:
        raw.send(post(body))
        answer = raw.receive()
        problem = wrong(body, answer)
        if problem:
            problems.append(f"{body[:100]}: {problem[:300]}")
        if answer is None or answer[1].get("connection") == "close":
            problems.append(f"{body[:100]}: the connection is closed")
            break
        statuses[answer[0]] = statuses.get(answer[0], 0) + 1
    return statuses, problems


def play_queries(raw):
    problems = []
    for query in QUERIES:
        raw.send(b"GET /rank?" + query + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        problem = wrong_query(raw.receive())
        if problem:
            problems.append(f"{query[:100]}: {problem[:300]}")
    return problems
