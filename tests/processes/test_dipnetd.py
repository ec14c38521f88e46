"""``dipnetd`` as operators meet it: real processes, started, killed, and started wrongly."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from dipnet.cli.main import app as client
from dipnet.daemon import networks
from dipnet.dipnetd.main import app
from dipnet.host.config import FILE_NAME, Config
from dipnet.ledger.genesis import Genesis
from dipnet.primitives.crypto import checksum
from dipnet.sdk import keys
from tests.fixtures.processes import ask, dev_url, finished, read_json, running, until

ROWS = 4_000
OTHER = "0x" + "cd" * 20
FAST = ("--slot-ms", "200")


def told(*arguments: object) -> Any:
    """The JSON that the client prints."""
    result = CliRunner().invoke(client, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def pay(url: str, wei: int) -> dict[str, Any]:
    payment = ("--dev", 2, "--to", OTHER, "--value", wei)
    return dict(told("send", *payment, "--wait", "--timeout", 100, "--url", url))


def said(code: int, output: str, *words: str) -> None:
    """One sentence, exit code 2, no traceback."""
    assert code == 2, output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert all(word in line for word in words), line
    assert "Traceback" not in output


def port_of(url: str) -> str:
    return url.rpartition(":")[2]


# --- without a node


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"DIPNET_RPC_PORT": None})
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 2, (result.output, result.exception)
    return result.stderr


def test_version() -> None:
    assert json.loads(run("version", "--json"))["version"] in run("version")


def test_the_settings_are_shown_with_their_origin(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("peers_max = 7\n")
    shown = json.loads(
        run("config", "show", "--data", tmp_path, "--rpc-port", 9, "--origin", "--json")
    )
    assert list(shown) == list(Config.model_fields)
    assert shown["peers_max"] == {"value": 7, "origin": str(tmp_path / FILE_NAME)}
    assert shown["rpc_port"] == {"value": 9, "origin": "--rpc-port"}
    assert shown["log"]["origin"] == "default"
    assert "--rpc-port" in run("config", "show", "--rpc-port", 9, "--origin")
    assert "--origin" not in run("config", "show")
    assert json.loads(run("config", "show", "--json"))["rpc_host"] == "127.0.0.1"
    assert "did you mean rpc_port?" in CliRunner().invoke(
        app, ["config", "show"], env={"DIPNET_RPCPORT": "1"}
    ).stderr  # fmt: skip


def test_init_makes_a_network_and_writes_over_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = json.loads(
        run("init", "--data", home, "--chain-id", 77, "--balance", f"{OTHER}=5", "--json")
    )
    genesis = Genesis.decode((home / networks.GENESIS_NAME).read_bytes())
    assert genesis.chain_id == 77
    assert genesis.balances == {bytes.fromhex(OTHER[2:]): 5}
    assert [checksum(d.address) for d in genesis.delegates] == [made["delegate"]]
    before = {path: path.read_bytes() for path in home.iterdir()}
    assert "is there already" in refused("init", "--data", home)
    assert {path: path.read_bytes() for path in home.iterdir()} == before
    for name in (networks.NODE_KEY, networks.DELEGATE_KEYSTORE, networks.DELEGATE_PASSWORD):
        assert (home / name).stat().st_mode & 0o777 == 0o600
    for wrong in ("x", "0x12=1", f"{OTHER}=-1", f"{OTHER}=many"):
        assert "0xADDRESS=WEI" in refused("init", "--data", tmp_path / "b", "--balance", wrong)
    assert "chain_id" in refused("init", "--data", tmp_path / "b", "--chain-id", 0)


def test_a_test_network_is_written_once(tmp_path: Path) -> None:
    out = tmp_path / "net"
    assert "node3" in run("testnet", "--delegates", 3, "--out", out)
    net = read_json(out / "net.json")
    assert [node["name"] for node in net["nodes"]] == ["node1", "node2", "node3"]
    assert [account["privateKey"] for account in net["accounts"]] == [
        "0x" + secret.hex() for secret in keys.DEV_SECRETS
    ]
    assert len({node["rpc"] for node in net["nodes"]}) == 3
    files = {(Path(node["data"]) / networks.GENESIS_NAME).read_bytes() for node in net["nodes"]}
    assert len(files) == 1
    assert "is not empty" in refused("testnet", "--out", out)
    assert "1 to" in refused("testnet", "--delegates", 0, "--out", tmp_path / "none")
    assert "1 to" in refused("testnet", "--candidates", 99, "--out", tmp_path / "none")
    (out / "net.json").write_text('{"nodes": 7}')
    assert "describes no network" in refused("testnet", "--out", out, "--start")


def test_a_test_network_has_the_pace_and_the_candidates_that_were_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "net"
    pace = ("--slot-ms", 300, "--epoch-slots", 12)
    assert "candidate2" in run("testnet", "--delegates", 2, "--candidates", 2, *pace, "--out", out)
    net = read_json(out / "net.json")
    assert (net["slotMs"], net["epochSlots"]) == (300, 12)
    assert [(node["name"], node["seated"]) for node in net["nodes"]] == [
        ("node1", True), ("node2", True), ("candidate1", False), ("candidate2", False),
    ]  # fmt: skip
    genesis = Genesis.decode((out / "candidate1" / networks.GENESIS_NAME).read_bytes())
    assert (
        genesis.parameters.slot_ms,
        genesis.parameters.epoch_slots,
        genesis.parameters.delegates_active,
    ) == (300, 12, 2)
    assert [checksum(one.address) for one in genesis.delegates] == [
        node["delegate"] for node in net["nodes"][:2]
    ]
    assert all(Path(node["keystore"]).is_file() for node in net["nodes"])


# --- started wrongly


def test_a_node_without_a_network_says_what_to_do(tmp_path: Path) -> None:
    said(*finished(tmp_path / "log", "dipnetd", "run", "--data", "x"), "x/genesis.json", "init")
    (tmp_path / "bad.json").write_text('{"chain_id": 1, "chain_id": 2}')
    bad = ("run", "--data", "x", "--genesis", "bad.json")
    said(*finished(tmp_path / "log", "dipnetd", *bad), "bad.json", "chain_id", "twice")
    said(*finished(tmp_path / "log", "dipnetd", "run", "--config", "none.toml"), "none.toml")


def test_a_directory_in_use_a_busy_port_and_another_genesis(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    run("init", "--data", home)
    ports = ("--rpc-port", "0", "--listen", "/ip4/127.0.0.1/tcp/0")
    start = ("run", "--data", str(home), *ports)
    with running(log, "dipnetd", *start) as node:
        url = next(word for word in node.says("rpc http").split() if word.startswith("http"))
        said(*finished(tmp_path / "2", "dipnetd", *start), "in use by another dipnetd", "--data")
        busy = ("dev", "--rpc-port", port_of(url))
        said(*finished(tmp_path / "3", "dipnetd", *busy), "busy", port_of(url), "--rpc-port")
        assert ask(url, "dipnet_status")["chainId"] == 2018
        node.says("block 1 ")
        assert node.stop() == 0
    assert "Traceback" not in log.read_text()
    run("init", "--data", tmp_path / "other")
    genesis = ("--genesis", str(tmp_path / "other" / networks.GENESIS_NAME))
    said(*finished(log, "dipnetd", *start, *genesis), "another genesis.json")
    told = ("--advertise", "/ip4/198.51.100.7/tcp/x")
    said(*finished(log, "dipnetd", *start, *told), "advertise", "port")
    (home / networks.NODE_KEY).chmod(0o644)
    said(*finished(log, "dipnetd", *start), "chmod 600")


# --- a chain for development


def test_a_temporary_chain_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "log", "dipnetd", "dev", "--rpc-port", "0", *FAST) as node:
        url = dev_url(node)
        banner = node.output()
        for secret in keys.DEV_SECRETS:
            assert checksum(keys.address_of(secret)) in banner
            assert "0x" + secret.hex() in banner
        held = {str(Path(p).resolve()) for p in Path(f"/proc/{node.popen.pid}/fd").iterdir()}
        (home,) = {Path(p).parent.parent for p in held if Path(p).parent.name == "records"}
        assert home.is_dir()
        assert ask(url, "eth_chainId") == "0x7e2"
        assert node.stop(signal.SIGINT) == 0
    assert not home.exists()


def test_a_kept_chain_survives_a_kill(tmp_path: Path) -> None:
    start = ("dev", "--data", str(tmp_path / "home"), "--rpc-port", "0")
    with running(tmp_path / "1", "dipnetd", *start, *FAST) as node:
        url = dev_url(node)
        receipt = pay(url, 12_345)
        status = ask(url, "dipnet_status")
        node.kill()
    said(*finished(tmp_path / "2", "dipnetd", *start, "--slot-ms", "300"), "200 ms", "--slot-ms")
    with running(tmp_path / "3", "dipnetd", *start) as node:
        url = dev_url(node)
        assert ask(url, "dipnet_status")["genesisHash"] == status["genesisHash"]
        assert ask(url, "eth_getTransactionReceipt", receipt["transactionHash"]) == receipt
        assert ask(url, "eth_getBalance", OTHER, "latest") == hex(12_345)
        head = ask(url, "dipnet_status")["head"]["height"]
        until(lambda: ask(url, "dipnet_status")["head"]["height"] > head, "block", node)


# --- a series, killed in the middle


def write_series(path: Path) -> None:
    rows = "".join(f"{1_700_000_000 + n},{n}\n" for n in range(ROWS))
    path.write_text("time,value\n" + rows)


def vertices(url: str) -> int:
    status = ask(url, "dipnet_status")
    return int(status["dag"]["vertices"]) if status else 0


def recorded(url: str, issuer: str) -> list[Any]:
    """The values of a device in the order of its chain, which is checked."""
    found: list[Any] = []
    prev = "0x" + "00" * 32
    while page := ask(url, "dag_range", issuer, len(found) + 1, 256):
        for vertex in page:
            assert (vertex["seq"], vertex["prev"]) == (len(found) + 1, prev)
            prev = vertex["id"]
            found.append(vertex["readings"][0]["value"])
    return found


def test_a_replay_outlives_a_kill_of_the_node_and_of_itself(tmp_path: Path) -> None:
    write_series(tmp_path / "pump.csv")
    (port,) = networks.free_ports(1)
    url = f"http://127.0.0.1:{port}"
    start = ("dev", "--data", str(tmp_path / "home"), "--rpc-port", str(port))
    replay = ("device", "replay", "pump.csv", "--time", "time", "--value", "value")
    more = ("--batch", "50", "--url", url, "--json")
    with running(tmp_path / "client1", "cli", *replay, *more) as first:
        first.says("waiting: no answer from the node")  # begun before there is a node
        with running(tmp_path / "node1", "dipnetd", *start) as node:
            until(lambda: vertices(url) > ROWS // 8, "vertices", node)
            node.kill()
        assert first.popen.poll() is None
        with running(tmp_path / "node2", "dipnetd", *start) as node:
            until(lambda: vertices(url) > ROWS // 3, "vertices", node)
            first.kill()
            assert vertices(url) < ROWS
            done = told(*(str(tmp_path / a) if a == "pump.csv" else a for a in replay), *more[:-1])
            assert done["recorded"] == ROWS
            assert 0 < done["sent"] < ROWS
            assert recorded(url, done["issuer"]) == list(range(ROWS))
            code, output = finished(tmp_path / "client3", "cli", *replay, *more[:-1])
            assert (code, output.count("nothing to do")) == (0, 1)
            assert vertices(url) == ROWS


# --- four nodes


def heads(urls: list[str], height: int) -> set[str]:
    """The blocks at a height, by node."""
    blocks = [ask(url, "eth_getBlockByNumber", hex(height), False) for url in urls]
    return {block["hash"] if block else "" for block in blocks}


def receipt_everywhere(urls: list[str], tx_hash: str) -> bool:
    receipts = [ask(url, "eth_getTransactionReceipt", tx_hash) for url in urls]
    return all(receipts) and len({receipt["blockHash"] for receipt in receipts}) == 1


def test_four_nodes_agree_and_one_that_was_killed_catches_up(tmp_path: Path) -> None:
    out = tmp_path / "net"
    command = ("testnet", "--delegates", "4", "--out", str(out), "--start", "--slot-ms", "500")
    with running(tmp_path / "log", "dipnetd", *command) as net:
        nodes = until(
            lambda: (
                (out / "net.json").exists()
                and all(node["pid"] for node in read_json(out / "net.json")["nodes"])
                and read_json(out / "net.json")["nodes"]
            ),
            "nodes",
            net,
        )
        urls = [node["rpc"] for node in nodes]
        for node in nodes:
            net.says(f"{node['name']}: block ")
        first = pay(urls[0], 1)["transactionHash"]
        until(lambda: receipt_everywhere(urls, first), "receipt on all", net)

        os.kill(nodes[3]["pid"], signal.SIGKILL)
        by_hand = net.says("node4: ended with -9").rpartition("dipnetd ")[2].split()
        second = pay(urls[1], 2)["transactionHash"]
        done = told(
            "device", "simulate", "--devices", 3, "--rate", 30, "--seconds", 1, "--url", urls[0]
        )
        assert done["accepted"] == 30
        with running(tmp_path / "node4", "dipnetd", *by_hand):
            until(lambda: receipt_everywhere(urls, second), "receipt on all", net)
            until(lambda: {vertices(url) for url in urls} == {30}, "vertices on all", net)
            height = ask(urls[3], "dipnet_status")["head"]["height"]
            until(lambda: len(heads(urls, height)) == 1, "one head", net)
            assert "" not in heads(urls, height)
        assert net.stop(signal.SIGINT) == 0
        assert all(node["pid"] is None for node in read_json(out / "net.json")["nodes"])
    assert all(ask(url, "eth_chainId") is None for url in urls)


def test_a_network_goes_on_and_starts_again_who_ends(tmp_path: Path) -> None:
    out = tmp_path / "net"
    command = ("testnet", "--delegates", "1", "--out", str(out), "--start", "--slot-ms", "200")
    with running(tmp_path / "1", "dipnetd", *command) as net:
        net.says("node1: block 1 ")
        assert net.stop() == 0
    with running(tmp_path / "2", "dipnetd", *command, "--restart") as net:
        net.says("node1: block ")
        os.kill(read_json(out / "net.json")["nodes"][0]["pid"], signal.SIGKILL)
        net.says("node1: answers")
        url = read_json(out / "net.json")["nodes"][0]["rpc"]
        assert ask(url, "eth_getBlockByNumber", "0x1", False)["number"] == "0x1"
