# Our operators compared with ONNX Runtime on single-node models (tests/peer). Needs npm, and the
# network once; without them the target says so and counts as skipped.
# The install script is not run: it would fetch CUDA, the CPU library is in the package.
define get_peer
cd tests/peer && { [ node_modules/.package-lock.json -nt package-lock.json ] || \
  { npm ci --ignore-scripts --no-audit --no-fund && touch node_modules/.package-lock.json; }; } >/dev/null 2>&1 && \
  node -e 'require("onnxruntime-node")' >/dev/null 2>&1
endef

# All cases are some 60 thousand small files: they live in memory while they are compared. With T
# they stay in $(B)/peer, to be looked at.
peer_folder = $(if $(T),$(B)/peer,$$(mktemp -d -p $(firstword $(wildcard /dev/shm) /tmp) ptq-peer.XXXXXX))

.PHONY: peer
peer: $(B)/tests/conformance ## our operators against ONNX Runtime, opsets 7 to 23 (T=text: cases whose name holds it)
	$(Q)if ( $(get_peer) ); then \
	  dir=$(peer_folder); $(if $(T),,trap 'rm -rf "$$dir"' EXIT;) \
	  node tests/peer/run.mjs "$$dir" $(B)/peer-refused.txt $(T) && \
	  OPENBLAS_NUM_THREADS=1 $< -d tests/peer/deviations.txt $(if $(T),-p) "$$dir"; \
	else \
	  echo "comparison with ONNX Runtime skipped: npm cannot install onnxruntime-node here, or node cannot load it"; \
	  echo "0 passed, 0 failed, 1 skipped"; \
	fi

# Exported models in ONNX Runtime: its integers at every pair against ours (T=text: some of them).
$(B)/tests/qdq: $(B)/obj/tests/qdq.o $(B)/libworker.a $(B)/libcommon.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(libs_worker) $(libs_common)

.PHONY: peer-qdq
peer-qdq: $(B)/tests/qdq $(programs) ## QDQ exports in ONNX Runtime, integer by integer (PTQ_MODELS=folder, T=text)
	$(Q)if ( $(get_peer) ); then \
	  OPENBLAS_NUM_THREADS=1 node tests/peer/qdq.mjs $(abspath $(B)/tests/qdq $(B)/ptq $(PTQ_MODELS) $(B)/qdq) "$(T)"; \
	else \
	  echo "exports are not run: npm cannot install onnxruntime-node here, or node cannot load it"; \
	  echo "0 passed, 0 failed, 1 skipped"; \
	fi

.PHONY: peer-fakequant
peer-fakequant: $(B)/ptq-worker ## calibrations against ONNX Runtime's QuantizeLinear and DequantizeLinear, bit for bit
	$(Q)if ( $(get_peer) ); then \
	  node tests/peer/fakequant.mjs $(abspath $<) $(B)/peer-fakequant; \
	else \
	  echo "comparison with ONNX Runtime skipped: npm cannot install onnxruntime-node here, or node cannot load it"; \
	  echo "0 passed, 0 failed, 1 skipped"; \
	fi
