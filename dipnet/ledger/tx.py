"""A transaction: Ethereum's typed envelopes, decoded once, kept with their bytes.

``Tx`` says that the form is right, the chain is ours and the signature recovered ``sender``.
Nothing downstream checks these again. Checks that depend on gas rules, the account or the block
(intrinsic gas, nonce, funds, fees) are in ``vm/transaction.py`` and the pool.

Everything here is a pure function of its arguments and may run on any thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from dipnet.primitives.codec import UINT_MAX, Rlp, RlpInput, rlp_decode, rlp_encode, rlp_wrap
from dipnet.primitives.crypto import ADDRESS_ZERO, keccak256, recover_batch, sign
from dipnet.primitives.errors import Invalid

TX_BYTES_MAX: Final = 131_072  # go-ethereum's txMaxSize: 4 x 32 KiB
NONCE_MAX: Final = 2**64 - 1  # EIP-2681: a transaction may not have it
COST_MAX: Final = 2**256 - 1
TX_GAS: Final = 21_000  # yellow paper, appendix G, G_transaction: no transaction costs less

LEGACY: Final = 0  # EIP-155, and before it
ACCESS_LIST: Final = 1  # EIP-2930
DYNAMIC_FEE: Final = 2  # EIP-1559
BLOB: Final = 3  # EIP-4844
SET_CODE: Final = 4  # EIP-7702

_ARITY: Final = {LEGACY: 9, ACCESS_LIST: 11, DYNAMIC_FEE: 12}

AccessList: TypeAlias = tuple[tuple[bytes, tuple[bytes, ...]], ...]
"""EIP-2930: pairs of an address (20 bytes) and its storage keys (32 bytes each)."""


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction whose form and signature are right. Amounts are wei.

    ``chain_id`` is None for a legacy transaction without EIP-155. ``to`` is empty for a contract
    creation. Types 0 and 1 have one gas price, which stands in both fees. ``v`` is the wire's: the
    parity of y, in legacy transactions with 27 or with 35 + 2 x chain id added.
    """

    raw: bytes
    hash: bytes
    type: int
    chain_id: int | None
    nonce: int
    max_priority_fee: int
    max_fee: int
    gas: int
    to: bytes
    value: int
    data: bytes
    access_list: AccessList
    v: int
    r: int
    s: int
    sender: bytes

    @property
    def gas_price(self) -> int:
        """The price of types 0 and 1; the cap of type 2."""
        return self.max_fee

    def effective_price(self, base_fee: int) -> int:
        """The price (wei for a unit of gas) in a block of ``base_fee``. # EIP-1559"""
        return min(self.max_fee, base_fee + self.max_priority_fee)

    def effective_tip(self, base_fee: int) -> int:
        """The proposer's part of the price; negative when the cap is below ``base_fee``."""
        return self.effective_price(base_fee) - base_fee


class _Form(NamedTuple):
    """A transaction without its sender, and the digest and signature that give it."""

    tx: partial[Tx]
    digest: bytes
    signature: bytes  # r, s, parity


def decode(raw: bytes, chain_id: int | None) -> Tx:
    """The transaction in ``raw``; raises the ``Invalid`` that ``decode_batch`` would give."""
    (tx,) = decode_batch([raw], chain_id)
    if isinstance(tx, Invalid):
        raise tx
    return tx


def decode_batch(raws: Sequence[bytes], chain_id: int | None) -> list[Tx | Invalid]:
    """The transaction in each of ``raws``, or why there is none.

    ``chain_id`` is the chain that they must be signed for; None accepts any chain and none. All
    senders are recovered in one native call. An element costs work in proportion to its bytes, of
    which more than ``TX_BYTES_MAX`` are refused unread.
    """
    forms: list[_Form | Invalid] = []
    for raw in raws:
        try:
            forms.append(_form(raw, chain_id))
        except Invalid as refused:
            forms.append(refused.with_traceback(None))  # a value now: let go of the frames
    whole = [form for form in forms if isinstance(form, _Form)]
    senders = recover_batch(
        b"".join([form.digest for form in whole]), b"".join([form.signature for form in whole])
    )
    txs: list[Tx | Invalid] = []
    at = 0
    for form in forms:
        if isinstance(form, Invalid):
            txs.append(form)
            continue
        sender = senders[at : at + 20]
        at += 20
        if sender == ADDRESS_ZERO:
            txs.append(Invalid("sender", "r, s and v recover no key"))
        else:
            txs.append(form.tx(sender=sender))
    return txs


