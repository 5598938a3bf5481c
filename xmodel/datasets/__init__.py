"""What goes in: streams of documents, the rules that make words of them, concepts, and the bundled demo."""
