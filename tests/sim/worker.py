"""A process of ``tests/sim/run.py``: runs its seeds and prints a line of JSON for each outcome."""

import gc
import json
import logging
import sys
from dataclasses import asdict

from tests.sim.scenario import run_seed


def main(seeds: list[int]) -> None:
    """Each of them in turn."""
    logging.disable()
    gc.freeze()
    for seed in seeds:
        print(json.dumps(asdict(run_seed(seed))), flush=True)
        gc.collect()


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
