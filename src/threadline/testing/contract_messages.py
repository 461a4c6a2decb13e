"""What must be true of the message log: its order, its ids, and what takes messages away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from threadline.backend import EntryPut
from threadline.codec.envelope import Where
from threadline.errors import ConflictError, NotStorableError, ThreadNotFoundError
from threadline.model import AgentState, Message, TextBlock, TokenUsages, ToolCallBlock
from threadline.store import Entry, EntryQuery, item_digest
from threadline.testing.faces import Face, FaceTests, at, changes_nothing, ids_of, picture, said


class MessagesContract(FaceTests):
    """Putting and reading messages."""

    async def test_p5_messages_keep_their_order(self, face: Face) -> None:
        """That of the calls, and in each that of its list; whatever their ids and timestamps say."""
        first, second = said("one", "two", "three", ids="z"), said("four", "five", ids="a")
        second[0].timestamp = 0.0
        await face.aput_messages(at(), first)
        await face.aput_messages(at(), second)
        for other in (face, face.twin()):
            assert await other.alist_messages(at()) == first + second
            assert await other.collect("aiter_messages", at()) == first + second
            assert await other.aget_message(at(), "a1") == second[0]
        assert await face.aget_message(at(), "none") is None
        assert await face.aget_state(at()) is None

    async def test_p9_a_message_loses_no_field(self, face: Face) -> None:
        """Every field comes back equal, with its types."""
        message = Message(
            message_id="x" * 1024,
            role="assistant",
            content=[TextBlock(text="so"), ToolCallBlock(id="c", name="f", args={"n": 2**70})],
            delta=True,
            reasoning="because",
            name="bot",
            timestamp=1.5,
            metadata={"tuple": (1, 1.0, True), "bytes": b"\x00", "when": None},
            usages=TokenUsages(completion_tokens=1, prompt_tokens=2, total_tokens=3),
            raw={"provider": {"id": "r"}, "": []},
        )
        message.tools_calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
        await face.aput_messages(at(), [message])
        (found,) = await face.twin().alist_messages(at())
        assert found == message
        assert repr(found) == repr(message)

    async def test_p9_messages_are_put_by_value(self, face: Face) -> None:
        """Changing one after putting or getting it changes nothing that is stored."""
        (message,) = put = said("one")
        message.metadata = {"a": [1]}
        metadata = {"b": [2]}
        await face.aput_messages(at(), put, metadata)
        message.metadata["a"].append(9)
        metadata["b"].append(9)
        message.content.clear()
        put.clear()
        for _ in range(2):
            found = await face.aget_message(at(), "m1")
            assert (found.text(), found.metadata) == ("one", {"b": [2], "a": [1]})
            found.metadata["a"].append(8)
            found.metadata["b"].append(8)

    async def test_p5_putting_again_replaces_in_place(self, face: Face) -> None:
        """The position stays, the content is the new one, and the metadata put beside it stays."""
        await face.aput_messages(at(), said("one", "two", "three"), {"node": "a"})
        again = Message.text_message("TWO", "assistant", "m2", {"own": 1}, name="n")
        await face.aput_messages(at(), [*said("four", ids="n"), again])
        found = await face.alist_messages(at())
        assert ids_of(found) == ["m1", "m2", "m3", "n1"]
        assert (found[1].text(), found[1].role, found[1].name) == ("TWO", "assistant", "n")
        assert found[1].metadata == {"node": "a", "own": 1}
        assert await face.alist_messages(at(), metadata={"node": "a"}) == found[:3]
        await face.aput_messages(at(), said("one"), {"node": "b"})
        assert ids_of(await face.alist_messages(at(), metadata={"node": "b"})) == ["m1"]
        assert ids_of(await face.alist_messages(at(), metadata={"node": "a"})) == ["m2", "m3"]

    async def test_p5_duplicates_may_be_ignored(self, face: Face) -> None:
        """Then what is there stays as it is, and what is new is put."""
        await face.aput_messages(at(), said("one", "two"), {"k": 1})
        new = said("ONE", "TWO", "three")
        await face.aput_messages(at(), new, {"k": 2}, on_duplicate="ignore")
        found = await face.alist_messages(at())
        assert [m.text() for m in found] == ["one", "two", "three"]
        assert [m.metadata for m in found] == [{"k": 1}, {"k": 1}, {"k": 2}]
        put = partial(face.aput_messages, at(), new, on_duplicate="other")
        await changes_nothing(face, at(), put, ValueError)

    async def test_p5_an_id_twice_in_a_batch(self, face: Face) -> None:
        """Its first place, its last content; with "ignore" its first content."""
        batch = said("one", "two") + said("ONE")
        await face.aput_messages(at("a"), batch)
        await face.aput_messages(at("b"), batch, on_duplicate="ignore")
        assert [m.text() for m in await face.alist_messages(at("a"))] == ["ONE", "two"]
        assert [m.text() for m in await face.alist_messages(at("b"))] == ["one", "two"]

    async def test_p9_metadata_stands_beside_the_messages(self, face: Face) -> None:
        """Reading shows it; the message's own keys win; any storable value; and it is filtered by."""
        one, two = said("one", "two")
        two.metadata = {"node": "own"}
        beside = {"node": "tool", "step": 3, "t": (1, 2), "日本": {"": None}, "lone": "\udc80"}
        await face.aput_messages(at(), [one, two], beside)
        found = await face.alist_messages(at())
        assert [m.metadata for m in found] == [beside, {**beside, "node": "own"}]
        for key, value in beside.items():
            wanted = found[:1] if key == "node" else found
            assert await face.alist_messages(at(), metadata={key: value}) == wanted
        assert await face.alist_messages(at(), metadata={"node": "own"}) == found[1:]
        assert await face.alist_messages(at(), metadata={"step": True}) == []
        assert await face.alist_messages(at(), metadata={"t": [1, 2]}) == []
        for wrong, error in (({"x": object()}, NotStorableError), (["x"], TypeError)):
            put = partial(face.aput_messages, at(), [one], wrong)
            await changes_nothing(face, at(), put, error)

    async def test_p2_a_refused_batch_writes_nothing(self, face: Face) -> None:
        """Not the messages before the bad one, and not the thread."""
        one, bad = said("one", "bad")
        bad.metadata = {"x": object()}
        wrong: list[tuple[Any, type[Exception]]] = [
            ([one, bad], NotStorableError),
            ([one, "two"], TypeError),
            ([one, None], TypeError),
            ([one, {"role": "user"}], TypeError),
            (one, TypeError),
            ("text", TypeError),
            ([one, Message.text_message("x", message_id="")], ValueError),
            ([one, Message.text_message("x", message_id="x" * 1025)], ValueError),
            ([one, Message.text_message("x", message_id="a\nb")], ValueError),
        ]
        for messages, error in wrong:
            with pytest.raises(error):
                await face.aput_messages(at(), messages)
        assert await face.aget_thread(at()) is None
        await face.aput_messages(at(), [])
        assert await face.alist_messages(at()) == []

    async def test_p5_pages_of_a_log(self, face: Face) -> None:
        """limit, offset, after and last, alone and together, over more than one page of any store."""
        messages = said(*(f"text {n}" for n in range(1, 1203)))
        messages[600].role = "assistant"
        await face.aput_messages(at(), messages)

        async def listed(**options: Any) -> list[Message]:
            found: list[Message] = await face.alist_messages(at(), **options)
            return found

        assert await listed() == messages
        assert await listed(limit=3) == messages[:3]
        assert await listed(offset=1200) == messages[1200:]
        assert await listed(limit=700, offset=499) == messages[499:1199]
        assert await listed(offset=5000) == []
        assert await listed(after="m1200") == messages[1200:]
        assert await listed(after="m10", limit=2, offset=1) == messages[11:13]
        assert await listed(after="m1202") == []
        assert await listed(last=3) == messages[-3:]
        assert await listed(last=5000) == messages
        assert await listed(last=2, after="m1201") == messages[-1:]
        assert await listed(role="assistant") == [messages[600]]
        assert await listed(role="user", last=1) == messages[-1:]
        assert await face.collect("aiter_messages", at(), after="m2") == messages[2:]

    async def test_p9_a_role_that_no_message_has_is_refused(self, face: Face) -> None:
        """A filter that can find nothing is a mistake, and the roles that there are are named."""
        await face.aput_messages(at(), said("x"))
        asked: tuple[Callable[[Any], Any], ...] = (
            lambda role: face.alist_messages(at(), role=role),
            lambda role: face.collect("aiter_messages", at(), role=role),
            lambda role: face.asearch_messages({}, "x", role=role),
        )
        for ask in asked:
            for role in ("robot", "User", "", "user\0", "\ud800"):
                with pytest.raises(ValueError, match="user, assistant, system, tool"):
                    await ask(role)
            with pytest.raises(TypeError):
                await ask(7)
            assert await ask("developer") == []

    async def test_p5_limits_of_a_log_are_checked(self, face: Face) -> None:
        """1 or more (an offset 0 or more), ints and no bools; after names a message that is there."""
        await face.aput_messages(at(), said("one", "two"))
        wrong: list[tuple[dict[str, Any], type[Exception]]] = [
            *(({name: 0}, ValueError) for name in ("limit", "last")),
            *(({name: -1}, ValueError) for name in ("limit", "last", "offset")),
            *(({name: True}, TypeError) for name in ("limit", "last", "offset")),
            *(({name: "1"}, TypeError) for name in ("limit", "last", "offset")),
            *(({name: 1.0}, TypeError) for name in ("limit", "last", "offset")),
            ({"last": 1, "limit": 1}, ValueError),
            ({"last": 1, "offset": 1}, ValueError),
            ({"after": "none"}, ValueError),
            ({"after": 7}, TypeError),
            ({"search": 7}, TypeError),
        ]
        for options, error in wrong:
            with pytest.raises(error):
                await face.alist_messages(at(), **options)
        assert len(await face.alist_messages(at(), offset=0)) == 2
        for n, kind in ((0, ValueError), (-1, ValueError), (True, TypeError), ("1", TypeError)):
            await changes_nothing(face, at(), partial(face.apop_messages, at(), n), kind)

    async def test_p2_concurrent_puts_are_each_whole(self, face: Face) -> None:
        """16 tasks with 5 messages each: all there, and the five of a task side by side and in order."""
        batches = [said("a", "b", "c", "d", "e", ids=f"t{n}-") for n in range(16)]
        await asyncio.gather(*(face.aput_messages(at(), batch) for batch in batches))
        ids = ids_of(await face.alist_messages(at()))
        wanted = sorted(ids_of(batch) for batch in batches)
        assert sorted(ids[n : n + 5] for n in range(0, 80, 5)) == wanted


