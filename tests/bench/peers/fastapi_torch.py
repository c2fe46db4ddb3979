"""Peer: the lean one. FastAPI's app without its models (a plain route of Starlette's), ujson, PyTorch on one thread.

PEER_DTYPE=bfloat16 keeps the contents in bfloat16 and multiplies in it, where float32 is not asked for.
"""
import os

import torch
import ujson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from catalogue import Catalogue

torch.set_num_threads(1)
torch.set_grad_enabled(False)
catalogue = Catalogue()
dtype = getattr(torch, os.environ.get("PEER_DTYPE") or "float32")
blocks = torch.from_numpy(catalogue.blocks).to(dtype)
users = torch.from_numpy(catalogue.users).to(dtype)
catalogue.blocks = None
rows, d = blocks.shape[1:]
CANDIDATES_MAX = 10000
gathered = torch.empty((CANDIDATES_MAX, rows, d), dtype=dtype)  # fresh memory of 16 MB a request costs page faults
product = torch.empty((CANDIDATES_MAX * rows, catalogue.m), dtype=dtype)

app = FastAPI()


def score(user, index):
    count = len(index)
    torch.index_select(blocks, 0, index, out=gathered[:count])
    torch.mm(gathered[:count].view(-1, d), user.t(), out=product[:count * rows])
    pairs = product[:count * rows].view(count, 2, -1).float()
    return (torch.softmax(pairs[:, 1], 1) * pairs[:, 0]).sum(1)


def refuse(status, message):
    return Response(ujson.dumps({"error": {"message": message}}), status, media_type="application/json")


async def livez(_: Request):
    return Response('{"status":"ok"}', media_type="application/json")


async def rank(request: Request):
    try:
        ask = ujson.loads(await request.body())
        user = catalogue.user_index.get(ask["user"])
        candidates = ask["candidates"]
    except (ValueError, KeyError, TypeError):
        return refuse(400, "malformed body")
    if user is None:
        return refuse(404, "unknown user")
    if not isinstance(candidates, list) or len(candidates) > CANDIDATES_MAX:
        return refuse(400, "candidates: at most 10000")
    find = catalogue.content_index.get
    found, index, missing = [], [], []
    for candidate in dict.fromkeys(candidates):
        at = find(candidate)
        if at is None:
            missing.append({"id": candidate, "reason": "not_found"})
        else:
            found.append(candidate)
            index.append(at)
    scores, order = score(users[user], torch.tensor(index)).sort(descending=True, stable=True)
    top_k = ask.get("top_k") or len(found)
    ranking = [{"id": found[i], "score": s} for i, s in zip(order[:top_k].tolist(), scores[:top_k].tolist())]
    return Response(
        ujson.dumps({"user": ask["user"], "generation": catalogue.generation, "user_status": "present",
                     "ranking": ranking, "missing": missing}), media_type="application/json")


app.add_route("/livez", livez)
app.add_route("/rank", rank, methods=["POST"])
