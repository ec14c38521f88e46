// SPDX-License-Identifier: Apache-2.0
pragma solidity >=0.8.0;

/// Stakes, votes, delegates, evidence and parameters of a DIPNET chain: docs/staking.md.
/// The contract is at 0x0000000000000000000000000000000000000d02 on every network. A call that it
/// refuses reverts with Error(string); the reason begins with a code ("dpos_unknown: ...").
/// Amounts are wei. Commissions are basis points.
interface IDpos {
    event Registered(address indexed delegate, bytes publicKey, string name);
    event Resigned(address indexed delegate);
    event Staked(address indexed account, uint256 amount);
    event Unstaked(address indexed account, uint256 amount, uint64 releaseEpoch);
    event Voted(address indexed account, address[] delegates, uint64 expiresEpoch);
    event Claimed(address indexed account, uint256 rewards, uint256 released);
    event Slashed(
        address indexed delegate,
        address indexed reporter,
        string offence,
        uint256 burned,
        uint256 rewarded
    );
    event ParameterProposed(uint256 indexed id, address indexed delegate, bytes32 name, uint256 value);
    event ParameterVoted(uint256 indexed id, address indexed delegate);
    event ReadySignalled(address indexed delegate, uint256 rules);

    /// Makes a sender that has staked enough a candidate, or changes a candidate's profile.
    /// publicKey: 33 bytes; signature: its 65 bytes over keccak256("DIPNET/register" || record),
    /// record = msgpack [1, chain id, sender]. organisation: zero for none. A candidate's
    /// lower commission acts at once, a higher one from the epoch after the next on.
    function register(
        string calldata name,
        string calldata url,
        uint16 commissionBps,
        bytes calldata publicKey,
        bytes32 seedCommitment,
        bytes32 organisation,
        bytes calldata signature
    ) external;

    /// Takes the sender off the roll for good.
    function resign() external;

    /// Adds the value to the sender's stake.
    function stake() external payable;

    /// Begins to release a part of the stake; claim() pays it when its epoch has come.
    function unstake(uint256 amount) external;

    /// Gives the sender's stake to these delegates in equal parts, in place of any vote before.
    /// Once an epoch; an empty list takes the votes back at any time.
    function vote(address[] calldata delegates) external;

    /// Pays rewards and released stake.
    function claim() external returns (uint256 paid);

    /// Two records [1, kind, epoch, slot, block id, justify slot, signature] that prove an offence.
    /// The reward goes to the sender, for a report without a fee to the block's proposer.
    function submitEvidence(bytes calldata first, bytes calldata second)
        external
        returns (uint256 reward);

    /// Opens a proposal to change a parameter; the sender is of the current set and votes for it.
    function proposeParameters(bytes32 name, uint256 newValue) external returns (uint256 id);

    function voteParameters(uint256 id) external;

    /// Says up to which version of the rules the sender's node goes.
    function signalReady(uint256 rules) external;

    function stakeOf(address account) external view returns (uint256 amount);

    function votesOf(address account)
        external
        view
        returns (address[] memory delegates, uint64 expiresEpoch);

    /// What claim() would pay for votes and blocks.
    function rewardsOf(address account) external view returns (uint256 amount);

    function unbondingOf(address account)
        external
        view
        returns (uint256 amount, uint64 releaseEpoch);

    /// commissionBps: the one in force; one that is announced is in storage (IDposStorage.sol).
    function delegate(address account)
        external
        view
        returns (
            string memory name,
            string memory url,
            uint16 commissionBps,
            bytes memory publicKey,
            bytes32 organisation,
            uint256 votes,
            uint64 produced,
            uint64 missed,
            uint64 jailedUntil,
            bool tombstoned,
            bool registered
        );

    /// A page of the registered delegates, at most 256.
    function delegates(uint256 offset, uint256 count)
        external
        view
        returns (address[] memory delegates, uint256[] memory votes);

    /// The set of an epoch; the contract keeps those of this epoch, the last and the next.
    function activeSet(uint256 epoch)
        external
        view
        returns (address[] memory members, address[] memory standby);

    /// state: 1 open, 2 passed, 3 effective, 4 expired, 5 refused, 6 decided: new rules that will
    /// be in force from startsEpoch on, since a quorum is ready.
    function proposal(uint256 id)
        external
        view
        returns (
            bytes32 name,
            uint256 value,
            address proposer,
            uint8 state,
            uint64 expiresEpoch,
            uint64 startsEpoch,
            uint256 voters
        );

    function parameters(bytes32 name) external view returns (uint256 value);

    /// The wei of stake that penalties have burned.
    function burned() external view returns (uint256 amount);
}
