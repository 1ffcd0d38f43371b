"""One thread for each test process: small matrices gain nothing from two, and lose much beside other work."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
