"""Makes docs/benchmarks.md, its plots and its samples from what the programs measured (benchmarks/results/).

Which lines a peer wins is found in the figures, not chosen. What figures cannot say, above all why something is not
reached, stands in `notes.md` beside this file and is put in as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from _found import MEASURES, SYSTEMS, Table, courses, ms, rate, ratio, said
from _harness import kept, p50, shown, write_json
from _plot import plot
from _promises import promise_rows, wins

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"


def read(name: str) -> Any:
    """What a program measured, or nothing."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# Cost over length ----------------------------------------------------------------------

#: Of what LangGraph's savers are asked, the times in the table.
GRAPH_TIMES = ("put_first", "put_last", "get", "history_20", "turn_cpu")
#: What the text alone takes.
ZSTD = "bare: the text in zstd"


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
            if measure == "bytes" and (limits := told["length"].get("text_in_zstd")):
                curves[ZSTD] = [(each["turns"], each["bytes"] / 1e6) for each in limits]
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
    for each in told.get("length", {}).get("text_in_zstd", [])[-1:]:
        size, factor = shown(each["bytes"] / 1e6, "MB"), f"{each['x_text']:.2f}x"
        rows.append([ZSTD, "", f"{each['turns']:,}", size, factor, "", "", "", ""])
    return rows


# Other tables ----------------------------------------------------------------------


def graph_rows(graph: Any) -> Table:
    """A conversation through LangGraph, in each saver."""
    rows = []
    for key, each in graph.items():
        if isinstance(each, dict) and "x_text" in each:
            turns, _, name = key.partition(", ")
            times = [shown(each[f"{what}_ms"], "ms") for what in GRAPH_TIMES]
            rows.append([name, turns, f"{each['x_text']:,.2f}x", *times])
    return rows


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
        rates = [f"{rate(tries[count]):,.0f}" for count in counts]
        rows.append([name, *rates, f"{failed} calls" if failed else ""])
    return counts, rows


def conversation_rows(told: Any) -> Table:
    """Real conversations."""
    found = told.get("conversations", {})
    rows = [
        [
            name,
            each["keeps"],
            shown(each["bytes"] / 1e6, "MB"),
            f"{each['x_text']:.2f}x",
            f"{each['bytes_a_thread']:,}",
            shown(each["put_ms"], "ms"),
        ]
        for name, each in found.get("stores", {}).items()
    ]
    if size := found.get("text_in_zstd"):
        factor = f"{size / found['text_bytes']:.2f}x"
        rows.append(
            [ZSTD, "", shown(size / 1e6, "MB"), factor, f"{size // found['threads']:,}", ""]
        )
    return rows


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
                ratio(each["ratio"], quiet),
                each.get("limit", ""),
                "" if each["hold"] is None else f"<= {each['hold']:g}x",
                said(kept(each["ratio"], quiet, each["hold"])),
                each["note"],
            ]
        )
    return rows


def list_rows(told: Any) -> Table:
    """Threads and search."""
    rows = []
    for name, each in told.get("threads", {}).items():
        if isinstance(each, dict):
            for page, samples in each.items():
                if isinstance(samples, list) and page != "load":
                    what = f"{each['threads']:,} threads, {name}"
                    rows.append([what, page, shown(ms(samples), "ms")])
    found = told.get("search", {})
    for kind, samples in found.items():
        if isinstance(samples, list) and kind != "load":
            what = f"search in {found['messages']:,} messages, Threadline (SQLite)"
            rows.append([what, kind, shown(ms(samples), "ms")])
    return rows


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
    if found := graph_rows(graph):
        parts += [
            "## Through LangGraph\n",
            "A graph of one node: 1,000 random letters and digits and three checkpoints a turn. The text in zstd: "
            f"{min(each['x_zstd'] for each in graph.values() if 'x_zstd' in each):.2f}x.\n",
            table(
                [
                    "saver",
                    "turns",
                    "of the text",
                    "first puts",
                    "last puts",
                    "`get_tuple`",
                    "20 steps of the past",
                    "CPU of a turn",
                ],
                found,
            ),
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
            ["what", "ours", "beside", "its time", "ratio", "limit", "to hold", "holds", "note"],
            postgres_rows(figures),
        ),
    ]
    write_json(
        folder / "samples.json", told | {"postgres": figures, "core": core, "langgraph": graph}
    )
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
