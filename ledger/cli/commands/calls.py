"""The commands that list tool calls, and record a call of a language model."""

from __future__ import annotations

from typing import Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.write import with_envelope
from ledger.cli.output.shapes import print_appended, print_json
from ledger.cli.session_ids import session_argument

COMMANDS: dict[str, click.Command] = {}


@command("tool-calls", "ledger tool-calls SESSION_ID", "ledger tool-calls SESSION_ID --json", into=COMMANDS)
@session_argument
def tool_calls(as_json: bool, url: str | None, session_id: str) -> None:
    """List the tool calls of a session, with the times at which they started and how long they took."""
    with opened(url) as ledger:
        calls = ledger.get_tool_calls(session_id)
    if as_json:
        print_json({"session_id": session_id, "tool_calls": [call.to_dict() for call in calls]})
    else:
        from ledger.cli.output.render import show_tool_calls

        show_tool_calls(calls)


@command(
    "model-call",
    "ledger model-call SESSION_ID gemini-2.5-flash --input-tokens 1200 --output-tokens 80 --duration-ms 950",
    into=COMMANDS,
)
@session_argument
@click.argument("model")
@click.option("--provider", help="Who serves the model, such as google.")
@click.option("--operation", help="The kind of call, such as chat.")
@click.option("--input-tokens", type=int, help="Tokens of the prompt, with cached ones.")
@click.option("--output-tokens", type=int, help="Tokens of the answer, with those of its reasoning.")
@click.option("--cached-input-tokens", type=int, help="Input tokens that came from a cache.")
@click.option("--reasoning-tokens", type=int, help="Output tokens that were spent on reasoning.")
@click.option("--cost-usd", type=float, help="Price of the call, in US dollars.")
@click.option("--duration-ms", type=float, help="Milliseconds until the answer was complete.")
@click.option("--time-to-first-token-ms", type=float, help="Milliseconds until its first token.")
@click.option("--finish-reason", help="Why the model stopped, such as stop.")
@click.option("--message-id", help="The message that the call produced.")
@click.option("--error", metavar="MESSAGE", help="The error, if the call failed.")
@click.option("--error-type", metavar="TYPE", default="Error", show_default=True, help="The type of the error.")
@click.option("--id", "call_id", help="Your own id of the call; an existing call with this id is replaced.")
@with_envelope
def model_call(
    as_json: bool, url: str | None, session_id: str, model: str, error: str | None, error_type: str, **options: Any
) -> None:
    """Record a call of a language model: its tokens, price and duration."""
    if error is not None:
        options["error"] = {"type": error_type, "message": error}
    with opened(url) as ledger:
        print_appended(ledger.record_model_call(session_id, model, **options), as_json)
