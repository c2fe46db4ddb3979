"""An OpenAI-compatible endpoint that misbehaves as it is told: what `embsum summarize` is tested against.

    /usr/bin/python3 tests/batch/llm_stub.py DIR

listens on 127.0.0.1 at a port that the kernel chooses, written to DIR/port. DIR/plan says how it behaves: a line `USER BEHAVIOUR
BEHAVIOUR ...` gives what the first, second, ... request about a user gets (`*` stands for the users that have no line);
behind the last of them, and without a line, it is `ok`; `BEHAVIOUR...` stands for all that follow. Another plan begins to count anew. Whom a request is about is read from
the words `marker-USER` in its prompt.

Where there is DIR/tls.pem, a key and a certificate, it speaks HTTPS. DIR/log gets a line a request when it arrives: seconds, user, behaviour, path, Authorization header. DIR/body.USER is the
request's body. Ends when DIR/port is removed.
"""

import email.utils
import http.server
import json
import os
import re
import ssl
import sys
import threading
import time

DIR = sys.argv[1]
LOCK = threading.Lock()


class Plan:
    """The behaviours of each user, and how many of them they have had."""

    written, wishes, asked, inside = None, {}, {}, 0

    def next(self, user):
        written = os.stat(f"{DIR}/plan").st_mtime_ns
        if written != self.written:
            with open(f"{DIR}/plan") as lines:
                self.wishes = {words[0]: words[1:] for words in (line.split() for line in lines) if words}
            self.written, self.asked = written, {}
        count = self.asked[user] = self.asked.get(user, 0) + 1
        wishes = self.wishes.get(user, self.wishes.get("*", []))
        if wishes and wishes[-1].endswith("...") and count >= len(wishes):
            return wishes[-1][:-3]
        return wishes[count - 1] if count <= len(wishes) else "ok"


PLAN = Plan()


def completion(content, finish="stop", **more):
    return {"id": "c", "object": "chat.completion", "model": "stub",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10}, **more}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = re.search(rb"marker-(\w+)", body)
        user = found.group(1).decode() if found else "?"
        key = self.headers.get("Authorization", "-")
        with LOCK:
            behaviour = PLAN.next(user)
            with open(f"{DIR}/log", "a") as log:
                log.write(f"{time.time():.3f}\t{user}\t{behaviour}\t{self.path}\t{key}\n")
            with open(f"{DIR}/body.{user}", "wb") as out:
                out.write(body)
        name, _, argument = behaviour.partition(":")
        getattr(self, "be_" + name)(user, argument)

    def send(self, status, body, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self):
        self.wfile.flush()
        self.close_connection = True

    # ---- as it should be ----

    def be_ok(self, user, _):
        self.send(200, completion(f"Summary of {user}."))

    def be_later(self, user, seconds):
        time.sleep(float(seconds))
        self.be_ok(user, "")

    def be_lines(self, user, _):
        self.send(200, completion(f"\n \tFirst \"line\" of {user}.\r\n\nSecond\u00a0\u00e9 \\ line.\x7f \n"))

    def be_length(self, user, _):
        self.send(200, completion(f"Cut summary of {user}", "length"))

    # ---- HTTP ----

    def be_429(self, _, wait):
        if wait == "date":
            when = email.utils.formatdate(time.time() + 3, usegmt=True)
            self.send(429, {"error": {"message": "slow down"}}, Retry_After=when)
        elif wait:
            self.send(429, {"error": {"message": "slow down"}}, Retry_After=wait)
        else:
            self.send(429, {"error": {"message": "slow down"}})

    def be_status(self, _, status):
        self.send(int(status), {"error": {"message": f"it is a {status}", "type": "stub"}})

    def be_503(self, _, wait):
        self.send(503, "busy", "text/plain", Retry_After=wait)

    def be_crowd(self, user, most):
        """Takes so many at a time, for a tenth of a second each; 429 for the rest."""
        with LOCK:
            room = PLAN.inside < int(most)
            PLAN.inside += room
        if not room:
            self.be_429(user, "")
            return
        time.sleep(0.1)
        with LOCK:
            PLAN.inside -= 1
        self.be_ok(user, "")

    def be_quota(self, *_):
        self.send(429, {"error": {"message": "no money left", "code": "insufficient_quota"}})

    def be_echo(self, _, status):
        """Says the key back, as a careless endpoint does, with control characters around it."""
        self.send(int(status), {"error": {"message": f"\x1b[31mwrong key:\n{self.headers.get('Authorization')}!"}})

    def be_redirect(self, user, to):
        self.send(307, "", Location=f"http://127.0.0.1:{to}/v1/chat/completions?{user}")

    def be_html(self, *_):
        self.send(200, "<html><body>Bad gateway</body></html>", "text/html")

    # ---- connections ----

    def be_drop(self, *_):
        self.hang_up()

    def be_half(self, user, _):
        """A response that promises more than comes."""
        data = json.dumps(completion(f"Half of {user}.")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) + 100))
        self.end_headers()
        self.wfile.write(data)
        self.hang_up()

    def be_slow(self, user, _):
        """Bytes keep coming, but the answer is not complete in time."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            pass
        self.hang_up()

    def be_garbage(self, *_):
        self.wfile.write(b"\x00\xff\x01 no HTTP\n\n")
        self.hang_up()

    # ---- JSON ----

    def be_torn(self, user, _):
        self.send(200, json.dumps(completion(f"Torn {user}."))[:-20])

    def be_no_choices(self, *_):
        self.send(200, {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 0}})

    def be_no_object(self, *_):
        self.send(200, "[1, 2]")

    def be_null(self, *_):
        self.send(200, completion(None))

    def be_blank(self, *_):
        self.send(200, completion(" \n\t "))

    def be_number(self, *_):
        self.send(200, completion(7))

    def be_nul(self, *_):
        self.send(200, completion("a\x00b"))

    def be_surrogate(self, *_):
        self.send(200, completion("SURROGATE").__repr__().replace("'", '"').replace("SURROGATE", "\\ud800"))

    def be_latin1(self, *_):
        self.send(200, json.dumps(completion("caf?")).encode().replace(b"?", b"\xe9"))

    def be_error(self, *_):
        self.send(200, {"error": {"message": "the provider is down"}})

    def be_filter(self, *_):
        self.send(200, completion("Half a tho", "content_filter"))

    def be_huge(self, *_):
        self.send(200, completion("x" * (1 << 20)))

    def be_endless(self, *_):
        """Chunks without end."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
        except OSError:
            pass
        self.hang_up()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """A client that hangs up is part of the test."""


def main():
    server = Server(("127.0.0.1", 0), Handler)
    if os.path.exists(f"{DIR}/tls.pem"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(f"{DIR}/tls.pem")
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with open(f"{DIR}/port.new", "w") as out:
        out.write(str(server.server_address[1]))
    os.rename(f"{DIR}/port.new", f"{DIR}/port")
    for _ in range(3000 * int(os.environ.get("EMBSUM_SLOW", 1))):  # five minutes, should the test die without removing it
        time.sleep(0.1)
        if not os.path.exists(f"{DIR}/port"):
            break


main()
