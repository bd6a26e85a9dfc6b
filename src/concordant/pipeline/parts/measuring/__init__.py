"""What the evaluate stage measures, a file for each thing."""
