"""One channel per destination: what is ready, which lanes are busy, when to pause; ``scheduler`` is all of them."""
