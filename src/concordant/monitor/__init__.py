"""Looking at a run while it trains: what the stream of steps says is going wrong, and what is likely behind it."""
