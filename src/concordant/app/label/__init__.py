"""The labeling page: people compare answers by keyboard, a lead sees how it goes, programs do both over the API."""
