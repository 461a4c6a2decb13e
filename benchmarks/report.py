"""Makes docs/benchmarks.md, its plots and its samples from what the programs measured (benchmarks/results/).

Which lines a peer wins is found in the figures, not chosen. What figures cannot say, above all why something is not
reached, stands in `notes.md` beside this file and is put in as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from _harness import kept, p50, shown, write_json
from _plot import plot

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
SYSTEMS = ("SQLite", "PostgreSQL")

Table = list[list[str]]

#: LangGraph's own savers.
SAVERS = {"SQLite": "AsyncSqliteSaver", "PostgreSQL": "AsyncPostgresSaver"}
#: Bounds in milliseconds.
AT_MOST = {
    "500 messages: appended": 10,
    "500 messages: in the log": 30,
    "search: a rare word, in all": 5,
}


def read(name: str) -> Any:
    """What a program measured, or nothing."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def ms(samples: Sequence[float]) -> float:
    """The median in milliseconds."""
    return p50(samples) * 1e3


def is_ours(label: str) -> bool:
    """Whether a store is Threadline's."""
    return label.startswith("Threadline")


def is_bare(label: str) -> bool:
    """Whether a store is a bare driver, which is no peer but the limit."""
    return label.startswith("bare")


# Cost over length ----------------------------------------------------------------------

MEASURES: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "bytes": ("stored, MB", lambda point: point["bytes"] / 1e6),
    "put": ("put of one turn, milliseconds", lambda point: ms(point["put"])),
    "load": ("reading the whole conversation, milliseconds", lambda point: ms(point["load"])),
}


def courses(told: Any, on: str) -> list[dict[str, Any]]:
    """The courses of one system, without its name in theirs."""
    found = told.get("length", {}).get("courses", [])
    return [
        each | {"name": each["store"].removesuffix(f" ({on})")}
        for each in found
        if each["store"].endswith(f"({on})")
    ]


def plots(told: Any, folder: Path) -> list[str]:
    """Write the plots; the lines that show them."""
    lines = []
    for on in SYSTEMS:
        for measure, (words, value) in MEASURES.items():
            curves = {
                each["name"]: [(point["turns"], value(point)) for point in each["points"]]
                for each in courses(told, on)
            }
            if not curves:
                continue
            path = folder / f"{on.lower()}-{measure}.svg"
            path.write_text(plot(f"{on}: {words}", "turns", curves), "utf-8")
            lines.append(f"![{on}: {words}]({folder.name}/{path.name})")
    return lines


def length_rows(told: Any) -> Table:
    """Each store at the longest conversation that it reached, and how its put grew."""
    rows = []
    for on in SYSTEMS:
        for each in courses(told, on):
            first, last = each["points"][0], each["points"][-1]
            growth = p50(last["put"]) / p50(first["put"])
            rows.append(
                [
                    each["store"],
                    each["keeps"],
                    f"{last['turns']:,}",
                    shown(last["bytes"] / 1e6, "MB"),
                    f"{last['x_text']:.2f}x",
                    shown(ms(last["put"]), "ms"),
                    f"{growth:.1f}x",
                    shown(ms(last["load"]), "ms"),
                    each["stopped"] or "",
                ]
            )
    return rows


