"""What an operator may set on a node; nothing that the network must agree on (that is genesis)."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

RPC_PORT = 8545
P2P_PORT = 30303


class Config(BaseModel):
    """One node's settings; ``dipnetd config show --origin`` tells where each came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Field(Path("~/.dipnet"), description="directory of the node's records and keys")
    genesis: Path | None = Field(None, description="genesis.json; default: the one in data")
    listen: str = Field(f"/ip4/0.0.0.0/tcp/{P2P_PORT}", description="multiaddr to listen on")
    bootstrap: tuple[str, ...] = Field((), description="multiaddrs of peers to dial first")
    peers_max: int = Field(50, ge=0, le=1000, description="connected peers at most")
    local: bool = Field(False, description="test network: loopback peers without limits by address")
    rpc_host: str = Field("127.0.0.1", description="address that JSON-RPC binds")
    rpc_port: int = Field(RPC_PORT, ge=0, le=65535, description="port of JSON-RPC; 0: any free one")
    rpc_hosts: tuple[str, ...] = Field((), description="further Host names that JSON-RPC accepts")
    delegate_keystore: Path | None = Field(None, description="keystore v3 of the delegate's key")
    delegate_password: Path | None = Field(None, description="file with that keystore's password")
    disk_refuse_bytes: int = Field(
        1 << 30, ge=0, description="accept nothing below this free space"
    )
    disk_stop_bytes: int = Field(256 << 20, ge=0, description="stop below this free space")
    log: str = Field("info", pattern="^(debug|info|warning|error)$", description="log level")
