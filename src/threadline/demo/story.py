"""What is asked, and the model that answers: a script in place of a language model, so that no key is needed.

`model` looks at nothing but the conversation, as a language model does: which turn it is, what it said in this turn,
and what the tools answered. Its numbers are the tools' own. Everything else in the demo is real.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from threadline import Message, TextBlock, ToolCallBlock, ToolResultBlock
from threadline.demo.agent import turns

THREAD, USER = "weekend", "alice"

QUESTIONS = (
    "I have 400 euros for a weekend away, in Oslo or Bergen. Where will it be dry?",
    "Then Oslo. What do the train and two nights cost, and what is left of my 400 euros?",
    "And if I stay a third night?",
)
#: In this call the first process is killed: the second of two that the model asked for at once, in the second turn.
FATAL_CALL = "call-2-2"

Results = Mapping[str, str]
Step = Callable[[Results], Message]


async def model(context: Sequence[Message]) -> Message:
    """The next message of the assistant."""
    start = max(at for at, message in enumerate(context) if message.role == "user")
    said = sum(message.role == "assistant" for message in context[start:])
    return _SCRIPT[turns(context) - 1][said](_results(context))


def _results(context: Sequence[Message]) -> dict[str, str]:
    """What the tools answered, by the id of the call."""
    blocks = [block for message in context for block in message.content]
    return {block.call_id: block.output for block in blocks if isinstance(block, ToolResultBlock)}


def _call(number: str, tool: str, **arguments: Any) -> ToolCallBlock:
    return ToolCallBlock(id=f"call-{number}", name=tool, args=arguments)


def _says(text: str, *calls: ToolCallBlock) -> Message:
    return Message(role="assistant", content=[TextBlock(text=text), *calls])


def _euros(result: str) -> int:
    return int(result.split()[0])


# Turn 1 -----------------------------------------------------------------------------------------------


def _look_at_the_sky(results: Results) -> Message:
    oslo, bergen = _call("1-1", "weather", city="Oslo"), _call("1-2", "weather", city="Bergen")
    return _says("I will look at both forecasts.", oslo, bergen)


def _compare(results: Results) -> Message:
    return _says(
        f"Oslo: {results['call-1-1']}. Bergen: {results['call-1-2']}. Take Oslo, and no umbrella."
    )


# Turn 2 -----------------------------------------------------------------------------------------------


def _ask_for_prices(results: Results) -> Message:
    return _says(
        "I will look up both prices.",
        _call("2-1", "price", item="train to Oslo, return"),
        _call("2-2", "price", item="hotel in Oslo, a night"),
    )


def _add_up(results: Results) -> Message:
    train, night = _euros(results["call-2-1"]), _euros(results["call-2-2"])
    return _says("", _call("2-3", "calculate", expression=f"400 - {train} - 2 * {night}"))


def _note_two_nights(results: Results) -> Message:
    left = results["call-2-3"]
    return _says("", _call("2-4", "take_note", text=f"Oslo, two nights: {left} euros left"))


def _tell_the_price(results: Results) -> Message:
    train, night, left = (results[f"call-2-{number}"] for number in (1, 2, 3))
    return _says(f"The train is {train}, a night {night}. With two nights {left} euros are left.")


# Turn 3 -----------------------------------------------------------------------------------------------


def _one_night_more(results: Results) -> Message:
    left, night = results["call-2-3"], _euros(results["call-2-2"])
    return _says("", _call("3-1", "calculate", expression=f"{left} - {night}"))


def _note_three_nights(results: Results) -> Message:
    left = results["call-3-1"]
    return _says("", _call("3-2", "take_note", text=f"Oslo, three nights: {left} euros left"))


def _warn(results: Results) -> Message:
    left = results["call-3-1"]
    return _says(f"It fits, but only {left} euros are left then: bring sandwiches. I noted both.")


_SCRIPT: tuple[tuple[Step, ...], ...] = (
    (_look_at_the_sky, _compare),
    (_ask_for_prices, _add_up, _note_two_nights, _tell_the_price),
    (_one_night_more, _note_three_nights, _warn),
)
