"""The promises of a network that was left in peace: every sentence here is checked.

All honest nodes have one final chain, one state and one DAG, before and after a restart. Only
reward, base fee and penalty make or burn money. No item that a client was told is accepted is lost,
and no item that must be refused is kept. No honest key has signed a pair of ballots that is an
offence. Indices and pool agree with the chain. The chain goes on at the rate of its live delegates.
Promises for every moment are in ``final.py``.
"""

from collections.abc import Iterator

from dipnet.consensus.chain import rules
from dipnet.consensus.chain.records import KEY_TX
from dipnet.consensus.chain.schedule import slot_at
from dipnet.consensus.finality.header import HASH_ZERO
from dipnet.consensus.staking.evidence import REPORTER
from dipnet.consensus.staking.idpos import DPOS_ADDRESS
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.state import KEY_ACCOUNT, Journal, supply, trie_root
from dipnet.node.node import Node
from dipnet.primitives.codec import Reader
from dipnet.primitives.crypto import keccak256
from dipnet.vm.storage_layout import BURNED, JournalStorage, StorageSlot
from tests.sim.final import offences
from tests.sim.load import Ledger
from tests.sim.voters import Known
from tests.sim.world import Host, World

STEP_MAX, PAYMENTS_END = 64, 4  # of the back-off; in units of ``backoff_slots``
SYSTEM = DPOS_ADDRESS[:19]  # the first bytes of every system contract's address
LIVE_SLOTS = 10  # the last blocks, looked at for liveness
LIVE_PERCENT = 70  # of the slots whose leader is up and honest
PUNISHED_TURNS = (
    2  # of every leader, in peace: by then a delegate that knows the proof has made a block
)
BESET_PERCENT = (
    40  # of them when other delegates break the rules: a hidden block may outdo the next
)


def violations(
    world: World,
    ledger: Ledger,
    honest: list[Host],
    signers: dict[bytes, None],
    known: dict[bytes, Known],
    peace_slot: int,
    beset: bool,
) -> Iterator[str]:
    """Every promise that is broken. ``signers``: keys that must make no offence.

    ``known``: by signer, the offences of which honest nodes have proof.

    ``beset``: some delegates break the rules to the end, so that heads may differ for a slot.
    """
    nodes = [host.running for host in honest]
    yield from offences(world, list(signers))
    yield from _penalties(world, nodes[0], signers, known, peace_slot)
    yield from ledger.violations
    yield from _agreement(nodes, beset)
    yield from _vertices(nodes, ledger)
    for host in honest:
        yield from _one_node(world, host)
    yield from _payments(world, ledger, nodes)
    yield from _backing_off(world.genesis, nodes[0])
    yield from _boundaries(nodes[0])
    yield from _liveness(world, nodes[0], signers, beset)


def _agreement(nodes: list[Node], beset: bool) -> Iterator[str]:
    if not beset and len({node.chain.head.hash for node in nodes}) != 1:
        yield f"heads differ: {[(n.chain.head.height, n.chain.head.slot) for n in nodes]}"
    roots = {node.chain.head.hash: _state_root(node.chain.head_state) for node in nodes}
    for node in nodes:
        if roots[node.chain.head.hash] != node.chain.head.state_root:
            yield f"the state of block {node.chain.head.height} is not what its header says"


def _state_root(state: Reader) -> bytes:
    """From the flat records alone, through a trie that is made anew."""
    accounts = state.scan(KEY_ACCOUNT)
    return trie_root([(keccak256(key[1:]), raw) for key, raw in accounts])


def _vertices(nodes: list[Node], ledger: Ledger) -> Iterator[str]:
    ids = [{node.dag.id_at(i) for i in range(len(node.dag))} for node in nodes]
    if any(one != ids[0] for one in ids):
        yield f"DAGs differ: {[len(one) for one in ids]}, of all {len(set().union(*ids))}"
    for vertex_id, hosts in ledger.vertices.items():
        if hosts and not all(vertex_id in one for one in ids):
            yield f"acknowledged vertex {vertex_id.hex()} is lost"
    for vertex_id in ledger.never:
        if any(vertex_id in one for one in ids):
            yield f"vertex {vertex_id.hex()} should have been refused"


def _one_node(world: World, host: Host) -> Iterator[str]:
    node, name = host.node, f"node {host.index}"
    if node is None:
        yield f"{name} is not up"
        return
    chain = node.chain
    expected = _expected_supply(world.genesis, node)
    if supply(chain.head_state) != expected:
        yield f"{name}: supply is {supply(chain.head_state)}, expected {expected}"
    indexed = {key[1:]: None for key, _ in host.disk.view.scan(KEY_TX)}
    for height in range(1, chain.head.height + 1):
        block = chain.need_block(node.view.block_hash_at(height))
        for index, tx in enumerate(block.txs):
            if indexed.pop(tx.hash, 0) == 0 or chain.transaction(tx.hash) != (block.hash, index):
                yield f"{name}: transaction {tx.hash.hex()} of block {height} is not indexed"
    for tx_hash in indexed:
        yield f"{name}: transaction {tx_hash.hex()} is indexed and in no block"
    for tx in node.pool._txs.values():
        if tx.nonce < chain.account(tx.sender).nonce:
            yield f"{name}: transaction {tx.hash.hex()} is in the pool and in the chain"
    again = world.load(host, seed=1)
    if again.chain.head.hash != chain.head.hash or again.chain.final.hash != chain.final.hash:
        yield f"{name}: a restart changes its head or its final block"
    if list(again.chain.certificates) != list(chain.certificates):
        yield f"{name}: a restart forgets a certificate"
    if len(again.dag) != len(node.dag):
        yield f"{name}: a restart changes its DAG"


