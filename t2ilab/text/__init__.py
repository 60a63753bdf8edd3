"""Text: from captions to what a network reads, token ids or the features of a language model."""
