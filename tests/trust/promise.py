"""What the promises share: the programs, a store with daemons, and the verdict."""
import os
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
os.environ.setdefault("EMBSUMD", str(BUILD / "embsumd"))
os.environ.setdefault("TEST_API", str(BUILD / "tests/server/test_api"))
sys.path.insert(0, str(ROOT / "tests/server"))
import api  # noqa: E402  (tests/server/api.py: daemons, connections)

failures = []


def check(holds, text):
    print(f"  {'ok  ' if holds else 'FAIL'} {text}", flush=True)
    if not holds:
        failures.append(text)


class Place:
    """A store in a temporary folder, and daemons on it."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="embsum-trust-")
        self.url = f"lmdb:{self.folder}/store"
        api.publish(self.url, 1)
        return self

    def __exit__(self, *_):
        api.tearDownModule()
        shutil.rmtree(self.folder)
