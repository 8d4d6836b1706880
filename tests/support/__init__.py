"""What the tests of concurrency stand on."""
