"""The systems that are compared: how each is started, and where it listens.

A system has `processes` (whose CPU time is its cost), an `address`, and says in words why it cannot be measured.
"""
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from .children import NotMeasured, free_port, wait_until
from .data import D, M, N
from .load import ask

PEERS = pathlib.Path(__file__).resolve().parent.parent / "peers"
PYTHON = "/usr/bin/python3"
# A peer's own best: the environment's choice of kernel is overridden for them, and one thread a process is the fastest
# with two processes on two cores. glibc is told to keep memory that it got, see make bench-train.
PEER_ENV = {"OPENBLAS_CORETYPE": "SkylakeX", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}


def peer_env():
    env = dict(PEER_ENV)
    if "avx512f" not in pathlib.Path("/proc/cpuinfo").read_text():
        env.pop("OPENBLAS_CORETYPE")
    return env


def answers(address, path="/livez"):
    try:
        return ask(address, "GET", path, timeout=5)[0] == 200
    except http.client.HTTPException:
        return False


class System:
    name = label = ""
    ours = False
    max_error = 1e-3  # of a score, as a share of the scores' standard deviation
    rms_error = 1e-3
    content_bytes = 0  # that it keeps of each content, all its processes together

    def __init__(self, world):
        self.world, self.processes, self.address = world, [], None

    def start(self):
        raise NotImplementedError

    def stop(self):
        for child in reversed(self.processes):
            self.world.children.end(child)
        self.processes = []

    def spawn(self, arguments, number=0, **more):
        child = self.world.children.start(arguments, self.world.folder / f"{self.name}-{number}.log", **more)
        self.processes.append(child)
        return child


# ---- ours ----------------------------------------------------------------------------------------------------------


def config_keys(embsumd):
    """All keys of the configuration that this daemon knows, as section.key."""
    done = subprocess.run([embsumd, "--print-config"], check=True, capture_output=True, text=True, timeout=30)
    return {f"{section}.{key}" for section, keys in json.loads(done.stdout).items() for key in keys}


class Ours(System):
    ours = True
    ERRORS = {"float32": (1e-4, 1e-5), "float32+int8": (1e-4, 1e-5), "bfloat16": (5e-2, 1e-2), "int8": (3e-1, 5e-2)}

    def __init__(self, world, dtype=None, name=None, label=None, url=None, settings=()):
        super().__init__(world)
        self.dtype = dtype
        self.name = name or ("ours" if dtype is None else f"ours-{dtype}")
        self.label = label or ("embsumd" if dtype is None else f"embsumd, {dtype}")
        self.url, self.settings = url or world.url, list(settings)
        self.max_error, self.rms_error = self.ERRORS[dtype or "float32"]
        self.content_bytes = 2 * N * D * {"float32": 4, "float32+int8": 5, "bfloat16": 2, "int8": 1}[
            dtype or "float32"]

    def start(self):
        world = self.world
        settings = list(self.settings)
        if self.dtype is not None:
            settings.append(f"scoring.dtype={self.dtype}")
        if not any(s.startswith("memory.limit_bytes") for s in settings):
            needed = self.content_bytes * world.limit_contents + self.content_bytes // (2 * N) * M * world.args.users
            settings.append(f"memory.limit_bytes={max(1 << 28, 2 * needed)}")
        arguments = [world.embsumd, "--listen", "127.0.0.1:0", "--store", self.url]
        for setting in settings:
            arguments += ["--set", setting]
        child = self.spawn(arguments)

        def listening():
            for line in child.log.read_text().splitlines():
                if line.startswith("{") and json.loads(line).get("msg") == "listening":
                    self.address = json.loads(line)["address"]
            return self.address is not None

        self.address = None
        child.log.write_text("")
        wait_until(listening, child, 30)
        wait_until(lambda: answers(self.address, "/readyz"), child, 600)  # it may load a whole generation first
        return self

    def hot(self, what):
        """A figure of the hot memory: of the contents, where the daemon tells them apart from users."""
        seen = self.metrics()
        return seen.get(f'embsum_hot_{what}{{kind="content"}}', seen.get(f"embsum_hot_{what}", 0))

    def metrics(self):
        """name{labels} -> value"""
        _, _, text = ask(self.address, "GET", "/metrics")
        return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text.decode(), re.M)}


