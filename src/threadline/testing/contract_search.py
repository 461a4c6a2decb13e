"""What must be true of searching: whole words, without regard to case and accents; any query is data."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from threadline.model import (
    AgentState,
    ErrorBlock,
    Message,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
)
from threadline.testing.faces import Face, FaceTests, at, ids_of, said

#: A log to search in; its messages are numbered from 1.
TEXTS = [
    "What is the weather in Oslo?",
    "Un café, s'il vous plaît",
    "日本語を勉強する",
    'She said "good morning" to all',
    "first line\nsecond line\r\n\tthird",
    "100% sure, snake_case and C++",
    "party 🎉 at eight",
    "Straße ΣΊΣΥΦΟΣ İstanbul ﬁle",
    "NEAR AND OR NOT col: weather*",
    "สวัสดีชาวโลก",
    "weathered, weatherproof",
]
#: A query, and the numbers of the messages that it finds.
FOUND: list[tuple[str, list[int]]] = [
    ("weather", [1, 9]),
    ("WEATHER oslo", [1]),
    ("oslo what", [1]),
    ("weath", []),
    ("eather", []),
    ("weather bergen", []),
    ("cafe", [2]),
    ("café", [2]),
    ("cafe\u0301", [2]),
    ("CAFÉ PLAIT", [2]),
    ("日本", [3]),
    ("日本語", [3]),
    ("勉強", [3]),
    ("本日", []),
    ("日語", []),
    ("日 語", [3]),
    ('"good morning"', [4]),
    ("good-morning", []),
    ("'morning'", [4]),
    ("“all”", [4]),
    ("s'il", [2]),
    ("line third", [5]),
    ("second\nline", [5]),
    ("line second", [5]),
    ("100%", [6]),
    ("%", [6]),
    ("_", [6]),
    ("snake_case", [6]),
    ("snakeXcase", []),
    ("c++", [6]),
    ("C+", [6]),
    ("🎉", [7]),
    ("🎊", []),
    ("party 🎉", [7]),
    ("strasse", [8]),
    ("σίσυφος", [8]),
    ("istanbul", [8]),
    ("file", [8]),
    ("สวัสดี", [10]),
    ("ชาว", [10]),
    ("weatherproof", [11]),
]
#: What a full-text engine, SQL or a pattern language would take as its own.
HOSTILE = [
    '"', '""', "'", "*", "weather*", "^weather", "NEAR(", "NEAR(weather oslo)", "NEAR(weather oslo, 5)",
    "col:weather", "search:weather", "{a b}:c", "weather AND oslo", "weather OR nothing", "NOT weather",
    "-weather", "+weather", "(", ")", "()", "weather)", "\\", "%' OR 1=1 --", "'; DROP TABLE entries; --",
    "_eather", "weathe_", "[a-z]*", "(?i)", ".*", "$1", ":1", "?", "\x00", "weather\x00", "\ud800", "\u202e",
    "AND", "OR", "NOT", "NEAR", "a" * 4096, "a " * 2048, '"' * 4096, "&", "|", "!", "<->", "weather & oslo",
]  # fmt: skip


class SearchContract(FaceTests):
    """Searching one thread's messages, and all threads'."""

    async def test_p9_words_are_found(self, face: Face) -> None:
        """As they stand in the tables above, in one thread and across threads, by every checkpointer alike."""
        await face.aput_messages(at(), said(*TEXTS))
        for other in (face, face.twin()):
            for query, numbers in FOUND:
                wanted = [f"m{number}" for number in numbers]
                found = ids_of(await other.alist_messages(at(), search=query))
                assert (query, found) == (query, wanted)
                across = await other.asearch_messages({}, query)
                assert sorted(m.message_id for _, m in across) == sorted(wanted)
                assert {thread_id for thread_id, _ in across} <= {"t"}

    async def test_p9_a_query_is_data(self, face: Face) -> None:
        """Nothing that a user types is syntax: it finds its own text, letter by letter, or nothing."""
        texts = [*TEXTS, *(f"say {query} again" for query in HOSTILE)]
        await face.aput_messages(at(), said(*texts))
        for number, query in enumerate(HOSTILE, len(TEXTS) + 1):
            found = ids_of(await face.alist_messages(at(), search=query))
            assert f"m{number}" in found, query
            across = await face.asearch_messages({}, query, limit=100)
            assert sorted(m.message_id for _, m in across) == sorted(found), query
        for operator in ("weather AND oslo", "NEAR(weather oslo)", "col:weather"):
            plain = await face.alist_messages(at(), search=operator)
            assert all(int(message.message_id[1:]) > len(TEXTS) for message in plain)

    async def test_p9_random_queries_never_fail(self, face: Face) -> None:
        """Any text is a query; one that is cut out of a message as words finds that message."""
        await face.aput_messages(at(), said(*TEXTS))
        source = random.Random(7)
        letters = "".join(TEXTS) + "\"'*():^-+{}[]%_\\\x00\u0301\u200d" + "AND OR NOT NEAR "
        for _ in range(150):
            query = "".join(source.choices(letters, k=source.randrange(1, 12)))
            await face.alist_messages(at(), search=query)
        for number, text in enumerate(TEXTS, 1):
            parts = text.split()
            cut = " ".join(source.sample(parts, k=min(2, len(parts))))
            found = ids_of(await face.alist_messages(at(), search=cut))
            assert f"m{number}" in found, cut

    async def test_p9_the_structure_is_never_matched(self, face: Face) -> None:
        """Only what a person reads: no JSON keys, no ids, no roles, no tool calls, no metadata."""
        message = Message(
            message_id="identity",
            role="assistant",
            content=[
                TextBlock(text="visible"),
                ToolCallBlock(id="callid", name="toolname", args={"argument": "value"}),
                ReasoningBlock(summary="thought"),
                ErrorBlock(message="failure"),
            ],
            metadata={"metakey": "metavalue"},
            name="speaker",
            raw={"rawkey": "rawvalue"},
        )
        await face.aput_messages(at(), [message], {"beside": "besides"})
        for word in ("visible", "failure"):
            assert ids_of(await face.alist_messages(at(), search=word)) == ["identity"]
        hidden = "type message_id text content role assistant identity callid toolname argument value timestamp null "
        hidden += 'thought metakey metavalue speaker rawkey rawvalue beside besides { } : " [ ] dict tuple'
        for word in hidden.split():
            assert await face.alist_messages(at(), search=word) == [], word
            assert await face.asearch_messages({}, word) == [], word

    async def test_p7_what_is_gone_is_not_found(self, face: Face) -> None:
        """Replaced, deleted, popped, cleared, of a replaced tail, of a deleted thread."""
        removals: dict[str, Callable[[], Any]] = {
            "put": lambda: face.aput_messages(at("put"), said("other")),
            "delete": lambda: face.adelete_message(at("delete"), "m1"),
            "pop": lambda: face.apop_messages(at("pop")),
            "clear": lambda: face.aclear_messages(at("clear")),
            "tail": lambda: face.areplace_messages(
                at("tail"), after=None, expected_tail=["m1"], messages=said("other")
            ),
            "thread": lambda: face.adelete_thread(at("thread")),
            "redact": lambda: face.aredact(at("redact"), "m1"),
        }
        for thread_id in removals:
            await face.aput_messages(at(thread_id), said("needle 針"))
        assert len(await face.asearch_messages({}, "needle")) == len(removals)
        left = set(removals)
        for thread_id, remove in removals.items():
            await remove()
            left.remove(thread_id)
            for query in ("needle", "針"):
                assert await face.alist_messages(at(thread_id), search=query) == []
                across = await face.twin().asearch_messages({}, query)
                assert {found for found, _ in across} == left
        await face.aput_messages(at("put"), said("needle again"))
        assert ids_of(await face.alist_messages(at("put"), search="needle")) == ["m1"]

    async def test_p5_search_is_paged(self, face: Face) -> None:
        """With role, metadata, limit, offset, after and last; hits in the order of the log."""
        messages = said(*("even hay" if n % 2 else "odd needle" for n in range(1200)))
        for message in messages[::4]:
            message.role = "assistant"
        await face.aput_messages(at(), messages)
        hits = messages[::2]

        async def search(**options: Any) -> list[Message]:
            found: list[Message] = await face.alist_messages(at(), search="needle", **options)
            return found

        assert await search() == hits
        assert await search(limit=5) == hits[:5]
        assert await search(limit=5, offset=590) == hits[590:595]
        assert await search(last=3) == hits[-3:]
        assert await search(after="m1001") == hits[501:]
        assert await search(role="assistant") == messages[::4]
        assert (
            await face.collect("aiter_messages", at(), search="needle", role="user") == hits[1::2]
        )
        assert len(await face.asearch_messages({}, "needle", limit=550)) == 550
        newest = await face.asearch_messages({}, "needle", role="assistant", limit=3)
        assert {message.role for _, message in newest} == {"assistant"}
        assert len(newest) == 3
        for blank in ("", " ", "\n"):
            assert await face.alist_messages(at(), search=blank, limit=2) == messages[:2]
            assert await face.asearch_messages({}, blank) == []

    async def test_p9_searches_are_checked(self, face: Face) -> None:
        """A query is a text of at most 4,096 characters, a limit is 1 or more."""
        for wrong, error in ((7, TypeError), (b"x", TypeError), ("x" * 4097, ValueError)):
            with pytest.raises(error):
                await face.alist_messages(at(), search=wrong)
            with pytest.raises(error):
                await face.asearch_messages({}, wrong)
        for limit, error in (
            (0, ValueError),
            (-1, ValueError),
            (True, TypeError),
            ("1", TypeError),
        ):
            with pytest.raises(error):
                await face.asearch_messages({}, "x", limit=limit)

    async def test_p8_a_search_stays_in_its_scope(self, face: Face) -> None:
        """Tenant, app and user of the config; without a user, all threads of the app."""
        scopes: list[dict[str, Any]] = [
            {"user_id": "alice"}, {"user_id": "bob"}, {"user_id": 7}, {"user_id": "7"}, {},
            {"tenant": "x"}, {"app": "x"}, {"tenant": "x", "user_id": "alice"},
        ]  # fmt: skip
        for n, scope in enumerate(scopes):
            await face.aput_messages(at(f"t{n}", **scope), said("needle", ids=f"s{n}-"))

        async def threads(scope: dict[str, Any]) -> list[str]:
            return sorted(
                thread_id for thread_id, _ in await face.asearch_messages(scope, "needle")
            )

        for n in (0, 1, 2, 3, 6, 7):
            assert await threads(scopes[n]) == [f"t{n}"]
        assert await threads({}) == [f"t{n}" for n in range(5)]
        assert await threads({"tenant": "x"}) == ["t5", "t7"]
        assert await threads({"user_id": "mallory"}) == []

    async def test_p9_long_texts_are_found(self, face: Face) -> None:
        """A message of 200,000 characters by its first and its last word; its neighbours stay apart."""
        text = "alpha " + "filler word " * 16_000 + "omega"
        await face.aput_messages(at(), said(text, "alpha short", "x" * 5_000_000))
        assert ids_of(await face.alist_messages(at(), search="alpha omega")) == ["m1"]
        assert ids_of(await face.alist_messages(at(), search="alpha")) == ["m1", "m2"]

    async def test_p2_messages_of_a_put_are_found(self, face: Face) -> None:
        """Search is over the log, not over states."""
        state = AgentState(context=said("hidden"))
        await face.aput_state(at(), state, messages=said("shown"))
        assert ids_of(await face.alist_messages(at(), search="shown")) == ["m1"]
        assert await face.alist_messages(at(), search="hidden") == []
