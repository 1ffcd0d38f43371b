"""Which model suits this machine: measuring the machine, predicting the speed of models on it, and advice."""
