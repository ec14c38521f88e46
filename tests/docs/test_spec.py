"""docs/spec/: tables of bytes and numbers say what the code says."""

import json
import re
from dataclasses import fields
from itertools import pairwise

import pytest

from dipnet.consensus.finality.header import Header
from dipnet.dag.vertex import ENVELOPE_BYTES_MAX, PARENTS_MAX
from dipnet.ledger.genesis import Genesis
from dipnet.p2p import messages
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import address, public_key
from tests import ROOT
from tests.docs.test_citations import headings
from tests.mutants.run import GROUPS, mutants, row
from tests.unit.test_house import BESIDE, SOURCES, record_prefixes

KEY = public_key(bytes(31) + b"\1")
BYTES = headings((ROOT / "docs" / "spec" / "bytes.md").read_text())
LEAST = {
    "chain_id": 1, "time_ms": 0, "balances": {},
    "delegates": [{
        "name": "first", "address": to_hex(address(KEY)), "public_key": to_hex(KEY),
        "stake": str(10**21),
    }],
}  # fmt: skip
"""A network of which nothing is said that has a default."""
CONSENSUS = headings((ROOT / "docs" / "spec" / "consensus.md").read_text())
DAG = headings((ROOT / "docs" / "spec" / "dag.md").read_text())


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in ``text``."""
    return [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]


def test_header_fields_and_their_order() -> None:
    told = re.findall(r"^\| (\d+) \| (\w+) \|", BYTES["Records"], re.MULTILINE)
    assert [int(number) for number, _ in told] == list(range(len(told)))
    named = [field.name for field in fields(Header) if field.init]
    assert [name for _, name in told] == ["version", *named]


def test_messages_of_every_protocol() -> None:
    protocol, told = "", {}
    for cells in rows(BYTES["Records"]):
        first, kind = cells[0].strip(), re.fullmatch(r" (\d) (\w+) ", cells[1])
        if kind is None:
            continue
        if first:
            sized = re.fullmatch(r"(\w+), (\d+) [KM]iB", first)
            assert sized, first
            protocol, size = sized.groups()
            limit = messages.FRAME_BYTES_MAX[protocol]
            assert int(size) in (limit >> 10, limit >> 20)
        told[protocol, int(kind[1])] = kind[2]
    table = messages._TABLE.items()
    assert told == {
        (name, kind): row[0].__name__ for name, kinds in table for kind, row in kinds.items()
    }


def test_every_record_on_disk() -> None:
    disk = BYTES["Records"][BYTES["Records"].index("**Disk.**") :]
    told = set(re.findall(r"`(\w)(?: [\w ']+)?`", "".join(cells[0] for cells in rows(disk))))
    told |= set(re.findall(r"^\| .*?`(\w)`", disk, re.MULTILINE))
    assert {prefix.decode() for prefix, _ in record_prefixes()} == told


def test_names_of_digests() -> None:
    used = {
        name for path in SOURCES for name in re.findall(r'b"DIPNET/([\w-]+)"', path.read_text())
    } | {"proposal", "prevote", "commit"}
    told = set(re.findall(r"^\| `(\w+)` \|", BYTES["Digests"], re.MULTILINE))
    told |= set(re.findall(r'"DIPNET/([\w-]+)"', BYTES["Digests"]))
    assert used - {"reporter"} == told  # ADR 83: a public key, and no digest


def test_defaults_of_parameters() -> None:
    told = {}
    for cells in rows(BYTES["Defaults"]):
        for name, value in zip(cells[::2], cells[1::2], strict=True):
            if match := re.fullmatch(r"`(\w+)`", name.strip()):
                told[match[1]] = number_of(value)
    assert len(told) > 30
    usual = json.loads(Genesis.checked(LEAST).encode())
    assert told == {name: int(usual[name]) for name in told}
    assert usual.keys() - {"delegates", "balances"} <= set(
        re.findall(r"`(\w+)`", BYTES["Defaults"])
    )


def test_layout_of_a_vertex() -> None:
    offsets = [
        (int(cells[0]), sum(map(int, re.findall(r"\d+", cells[2]))))
        for cells in rows(DAG["Vertex"])
        if re.fullmatch(r" \d+ ", cells[0])
    ]
    assert len(offsets) > 10
    for (offset, size), (following, _) in pairwise(offsets):
        assert offset + size == following
    last, parent = offsets[-1]
    assert last + PARENTS_MAX * parent + 8 == ENVELOPE_BYTES_MAX


@pytest.mark.parametrize(
    ("text", "number"), [("1,000", 1_000), ("2 * 10^18", 2 * 10**18), (" 10^9 ", 10**9)]
)
def test_numbers_are_read(text: str, number: int) -> None:
    assert number_of(text) == number


def number_of(text: str) -> int:
    product = 1
    for factor in text.replace(",", "").split("*"):
        base, _, power = factor.strip().partition("^")
        product *= int(base) ** int(power or 1)
    return product


def test_names_in_code_font_are_in_the_code() -> None:
    """Identifiers of the three specifications, but not the shapes of records."""
    sources = [*SOURCES, *BESIDE, ROOT / "Makefile", ROOT / "genesis.json"]
    words = {word for path in sources for word in re.findall(r"\w+", path.read_text())}
    words |= {path.stem for path in sources}
    count = 0
    for page in sorted((ROOT / "docs" / "spec").glob("*.md")):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        quoted = " ".join(re.findall(r"`([^`\n]+)`", text))
        found = re.findall(r"\b[A-Za-z_]\w{2,}\b", quoted)
        named = {name for name in found if not re.fullmatch(r"b\d+", name)}
        assert named <= words, page.name
        count += len(named)
    assert count > 200


def test_every_rule_has_its_mutants() -> None:
    """The last column of the table of rules: rows of ``make mutants``, by group and words."""
    table = CONSENSUS["The rules, one by one"]
    there = [row(group, one) for group, module, name in GROUPS for one in mutants(module, name)]
    count = 0
    for cells in rows(table)[1:]:
        for part in cells[-1].split(";"):
            group, _, words = part.strip().partition(": ")
            for word in words.split(", "):
                pattern = re.compile(rf"{group}: .*\b{re.escape(word)}")
                assert any(pattern.match(name) for name in there), f"{cells[0]}: {group}: {word}"
                count += 1
    assert count > 45
