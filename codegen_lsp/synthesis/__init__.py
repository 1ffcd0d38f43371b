"""Programs in several turns: a person says in steps what a program should do, and the model writes it step by step."""
