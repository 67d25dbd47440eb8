"""Focus to trit, absent when it is absent."""
