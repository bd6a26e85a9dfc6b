"""Cards of models for the hub: what a run knows of them, in Markdown with metadata in front."""
