"""Files and ports of a new network."""

import socket

import pytest

from dipnet.daemon import networks
from dipnet.daemon.networks import LOOPBACK, PORTS, free_ports
from dipnet.primitives.errors import Invalid


def test_free_ports_are_different_and_below_those_of_connections() -> None:
    ports = free_ports(64)
    assert len(set(ports)) == 64
    assert set(ports) <= set(PORTS)


def test_a_port_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, *free = free_ports(3)
    monkeypatch.setattr(networks, "PORTS", (taken, *free))
    with socket.create_server((LOOPBACK, taken)):
        assert sorted(free_ports(2)) == sorted(free)
        assert free_ports(0) == []
        with pytest.raises(Invalid, match="3 free ports: only 2 left") as refused:
            free_ports(3)
    assert refused.value.code == "config"
