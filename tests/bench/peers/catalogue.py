"""What the Python peers share: the matrices of the benchmark's folder, in memory.

blocks.npy is N x 2n x d float32, B over gelu(B W_s) of each content, so that a request is one product; user.npy is
U x m x d; *.ids hold one id a line.
"""
import json
import os
import pathlib

import numpy as np


def read_ids(path):
    return {line: i for i, line in enumerate(path.read_text().split("\n")[:-1])}


class Catalogue:
    def __init__(self, blocks=True):
        folder = pathlib.Path(os.environ["PEER_DATA"])
        self.generation = json.loads((folder / "meta.json").read_text())["generation"]
        self.users = np.load(folder / "user.npy")
        self.user_index = read_ids(folder / "user.ids")
        self.blocks = np.load(folder / "blocks.npy") if blocks else None
        self.content_index = read_ids(folder / "content.ids")
        _, self.m, self.d = self.users.shape
