"""The API over plain HTTP, and what is served beside it. See CONTRIBUTING.md for the rooms."""
