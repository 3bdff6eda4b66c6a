"""The program that trains the bundled nano models."""
