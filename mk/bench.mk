# Measurements; docs/performance.md tells how they are made and what they showed.
.PHONY: bench-service
bench-service: tests/e2e/node_modules/.package-lock.json $(programs) ## the service under load → build/bench/service.jsonl
	$(Q)PTQ_BUILD=$(abspath $(B)) node bench/service.mjs

# ONNX Runtime comes with the comparison of operators (tests/peer); its library is loaded at run time.
ort_library := $(abspath tests/peer/node_modules/onnxruntime-node/bin/napi-v6/linux)/$(if $(filter aarch64,$(shell uname -m)),arm64,x64)/libonnxruntime.so.1
EXTRA_bench_peak := -O3 -ffp-contract=fast
$(B)/bench/%: $(B)/obj/bench/%.o $(B)/libworker.a $(B)/libcommon.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(libs_worker) $(libs_common) -ldl

.PHONY: bench-forward
bench-forward: $(programs) $(B)/bench/ort $(B)/bench/peak ## the executor against ONNX Runtime (MODELS="files") → build/bench/forward.jsonl
	$(Q)lib=$(ort_library); ( $(get_peer) ) && [ -e $$lib ] || lib=; \
	  OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 PTQ_BUILD=$(abspath $(B)) PTQ_MODELS=$(PTQ_MODELS) \
	  MODELS="$(MODELS)" ORT_LIBRARY=$$lib node bench/forward.mjs

.PHONY: bench-sweep
bench-sweep: $(programs) $(B)/bench/ort_sweep ## sweeps against naive ones by ONNX Runtime (MODELS, SAMPLES, SECONDS) → build/bench/sweep.jsonl
	$(Q)lib=$(ort_library); ( $(get_peer) ) && [ -e $$lib ] || lib=; \
	  PTQ_BUILD=$(abspath $(B)) PTQ_MODELS=$(PTQ_MODELS) MODELS="$(MODELS)" ORT_LIBRARY=$$lib node bench/sweep.mjs
