// SPDX-License-Identifier: Apache-2.0
pragma solidity >=0.8.0;

/// The storage layout of IDpos, for proofs of its values with eth_getProof. This contract is never
/// deployed; its storage layout, as solc prints it, is that of the account.
contract IDposStorage {
    struct Candidate {
        uint8 status; // 0 none, 1 registered, 2 resigned, 3 tombstoned
        uint16 commissionBps; // until announcedBps is in force
        uint8 keyParity; // first byte of the compressed key
        uint32 rollAt; // index in roll
        uint64 jailedUntil; // the first epoch for whose set it is no longer jailed
        uint32 ready; // newest version of the rules that its node follows
        uint32 proposed; // number of its open proposal
        uint64 committedAt; // slot of the block that made the commitment
        uint64 counted; // the epoch of produced and missed
        uint32 produced;
        uint32 missed;
        uint64 producedEver;
        uint64 missedEver;
        uint256 votes; // wei of stake that votes for it
        uint256 accrued; // the earnings of a wei of votes since genesis, times 10^18
        bytes32 keyX;
        bytes32 organisation;
        bytes32 commitment;
        string name;
        string url;
        uint16 announcedBps; // the commission that replaces commissionBps
        uint64 announcedFrom; // the first epoch of announcedBps, 0 for none
    }

    struct Vote {
        address delegate;
        uint256 paid; // the delegate's accrued up to which this vote is settled
    }

    struct Account {
        uint256 stake;
        uint256 rewards; // settled and not yet claimed
        uint256 unbonding;
        uint256 share; // wei of stake that vote for each of the delegates
        uint64 release; // the epoch from which unbonding may be claimed
        uint64 expires; // the epoch with which the votes lapse
        uint64 free; // the epoch from which it may vote for others
        Vote[] votes;
    }

    struct Lapse {
        uint256 weight; // shares that lapse with the epoch, or have and are not yet settled
        uint256 closed; // the delegate's accrued when they lapsed, plus one
    }

    struct Set {
        uint64 epoch;
        address[] members; // ascending
        address[] standby; // most votes first
    }

    struct Proposal {
        bytes32 field;
        uint256 value;
        address proposer;
        uint8 state; // 1 open, 2 passed, 3 effective, 4 expired, 5 refused, 6 decided
        uint64 expires;
        uint64 starts; // the first epoch in which it is in force, 0 unless it has passed
        mapping(address => bool) voters;
    }

    mapping(address => Candidate) candidates;
    mapping(address => Account) accounts;
    mapping(address => address) keyOwners; // by the address of the signing key
    address[] roll; // the registered candidates
    mapping(uint256 => mapping(address => Lapse)) lapses; // by epoch and delegate
    mapping(uint256 => Set) sets; // by epoch modulo 3
    mapping(uint256 => Proposal) proposals;
    uint256 proposalsMade;
    uint256[] proposalsOpen;
    mapping(bytes32 => uint256) parameters; // those that a vote has changed
    uint256 burned; // wei of stake that penalties took out of the world
}
