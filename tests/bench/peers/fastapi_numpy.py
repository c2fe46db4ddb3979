"""Peer: the service as FastAPI's documentation would have it, on numpy. Bodies and answers are pydantic models."""
from typing import List, Optional

import numpy as np
from fastapi import FastAPI, HTTPException
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


class Item(BaseModel):
    id: str
    score: float


class Missing(BaseModel):
    id: str
    reason: str


class Answer(BaseModel):
    user: str
    generation: str
    user_status: str
    ranking: List[Item]
    missing: List[Missing]


@app.get("/livez")
async def livez():
    return {"status": "ok"}


# async: one request at a time in this process, without the hop to a pool of threads, which costs more than it brings.
@app.post("/rank", response_model=Answer)
async def rank(ask: Ask):
    user = catalogue.user_index.get(ask.user)
    if user is None:
        raise HTTPException(404, "unknown user")
    found, index, missing = [], [], []
    for candidate in dict.fromkeys(ask.candidates):
        at = catalogue.content_index.get(candidate)
        if at is None:
            missing.append(Missing(id=candidate, reason="not_found"))
        else:
            found.append(candidate)
            index.append(at)
    scores = scorer.candidates(catalogue.users[user], np.array(index, np.intp))
    order = np.argsort(-scores, kind="stable")[:ask.top_k].tolist()
    scores = scores.tolist()
    return Answer(user=ask.user, generation=catalogue.generation, user_status="present",
                  ranking=[Item(id=found[i], score=scores[i]) for i in order], missing=missing)
