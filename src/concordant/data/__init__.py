"""Reading data in the layouts people have, chat templates with exact masks, and batches."""
