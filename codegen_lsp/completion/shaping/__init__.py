"""Rules that turn the model's text into what is shown, by purpose; `pipeline` has their order."""
