"""Windows, features, artifacts, montage, and the filters before them."""
