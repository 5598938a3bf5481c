"""From token ids to byte spans, from byte spans to groups of words shared by several tokenizers."""
