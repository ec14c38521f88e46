"""Transactions that wait for a block: bounded, by account in nonce order, best price first.

Each account has *pending* transactions, whose nonces follow one another from the account's nonce in
the state, and *queued* transactions behind a gap. Only pending transactions are picked. Everything
is bounded, every choice follows from the order of additions, an addition costs O(log n).

The worth of a transaction is its effective tip (EIP-1559). It cannot be taken before those in front
of it, so for eviction its worth is its *floor*: the least tip from the first transaction of its
account up to itself. A full pool drops the oldest queued transaction. Where there is none, it drops
the cheapest last transaction of an account, the newest among equals, never a transaction in the
middle.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, TypeAlias

from dipnet.ledger.parameters import Parameters
from dipnet.ledger.tx import Tx
from dipnet.primitives.crypto import ADDRESS_ZERO
from dipnet.primitives.errors import Invalid
from dipnet.vm.transaction import Env, check

POOL_BYTES_MAX: Final = 128 * 2**20
QUEUED_TXS_MAX: Final = 8_192
QUEUED_ACCOUNT_TXS_MAX: Final = 1_024


def cost(tx: Tx) -> int:
    """The most (wei) that ``tx`` can take from its sender."""
    return tx.gas * tx.max_fee + tx.value


def _env(parameters: Parameters) -> Env:
    """A block without a base fee: a transaction may wait until the base fee has fallen."""
    nobody = ADDRESS_ZERO
    return Env(parameters.chain_id, 0, 0, nobody, 0, parameters.gas_limit, 0, nobody)


@dataclass(slots=True)
class _Waiting:
    """A transaction of the pool. Its floors are minima over the account's transactions, from the
    first transaction up to this one."""

    tx: Tx
    arrival: int
    tip_floor: int
    fee_floor: int


@dataclass(slots=True)
class _Account:
    """The transactions of a sender: nonces in [nonce, ready) are pending, higher are queued."""

    nonce: int
    ready: int
    cost: int = 0
    waiting: dict[int, _Waiting] = field(default_factory=dict)

    def queued(self) -> int:
        return len(self.waiting) - (self.ready - self.nonce)

    def floor(self, nonce: int) -> None:
        """Set the floors of the pending transaction ``nonce`` from those of ``nonce - 1``."""
        own = self.waiting[nonce]
        own.tip_floor, own.fee_floor = own.tx.max_priority_fee, own.tx.max_fee
        if nonce > self.nonce:
            before = self.waiting[nonce - 1]
            own.tip_floor = min(own.tip_floor, before.tip_floor)
            own.fee_floor = min(own.fee_floor, before.fee_floor)


_End: TypeAlias = tuple[int, int, bytes, int]
"""Worth, -arrival, address and nonce of the last pending transaction of an account."""


def _worth(account: _Account, nonce: int, base_fee: int) -> int:
    waiting = account.waiting[nonce]
    return min(waiting.tip_floor, waiting.fee_floor - base_fee)


class Picks:
    """The pending transactions by effective tip, then by arrival; in nonce order of each account.

    A producer looks at the best transaction with ``peek``. Then it calls ``take``, after which the
    next of the same account may come, or ``skip``, which leaves out the account. The pool must not
    change meanwhile.
    """

    def __init__(self, accounts: Iterable[_Account], base_fee: int) -> None:
        self._base_fee = base_fee
        self._heap = []
        for index, account in enumerate(accounts):
            if account.ready > account.nonce:
                first = account.waiting[account.nonce]
                tip = first.tx.effective_tip(base_fee)
                if tip >= 0:
                    self._heap.append((-tip, first.arrival, index, account.nonce, account))
        heapify(self._heap)

    def peek(self) -> Tx | None:
        """The best transaction, None when all have been taken or skipped."""
        if not self._heap:
            return None
        *_, nonce, account = self._heap[0]
        return account.waiting[nonce].tx

    def take(self) -> None:
        """Take the best transaction; the next of the same account may come."""
        _, _, index, nonce, account = self._heap[0]
        nonce += 1
        if nonce < account.ready:
            following = account.waiting[nonce]
            tip = following.tx.effective_tip(self._base_fee)
            if tip >= 0:
                heapreplace(self._heap, (-tip, following.arrival, index, nonce, account))
                return
        heappop(self._heap)

    def skip(self) -> None:
        """Leave out the account of the best transaction."""
        heappop(self._heap)


class Pool:
    """The pool of one node. It reads no state: nonces and balances are arguments."""

    def __init__(self, parameters: Parameters) -> None:
        """``parameters`` are those in force for the block after the head; see ``on_head``."""
        self._parameters = parameters
        self._env = _env(parameters)
        self._txs: dict[bytes, Tx] = {}
        self._accounts: dict[bytes, _Account] = {}
        self._queued: OrderedDict[bytes, Tx] = OrderedDict()  # by time of arrival there
        self._arrivals = 0
        self._bytes = 0
        # Ends of accounts by worth, cheapest first; made when the pool is full, else empty.
        self._ends: list[_End] = []
        self._ranked_at = -1  # the base fee that _ends is sorted for, -1 when it is not made

    def __len__(self) -> int:
        return len(self._txs)

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self._txs

    def get(self, tx_hash: bytes) -> Tx | None:
        """The waiting transaction of this hash."""
        return self._txs.get(tx_hash)

    def counts(self) -> tuple[int, int]:
        """The numbers of pending and of queued transactions."""
        return len(self._txs) - len(self._queued), len(self._queued)

    def pending_nonce(self, address: bytes, state_nonce: int) -> int:
        """The nonce after the account's last pending transaction, else ``state_nonce``."""
        account = self._accounts.get(address)
        return max(account.ready, state_nonce) if account else state_nonce

    def picks(self, base_fee: int) -> Picks:
        """The pending transactions in the order for a block of ``base_fee`` (wei)."""
        return Picks(self._accounts.values(), base_fee)

    def add(self, tx: Tx, nonce: int, balance: int, base_fee: int) -> None:
        """Add ``tx``, whose sender has ``nonce`` and ``balance`` (wei) in the head's state.

        ``base_fee`` is that of the next block. Raises ``Invalid`` with the texts of go-ethereum:
        ``known``, ``underpriced``, ``replacement``, ``funds``, ``account_full``, ``pool_full``, and
        the codes of ``vm.transaction.check``.
        """
        if tx.hash in self._txs:
            raise Invalid("known")
        if tx.max_fee < self._parameters.base_fee_floor:
            raise Invalid("underpriced", f"gas fee cap {tx.max_fee} is below any base fee")
        check(tx, self._env, max(nonce, tx.nonce) if tx.nonce >= nonce else nonce, balance)
        account = self._accounts.get(tx.sender) or _Account(nonce, nonce)
        if account.nonce != nonce:
            self._settle(tx.sender, account, nonce)
        old = account.waiting.get(tx.nonce)
        if old is not None:
            self._check_replacement(old.tx, tx)
        spent = account.cost - (cost(old.tx) if old else 0)
        if spent + cost(tx) > balance:
            detail = f"balance {balance}, queued cost {spent}, tx cost {cost(tx)}"
            raise Invalid("funds", f"{detail}, overshot {spent + cost(tx) - balance}")
        if old is None:
            self._check_account_room(account, tx)
        self._make_room(account, tx, old, base_fee)
        self._accounts[tx.sender] = account
        self._insert(account, tx, old)

    def drop(self, tx_hash: bytes) -> None:
        """Remove a transaction that proved invalid; those behind it become queued."""
        tx = self._txs.get(tx_hash)
        if tx is not None:
            account = self._accounts[tx.sender]
            self._remove(account, tx.nonce)
            self._trim_queued()

    def on_head(
        self,
        nonce_of: Callable[[bytes], int],
        balance_of: Callable[[bytes], int],
        parameters: Parameters,
        base_fee: int,
        included: Sequence[Tx],
        reverted: Sequence[Tx] = (),
    ) -> None:
        """Follow the chain to a new head, whose state ``nonce_of`` and ``balance_of`` read.

        ``included`` are the transactions of blocks that came onto the canonical chain, ``reverted``
        those of blocks that left it. Reverted transactions come back if they are still valid.
        ``parameters`` and ``base_fee`` are those of the block after the head.
        """
        if parameters != self._parameters:
            self._adopt(parameters)
        self._ranked_at, self._ends = -1, []
        touched = dict.fromkeys([tx.sender for tx in (*included, *reverted)])
        for address in touched:
            if address in self._accounts:
                self._settle(address, self._accounts[address], nonce_of(address))
        for tx in reverted:
            # A transaction that no longer pays, or is in a new block, stays out without an answer.
            try:
                self.add(tx, nonce_of(tx.sender), balance_of(tx.sender), base_fee)
            except Invalid:
                continue
        for address in touched:
            if address in self._accounts:
                self._trim_funds(self._accounts[address], balance_of(address))
        self._trim_queued()

    def _adopt(self, parameters: Parameters) -> None:
        """Judge by other parameters, and drop the transactions that no block may hold by them."""
        self._parameters, self._env = parameters, _env(parameters)
        floor, gas_limit = parameters.base_fee_floor, parameters.gas_limit
        for tx in [tx for tx in self._txs.values() if tx.max_fee < floor or tx.gas > gas_limit]:
            self._remove(self._accounts[tx.sender], tx.nonce)

    # --- checks

    def _check_replacement(self, old: Tx, new: Tx) -> None:
        """Both fees must rise, by ``pool_replacement_percent`` at least."""
        rise = 100 + self._parameters.pool_replacement_percent
        for before, after in (
            (old.max_fee, new.max_fee),
            (old.max_priority_fee, new.max_priority_fee),
        ):
            if after <= before or after * 100 < before * rise:
                raise Invalid("replacement")

    def _check_account_room(self, account: _Account, tx: Tx) -> None:
        if len(account.waiting) >= self._parameters.pool_account_txs_max:
            raise Invalid("account_full", f"{len(account.waiting)} transactions wait")
        if tx.nonce > account.ready and account.queued() >= QUEUED_ACCOUNT_TXS_MAX:
            raise Invalid("account_full", f"nonce {account.ready} is missing")

    def _make_room(self, account: _Account, tx: Tx, old: _Waiting | None, base_fee: int) -> None:
        """Evict transactions in favour of ``tx``; ``Invalid``, and no eviction, unless each is
        worth less."""
        excess = len(self._txs) + (old is None) - self._parameters.pool_txs_max
        bytes_excess = self._bytes + len(tx.raw) - POOL_BYTES_MAX
        bytes_excess -= len(old.tx.raw) if old else 0
        if old is None and tx.nonce > account.ready and len(self._queued) >= QUEUED_TXS_MAX:
            excess = max(excess, 1)
        victims: list[Tx] = []
        queued = iter(self._queued.values())
        while excess > 0 or bytes_excess > 0:
            victim = next((other for other in queued if other.sender != tx.sender), None)
            if victim is None:
                break
            victims.append(victim)
            excess -= 1
            bytes_excess -= len(victim.raw)
        if excess > 0 or bytes_excess > 0:
            if old is not None or tx.nonce > account.ready:
                raise Invalid("pool_full")  # no pending transaction goes for a queued one
            victims += self._cheaper_ends(account, tx, base_fee, excess, bytes_excess)
        for victim in victims:
            self._remove(self._accounts[victim.sender], victim.nonce)

    # --- eviction

    def _rank(self, base_fee: int) -> None:
        """Sort the last transactions of all accounts for ``base_fee``: O(n), once for each head of
        a full pool."""
        for account in self._accounts.values():
            for nonce in range(account.nonce, account.ready):
                account.floor(nonce)
        self._ranked_at, self._ends = base_fee, []
        for address, account in self._accounts.items():
            if account.ready > account.nonce:
                end = account.ready - 1
                arrival = account.waiting[end].arrival
                self._ends.append((_worth(account, end, base_fee), -arrival, address, end))
        heapify(self._ends)

    def _cheaper_ends(
        self, account: _Account, tx: Tx, base_fee: int, excess: int, bytes_excess: int
    ) -> list[Tx]:
        """The pending transactions to evict for ``tx``, all worth less than ``tx``."""
        if self._ranked_at != base_fee or len(self._ends) > 2 * len(self._txs) + 64:
            self._rank(base_fee)
        worth = tx.effective_tip(base_fee)
        if tx.nonce > account.nonce:
            worth = min(worth, _worth(account, tx.nonce - 1, base_fee))
        victims: list[Tx] = []
        popped: list[_End] = []
        planned: dict[bytes, int] = {}  # the end of an account once the victims are gone
        while excess > 0 or bytes_excess > 0:
            if not self._ends or self._ends[0][0] >= worth:
                for end in popped:
                    heappush(self._ends, end)
                raise Invalid("underpriced", "the pool is full of better transactions")
            end = heappop(self._ends)
            _, arrival, address, nonce = end
            owner = self._accounts.get(address)
            if owner is None or nonce != planned.get(address, owner.ready - 1):
                continue
            waiting = owner.waiting.get(nonce)
            if waiting is None or waiting.arrival != -arrival:
                continue
            popped.append(end)
            victims.append(waiting.tx)
            excess -= 1
            bytes_excess -= len(waiting.tx.raw)
            planned[address] = nonce - 1
            self._push_end(owner, address, nonce - 1)
        return victims

    def _push_end(self, account: _Account, address: bytes, nonce: int) -> None:
        """Rank ``nonce`` as the last of its account; stale entries of the account stay in the
        heap."""
        if self._ranked_at >= 0 and nonce >= account.nonce:
            arrival = account.waiting[nonce].arrival
            worth = _worth(account, nonce, self._ranked_at)
            heappush(self._ends, (worth, -arrival, address, nonce))

    def _trim_funds(self, account: _Account, balance: int) -> None:
        """Drop, from the last nonce down, what the balance cannot pay for any more."""
        if account.cost > balance:
            for nonce in sorted(account.waiting, reverse=True):
                if account.cost > balance:
                    self._remove(account, nonce)

    def _trim_queued(self) -> None:
        """Drop the oldest queued transactions above the limit, which a demotion may have passed."""
        while len(self._queued) > QUEUED_TXS_MAX:
            tx = next(iter(self._queued.values()))
            self._remove(self._accounts[tx.sender], tx.nonce)

    # --- one account

    def _insert(self, account: _Account, tx: Tx, old: _Waiting | None) -> None:
        if old is not None:
            self._forget(account, old.tx)
        self._txs[tx.hash] = tx
        self._bytes += len(tx.raw)
        account.cost += cost(tx)
        account.waiting[tx.nonce] = _Waiting(tx, self._arrivals, 0, 0)
        self._arrivals += 1
        if tx.nonce > account.ready:
            self._queued[tx.hash] = tx
        elif tx.nonce == account.ready:
            self._promote(account, tx.sender)
        else:
            account.floor(tx.nonce)  # later floors of the account stay too low until ``_rank``
            self._push_end(account, tx.sender, account.ready - 1)

    def _forget(self, account: _Account, tx: Tx) -> None:
        """Remove ``tx`` everywhere but from the limits (``ready``) of its account."""
        del self._txs[tx.hash]
        del account.waiting[tx.nonce]
        self._queued.pop(tx.hash, None)
        self._bytes -= len(tx.raw)
        account.cost -= cost(tx)

    def _promote(self, account: _Account, address: bytes) -> None:
        """Make pending the queued transactions without a gap before them."""
        while account.ready in account.waiting:
            self._queued.pop(account.waiting[account.ready].tx.hash, None)
            account.floor(account.ready)
            account.ready += 1
        self._push_end(account, address, account.ready - 1)

    def _demote(self, account: _Account, nonce: int) -> None:
        """Make queued the pending transactions from ``nonce`` on."""
        for behind in range(nonce, account.ready):
            if behind in account.waiting:
                tx = account.waiting[behind].tx
                self._queued[tx.hash] = tx
        account.ready = nonce

    def _remove(self, account: _Account, nonce: int) -> None:
        """Remove the transaction ``nonce``; those behind it become queued."""
        tx = account.waiting[nonce].tx
        self._forget(account, tx)
        if nonce < account.ready:
            self._demote(account, nonce)
            self._push_end(account, tx.sender, nonce - 1)
        if not account.waiting:
            del self._accounts[tx.sender]

    def _settle(self, address: bytes, account: _Account, nonce: int) -> None:
        """Follow the account's nonce in the state, up after a block, down after a
        reorganisation."""
        if nonce < account.nonce:
            self._demote(account, account.nonce)
            account.ready = nonce
        for stale in [past for past in account.waiting if past < nonce]:
            self._forget(account, account.waiting[stale].tx)
        account.nonce, account.ready = nonce, max(account.ready, nonce)
        self._promote(account, address)
        if not account.waiting:
            self._accounts.pop(address, None)
