"""One process that forks for the commands of all tests here, since it takes seconds to load its modules."""

from collections.abc import Iterator

import pytest

from abaw.fuzz.trials import ForkServer


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Forks for each command."""
    with ForkServer() as server:
        yield server
