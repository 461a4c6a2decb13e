"""A cache that processes share, on Redis, Valkey or a cluster of either: bytes by thread, checked when read.

An entry is one hash for a thread and namespace (its fields: `packing`), so that a put sends only what is new. Names are
made of hashes and hold no text of users; those of one thread share a hash tag, so that its scripts run on one node:

    tl1:<store>:{<thread>}:<namespace>     hash    an entry
    tl1:<store>:{<thread>}:n               set     the namespaces that have entries
    tl1:<store>:{<thread>}:x:<life>        string  this life of the thread was erased
    tl1:<store>:used                       zset    threads by last use, when their number is bounded

Nothing here raises and every operation ends by its timeout: a breaker sees to it that a cache that does not answer
is left alone. What the scripts decide is said in `threadline.cache_protocol`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import resources
from typing import Any, Final, TypeVar

from redis.asyncio import ConnectionPool
from redis.exceptions import NoScriptError, ResponseError

from threadline import clock
from threadline.backend import CheckpointRow, Head, Known
from threadline.cache import CacheCounts, Found
from threadline.caches.breaker import Breaker, BreakerState
from threadline.caches.packing import (
    FORMAT,
    MAX_BYTES,
    MAX_FIELDS,
    Packer,
    Poison,
    blob_name,
    covers,
    is_whole,
    known_of,
    write_stamp,
)
from threadline.caches.redis_clients import Client, Clients

#: Seconds in which an operation ends; and that an entry lives since it was last written or confirmed.
TIMEOUT, TTL = 0.05, 86_400.0
#: How long, in milliseconds, it is remembered that a life was erased and that nothing older is to be kept.
ERASED_MS: Final = 15 * 60 * 1000
#: How often, in seconds, a process says of a thread that it is used, and for how many it knows when it did.
SAY_USED, KNOWN_USED = 60.0, 10_000

_log = logging.getLogger("threadline.cache")
T = TypeVar("T")
Arguments = Sequence[bytes | str | int]


class Script:
    """A Lua script: by its hash, and whole where a server does not know it yet."""

    def __init__(self, name: str) -> None:
        lua = resources.files("threadline.caches").joinpath("lua").joinpath(f"{name}.lua")
        self._source = lua.read_bytes()
        self._sha = hashlib.sha1(self._source, usedforsecurity=False).hexdigest()

    async def __call__(self, client: Client, keys: Sequence[bytes], arguments: Arguments) -> Any:
        """Run it. Replies are bytes, whatever the client does with others."""
        rest = (len(keys), *keys, *arguments)
        try:
            return await client.execute_command("EVALSHA", self._sha, *rest, NEVER_DECODE=[])
        except NoScriptError:
            return await client.execute_command("EVAL", self._source, *rest, NEVER_DECODE=[])


READ, WRITE, STAMP, FLOOR, ERASE, USED = (
    Script(name) for name in ("read", "write", "stamp", "floor", "erase", "used")
)


class Names:
    """The names of one store's keys."""

    def __init__(self, salt: bytes) -> None:
        store = hashlib.blake2b(salt, digest_size=8, person=b"cache names").hexdigest()
        self._prefix = f"tl{FORMAT.decode()}:{store}:".encode()
        #: The threads by last use.
        self.used = self._prefix + b"used"

    def thread(self, key: bytes) -> bytes:
        """What all names of a thread begin with."""
        return self._prefix + b"{" + key.hex().encode() + b"}:"

    def entry(self, key: bytes, ns: bytes) -> bytes:
        """The entry of a namespace."""
        return self.thread(key) + ns.hex().encode()

    def entries(self, key: bytes) -> bytes:
        """Which namespaces have entries."""
        return self.thread(key) + b"n"

    def erased(self, key: bytes, incarnation: bytes) -> bytes:
        """That a life was erased."""
        return self.thread(key) + b"x:" + incarnation.hex().encode()


