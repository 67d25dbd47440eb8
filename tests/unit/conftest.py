"""A control server, and those whom it must go on serving."""

import pytest
from control_peer import Calls, Peer
from served import Host

from phantomd.net.control import ControlServer, Limits


@pytest.fixture(params=["uvloop", "asyncio"])
def host(request):
    with Host(request.param) as host:
        yield host


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def serve(host, calls, tmp_path):
    def start(limits: Limits | None = None, **more) -> ControlServer:
        path = tmp_path / "phantomd" / "control.sock"
        return host.start(ControlServer(path, calls.table(), limits=limits, **more))

    return start


@pytest.fixture
def others(serve):
    """Checks, at the end, that another client is served as if nothing were."""
    server = serve(Limits(silence_s=0.2))
    other = Peer(server.path)
    yield server
    assert other.ask("echo", {"value": 5}) == [1, 1, None, {"value": 5}]
    assert Peer(server.path).ask("echo", {"value": 6}) == [1, 1, None, {"value": 6}]
