import numpy as np
from numpy.lib.stride_tricks import as_strided


def window(a):
    return as_strided(a, shape=(1 << 20, 64), strides=(1 << 20, 8))


a = np.arange(100.0)
print("start", flush=True)
print(window(a).sum())
