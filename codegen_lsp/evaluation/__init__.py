"""How good a build is: figures with their uncertainty, each from one command, the same for every build."""
