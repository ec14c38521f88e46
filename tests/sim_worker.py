"""One process of ``sim_run``: runs the seeds it is given, one line of JSON for each outcome."""

import gc
import json
import logging
import sys
from dataclasses import asdict

from tests.sim_scenario import run_seed


def main(first: int, last: int, step: int) -> None:
    """Seeds from ``first`` to below ``last``."""
    logging.disable()
    gc.freeze()
    for seed in range(first, last, step):
        print(json.dumps(asdict(run_seed(seed))), flush=True)
        gc.collect()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