class RedisCache:
    """See the module. One of `url`, `client` (redis.asyncio's `Redis` or `RedisCluster`) or `pool`; the last two are
    the caller's, and never closed or changed.

    pool_config: settings for the connections of a URL (see redis-py), e.g. `{"max_connections": 50}`. ttl: seconds
    that an entry lives since it was last written or confirmed, default a day; spread by a tenth. max_threads: of how
    many threads entries are kept, the least recently used go first; default None: as many as there are. timeout:
    seconds in which an operation ends, default 0.05. close_given: `close` closes a caller's client or pool, too.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Client | None = None,
        pool: ConnectionPool | None = None,
        pool_config: Mapping[str, Any] | None = None,
        ttl: float = TTL,
        max_threads: int | None = None,
        timeout: float = TIMEOUT,
        close_given: bool = False,
    ) -> None:
        if not ttl > 0 or not timeout > 0:
            raise ValueError("ttl and timeout are seconds, more than 0")
        if max_threads is not None and max_threads < 1:
            raise ValueError(f"max_threads must be 1 or more, not {max_threads}")
        self.counts = CacheCounts()
        self._clients = Clients(
            url,
            client=client,
            pool=pool,
            pool_config=pool_config,
            timeout=timeout,
            close_given=close_given,
        )
        self._ttl, self._max_threads, self._timeout = ttl, max_threads, timeout
        self._breaker = Breaker(changed=self._changed)
        self._used: OrderedDict[bytes, float] = OrderedDict()
        self._why = ""
        self._refuses = ""

    def open(self, salt: bytes) -> None:
        """Take the store's salt."""
        self._packer = Packer(salt)
        self._names = Names(salt)

    async def get(self, key: bytes, ns: bytes) -> Found | None:
        """What is kept; None when the cache did not answer."""
        keys = [self._names.entry(key, ns)]
        reply = await self._ask(keys, lambda client: READ(client, keys, [MAX_FIELDS, MAX_BYTES]))
        if reply is None:
            return None
        seconds, microseconds, fits, flat = reply
        now = seconds * 1_000_000 + microseconds
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if fits and b"h" not in fields:
            self.counts.misses += 1
            return Found(None, None, now)
        try:
            if not fits:
                raise Poison("it is larger than an entry can be")
            head = self._packer.unpack(key, ns, fields)
            confirmed = self._packer.confirmation(key, ns, fields)
        except Poison:
            await self.reject(key, ns)
            return Found(None, None, now)
        return Found(head, None if confirmed is None else (now - confirmed) / 1e6, now)

    async def reject(self, key: bytes, ns: bytes) -> None:
        """What is kept turned out to be damaged or forged: it goes."""
        self.counts.poison += 1
        await self.drop(key, ns)

    async def publish(
        self,
        key: bytes,
        ns: bytes,
        head: Head,
        *,
        base: CheckpointRow | None = None,
        refuted: Known | None = None,
        confirmed: int | None = None,
    ) -> None:
        """Keep a head, or what it adds to `base`, unless something newer is kept."""
        row = head.checkpoint
        if row is None or (base is None and not is_whole(head)):
            return
        known = known_of(head)
        fields = self._packer.pack(key, ns, head)
        if len(fields) > MAX_FIELDS or sum(map(len, fields.values())) > MAX_BYTES:
            return
        stamp = b"" if confirmed is None else self._packer.confirmed(key, ns, known, confirmed)
        gone: list[bytes] = []
        in_use = ""
        if base is not None:
            gone = [blob_name(id) for id in set(base.blob_refs) - set(row.blob_refs)]
            if not covers(row.refs, base.refs):
                in_use = ",".join(f"{log}:{start}:{end}" for log, start, end in row.refs) or "none"
        arguments: Arguments = [
            fields[b"s"],
            b"" if base is None else write_stamp(_at(known, base)),
            b"" if refuted is None else write_stamp(refuted),
            self._live_ms(),
            ERASED_MS,
            stamp,
            ns.hex(),
            in_use,
            len(gone),
            *gone,
            *(part for field in fields.items() for part in field),
        ]
        keys = [
            self._names.entry(key, ns),
            self._names.entries(key),
            self._names.erased(key, known.incarnation),
        ]

        async def work(client: Client) -> None:
            rule = await WRITE(client, keys, arguments)
            self._accepted()
            await self._say_used(client, key, always=rule == b"replace")

        await self._ask(keys, work)

    async def stamp(self, key: bytes, ns: bytes, known: Known, confirmed: int) -> None:
        """The store has confirmed this head, when asked after `confirmed`."""
        keys = [self._names.entry(key, ns), self._names.entries(key)]
        value = self._packer.confirmed(key, ns, known, confirmed)

        async def work(client: Client) -> None:
            await STAMP(client, keys, [write_stamp(known), value, self._live_ms()])
            await self._say_used(client, key)

        await self._ask(keys, work)

    async def floor(self, key: bytes, ns: bytes, floor: Known) -> None:
        """Forget what is not newer than this, and keep nothing older for a quarter of an hour."""
        keys = [self._names.entry(key, ns), self._names.entries(key)]
        arguments: Arguments = [write_stamp(floor), ERASED_MS, ns.hex()]
        await self._ask(keys, lambda client: FLOOR(client, keys, arguments))

    async def drop(self, key: bytes, ns: bytes) -> None:
        """Forget a namespace."""
        keys = [self._names.entry(key, ns)]
        await self._ask(keys, lambda client: client.execute_command("UNLINK", *keys))

    async def erase(self, key: bytes, incarnation: bytes | None) -> None:
        """Forget a thread; this incarnation is not kept again for a quarter of an hour."""

        async def work(client: Client) -> None:
            await self._forget(client, key, incarnation)
            if self._max_threads is not None:
                await client.execute_command("ZREM", self._names.used, key)

        self._used.pop(key, None)
        await self._ask([self._names.entries(key)], work)

    async def close(self) -> None:
        """Close the connections that were made here."""
        await self._clients.close()

    def facts(self) -> dict[str, object]:
        """The counts, and whether the cache answers."""
        counts = {name: getattr(self.counts, name) for name in self.counts.__slots__}
        return {"breaker": self._breaker.state.value, **counts}

    # Asking -------------------------------------------------------------------------------------------

    async def _ask(self, keys: Sequence[bytes], work: Callable[[Client], Awaitable[T]]) -> T | None:
        """The result of an operation on these keys; None when there is none, for whatever reason."""
        client = self._clients.current()
        ticket = self._breaker.allow() if client is not None else None
        if client is None or ticket is None:
            self.counts.skipped += 1
            return None
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    result = await work(client)
                except ResponseError as error:
                    await self._refused(client, keys, error)
                    self._breaker.ok(ticket)  # It answers.
                    return None
        except asyncio.CancelledError:
            self._breaker.abandoned(ticket)
            raise
        except Exception as error:  # noqa: BLE001 - a cache never fails its caller: the store answers
            self.counts.errors += 1
            self._why = type(error).__name__
            self._breaker.failed(ticket)
            return None
        self._breaker.ok(ticket)
        return result

    async def _refused(self, client: Client, keys: Sequence[bytes], error: ResponseError) -> None:
        text = str(error)
        if "WRONGTYPE" in text:  # Somebody else's: it is in the way.
            self.counts.poison += 1
            for key in (*keys, self._names.used):
                await client.execute_command("UNLINK", key)
            return
        self.counts.errors += 1
        word = text.partition(" ")[0]
        word = word if word.isascii() and word.isupper() else type(error).__name__
        if word != self._refuses:
            _log.warning("the cache refuses what it is asked (%s); the store answers instead", word)
        self._refuses = word

    def _accepted(self) -> None:
        if self._refuses:
            _log.info("the cache accepts again what it is asked")
        self._refuses = ""

    def _changed(self, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            _log.warning(
                "the cache does not answer (%s); the store answers alone until it does", self._why
            )
        else:
            _log.info("the cache answers again")

    async def _say_used(self, client: Client, key: bytes, *, always: bool = False) -> None:
        """Where the number of threads is bounded: this one is in use, others may have to make room."""
        if self._max_threads is None:
            return
        now = clock.monotonic()
        if not always and now < self._used.get(key, -SAY_USED) + SAY_USED:
            return
        self._used[key] = now
        self._used.move_to_end(key)
        while len(self._used) > KNOWN_USED:
            self._used.popitem(last=False)
        arguments: Arguments = [key, self._max_threads, 2 * self._live_ms()]
        for least in await USED(client, [self._names.used], arguments):
            self._used.pop(least, None)
            await self._forget(client, least, None)

    async def _forget(self, client: Client, key: bytes, incarnation: bytes | None) -> None:
        keys = [self._names.entries(key), self._names.erased(key, incarnation or b"")]
        spoken = 0 if incarnation is None else ERASED_MS
        await ERASE(client, keys, [self._names.thread(key), spoken])

    def _live_ms(self) -> int:
        """The time to live, spread by a tenth, so that what was written together does not go together."""
        share = int.from_bytes(clock.random_bytes(2), "big") / 0xFFFF
        return int(self._ttl * 1000 * (0.9 + 0.2 * share))


def _at(known: Known, row: CheckpointRow) -> Known:
    """An earlier head of the same life and `gc`."""
    return known._replace(version=row.version, digest=row.digest)
