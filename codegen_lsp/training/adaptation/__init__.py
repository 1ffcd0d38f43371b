"""Adaptation: training an installed model further on a user's own code, on the user's own machine.

`job` runs the stages: `sources` reads the files that the workspace index may read, `replay` a sample of general code,
`encoding` turns both into token ids, `estimate` tries on a tenth of the time whether it pays, `train` of the package
around it trains, and `finish` makes a verified build of the result and installs it with its record and card.
"""
