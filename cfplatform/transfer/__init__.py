"""What moves: a pool of workers, and the steps of a download."""
