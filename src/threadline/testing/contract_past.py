"""What can be done with a past: naming, rolling back, forking, verifying, carrying it to another store."""

from __future__ import annotations

import asyncio
import dataclasses
import io
from typing import Any

import pytest

from threadline import clock
from threadline.checkpointer import InMemoryCheckpointer
from threadline.errors import ConflictError, ThreadNotFoundError
from threadline.history.retention import RetentionPolicy
from threadline.model import (
    AgentState,
    Message,
    ThreadInfo,
    TokenUsages,
    ToolCallBlock,
    ToolResultBlock,
)
from threadline.testing.faces import Face, FaceTests, at, said


async def _grown(face: Face, count: int = 40, **address: Any) -> AgentState:
    """A state put `count` times: a message and a field more each time, an edit and a trim now and then."""
    state = AgentState()
    for n in range(1, count + 1):
        message = Message.text_message(f"message {n}", message_id=f"m{n}")
        state.context.append(message)
        state.context_summary = f"summary {n} " * 8
        if n % 11 == 0:
            state.context[0].metadata["edited"] = n
        if n % 13 == 0:
            state.context = state.context[2:]
        await face.aput_state(at(**address), state, messages=[message])
    return state


async def _versions(face: Face, config: dict[str, Any]) -> dict[int, Any]:
    checkpoints = await face.alist_checkpoints(config)
    return {c.version: await face.aget_state({**config, "version": c.version}) for c in checkpoints}


def _call(call_id: str, tool: str, at_ms: int) -> Message:
    usages = TokenUsages(completion_tokens=2, prompt_tokens=10, total_tokens=12, reasoning_tokens=1)
    blocks = [ToolCallBlock(id=call_id, name=tool, args={"q": 1})]
    return Message(role="assistant", content=blocks, timestamp=at_ms / 1000, usages=usages)


def _result(call_id: str, at_ms: int, error: bool = False) -> Message:
    block = ToolResultBlock(call_id=call_id, output="x", is_error=error)
    message = Message.tool_message(block)
    message.timestamp = at_ms / 1000
    return message


class PastContract(FaceTests):
    """Naming and rolling back."""

    async def test_p5_a_name_can_be_given_later_and_moves_no_version(self, face: Face) -> None:
        """Several may share a name; the latest is found by it; None takes it away."""
        await _grown(face, 5)
        for version in (2, 4):
            named = await face.aname_checkpoint(at(version=version), "good")
            assert (named.version, named.name) == (version, "good")
        assert [c.version for c in await face.alist_checkpoints(at(), name="good")] == [4, 2]
        assert await face.aget_state(at(name="good")) == await face.aget_state(at(version=4))
        await face.aname_checkpoint(at(version=4), None)
        assert (await face.aget_checkpoint(at(name="good"))).version == 2
        assert (await face.aget_checkpoint(at())).version == 5
        with pytest.raises(ValueError, match="no checkpoint"):
            await face.aname_checkpoint(at(version=9), "x")
        with pytest.raises(ThreadNotFoundError):
            await face.aname_checkpoint(at(thread_id="none"), "x")

    async def test_p5_a_rollback_is_a_new_checkpoint(self, face: Face) -> None:
        """Nothing is erased, the old state is the head again, and work goes on from there."""
        await _grown(face)
        before = await _versions(face, at())
        back = await face.arollback(at(), 12, metadata={"why": "wrong turn"})
        assert (back.version, back.parent_version) == (41, 40)
        assert back.metadata == {"why": "wrong turn"}
        for other in (face, face.twin()):
            state = await other.aget_state(at(state_class=AgentState))
            assert state == before[12]
        state = await face.aget_state(at())
        state.context.append(Message.text_message("another way"))
        await face.aput_state(at(), state)
        assert await face.twin().aget_state(at(state_class=AgentState)) == state
        for version, old in before.items():
            assert await face.aget_state(at(version=version)) == old
        assert (await face.averify(at())).problems == []

    async def test_p6_a_rollback_respects_the_expected_version(self, face: Face) -> None:
        """`expected_version` other than the head is a conflict; a loaded state conflicts after it."""
        late = await _grown(face, 6)
        with pytest.raises(ConflictError):
            await face.arollback(at(), 2, expected_version=5)
        await face.arollback(at(), 2, expected_version=6)
        with pytest.raises(ConflictError):
            await face.aput_state(at(), late)
        for missing in (99, "no such name"):
            with pytest.raises(ValueError, match="no checkpoint"):
                await face.arollback(at(), missing)
        with pytest.raises(TypeError):
            await face.arollback(at(), True)

    async def test_a_number_that_no_store_can_hold_is_one_that_is_not_there(
        self, face: Face
    ) -> None:
        """Whatever a caller counts with."""
        await _grown(face, 2)
        await face.aclear_messages(at())
        await face.aput_messages(at(), [Message.text_message("one")])
        far = 2**70
        assert await face.aget_state(at(version=far)) is None
        assert len(await face.alist_checkpoints(at(), before=far, limit=far)) == 2
        assert len(await face.alist_messages(at(), limit=far)) == 1
        with pytest.raises(ValueError, match="no checkpoint"):
            await face.arollback(at(), far)
        assert len(await face.apop_messages(at(), far)) == 1

    async def test_p1_rollback_fork_and_name_happen_once(self, face: Face) -> None:
        """A retry with the same op_id gives the first result."""
        await _grown(face, 4)
        op_id = "ab" * 16
        first = await face.arollback(at(), 2, op_id=op_id)
        assert (await face.arollback(at(), 2, op_id=op_id)).version == first.version
        fork = await face.afork(at(), "fork", op_id="cd" * 16)
        again = await face.afork(at(), "fork", op_id="cd" * 16)
        assert again.version == fork.version == 1
        assert len(await face.alist_checkpoints(at(thread_id="fork"))) == 1

    async def test_p7_a_late_put_does_not_bring_redacted_content_back(self, face: Face) -> None:
        """Neither that of a state loaded before, nor of the object that was put before, in any process."""
        held = await _grown(face, 6)
        loaded = await face.twin().aget_state(at(state_class=AgentState))
        await face.aredact(at(), "m3")
        for late in (loaded, held):
            late.context.append(Message.text_message("late"))
        await face.twin().aput_state(at(), loaded)
        await face.aput_state(at(thread_id="t"), held, expected_version=7)
        pasts: list[dict[str, Any]] = [{}, {"version": 7}, {"version": 3}]
        for past in pasts:
            state = await face.twin().aget_state(at(state_class=AgentState, **past))
            assert "message 3" not in [message.text() for message in state.context]
        assert (await face.averify(at())).problems == []


