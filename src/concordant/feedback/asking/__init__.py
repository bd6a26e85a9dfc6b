"""What is asked of whom: tasks and their rubrics, which questions come next, and how many labelers each gets."""