def decode_known(raw: bytes, chain_id: int | None, sender: bytes) -> Tx:
    """A transaction from our own disk, where its recovered ``sender`` (address) was stored."""
    return _form(raw, chain_id).tx(sender=sender)


def sign_tx(
    secret: bytes,
    *,
    type: int = DYNAMIC_FEE,
    chain_id: int | None,
    nonce: int,
    gas: int,
    max_fee: int,
    max_priority_fee: int | None = None,
    to: bytes = b"",
    value: int = 0,
    data: bytes = b"",
    access_list: AccessList = (),
) -> bytes:
    """The raw bytes of a transaction signed with ``secret`` (32 bytes).

    In types 0 and 1 ``max_fee`` is the gas price and ``max_priority_fee`` is not given; in type 2
    it is ``max_fee`` unless given. A legacy transaction with ``chain_id`` None is unprotected.
    Nothing is checked but that the type exists: ``decode`` is the judge.
    """
    tip = max_fee if max_priority_fee is None else max_priority_fee
    if type == LEGACY:
        fields: list[RlpInput] = [nonce, max_fee, gas, to, value, data]
        ending: list[RlpInput] = [] if chain_id is None else [chain_id, 0, 0]  # EIP-155
    elif type in (ACCESS_LIST, DYNAMIC_FEE):
        fees = [max_fee] if type == ACCESS_LIST else [tip, max_fee]
        fields = [chain_id or 0, nonce, *fees, gas, to, value, data, access_list]
        ending = []
    else:
        raise ValueError(f"type {type} cannot be signed")
    envelope = bytes((type,)) if type else b""
    signature = sign(keccak256(envelope + rlp_encode([*fields, *ending])), secret)
    r, s, v = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64]), signature[64]
    if type == LEGACY:
        v += 27 if chain_id is None else 35 + 2 * chain_id
    return envelope + rlp_encode([*fields, v, r, s])


def _form(raw: bytes, chain_id: int | None) -> _Form:
    """Everything about ``raw`` but the sender."""
    kind, fields = _fields(raw)
    own_chain: Rlp = b""
    listed: Rlp = []
    if kind == LEGACY:
        nonce, cap, gas, to, value, data, *signature = fields
        tip = cap
    elif kind == ACCESS_LIST:
        own_chain, nonce, cap, gas, to, value, data, listed, *signature = fields
        tip = cap
    else:
        own_chain, nonce, tip, cap, gas, to, value, data, listed, *signature = fields
    count = _number("nonce", nonce, 8)
    tip_wei = _number("maxPriorityFeePerGas", tip, 32)
    cap_wei = _number("maxFeePerGas" if kind == DYNAMIC_FEE else "gasPrice", cap, 32)
    units = _number("gas", gas, 8)
    if count == NONCE_MAX:
        raise Invalid("nonce_max", "EIP-2681")
    if tip_wei > cap_wei:
        raise Invalid("tip_above_cap", f"maxPriorityFeePerGas {tip_wei}, maxFeePerGas {cap_wei}")
    if units * cap_wei > COST_MAX:
        raise Invalid("tx_form", "gas * price is past 256 bits")
    v, r, s = map(_number, ("v", "r", "s"), signature, (32, 32, 32))
    if kind == LEGACY:
        signed_for, parity = _eip155(v)
    else:
        signed_for, parity = _number("chainId", own_chain, 8), v
    if parity > 1:
        raise Invalid("sender", f"y parity {parity} where 0 or 1 is expected")
    _check_chain(signed_for, chain_id)
    tx = partial(
        Tx,
        raw=raw,
        hash=keccak256(raw),
        type=kind,
        chain_id=signed_for,
        nonce=count,
        max_priority_fee=tip_wei,
        max_fee=cap_wei,
        gas=units,
        to=_address_or_none(to),
        value=_number("value", value, 32),
        data=_bytes("data", data),
        access_list=_access_list(listed),
        v=v,
        r=r,
        s=s,
    )
    digest = _signed_digest(raw, kind, signed_for, _size(v) + _size(r) + _size(s))
    return _Form(tx, digest, r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((parity,)))


