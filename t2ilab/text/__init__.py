"""Words: from captions to what a network reads."""
