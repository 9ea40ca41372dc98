"""Property tests in two sizes: some examples in the usual run, many more in the long one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

LONGER = 40
LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
NO_CHECKS = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def fuzzed(
    *strategies: SearchStrategy[object], examples: int
) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """``given`` these strategies, with so many examples, and ``LONGER`` times as many in a test marked ``long``."""

    def decorate(check: Callable[..., None]) -> Callable[[int], None]:
        def test(examples: int) -> None:
            settings(NO_CHECKS, max_examples=examples)(given(*strategies)(check))()

        test.__name__, test.__qualname__, test.__doc__ = check.__name__, check.__qualname__, check.__doc__
        test.__module__ = check.__module__
        return pytest.mark.parametrize("examples", [examples, pytest.param(LONGER * examples, marks=LONG)])(test)

    return decorate
