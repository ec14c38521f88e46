"""Where the published test vectors are. They stay out of the repository for their size."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def vectors(name: str) -> Path:
    """The folder or file ``name`` among the vectors.

    They are looked for in ``$DIPNET_VECTORS``, else in ``../shared/vectors`` beside the
    repository. Where they are missing the test is skipped, with ``CI=true`` it fails.
    """
    folder = Path(os.environ.get("DIPNET_VECTORS") or ROOT.parent / "shared" / "vectors")
    path = folder / name
    if not path.exists():
        why = (
            f"no vectors at {path}: set DIPNET_VECTORS to a folder that holds {name} "
            "(ethereum/tests, ethereum/execution-spec-tests, C2SP/wycheproof)"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return path
