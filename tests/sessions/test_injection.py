"""Functions that want a checkpointer get one, of the right application, whatever they are and however tasks interleave.

First what `call` serves; then what injectq 0.5 does that must not reach users, each shown on injectq itself; then two
applications in one process.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import random
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, Optional

import pytest
from injectq import Inject, InjectQ, inject
from injectq.core.context import ContainerContext
from injectq.utils import CircularDependencyError

from threadline import AgentState, InjectionError, InMemoryCheckpointer, Message
from threadline.checkpointer import BaseCheckpointer
from threadline.checkpointer import injection as inside
from threadline.checkpointer.signatures import plan_of
from threadline.injection import call, injected, using


@pytest.fixture(autouse=True)
def _own_default_container() -> Iterator[None]:
    InjectQ.reset_instance()
    ContainerContext.clear_current()
    inside._bound.clear()
    yield
    InjectQ.reset_instance()
    ContainerContext.clear_current()
    inside._bound.clear()


@pytest.fixture
def checkpointer() -> InMemoryCheckpointer:
    return InMemoryCheckpointer()


@pytest.fixture
def container(checkpointer: InMemoryCheckpointer) -> InjectQ:
    made = InjectQ()
    checkpointer.bind(made)
    return made


class Weather:
    """A service of the user's."""

    def __init__(self, city: str = "Oslo") -> None:
        self.city = city


# What is served ------------------------------------------------------------------------------------------


