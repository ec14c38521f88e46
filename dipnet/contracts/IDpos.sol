// SPDX-License-Identifier: Apache-2.0
pragma solidity >=0.8.0;

/// Stakes, votes, delegates, evidence and parameters of a DIPNET chain: docs/staking.md.
/// The contract is at 0x0000000000000000000000000000000000000d02 on every network. A refused call
/// reverts with Error(string); the reason begins with a code ("dpos_unknown: ...").
/// Amounts are wei, commissions basis points.
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

    /// Makes the sender a candidate if it has staked enough, or replaces a candidate's registration.
    /// publicKey: 33 bytes. signature: 65 bytes, by that key over
    /// keccak256("DIPNET/register" || msgpack [1, chain id, sender]). organisation: zero for none.
    /// A candidate's lower commission acts at once, its higher commission from the epoch after the
    /// next on.
    function register(
        string calldata name,
        string calldata url,
        uint16 commissionBps,
        bytes calldata publicKey,
        bytes32 seedCommitment,
        bytes32 organisation,
        bytes calldata signature
    ) external;

    /// Ends the sender's registration for ever.
    function resign() external;

    /// Adds the value to the sender's stake.
    function stake() external payable;

    /// Begins to release a part of the stake; claim() pays it from releaseEpoch on.
    function unstake(uint256 amount) external;

    /// Gives the sender's stake to these delegates in equal parts, and replaces its earlier votes.
    /// Allowed once an epoch; an empty list withdraws the votes at any time.
    function vote(address[] calldata delegates) external;

    /// Pays rewards and released stake.
    function claim() external returns (uint256 paid);

    /// Punishes an offence, proven by two records msgpack
    /// [1, kind, epoch, slot, block id, justify slot, signature]. The reward goes to the sender, or
    /// to the proposer of the block if it reports for no fee.
    function submitEvidence(bytes calldata first, bytes calldata second)
        external
        returns (uint256 reward);

    /// Opens a proposal to change a parameter, with the sender's vote for it. The sender must be in
    /// the current set.
    function proposeParameters(bytes32 name, uint256 newValue) external returns (uint256 id);

    /// Votes for a proposal. The sender must be in the current set.
    function voteParameters(uint256 id) external;

    /// Tells the highest rules number that the sender's node can follow.
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

    /// commissionBps is in force; an announced commission is in storage (IDposStorage.sol).
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

    /// A page of the registered candidates, at most 256, in no order.
    function delegates(uint256 offset, uint256 count)
        external
        view
        returns (address[] memory delegates, uint256[] memory votes);

    /// The set of an epoch; the last, the current and the next epoch are known.
    function activeSet(uint256 epoch)
        external
        view
        returns (address[] memory members, address[] memory standby);

    /// state: 1 open, 2 passed, 3 effective, 4 expired, 5 refused, 6 decided (new rules for which a
    /// quorum is ready; they are in force from startsEpoch on).
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
