"""The benchmark itself, in its smallest form: figures come out, wrong answers are found, and nothing stays behind.

Started by test_serve.sh.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import numpy as np  # noqa: E402

from serving import data  # noqa: E402
from serving.children import NotMeasured  # noqa: E402
from serving.world import World  # noqa: E402


def processes_of(folder):
    """Command lines that name the folder."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                line = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in line:
                found.append(line)
    return found


class Serve(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="embsum-test-serve-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.folder.chmod(0o711)

    def command(self, *arguments):
        return ["/usr/bin/python3", HERE / "serve.py", "--folder", self.folder, "--quick", "--contents", "2000", "--users",
                "20", "--systems", "ours,stock", *arguments]

    def left_behind(self):
        deadline = time.monotonic() + 10
        while processes_of(self.folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        return processes_of(self.folder), list(self.folder.glob("embsum-bench-*"))

    def test_figures(self):
        path = self.folder / "figures.json"
        done = subprocess.run(self.command("--rows", "capacity,latency,cold,balance", "--json", path),
                              capture_output=True, text=True, timeout=240)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        seen = json.loads(path.read_text())
        self.assertEqual(seen.get("not_measured"), None, done.stdout)
        self.assertIn("stock", seen["capacity"])
        self.assertGreaterEqual(len(seen["capacity"]), 2)
        for runs in seen["capacity"].values():
            self.assertGreater(runs[0]["requests_per_second"], 1)
            self.assertGreater(runs[0]["cpu_us"], 1)
            self.assertEqual(runs[0]["errors"], 0)
        for runs in seen["latency"].values():
            self.assertGreater(runs[0]["from_due_us"]["count"], 1)
        self.assertEqual(set(seen["cold"]), {"loopback TCP", "unix socket"})
        self.assertGreater(min(figures["ratio"] for figures in seen["cold"].values()), 0.5)
        self.assertEqual(self.left_behind(), ([], []))

    def test_stopped(self):
        running = subprocess.Popen(self.command("--rows", "capacity"), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not any(b"embsumd\0" in line for line in processes_of(self.folder)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertTrue(processes_of(self.folder))
        running.send_signal(signal.SIGINT)
        self.assertEqual(running.wait(60), 1)
        self.assertEqual(self.left_behind(), ([], []))

    def test_mistakes(self):
        for arguments in (["--rows", "nothing"], ["--rounds", "0"], ["--contents", "1"]):
            done = subprocess.run(["/usr/bin/python3", HERE / "serve.py", *arguments], capture_output=True, text=True,
                                  timeout=60)
            self.assertEqual(done.returncode, 2, done.stderr)


class Judge(unittest.TestCase):
    """What decides whether a system is measured at all."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="embsum-test-serve-")
        cls.data = data.Data(pathlib.Path(cls.temporary.name) / "data", 300, 3).write()
        cls.blocks = cls.data.write_blocks("g")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_bfloat16_loses_nothing(self):
        for values in (self.data.user, self.data.base, self.data.score_proj):
            self.assertFalse((values.view(np.uint32) & 0xFFFF).any())
        values = np.array([1 + 2.0 ** -8, 1 + 3 * 2.0 ** -8, -1 - 2.0 ** -7], np.float32)
        self.assertEqual(data.to_bfloat16(values).tolist(), [1.0, 1 + 2.0 ** -6, -1 - 2.0 ** -7])

    def test_blocks_give_the_same_scores(self):
        a, blocks = self.data.user[1].astype(np.float64), self.blocks[:50].astype(np.float64)
        product = (blocks @ a.T).reshape(50, 2, -1)
        weight = np.exp(product[:, 1])
        scores = (weight * product[:, 0]).sum(1) / weight.sum(1)
        right = self.data.scores(1, range(50))
        self.assertLess(np.abs(scores - right).max(), 1e-5 * right.std())
        self.assertGreater(right.std(), 0.1)

    def test_all_contents_differ(self):
        small, data.BASE = data.BASE, 100
        try:
            made = data.Data(pathlib.Path(self.temporary.name) / "small", 350, 1)
        finally:
            data.BASE = small
        content = made.content(np.arange(350)).reshape(350, -1)
        self.assertEqual(len(np.unique(content, axis=0)), 350)
        self.assertTrue((made.content(np.array([250, 3])).reshape(2, -1) == content[[250, 3]]).all())

    def check(self, change):
        """World.check() on a system whose answers are right but for a change."""
        import serving.world as module
        made = self.data

        class System:
            address, rms_error, max_error = "", 1e-3, 1e-3

        class Fake:
            data, generation = made, "g"

        def rank(_, body):
            index = [made.content_ids.index(i) for i in body["candidates"]]
            scores = dict(zip(body["candidates"], made.scores(made.user_ids.index(body["user"]), index)))
            ranking = [{"id": i, "score": float(s)} for i, s in sorted(scores.items(), key=lambda x: -x[1])]
            answer = {"generation": "g", "ranking": ranking}
            change(answer)
            return answer, {}

        kept, module.rank = module.rank, rank
        try:
            return World.check(Fake(), System(), requests=1, count=20)
        finally:
            module.rank = kept

    def test_wrong_answers_are_found(self):
        self.assertEqual(self.check(lambda answer: None)["max"], 0)

        def score(answer):
            answer["ranking"][0]["score"] += 0.01

        def order(answer):
            answer["ranking"][0], answer["ranking"][1] = answer["ranking"][1], answer["ranking"][0]

        def lost(answer):
            answer["ranking"].pop()

        def generation(answer):
            answer["generation"] = "h"

        for change in (score, order, lost, generation):
            with self.assertRaises(NotMeasured):
                self.check(change)


if __name__ == "__main__":
    unittest.main()
