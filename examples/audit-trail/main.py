"""Who decided what, when, and can it be proven that nothing was changed since?

Every node leaves a checkpoint with its name; a node of its own writes decisions into the message log; `averify` reads
all of it again and checks it against its digests; damage is found and named.
"""

from __future__ import annotations

import asyncio
import sqlite3

from threadline import AgentState, BaseCheckpointer, Message, SqliteCheckpointer

LOAN = {"thread_id": "loan-17", "user_id": "bank"}


def check_income(state: AgentState) -> Message:
    """A decision."""
    return Message.text_message("The income is sufficient.", role="assistant")


async def decide(state: AgentState, config: dict, checkpointer: BaseCheckpointer) -> Message:
    """Another one, noted for the auditors in the message log, which is searched."""
    note = Message.text_message(f"approved at step {state.execution_meta.step}", role="system")
    await checkpointer.aput_messages(config, [note], metadata={"policy": "2024-B"})
    return Message.text_message("The loan is approved.", role="assistant")


async def main() -> None:
    """Decide, then audit."""
    async with SqliteCheckpointer("audit.db") as checkpointer:
        async with checkpointer.session(LOAN) as session:
            await session.append([Message.text_message("May I have a loan?")])
            await session.run_all([check_income, decide])

        print("The trail:")
        for checkpoint in reversed(await checkpointer.alist_checkpoints(LOAN)):
            print(f"  version {checkpoint.version}: {checkpoint.name or '-'}")
        (note,) = await checkpointer.alist_messages(LOAN, search="approved at")
        print("Found by search:", note.text(), note.metadata)

        difference = await checkpointer.adiff(LOAN, 3, 4)
        paths = [".".join(map(str, change.path)) for change in difference.changes]
        print("Changed by the decision:", ", ".join(paths))
        print("Whole:", bool(await checkpointer.averify(LOAN)))

    damaged = sqlite3.connect("audit.db")
    damaged.execute("UPDATE log_rows SET payload = zeroblob(length(payload))")
    damaged.commit()
    damaged.close()
    async with SqliteCheckpointer("audit.db") as checkpointer:
        verification = await checkpointer.averify(LOAN)
        print("Whole after somebody wrote into the file:", bool(verification))


if __name__ == "__main__":
    asyncio.run(main())
