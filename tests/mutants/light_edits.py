"""Every check of a light client, taken away (``edits.py``)."""

from typing import Final

from tests.mutants.edits import Edit

LIGHT: Final = "dipnet.sdk.light"
BOUNDARIES: Final = "dipnet.consensus.finality.boundaries"
CLIENT: Final = "dipnet.cli.light"
TESTS: Final = ("tests/unit/sdk/test_light.py",)
RECORDS: Final = ("tests/unit/consensus/finality/test_boundaries.py",)


def client(name: str) -> tuple[str]:
    """A test of the program: together they take too long."""
    return (f"tests/unit/cli/test_light.py::{name}",)


EDITS: Final = (
    Edit("trust", "another chain's header", LIGHT,
         "if boundary.chain_id != chain_id:", "if False:", TESTS),
    Edit("trust", "a header for any epoch", LIGHT,
         "if epoch != (boundary.epoch + 1 if boundary.height else 0):", "if False:", TESTS),
    Edit("trust", "a set that the header does not name", LIGHT,
         "if boundary.next_set_hash != members.digest(epoch):", "if False:", TESTS),
    Edit("trust", "any block for genesis", LIGHT,
         "if genesis_header.height:", "if False:", TESTS),
    Edit("trust", "however old", LIGHT, "if age_ms > period_ms:", "if False:", TESTS),
    Edit("hop", "to an older epoch", LIGHT,
         "if header.epoch < state.epoch:", "if False:", TESTS),
    Edit("hop", "to a block that is no boundary", LIGHT,
         "if header.next_set_hash == HASH_ZERO or header.height", "if header.height", TESTS),
    Edit("hop", "to a block below the known boundary", LIGHT,
         "or header.height <= state.boundary.height:", "or False:", TESTS),
    Edit("hop", "to a block that is not the last of its epoch", LIGHT,
         "if boundary.path and boundary.path[0].epoch == header.epoch:", "if False:", TESTS),
    Edit("path", "headers of another chain", LIGHT,
         "if each.chain_id != state.chain_id:", "if False:", TESTS),
    Edit("path", "headers that do not link", LIGHT,
         "if above.parent != below.hash or above.height", "if above.height", TESTS),
    Edit("path", "heights with gaps", LIGHT,
         "or above.height != below.height + 1:", "or False:", TESTS),
    Edit("certificate", "of any epoch", LIGHT,
         "if ballot.epoch != epoch or top", "if top", TESTS),
    Edit("certificate", "on a block of any epoch", LIGHT,
         "or top.epoch not in (epoch, epoch + 1):", "or False:", TESTS),
    Edit("certificate", "prevotes make final", LIGHT,
         "voted = finality.commit(finality.prevote(top, _boundary_below(state, epoch, headers)))",
         "voted = finality.prevote(top, _boundary_below(state, epoch, headers))", TESTS),
    Edit("certificate", "of another block", LIGHT, "if ballot != voted:", "if False:", TESTS),
    Edit("certificate", "with any signatures", LIGHT,
         "    check_certificate(certificate, state.members, state.chain_id)", "    pass", TESTS),
    Edit("final", "a header above the known epoch", LIGHT,
         "if header.epoch > state.epoch:", "if False:", TESTS),
    Edit("truncation", "the new set's block for the old set's", LIGHT,
         "if top.epoch > epoch:  # the last", "if False:  # the last", TESTS),
    Edit("records", "a set out of order", BOUNDARIES,
         'raise Invalid("record", str(error)) from None', "raise", RECORDS),
    Edit("records", "no mark where a set changes", BOUNDARIES,
         "if boundary.members.pairs != before.pairs:", "if False:", RECORDS),
    Edit("records", "the newest boundary is left out", BOUNDARIES,
         "    yield newest\n", "", RECORDS),
    Edit("client", "takes more boundaries than it asked for", CLIENT,
         "if not isinstance(answer, list) or len(answer) > count:",
         "if not isinstance(answer, list):",
         client("test_a_node_that_shows_more_boundaries_than_were_asked_for")),
    Edit("client", "takes boundaries above the epoch", CLIENT,
         "if (proof := light.decode_boundary(raw)).opens <= last]",
         "if (proof := light.decode_boundary(raw))]",
         client("test_boundaries_above_the_verified_header_wait")),
    Edit("client", "goes back", CLIENT,
         "if epoch < known.state.epoch or (before is not None and header.height < before.height):",
         "if False:",
         client("test_a_node_that_shows_less_than_before")),
    Edit("client", "keeps two final blocks of a height to itself", CLIENT,
         "if before is not None and header.height == before.height and header.hash != before.hash:",
         "if False:",
         client("test_a_fork_is_told")),
    Edit("client", "takes another header than was asked for", CLIENT,
         "if proof is None or proof.header.hash != block_hash:", "if proof is None:",
         client("test_another_header_than_was_asked_for")),
    Edit("client", "lets a boundary be left out of every one", CLIENT,
         "if every and boundary.header.epoch != state.epoch:", "if False:",
         client("test_every_boundary")),
    Edit("client", "verifies nothing at the end", CLIENT,
         "    light.verify_final(state, proof.header, proof.path, proof.certificate)\n", "",
         client("test_signatures_that_are_too_few")),
    Edit("client", "takes any boundary for the one that was told", CLIENT,
         "if boundary.header.hash == block_hash:", "if True:",
         client("test_a_boundary_that_somebody_told")),
)  # fmt: skip
