"""The score as an ONNX file, written by hand: Debian has no package that writes one.

Inputs: index (int64, c), user (float32, m x d). Output: score (float32, c). The blocks (N x 2n x d) are an initializer
in a file of their own beside the model, which onnxruntime maps.
"""
import struct


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def piece(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


INT64, FLOAT = 7, 1


def attribute(name, value):
    if isinstance(value, float):
        return piece(5, piece(1, name) + varint(2 << 3 | 5) + struct.pack("<f", value) + number(20, 1))  # of type FLOAT
    return piece(5, piece(1, name) + number(3, value & (1 << 64) - 1) + number(20, 2))  # of type INT


def node(op, inputs, outputs, domain="", **attributes):
    return piece(1, b"".join(piece(1, i) for i in inputs) + b"".join(piece(2, o) for o in outputs) +
                 piece(4, op) + b"".join(attribute(k, v) for k, v in attributes.items()) + piece(7, domain))


def constant(name, values):
    return piece(5, number(1, len(values)) + number(2, INT64) +
                 b"".join(number(7, v & (1 << 64) - 1) for v in values) + piece(8, name))


def external(name, shape, location, offset, length):
    entries = (("location", location), ("offset", str(offset)), ("length", str(length)))
    return piece(5, b"".join(number(1, s) for s in shape) + number(2, FLOAT) + piece(8, name) +
                 b"".join(piece(13, piece(1, k) + piece(2, v)) for k, v in entries) + number(14, 1))


def value(field, name, kind, *dims):
    shape = b"".join(piece(1, piece(2, s) if isinstance(s, str) else number(1, s)) for s in dims)
    return piece(field, piece(1, name) + piece(2, piece(1, number(1, kind) + piece(2, shape))))


def model(shape, m, location, offset):
    """Bytes of the model. shape is that of the blocks, location their file, offset where they begin in it."""
    count, rows, d = shape
    graph = b"".join([
        node("Gather", ["blocks", "index"], ["gathered"], axis=0),
        node("Reshape", ["gathered", "by_row"], ["flat"]),
        node("Gemm", ["flat", "user"], ["product"], transB=1),
        node("Reshape", ["product", "by_half"], ["pairs"]),
        node("Split", ["pairs"], ["similarity", "logit"], axis=1),
        node("Softmax", ["logit"], ["weight"], axis=2),
        node("Mul", ["similarity", "weight"], ["weighted"]),
        node("ReduceSum", ["weighted", "axes"], ["score"], keepdims=0),
        piece(2, "score"),
        constant("by_row", [-1, d]),
        constant("by_half", [-1, 2, rows // 2 * m]),
        constant("axes", [1, 2]),
        external("blocks", shape, location, offset, 4 * count * rows * d),
        value(11, "index", INT64, "c"),
        value(11, "user", FLOAT, m, d),
        value(12, "score", FLOAT, "c"),
    ])
    return number(1, 8) + piece(7, graph) + piece(8, piece(1, "") + number(2, 13))
