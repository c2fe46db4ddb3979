"""The score in numpy: gather the candidates' blocks, one product, softmax. Buffers live as long as the process; fresh
ones of 16 MB would cost more in page faults than the product does."""
import numpy as np


class Scorer:
    def __init__(self, catalogue, candidates_max=2000):
        self.blocks, self.m = catalogue.blocks, catalogue.m
        rows, d = catalogue.blocks.shape[1:] if catalogue.blocks is not None else (None, catalogue.d)
        self.d, self.rows = d, rows
        if rows:
            self.reserve(candidates_max)

    def reserve(self, candidates):
        self.gathered = np.empty((candidates, self.rows, self.d), np.float32)
        self.product = np.empty((candidates * self.rows, self.m), np.float32)

    def candidates(self, user, index):
        """Scores of the contents with these indices for the user's matrix (m x d)."""
        if len(index) > len(self.gathered):
            self.reserve(len(index))
        gathered = np.take(self.blocks, index, axis=0, out=self.gathered[:len(index)], mode="clip")
        return self.score(user, gathered)

    def score(self, user, blocks):
        count, rows, d = blocks.shape
        product = np.matmul(blocks.reshape(-1, d), user.T, out=self.product[:count * rows])
        pairs = product.reshape(count, 2, -1)
        similarity, logit = pairs[:, 0], pairs[:, 1]
        logit -= logit.max(axis=1, keepdims=True)
        weight = np.exp(logit, out=logit)
        return np.einsum("ij,ij->i", weight, similarity) / weight.sum(axis=1)
