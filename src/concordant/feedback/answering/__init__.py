"""How answers come in: leases, votes, texts and decisions, of people and of labelers that are programs."""
