"""What is rendered onto a host: pure functions from settings to text, each compared with a golden file in the tests."""