def common(told: Any, on: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The longest length that every store reached, and each store's point there."""
    each_has = [{point["turns"] for point in each["points"]} for each in courses(told, on)]
    if not each_has:
        return 0, {}
    turns = max(set.intersection(*each_has), default=0)
    return turns, {
        each["name"]: point
        for each in courses(told, on)
        for point in each["points"]
        if point["turns"] == turns
    }


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
            at = {name: _rate(tries[count]) for name, tries in rates.items()}
            found += _better(at, lambda rate: rate, f"{on}: turns a second by {count} writers")
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
    said = []
    for name, each in values.items():
        if is_ours(name) or is_bare(name):
            continue
        theirs = value(each)
        if (theirs < best) if smaller else (theirs > best):
            said.append(f"- {what}: {name} {theirs:,.4g}, ours {best:,.4g}.")
    return said


def _rate(tries: Sequence[dict[str, Any]]) -> float:
    return p50([each["rate"] for each in tries])


# Other tables ----------------------------------------------------------------------


def resumed_rows(told: Any) -> Table:
    """A new process that loads the conversation."""
    rows = []
    resumed = told.get("length", {}).get("resumed", [])
    order = [each["store"] for each in told.get("length", {}).get("courses", [])]
    for each in sorted(resumed, key=lambda each: order.index(each["store"])):
        if "error" in each:
            rows.append([each["store"], f"{each['turns']:,}", "failed", each["error"][:80], "", ""])
            continue
        grown = each["rss_mb"] - each["rss_before_mb"]
        open_ms, load_ms = shown(each["open"] * 1e3, "ms"), shown(each["load"] * 1e3, "ms")
        memory = [f"{each['rss_mb']:.0f} MB", f"{grown:.1f} MB"]
        rows.append([each["store"], f"{each['turns']:,}", open_ms, load_ms, *memory])
    return rows


def writer_rows(told: Any) -> tuple[list[str], Table]:
    """Turns a second."""
    found = {
        name: tries for name, tries in told.get("writers", {}).items() if isinstance(tries, dict)
    }
    counts = list(next(iter(found.values()), {}))
    rows = []
    for name, tries in found.items():
        failed = sum(each["failed"] for values in tries.values() for each in values)
        rates = [f"{_rate(tries[count]):,.0f}" for count in counts]
        rows.append([name, *rates, f"{failed} calls" if failed else ""])
    return counts, rows


def conversation_rows(told: Any) -> Table:
    """Real conversations."""
    stores = told.get("conversations", {}).get("stores", {})
    return [
        [
            name,
            each["keeps"],
            shown(each["bytes"] / 1e6, "MB"),
            f"{each['x_text']:.2f}x",
            f"{each['bytes_a_thread']:,}",
            shown(each["put_ms"], "ms"),
        ]
        for name, each in stores.items()
    ]


def postgres_rows(figures: Sequence[dict[str, Any]]) -> Table:
    """Against the database itself."""
    rows = []
    for each in figures:
        quiet = each.get("quiet")
        rows.append(
            [
                each["what"],
                shown(each["ours"], each["unit"]),
                each["beside"],
                shown(each["other"], each["unit"]),
                _ratio(each["ratio"], quiet),
                "" if each["hold"] is None else f"<= {each['hold']:g}x",
                _said(kept(each["ratio"], quiet, each["hold"])),
                each["note"],
            ]
        )
    return rows


def list_rows(told: Any) -> Table:
    """Threads and search."""
    rows = []
    for name, each in told.get("threads", {}).items():
        if isinstance(each, dict):
            for page in ("first", "hundredth, by offset", "next, by after"):
                rows.append(
                    [f"{each['threads']:,} threads, {name}", page, shown(ms(each[page]), "ms")]
                )
    found = told.get("search", {})
    for kind in ("rare", "common"):
        if kind in found:
            what = f"search in {found['messages']:,} messages, Threadline (SQLite)"
            rows.append([what, f"{kind} words", shown(ms(found[kind]), "ms")])
    return rows


def promise_rows(told: Any, core: Any, graph: Any, figures: Sequence[dict[str, Any]]) -> Table:
    """What Threadline set out to hold: ours, the best peer, the limit, the ratio."""
    rows: Table = []

    def row(
        what: str,
        ours: str,
        peer: str,
        limit: str,
        ratio: float,
        hold: float,
        quiet: float | None = None,
    ) -> None:
        told = _said(kept(ratio, quiet, hold))
        rows.append([what, ours, peer, limit, _ratio(ratio, quiet), f"<= {hold:g}x", told])

    if rates := graph.get("puts per second, 16 threads, 3 ms"):
        mine, theirs = rates["ThreadlineSaver, PostgreSQL"], rates["PostgresSaver, pool of 16"]
        what = "puts a second through LangGraph, 16 threads behind 3 ms"
        row(what, f"{mine:,} /s", f"{theirs:,} /s", "2,000 /s", 2000 / mine, 1)
    for (on, peer), hold in zip(SAVERS.items(), (3, 4), strict=True):
        for key, ours in graph.items():
            turns, _, name = key.partition(", ")
            theirs = graph.get(f"{turns}, {peer}")
            if name == f"ThreadlineSaver, {on}" and theirs:
                what, factor = f"bytes through LangGraph, {turns}, {on}", ours["x_text"]
                row(what, f"{factor:.2f}x", f"{theirs['x_text']:.0f}x", "the text", factor, hold)
    for kind, hold in (("words", 1.2), ("random letters", 1.2)):
        if found := core.get(f"turns, {kind}"):
            mb = found["file_mb"]
            row(f"file of 1,000 turns, {kind}, MB", f"{mb:.2f} MB", "", "", mb, hold)
    if found := core.get("interleaved"):
        for way, hold in (("append", 1.2), ("whole", 4)):
            times = [shown(found[f"{way}_{size}_ms"], "ms") for size in ("long", "short")]
            what = f"put at 1,000 turns against 10, {way}"
            row(what, times[0], "", times[1], found[f"{way}_ratio"], hold)
    if found := core.get("detection"):
        times = [shown(found["detect_ms"], "ms"), "", shown(found["dump_json_ms"], "ms")]
        row("finding what changed in 2,000 messages against one dump", *times, found["ratio"], 0.4)
    if found := core.get("imports"):
        times = [shown(found["threadline_ms"], "ms"), "", shown(found["dependencies_ms"], "ms")]
        row("`import threadline` against its dependencies", *times, found["ratio"], 2.5)
    peers = _peer_puts(told)
    for each in figures:
        for prefix, bound in AT_MOST.items():
            if each["what"].startswith(prefix):
                row(
                    each["what"],
                    shown(each["ours"], "ms"),
                    "",
                    f"{bound} ms",
                    each["ours"] / bound,
                    1,
                )
        if each["unit"] == "/s":
            what, least = f"{each['what']}, 16 connections behind 3 ms", 2000
            limit = f"{least:,} /s; bare INSERTs {shown(each['other'], '/s')}"
            row(what, shown(each["ours"], "/s"), "", limit, least / each["ours"], 1)
    for each in figures:
        if each["hold"] is None:
            continue
        ours, limit = shown(each["ours"], each["unit"]), shown(each["other"], each["unit"])
        best = peers if each["what"].startswith("put:") and "alone" not in each["what"] else ""
        row(
            f"{each['what']}, against: {each['beside']}",
            ours,
            best,
            limit,
            each["ratio"],
            each["hold"],
            each.get("quiet"),
        )
    return rows


def _ratio(ratio: float, quiet: float | None) -> str:
    return f"{ratio:.2f}x" + (f" ({quiet:.2f}x)" if quiet else "")


def _said(holds: bool | None) -> str:
    return {True: "yes", False: "**no**", None: ""}[holds]


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


# The machine, and what was cut ----------------------------------------------------------------------

#: From this share of the processors on, other programs disturb.
BUSY = 0.1


def load_note(run: Any) -> str:
    """How far times can be believed: from what other programs took of the processors during the run."""
    others = [each for each in run.get("others", []) if each is not None]
    both = (
        "That is why the ratio at the fastest tenth stands beside each ratio of medians, and why a line holds only "
        "when both do.\n"
    )
    if not others:
        return (
            "- **How busy the machine was** was not measured. Where client and server wait for the processor, on both "
            f"sides of a ratio, it comes nearer to 1 than it is. {both}"
        )
    if max(others) < BUSY:
        return (
            f"- **The machine was quiet.** Other programs took at most {max(others):.0%} of its processors during any "
            f"of the programs above. But client and server share its {run['cores']} processors: where 16 or 64 tasks "
            "write, they wait for each other.\n"
        )
    return (
        f"- **Load flatters.** Other programs took {min(others):.0%} to {max(others):.0%} of the processors during the "
        "programs above: client and server wait for them then, on both sides of a ratio, and times are longer than "
        f"those of a quiet machine. {both}"
        "- **Bounds in milliseconds and puts a second** say little on a busy machine: what the bare driver did in the "
        "same seconds, the figure beside, says more.\n"
    )


def cuts(run: Any, *programs: Any) -> list[str]:
    """What is not in these tables, and why."""
    found = [f"- {words}." for each in programs for words in each.get("cuts", [])]
    for each in programs:
        parts = each.get("failed") or {}
        found += [f"- {name} failed: {reason}" for name, reason in parts.items()]
        found += [
            f"- {name} failed: {part['failed']}"
            for name, part in each.items()
            if isinstance(part, dict) and isinstance(part.get("failed"), str)
        ]
    return found + [f"- {each}." for each in run.get("failures", [])]


# The page ----------------------------------------------------------------------


def page(folder: Path, command: str) -> str:
    """All of it."""
    told, postgres, core = read("compare"), read("postgres"), read("core")
    graph, run = read("langgraph"), read("run")
    figures = postgres.get("figures", [])
    facts = told.get("surroundings") or postgres.get("surroundings") or {}
    counts, rates = writer_rows(told)
    loads = {
        name: each["load"]
        for name, each in told.items()
        if name != "surroundings" and "load" in each
    }
    versions = ", ".join(f"{k} {v}" for k, v in facts.get("packages", {}).items() if v)
    bound = f", in at most {run['minutes']:g} minutes" if run.get("minutes") else ""
    missing = cuts(run, told, postgres, core, graph)
    unusable = [f"- {name}: {reason}" for name, reason in told.get("unusable", {}).items()]
    parts = [
        "# Benchmarks\n",
        f"Made by {command}{bound}; do not edit. What stands in one table was measured in one run, one call of each "
        "after the other, so that noise hits all alike; take times as ratios. Every sample: "
        f"[{folder.name}/samples.json]({folder.name}/samples.json).\n",
        "```console\n" + "\n".join(run.get("commands", [])) + "\n```\n",
        f"Machine: {facts.get('processor', '')}, {facts.get('cores')} cores, {facts.get('system')}; Python "
        f"{facts.get('python')}, SQLite {facts.get('sqlite')}. Load (1 minute) at the beginning and end of each part: "
        f"{', '.join(f'{k} {v[0]} to {v[1]}' for k, v in loads.items())}. Versions: {versions}.\n",
        "## What figures do not say\n",
        load_note(run) + (HERE / "notes.md").read_text("utf-8"),
        "## What was cut\n",
        ("\n".join(missing) if missing else "Nothing: every part was played to its end.") + "\n",
        "## What was set out to hold\n",
        "Ours against the limit (or against what the line names). In brackets: the ratio at the fastest tenth of the "
        "samples, where a busy machine disturbs least. A line holds when both do.\n",
        table(
            ["what", "ours", "best peer", "limit", "ratio", "to hold", "holds"],
            promise_rows(told, core, graph, figures),
        ),
        "## Where a peer is better\n",
        "Found in the figures: every line in which a peer beats the better of ours (whole states, append).\n",
        "\n".join(wins(told, graph) or ["- Nowhere in this run."]) + "\n",
        *(["## Peers that could not be used\n", "\n".join(unusable) + "\n"] if unusable else []),
        "## Cost over length\n",
        "A conversation grows by a question and an answer of 300 characters a turn. What keeps every version is given "
        "the whole state each turn; what keeps a log is given the two messages.\n",
        "\n".join(plots(told, folder)) + "\n",
        table(
            [
                "store",
                "keeps",
                "turns",
                "stored",
                "of the text",
                "put",
                "grew",
                "load",
                "stopped at",
            ],
            length_rows(told),
        ),
        "## Resuming in a new process\n",
        table(
            ["store", "turns", "open", "load", "memory (RSS)", "of which the load"],
            resumed_rows(told),
        ),
    ]
    if rates:
        parts += [
            "## Concurrent writers\n",
            "Turns a second by so many tasks of one process, each into a thread of its own.\n",
            table(["store", *counts, "failed"], rates),
        ]
    if found := list_rows(told):
        parts += ["## Lists and search\n", table(["what", "which", "time"], found)]
    if told.get("conversations", {}).get("stores"):
        found = told["conversations"]
        parts += [
            "## Real conversations\n",
            f"{found['threads']} recorded tool-calling conversations, one message a put ({found['puts']:,} puts), "
            f"against {found['text_bytes'] / 1e6:.2f} MB of their JSON.\n",
            table(
                ["store", "keeps", "stored", "of the JSON", "bytes a thread", "put"],
                conversation_rows(told),
            ),
        ]
    parts += [
        "## PostgreSQL and the cache against the database itself\n",
        "Medians. CPU: time on the processor, the client's + the server's.\n",
        table(
            ["what", "ours", "beside", "its time", "ratio", "to hold", "holds", "note"],
            postgres_rows(figures),
        ),
    ]
    write_json(folder / "samples.json", told | {"postgres": figures, "core": core})
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--command", default="`make bench`")
    parser.add_argument("--to", type=Path, default=DOCS, help="the folder of the page")
    options = parser.parse_args()
    folder = options.to / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    (options.to / "benchmarks.md").write_text(page(folder, options.command), "utf-8")
    print(f"wrote {options.to / 'benchmarks.md'}")


if __name__ == "__main__":
    main()