class ForkContract(FaceTests):
    """Forking in the store."""

    async def test_a_fork_is_the_state_and_shares_nothing(self, face: Face) -> None:
        """At the head and in the past; ids stay; neither side sees the other's changes; the parent may go."""
        await _grown(face)
        await face.aput_thread(
            at(), ThreadInfo(thread_id="t", thread_name="Parent", metadata={"a": 1})
        )
        kept = await face.aget_state(at(version=17))
        await face.afork(at(version=17), "fork")
        fork = at(thread_id="fork")
        state = await face.aget_state(fork)
        assert state == kept
        assert [m.message_id for m in await face.alist_messages(fork)] == [
            f"m{n}" for n in range(1, 18)
        ]
        info = await face.aget_thread(fork)
        assert (info.thread_name, info.metadata) == ("Parent", {"a": 1})
        assert (info.forked_from.thread_id, info.forked_from.version) == ("t", 17)
        for n in range(30):
            state.context.append(Message.text_message(f"fork {n}"))
            await face.aput_state(fork, state)
        assert await face.aget_state(at(version=17)) == kept
        found = await face.alist_messages(fork, search="message 3")
        assert [m.message_id for m in found] == ["m3"]
        assert await face.adelete_thread(at())
        assert await face.twin().aget_state({**fork, "state_class": AgentState}) == state
        assert (await face.averify(fork)).problems == []

    async def test_p8_a_fork_inherits_the_owner(self, face: Face) -> None:
        """Whoever makes it; another user can neither fork nor see it."""
        await _grown(face, 3, user_id="alice")
        with pytest.raises(ThreadNotFoundError):
            await face.afork(at(user_id="bob"), "fork")
        await face.afork(at(), "fork")
        assert await face.aget_state(at(thread_id="fork", user_id="bob")) is None
        assert await face.aget_state(at(thread_id="fork", user_id="alice")) is not None

    async def test_a_fork_goes_only_where_nothing_is(self, face: Face) -> None:
        """Not into a thread with a state, nor into itself."""
        await _grown(face, 2)
        await face.aput_state(at(thread_id="taken"), {"n": 1})
        for thread_id in ("taken", "t"):
            with pytest.raises(ValueError):
                await face.afork(at(), thread_id)
        with pytest.raises(ThreadNotFoundError):
            await face.afork(at(thread_id="none"), "fork")
        assert await face.aget_state(at(thread_id="taken")) == {"n": 1}


