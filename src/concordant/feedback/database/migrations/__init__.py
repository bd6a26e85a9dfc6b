"""Steps from one layout of the feedback store to the next."""
