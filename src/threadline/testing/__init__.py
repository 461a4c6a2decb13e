"""The exam for checkpointers and backends: Threadline's own take it, and yours can.

Override one fixture, and every promise of Threadline is a test (pytest and pytest-asyncio run them):

    import pytest
    from threadline.testing import CheckpointerContract

    class TestMine(CheckpointerContract):
        @pytest.fixture
        def checkpointer(self, tmp_path):
            return MyCheckpointer(tmp_path / "x.db")

For a backend of your own, return `BaseCheckpointer(MyBackend(...))`. Each test begins on an empty store, runs through
the async and the sync face, and its name begins with the promise that it checks (`test_p8_...`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from threadline.testing.machine import CheckpointerMachine as CheckpointerMachine

# Before the parts are imported, so that their asserts say what they compared.
pytest.register_assert_rewrite(
    f"{__name__}.contract_states",
    f"{__name__}.contract_history",
    f"{__name__}.contract_messages",
    f"{__name__}.contract_search",
    f"{__name__}.contract_threads",
    f"{__name__}.contract_tenancy",
    f"{__name__}.contract_retry",
    f"{__name__}.contract_slots",
    f"{__name__}.contract_store",
    f"{__name__}.contract_values",
    f"{__name__}.contract_past",
    f"{__name__}.contract_cache",
    f"{__name__}.faces",
    f"{__name__}.machine",
)

from threadline.testing.contract import CheckpointerContract as CheckpointerContract  # noqa: E402 - see above
from threadline.testing.contract_cache import SharedCacheContract as SharedCacheContract  # noqa: E402 - see above

__all__ = ["CheckpointerContract", "CheckpointerMachine", "SharedCacheContract"]


def __getattr__(name: str) -> Any:
    if name != "CheckpointerMachine":  # It needs Hypothesis, which the contract does not.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from threadline.testing.machine import CheckpointerMachine

    return CheckpointerMachine
