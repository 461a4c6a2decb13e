"""The tools of the demo's agent. Each is a plain async function that takes the state and its own arguments.

A tool may change the state (`take_note`): its change and its result are then stored in one commit.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping

from threadline.demo.agent import Tool, TripState

FORECASTS = {
    "Oslo": "Saturday 14 degrees and dry, Sunday 13 degrees and dry",
    "Bergen": "Saturday 11 degrees and rain, Sunday 12 degrees and heavy rain",
}
PRICES = {"train to Oslo, return": 78, "hotel in Oslo, a night": 105}

_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


async def weather(state: TripState, city: str) -> str:
    """The forecast for the weekend."""
    return FORECASTS.get(city, f"no forecast for {city}")


async def price(state: TripState, item: str) -> str:
    """What something costs, in euros."""
    return f"{PRICES[item]} euros" if item in PRICES else f"no price for {item}"


async def calculate(state: TripState, expression: str) -> str:
    """Plain arithmetic: numbers, + - * / and parentheses."""
    return f"{_value(ast.parse(expression, mode='eval').body):g}"


async def take_note(state: TripState, text: str) -> str:
    """Keep a note for later."""
    state.notes.append(text)
    return f"noted, that makes {len(state.notes)}"


TOOLS: Mapping[str, Tool] = {
    "weather": weather,
    "price": price,
    "calculate": calculate,
    "take_note": take_note,
}


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
    raise ValueError(f"{ast.unparse(node)} is no arithmetic")
