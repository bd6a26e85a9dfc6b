"""The feedback store, the labelers who write to it, and the views that training reads."""