# ---- nginx ---------------------------------------------------------------------------------------------------------

NGINX = """
daemon off;
{user}
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000; tcp_nodelay on; sendfile on; open_file_cache max=10;
    client_body_buffer_size 512k; client_max_body_size 8m;
    {upstream}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=511;
        {locations}
    }}
}}
"""
PROXY = """location / {
            proxy_pass http://peer; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering on; proxy_buffer_size 64k; proxy_buffers 16 64k;
        }"""
LIMIT = """location = /file { alias FOLDER/file; }
        location = /post { default_type application/json; return 200 "{\\"ranking\\":[]}"; }
        location = /livez { return 200 "ok"; }"""


def nginx_binary():
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if not found:
        raise NotMeasured("nginx is not installed (sh deploy/install-packages bench)")
    return found


def start_nginx(system, workers, upstream, locations, number):
    """With a configuration and folder of its own; under root its workers give that up."""
    folder = system.world.folder / f"{system.name}-nginx"
    folder.mkdir(exist_ok=True)
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(
        user="user nobody nogroup;" if os.geteuid() == 0 else "", workers=workers, folder=folder, port=port,
        upstream=upstream, locations=locations.replace("FOLDER", str(folder))))
    child = system.spawn([nginx_binary(), "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"], number)
    system.address = f"127.0.0.1:{port}"
    return child, folder


class Nginx(System):
    name, label = "nginx", "nginx"

    def start(self):
        child, folder = start_nginx(self, 2, "", LIMIT, 0)
        (folder / "file").write_bytes(b"x" * 35000)
        wait_until(lambda: answers(self.address), child, 10)
        return self


# ---- peers ---------------------------------------------------------------------------------------------------------


class Python(System):
    """Two processes of uvicorn behind nginx."""

    def __init__(self, world, name, label, module, needs, env=(), copies=4 * 2 * N * D, rms_error=1e-3, max_error=1e-3):
        super().__init__(world)
        self.name, self.label, self.module, self.needs, self.env = name, label, module, needs, dict(env)
        self.content_bytes, self.rms_error, self.max_error = 2 * copies, rms_error, max_error

    def start(self):
        nginx_binary()
        done = subprocess.run([PYTHON, "-c", "import importlib.util, sys\nprint(*(m for m in sys.argv[1:] "
                               "if not importlib.util.find_spec(m)))", "uvicorn", "uvloop", "httptools", "fastapi",
                               *self.needs], capture_output=True, text=True, timeout=60)
        if done.stdout.strip() or done.returncode != 0:
            raise NotMeasured(f"Python lacks {done.stdout.strip()} (sh deploy/install-packages bench)")
        servers = ""
        started = []
        for number in range(2):
            path = self.world.folder / f"{self.name}-{number}.sock"
            started.append((path, self.spawn(
                [PYTHON, "-m", "uvicorn", f"{self.module}:app", "--uds", path, "--loop", "uvloop", "--http", "httptools",
                 "--no-access-log", "--log-level", "warning"], number, cwd=PEERS,
                env={**peer_env(), "PEER_DATA": str(self.world.data.folder), "PEER_ROWS": str(2 * N),
                     "PEER_REDIS_PORT": str(self.world.redis_port), "PYTHONDONTWRITEBYTECODE": "1", **self.env})))
            servers += f"server unix:{path};"
        for path, child in started:
            wait_until(path.exists, child, 120)
        child, _ = start_nginx(self, 1, f"upstream peer {{ least_conn; {servers} keepalive 64; }}", PROXY, 2)
        wait_until(lambda: answers(self.address), child, 30)
        return self


