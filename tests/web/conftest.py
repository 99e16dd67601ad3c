"""A group of its own for each test."""

import httpx
import pytest

from tests.web.groups import Group


@pytest.fixture
def group(http: httpx.AsyncClient, topic: str) -> Group:
    return Group(http, topic)
