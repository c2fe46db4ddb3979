"""Requests whose end is in doubt."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

import framing as cases
from common import ROOT, Place, api, check


class Nginx:
    """The shipped configuration before a daemon: addresses and places are others, and whose the workers are."""

    def __init__(self, folder, daemon):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = probe.getsockname()
        folder = pathlib.Path(folder)
        shipped = (ROOT / "deploy/nginx/embsum.conf").read_text()
        for old, new in (("server 127.0.0.1:8080;", "server %s:%d;" % daemon.address),
                         ("listen 80;", "listen %s:%d;" % self.address), ("/var/log/nginx/", f"{folder}/")):
            assert shipped.count(old) == 1, old
            shipped = shipped.replace(old, new)
        (folder / "embsum.conf").write_text(shipped)
        places = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"daemon off; {'user nobody nogroup;' if os.geteuid() == 0 else ''} worker_processes 1; pid {folder}/nginx.pid;"
            f"events {{}} http {{ {places} include {folder}/embsum.conf; }}")
        os.chmod(folder, 0o711)  # workers give up root
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen([binary, "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"])
        deadline = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(self.address, 1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def requests_served(daemon):
    """All that the daemon has taken for a request and let through; /metrics itself is left out."""
    _, _, text = daemon.ask("GET", "/metrics")
    rows = re.findall(r'^embsum_http_requests_total\{([^}]*)\} (\d+)', text.decode(), re.M)
    return sum(int(count) for labels, count in rows if "metrics" not in labels and 'route="refused"' not in labels)


def framing(rng):
    """Requests whose end two readers could see in different places: directly, and behind the shipped nginx."""
    order = rng.sample(cases.CASES, len(cases.CASES))
    counts = {where: dict.fromkeys(("refused", "one", "waits", "two"), 0) for where in ("directly", "behind nginx")}
    with Place() as place:
        daemon = api.Daemon(place.url, "server.header_timeout_ms=3000", "server.body_timeout_ms=3000")

        def play(where, address, expected):
            served = requests_served(daemon)
            for name, request, direct in order:
                found = cases.outcome(*cases.ask(address, request))
                counts[where][found] += 1
                now = requests_served(daemon)
                if now - served > 1 or found == "two":
                    check(False, f"{where}: {name}: {found}, {now - served} requests served")
                elif expected and found != direct:
                    check(False, f"{where}: {name}: {found}, not {direct}")
                served = now
            print(f"  {where}: " + ", ".join(f"{count} {what}" for what, count in counts[where].items()))

        play("directly", daemon.address, True)
        told = counts["directly"]
        check(len(order) >= 52 and told["refused"] >= 45, f"{told['refused']} of {len(order)} cases are refused directly")
        check(told["two"] == 0, f"{told['two']} yield two answers")
        refused, asked = 0, 2000
        for _ in range(asked // 20):
            with api.Raw(daemon) as raw:  # some in one piece, some in many
                stream = b"".join(cases.ordinary(rng) for _ in range(20))
                step = rng.choice((len(stream), 1000, 97))
                raw.send(*[stream[at:at + step] for at in range(0, len(stream), step)])
                refused += sum((raw.receive() or [0])[0] != 200 for _ in range(20))
        check(refused == 0, f"{refused} of {asked} ordinary requests of all shapes are refused")
        if shutil.which("nginx") or os.path.exists("/usr/sbin/nginx"):
            with tempfile.TemporaryDirectory(prefix="embsum-trust-") as folder:
                nginx = Nginx(folder, daemon)
                try:
                    play("behind nginx", nginx.address, False)
                finally:
                    nginx.stop()
            told = counts["behind nginx"]
            check(told["two"] == 0, f"behind nginx {told['refused']} are refused, {told['one']} answered once, {told['two']} twice")
        else:
            print("  nginx is not installed (sh deploy/install-packages bench)")
        check(daemon.rank(json.loads(api.GOOD))[0] == 200, "it still ranks")
        check(daemon.stop()[0] == 0, "the daemon ends with 0")
