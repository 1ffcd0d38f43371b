"""Evaluation of builds: figures with their uncertainty, each from one command that is the same for every build."""
