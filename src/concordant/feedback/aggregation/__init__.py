"""What is estimated from many votes: truth of a pair, scores of a board, reliability of labelers."""
