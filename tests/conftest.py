import os

# Before NumPy and torch are loaded: small networks on many threads, beside other test processes, are many times slower.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
