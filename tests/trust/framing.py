"""Requests whose end two readers could see in different places, and what becomes of them.

Each case is one request and what an attacker hides in or behind it: HIDDEN, a second request. A case is

    refused   an error, or no answer, and the connection is closed
    one       answered, once: what was hidden was body, or nothing was
    waits     no answer: the reader waits for more, until its deadline
    two       answered twice: what was hidden was taken for a request

and `two` is what never may be. The third column is what embsumd does when it is asked directly.
"""
import re
import socket
import time

HIDDEN = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b'{"user":"U1","candidates":["N1","N2"]}'
POST = b"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GET = b"GET /livez HTTP/1.1\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def lengths(*fields, body=BODY + HIDDEN):
    """A POST with these fields; {} in them is the body's length without what is hidden, [] with it."""
    head = b"\r\n".join(fields).replace(b"{}", b"%d" % (len(body) - len(HIDDEN))).replace(b"[]", b"%d" % len(body))
    return POST + head + b"\r\n\r\n" + body


def both(encoding, length=b"Content-Length: []"):
    """A field that may say that chunks come, beside a length: chunks end before what is hidden, the length behind it."""
    return lengths(length, encoding, body=chunk(BODY) + LAST + HIDDEN)


def get(*fields, line=GET):
    return line + b"\r\n".join((b"Host: x", *fields)) + b"\r\n\r\n"


