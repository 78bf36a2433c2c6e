"""A service's own page, on an address of this machine."""

from __future__ import annotations

import socket
import threading

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.errors import ObjectMissing
from helpers.stack import pages
from helpers.stack.pages import PAGES


def test_a_page_of_a_service_that_is_not_there_names_the_lab_that_brings_it_up() -> None:
    with pytest.raises(ObjectMissing) as missing:
        pages.show(FakeCluster(), "phoenix", print, in_browser=False, over=threading.Event())
    assert missing.value.next_command == f"course start {PAGES['phoenix'].lab}"


def test_another_port_is_taken_when_somebody_listens_on_the_usual_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert pages._if_free(taken.getsockname()[1]) == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert pages._if_free(port) == port
