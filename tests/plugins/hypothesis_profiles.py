"""How hard hypothesis looks: ``quick`` unless ``--hypothesis-profile=thorough`` is given.

Neither has a deadline: no test asserts wall-clock time, and a first call may compile a kernel. Where ``CI`` is set the
quick profile draws the same examples every time, so a red build means that the change did it.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=15,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough", max_examples=300, deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("quick")
