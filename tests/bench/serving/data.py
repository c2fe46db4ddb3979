"""A generation of random matrices, from a seed: files for `embsum import`, and what the peers keep in memory.

All values can be written as bfloat16 without loss, so that a store in bfloat16 and a peer in float32 hold the same.
Their scale lets similarities vary by about 1 and logits by about 2: scores differ, and the softmax is neither flat nor
a single pair.
"""
import json
import math
import pathlib
import subprocess

import numpy as np

M, N, D = 32, 4, 512
SEED = 11441
BASE = 20000  # contents that are drawn; more are made of these by shifting and changing signs
CHUNK = 10000


def to_bfloat16(x):
    """Rounded to the nearest bfloat16, ties to even, as float32."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def erf_fast(x):
    """Abramowitz and Stegun 7.1.26: off by at most 1.5e-7."""
    a = np.abs(x)
    t = 1 / (1 + 0.3275911 * a)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - poly * np.exp(-a * a))


def npy_writer(path, shape):
    return np.lib.format.open_memmap(path, mode="w+", dtype="<f4", shape=shape)


class Data:
    """contents contents and users users in a folder of their own."""

    def __init__(self, folder, contents, users):
        self.folder, self.contents, self.users = pathlib.Path(folder), contents, users
        self.content_ids = [f"N{i}" for i in range(contents)]
        self.user_ids = [f"U{i}" for i in range(users)]
        self.folder.mkdir()
        draw = np.random.default_rng(SEED)
        scale = D ** -0.25
        self.score_proj = to_bfloat16(draw.standard_normal((D, D), np.float32) * (4 * D ** -0.5))
        self.user = to_bfloat16(draw.standard_normal((users, M, D), np.float32) * scale)
        self.base = to_bfloat16(draw.standard_normal((min(contents, BASE), N, D), np.float32) * scale)

    def content(self, index):
        """Matrices of these contents (an array of indices), float32."""
        which, lap = index % len(self.base), index // len(self.base)
        out = self.base[which]
        for number in np.unique(lap):
            if number:
                mine = lap == number
                out[mine] = np.roll(out[mine], 7 * number, axis=2) * (1 if number % 2 else -1)
        return out

    def write(self):
        """The folder that `embsum import` reads."""
        np.save(self.folder / "score_proj.npy", self.score_proj)
        np.save(self.folder / "user.npy", self.user)
        content = npy_writer(self.folder / "content.npy", (self.contents, N, D))
        for first in range(0, self.contents, CHUNK):
            content[first:first + CHUNK] = self.content(np.arange(first, min(first + CHUNK, self.contents)))
        content.flush()
        (self.folder / "content.ids").write_text("".join(f"{i}\n" for i in self.content_ids))
        (self.folder / "user.ids").write_text("".join(f"{i}\n" for i in self.user_ids))
        return self

    def write_blocks(self, generation):
        """What peers keep: B over gelu(B W_s) of each content, and the names."""
        blocks = npy_writer(self.folder / "blocks.npy", (self.contents, 2 * N, D))
        for first in range(0, self.contents, CHUNK):
            b = self.content(np.arange(first, min(first + CHUNK, self.contents)))
            x = b.reshape(-1, D) @ self.score_proj
            blocks[first:first + CHUNK, :N] = b
            blocks[first:first + CHUNK, N:] = (0.5 * x * (1 + erf_fast(x * np.float32(0.5 ** 0.5)))).reshape(b.shape)
        blocks.flush()
        (self.folder / "meta.json").write_text(json.dumps({"generation": generation, "m": M, "n": N, "d": D}))
        return blocks

    def publish(self, embsum, url, dtype, prefix="embsum"):
        """Into the store; returns the generation's name."""
        done = subprocess.run([embsum, "import", "--in", self.folder, "--store", url, "--store-dtype", dtype, "--prefix",
                               prefix, "--quiet"], check=True, capture_output=True, text=True, timeout=1800)
        return json.loads(done.stdout)["generation"]

    def scores(self, user, index):
        """By the definition, in float64: the judge of all systems."""
        a = self.user[user].astype(np.float64)
        b = self.content(np.asarray(index)).astype(np.float64)
        x = b @ self.score_proj.astype(np.float64)
        gate = 0.5 * x * (1 + np.vectorize(math.erf)(x * 0.5 ** 0.5))
        similarity = np.einsum("cnd,md->cnm", b, a).reshape(len(index), -1)
        logit = np.einsum("cnd,md->cnm", gate, a).reshape(len(index), -1)
        weight = np.exp(logit - logit.max(axis=1, keepdims=True))
        return (weight * similarity).sum(axis=1) / weight.sum(axis=1)
