"""IDpos, the staking contract: stakes, votes, elections, rewards, evidence."""
