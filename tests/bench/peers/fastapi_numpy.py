"""Peer: FastAPI with pydantic on numpy. The request is a model; the answer is not: with one, Debian's pydantic (which is
not compiled) takes 20 ms for a thousand items, and FastAPI's documentation advises to return a response of one's own
where that matters."""
from typing import List, Optional

import numpy as np
from fastapi import FastAPI, HTTPException
from fastapi.responses import UJSONResponse
from pydantic import BaseModel

from catalogue import Catalogue
from scorer_numpy import Scorer

catalogue = Catalogue()
scorer = Scorer(catalogue)
app = FastAPI()


class Ask(BaseModel):
    user: str
    candidates: List[str]
    top_k: Optional[int] = None


@app.get("/livez")
async def livez():
    return {"status": "ok"}


# async: one request at a time in this process, without the hop to a pool of threads, which costs more than it brings.
@app.post("/rank", response_class=UJSONResponse)
async def rank(ask: Ask):
    user = catalogue.user_index.get(ask.user)
    if user is None:
        raise HTTPException(404, "unknown user")
    found, index, missing = [], [], []
    for candidate in dict.fromkeys(ask.candidates):
        at = catalogue.content_index.get(candidate)
        if at is None:
            missing.append({"id": candidate, "reason": "not_found"})
        else:
            found.append(candidate)
            index.append(at)
    scores = scorer.candidates(catalogue.users[user], np.array(index, np.intp))
    order = np.argsort(-scores, kind="stable")[:ask.top_k].tolist()
    scores = scores.tolist()
    return UJSONResponse({"user": ask.user, "generation": catalogue.generation, "user_status": "present",
                          "ranking": [{"id": found[i], "score": scores[i]} for i in order], "missing": missing})