class RemovalContract(FaceTests):
    """Taking messages away, and replacing them."""

    async def test_p7_a_deleted_message_is_gone(self, face: Face) -> None:
        """From the log and from search; states that hold it keep it; its id may be used again, at the end."""
        messages = said("one", "two", "three")
        await face.aput_state(at(), AgentState(context=messages), messages=messages)
        assert await face.adelete_message(at(), "m2") is True
        assert await face.adelete_message(at(), "m2") is False
        assert await face.adelete_message(at("none"), "m2") is False
        for other in (face, face.twin()):
            assert ids_of(await other.alist_messages(at())) == ["m1", "m3"]
            assert await other.aget_message(at(), "m2") is None
            assert await other.alist_messages(at(), search="two") == []
            assert ids_of((await other.aget_state(at())).context) == ["m1", "m2", "m3"]
        await face.aput_messages(at(), [messages[1]])
        assert ids_of(await face.alist_messages(at())) == ["m1", "m3", "m2"]

    async def test_p2_pop_takes_the_newest(self, face: Face) -> None:
        """In the order of the log, and no more than there are."""
        messages = said("one", "two", "three")
        await face.aput_messages(at(), messages)
        assert await face.apop_messages(at()) == messages[2:]
        assert await face.apop_messages(at(), 5) == messages[:2]
        assert await face.apop_messages(at()) == []
        assert await face.apop_messages(at("none")) == []
        assert await face.aget_thread(at("none")) is None
        await face.aput_messages(at(), said("four", ids="n"))
        assert ids_of(await face.alist_messages(at())) == ["n1"]

    async def test_p2_pop_gives_a_message_once(self, face: Face) -> None:
        """However many take at once, each message comes out exactly once."""
        await face.aput_messages(at(), said(*map(str, range(20))))
        popped = await asyncio.gather(*(face.apop_messages(at(), 2) for _ in range(12)))
        ids = [message.message_id for batch in popped for message in batch]
        assert sorted(ids) == sorted(f"m{n}" for n in range(1, 21))
        assert await face.alist_messages(at()) == []

    async def test_p6_a_tail_is_replaced(self, face: Face) -> None:
        """If it is what the caller expects, by id or by content; else nothing happens."""
        messages = said("one", "two", "three")
        await face.aput_messages(at(), messages)
        new = said("TWO", "THREE", "FOUR", ids="n")
        replace = face.areplace_messages
        wrong: list[Any] = [["m2"], ["m3", "m2"], [], ["m2", "m3", "m4"], [messages[1], new[0]]]
        wrong.append([messages[1], said("a", "b", "changed")[2]])
        for tail in wrong:
            call = partial(replace, at(), after="m1", expected_tail=tail, messages=new)
            await changes_nothing(face, at(), call, ConflictError)
        await replace(at(), after="m1", expected_tail=["m2", messages[2]], messages=new)
        assert await face.alist_messages(at()) == [messages[0], *new]
        await replace(at(), after="n3", expected_tail=[], messages=said("five", ids="o"))
        assert ids_of(await face.alist_messages(at()))[-2:] == ["n3", "o1"]
        everything = ids_of(await face.alist_messages(at()))
        await replace(at(), after=None, expected_tail=everything, messages=messages[:1])
        assert await face.alist_messages(at()) == messages[:1]
        missing = partial(replace, at(), after="none", expected_tail=[], messages=new)
        await changes_nothing(face, at(), missing, ValueError)

    async def test_p6_a_race_for_a_tail_has_one_winner(self, face: Face) -> None:
        """Of eight that expect the same tail one replaces it."""
        await face.aput_messages(at(), said("one", "two"))
        calls = [
            face.areplace_messages(
                at(), after="m1", expected_tail=["m2"], messages=said("a", "b", ids=f"t{n}-")
            )
            for n in range(8)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(type(r).__name__ for r in results) == ["ConflictError"] * 7 + ["NoneType"]
        winner = results.index(None)
        wanted = ["m1", f"t{winner}-1", f"t{winner}-2"]
        assert ids_of(await face.alist_messages(at())) == wanted

    async def test_p7_clearing_leaves_thread_and_states(self, face: Face) -> None:
        """It says how many there were."""
        await face.aput_state(at(), {"n": 1}, messages=said("one", "two"))
        await face.aput_messages(at(namespace="x"), said("other"))
        assert await face.aclear_messages(at()) == 2
        assert await face.aclear_messages(at()) == 0
        assert await face.aclear_messages(at("none")) == 0
        assert await face.alist_messages(at()) == []
        assert await face.alist_messages(at(), search="one") == []
        assert await face.aget_state(at()) == {"n": 1}
        assert len(await face.alist_messages(at(namespace="x"))) == 1
        assert (await face.aget_thread(at())).message_count == 1

    async def test_p7_redaction_takes_the_content_everywhere(self, face: Face) -> None:
        """Log, search, every version and namespace, forks; a tombstone stays; positions and versions hold."""
        secret = Message.text_message("secret", "assistant", "s", {"k": "secret"}, name="secret")
        state = AgentState(context=[*said("one"), secret])
        await face.aput_state(at(), state, messages=[*said("one"), secret, *said("two", ids="n")])
        await face.aappend(at(), said("three", ids="o"))
        await face.aput_state(at(namespace="x"), AgentState(context=[secret]))
        await face.aput_messages(at(), [secret], {"beside": "secret"})
        await face.aput_state(at("fork"), await face.aget_state(at()))
        await face.aget_state(at())
        receipt = await face.aredact(at(), "s")
        assert receipt["message_id"] == "s"
        assert set(receipt["threads"]) == {"t", "fork"}
        assert receipt["forks_of_others"] == []
        assert all(count > 0 for count in receipt["threads"].values())
        for other in (face, face.twin()):
            assert ids_of(await other.alist_messages(at())) == ["m1", "s", "n1"]
            tombs = [await other.aget_message(at(), "s")]
            for config in (at(), at(version=1), at(version=2), at(namespace="x"), at("fork")):
                found = await other.aget_state(config)
                tombs += [m for m in found.context if m.message_id == "s"]
            assert len(tombs) == 6
            assert {(tomb.text(), tomb.role, tomb.name) for tomb in tombs} == {
                ("", "assistant", None)
            }
            assert not any("secret" in repr(tomb) for tomb in tombs)
            assert await other.alist_messages(at(), search="secret") == []
            assert await other.asearch_messages({}, "secret") == []
        assert (await face.aappend(at(), said("four", ids="p"))).version == 3
        assert ids_of((await face.aget_state(at())).context) == ["m1", "s", "o1", "p1"]

    async def test_p7_redaction_can_be_repeated(self, face: Face) -> None:
        """And touches nothing where there is no such message."""
        await face.aput_state(at(), AgentState(context=said("one")), messages=said("one"))
        before = await picture(face, at())
        receipt = await face.aredact(at(), "none")
        assert receipt.pop("scrubbed") is not False
        assert receipt == {"message_id": "none", "threads": {"t": 0}, "forks_of_others": []}
        assert await picture(face, at()) == before
        await face.aredact(at(), "m1")
        tomb = await face.aget_message(at(), "m1")
        await face.aredact(at(), "m1")
        assert await face.aget_message(at(), "m1") == tomb
        await face.aput_messages(at(), said("again"))
        assert (await face.aget_message(at(), "m1")).text() == "again"

    async def test_p5_entries_without_ids_live_beside_messages(self, face: Face) -> None:
        """Other kinds, with or without ids, keep their place in the log and are no messages."""
        store = face.store
        await face.aput_messages(at(), said("one"))
        data = [face.target.store.seal(b"item %d" % n, Where("entry")) for n in range(2)]
        puts = tuple(
            EntryPut(
                Entry(kind="item", payload=each.data, digest=item_digest(0, b""), search="one")
            )
            for each in data
        )
        commit = await store.acommit(await store.abatch(at(), "items", entries=puts))
        assert commit.seqs == tuple(sorted(commit.seqs))
        await face.aput_messages(at(), said("x", "two"))
        entries = await store.aread(at(), EntryQuery())
        assert [entry.ext_id for entry in entries] == ["m1", None, None, "m2"]
        opened = [store.open(entry.payload, Where("entry")) for entry in entries[1:3]]
        assert opened == [b"item 0", b"item 1"]
        assert ids_of(await face.alist_messages(at())) == ["m1", "m2"]
        assert await face.alist_messages(at(), search="one") == []
        assert len(await store.aread(at(), EntryQuery(newest=True, limit=3))) == 3
        assert await face.aclear_messages(at()) == 4


#: The writes that need a thread, each with what it answers where there is none.
EMPTY: list[tuple[str, Callable[[Face, Any], Any], Any]] = [
    ("delete", lambda face, config: face.adelete_message(config, "m1"), False),
    ("pop", lambda face, config: face.apop_messages(config), []),
    ("clear", lambda face, config: face.aclear_messages(config), 0),
]


class DeletedLogContract(FaceTests):
    """The log of a thread that was deleted."""

    async def test_p7_a_new_life_begins_empty(self, face: Face) -> None:
        """Nothing of the old log is found, and nothing can be taken from it."""
        await face.aput_messages(at(), said("one", "two"))
        await face.adelete_thread(at())
        for _ in range(2):
            assert await face.alist_messages(at()) == []
            assert await face.aget_message(at(), "m1") is None
            assert await face.alist_messages(at(), search="one") == []
            assert await face.asearch_messages({}, "one") == []
            for _, call, wanted in EMPTY:
                assert await call(face, at()) == wanted
            with pytest.raises((ConflictError, ThreadNotFoundError)):
                await face.areplace_messages(
                    at(), after=None, expected_tail=["m1", "m2"], messages=said("x")
                )
            await face.aput_state(at(), {"n": 1})
