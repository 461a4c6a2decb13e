"""An agent on Threadline: a loop of a model and its tools that survives being killed between any two instructions.

Every step (a question was heard, the model replied, a tool answered) is one `aput_state`: the state, the message for
the log, and a name for the checkpoint, in one commit. So the stored state always says where the agent stands, and
`work` needs to know nothing else: it looks for a tool call without a result, and else asks the model.

A state remembers which version it was loaded from. Should two processes work on one thread, the slower one's put
raises ConflictError instead of overwriting what the other did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from threadline import AgentState, BaseCheckpointer, Message, ToolCallBlock, ToolResultBlock


class TripState(AgentState):
    """What this agent keeps beside the conversation."""

    notes: list[str] = Field(default_factory=list)


Model = Callable[[Sequence[Message]], Awaitable[Message]]
Tool = Callable[..., Awaitable[str]]


class Agent:
    """Works on one thread of `memory`, with a model and tools by name."""

    def __init__(
        self,
        memory: BaseCheckpointer,
        config: Mapping[str, Any],
        model: Model,
        tools: Mapping[str, Tool],
    ) -> None:
        self.memory, self.config, self.model, self.tools = memory, config, model, tools

    async def ask(self, question: str) -> Message:
        """Hear a question and work until it is answered."""
        state = await self.load()
        await self.keep(state, Message.text_message(question), "question")
        return await self.work(state)

    async def resume(self) -> Message | None:
        """Finish the turn in which a process before this one ended, if there is one."""
        state = await self.load()
        return await self.work(state) if state.context else None

    async def load(self) -> TripState:
        """The state as it was last put."""
        config = {**self.config, "state_class": TripState}
        return await self.memory.aget_state(config) or TripState()

    async def work(self, state: TripState) -> Message:
        """Do what is still to be done in this turn, and nothing that was done before."""
        while True:
            if calls := open_calls(state.context):
                result = await self.use(state, calls[0])
                await self.keep(state, result, calls[0].name)
            elif is_answer(state.context[-1]):
                return state.context[-1]
            else:
                reply = await self.model(state.context)
                await self.keep(state, reply, "answer" if is_answer(reply) else "plan")

    async def use(self, state: TripState, call: ToolCallBlock) -> Message:
        """Run the tool that the model called."""
        output = await self.tools[call.name](state, **call.args)
        return Message.tool_message(output, call_id=call.id, name=call.name)

    async def keep(self, state: TripState, message: Message, step: str) -> int:
        """Store a step: the state that it leads to and its message, in one commit. Returns the version."""
        state.context.append(message)
        state.set_current_node(step)
        state.advance_step()
        checkpoint = await self.memory.aput_state(
            self.config, state, name=f"turn-{turns(state.context)}-{step}", messages=[message]
        )
        return checkpoint.version


def open_calls(context: Sequence[Message]) -> list[ToolCallBlock]:
    """The tool calls that have no result yet."""
    blocks = [block for message in context for block in message.content]
    answered = {block.call_id for block in blocks if isinstance(block, ToolResultBlock)}
    calls = [block for block in blocks if isinstance(block, ToolCallBlock)]
    return [call for call in calls if call.id not in answered]


def is_answer(message: Message) -> bool:
    """Whether a message ends a turn."""
    return message.role == "assistant" and not message.tools_calls


def turns(context: Sequence[Message]) -> int:
    """How many questions were asked."""
    return sum(message.role == "user" for message in context)
