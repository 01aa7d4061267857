"""What is predicted of cells and donors: scores first, then distributions, then tables for people."""
