"""The contract as one class; its parts stand in the files `contract_*`."""

from __future__ import annotations

from threadline.testing.contract_copies import CopyContract
from threadline.testing.contract_history import BasesContract, HistoryContract
from threadline.testing.contract_made_ids import MadeIdContract
from threadline.testing.contract_messages import (
    DeletedLogContract,
    MessagesContract,
    RemovalContract,
)
from threadline.testing.contract_past import ForkContract, PastContract, TransferContract
from threadline.testing.contract_retry import RetryContract
from threadline.testing.contract_search import SearchContract
from threadline.testing.contract_slots import SlotContract
from threadline.testing.contract_states import StateClassContract, StatesContract
from threadline.testing.contract_store import StoreContract
from threadline.testing.contract_tenancy import NamesContract, TenancyContract
from threadline.testing.contract_texts import StoreTextsContract
from threadline.testing.contract_threads import DeletionContract, ThreadsContract
from threadline.testing.contract_values import ValuesContract


class CheckpointerContract(
    StatesContract,
    StateClassContract,
    HistoryContract,
    BasesContract,
    PastContract,
    ForkContract,
    CopyContract,
    TransferContract,
    MessagesContract,
    RemovalContract,
    DeletedLogContract,
    SearchContract,
    ThreadsContract,
    DeletionContract,
    TenancyContract,
    NamesContract,
    ValuesContract,
    StoreContract,
    SlotContract,
    StoreTextsContract,
    RetryContract,
    MadeIdContract,
):
    """What every checkpointer must do. Override the fixture `checkpointer` with a new one on an empty store."""
