"""docs/rpc.md says what the method table says, and the table what the code can raise."""

from dipnet.primitives.errors import REFUSALS
from dipnet.rpc.reference import render
from dipnet.rpc.server import METHODS
from tests import ROOT

DOCUMENT = ROOT / "docs" / "rpc.md"
PROMISED = """
    web3_clientVersion net_version net_peerCount eth_chainId eth_syncing eth_accounts
    eth_blockNumber eth_getBalance eth_getTransactionCount eth_getCode eth_gasPrice
    eth_maxPriorityFeePerGas eth_feeHistory eth_estimateGas eth_sendRawTransaction
    eth_getTransactionByHash eth_getTransactionReceipt eth_getBlockByNumber eth_getBlockByHash
    eth_getBlockTransactionCountByNumber eth_getBlockTransactionCountByHash
    eth_getTransactionByBlockNumberAndIndex eth_getTransactionByBlockHashAndIndex
    eth_getBlockReceipts eth_call eth_getLogs eth_getStorageAt eth_getProof eth_subscribe
    eth_unsubscribe
    dag_submit dag_template dag_get dag_status dag_latest dag_range dag_stats
    dpos_status dpos_schedule dpos_evidence dpos_delegates dpos_delegate dpos_account
    dpos_parameters dpos_borders dpos_finalHeader dipnet_status dipnet_account
"""


def test_the_document_is_that_of_the_table() -> None:
    assert DOCUMENT.read_text() == render(), "python -m dipnet.rpc.reference > docs/rpc.md"


def test_every_promised_method_is_there() -> None:
    assert sorted(METHODS) == sorted(PROMISED.split())


def test_every_error_of_a_method_is_in_the_table() -> None:
    for method in METHODS.values():
        assert set(method.errors) <= set(REFUSALS), method.name


def test_every_method_says_what_it_is() -> None:
    for method in METHODS.values():
        assert method.text.endswith("."), method.name
        assert method.result
        names = [param.name for param in method.params]
        assert len(set(names)) == len(names)