def _fields(raw: bytes) -> tuple[int, list[Rlp]]:
    """The type of ``raw`` and the fields of its list, as many as that type has (EIP-2718)."""
    if len(raw) > TX_BYTES_MAX:
        raise Invalid("oversized", f"{len(raw)} bytes where {TX_BYTES_MAX} are allowed")
    if not raw:
        raise Invalid("tx_form", "no bytes")
    first = raw[0]
    if first == BLOB:
        raise Invalid("tx_type", "blob transactions are refused on this network")
    if first == SET_CODE:
        raise Invalid("tx_type", "set-code transactions (EIP-7702) are not supported yet")
    if first >= 0xC0:
        kind, fields = LEGACY, rlp_decode(raw)
    elif first in (ACCESS_LIST, DYNAMIC_FEE):
        kind, fields = first, rlp_decode(raw[1:])
    else:
        raise Invalid("tx_type", f"the first byte is 0x{first:02x}")
    if not isinstance(fields, list) or len(fields) != _ARITY[kind]:
        raise Invalid("tx_form", f"expected a list of {_ARITY[kind]} fields")
    return kind, fields


def _number(name: str, field: Rlp, bytes_max: int) -> int:
    if not isinstance(field, bytes) or len(field) > bytes_max or field[:1] == b"\0":
        detail = f"{name}: expected an integer of {8 * bytes_max} bits without leading zeros"
        raise Invalid("tx_form", detail)
    return int.from_bytes(field, "big")


def _bytes(name: str, field: Rlp) -> bytes:
    if not isinstance(field, bytes):
        raise Invalid("tx_form", f"{name}: expected bytes")
    return field


def _address_or_none(field: Rlp) -> bytes:
    to = _bytes("to", field)
    if len(to) not in (0, 20):
        raise Invalid("tx_form", "to: expected 20 bytes, or none to create a contract")
    return to


def _access_list(listed: Rlp) -> AccessList:  # EIP-2930
    if not isinstance(listed, list):
        raise Invalid("tx_form", "accessList: expected a list")
    pairs = []
    for pair in listed:
        if not isinstance(pair, list) or len(pair) != 2:
            raise Invalid("tx_form", "accessList: expected pairs of an address and its keys")
        address, keys = pair
        if not isinstance(address, bytes) or len(address) != 20:
            raise Invalid("tx_form", "accessList: expected an address of 20 bytes")
        if not isinstance(keys, list):
            raise Invalid("tx_form", "accessList: expected a list of storage keys")
        slots = tuple([key for key in keys if isinstance(key, bytes) and len(key) == 32])
        if len(slots) != len(keys):
            raise Invalid("tx_form", "accessList: expected storage keys of 32 bytes")
        pairs.append((address, slots))
    return tuple(pairs)


def _eip155(v: int) -> tuple[int | None, int]:
    """The chain id (None before EIP-155) and the parity of y in a legacy ``v``."""
    if v in (27, 28):
        return None, v - 27
    if v < 35:
        raise Invalid("sender", f"v {v} where 27, 28 or 35 and more are expected")
    signed_for = (v - 35) >> 1
    if signed_for > UINT_MAX:
        raise Invalid("chain_id", "past 64 bits")
    return signed_for, (v - 35) & 1


def _check_chain(signed_for: int | None, chain_id: int | None) -> None:
    if chain_id is None or signed_for == chain_id:
        return
    if signed_for is None:
        raise Invalid("unprotected", f"sign for chain id {chain_id}")
    raise Invalid("chain_id", f"have {signed_for} want {chain_id}")


def _size(number: int) -> int:
    """How many bytes the RLP of ``number`` (below 2^440) has."""
    return 1 if number < 0x80 else 1 + ((number.bit_length() + 7) >> 3)


def _signed_digest(raw: bytes, kind: int, signed_for: int | None, signature_size: int) -> bytes:
    """The bytes that the sender signed: ``raw`` without v, r and s.

    These are the last ``signature_size`` bytes, because ``raw`` is canonical; so the fields before
    them need not be encoded again.
    """
    payload_at = 0 if kind == LEGACY else 1
    head = raw[payload_at]
    fields_at = payload_at + (1 if head <= 0xF7 else head - 0xF6)  # 0xf8 has one byte of length
    fields = raw[fields_at : len(raw) - signature_size]
    if kind == LEGACY and signed_for is not None:
        fields += rlp_encode(signed_for) + b"\x80\x80"  # EIP-155: chain id, 0, 0
    return keccak256(raw[:payload_at] + rlp_wrap(fields))
