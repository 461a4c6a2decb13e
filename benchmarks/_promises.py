"""What Threadline set out to hold, line by line, and where a peer is better: both are found in the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from _found import MEASURES, SAVERS, SYSTEMS, Table, common, is_bare, is_ours, ms, rate, ratio, said
from _harness import kept, shown

#: Bounds in milliseconds.
AT_MOST = {
    "500 messages: appended": 10,
    "500 messages: in the log": 30,
    "search: a rare word, in all": 5,
}


#: The conversation through LangGraph whose bytes are bounded: shorter ones carry the size of empty tables.
LONGEST = "400 turns"
#: Puts a second, behind 3 ms on PostgreSQL, and durable ones on SQLite.
AT_LEAST, SQLITE_AT_LEAST = 2000, 5000
#: Bytes of real conversations, of their JSON.
FILES = {"log_with_search": 1.3, "states": 1, "both": 2}


def promise_rows(told: Any, core: Any, graph: Any, figures: Sequence[dict[str, Any]]) -> Table:
    """Ours, the best peer, the limit, the ratio, the bound, whether it holds."""
    return [
        *_through_langgraph(graph),
        *_files(told, core),
        *_on_sqlite(told, core),
        *_in_numbers(figures),
        *_beside_statements(told, figures),
    ]


def _row(
    what: str,
    ours: str,
    peer: str,
    limit: str,
    medians: float,
    hold: float,
    quiet: float | None = None,
) -> list[str]:
    holds = said(kept(medians, quiet, hold))
    return [what, ours, peer, limit, ratio(medians, quiet), f"<= {hold:g}x", holds]


def _through_langgraph(graph: Any) -> Table:
    rows: Table = []
    if rates := graph.get("puts per second, 16 threads, 3 ms"):
        mine, theirs = rates["ThreadlineSaver, PostgreSQL"], rates["PostgresSaver, pool of 16"]
        what = "puts a second through LangGraph, 16 threads behind 3 ms"
        limit = f"{AT_LEAST:,} /s"
        rows.append(_row(what, f"{mine:,} /s", f"{theirs:,} /s", limit, AT_LEAST / mine, 1))
    for (on, peer), hold in zip(SAVERS.items(), (3, 4), strict=True):
        for key, ours in graph.items():
            turns, _, name = key.partition(", ")
            theirs = graph.get(f"{turns}, {peer}")
            if name == f"ThreadlineSaver, {on}" and theirs and turns == LONGEST:
                what, factor = f"bytes through LangGraph, {turns}, {on}", ours["x_text"]
                best, limit = f"{theirs['x_text']:.0f}x", f"{ours['x_zstd']:.2f}x: the text in zstd"
                rows.append(_row(what, f"{factor:.2f}x", best, limit, factor, hold))
    return rows


def _files(told: Any, core: Any) -> Table:
    rows: Table = []
    for kind, hold in (("words", 1.2), ("random letters", 1.2)):
        if found := core.get(f"turns, {kind}"):
            what, mb = f"file of 1,000 turns, {kind}, MB", found["file_mb"]
            limit = f"{found['text_in_zstd_mb']:.2f} MB: the new text in zstd"
            rows.append(_row(what, f"{mb:.2f} MB", "", limit, mb, hold))
    if found := core.get("conversations"):
        limit, best = f"{found['text_in_zstd']:.2f}x: in zstd", _peer_bytes(told, "SQLite")
        for kind, hold in FILES.items():
            what = f"file of real conversations, of their JSON: {kind.replace('_', ' ')}"
            rows.append(_row(what, f"{found[kind]:.2f}x", best, limit, found[kind], hold))
    return rows


def _on_sqlite(told: Any, core: Any) -> Table:
    rows: Table = []
    if found := core.get("writers"):
        mine, bare = found["puts_per_second"], found["bare_commits_per_second"]
        limit, best = f"bare commits {bare:,.0f} /s", _peer_rate(told, "SQLite", "16")
        what = f"durable puts a second, 16 writers, SQLite, against {SQLITE_AT_LEAST:,} /s"
        rows.append(_row(what, f"{mine:,.0f} /s", best, limit, SQLITE_AT_LEAST / mine, 1))
    if found := core.get("interleaved"):
        for way, hold in (("append", 1.2), ("whole", 4)):
            long, short = (shown(found[f"{way}_{size}_ms"], "ms") for size in ("long", "short"))
            what = f"put at 1,000 turns against 10, {way}"
            rows.append(_row(what, long, "", short, found[f"{way}_ratio"], hold))
    if found := core.get("detection"):
        mine, dumped = shown(found["detect_ms"], "ms"), shown(found["dump_json_ms"], "ms")
        what = "finding what changed in 2,000 messages against one dump"
        rows.append(_row(what, mine, "", dumped, found["ratio"], 0.4))
    if found := core.get("imports"):
        mine, other = shown(found["threadline_ms"], "ms"), shown(found["dependencies_ms"], "ms")
        what = "`import threadline` against its dependencies"
        rows.append(_row(what, mine, "", other, found["ratio"], 2.5))
    return rows


def _in_numbers(figures: Sequence[dict[str, Any]]) -> Table:
    rows: Table = []
    for each in figures:
        ours, beside = (shown(each[side], each["unit"]) for side in ("ours", "other"))
        for prefix, bound in AT_MOST.items():
            if each["what"].startswith(prefix):
                what, limit = f"{each['what']}, against {bound} ms", each.get("limit", "")
                rows.append(_row(what, ours, "", limit, each["ours"] / bound, 1))
        if each["unit"] == "/s":
            what = f"{each['what']}, 16 connections behind 3 ms, against {AT_LEAST:,} /s"
            rows.append(_row(what, ours, "", f"bare INSERTs {beside}", AT_LEAST / each["ours"], 1))
    return rows


def _beside_statements(told: Any, figures: Sequence[dict[str, Any]]) -> Table:
    rows: Table = []
    peers, bytes_of_peers = _peer_puts(told), _peer_bytes(told, "PostgreSQL")
    for each in figures:
        if each["hold"] is None:
            continue
        best = bytes_of_peers if each["unit"] == "MB" else ""
        if each["what"].startswith("put:") and "alone" not in each["what"]:
            best = peers
        ours, beside = (shown(each[side], each["unit"]) for side in ("ours", "other"))
        limit = "; ".join(filter(None, [beside, each.get("limit")]))
        what = f"{each['what']}, against: {each['beside']}"
        rows.append(_row(what, ours, best, limit, each["ratio"], each["hold"], each.get("quiet")))
    return rows


def _peer_bytes(told: Any, on: str) -> str:
    """The smallest store of a peer that keeps every version of the real conversations."""
    stores = told.get("conversations", {}).get("stores", {})
    sizes = {
        name: each["x_text"]
        for name, each in stores.items()
        if name.endswith(f"({on})") and not is_ours(name) and each["keeps"] == "every version"
    }
    if not sizes:
        return ""
    name = min(sizes, key=sizes.__getitem__)
    return f"{sizes[name]:.2f}x: {name.removesuffix(f' ({on})')}"


def _peer_rate(told: Any, on: str, count: str) -> str:
    """The most turns a second of a peer, by so many writers."""
    rates = {
        name: rate(tries[count])
        for name, tries in told.get("writers", {}).items()
        if name.endswith(f"({on})") and not is_ours(name) and not is_bare(name) and count in tries
    }
    if not rates:
        return ""
    name = max(rates, key=rates.__getitem__)
    return f"{rates[name]:,.0f} /s: {name.removesuffix(f' ({on})')}"


def _peer_puts(told: Any) -> str:
    """The fastest put of a peer on PostgreSQL, of another run of the same hour."""
    turns, points = common(told, "PostgreSQL")
    puts = {
        name: ms(point["put"])
        for name, point in points.items()
        if not is_ours(name) and not is_bare(name)
    }
    if not puts:
        return ""
    name = min(puts, key=puts.__getitem__)
    return f"{shown(puts[name], 'ms')}: {name}, {turns} turns"


# Where a peer is better ----------------------------------------------------------------------


def wins(told: Any, graph: Any) -> list[str]:
    """Every line in which a peer is better than the better of ours, in words."""
    found = []
    for on, peer in SAVERS.items():
        for key, ours in graph.items():
            turns, _, name = key.partition(", ")
            theirs = graph.get(f"{turns}, {peer}")
            if name == f"ThreadlineSaver, {on}" and theirs:
                pair = {name: ours, peer: theirs}
                for field in ("bytes", "put_last_ms", "get_ms", "history_20_ms"):
                    what = f"{on}, through LangGraph, {turns}: {field}"
                    found += _better(
                        pair, lambda each, field=field: each[field], what, smaller=True
                    )
    for on in SYSTEMS:
        turns, points = common(told, on)
        for words, value in MEASURES.values():
            found += _better(points, value, f"{on}, {turns:,} turns: {words}", smaller=True)
        rates = {
            name.removesuffix(f" ({on})"): tries
            for name, tries in told.get("writers", {}).items()
            if name.endswith(f"({on})")
        }
        for count in next(iter(rates.values()), {}):
            at = {name: rate(tries[count]) for name, tries in rates.items()}
            found += _better(at, lambda value: value, f"{on}: turns a second by {count} writers")
        stores = told.get("conversations", {}).get("stores", {})
        real = {
            name.removesuffix(f" ({on})"): each
            for name, each in stores.items()
            if name.endswith(f"({on})")
        }
        for key, words in (("bytes", "bytes"), ("put_ms", "put of one message, milliseconds")):
            what = f"{on}, real conversations: {words}"
            found += _better(real, lambda each, key=key: each[key], what, smaller=True)
    return found


def _better(
    values: dict[str, Any], value: Callable[[Any], float], what: str, *, smaller: bool = False
) -> list[str]:
    ours = [value(each) for name, each in values.items() if is_ours(name)]
    if not ours:
        return []
    best = min(ours) if smaller else max(ours)
    lines = []
    for name, each in values.items():
        if is_ours(name) or is_bare(name):
            continue
        theirs = value(each)
        if (theirs < best) if smaller else (theirs > best):
            lines.append(f"- {what}: {name} {theirs:,.4g}, ours {best:,.4g}.")
    return lines
