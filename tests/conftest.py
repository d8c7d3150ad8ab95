"""One thread each: bits depend on the number of threads, and two test processes share two cores."""

import torch

torch.set_num_threads(1)
