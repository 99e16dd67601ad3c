"""Records of who published, read and leased what, and the checks of them."""
