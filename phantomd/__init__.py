"""phantomd: an acquisition daemon for brain signals. Research tooling, no medical device."""

__version__ = "0.1.0"
