"""The delegate of a running node: signatures on a thread of their own, the operator's switch.

Rules that bind this file: a ``Signer`` blocks on a disk or a socket, so that it has a thread of its
own. A signer that is out of reach costs signatures, not the process; a vote state that cannot be
written ends the process. A pause lasts until ``admin_resume`` or the end of the process.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Final

from dipnet.consensus.finality.votes import Voter
from dipnet.daemon.admin import Methods
from dipnet.node.effects import Report, Sign, Signed
from dipnet.node.voting import signed_state
from dipnet.primitives.codec import Reader
from dipnet.primitives.crypto import address, checksum
from dipnet.primitives.errors import Corrupt, Invalid
from dipnet.rpc.backend import Backend
from dipnet.signing.signer import Answer, Signer
from dipnet.signing.votefile import check_not_older

log = logging.getLogger("dipnet")

EXIT_BUG: Final = 1
EXIT_STORAGE: Final = 70
PAUSED: Final = "signing is paused"


class Duty:
    """The delegate of ``signer``; without a signer the node is an observer."""

    def __init__(
        self,
        signer: Signer | None,
        node: Backend,
        on_signed: Callable[[Signed], None],
        on_failure: Callable[[int, str], None],
    ) -> None:
        """Both callbacks take any thread."""
        self._signer = signer
        self._node = node
        self._on_signed = on_signed
        self._on_failure = on_failure
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dipnet-signer")
        self.methods: Methods = {
            "admin_pause": lambda: self._pause(True),
            "admin_resume": lambda: self._pause(False),
            "admin_status": self._status,
        }
        """For ``AdminSocket``."""

    def voter(self, records: Reader) -> Voter | None:
        """The delegate, None for an observer.

        ``Invalid("votes_older")``: the vote state of the signer is older than ``records`` say.
        """
        signer = self._signer
        if signer is None:
            return None
        check_not_older(signer.state, signed_state(records, signer.public_key))
        return Voter(signer.public_key, signer.seed_key, signer.state)

    @property
    def complaint(self) -> str | None:
        """Why the signer signs nothing at present, for people."""
        return self._signer.complaint if self._signer is not None else None

    def stop(self) -> None:
        """Ends signing; waits for the signature that is being made."""
        self._thread.shutdown(cancel_futures=True)
        if self._signer is not None:
            self._signer.close()

    # --- effects

    def sign(self, effect: Sign) -> None:
        """Has a ballot signed, or refused, as all that wait are in a pause; ``Signed`` follows."""
        signer = self._signer
        assert signer is not None

        def work() -> None:
            paused = self._node.voting.paused
            answer = Answer(b"", signer.state, PAUSED) if paused else signer.sign(effect.ballot)
            if answer.refusal:
                log.debug("%s is not signed: %s", effect.ballot, answer.refusal)
            self._on_signed(Signed(effect.ticket, answer.signature, answer.state))

        self._thread.submit(work).add_done_callback(self._worked)

    def _worked(self, done: "Future[None]") -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, Corrupt):
            self._on_failure(EXIT_STORAGE, str(error))
        elif error is not None:
            log.error("signing failed", exc_info=error)
            self._on_failure(EXIT_BUG, f"a bug in signing: {error!r}")

    def report(self, effect: Report) -> None:
        """Tells the operator of an offence, and whether our own key committed it."""
        offence, signer = effect.offence, self._signer
        ours = signer is not None and offence.signer == address(signer.public_key)
        log.log(
            logging.CRITICAL if ours else logging.WARNING,
            "%s by the key of %s%s",
            offence.name,
            checksum(offence.signer),
            ", which is ours: find what else signs with it" if ours else "",
        )

    # --- the methods of admin.py

    async def _pause(self, paused: bool) -> dict[str, Any]:
        voting = self._node.voting
        if self._signer is None:
            raise Invalid("config", "this node has no delegate's key")
        if voting.paused != paused:
            log.warning("signing is %s", "paused" if paused else "resumed")
        voting.paused = paused
        if paused:  # wait for the ballot that the signer may be at, so that the status includes it
            await asyncio.wrap_future(self._thread.submit(lambda: None))
        return await self._status()

    async def _status(self) -> dict[str, Any]:
        signer = self._signer
        return {
            "paused": self._node.voting.paused,
            "delegate": checksum(address(signer.public_key)) if signer else None,
            "votes": asdict(signer.state) if signer else None,
            "signer": signer.complaint if signer else None,
        }
