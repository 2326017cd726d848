"""A stand-in code host: real git repositories, answers shaped by GitHub's own description."""
