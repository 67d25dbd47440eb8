"""Files that others write: readers of recordings."""
