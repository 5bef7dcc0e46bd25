"""Speed, memory and scale against the official client, bare urllib3 and curl; run by ``python -m tests.benchmarks``."""