class Node(System):
    name, label = "node", "Node, fastify + onnxruntime, cluster of two"
    content_bytes = 2 * 4 * 2 * N * D

    def start(self):
        for program in ("node", "npm"):
            if not shutil.which(program):
                raise NotMeasured(f"{program} is not installed (sh deploy/install-packages bench npm)")
        modules = self.install()
        self.write_model()
        port = free_port()
        shutil.copy(PEERS / "fastify_onnx.js", modules)
        child = self.spawn(["node", modules / "fastify_onnx.js"], env={
            **peer_env(), "PEER_DATA": str(self.world.data.folder), "PEER_PORT": str(port), "PEER_WORKERS": "2"})
        self.address = f"127.0.0.1:{port}"
        wait_until(lambda: answers(self.address), child, 120)
        return self

    def install(self):
        """Its packages, from npm's registry, once a build folder."""
        folder = self.world.build / "bench/node"
        if (folder / "node_modules/onnxruntime-node").is_dir():
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(PEERS / "package.json", folder)
        # Without scripts: onnxruntime's fetches what only graphics cards need.
        try:
            done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder,
                                  capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise NotMeasured("npm install took more than 300 s") from None
        if done.returncode != 0:
            raise NotMeasured("npm install: " + (done.stderr.strip().splitlines() or ["failed"])[-1])
        return folder

    def write_model(self):
        sys.path.insert(0, str(PEERS))
        import onnx_model
        blocks = self.world.data.folder / "blocks.npy"
        shape = (self.world.data.contents, 2 * N, D)
        offset = blocks.stat().st_size - 4 * shape[0] * shape[1] * shape[2]
        (self.world.data.folder / "score.onnx").write_bytes(onnx_model.model(shape, M, "blocks.npy", offset))


class Stock(System):
    name, label = "stock", "C, libmicrohttpd + jansson + OpenBLAS, balanced"
    content_bytes = 4 * 2 * N * D

    def start(self):
        program = self.world.build / "tests/bench/peers/stock"
        if not program.exists():
            raise NotMeasured(f"{program} is not built")
        port = free_port()
        child = self.spawn([program, self.world.data.folder, port, 2], env=peer_env())
        self.address = f"127.0.0.1:{port}"
        wait_until(lambda: answers(self.address), child, 60)
        return self


def fill_redis(world):
    """What the peer without a memory of its own reads: float32, B over gelu(B W_s), and users."""
    import numpy as np
    import socket
    blocks = np.load(world.data.folder / "blocks.npy", mmap_mode="r")
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(world.redis_socket))
        link.settimeout(60)
        replies = link.makefile("rb")

        def put(prefix, ids, values):
            for first in range(0, len(ids), 100):
                out = []
                for i in range(first, min(first + 100, len(ids))):
                    key, value = (prefix + ids[i]).encode(), values[i].tobytes()
                    out.append(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n" % (len(key), key, len(value)) + value + b"\r\n")
                link.sendall(b"".join(out))
                for _ in out:
                    if not replies.readline().startswith(b"+OK"):
                        raise NotMeasured("Redis refused its matrices")

        put("peer:c:", world.data.content_ids, blocks)
        put("peer:u:", world.data.user_ids, world.data.user)


class Fetching(Python):
    def start(self):
        if not self.world.redis_filled:
            fill_redis(self.world)
            self.world.redis_filled = True
        return super().start()


def dtypes(world):
    """The forms in which this daemon keeps contents; [None] where it has no choice."""
    return ["float32", "bfloat16", "int8"] if "scoring.dtype" in world.keys else [None]


def all_systems(world):
    return [
        *(Ours(world, dtype) for dtype in dtypes(world)),
        Python(world, "numpy", "FastAPI + pydantic + numpy, two processes", "fastapi_numpy", ["numpy", "pydantic", "ujson"]),
        Python(world, "torch", "FastAPI + ujson + PyTorch, lean, two processes", "fastapi_torch", ["torch", "ujson"]),
        Python(world, "torch-bfloat16", "the same, contents in bfloat16", "fastapi_torch", ["torch", "ujson"],
               {"PEER_DTYPE": "bfloat16"}, 2 * 2 * N * D, 1e-2, 5e-2),
        Node(world),
        Stock(world),
        Fetching(world, "redis", "FastAPI + ujson + numpy, matrices from Redis", "fastapi_redis", ["redis", "ujson"],
                 copies=0),
    ]
