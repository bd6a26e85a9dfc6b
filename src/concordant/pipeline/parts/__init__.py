"""What several stages share: fitting, sampling, lengths, pairs, and who judges."""