def _expected_supply(genesis: Genesis, node: Node) -> int:
    total = genesis.supply()
    for height in range(1, node.chain.head.height + 1):
        header = node.chain.need(node.view.block_hash_at(height))
        paid = header.gas_used - _free_gas(node, header.hash)
        total += genesis.parameters.block_reward - paid * header.base_fee
    return total - penalties(node)


def _free_gas(node: Node, block_hash: bytes) -> int:
    """The part of a block's gas that is free of charge: proposers' reports."""
    free = before = 0
    txs = node.chain.need_block(block_hash).txs
    for tx, receipt in zip(txs, node.chain.receipts(block_hash) or (), strict=True):
        if tx.sender == REPORTER and not tx.max_fee:
            free += receipt.cumulative_gas - before
        before = receipt.cumulative_gas
    return free


def penalties(node: Node) -> int:
    """Wei of stake that are no more because their owners broke the rules."""
    return StorageSlot(JournalStorage(Journal(node.chain.head_state), DPOS_ADDRESS))[BURNED]


def _payments(world: World, ledger: Ledger, nodes: list[Node]) -> Iterator[str]:
    """A pool is not on disk: its promise ends with its process."""
    chain = nodes[0].chain
    for tx_hash, (index, life, sender, nonce) in ledger.payments.items():
        host = world.hosts[index]
        if host.life != life or host.node is None:
            continue
        if chain.account(sender).nonce <= nonce and tx_hash not in host.node.pool:
            yield f"acknowledged payment {tx_hash.hex()} is lost"


def _penalties(
    world: World,
    node: Node,
    signers: dict[bytes, None],
    known: dict[bytes, Known],
    peace_slot: int,
) -> Iterator[str]:
    """A delegate that keeps the rules loses nothing; a convicted delegate soon loses its seat."""
    for signer in signers:
        if node.chain.is_tombstoned(signer):
            yield f"the honest key {signer.hex()} is punished"
    members = node.chain.epoch.members
    due = slot_at(world.genesis.parameters, world.now_ms) - PUNISHED_TURNS * len(members)
    for signer, one in known.items():
        for index, slot in one.hosts.items():
            host = world.hosts[index]
            alone = sum(other.proposer == host.proposer for other in world.hosts) == 1
            leads = host.proposer in members.signers and signer in _proven(host.running)
            if not (leads and alone):  # a second node of the key may make all its blocks
                continue
            if max(slot, peace_slot) < due and not node.chain.is_tombstoned(signer):
                yield f"{one.name} by {signer.hex()}, known to node {index}, is not punished"


def _proven(node: Node) -> dict[bytes, None]:
    """The delegates of whose offence the node has a proof."""
    return {offence.signer: None for offence in node.voting.tally.offences()}


def _backing_off(genesis: Genesis, node: Node) -> Iterator[str]:
    """So far above its final block a chain grows slowly, and takes no payments in the end."""
    unit = genesis.parameters.backoff_slots
    for height in range(1, node.chain.head.height + 1):
        block = node.chain.need_block(node.view.block_hash_at(height))
        slot = block.header.slot
        behind, step = (slot - block.header.final[1]) // unit, 1
        while behind >= 2 * step and step < STEP_MAX:
            step *= 2
        if slot % step:
            yield f"block {height} is of slot {slot}, where every {step}th may have one"
        if behind >= PAYMENTS_END and not all(tx.to[:19] == SYSTEM for tx in block.txs):
            yield f"block {height} takes payments {behind * unit} slots above the final one"


def _boundaries(node: Node) -> Iterator[str]:
    """An epoch goes on until the boundary below it is final."""
    last = 0
    for height in range(1, node.chain.head.height + 1):
        header = node.chain.need(node.view.block_hash_at(height))
        if header.next_set_hash != HASH_ZERO:
            if header.final[1] < last:
                yield f"block {height} is a boundary above one of slot {last} that is not final"
            last = header.slot


def _liveness(world: World, node: Node, signers: dict[bytes, None], beset: bool) -> Iterator[str]:
    """Delegates that are up and left in peace propose in nearly all of their slots."""
    last = (world.now_ms - world.genesis.time_ms) // world.genesis.parameters.slot_ms
    slots = range(last - LIVE_SLOTS, last)
    made, due = 0, 0
    header = node.chain.head
    for slot in reversed(slots):
        while header.slot > slot:
            made += header.slot in slots
            header = node.chain.need(header.parent)
        below = node.chain.need(header.parent) if header.slot == slot else header
        epoch = node.chain.epoch_at(below)
        leader = rules.leader(epoch, slot, header.final[1])
        index = None if leader is None else epoch.members.index(leader)
        due += index is not None and epoch.members.signers[index] in signers
    if made * 100 < due * (BESET_PERCENT if beset else LIVE_PERCENT):
        yield f"{made} blocks in {LIVE_SLOTS} slots of peace, {due} were due"
