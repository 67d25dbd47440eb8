"""The commands phantomd and phantomctl."""
