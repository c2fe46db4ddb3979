"""A client of embsumd, EmbSum's scoring service. One file, Python 3.9 or later, nothing but its standard library.

    from embsum_client import Client

    client = Client("http://127.0.0.1:8080", timeout=0.5)
    ranking = client.rank("U35", ["N1183", "N1149", "N1014"], top_k=2)
    for item in ranking.items:
        print(item.id, item.score)

One client serves any number of threads and keeps its connections open between calls. Everything that embsumd answers is a
read, so what failed on the way may be asked again, and is: see Client. What comes back is a dataclass; what goes wrong is an
EmbsumError, which names the request as embsumd's log does.
"""
import http.client
import io
import json
import random
import select
import ssl
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

__all__ = ["Client", "Ranking", "Rankings", "Item", "TopPair", "HistoryItem", "Token", "Missing", "User", "Content",
           "Version", "EmbsumError", "AnswerError", "Unauthorized", "NotFound", "Unavailable", "ConnectionFailed", "DeadlineExceeded",
           "BadAnswer"]

# ---- what comes back ----


@dataclass(frozen=True)
class HistoryItem:
    """id is empty for the state of the summary."""

    id: str
    weight: float
    title: Optional[str] = None


@dataclass(frozen=True)
class Token:
    text: str
    weight: float


@dataclass(frozen=True)
class TopPair:
    """items and tokens are what weighs most in the two codes, where the generation was made with `--explain`."""

    user_code: int
    content_code: int
    weight: float
    similarity: float
    items: Tuple[HistoryItem, ...] = ()
    tokens: Tuple[Token, ...] = ()


@dataclass(frozen=True)
class Item:
    """title is there where titles were asked for and the generation has one. weights and similarities have a row for each user code; they and top_pairs are there where explain was asked for."""

    id: str
    score: Optional[float]
    title: Optional[str] = None
    weights: Optional[List[List[float]]] = None
    similarities: Optional[List[List[float]]] = None
    top_pairs: Tuple[TopPair, ...] = ()


@dataclass(frozen=True)
class Missing:
    """reason: "not_found", "corrupt" or "unavailable"."""

    id: str
    reason: str


@dataclass(frozen=True)
class Ranking:
    """The best first. user_status: "present", or "default" where the empty history stands in for an unknown user; of several
    users also "not_found", "corrupt" and "unavailable", with no items. degraded says what may be old or absent."""

    user: str
    user_status: str
    generation: str
    items: Tuple[Item, ...]
    missing: Tuple[Missing, ...]
    missing_count: int
    degraded: Tuple[str, ...]
    request_id: str


@dataclass(frozen=True)
class Rankings:
    """One for each user, in the order asked. What is missing is so for all."""

    generation: str
    results: Tuple[Ranking, ...]
    missing: Tuple[Missing, ...]
    missing_count: int
    degraded: Tuple[str, ...]
    request_id: str


@dataclass(frozen=True)
class User:
    user: str
    user_status: str
    generation: str
    summary: Optional[str]
    m: int
    n: int
    d: int
    age_s: int


@dataclass(frozen=True)
class Content:
    content: str
    generation: str
    title: Optional[str]
    categories: Tuple[str, ...]
    n: int
    d: int
    age_s: int


@dataclass(frozen=True)
class Version:
    name: str
    version: str
    dtype: str
    kernel: Optional[str]


# ---- what goes wrong ----


class EmbsumError(Exception):
    """request_id is what embsumd's log knows the request by, if it has arrived there."""

    def __init__(self, message: str, request_id: str = ""):
        super().__init__(f"{message} (request {request_id})" if request_id else message)
        self.request_id = request_id


class AnswerError(EmbsumError):
    """embsumd, or a proxy before it, has answered with an error. code is embsumd's word for the status ("bad_request"), or empty
    where the answer was not embsumd's."""

    def __init__(self, status: int, code: str, message: str, request_id: str, retry_after: Optional[float] = None):
        super().__init__(f"{status} {code or 'without a code'}: {message}", request_id)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


class Unauthorized(AnswerError):
    """401: the token is missing, or none of the daemon's."""


class NotFound(AnswerError):
    """404: no such user, category or path."""


class Unavailable(AnswerError):
    """503, or 502 and 504 of a proxy: not now."""


class ConnectionFailed(EmbsumError):
    """There was no connection, or it ended before the answer did."""


class DeadlineExceeded(EmbsumError):
    """The call's time was over before there was an answer."""


class BadAnswer(EmbsumError):
    """What came is no answer of embsumd's."""


