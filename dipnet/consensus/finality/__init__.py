"""Headers, ballots and certificates, the rules of finality, and fork choice."""