CASES = [
    # ---- two lengths ----
    ("length, then chunked", both(b"Transfer-Encoding: chunked"), "refused"),
    ("chunked, then length", lengths(b"Transfer-Encoding: chunked", b"Content-Length: []", body=chunk(BODY) + LAST + HIDDEN), "refused"),
    ("chunked with a length of 0", lengths(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=chunk(BODY) + LAST + HIDDEN), "refused"),
    ("two lengths", lengths(b"Content-Length: {}", b"Content-Length: []"), "refused"),
    ("two lengths, the longer first", lengths(b"Content-Length: []", b"Content-Length: {}"), "refused"),
    ("one length twice", lengths(b"Content-Length: {}", b"Content-Length: {}"), "refused"),
    ("a list of one length", lengths(b"Content-Length: {}, {}"), "refused"),
    ("a list of two lengths", lengths(b"Content-Length: {}, []"), "refused"),
    # ---- a length that is none ----
    ("length with plus", lengths(b"Content-Length: +{}"), "refused"),
    ("length with minus", lengths(b"Content-Length: -{}"), "refused"),
    ("length in hexadecimal", lengths(b"Content-Length: 0x26"), "refused"),
    ("length with an exponent", lengths(b"Content-Length: 3e1"), "refused"),
    ("length with a fraction", lengths(b"Content-Length: {}.0"), "refused"),
    ("length with a space inside", lengths(b"Content-Length: 3 8"), "refused"),
    ("length with a word behind", lengths(b"Content-Length: {} bytes"), "refused"),
    ("length with a semicolon", lengths(b"Content-Length: {};a"), "refused"),
    ("empty length", lengths(b"Content-Length:"), "refused"),
    ("length of 2^64 and some", lengths(b"Content-Length: 18446744073709551654"), "refused"),
    ("length of 2^32 and some more than is allowed", lengths(b"Content-Length: 4294967334"), "refused"),
    ("length with a vertical tab", lengths(b"Content-Length: {}\x0b"), "refused"),
    ("length with NUL", lengths(b"Content-Length: {}\x00"), "refused"),
    # ---- an encoding that is none ----
    ("xchunked", both(b"Transfer-Encoding: xchunked"), "refused"),
    ("xchunked without a length", POST + b"Transfer-Encoding: xchunked\r\n\r\n" + chunk(BODY) + LAST + HIDDEN, "refused"),
    ("chunked in quotes", both(b'Transfer-Encoding: "chunked"'), "refused"),
    ("chunked with a parameter", both(b"Transfer-Encoding: chunked;a=b"), "refused"),
    ("identity", both(b"Transfer-Encoding: identity"), "refused"),
    ("chunked, identity", both(b"Transfer-Encoding: chunked, identity"), "refused"),
    ("gzip, chunked", both(b"Transfer-Encoding: gzip, chunked"), "refused"),
    ("chunked twice in a list", both(b"Transfer-Encoding: chunked, chunked"), "refused"),
    ("chunked in two fields", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(BODY) + LAST + HIDDEN, "refused"),
    ("chunked, then identity in a second field", both(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), "refused"),
    ("chunked with a vertical tab", both(b"Transfer-Encoding: \x0bchunked"), "refused"),
    ("chunked with NUL", both(b"Transfer-Encoding: chunked\x00"), "refused"),
    ("empty encoding", both(b"Transfer-Encoding:"), "refused"),
    ("chunked in HTTP/1.0", CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + chunk(BODY) + LAST + HIDDEN, "refused"),
    # ---- a field's name that is none ----
    ("space before the colon of the encoding", both(b"Transfer-Encoding : chunked"), "refused"),
    ("tab before the colon of the length", lengths(b"Content-Length: {}", b"Content-Length\t: []"), "refused"),
    ("encoding in a folded line", both(b"Transfer-Encoding:\r\n chunked"), "refused"),
    ("encoding behind a folded line", both(b"X-A: b\r\n Transfer-Encoding: chunked"), "refused"),
    ("encoding as the first, folded line", GET + b" Transfer-Encoding: chunked\r\nHost: x\r\n\r\n" + LAST, "refused"),
    ("encoding behind a bare CR", both(b"X-A: b\rTransfer-Encoding: chunked"), "refused"),
    ("NUL in the name of the encoding", both(b"Transfer-Encoding\x00: chunked"), "refused"),
    ("control character before the name of the encoding", both(b"\x01Transfer-Encoding: chunked"), "refused"),
    ("a name of another alphabet", both("Transfer-Encod\u0131ng: chunked".encode()), "refused"),
    ("empty name", get(b": chunked"), "refused"),
    ("no colon", get(b"Transfer-Encoding chunked"), "refused"),
    # ---- chunks ----
    ("chunk size with 0x", CHUNKED + b"0x26\r\n" + BODY + b"\r\n" + LAST, "refused"),
    ("chunk size with plus", CHUNKED + b"+26\r\n" + BODY + b"\r\n" + LAST, "refused"),
    ("chunk size with minus", CHUNKED + b"-1\r\n" + BODY + b"\r\n" + LAST, "refused"),
    ("chunk size behind a space", CHUNKED + b" 26\r\n" + BODY + b"\r\n" + LAST, "refused"),
    ("chunk size of 2^64 and some", CHUNKED + b"10000000000000026\r\n" + BODY + b"\r\n" + LAST, "refused"),
    ("no chunk size", CHUNKED + b"\r\n" + BODY + b"\r\n" + LAST, "refused"),
    ("chunk longer than its size", CHUNKED + b"26\r\n" + BODY + b"XX" + LAST + HIDDEN, "refused"),
    ("chunk without an end of line", CHUNKED + b"26\r\n" + BODY + LAST + HIDDEN, "refused"),
    ("NUL in a chunk size", CHUNKED + b"26\x00\r\n" + BODY + b"\r\n" + LAST, "refused"),
    ("length as a trailer", CHUNKED + chunk(BODY) + b"0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN), "one"),
    ("bare LF behind a chunk size", CHUNKED + b"26\n" + BODY + b"\r\n" + LAST, "one"),
    ("bare LF in a chunk's extension", CHUNKED + b"26;a\nb\r\n" + BODY + b"\r\n" + LAST, "refused"),
    # ---- the host ----
    ("no host", GET + b"\r\n", "refused"),
    ("two hosts", get(b"Host: y"), "refused"),
    ("a list of hosts", GET + b"Host: x, y\r\n\r\n", "refused"),
    ("host with a path", GET + b"Host: x/livez\r\n\r\n", "refused"),
    ("host with a user", GET + b"Host: a@x\r\n\r\n", "refused"),
    ("empty host", GET + b"Host:\r\n\r\n", "refused"),
    # ---- the first line ----
    ("HTTP/2.0", get(line=b"GET /livez HTTP/2.0\r\n"), "refused"),
    ("HTTP/1.10", get(line=b"GET /livez HTTP/1.10\r\n"), "refused"),
    ("http/1.1", get(line=b"GET /livez http/1.1\r\n"), "refused"),
    ("no version", get(line=b"GET /livez\r\n"), "refused"),
    ("space in the target", get(line=b"GET /li vez HTTP/1.1\r\n"), "refused"),
    ("control character in the target", get(line=b"GET /livez\x01 HTTP/1.1\r\n"), "refused"),
    ("NUL in the method", get(line=b"GET\x00POST /livez HTTP/1.1\r\n"), "refused"),
    ("NUL behind the method", get(line=b"GET\x00 /livez HTTP/1.1\r\n"), "refused"),
    ("NUL in the target", get(line=b"GET /livez\x00a HTTP/1.1\r\n"), "refused"),
    # ---- lines ----
    ("lines that end with LF", get().replace(b"\r\n", b"\n"), "refused"),
    ("one line that ends with LF", lengths(b"X-A: b\nContent-Length: []"), "refused"),
    ("NUL at the end of another field", lengths(b"Content-Length: []", b"X-A: b\x00"), "refused"),
    ("NUL and a byte before an empty line of LF", (get(b"X-A: b")[:-4] + b"\x00c\n\n"), "refused"),
    ("blanks behind the length", lengths(b"Content-Length: [] \t"), "refused"),
    # ---- not to be seen: the library writes zeros where lines end ----
    ("NUL and LF for CR and LF", get(b"X-A: b\x00\nX-C: d"), "one"),
    # ---- rare, and right ----
    ("empty lines first", b"\r\n\r\n" + get(), "one"),
    ("underscore in the name of the length", lengths(b"Content-Length: []", b"Content_Length: {}"), "one"),
    ("zeros before the length", lengths(b"Content-Length: 000[]"), "one"),
    ("blanks before the length", lengths(b"Content-Length:  \t[]"), "one"),
    ("no blank before the length", lengths(b"Content-Length:[]"), "one"),
    ("a GET with a body", get(b"Content-Length: %d" % len(HIDDEN)) + HIDDEN, "one"),
    ("Connection that names the length", lengths(b"Content-Length: []", b"Connection: Content-Length"), "one"),
]


def ask(address, data, patience=1.0):
    """What comes back, and whether the connection was closed."""
    received, end = b"", time.monotonic() + 10
    with socket.create_connection(address, 10) as connection:
        try:
            connection.sendall(data)
            connection.settimeout(patience)
            while time.monotonic() < end:
                piece = connection.recv(65536)
                if not piece:
                    return received, True
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            return received, True
        except socket.timeout:
            return received, False
    return received, False


def ordinary(rng):
    """A request of GET /livez that nothing is wrong with, whatever its fields look like."""
    fields = [b"Host:%sx" % rng.choice((b"", b" ", b" \t"))]
    for number in range(rng.choice((0, 1, 5, 30))):
        value = bytes(rng.choice(b"abcXYZ019 \t!,;=\"()\xe9") for _ in range(rng.choice((0, 1, 10, 300)))).strip()
        fields.append(b"X-%d:%s%s" % (number, rng.choice((b"", b" ", b"   ", b"\t")), value))
    rng.shuffle(fields)
    return GET.replace(b"livez", b"livez?" + b"a" * rng.choice((0, 1, 500))) + b"\r\n".join(fields) + b"\r\n\r\n"


def answers(received):
    """The statuses in what was received. libmicrohttpd 0.9.75 sends the head of a refusal of its own twice: once here."""
    found = []
    while received.startswith(b"HTTP/1."):
        head, _, received = received.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 100:
            continue
        found.append(status)
        length = re.search(rb"(?mi)^content-length: *(\d+)", head)
        if received.startswith(b"HTTP/1.") and received.partition(b"\r\n\r\n")[0].split()[1] == head.split()[1] and status >= 400:
            head, _, received = received.partition(b"\r\n\r\n")
            length = re.search(rb"(?mi)^content-length: *(\d+)", head) or length
        received = received[int(length.group(1)) if length else len(received):]
    return found


def outcome(received, closed):
    found = answers(received)
    if len(found) > 1:
        return "two"
    if not found:
        return "refused" if closed else "waits"
    if found[0] < 400:
        return "one"
    return "refused" if closed else "one"
