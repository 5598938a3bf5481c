"""How alike two feature spaces are, each score with its null distribution."""