def plain(a: int, checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> Any:
    return a, checkpointer


def keyword_only(a: int, *, checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> Any:
    return a, checkpointer


def positional_only(a: int, checkpointer: BaseCheckpointer = Inject[BaseCheckpointer], /) -> Any:
    return a, checkpointer


def without_default(a: int, checkpointer: BaseCheckpointer) -> Any:
    return a, checkpointer


def optional(a: int, checkpointer: Optional[BaseCheckpointer]) -> Any:  # noqa: UP045 - as users write it
    return a, checkpointer


def first(checkpointer: BaseCheckpointer, a: int = 1) -> Any:
    return a, checkpointer


def concrete(a: int, checkpointer: Any = Inject[InMemoryCheckpointer]) -> Any:
    return a, checkpointer


async def coroutine(a: int, checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> Any:
    await asyncio.sleep(0)
    return a, checkpointer


async def generator(
    a: int, checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]
) -> AsyncIterator[Any]:
    yield a
    yield checkpointer


class Node:
    def method(self, a: int, checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> Any:
        return a, checkpointer

    @classmethod
    def of_class(cls, a: int, checkpointer: BaseCheckpointer) -> Any:
        return a, checkpointer

    @staticmethod
    def static(a: int, checkpointer: BaseCheckpointer) -> Any:
        return a, checkpointer

    def __call__(self, a: int, checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> Any:
        return a, checkpointer


class AsyncNode:
    async def __call__(self, a: int, checkpointer: BaseCheckpointer) -> Any:
        return a, checkpointer


CALLABLES = {
    "function": plain,
    "keyword only": keyword_only,
    "positional only": positional_only,
    "no default": without_default,
    "optional": optional,
    "concrete": concrete,
    "coroutine": coroutine,
    "method": Node().method,
    "classmethod": Node.of_class,
    "staticmethod": Node.static,
    "instance": Node(),
    "async instance": AsyncNode(),
    "partial": functools.partial(plain),
    "partial of a method": functools.partial(Node().method),
    "partial with a keyword": functools.partial(first, a=1),
    "lambda": lambda a=1, checkpointer=Inject[BaseCheckpointer]: (a, checkpointer),
}


@pytest.mark.parametrize("name", CALLABLES)
async def test_every_kind_of_callable_is_served(
    name: str, checkpointer: InMemoryCheckpointer, container: InjectQ
) -> None:
    fn: Any = CALLABLES[name]
    for _ in range(2):
        args = () if name == "partial with a keyword" else (1,)
        result = call(fn, *args, container=container)
        result = await result if inspect.isawaitable(result) else result
        assert result[0] == 1
        assert result[1] is checkpointer


async def test_an_async_generator_is_served(
    checkpointer: InMemoryCheckpointer, container: InjectQ
) -> None:
    assert [item async for item in call(generator, 1, container=container)] == [1, checkpointer]


def test_annotations_that_are_texts_are_read(
    checkpointer: InMemoryCheckpointer, container: InjectQ
) -> None:
    def local(a: "int", checkpointer: "BaseCheckpointer") -> Any:  # noqa: UP037 - texts on purpose
        return checkpointer

    def unknown(a: "NotImported", checkpointer: "BaseCheckpointer") -> Any:  # type: ignore[name-defined] # noqa: F821, UP037
        return checkpointer

    assert call(local, 1, container=container) is checkpointer
    assert call(unknown, 1, container=container) is checkpointer


async def test_an_injected_function_shows_what_is_left(
    checkpointer: InMemoryCheckpointer, container: InjectQ
) -> None:
    plain_one = injected(plain, container=container)
    assert list(inspect.signature(plain_one).parameters) == ["a"]
    assert plain_one(1) == plain_one(a=1) == (1, checkpointer)
    assert plain_one.__name__ == "plain"
    later = injected(coroutine, container=container)
    assert inspect.iscoroutinefunction(later)
    assert await later(1) == (1, checkpointer)
    items = injected(generator, container=container)
    assert inspect.isasyncgenfunction(items)
    assert [item async for item in items(1)] == [1, checkpointer]


def test_what_is_given_is_not_replaced(container: InjectQ) -> None:
    mine: Any = InMemoryCheckpointer()
    assert call(plain, 1, mine, container=container) == (1, mine)
    assert call(plain, 1, checkpointer=mine, container=container) == (1, mine)
    assert call(positional_only, 1, mine, container=container) == (1, mine)
    assert call(len, [1, 2], container=container) == 2


def test_a_default_of_ones_own_stays(container: InjectQ) -> None:
    def fn(checkpointer: BaseCheckpointer | None = None) -> Any:
        return checkpointer

    assert call(fn, container=container) is None


def test_other_services_are_served(container: InjectQ) -> None:
    def fn(weather: Weather = Inject[Weather], named: Any = Inject["name"]) -> Any:
        return weather, named

    container["name"] = "a value"
    container[Weather] = Weather("Bergen")
    weather, named = call(fn, container=container)
    assert (weather.city, named) == ("Bergen", "a value")


@pytest.mark.parametrize("fn", [plain, coroutine], ids=["plain", "async"])
def test_what_is_bound_nowhere_is_an_error_before_the_call(fn: Any) -> None:
    empty = InjectQ()
    for container in (empty, None):
        with pytest.raises(InjectionError, match="BaseCheckpointer"):
            call(fn, 1, container=container)


def test_no_empty_store_is_made_of_a_class_that_nobody_bound() -> None:
    class Mine(InMemoryCheckpointer):
        def __init__(self) -> None:
            super().__init__()

    def fn(checkpointer: Any = Inject[Mine]) -> Any:
        return checkpointer

    empty = InjectQ()
    assert isinstance(empty.get(Mine), Mine)  # What injectq does.
    with pytest.raises(InjectionError):
        call(fn, container=empty)


async def test_what_the_function_raises_is_not_wrapped(container: InjectQ) -> None:
    class Mine(Exception):
        pass

    def sync(checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> None:
        raise Mine

    async def later(checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> None:
        raise Mine

    with pytest.raises(Exception, match="Injection failed") as wrapped:  # What injectq does.
        inject(container=container)(sync)()
    assert type(wrapped.value) is not Mine
    with pytest.raises(Mine):
        call(sync, container=container)
    with pytest.raises(Mine):
        await call(later, container=container)


async def test_what_a_factory_raises_is_not_wrapped(container: InjectQ) -> None:
    def broken() -> Weather:
        raise ZeroDivisionError

    async def broken_later() -> Weather:
        raise ZeroDivisionError

    async def fn(weather: Weather = Inject[Weather]) -> None: ...

    container.bind_factory(Weather, broken)
    with pytest.raises(ZeroDivisionError):
        call(fn, container=container)
    container.bind_factory(Weather, broken_later)
    with pytest.raises(ZeroDivisionError):
        await call(fn, container=container)


async def test_an_async_factory_serves_what_is_async(container: InjectQ) -> None:
    async def made() -> Weather:
        await asyncio.sleep(0)
        return Weather("Bergen")

    async def fn(weather: Weather = Inject[Weather]) -> str:
        return weather.city

    async def items(weather: Weather = Inject[Weather]) -> AsyncIterator[str]:
        yield weather.city

    def sync(weather: Weather = Inject[Weather]) -> str:
        return weather.city

    container.bind_factory(Weather, made)
    assert await call(fn, container=container) == "Bergen"
    assert [item async for item in call(items, container=container)] == ["Bergen"]
    with pytest.raises(InjectionError, match="not async"):
        call(sync, container=container)


def test_a_signature_is_read_once_and_goes_with_its_function() -> None:
    class Counted:
        reads = 0

    def made() -> Any:
        def fn(checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> Any:
            return checkpointer

        return fn

    fn: Any = made()
    assert plan_of(fn) is plan_of(fn)
    node = Node()
    assert plan_of(node.method) is plan_of(node.method) is plan_of(Node().method)
    gone = weakref.ref(fn)
    del fn
    gc.collect()
    assert gone() is None


# What injectq does ------------------------------------------------------------------------------------------


def test_injectq_keeps_the_first_object_of_a_default_for_ever() -> None:
    """The trap itself, with what is bound by hand: the second application writes to the first one's store."""

    def node(checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> Any:
        return checkpointer._engine  # type: ignore[attr-defined]

    one, two = InMemoryCheckpointer(), InMemoryCheckpointer()
    for each in (one, two):
        container = InjectQ()
        container.bind_instance(BaseCheckpointer, each)
        with container.context():
            assert node() is one._engine


def test_a_plain_call_follows_the_current_container() -> None:
    """The same with `bind`: each application gets its own."""

    def node(checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> Any:
        return checkpointer._engine  # type: ignore[attr-defined]

    one, two = InMemoryCheckpointer(), InMemoryCheckpointer()
    containers = InjectQ(), InjectQ()
    one.bind(containers[0])
    two.bind(containers[1])
    for _ in range(2):
        for container, each in zip(containers, (one, two), strict=True):
            with container.context():
                assert node() is each._engine
    with pytest.raises(InjectionError, match="Several are bound"):
        node()  # The first one's would be by accident.


def test_a_plain_call_without_a_context_is_served_while_there_is_one() -> None:
    def node(checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]) -> Any:
        assert isinstance(checkpointer, BaseCheckpointer)
        assert checkpointer
        checkpointer.put_state({"thread_id": "t"}, AgentState())
        return checkpointer._engine

    one = InMemoryCheckpointer()
    one.bind(InjectQ.get_instance())
    assert node() is one._engine
    assert one.get_state({"thread_id": "t"}) == AgentState()
    one.release()
    two = InMemoryCheckpointer()
    two.bind(InjectQ.get_instance())
    assert node() is two._engine


def test_a_container_in_the_hand_gives_its_own_checkpointer() -> None:
    one, two = InMemoryCheckpointer(), InMemoryCheckpointer()
    mine, other = InjectQ(), InjectQ()
    one.bind(mine)
    two.bind(other)
    assert mine.get(BaseCheckpointer) is one
    with other.context():
        assert mine.get(BaseCheckpointer) is one
        assert other.get(BaseCheckpointer) == two
        assert other.get(InMemoryCheckpointer) == two


async def test_a_rebind_is_seen(container: InjectQ, checkpointer: InMemoryCheckpointer) -> None:
    """injectq's `get` remembers what was bound before, for instances and for classes."""

    class Other(Weather):
        pass

    def fn(weather: Weather = Inject[Weather]) -> Any:
        return weather

    stale = InjectQ()
    stale.bind_instance(Weather, Weather("Oslo"))
    assert stale.get(Weather).city == "Oslo"
    stale.bind_instance(Weather, Weather("Bergen"))
    assert stale.get(Weather).city == "Oslo"  # What injectq does.
    assert call(fn, container=stale).city == "Bergen"
    stale.bind(Weather, Other)
    assert type(call(fn, container=stale)) is Other
    assert call(fn, container=stale) is call(fn, container=stale)  # Still a singleton.
    assert call(plain, 1, container=container)[1] is checkpointer
    second = InMemoryCheckpointer()
    second.bind(container)
    assert call(plain, 1, container=container)[1] is second
    assert container.get(BaseCheckpointer) is second
    third = InMemoryCheckpointer()
    container.bind_instance(BaseCheckpointer, third)
    assert call(plain, 1, container=container)[1] is third


async def test_lookups_at_the_same_time_are_no_circle() -> None:
    async def made() -> Weather:
        await asyncio.sleep(0)
        return Weather()

    async def fn(weather: Weather = Inject[Weather]) -> str:
        return weather.city

    container = InjectQ()
    container.bind_factory(Weather, made)
    with pytest.raises(CircularDependencyError):  # What injectq does.
        await asyncio.gather(*(container.aget(Weather) for _ in range(3)))
    cities = await asyncio.gather(*(call(fn, container=container) for _ in range(50)))
    assert cities == ["Oslo"] * 50


def test_lookups_in_threads_are_no_circle(container: InjectQ) -> None:
    wrong: list[BaseException] = []

    def look() -> None:
        try:
            for _ in range(200):
                call(plain, 1, container=container)
        except BaseException as error:  # noqa: BLE001 - told to the test
            wrong.append(error)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


async def test_a_context_of_one_task_is_not_seen_by_another(
    container: InjectQ, checkpointer: InMemoryCheckpointer
) -> None:
    """injectq marks the thread as well, which every task of the loop reads."""
    entered, looked = asyncio.Event(), asyncio.Event()
    other = InMemoryCheckpointer()
    other.bind(InjectQ.get_instance())

    async def inside_context() -> None:
        with container.context():
            entered.set()
            await looked.wait()

    async def beside() -> Any:
        await entered.wait()
        leaked = InjectQ.get_instance()
        found = call(plain, 1)[1]
        looked.set()
        return leaked, found

    _, (leaked, found) = await asyncio.gather(inside_context(), beside())
    assert leaked is container  # What injectq does.
    assert found is other


# Two applications -------------------------------------------------------------------------------------------


def audit_node(
    state: AgentState, config: Any, checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]
) -> AgentState:
    """The node of the reference page, which starts a task and waits for nothing."""
    note = Message.text_message(config["thread_id"], role="system")
    asyncio.create_task(checkpointer.aput_messages(config, [note]))  # noqa: RUF006 - as users write it
    return state


@pytest.mark.parametrize("way", ["call", "using", "context", "session"])
async def test_no_message_goes_to_the_other_applications_store(way: str) -> None:
    """Two containers, two checkpointers, 200 interleaved tasks of which each writes three times."""
    apps = []
    for name in ("one", "two"):
        app, container = InMemoryCheckpointer(), InjectQ()
        app.bind(container)
        apps.append((name, app, container))
    dice = random.Random(5)

    async def work(number: int) -> None:
        name, app, container = apps[number % 2]
        config = {"thread_id": f"{name}-{number}"}
        for _ in range(3):
            await asyncio.sleep(dice.random() / 1000)
            if way == "call":
                call(audit_node, AgentState(), config, container=container)
            elif way == "using":
                with using(container):
                    await asyncio.sleep(dice.random() / 1000)
                    audit_node(AgentState(), config)
            elif way == "context":
                with ContainerContext.use(container) if number % 3 else container.context():
                    await asyncio.sleep(dice.random() / 1000)
                    audit_node(AgentState(), config)
            else:
                async with app.session(config) as session:
                    await session.run(audit_node)
            await asyncio.sleep(dice.random() / 1000)

    await asyncio.gather(*(work(number) for number in range(200)))
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    for name, app, _ in apps:
        threads = await app.alist_threads({})
        found = [
            m.text() for t in threads for m in await app.alist_messages({"thread_id": t.thread_id})
        ]
        assert len(found) == 300
        assert all(text.startswith(name) for text in found)
