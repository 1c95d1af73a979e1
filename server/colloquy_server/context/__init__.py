"""What a model is given: the conversation, its files and who said what."""
