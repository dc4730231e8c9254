# Element-wise kernels are written as plain loops: the compiler vectorizes them at -O3. Traps and
# signed zeros keep their meaning; only the order of exceptions is given up.
ops_vector := walk cast binary unary lut_fused bounds compare reduce norm_core softmax resize pad quantize sample rnn
$(foreach f,$(ops_vector),$(eval EXTRA_worker_ops_$(f) := -O3 -fno-trapping-math))
