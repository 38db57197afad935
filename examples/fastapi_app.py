"""A chat service: each user has sessions of their own, kept in the ledger at LEDGER_URL.

Run it with ``uvicorn fastapi_app:app --app-dir examples``. With LEDGER_WAREHOUSE and LEDGER_RELAY=background it also
ships to BigQuery. Who calls is read from a header here; put your own authentication in its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ledger import (
    AsyncSessionLedger,
    IdempotencyConflict,
    InvalidInput,
    LedgerError,
    Message,
    PermissionDenied,
    SessionEnded,
    SessionNotFound,
    ValueTooLarge,
    WrongExpectedVersion,
)

#: The status code of an error; of any other, 503 if it can be retried.
STATUS: dict[type[LedgerError], int] = {
    PermissionDenied: 403,
    SessionNotFound: 404,
    SessionEnded: 409,
    IdempotencyConflict: 409,
    WrongExpectedVersion: 409,
    ValueTooLarge: 413,
    InvalidInput: 422,
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the ledger for as long as the service runs; at its end, waiting rows are shipped."""
    async with AsyncSessionLedger.open() as ledger:
        app.state.ledger = ledger
        yield


app = FastAPI(title="Chat over a session ledger", lifespan=lifespan)


class Question(BaseModel):
    """What a new session asks."""

    question: str


class NewMessage(BaseModel):
    """What a user says in a session."""

    content: str


async def sessions_of(request: Request, x_user: Annotated[str, Header()]) -> AsyncSessionLedger:
    """Return the ledger as this user sees it: for every call, the sessions of others do not exist."""
    ledger: AsyncSessionLedger = request.app.state.ledger
    return ledger.for_user(x_user)


Sessions = Annotated[AsyncSessionLedger, Depends(sessions_of)]


async def ask_model(content: str) -> str:
    """Return an answer; put your model in its place."""
    return f"You said: {content}"


@app.exception_handler(LedgerError)
async def refuse(_: Request, error: LedgerError) -> JSONResponse:
    """Answer with an error's code and message, which never contain values of a session."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 503 if error.retryable else 500)
    return JSONResponse({"code": error.code, "message": str(error)}, status)


@app.post("/sessions", status_code=201)
async def create(question: Question, sessions: Sessions) -> dict[str, str]:
    """Create a session."""
    return {"session_id": await sessions.create_session(question=question.question)}


@app.get("/sessions")
async def newest(sessions: Sessions, after: str | None = None) -> dict[str, Any]:
    """Return a page of sessions, newest first, and the cursor of the next one."""
    page = await sessions.list_sessions(limit=20, after=after)
    return {"sessions": [session.to_dict() for session in page], "next": page.next}


@app.get("/sessions/{session_id}")
async def read(session_id: str, sessions: Sessions, version: int | None = None) -> dict[str, Any]:
    """Return a session and its messages, also as it was at a version."""
    session = await sessions.require_session(session_id, version=version, messages=True)
    return session.to_dict()


@app.post("/sessions/{session_id}/messages", status_code=201)
async def say(
    session_id: str, message: NewMessage, sessions: Sessions, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, Any]:
    """Record a message and its answer; a request that is sent again with its key gets the recorded answer.

    Of requests with one key that arrive at once, each may ask the model. The first answer that is recorded is that of
    all of them.
    """
    said = await sessions.add_message(session_id, "user", message.content, event_id=idempotency_key)
    # The message id and the key of the one answer. A fork has the messages of its source, also one that answers a
    # message with the same key, so the id names the session.
    answer_id = f"{session_id}/{said.event_id}/answer"
    answer = await recorded_answer(sessions, session_id, answer_id)
    if answer is None:
        text = await ask_model(message.content)
        with suppress(IdempotencyConflict):  # another request has recorded another answer meanwhile
            await sessions.add_message(session_id, "assistant", text, message_id=answer_id, event_id=answer_id)
        answer = await recorded_answer(sessions, session_id, answer_id)
    if answer is None:
        raise HTTPException(409, "This message was taken back by a rewind; send it with another key.")
    return {"answer": answer.content, "version": answer.version, "replayed": said.replayed}


async def recorded_answer(sessions: AsyncSessionLedger, session_id: str, answer_id: str) -> Message | None:
    """Return the message with this id; None if the session has none."""
    messages = await sessions.get_messages(session_id)
    return next((it for it in messages if it.message_id == answer_id), None)
