"""Peer: the simplest service, without state. The lean Python one, whose matrices come from Redis with every request: the
user's, and the candidates' blocks (B over gelu(B W_s), float32, as the batch job left them). By TCP and in pipelined MGETs
of 100, which is what reads 16 MB quickest."""
import os

import numpy as np
import redis.asyncio
import ujson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from catalogue import Catalogue
from scorer_numpy import Scorer

catalogue = Catalogue(blocks=False)
generation, d = catalogue.generation, catalogue.d
rows = int(os.environ["PEER_ROWS"])
scorer = Scorer(catalogue)
scorer.rows = rows
scorer.reserve(10000)
client = redis.asyncio.Redis(port=int(os.environ["PEER_REDIS_PORT"]))
CHUNK = 100

app = FastAPI()


async def livez(_: Request):
    return Response('{"status":"ok"}', media_type="application/json")


async def rank(request: Request):
    ask = ujson.loads(await request.body())
    candidates = list(dict.fromkeys(ask["candidates"]))
    keys = ["peer:u:" + ask["user"], *("peer:c:" + i for i in candidates)]
    pipeline = client.pipeline(transaction=False)
    for first in range(0, len(keys), CHUNK):
        pipeline.mget(keys[first:first + CHUNK])
    values = [value for chunk in await pipeline.execute() for value in chunk]
    if values[0] is None:
        return Response('{"error":{"message":"unknown user"}}', 404, media_type="application/json")
    user = np.frombuffer(values[0], np.float32).reshape(-1, d)
    found = [i for i, value in zip(candidates, values[1:]) if value is not None]
    blocks = np.frombuffer(b"".join(value for value in values[1:] if value is not None), np.float32)
    scores = scorer.score(user, blocks.reshape(-1, rows, d))
    order = np.argsort(-scores, kind="stable")[:ask.get("top_k")].tolist()
    scores = scores.tolist()
    missing = [{"id": i, "reason": "not_found"} for i, value in zip(candidates, values[1:]) if value is None]
    return Response(
        ujson.dumps({"user": ask["user"], "generation": generation, "user_status": "present",
                     "ranking": [{"id": found[i], "score": scores[i]} for i in order], "missing": missing}),
        media_type="application/json")


app.add_route("/livez", livez)
app.add_route("/rank", rank, methods=["POST"])
