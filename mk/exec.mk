# Kernels: loops to be vectorized; fused multiply-add only where a backend's sums may round once
# less (its profile names the instruction set), never in the arithmetic of the operators.
EXTRA_worker_exec_blas  := -O3 -ffp-contract=fast
EXTRA_worker_exec_conv  := -O3
EXTRA_worker_exec_plain := -O3
EXTRA_worker_ops_pool   := -O3
EXTRA_worker_ops_pool_exact := -O3
