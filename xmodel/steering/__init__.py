"""Whether two models do the same when a feature is pushed in each: vectors, replay, transfer."""