class TransferContract(FaceTests):
    """Export, import and verify."""

    async def test_an_exported_thread_is_imported_equal(self, face: Face) -> None:
        """Into another store: every version, message, name, owner and lineage; and it goes on from there."""
        await _grown(face, user_id="alice")
        await face.aname_checkpoint(at(version=7), "seven")
        await face.aredact(at(), "m20")
        await face.arollback(at(), 30)
        await face.afork(at(version=9), "fork")
        file = io.BytesIO()
        written = await face.aexport({}, file)
        assert written["threads"] == 2
        other = Face(InMemoryCheckpointer(), face.mode)
        file.seek(0)
        read = await other.aimport(file) if face.mode == "async" else other.target.import_(file)
        assert read == {key: written[key] for key in ("threads", "checkpoints", "messages")}
        for config in (at(), at(thread_id="fork")):
            assert await _versions(other, config) == await _versions(face, config)
            assert await other.alist_messages(config) == await face.alist_messages(config)
            theirs, ours = (
                await other.alist_checkpoints(config),
                await face.alist_checkpoints(config),
            )
            plain = [[{**c.to_dict(), "incarnation": ""} for c in each] for each in (theirs, ours)]
            assert plain[0] == plain[1]
            assert (await other.averify(config)).problems == []
        assert (await other.aget_thread(at(thread_id="fork"))).forked_from.version == 9
        state = await other.aget_state(at(user_id="alice"))
        state.context.append(Message.text_message("elsewhere"))
        await other.aput_state(at(user_id="alice"), state)
        assert await other.aget_state(at(user_id="alice")) == state

    async def test_a_thread_that_is_written_to_is_verified(
        self, face: Face, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What moved while it was read is no fault: it is read again; and where that does not end, only what was found
        every time is one."""
        await _grown(face, 3)
        backend = face.target._engine.backend
        read, writes = backend.read_checkpoints, [1]

        async def meddled(*args: Any, **kwargs: Any) -> Any:
            if writes.pop():
                new = await face.target.aget_state(at())
                new.context.append(Message.text_message("meanwhile"))
                await face.target.aput_state(at(), new)
            return await read(*args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(backend, "read_checkpoints", meddled)
            writes[:] = [0, 0, 1]
            assert (await face.averify(at())).problems == []
            assert writes == [0]
            writes[:] = [1] * 100
            assert (await face.averify(at())).problems == []
            assert len(writes) == 95

            async def damaged(*args: Any, **kwargs: Any) -> Any:
                checkpoints = await meddled(*args, **kwargs)
                return [
                    dataclasses.replace(row, digest=bytes(32)) if row.version == 2 else row
                    for row in checkpoints
                ]

            patched.setattr(backend, "read_checkpoints", damaged)
            problems = (await face.averify(at())).problems
            assert [problem.partition(": ")[0] for problem in problems] == [
                f"thread 't', version {version}" for version in (3, 2)
            ]
        assert (await face.averify(at())).problems == []

    async def test_a_thread_is_verified_beside_a_busy_writer(self, face: Face) -> None:
        """Who grows, prunes and names it; nothing is ever wrong."""
        await _grown(face, 3)
        writer = face.twin()

        async def write() -> None:
            for number in range(40):
                said = [Message.text_message(f"busy {number}")]
                await writer.aappend(at(), said, log=True)
                if number % 8 == 7:
                    await writer.aprune(at(), policy=RetentionPolicy(keep_last=3))

        writing, problems = asyncio.create_task(write()), []
        while not writing.done():
            problems += (await face.averify(at())).problems
            await asyncio.sleep(0)
        await writing
        assert problems == (await face.averify(at())).problems == []

    async def test_what_is_stored_is_counted(self, face: Face) -> None:
        """Of a thread and of all of a user: checkpoints by name, messages, bytes."""
        await _grown(face, 5, user_id="alice")
        await _grown(face, 2, thread_id="u", user_id="alice", namespace="n")
        await _grown(face, 1, thread_id="v", user_id="bob")
        for version, name in ((1, "good"), (2, "good"), (3, "\u65e5")):
            await face.aname_checkpoint(at(version=version), name)
        told = await face.astats({"user_id": "alice"})
        assert (told["threads"], told["checkpoints"], told["messages"]) == (2, 7, 7)
        assert told["names"] == {"good": 2, "\u65e5": 1}
        assert [each["thread_id"] for each in told["by_thread"]] == ["t", "u"]
        assert told["bytes"] == sum(each["bytes"] for each in told["by_thread"]) > 0
        one = await face.astats(at("u"))
        assert (one["threads"], one["names"], one["by_thread"]) == (1, {}, told["by_thread"][1:])
        assert (await face.astats({}))["threads"] == 3

    async def test_tools_tokens_and_days_are_counted(self, face: Face) -> None:
        """In the store: by role, by tool with errors and times, by day; what is deleted is not counted any more."""
        day = 20_000 * 86_400_000_000
        with clock.use(wall_us=lambda: day + 1):
            first = [*said("hello"), _call("c1", "search", 1000), _result("c1", 3000)]
            await face.aput_messages(at(user_id="al"), first)
            await face.aput_state(at(user_id="al"), AgentState(), name="a")
        with clock.use(wall_us=lambda: day + 86_400_000_001):
            again = [_call("c1", "search", 1000), _result("c1", 1500, error=True)]
            await face.aput_messages(at(user_id="al"), again)
            more = [_call("c2", "f\u65e5", 0), _result("gone", 5), _call("c3", "search", 9)]
            await face.aput_messages(at("u", user_id="al", namespace="n"), more)
            await face.aput_state(at("u", user_id="al"), AgentState())
        await face.aput_messages(at("v", user_id="bo"), [_call("c1", "search", 0)])
        told = await face.astats({"user_id": "al"})
        assert told["roles"] == {"assistant": 4, "tool": 3, "user": 1}
        assert told["names"] == {"a": 1}
        assert told["tools"] == {
            "search": {"calls": 3, "errors": 1, "error_rate": 0.5, "unanswered": 1, "mean_seconds": 1.25},
            "f\u65e5": {"calls": 1, "errors": 0, "error_rate": 0.0, "unanswered": 1, "mean_seconds": None},
        }  # fmt: skip
        assert told["tokens"] == {
            "prompt": 40, "completion": 8, "total": 48, "reasoning": 4, "cached": 0
        }  # fmt: skip
        assert told["days"] == {
            "2024-10-04": {"messages": 3, "checkpoints": 1},
            "2024-10-05": {"messages": 5, "checkpoints": 1},
        }
        assert told["durations"]["longest_seconds"] == 86_400
        alone = await face.astats(at(user_id="al"))
        assert alone["tools"]["search"]["calls"] == 2
        everything = await face.astats({})
        assert everything["tools"]["search"]["calls"] == 4
        assert (await face.astats(at(user_id="bo")))["tools"] == {}
        assert (await face.astats(at("none")))["roles"] == {}
        await face.afork(at(user_id="al"), "w")
        assert (await face.astats(at("w", user_id="al")))["tools"] == alone["tools"]
        await face.adelete_message(at(user_id="al"), again[1].message_id)
        await face.aredact(at(user_id="al"), again[0].message_id)
        left = (await face.astats(at(user_id="al")))["tools"]["search"]
        assert (left["calls"], left["errors"]) == (1, 0)
        first[1].content.append(ToolCallBlock(id="c9", name="other"))
        await face.aput_messages(at(user_id="al"), [first[1]])
        assert (await face.astats(at(user_id="al")))["tools"]["other"]["calls"] == 1
        file = io.BytesIO()
        await face.aexport(at(user_id="al"), file)
        before = await face.astats(at(user_id="al"))
        file.seek(0)
        async with InMemoryCheckpointer() as other:
            await other.aimport(file)
            assert (await other.astats(at(user_id="al")))["tools"] == before["tools"]
        await face.adelete_thread(at(user_id="al"))
        assert (await face.astats(at(user_id="al")))["tools"] == {}

    async def test_a_damaged_file_imports_nothing(self, face: Face) -> None:
        """A flipped bit, a missing end, another format, and a thread that is there."""
        await _grown(face, 8)
        file = io.BytesIO()
        await face.aexport(at(), file)
        whole = file.getvalue()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        cut = b"".join(whole.splitlines(keepends=True)[:-1])
        other = InMemoryCheckpointer()
        for bad in (bytes(flipped), cut, whole + b"{}\n", b"{}\n", b"", whole[1:]):
            with pytest.raises(ValueError, match="line"):
                await other.aimport(io.BytesIO(bad))
        assert await other.alist_threads({}) == []
        with pytest.raises(ValueError, match="there already"):
            await face.target.aimport(io.BytesIO(whole))
        assert (await face.averify(at())).problems == []
