"""A language model, the sites where its activations are read and written, and its sparse autoencoders."""
