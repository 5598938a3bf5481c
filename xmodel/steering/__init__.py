"""Whether paired features do the same thing: push, replay, and compare the Gram matrices."""
