"""What every test runs under."""

from hypothesis import HealthCheck, Phase, settings

FOUND = (Phase.explicit, Phase.generate)

# Wall clock never judges a test: machines are shared. Examples are few by default, so that the
# suite stays short; --hypothesis-profile=deep looks longer, found takes the same examples in every
# run and shrinks no failure.
settings.register_profile(
    "default", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "found", settings.get_profile("default"), phases=FOUND, derandomize=True, database=None
)
settings.register_profile("deep", settings.get_profile("default"), max_examples=20_000)
settings.load_profile("default")
