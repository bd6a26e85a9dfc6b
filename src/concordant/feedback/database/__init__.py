"""Where votes are kept: tables on two engines, their layouts, upkeep, and forgetting a person."""
