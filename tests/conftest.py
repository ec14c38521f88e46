"""What every test runs under."""

from hypothesis import HealthCheck, settings

# Wall clock never judges a test: machines are shared. Examples are few by default, so that the
# suite stays short; --hypothesis-profile=deep looks longer.
settings.register_profile(
    "default", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", settings.get_profile("default"), max_examples=20_000)
settings.load_profile("default")