ERRORS = {401: Unauthorized, 404: NotFound, 502: Unavailable, 503: Unavailable, 504: Unavailable}

# ---- connections ----


class _Reader(io.RawIOBase):
    """The answer's bytes, waited for no longer than the connection's deadline, however slowly they come."""

    def __init__(self, timed: "_Timed"):
        self.timed, self.file = timed, timed.socket.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        self.timed.arm()
        return self.file.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()


class _Timed:
    """What http.client sees in place of a socket. A socket's own timeout begins anew with each byte."""

    def __init__(self, socket: Any, deadline: float):
        self.socket, self.deadline = socket, deadline

    def arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        self.socket.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self.arm()
        self.socket.sendall(data)

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        self.socket.close()


class _Pool:
    """Connections that nobody uses just now, the latest last. The daemon closes one that is idle for server.idle_timeout_ms."""

    def __init__(self, url: str, size: int, idle_seconds: float, tls: Optional[ssl.SSLContext]):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError(f"{url!r} is no address like http://127.0.0.1:8080")
        self.make = self.make_tls if parts.scheme == "https" else self.make_plain
        self.host, self.port, self.path = parts.hostname, parts.port, parts.path.rstrip("/")
        self.size, self.idle_seconds, self.tls = size, idle_seconds, tls
        self.lock, self.idle, self.closed = threading.Lock(), [], False

    def make_plain(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def make_tls(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.tls or ssl.create_default_context())

    def take(self) -> Optional[http.client.HTTPConnection]:
        """One that seems to be alive."""
        while True:
            with self.lock:
                if not self.idle:
                    return None
                connection, since = self.idle.pop()
            if time.monotonic() - since < self.idle_seconds and not is_readable(connection.sock.socket):
                return connection
            connection.close()

    def open(self, deadline: float, connect_timeout: float) -> http.client.HTTPConnection:
        connection = self.make(max(0.001, min(connect_timeout, deadline - time.monotonic())))
        connection.connect()
        connection.sock = _Timed(connection.sock, deadline)
        return connection

    def give(self, connection: http.client.HTTPConnection) -> None:
        with self.lock:
            if connection.sock and not self.closed and len(self.idle) < self.size:
                self.idle.append((connection, time.monotonic()))
                return
        connection.close()

    def close(self) -> None:
        with self.lock:
            self.closed, idle, self.idle = True, self.idle, []
        for connection, _ in idle:
            connection.close()


def is_readable(socket: Any) -> bool:
    """An idle connection has nothing to say but that it has ended."""
    if not hasattr(select, "poll"):
        return bool(select.select([socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))


class _Budget:
    """One retry for every ten calls, and ten in hand: where everything fails, retries do not add to what is too much already."""

    def __init__(self) -> None:
        self.lock, self.tenths = threading.Lock(), 100

    def earn(self) -> None:
        with self.lock:
            self.tenths = min(100, self.tenths + 1)

    def spend(self) -> bool:
        with self.lock:
            if self.tenths < 10:
                return False
            self.tenths -= 10
            return True


# ---- the client ----


class Client:
    """embsumd at an address, or behind a proxy.

    token            what stands behind "Bearer", or a function that returns it, for tokens that change
    timeout          seconds that a call may take, with all its attempts, whatever the other side does; but a name that has
                     to be looked up is waited for as long as the system does
    connect_timeout  of these for a connection
    retries          attempts after the first, each after a pause that doubles from `backoff` seconds and is never shorter than
                     the Retry-After of the answer before; a pause that would end behind the timeout is not begun, and the error
                     comes at once. Tried again is what a broken connection or a 503 has ended, and nothing else; and of all
                     calls together no more than one in ten, once ten have been
    pool_size        connections that are kept open while nobody uses them. There are as many as there are calls at a time
    tls              an ssl.SSLContext for https

    Every call takes `timeout`, `request_id` and `traceparent` for itself, too.
    """

    def __init__(self, url: str = "http://127.0.0.1:8080", *, token: Union[str, Callable[[], str], None] = None,
                 timeout: float = 5.0, connect_timeout: float = 1.0, retries: int = 2, backoff: float = 0.05,
                 pool_size: int = 16, idle_seconds: float = 20.0, tls: Optional[ssl.SSLContext] = None):
        self._pool = _Pool(url, pool_size, idle_seconds, tls)
        self._token, self._timeout, self._connect_timeout = token, timeout, connect_timeout
        self._retries, self._backoff, self._budget = retries, backoff, _Budget()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Calls that are under way are finished."""
        self._pool.close()

    # ---- calls ----

    def rank(self, user: str, candidates: Optional[Sequence[str]] = None, *, top_k: Optional[int] = None,
             category: Optional[str] = None, exclude: Optional[Sequence[str]] = None, explain: bool = False,
             titles: bool = False, **call: Any) -> Ranking:
        """Rank the candidates, or without them the catalogue: of one category or of all, without those in exclude; top_k is
        needed then. An unknown user is ranked as the default user, or is NotFound, as the daemon is configured."""
        body = rank_body(candidates, top_k, category, exclude, explain, titles)
        answer, request_id = self._ask_json("POST", "/rank", {"user": user, **body}, limit=True, **call)
        return read(lambda: ranking(answer, answer, request_id), request_id)

    def rank_users(self, users: Sequence[str], candidates: Optional[Sequence[str]] = None, *, top_k: Optional[int] = None,
                   category: Optional[str] = None, exclude: Optional[Sequence[str]] = None, explain: bool = False,
                   titles: bool = False, **call: Any) -> Rankings:
        """The same candidates for each of several users, in one request."""
        body = rank_body(candidates, top_k, category, exclude, explain, titles)
        answer, request_id = self._ask_json("POST", "/rank", {"users": list(users), **body}, limit=True, **call)
        return read(lambda: rankings(answer, request_id), request_id)

    def user(self, user: str, **call: Any) -> User:
        """NotFound if the live generation does not know the user."""
        answer, request_id = self._ask_json("GET", "/users/" + urllib.parse.quote(user, safe=""), **call)
        return read(lambda: pick(User, answer), request_id)

    def content(self, content: str, **call: Any) -> Content:
        """NotFound if the live generation does not know the content."""
        answer, request_id = self._ask_json("GET", "/contents/" + urllib.parse.quote(content, safe=""), **call)
        return read(lambda: pick(Content, answer, categories=tuple(answer["categories"])), request_id)

    def hot(self, kind: str, prefix: str = "", limit: int = 20, **call: Any) -> List[str]:
        """Ids in the daemon's memory that begin with the prefix; kind is "content" or "user"."""
        query = urllib.parse.urlencode({"kind": kind, "prefix": prefix, "limit": limit}, quote_via=urllib.parse.quote)
        answer, request_id = self._ask_json("GET", "/hot?" + query, **call)
        return read(lambda: list(answer["ids"]), request_id)

    def version(self, **call: Any) -> Version:
        answer, request_id = self._ask_json("GET", "/version", **call)
        return read(lambda: pick(Version, answer), request_id)

    def ready(self, **call: Any) -> bool:
        """Whether the daemon has a generation to rank with. Whatever is no answer to that is raised."""
        try:
            self._ask("GET", "/readyz", retries=0, **call)
        except Unavailable:
            return False
        return True

    def metrics(self, **call: Any) -> str:
        """Prometheus's text."""
        return self._ask("GET", "/metrics", **call)[0].decode()

    def openapi(self, **call: Any) -> Dict[str, Any]:
        """The daemon's description of itself."""
        return self._ask_json("GET", "/openapi.json", **call)[0]

    # ---- one call: attempts until one is answered or nothing is left to try ----

    def _ask_json(self, *what: Any, **call: Any) -> Tuple[Any, str]:
        text, request_id = self._ask(*what, **call)
        return read(lambda: json.loads(text), request_id), request_id

    def _ask(self, method: str, path: str, body: Any = None, *, limit: bool = False, timeout: Optional[float] = None,
             request_id: Optional[str] = None, traceparent: Optional[str] = None, retries: Optional[int] = None) -> Tuple[bytes, str]:
        request_id = request_id or uuid.uuid4().hex
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        headers = {"X-Request-Id": request_id, "Accept": "application/json, text/plain"}
        text = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        if text is not None:
            headers["Content-Type"] = "application/json"
        if traceparent:
            headers["traceparent"] = traceparent
        attempts = 1 + (self._retries if retries is None else retries)
        for attempt in range(attempts):
            try:
                answer = self._attempt(method, path, text, headers, deadline, limit)
                self._budget.earn()
                return answer, request_id
            except (ConnectionFailed, Unavailable) as error:
                pause = self._backoff * 2 ** attempt * random.uniform(0.5, 1)
                pause = max(pause, getattr(error, "retry_after", None) or 0)
                over = time.monotonic() + pause >= deadline
                if over or attempt + 1 == attempts or not self._budget.spend():
                    raise
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, method: str, path: str, body: Optional[bytes], headers: Dict[str, str], deadline: float,
                 limit: bool) -> bytes:
        request_id = headers["X-Request-Id"]
        token = self._token() if callable(self._token) else self._token
        if token:
            headers = {**headers, "Authorization": f"Bearer {token}"}
        connection = self._pool.take()
        while True:
            kept = connection is not None
            try:
                connection = connection or self._pool.open(deadline, self._connect_timeout)
                connection.sock.deadline = deadline
                if limit:
                    left_ms = int((deadline - time.monotonic()) * 1000)
                    headers = {**headers, "X-Timeout-Ms": str(min(max(1, left_ms), 999999999))}
                connection.request(method, self._pool.path + path, body, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                if connection:
                    connection.close()
                connection = None
                if kept and isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
                    continue  # it had been closed while it was idle: the daemon has not begun to answer
                raise failure(error, deadline, request_id) from error
            except BaseException:  # a header that cannot be sent, Ctrl-C: whatever is under way on it is nobody's
                if connection:
                    connection.close()
                raise
            self._pool.give(connection)
            if answer.status == 200:
                return text
            raise answered(answer, text, request_id)


def failure(error: Exception, deadline: float, request_id: str) -> EmbsumError:
    if isinstance(error, TimeoutError) and time.monotonic() >= deadline - 0.001:
        return DeadlineExceeded("no answer in time", request_id)
    if isinstance(error, http.client.HTTPException) and not isinstance(error, (http.client.RemoteDisconnected,
                                                                               http.client.IncompleteRead)):
        return BadAnswer(f"no HTTP: {error!r}", request_id)
    return ConnectionFailed(f"the connection failed: {error!r}", request_id)


def answered(answer: http.client.HTTPResponse, text: bytes, request_id: str) -> AnswerError:
    """The error that an answer tells of. A proxy's has no code."""
    try:
        error = json.loads(text)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, TypeError, KeyError):
        code, message = "", answer.reason
    try:
        retry_after: Optional[float] = max(0.0, float(answer.headers.get("Retry-After", "")))
    except ValueError:  # none, or a date
        retry_after = None
    kind = ERRORS.get(answer.status, AnswerError)
    return kind(answer.status, code, message, answer.headers.get("X-Request-Id", request_id), retry_after)


# ---- bodies and answers ----


def rank_body(candidates: Optional[Sequence[str]], top_k: Optional[int], category: Optional[str],
              exclude: Optional[Sequence[str]], explain: bool, titles: bool) -> Dict[str, Any]:
    body: Dict[str, Any] = {}
    for key, ids in (("candidates", candidates), ("exclude", exclude)):
        if isinstance(ids, str):
            raise TypeError(f"{key} is a list of ids, not one")
        if ids is not None:
            body[key] = list(ids)
    if category is not None:
        body["category"] = category
    if top_k is not None:
        body["top_k"] = top_k
    if explain:
        body["explain"] = True
    if titles:
        body["titles"] = True
    return body


def read(reader: Callable[[], Any], request_id: str) -> Any:
    try:
        return reader()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadAnswer(f"the answer is not embsumd's: {error!r}", request_id) from error


def pick(kind: Any, value: Dict[str, Any], **changed: Any) -> Any:
    """What a later embsumd adds is passed over."""
    known = {name: value[name] for name in kind.__dataclass_fields__ if name in value}
    return kind(**{**known, **changed})


def top_pair(value: Dict[str, Any]) -> TopPair:
    return pick(TopPair, value, items=tuple(pick(HistoryItem, i) for i in value.get("items", ())),
                tokens=tuple(pick(Token, t) for t in value.get("tokens", ())))


def item(value: Dict[str, Any]) -> Item:
    return pick(Item, value, top_pairs=tuple(top_pair(pair) for pair in value.get("top_pairs", ())))


def shared(answer: Dict[str, Any]) -> Dict[str, Any]:
    missing = tuple(pick(Missing, m) for m in answer["missing"])
    return {"generation": answer["generation"], "missing": missing, "missing_count": answer.get("missing_count", len(missing))}


def ranking(value: Dict[str, Any], answer: Dict[str, Any], request_id: str) -> Ranking:
    return Ranking(user=value["user"], user_status=value["user_status"], items=tuple(item(i) for i in value["ranking"]),
                   degraded=tuple(value.get("degraded", ())), request_id=request_id, **shared(answer))


def rankings(answer: Dict[str, Any], request_id: str) -> Rankings:
    return Rankings(results=tuple(ranking(result, answer, request_id) for result in answer["results"]),
                    degraded=tuple(answer.get("degraded", ())), request_id=request_id, **shared(answer))
