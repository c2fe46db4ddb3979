"""EmbSum's score in NumPy float64, from the definition, one user at a time.

    W = softmax over all m x n values of A gelu(B W_s)^T,  K = A B^T,  s = sum(W * K)
"""
import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[np.float64])


def gates(contents, score_proj):
    """gelu(B W_s) of every content (contents, n, d), with the exact gelu."""
    x = contents.astype(np.float64) @ score_proj.astype(np.float64)
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def scores(user, contents, gates_of_contents):
    """Scores (contents,) of one user's A (m, d) with contents (contents, n, d) and their gates."""
    user = user.astype(np.float64)
    similarity = np.einsum("md,cnd->cmn", user, contents.astype(np.float64))
    attention = np.einsum("md,cnd->cmn", user, gates_of_contents)
    attention = np.exp(attention - attention.max(axis=(1, 2), keepdims=True))
    weights = attention / attention.sum(axis=(1, 2), keepdims=True)
    return (weights * similarity).sum(axis=(1, 2))
