"""What votes say: the views that training reads, and the figures that a lead looks at."""
